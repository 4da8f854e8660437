//! Who waits for which key of which table, and whose turn it is.
//!
//! Whatever waits when a connection becomes free is asked together. A statement costs much and a key in it little, so that two
//! batches of a table are on their way as soon as somebody asks, and a further one only when it is worth its statement, or when
//! those do not come back: nobody waits for a timer unless Postgres is slow. The busier the connections, the larger the batches.
//! Who asks for a key that is being asked for already waits for that answer: it is of the state of the
//! table that he asks for, or there is none.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};
use tokio::task::yield_now;
use tokio::time::timeout;

use super::json::RowJson;
use super::key::Key;
use super::table::PublishedTable;
use crate::domain::{Code, Error, Result};

/// The most keys of one statement.
pub(super) const MAX_KEYS: usize = 64;

/// The bytes of rows that one statement should not exceed: keys × the table's average row.
pub(super) const MAX_BATCH_BYTES: u64 = 1 << 20;

/// Batches of a table that are sent whatever their size.
const FREE: usize = 2;

/// The keys that are worth a further one.
const WORTH: usize = 16;

/// How long keys wait for the batches before them.
const PATIENCE: Duration = Duration::from_millis(1);

/// The most requests that may wait for one table.
const MAX_WAITING: usize = 4096;

/// What became of one lookup.
pub(super) type Answer = Result<Option<Arc<RowJson>>, Unanswered>;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// Something else is published than the table state that was asked: learn of it and ask again.
    Moved,
    /// It cannot be answered now.
    Failed(Error),
}

/// Lookups that wait for a connection.
#[derive(Debug, Default)]
pub(super) struct Queue {
    lines: Mutex<Lines>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Lines {
    /// By the serial number of the table's state.
    waiting: HashMap<u64, Line>,
    /// Every table with somebody waiting, once. A table goes to the end after its turn, so that a busy one does not
    /// hold up the others.
    turns: VecDeque<u64>,
    /// Batches that are being asked: as many as there are connections at most.
    sent: Vec<Sent>,
    /// The number of the last batch.
    batches: u64,
}

/// A batch that is being asked, and who waits for it.
#[derive(Debug)]
struct Sent {
    batch: u64,
    serial: u64,
    keys: Arc<HashMap<Key, usize>>,
    /// Who asked, and for which number.
    waiters: Vec<(usize, oneshot::Sender<Answer>)>,
}

#[derive(Debug)]
struct Line {
    table: Arc<PublishedTable>,
    /// When the first of them came.
    since: Instant,
    waiters: VecDeque<(Key, oneshot::Sender<Answer>)>,
}

/// Keys of one table that are asked in one statement, each once. Dropped without an answer, it tells nobody anything.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) table: Arc<PublishedTable>,
    /// Numbers of the keys.
    pub(super) keys: Arc<HashMap<Key, usize>>,
    number: u64,
    queue: Arc<Queue>,
}

/// What there is to do for a connection.
enum Next {
    Batch(Batch),
    Nothing,
    /// Something that may wait so long for others to take it with them.
    After(Duration),
}

impl Lines {
    /// How many batches of a state of a table are on their way.
    fn sent_of(&self, serial: u64) -> usize {
        self.sent.iter().filter(|sent| sent.serial == serial).count()
    }
}

impl Queue {
    /// Joins those who wait for a key of a table: its line, or a batch with this key that is on its way. The receiver gets
    /// the answer; dropping it leaves the line.
    ///
    /// # Errors
    /// [`Code::Overloaded`] when too many wait for this table already.
    pub(super) fn join(&self, table: &Arc<PublishedTable>, key: Key) -> Result<oneshot::Receiver<Answer>> {
        let (sender, receiver) = oneshot::channel();
        let mut lines = self.lock();
        let lines = &mut *lines;
        let same = lines.sent.iter_mut().filter(|sent| sent.serial == table.serial && sent.waiters.len() < MAX_WAITING);
        for sent in same {
            if let Some(&number) = sent.keys.get(&key) {
                sent.waiters.push((number, sender));
                return Ok(receiver);
            }
        }
        let is_free = lines.sent_of(table.serial) < FREE;
        let is_first = !lines.waiting.contains_key(&table.serial);
        let waiting = match lines.waiting.entry(table.serial) {
            Entry::Occupied(line) => {
                let waiters = &mut line.into_mut().waiters;
                if waiters.len() >= MAX_WAITING {
                    waiters.retain(|(_, answer)| !answer.is_closed());
                }
                if waiters.len() >= MAX_WAITING {
                    let detail = format!("{MAX_WAITING} requests wait for table `{}`", table.name);
                    return Err(Error::new(Code::Overloaded, detail).hint("try again in a moment"));
                }
                waiters.push_back((key, sender));
                waiters.len()
            }
            Entry::Vacant(line) => {
                let (table, since) = (Arc::clone(table), Instant::now());
                line.insert(Line { since, waiters: VecDeque::from([(key, sender)]), table });
                1
            }
        };
        if is_first {
            lines.turns.push_back(table.serial);
        }
        // One connection looks at a line that is new; it is told again when the line has grown worth it. The one that has rested
        // for the shortest time is still warm, in Postgres too.
        if is_free || is_first || waiting % WORTH == 0 {
            self.arrived.notify_last();
        }
        Ok(receiver)
    }

    /// The next batch; waits until there is one.
    pub(super) async fn next(self: &Arc<Self>) -> Batch {
        loop {
            // Whatever has arrived together is asked for together: all that is ready to run joins its line first.
            yield_now().await;
            match self.take(Instant::now()) {
                Next::Batch(batch) => return batch,
                Next::Nothing => self.arrived.notified().await,
                // Whoever is on the way takes them with it in the meantime, as a rule.
                Next::After(pause) => _ = timeout(pause, self.arrived.notified()).await,
            }
        }
    }

    /// All that waits for the table whose turn it is, up to the bounds of a batch.
    fn take(self: &Arc<Self>, now: Instant) -> Next {
        let mut lines = self.lock();
        let lines = &mut *lines;
        let mut pause: Option<Duration> = None;
        for _ in 0..lines.turns.len() {
            let Some(serial) = lines.turns.pop_front() else { break };
            let sent = lines.sent_of(serial);
            let Entry::Occupied(mut line) = lines.waiting.entry(serial) else { continue };
            let waited = now.saturating_duration_since(line.get().since);
            if sent >= FREE && line.get().waiters.len() < WORTH && waited < PATIENCE {
                lines.turns.push_back(serial);
                pause = Some(pause.unwrap_or(PATIENCE).min(PATIENCE.saturating_sub(waited)));
                continue;
            }
            let table = Arc::clone(&line.get().table);
            let most = (MAX_BATCH_BYTES / table.row_bytes.average()).clamp(1, MAX_KEYS as u64) as usize;
            let (mut keys, mut waiters) = (HashMap::new(), Vec::new());
            while let Some((key, answer)) = line.get_mut().waiters.pop_front() {
                if answer.is_closed() {
                    continue;
                }
                let next = keys.len();
                if next == most && !keys.contains_key(&key) {
                    line.get_mut().waiters.push_front((key, answer));
                    break;
                }
                waiters.push((*keys.entry(key).or_insert(next), answer));
            }
            if line.get().waiters.is_empty() {
                line.remove();
            } else {
                lines.turns.push_back(serial);
            }
            if !lines.turns.is_empty() {
                // One wake-up may stand for several arrivals: pass it on while there is work for others.
                self.arrived.notify_last();
            }
            if !waiters.is_empty() {
                lines.batches += 1;
                let (number, keys) = (lines.batches, Arc::new(keys));
                lines.sent.push(Sent { batch: number, serial, keys: Arc::clone(&keys), waiters });
                return Next::Batch(Batch { table, keys, number, queue: Arc::clone(self) });
            }
        }
        pause.map_or(Next::Nothing, Next::After)
    }

    /// How many wait in lines.
    pub(super) fn waiting(&self) -> u64 {
        self.lock().waiting.values().map(|line| line.waiters.len() as u64).sum()
    }

    /// Tells everybody who waits in a line that there is no answer.
    pub(super) fn refuse_all(&self, refusal: impl Fn() -> Error) {
        let waiting = {
            let mut lines = self.lock();
            lines.turns.clear();
            std::mem::take(&mut lines.waiting)
        };
        for (_, answer) in waiting.into_values().flat_map(|line| line.waiters) {
            let _ = answer.send(Err(Unanswered::Failed(refusal())));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        // Nothing that runs under the lock can leave the lines in a half-done state.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batch {
    /// Hands out the rows, by the numbers of their keys.
    pub(super) fn answer(self, rows: &[Option<Arc<RowJson>>]) {
        for (number, answer) in self.end() {
            let _ = answer.send(Ok(rows.get(number).cloned().flatten()));
        }
    }

    /// Tells everybody why there is no answer.
    pub(super) fn refuse(self, refusal: impl Fn() -> Unanswered) {
        for (_, answer) in self.end() {
            let _ = answer.send(Err(refusal()));
        }
    }

    /// From here on nobody joins it; those who did.
    fn end(&self) -> Vec<(usize, oneshot::Sender<Answer>)> {
        let mut lines = self.queue.lock();
        let place = lines.sent.iter().position(|sent| sent.batch == self.number);
        place.map(|place| lines.sent.swap_remove(place).waiters).unwrap_or_default()
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::table::tests::table;

    fn key(table: &PublishedTable, number: usize) -> Key {
        Key::parse(&table.key, &[number.to_string()]).unwrap()
    }

    /// The next batch, of keys that have waited for long.
    fn take(queue: &Arc<Queue>) -> Option<Batch> {
        taken(queue, Instant::now() + PATIENCE)
    }

    fn taken(queue: &Arc<Queue>, now: Instant) -> Option<Batch> {
        match queue.take(now) {
            Next::Batch(batch) => Some(batch),
            Next::Nothing | Next::After(_) => None,
        }
    }

    #[test]
    fn a_further_batch_is_sent_when_it_is_worth_it_or_those_before_do_not_come_back() {
        let (queue, table) = (Arc::new(Queue::default()), Arc::new(table(1, "orders")));
        let join = |number: usize| queue.join(&table, key(&table, number)).unwrap();
        let before = Instant::now();
        let (_one, first) = (join(1), taken(&queue, before).unwrap());
        let (_two, _second) = (join(2), taken(&queue, before).unwrap());
        let mut waiting: Vec<_> = (3..WORTH + 2).map(join).collect();
        assert!(matches!(queue.take(before), Next::After(pause) if pause == PATIENCE));
        waiting.push(join(WORTH + 2));
        assert_eq!(taken(&queue, before).unwrap().keys.len(), WORTH);
        waiting.push(join(100));
        assert!(taken(&queue, before).is_none());
        assert_eq!(taken(&queue, Instant::now() + PATIENCE).unwrap().keys.len(), 1);
        // As soon as a place is free, nobody waits.
        waiting.push(join(101));
        first.answer(&[None]);
        assert!(taken(&queue, before).is_some());
    }

    /// How many wait for batches that are being asked.
    fn waiters(queue: &Queue) -> usize {
        queue.lock().sent.iter().map(|sent| sent.waiters.len()).sum()
    }

    #[test]
    fn a_key_that_is_being_asked_for_is_not_asked_for_again() {
        let (queue, orders) = (Arc::new(Queue::default()), Arc::new(table(1, "orders")));
        let mut first = queue.join(&orders, key(&orders, 5)).unwrap();
        let batch = take(&queue).unwrap();
        let mut second = queue.join(&orders, key(&orders, 5)).unwrap();
        assert!(take(&queue).is_none());
        // Another key waits for its turn, and so does this one of another state of the table.
        let next = Arc::new(table(2, "orders"));
        let (_other, _later) = (queue.join(&orders, key(&orders, 6)), queue.join(&next, key(&next, 5)));
        let batches = [take(&queue).unwrap(), take(&queue).unwrap()];
        assert_eq!(batches.map(|batch| (batch.table.serial, batch.keys.len())), [(1, 1), (2, 1)]);
        batch.answer(&[None]);
        assert!(matches!((first.try_recv(), second.try_recv()), (Ok(Ok(None)), Ok(Ok(None)))));
        // Once it is answered, nobody joins it any more.
        let _third = queue.join(&orders, key(&orders, 5)).unwrap();
        assert!(take(&queue).is_some());
    }

    #[test]
    fn a_batch_that_is_given_up_lets_go_of_those_who_wait() {
        let (queue, table) = (Arc::new(Queue::default()), Arc::new(table(1, "orders")));
        let mut waits = queue.join(&table, key(&table, 5)).unwrap();
        drop(take(&queue));
        assert!(waits.try_recv().is_err());
        assert_eq!(queue.lock().sent.len(), 0);
    }

    #[test]
    fn equal_keys_that_wait_together_are_asked_once() {
        let (queue, table) = (Arc::new(Queue::default()), Arc::new(table(1, "orders")));
        let waiting: Vec<_> = [5, 6, 5, 5].map(|number| queue.join(&table, key(&table, number)).unwrap()).into();
        let batch = take(&queue).unwrap();
        assert_eq!((batch.keys.len(), waiters(&queue)), (2, 4));
        batch.answer(&[None, None]);
        for mut waiter in waiting {
            assert!(matches!(waiter.try_recv(), Ok(Ok(None))));
        }
    }

    #[test]
    fn a_batch_is_bounded_by_keys_and_by_bytes() {
        let (queue, table) = (Arc::new(Queue::default()), Arc::new(table(1, "orders")));
        let _waiting: Vec<_> = (0..150).map(|number| queue.join(&table, key(&table, number)).unwrap()).collect();
        assert_eq!(take(&queue).unwrap().keys.len(), 64);
        for _ in 0..200 {
            table.row_bytes.note(1 << 19);
        }
        assert!(take(&queue).unwrap().keys.len() <= 3);
    }

    #[test]
    fn tables_take_turns_the_oldest_waiter_first() {
        let queue = Arc::new(Queue::default());
        let (busy, calm) = (Arc::new(table(1, "busy")), Arc::new(table(2, "calm")));
        let mut waiting: Vec<_> = (0..200).map(|number| queue.join(&busy, key(&busy, number)).unwrap()).collect();
        waiting.push(queue.join(&calm, key(&calm, 1)).unwrap());
        let names: Vec<String> =
            std::iter::from_fn(|| take(&queue)).map(|batch| batch.table.name.to_string()).collect();
        assert_eq!(names, ["busy", "calm", "busy", "busy", "busy"]);
    }

    #[test]
    fn who_left_is_not_asked_for() {
        let (queue, table) = (Arc::new(Queue::default()), Arc::new(table(1, "orders")));
        drop(queue.join(&table, key(&table, 1)).unwrap());
        assert!(take(&queue).is_none());
        let _waits = queue.join(&table, key(&table, 2)).unwrap();
        let _batch = take(&queue).unwrap();
        assert_eq!(waiters(&queue), 1);
    }

    #[test]
    fn too_many_waiters_are_refused_unless_some_have_left() {
        let (queue, table) = (Arc::new(Queue::default()), Arc::new(table(1, "orders")));
        let mut waiting: Vec<_> =
            (0..MAX_WAITING).map(|number| queue.join(&table, key(&table, number)).unwrap()).collect();
        assert_eq!(queue.join(&table, key(&table, 0)).unwrap_err().code(), Code::Overloaded);
        waiting.pop();
        assert!(queue.join(&table, key(&table, 0)).is_ok());
    }

    #[tokio::test]
    async fn one_wake_up_serves_all_idle_connections() {
        let queue = Arc::new(Queue::default());
        let (first, second) = (Arc::new(table(1, "first")), Arc::new(table(2, "second")));
        let _waiting = [queue.join(&first, key(&first, 1)).unwrap(), queue.join(&second, key(&second, 1)).unwrap()];
        let (one, other) = tokio::join!(queue.next(), queue.next());
        assert_ne!(one.table.serial, other.table.serial);
    }

    #[test]
    fn refusing_all_reaches_everybody() {
        let (queue, table) = (Arc::new(Queue::default()), Arc::new(table(1, "orders")));
        let mut waits = queue.join(&table, key(&table, 1)).unwrap();
        queue.refuse_all(|| Error::new(Code::Unavailable, "Postgres is down"));
        assert!(matches!(waits.try_recv(), Ok(Err(Unanswered::Failed(_)))));
        assert!(take(&queue).is_none());
    }
}
