//! The column chunks of one row group, for the Parquet reader, within a bound on what is held of them.

use std::io::{self, Read};
use std::mem;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, Length};

use crate::domain::{Error, Result};

use super::failure::corrupt;
use super::object::Object;

/// The projected column chunks of one row group.
#[derive(Debug, Clone)]
pub(super) struct Chunks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    object: Arc<Object>,
    /// Of each chunk, where it stands in the file.
    chunks: Vec<Range<u64>>,
    /// Of each chunk, what is held of it: a start, and bytes from there.
    held: Mutex<Vec<(u64, Bytes)>>,
    /// Bytes that a fetch reads ahead; `None` where everything is held from the beginning.
    window: Option<u64>,
    /// The first error of ours. The Parquet reader turns errors into text on their way to the caller.
    failure: Mutex<Option<Error>>,
}

impl Chunks {
    /// The smallest read-ahead: below it requests cost more than bytes.
    const WINDOW_MIN: u64 = 64 * 1024;
    /// The largest read-ahead: above it requests hardly get cheaper.
    const WINDOW_MAX: u64 = 8 * 1024 * 1024;
    /// The same into a near file, where a request is no more than a call of the system: larger ones only take more memory.
    const WINDOW_MAX_NEAR: u64 = 1024 * 1024;
    /// Bytes that hold the header of most pages.
    const HEADER: u64 = 4 * 1024;

    /// Opens chunks: fetched as a whole where they fit into `budget` bytes, else, and those of near files, through one window a
    /// chunk, all of which together fit unless there are very many. `whole` is the file itself, where it is held already.
    pub(super) fn open(
        object: Arc<Object>,
        mut chunks: Vec<Range<u64>>,
        budget: u64,
        whole: Option<&Bytes>,
    ) -> Result<Chunks> {
        chunks.sort_by_key(|chunk| chunk.start);
        let total: u64 = chunks.iter().map(|chunk| chunk.end - chunk.start).sum();
        let (held, window): (Vec<(u64, Bytes)>, _) = if let Some(bytes) = whole {
            chunks = vec![0..bytes.len() as u64];
            (vec![(0, bytes.clone())], None)
        } else if total <= budget && !object.is_near() {
            let fetched = object.fetch_all(&chunks)?;
            (chunks.iter().map(|chunk| chunk.start).zip(fetched).collect(), None)
        } else {
            let share = budget / chunks.len().max(1) as u64;
            let most = if object.is_near() { Self::WINDOW_MAX_NEAR } else { Self::WINDOW_MAX };
            let window = share.clamp(Self::WINDOW_MIN, most);
            (chunks.iter().map(|chunk| (chunk.start, Bytes::new())).collect(), Some(window))
        };
        object.totals.hold(held.iter().map(|(_, bytes)| bytes.len() as u64).sum());
        Ok(Chunks(Arc::new(Inner { object, chunks, held: Mutex::new(held), window, failure: Mutex::new(None) })))
    }

    /// The error of ours that made a read fail, if one did.
    pub(super) fn take_failure(&self) -> Option<Error> {
        self.0.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What bytes are fetched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sought {
    /// A page's header, behind which the page may be passed over.
    Header,
    /// A page, behind which the next one is read.
    Page,
}

impl Inner {
    /// Bytes from `start`, at least `least` of them where the chunk is that long, and as many more as are held, or else as
    /// are worth to be fetched with them.
    fn bytes_from(&self, start: u64, least: u64, sought: Sought) -> Result<Bytes> {
        let outside = || corrupt(&self.object.place, format!("a page at byte {start} lies outside its column"));
        let index = self.chunks.iter().rposition(|chunk| chunk.start <= start).ok_or_else(outside)?;
        let chunk = self.chunks.get(index).filter(|chunk| start <= chunk.end).ok_or_else(outside)?;
        let end = (start + least).min(chunk.end);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let (held_from, bytes) = held.get_mut(index).ok_or_else(outside)?;
        let covered = *held_from..*held_from + bytes.len() as u64;
        if start >= covered.start && end <= covered.end {
            return Ok(bytes.slice((start - covered.start) as usize..));
        }
        let window = self.window.ok_or_else(outside)?;
        let (near, before) = (self.object.is_near(), mem::take(bytes));
        let window = if near && sought == Sought::Header { Chunks::HEADER } else { window };
        let known = if near && covered.contains(&start) {
            before.get((start - covered.start) as usize..).unwrap_or_default().to_vec()
        } else {
            Vec::new()
        };
        // The old window goes before the new one comes, so that never both are held.
        drop(before);
        self.object.totals.release(covered.end - covered.start);
        let fetched = self.object.fetch_behind(start..end.max(start + window).min(chunk.end), &known)?;
        self.object.totals.hold(fetched.len() as u64);
        *held_from = start;
        *bytes = fetched.clone();
        Ok(fetched)
    }

    /// Keeps an error for [`Chunks::take_failure`] and gives the reader its text.
    fn fail(&self, error: Error) -> ParquetError {
        let text = error.to_string();
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        ParquetError::General(text)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let held = self.held.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.object.totals.release(held.iter().map(|(_, bytes)| bytes.len() as u64).sum());
    }
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.0.object.size
    }
}

impl ChunkReader for Chunks {
    type T = ChunkRead;

    fn get_read(&self, start: u64) -> ParquetResult<ChunkRead> {
        Ok(ChunkRead { chunks: Arc::clone(&self.0), position: start, current: Bytes::new() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let bytes = self.0.bytes_from(start, length as u64, Sought::Page).map_err(|error| self.0.fail(error))?;
        if bytes.len() < length {
            let why = format!("a page of {length} bytes at byte {start} goes beyond its column");
            return Err(self.0.fail(corrupt(&self.0.object.place, why)));
        }
        Ok(bytes.slice(..length))
    }
}

/// Reads on from one position of a column chunk to its end; used for page headers.
pub(super) struct ChunkRead {
    chunks: Arc<Inner>,
    position: u64,
    current: Bytes,
}

impl Read for ChunkRead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.current.is_empty() {
            let bytes = self.chunks.bytes_from(self.position, 1, Sought::Header);
            let bytes = bytes.map_err(|error| io::Error::other(self.chunks.fail(error)))?;
            // A copy: the Parquet reader keeps this while it asks for the page, for which the window may have to go.
            let header = bytes.len().min(Chunks::HEADER as usize);
            self.current = Bytes::copy_from_slice(bytes.get(..header).unwrap_or_default());
        }
        let count = buffer.len().min(self.current.len());
        self.current.copy_to_slice(buffer.get_mut(..count).unwrap_or_default());
        self.position += count as u64;
        Ok(count)
    }
}
