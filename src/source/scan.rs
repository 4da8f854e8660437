//! Reading all files of a source with several workers and bounded memory.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use object_store::ObjectStore;
use tokio_util::sync::CancellationToken;

use crate::domain::{Code, Error, Result};

use super::columns::Target;
use super::data_file::{DataFile, OpenFile};
use super::io::cancelled;
use super::object::Object;
use super::part::Part;
use super::queue::{Queue, Step};
use super::row_group::{BatchPlace, BatchSize, Placed, RowGroupReader};

/// The least a worker gets of the budget, in bytes: one window a column needs about that.
const SHARE_MIN: u64 = 2 * 1024 * 1024;
/// The largest batch that is aimed at, in bytes.
const BATCH_MAX: u64 = 1024 * 1024;
/// The smallest batch that is aimed at, in bytes.
const BATCH_MIN: u64 = 64 * 1024;

/// A scan that has begun.
pub struct Scan {
    /// To be driven each on a thread of its own; together they yield every row once.
    pub workers: Vec<ScanWorker>,
    /// What has been read so far.
    pub totals: Arc<ScanTotals>,
    /// Stops all workers: each ends with [`Code::Cancelled`] before its next batch, or with the error of the worker
    /// that failed first.
    pub cancel: CancellationToken,
    /// The schema of every batch.
    pub schema: SchemaRef,
}

impl fmt::Debug for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan")
            .field("workers", &self.workers.len())
            .field("totals", &self.totals)
            .finish_non_exhaustive()
    }
}

/// Running totals of a scan.
#[derive(Debug, Default)]
pub struct ScanTotals {
    rows: AtomicU64,
    rows_yielded: AtomicU64,
    bytes_read: AtomicU64,
    files: AtomicU64,
    held: AtomicU64,
    held_peak: AtomicU64,
}

impl ScanTotals {
    /// Rows of the files opened so far by their footers and deletion vectors, whether yielded yet or not. After the
    /// scan: the rows of the source, counted independently of what was yielded.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Rows yielded so far.
    pub fn rows_yielded(&self) -> u64 {
        self.rows_yielded.load(Ordering::Relaxed)
    }

    /// Bytes fetched from the store so far.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// Files opened so far.
    pub fn files(&self) -> u64 {
        self.files.load(Ordering::Relaxed)
    }

    /// The most compressed bytes that all workers have held at a time.
    pub fn held_peak(&self) -> u64 {
        self.held_peak.load(Ordering::Relaxed)
    }

    pub(super) fn add_file(&self, rows: u64) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }

    pub(super) fn add_bytes_read(&self, bytes: u64) {
        self.bytes_read.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn hold(&self, bytes: u64) {
        let held = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.held_peak.fetch_max(held, Ordering::Relaxed);
    }

    pub(super) fn release(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What all workers share.
struct Shared {
    store: Arc<dyn ObjectStore>,
    /// The source's address, for messages.
    address: Arc<str>,
    files: Arc<[DataFile]>,
    targets: Vec<Target>,
    totals: Arc<ScanTotals>,
    cancel: CancellationToken,
    /// What the first worker to fail failed of.
    failure: OnceLock<Error>,
    queue: Queue,
    wanted: Wanted,
    warned: AtomicBool,
}

/// Which rows of the files are read, of those that belong to what is read.
pub(super) enum Wanted {
    /// All.
    All,
    /// Those of some files, by their index.
    Files(Vec<usize>),
    /// Single ones: by file and row group, counted among those of the row group, ascending.
    Rows(HashMap<(usize, usize), Vec<u32>>),
}

/// What to read of which files.
pub(super) struct Work {
    pub(super) store: Arc<dyn ObjectStore>,
    /// The source's address, for messages.
    pub(super) address: Arc<str>,
    pub(super) files: Arc<[DataFile]>,
    pub(super) targets: Vec<Target>,
    pub(super) wanted: Wanted,
}

/// Starts a scan with that many workers, which hold about `budget` bytes in all.
pub(super) fn start(work: Work, workers: usize, budget: u64) -> Scan {
    let Work { store, address, files, targets, wanted } = work;
    let workers = workers.max(1);
    let share = (budget / workers as u64).max(SHARE_MIN);
    let mut by_size: Vec<usize> = match &wanted {
        Wanted::All => (0..files.len()).collect(),
        Wanted::Files(files) => files.clone(),
        Wanted::Rows(rows) => rows.keys().map(|&(file, _)| file).collect::<BTreeSet<_>>().into_iter().collect(),
    };
    by_size.sort_by_key(|&index| files.get(index).map(|file| file.size));
    let queue = Queue::new(by_size, share.saturating_mul(workers as u64) / 2);
    let (totals, cancel) = (Arc::new(ScanTotals::default()), CancellationToken::new());
    let fields: arrow_schema::Fields = targets.iter().map(|target| Arc::clone(&target.field)).collect();
    let shared = Arc::new(Shared {
        store,
        address,
        files,
        targets,
        totals: Arc::clone(&totals),
        cancel: cancel.clone(),
        failure: OnceLock::new(),
        queue,
        wanted,
        warned: AtomicBool::new(false),
    });
    let target = (share / 8).clamp(BATCH_MIN, BATCH_MAX) as usize;
    let worker = || ScanWorker {
        shared: Arc::clone(&shared),
        fetch: share / 2,
        size: BatchSize::new(target),
        current: None,
        shares: false,
    };
    let workers = (0..workers).map(|_| worker()).collect();
    Scan { workers, totals, cancel, schema: Arc::new(arrow_schema::Schema::new(fields)) }
}

/// One reader of a scan.
pub struct ScanWorker {
    shared: Arc<Shared>,
    /// Compressed bytes this worker may hold.
    fetch: u64,
    size: BatchSize,
    current: Option<RowGroupReader>,
    /// Whether it waits for batches of others where it has nothing to read.
    shares: bool,
}

impl fmt::Debug for ScanWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScanWorker").field("fetch", &self.fetch).finish_non_exhaustive()
    }
}

impl ScanWorker {
    /// A worker that waits for batches which others have decoded, where it has nothing left to read. Its thread must be its own,
    /// and what the others do with their batches must never wait for those of this one.
    #[must_use]
    pub fn sharing(mut self) -> ScanWorker {
        self.shares = true;
        self
    }

    /// The next batch of at least one row, or `None` when this worker has nothing left to do. Blocks on I/O: call it
    /// from a thread that may block. Batches come in no order.
    ///
    /// # Errors
    /// [`Code::FileGone`], [`Code::SourceCorrupt`], [`Code::RowCountDisagrees`], [`Code::SchemaMismatch`],
    /// [`Code::SourceAccess`], [`Code::SourceUnavailable`], each naming file and source; [`Code::Cancelled`]. After an
    /// error the scan is over for all workers, and each of them ends with that error: whoever hears of one first hears
    /// the cause.
    pub fn next(&mut self) -> Result<Option<RecordBatch>> {
        Ok(self.next_placed()?.map(|(batch, _)| batch))
    }

    /// As [`ScanWorker::next`], with the place of the batch: its rows stand there one after another, unless single rows
    /// are picked.
    ///
    /// # Errors
    /// As [`ScanWorker::next`].
    pub fn next_placed(&mut self) -> Result<Option<(RecordBatch, BatchPlace)>> {
        self.advance().map_err(|error| {
            let failure = &self.shared.failure;
            let error = if error.code() == Code::Cancelled {
                failure.get().map_or(error, Error::repeat)
            } else {
                // Known before the others are told to stop, and they before they miss this one.
                let _ = failure.set(error.repeat());
                self.shared.cancel.cancel();
                error
            };
            self.current = None;
            error
        })
    }

    fn advance(&mut self) -> Result<Option<Placed>> {
        loop {
            if self.shared.cancel.is_cancelled() {
                return Err(cancelled());
            }
            if let Some(reader) = &mut self.current {
                let place = reader.place();
                match reader.next(&mut self.size)? {
                    Some(batch) => match self.shared.queue.hand_over((batch, place)) {
                        Some(batch) => return Ok(Some(self.shared.yielded(batch))),
                        None => continue,
                    },
                    None => self.current = None,
                }
            }
            match self.shared.queue.take(self.shares, &self.shared.cancel)? {
                None => return Ok(None),
                Some(Step::Batch(batch)) => return Ok(Some(self.shared.yielded(batch))),
                Some(Step::Rows(part)) => {
                    let picked = self.shared.picked(&part.file, part.row_group);
                    self.current = Some(RowGroupReader::open(part, picked, &self.size, self.fetch)?);
                }
                Some(Step::File(index, opening)) => {
                    let file = Arc::new(self.shared.open(index)?);
                    let rows = (0..file.row_groups()).map(|row_group| (row_group, self.shared.rows(&file, row_group)));
                    let wanted = rows.filter(|&(_, rows)| rows > 0);
                    let part = |(row_group, rows)| Part::whole(Arc::clone(&file), row_group, rows, self.fetch);
                    opening.done(wanted.map(part));
                }
            }
        }
    }
}

impl Shared {
    /// Counts the rows of a batch that is yielded.
    fn yielded(&self, batch: Placed) -> Placed {
        self.totals.rows_yielded.fetch_add(batch.0.num_rows() as u64, Ordering::Relaxed);
        batch
    }

    fn open(&self, index: usize) -> Result<OpenFile> {
        let file = self.files.get(index).ok_or_else(|| Error::internal("a file beyond the last"))?;
        let place = format!("{} of {}", file.name, self.address);
        let (at, cancel) = ((Arc::clone(&self.store), file.path.clone()), self.cancel.clone());
        let object = Object::new(at, place, file.size, cancel, Arc::clone(&self.totals));
        let open = OpenFile::open(index, object, file, &self.targets)?;
        if open.legacy_calendar && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                file = %file.name,
                source = %self.address,
                "written by an old Spark in the Julian calendar: dates before 1582-10-15 are off by some days"
            );
        }
        Ok(open)
    }

    /// The only rows of a row group that are to be read, where not all are.
    fn picked(&self, file: &OpenFile, row_group: usize) -> Option<&[u32]> {
        match &self.wanted {
            Wanted::All | Wanted::Files(_) => None,
            Wanted::Rows(rows) => Some(rows.get(&(file.index, row_group)).map_or(&[], Vec::as_slice)),
        }
    }

    /// How many rows of a row group are to be read.
    fn rows(&self, file: &OpenFile, row_group: usize) -> usize {
        match (file.live_rows(row_group), self.picked(file, row_group)) {
            (0, _) => 0,
            (_, Some(picked)) => picked.len(),
            (live, None) => live,
        }
    }
}
