//! Rows, and the absence of rows, kept for as long as they are known to be what is published.
//!
//! Of each table the cache knows the publish at which everything it keeps of it holds (`held`), and the latest one that
//! this process has heard of. While the two differ, nothing is handed out. All that moves them happens under one lock:
//!
//! - (a) `held` moves together with dropping the keys that changed in between; where they are not all known, or another
//!   generation was published, everything goes.
//! - (b) What was read at a publish is kept only if that is `held` at the moment of keeping it.
//! - (c) What is handed out is of the very state that the answer is about, and no publish after it has been heard of.
//! - (f) A key is its canonical bytes.
//!
//! The lock is held for a hash, a comparison and a pointer, and shared by those who only look; a lock a shard would let parts of
//! one table stand at two publishes at once.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use quick_cache::Weighter;
use quick_cache::unsync;

use super::json::RowJson;
use super::key::Key;
use super::table::PublishedTable;

/// What an entry costs besides its key and its row: its place in the store and the heads of three allocations.
const ENTRY_BYTES: u64 = 200;

/// The size of an entry that the store expects; decides only how much it remembers of what it has let go.
const EXPECTED_BYTES: u64 = 512;

/// How long a look at the tables may say less than a lookup before. After that, the publish that the lookup told of is
/// believed to be lost: a standby that had not got it yet has become the primary.
const MAX_LAG: Duration = Duration::from_secs(10);

/// What is kept of a key: its row, or that there is none.
pub(super) type Kept = Option<Arc<RowJson>>;

/// What the cache says of a key.
#[derive(Debug)]
pub(super) enum Look {
    /// This holds.
    Kept(Kept),
    /// It has to be read; at this publish or a later one.
    Ask {
        /// The latest publish that has been heard of.
        heard: i64,
    },
}

/// Which keys changed between two publishes of one generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Changed {
    /// Those with these hashes, see [`Key::hash`].
    Keys {
        /// The earlier publish.
        since: i64,
        hashes: Vec<i64>,
    },
    /// Nobody knows, or how rows are shown has changed.
    All,
}

/// The cache of one process.
#[derive(Debug)]
pub(super) struct Cache(RwLock<State>);

#[derive(Debug)]
struct State {
    tables: HashMap<String, Held>,
    /// `None` = nothing is kept.
    rows: Option<unsync::Cache<Slot, Entry, Bytes>>,
    /// The last one that was given out.
    epoch: u64,
}

/// Where a table stands.
#[derive(Debug, Clone, Copy)]
struct Held {
    generation: i64,
    /// Everything that is kept of the table holds at this publish.
    held: i64,
    /// The latest publish that a notification told of.
    announced: i64,
    /// The latest publish that a lookup told of, and when.
    answered: i64,
    answered_at: Instant,
    /// Part of the slots of what is kept: another epoch, and all that was kept is out of reach. The store lets it go
    /// like anything else that nobody asks for.
    epoch: u64,
}

impl Held {
    fn heard(&self) -> i64 {
        self.held.max(self.announced).max(self.answered)
    }

    /// Whether what is kept may be told as what this state of the table holds.
    fn is_of(&self, table: &PublishedTable) -> bool {
        self.generation == table.generation.0 && self.held == table.publish_no
    }
}

/// Where a key is kept. Two keys with one hash displace each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Slot {
    epoch: u64,
    hash: i64,
}

#[derive(Debug, Clone)]
struct Entry {
    key: Key,
    row: Kept,
}

/// Weighs entries in bytes.
#[derive(Debug, Clone, Copy)]
struct Bytes;

impl Weighter<Slot, Entry> for Bytes {
    fn weight(&self, _: &Slot, entry: &Entry) -> u64 {
        let row = entry.row.as_ref().map_or(0, |row| row.held_bytes());
        ENTRY_BYTES + (entry.key.as_bytes().len() + row) as u64
    }
}

impl Cache {
    /// One that keeps so many bytes at most; 0 = it keeps nothing, and still knows what was heard of.
    pub(super) fn new(bytes: u64) -> Self {
        let expected = usize::try_from(bytes / EXPECTED_BYTES).unwrap_or(usize::MAX).max(16);
        let rows = (bytes > 0).then(|| unsync::Cache::with_weighter(expected, bytes, Bytes));
        Cache(RwLock::new(State { tables: HashMap::new(), rows, epoch: 0 }))
    }

    /// Whether anything can be kept.
    pub(super) fn is_on(&self) -> bool {
        self.read().rows.is_some()
    }

    /// How many bytes are kept.
    pub(super) fn bytes(&self) -> u64 {
        self.read().rows.as_ref().map_or(0, unsync::Cache::weight)
    }

    /// What is kept of a key of this state of a table.
    pub(super) fn look(&self, table: &PublishedTable, key: &Key) -> Look {
        let hash = key.hash();
        self.read().look(table, key, hash)
    }

    /// The same of several keys, all at one moment.
    pub(super) fn look_all(&self, table: &PublishedTable, keys: &[Key]) -> Vec<Look> {
        let hashes: Vec<i64> = keys.iter().map(Key::hash).collect();
        let state = self.read();
        keys.iter().zip(hashes).map(|(key, hash)| state.look(table, key, hash)).collect()
    }

    /// The latest publish of a table that has been heard of.
    pub(super) fn heard(&self, table: &PublishedTable) -> i64 {
        self.read().heard(table)
    }

    /// Keeps what a lookup found at the publish of this state of a table, if that still is where the table stands.
    pub(super) fn keep<'a>(&self, table: &PublishedTable, found: impl Iterator<Item = (&'a Key, Kept)>) {
        if !self.is_on() {
            return;
        }
        let found: Vec<_> = found.map(|(key, row)| (key.hash(), Entry { key: key.clone(), row })).collect();
        let mut state = self.lock();
        let state = &mut *state;
        let Some(held) = state.tables.get(table.name.as_str()).filter(|held| held.is_of(table)) else { return };
        let Some(rows) = &mut state.rows else { return };
        for (hash, entry) in found {
            rows.insert(Slot { epoch: held.epoch, hash }, entry);
        }
    }

    /// A notification told of a publish; 0 = that the table has ended.
    pub(super) fn announced(&self, name: &str, publish_no: i64) {
        if let Some(held) = self.lock().tables.get_mut(name) {
            let publish_no = if publish_no == 0 { held.held + 1 } else { publish_no };
            held.announced = held.announced.max(publish_no);
        }
    }

    /// A lookup for this state of a table told at this moment of another publish. A rollback is one of an earlier
    /// generation; an earlier one told to a state that is not the one that stands is of a table that has ended since.
    pub(super) fn answered(&self, table: &PublishedTable, publish_no: i64, generation: i64, at: Instant) {
        if let Some(held) = self.lock().tables.get_mut(table.name.as_str())
            && (held.generation == table.generation.0 || held.generation <= generation)
            && held.answered < publish_no
        {
            (held.answered, held.answered_at) = (publish_no, at);
        }
    }

    /// Follows the published tables to where they were found to stand when they were looked at, each with what has
    /// changed since the look before. All that was announced before is done with.
    pub(super) fn advance<'a>(&self, looked: Instant, tables: impl Iterator<Item = (&'a PublishedTable, Changed)>) {
        let mut state = self.lock();
        let mut before = std::mem::take(&mut state.tables);
        state.tables.reserve(before.len());
        for (table, changed) in tables {
            let (name, held) = match before.remove_entry(table.name.as_str()) {
                Some((name, held)) => (name, Some(held)),
                None => (table.name.to_string(), None),
            };
            let held = state.advance(looked, held, table, changed);
            state.tables.insert(name, held);
        }
    }

    /// For whoever looks.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> RwLockWriteGuard<'_, State> {
        // A panic under the lock is a defect; at worst keys were dropped without need.
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn look(&self, table: &PublishedTable, key: &Key, hash: i64) -> Look {
        let Some(held) = self.tables.get(table.name.as_str()) else { return Look::Ask { heard: 0 } };
        let heard = held.heard();
        if let Some(rows) = &self.rows
            && held.is_of(table)
            && heard == held.held
            && let Some(entry) = rows.get(&Slot { epoch: held.epoch, hash })
            && entry.key == *key
        {
            return Look::Kept(entry.row.clone());
        }
        Look::Ask { heard }
    }

    fn heard(&self, table: &PublishedTable) -> i64 {
        self.tables.get(table.name.as_str()).map_or(0, Held::heard)
    }

    fn advance(&mut self, looked: Instant, before: Option<Held>, table: &PublishedTable, changed: Changed) -> Held {
        let now = table.publish_no;
        if let Some(mut held) = before.filter(|held| held.generation == table.generation.0) {
            held.announced = now;
            if looked.saturating_duration_since(held.answered_at) > MAX_LAG {
                held.answered = now;
            }
            match changed {
                _ if held.held == now => return held,
                Changed::Keys { since, hashes } if since == held.held && since < now => {
                    if let Some(rows) = &mut self.rows {
                        for hash in hashes {
                            rows.remove(&Slot { epoch: held.epoch, hash });
                        }
                    }
                    held.held = now;
                    return held;
                }
                _ => {}
            }
        }
        self.epoch += 1;
        Held {
            generation: table.generation.0,
            held: now,
            announced: now,
            answered: now,
            answered_at: looked,
            epoch: self.epoch,
        }
    }
}

#[cfg(test)]
mod tests;
