//! The rows of a row group that one worker reads, and of which another may take over the end.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::Result;

use super::column_chunks::Chunks;
use super::data_file::OpenFile;

/// The encoded bytes for which it is worth to open a row group once more.
const WORTH: usize = 2 << 20;
/// How many times as many bytes the dictionaries may have that are decoded once more for it: their bytes are decompressed and laid
/// out, but neither hashed, encoded nor sent.
const DICTIONARIES: u64 = 2;
/// How many times the rows that are taken over may stand before them where few bytes cost little, held or near: where their pages
/// begin is known from the headers of the pages before, which are read once more.
const PASSED_OVER: usize = 16;
/// The same where all of these pages are fetched once more, since nobody holds them.
const FETCHED_AGAIN: usize = 2;

/// Rows of a row group, counted among those that are read of it.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) file: Arc<OpenFile>,
    pub(super) row_group: usize,
    /// Bytes of a row on average, as it is encoded.
    pub(super) encoded_width: usize,
    /// Bytes of the row group's dictionaries, decoded.
    pub(super) dictionaries: u64,
    /// How many times its rows may stand before those that are taken over.
    before: usize,
    /// Whether a reader holds all of the row group's bytes.
    is_held: bool,
    /// They, once that is so.
    held: Arc<Mutex<Option<Chunks>>>,
    /// Those that nobody has read yet.
    left: Mutex<Range<usize>>,
}

impl Part {
    /// So many rows of a row group, all that are read of it, by readers that hold `budget` compressed bytes at most.
    pub(super) fn whole(file: Arc<OpenFile>, row_group: usize, rows: usize, budget: u64) -> Part {
        let (encoded_width, dictionaries) = (file.encoded_width(row_group), file.dictionary_bytes(row_group));
        let near = file.object.is_near();
        let is_held = file.whole.is_some() || (!near && file.compressed_bytes(row_group) <= budget);
        // Pages of lists do not say how many rows they have: they are read to be passed over.
        let before = if is_held || (near && !file.has_lists(row_group)) { PASSED_OVER } else { FETCHED_AGAIN };
        let (held, left) = (Arc::default(), Mutex::new(0..rows));
        Part { file, row_group, encoded_width, dictionaries, before, is_held, held, left }
    }

    /// The row group's bytes: those that another of its readers holds, or what `open` fetches. Blocks.
    pub(super) fn chunks(&self, open: impl FnOnce() -> Result<Chunks>) -> Result<Chunks> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(chunks) = &*held {
            return Ok(chunks.clone());
        }
        let chunks = open()?;
        *held = self.is_held.then(|| chunks.clone());
        Ok(chunks)
    }

    /// The rows that nobody has read yet.
    pub(super) fn left(&self) -> Range<usize> {
        self.lock().clone()
    }

    /// Notes that the next so many rows have been read; returns how many of them are still its own.
    pub(super) fn advance(&self, rows: usize) -> usize {
        let mut left = self.lock();
        let own = rows.min(left.len());
        left.start += own;
        own
    }

    /// Takes over the second half of what is left, if that is worth it.
    pub(super) fn split(&self) -> Option<Part> {
        let mut left = self.lock();
        let taken = left.start + left.len().div_ceil(2)..left.end;
        let bytes = taken.len().saturating_mul(self.encoded_width);
        if bytes < WORTH
            || (bytes as u64).saturating_mul(DICTIONARIES) < self.dictionaries
            || taken.len().saturating_mul(self.before) < taken.start
        {
            return None;
        }
        left.end = taken.start;
        let Part { row_group, encoded_width, dictionaries, before, is_held, .. } = *self;
        let (file, held, left) = (Arc::clone(&self.file), Arc::clone(&self.held), Mutex::new(taken));
        Some(Part { file, row_group, encoded_width, dictionaries, before, is_held, held, left })
    }

    /// The encoded bytes of the rows that nobody has read yet.
    pub(super) fn bytes_left(&self) -> usize {
        self.left().len().saturating_mul(self.encoded_width)
    }

    fn lock(&self) -> MutexGuard<'_, Range<usize>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
