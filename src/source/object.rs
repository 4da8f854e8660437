//! Byte ranges of one data file.

use std::fs::File;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResultPayload, ObjectStore, ObjectStoreExt};
use tokio_util::sync::CancellationToken;

use crate::domain::{Error, Result};

use super::failure::{LOCAL_STORE, Wanted, corrupt, store_error};
use super::io::{block_on_unless, cancelled};
use super::local_file::{LocalFile, is_on_a_disk_of_this_machine};
use super::scan::ScanTotals;

/// A data file in its store.
#[derive(Debug)]
pub(super) struct Object {
    store: Arc<dyn ObjectStore>,
    path: Path,
    /// For messages: the file and its table.
    pub(super) place: String,
    /// Bytes, as the source's state declares.
    pub(super) size: u64,
    cancel: CancellationToken,
    pub(super) totals: Arc<ScanTotals>,
    /// The file itself, once it is known to be one of this machine.
    local: OnceLock<LocalFile>,
}

impl Object {
    /// A file of so many bytes by the source's state; `place` is what messages call it. Nothing is read yet.
    pub(super) fn new(
        (store, path): (Arc<dyn ObjectStore>, Path),
        place: String,
        size: u64,
        cancel: CancellationToken,
        totals: Arc<ScanTotals>,
    ) -> Object {
        Object { store, path, place, size, cancel, totals, local: OnceLock::new() }
    }

    /// Whether few bytes cost little: those of a file of this machine, of which a range has been fetched already.
    pub(super) fn is_near(&self) -> bool {
        self.local.get().is_some()
    }

    /// Fetches one range. Blocks.
    pub(super) fn fetch(&self, range: Range<u64>) -> Result<Bytes> {
        self.fetch_behind(range, &[])
    }

    /// Fetches one range, of which the first bytes are `known` already; they are fetched again unless the file is near. Blocks.
    pub(super) fn fetch_behind(&self, range: Range<u64>, known: &[u8]) -> Result<Bytes> {
        self.check(&range)?;
        if let Some(local) = self.local.get() {
            return self.read(local, &range, known);
        }
        let (store, path, wanted) = (Arc::clone(&self.store), self.path.clone(), range.clone());
        let options = GetOptions { range: Some(GetRange::Bounded(wanted)), ..GetOptions::default() };
        let answer = block_on_unless(&self.cancel, async move {
            let answer = store.get_opts(&path, options).await?;
            Ok(match answer.payload {
                GetResultPayload::File(file, _) if is_on_a_disk_of_this_machine(&file) => Answer::File(file),
                _ => Answer::Bytes(answer.bytes().await?),
            })
        })?;
        match answer {
            Ok(Answer::File(file)) => self.read(self.local.get_or_init(|| LocalFile::new(file)), &range, known),
            Ok(Answer::Bytes(bytes)) => self.fetched(&range, bytes, 0),
            Err(error) => Err(self.explain(error)),
        }
    }

    /// Fetches ranges, those that lie close together in one request. Blocks.
    pub(super) fn fetch_all(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        ranges.iter().try_for_each(|range| self.check(range))?;
        let (store, path, wanted) = (Arc::clone(&self.store), self.path.clone(), ranges.to_vec());
        let fetched = block_on_unless(&self.cancel, async move { store.get_ranges(&path, &wanted).await })?;
        let fetched = fetched.map_err(|error| self.explain(error))?;
        ranges.iter().zip(fetched).map(|(range, bytes)| self.fetched(range, bytes, 0)).collect()
    }

    fn read(&self, local: &LocalFile, range: &Range<u64>, known: &[u8]) -> Result<Bytes> {
        if self.cancel.is_cancelled() {
            return Err(cancelled());
        }
        match local.read(range, known) {
            Ok(bytes) => self.fetched(range, bytes, known.len()),
            Err(source) => {
                let error = object_store::Error::Generic { store: LOCAL_STORE, source: source.into() };
                Err(store_error(error, Wanted::DataFile, &self.place))
            }
        }
    }

    /// Notes what has been fetched for a range, apart from its first `known` bytes.
    fn fetched(&self, range: &Range<u64>, bytes: Bytes, known: usize) -> Result<Bytes> {
        if bytes.len() as u64 != range.end - range.start {
            let size = self.local.get().and_then(LocalFile::size);
            return Err(self.truncated(size.unwrap_or(range.start + bytes.len() as u64)));
        }
        self.totals.add_bytes_read((bytes.len() - known) as u64);
        Ok(bytes)
    }

    /// Whether the source's state lets the file be that long.
    fn check(&self, range: &Range<u64>) -> Result<()> {
        if range.end > self.size {
            return Err(corrupt(&self.place, format!("refers to byte {} of {}", range.end, self.size)));
        }
        Ok(())
    }

    /// A range beyond the end fails in every store's own words: the object's size tells it from other failures.
    fn explain(&self, error: object_store::Error) -> Error {
        let (store, path) = (Arc::clone(&self.store), self.path.clone());
        let head = block_on_unless(&self.cancel, async move { store.head(&path).await });
        match head {
            Ok(Ok(meta)) if meta.size < self.size => self.truncated(meta.size),
            _ => store_error(error, Wanted::DataFile, &self.place),
        }
    }

    fn truncated(&self, size: u64) -> Error {
        corrupt(&self.place, format!("has {size} bytes where {} are expected", self.size))
    }
}

/// What a store answers with.
enum Answer {
    /// A file of this machine.
    File(File),
    /// The bytes that were asked for.
    Bytes(Bytes),
}
