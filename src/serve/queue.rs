//! Who waits for which key of which table, and whose turn it is.
//!
//! There is no timer: whatever waits when a connection becomes free is asked together. The busier the connections, the
//! larger the batches. Who asks for a key that is being asked for already waits for that answer: it is of the state of the
//! table that he asks for, or there is none.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use super::json::RowJson;
use super::key::Key;
use super::table::PublishedTable;
use crate::domain::{Code, Error, Result};

/// The most keys of one statement.
pub(super) const MAX_KEYS: usize = 64;

/// The bytes of rows that one statement should not exceed: keys × the table's average row.
const MAX_BATCH_BYTES: u64 = 1 << 20;

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
        match lines.waiting.entry(table.serial) {
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
            }
            Entry::Vacant(line) => {
                line.insert(Line { table: Arc::clone(table), waiters: VecDeque::from([(key, sender)]) });
                lines.turns.push_back(table.serial);
            }
        }
        self.arrived.notify_one();
        Ok(receiver)
    }

    /// The next batch; waits until there is one.
    pub(super) async fn next(self: &Arc<Self>) -> Batch {
        loop {
            if let Some(batch) = self.take() {
                return batch;
            }
            self.arrived.notified().await;
        }
    }

    /// All that waits for the table whose turn it is, up to the bounds of a batch.
    fn take(self: &Arc<Self>) -> Option<Batch> {
        let mut lines = self.lock();
        let lines = &mut *lines;
        while let Some(serial) = lines.turns.pop_front() {
            let Entry::Occupied(mut line) = lines.waiting.entry(serial) else { continue };
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
                self.arrived.notify_one();
            }
            if !waiters.is_empty() {
                lines.batches += 1;
                let (number, keys) = (lines.batches, Arc::new(keys));
                lines.sent.push(Sent { batch: number, serial, keys: Arc::clone(&keys), waiters });
                return Some(Batch { table, keys, number, queue: Arc::clone(self) });
            }
        }
        None
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

    /// How many wait for batches that are being asked.
    fn waiters(queue: &Queue) -> usize {
        queue.lock().sent.iter().map(|sent| sent.waiters.len()).sum()
    }

    #[test]
    fn a_key_that_is_being_asked_for_is_not_asked_for_again() {
        let (queue, orders) = (Arc::new(Queue::default()), Arc::new(table(1, "orders")));
        let mut first = queue.join(&orders, key(&orders, 5)).unwrap();
        let batch = queue.take().unwrap();
        let mut second = queue.join(&orders, key(&orders, 5)).unwrap();
        assert!(queue.take().is_none());
        // Another key waits for its turn, and so does this one of another state of the table.
        let next = Arc::new(table(2, "orders"));
        let (_other, _later) = (queue.join(&orders, key(&orders, 6)), queue.join(&next, key(&next, 5)));
        let batches = [queue.take().unwrap(), queue.take().unwrap()];
        assert_eq!(batches.map(|batch| (batch.table.serial, batch.keys.len())), [(1, 1), (2, 1)]);
        batch.answer(&[None]);
        assert!(matches!((first.try_recv(), second.try_recv()), (Ok(Ok(None)), Ok(Ok(None)))));
        // Once it is answered, nobody joins it any more.
        let _third = queue.join(&orders, key(&orders, 5)).unwrap();
        assert!(queue.take().is_some());
    }

    #[test]
    fn a_batch_that_is_given_up_lets_go_of_those_who_wait() {
        let (queue, table) = (Arc::new(Queue::default()), Arc::new(table(1, "orders")));
        let mut waits = queue.join(&table, key(&table, 5)).unwrap();
        drop(queue.take());
        assert!(waits.try_recv().is_err());
        assert_eq!(queue.lock().sent.len(), 0);
    }

    #[test]
    fn equal_keys_that_wait_together_are_asked_once() {
        let (queue, table) = (Arc::new(Queue::default()), Arc::new(table(1, "orders")));
        let waiting: Vec<_> = [5, 6, 5, 5].map(|number| queue.join(&table, key(&table, number)).unwrap()).into();
        let batch = queue.take().unwrap();
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
        assert_eq!(queue.take().unwrap().keys.len(), 64);
        for _ in 0..200 {
            table.row_bytes.note(1 << 19);
        }
        assert!(queue.take().unwrap().keys.len() <= 3);
    }

    #[test]
    fn tables_take_turns_the_oldest_waiter_first() {
        let queue = Arc::new(Queue::default());
        let (busy, calm) = (Arc::new(table(1, "busy")), Arc::new(table(2, "calm")));
        let mut waiting: Vec<_> = (0..200).map(|number| queue.join(&busy, key(&busy, number)).unwrap()).collect();
        waiting.push(queue.join(&calm, key(&calm, 1)).unwrap());
        let names: Vec<String> =
            std::iter::from_fn(|| queue.take()).map(|batch| batch.table.name.to_string()).collect();
        assert_eq!(names, ["busy", "calm", "busy", "busy", "busy"]);
    }

    #[test]
    fn who_left_is_not_asked_for() {
        let (queue, table) = (Arc::new(Queue::default()), Arc::new(table(1, "orders")));
        drop(queue.join(&table, key(&table, 1)).unwrap());
        assert!(queue.take().is_none());
        let _waits = queue.join(&table, key(&table, 2)).unwrap();
        let _batch = queue.take().unwrap();
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
        assert!(queue.take().is_none());
    }
}
