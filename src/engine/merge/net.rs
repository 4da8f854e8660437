//! What is left of rows that went and rows that came when equal ones cancel out.
//!
//! A row takes part by a 128-bit hash of its encoded bytes and by its place; where it survives, it is read again. The
//! hashes are split among partitions, which are settled one by one; partitions that do not fit the budget go to
//! temporary files.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::domain::{Code, Error, Result};
use crate::source::RowPlace;

/// Parts that the rows are split into by their hashes.
const PARTITIONS: usize = 64;
/// Rows that a writer collects for a partition before it takes the partition's lock.
const COLLECTED: usize = 512;
/// Marks the place of a row that went.
const WENT: u64 = 1 << 63;

/// A row: the halves of its hash, and its place with the mark of a row that went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    high: u64,
    low: u64,
    place: u64,
}

impl Entry {
    const BYTES: usize = 24;

    fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.high.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.low.to_le_bytes());
        bytes[16..].copy_from_slice(&self.place.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        Entry { high: word(0), low: word(8), place: word(16) }
    }
}

#[derive(Debug, Default)]
struct Partition {
    entries: Vec<Entry>,
    spilled: Option<File>,
}

/// All rows that went and came.
#[derive(Debug)]
pub(super) struct Ledger {
    partitions: Vec<Mutex<Partition>>,
    /// Entries in memory, of all partitions.
    held: AtomicUsize,
    held_max: usize,
}

/// The rows that really differ.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Net {
    /// Rows of the earlier state that the later one lacks, by place.
    pub(super) gone: Vec<RowPlace>,
    /// Rows of the later state that the earlier one lacks, by place.
    pub(super) come: Vec<RowPlace>,
    /// Pairs of equal rows that cancelled out.
    pub(super) unchanged: u64,
}

impl Ledger {
    /// A ledger that holds about `budget` bytes in memory.
    pub(super) fn new(budget: u64) -> Self {
        let held_max = usize::try_from(budget).unwrap_or(usize::MAX) / Entry::BYTES;
        let partitions = (0..PARTITIONS).map(|_| Mutex::default()).collect();
        Ledger { partitions, held: AtomicUsize::new(0), held_max }
    }

    /// A writer for one thread.
    pub(super) fn writer(&self) -> LedgerWriter<'_> {
        LedgerWriter { ledger: self, collected: (0..PARTITIONS).map(|_| Vec::new()).collect() }
    }

    fn take_in(&self, index: usize, collected: &mut Vec<Entry>) -> Result<()> {
        let Some(partition) = self.partitions.get(index) else { return Ok(()) };
        let mut partition = partition.lock().unwrap_or_else(PoisonError::into_inner);
        self.held.fetch_add(collected.len(), Ordering::Relaxed);
        partition.entries.append(collected);
        if self.held.load(Ordering::Relaxed) > self.held_max {
            let spilled = partition.spill().map_err(no_room)?;
            self.held.fetch_sub(spilled, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Cancels equal rows, with that many threads; `None` where more than `most` rows differ. Blocks.
    ///
    /// # Errors
    /// [`Code::UnreadableFile`] where a temporary file fails.
    pub(super) fn settle(self, threads: usize, most: u64) -> Result<Option<Net>> {
        let (next, differing) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let settle_some = || -> Result<Option<Net>> {
            let mut net = Net::default();
            while let Some(partition) = self.partitions.get(next.fetch_add(1, Ordering::Relaxed)) {
                let mut partition = std::mem::take(&mut *partition.lock().unwrap_or_else(PoisonError::into_inner));
                partition.unspill().map_err(no_room)?;
                let before = net.gone.len() + net.come.len();
                cancel(&mut partition.entries, &mut net);
                let added = net.gone.len() + net.come.len() - before;
                if differing.fetch_add(added, Ordering::Relaxed) + added > usize::try_from(most).unwrap_or(usize::MAX) {
                    return Ok(None);
                }
            }
            Ok(Some(net))
        };
        let parts: Vec<Result<Option<Net>>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(settle_some)).collect();
            let joined = threads.into_iter().map(|thread| thread.join());
            joined.map(|part| part.unwrap_or_else(|_| Err(Error::internal("comparing rows panicked")))).collect()
        });
        let mut net = Net::default();
        for part in parts {
            let Some(part) = part? else { return Ok(None) };
            net.gone.extend(part.gone);
            net.come.extend(part.come);
            net.unchanged += part.unchanged;
        }
        net.gone.sort_unstable();
        net.come.sort_unstable();
        Ok(Some(net))
    }
}

/// Adds the rows that one thread reads.
#[derive(Debug)]
pub(super) struct LedgerWriter<'l> {
    ledger: &'l Ledger,
    collected: Vec<Vec<Entry>>,
}

impl LedgerWriter<'_> {
    /// Adds a row that went or came.
    pub(super) fn add(&mut self, hash: u128, place: RowPlace, went: bool) -> Result<()> {
        let (high, low) = ((hash >> 64) as u64, hash as u64);
        let index = high as usize % PARTITIONS;
        let Some(collected) = self.collected.get_mut(index) else { return Ok(()) };
        let place = place.to_bits() | if went { WENT } else { 0 };
        collected.push(Entry { high, low, place });
        if collected.len() >= COLLECTED { self.ledger.take_in(index, collected) } else { Ok(()) }
    }

    /// Hands on what is left.
    pub(super) fn finish(mut self) -> Result<()> {
        for (index, collected) in self.collected.iter_mut().enumerate() {
            self.ledger.take_in(index, collected)?;
        }
        Ok(())
    }
}

impl Partition {
    /// Moves the entries to the partition's file; returns how many.
    fn spill(&mut self) -> io::Result<usize> {
        let file = match &mut self.spilled {
            Some(file) => file,
            none => none.insert(tempfile::tempfile()?),
        };
        let bytes: Vec<u8> = self.entries.iter().flat_map(|entry| entry.to_bytes()).collect();
        file.write_all(&bytes)?;
        let count = self.entries.len();
        self.entries = Vec::new();
        Ok(count)
    }

    /// Brings the entries of the file back.
    fn unspill(&mut self) -> io::Result<()> {
        let Some(mut file) = self.spilled.take() else { return Ok(()) };
        file.seek(SeekFrom::Start(0))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (entries, _) = bytes.as_chunks::<{ Entry::BYTES }>();
        self.entries.extend(entries.iter().map(Entry::from_bytes));
        Ok(())
    }
}

/// Of each set of equal rows, as many cancel out as both went and came.
fn cancel(entries: &mut [Entry], net: &mut Net) {
    // Rows that came have lower places than those that went: they are first among equals.
    entries.sort_unstable();
    for equal in entries.chunk_by(|a, b| (a.high, a.low) == (b.high, b.low)) {
        let came = equal.partition_point(|entry| entry.place & WENT == 0);
        let (came, went) = equal.split_at(came);
        let cancelled = came.len().min(went.len());
        net.unchanged += cancelled as u64;
        net.come.extend(came[cancelled..].iter().map(|entry| RowPlace::from_bits(entry.place)));
        net.gone.extend(went[cancelled..].iter().map(|entry| RowPlace::from_bits(entry.place & !WENT)));
    }
}

fn no_room(error: io::Error) -> Error {
    Error::new(Code::UnreadableFile, format!("a temporary file cannot be used: {error}"))
        .hint("make room in the folder for temporary files (TMPDIR), or raise `limits.memory`")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn settle(rows: &[(u8, bool)], budget: u64, threads: usize) -> Net {
        let ledger = Ledger::new(budget);
        let mut writer = ledger.writer();
        for (place, &(value, went)) in rows.iter().enumerate() {
            let hash = u128::from(value) << 64 | u128::from(value);
            writer.add(hash, RowPlace::from_bits(place as u64), went).unwrap();
            if place % 3 == 0 {
                std::mem::replace(&mut writer, ledger.writer()).finish().unwrap();
            }
        }
        writer.finish().unwrap();
        ledger.settle(threads, u64::MAX).unwrap().unwrap()
    }

    proptest! {
        #[test]
        fn what_is_left_is_the_difference_of_two_multisets(
            rows in prop::collection::vec((0_u8..20, any::<bool>()), 0..200),
            budget in prop::sample::select(vec![0_u64, 500, 1 << 20]),
        ) {
            let net = settle(&rows, budget, 2);
            let mut balance: HashMap<u8, i64> = HashMap::new();
            for &(value, went) in &rows {
                *balance.entry(value).or_default() += if went { -1 } else { 1 };
            }
            let value = |place: &RowPlace| rows[place.to_bits() as usize];
            for place in &net.come {
                let (value, went) = value(place);
                prop_assert!(!went);
                *balance.get_mut(&value).unwrap() -= 1;
            }
            for place in &net.gone {
                let (value, went) = value(place);
                prop_assert!(went);
                *balance.get_mut(&value).unwrap() += 1;
            }
            prop_assert!(balance.values().all(|&rest| rest == 0));
            prop_assert_eq!(net.unchanged * 2 + (net.come.len() + net.gone.len()) as u64, rows.len() as u64);
            prop_assert!(net.come.is_sorted() && net.gone.is_sorted());
        }
    }

    #[test]
    fn a_row_is_either_gone_or_come_and_never_both() {
        let net = settle(&[(1, true), (1, false), (2, true), (3, false)], 1 << 20, 1);
        assert_eq!((net.gone, net.come), (vec![RowPlace::from_bits(2)], vec![RowPlace::from_bits(3)]));
    }

    #[test]
    fn too_many_differences_are_given_up() {
        let ledger = Ledger::new(1 << 20);
        let mut writer = ledger.writer();
        for row in 0..100_u64 {
            writer.add(u128::from(row) << 64, RowPlace::from_bits(row), false).unwrap();
        }
        writer.finish().unwrap();
        assert!(ledger.settle(2, 99).unwrap().is_none());
    }
}
