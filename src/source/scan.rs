//! Reading all files of a source with several workers and bounded memory.
//!
//! Work is one queue of files, the largest first, that every worker takes from. Who takes a file reads its footer and
//! puts its row groups at the front of the queue: so the row groups of one large file are read by all workers, and few
//! files are open at a time. Who finds the queue empty takes over half of what another one has left of its row group: so
//! all end at the same time, whatever the size of the row groups. A reader holds the dictionaries of its row group: who has no
//! room for them among those of the others has nothing left to do, and the others read the rest. Nobody waits for room, since
//! what makes room may wait for the rows of whoever waits.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

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
use super::row_group::{BatchSize, RowGroupReader};

/// The least a worker gets of the budget, in bytes: one window a column needs about that.
const SHARE_MIN: u64 = 2 * 1024 * 1024;
/// The largest batch that is aimed at, in bytes.
const BATCH_MAX: u64 = 1024 * 1024;
/// The smallest batch that is aimed at, in bytes.
const BATCH_MIN: u64 = 64 * 1024;
/// How often a worker that waits for a footer looks whether the scan was cancelled.
const CANCEL_POLL: Duration = Duration::from_millis(50);

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
    let state = QueueState { files: by_size, room: share.saturating_mul(workers as u64) / 2, ..QueueState::default() };
    let queue = Queue { state: Mutex::new(state), changed: Condvar::new() };
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
    let worker =
        || ScanWorker { shared: Arc::clone(&shared), fetch: share / 2, size: BatchSize::new(target), current: None };
    let workers = (0..workers).map(|_| worker()).collect();
    Scan { workers, totals, cancel, schema: Arc::new(arrow_schema::Schema::new(fields)) }
}

/// Where the rows of a batch stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchPlace {
    /// The file, counted among the files that are read.
    pub file: usize,
    /// The row group of the file.
    pub row_group: usize,
    /// The position in the file of the row group's first row.
    pub row_group_start: u64,
    /// The batch's first row, counted among the rows of the row group that belong to what is read.
    pub first_row: usize,
}

/// One reader of a scan.
pub struct ScanWorker {
    shared: Arc<Shared>,
    /// Compressed bytes this worker may hold.
    fetch: u64,
    size: BatchSize,
    current: Option<RowGroupReader>,
}

impl fmt::Debug for ScanWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScanWorker").field("fetch", &self.fetch).finish_non_exhaustive()
    }
}

impl ScanWorker {
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
            self.current = None;
            let failure = &self.shared.failure;
            if error.code() == Code::Cancelled {
                return failure.get().map_or(error, Error::repeat);
            }
            // Known before the others are told to stop.
            let _ = failure.set(error.repeat());
            self.shared.cancel.cancel();
            error
        })
    }

    fn advance(&mut self) -> Result<Option<(RecordBatch, BatchPlace)>> {
        loop {
            if self.shared.cancel.is_cancelled() {
                return Err(cancelled());
            }
            if let Some(reader) = &mut self.current {
                let place = reader.place();
                if let Some(batch) = reader.next(&mut self.size)? {
                    self.shared.totals.rows_yielded.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
                    return Ok(Some((batch, place)));
                }
                self.current = None;
            }
            match self.shared.queue.take(&self.shared.cancel)? {
                None => return Ok(None),
                Some(Step::Rows(part)) => {
                    let picked = self.shared.picked(&part.file, part.row_group);
                    self.current = Some(RowGroupReader::open(part, picked, &self.size, self.fetch)?);
                }
                Some(Step::File(index, opening)) => {
                    let file = Arc::new(self.shared.open(index)?);
                    let rows = (0..file.row_groups()).map(|row_group| (row_group, self.shared.rows(&file, row_group)));
                    let wanted = rows.filter(|&(_, rows)| rows > 0);
                    opening.done(wanted.map(|(row_group, rows)| Part::whole(Arc::clone(&file), row_group, rows)));
                }
            }
        }
    }
}

impl Shared {
    fn open(&self, index: usize) -> Result<OpenFile> {
        let file = self.files.get(index).ok_or_else(|| Error::internal("a file beyond the last"))?;
        let object = Object {
            store: Arc::clone(&self.store),
            path: file.path.clone(),
            place: format!("{} of {}", file.name, self.address),
            size: file.size,
            cancel: self.cancel.clone(),
            totals: Arc::clone(&self.totals),
        };
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

/// What a worker does next.
enum Step<'a> {
    /// Read the footer of this file.
    File(usize, Opening<'a>),
    /// Read these rows.
    Rows(Arc<Part>),
}

struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    /// Files not opened yet, the largest last.
    files: Vec<usize>,
    row_groups: VecDeque<Part>,
    /// What the workers read.
    parts: Vec<Weak<Part>>,
    /// Bytes that the dictionaries of all these may take; those of one always may.
    room: u64,
    /// Files whose footers are being read: they may yet bring row groups.
    opening: usize,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next piece of work; `None` when there is none and none can come.
    fn take(&self, cancel: &CancellationToken) -> Result<Option<Step<'_>>> {
        let mut state = self.lock();
        loop {
            if cancel.is_cancelled() {
                return Err(cancelled());
            }
            if !state.row_groups.is_empty() {
                let part = state.first_that_fits();
                if part.is_none() {
                    tracing::info!(
                        "fewer workers read: `limits.memory` has no room for the dictionaries of more row groups"
                    );
                }
                return Ok(part.map(|part| state.begin(part)));
            }
            if let Some(file) = state.files.pop() {
                state.opening += 1;
                return Ok(Some(Step::File(file, Opening { queue: self })));
            }
            if state.opening == 0 {
                let half = state.half_of_the_largest();
                return Ok(half.map(|part| state.begin(part)));
            }
            state = self.changed.wait_timeout(state, CANCEL_POLL).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl QueueState {
    /// Lets a worker read a part, of which others may take over the end.
    fn begin<'a>(&mut self, part: Part) -> Step<'a> {
        let part = Arc::new(part);
        self.parts.retain(|part| part.strong_count() > 0);
        self.parts.push(Arc::downgrade(&part));
        Step::Rows(part)
    }

    /// The bytes that more dictionaries may take; `None` where nobody reads and anything fits.
    fn room_left(&self) -> Option<u64> {
        let taken =
            self.parts.iter().filter_map(Weak::upgrade).map(|part| part.dictionaries).reduce(u64::saturating_add);
        taken.map(|taken| self.room.saturating_sub(taken))
    }

    /// The first row group of the queue for whose dictionaries there is room.
    fn first_that_fits(&mut self) -> Option<Part> {
        let room = self.room_left().unwrap_or(u64::MAX);
        let fits = self.row_groups.iter().position(|part| part.dictionaries <= room)?;
        self.row_groups.remove(fits)
    }

    /// Half of what is left where most is left of those of which it is worth it.
    fn half_of_the_largest(&self) -> Option<Part> {
        let room = self.room_left()?;
        let mut parts: Vec<_> = self.parts.iter().filter_map(Weak::upgrade).collect();
        parts.retain(|part| part.dictionaries <= room);
        parts.sort_by_key(|part| Reverse(part.bytes_left()));
        parts.iter().find_map(|part| part.split())
    }
}

/// A file whose footer is being read. Dropping it, done or not, lets waiting workers go on.
struct Opening<'a> {
    queue: &'a Queue,
}

impl Opening<'_> {
    /// Adds the file's row groups that are to be read to the queue.
    fn done(self, row_groups: impl Iterator<Item = Part>) {
        self.queue.lock().row_groups.extend(row_groups);
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.queue.lock().opening -= 1;
        self.queue.changed.notify_all();
    }
}
