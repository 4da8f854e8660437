//! The rows of a source on their way to the encoders, with or without a transform in between.

use std::sync::Arc;

use arrow_array::RecordBatch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::domain::{Code, Result};
use crate::encode::Mapping;
use crate::source::{Pick, Scan, ScanTotals, ScanWorker, Source};
use crate::transform::{SourceScans, Transform, TransformWorker};

use super::changed::Changed;

/// Where the batches of one worker come from.
pub(super) enum Batches {
    Scan(ScanWorker),
    Transform(TransformWorker),
    Changed(ScanWorker, Arc<Changed>),
}

impl Batches {
    /// The next batch, or `None` at the end. Blocks.
    pub(super) fn next(&mut self) -> Result<Option<RecordBatch>> {
        match self {
            Batches::Scan(worker) => worker.next(),
            Batches::Transform(worker) => worker.next(),
            Batches::Changed(worker, changed) => {
                worker.next()?.map(|batch| Ok(changed.compute(batch)?.batch)).transpose()
            }
        }
    }
}

/// A source being read.
pub(super) struct Reading {
    /// Together they yield every row once; each wants a thread of its own.
    pub(super) workers: Vec<Batches>,
    /// The mapping for the batches of these workers.
    pub(super) mapping: Arc<Mapping>,
    /// Reading stops when this is dropped.
    pub(super) control: ReadControl,
    /// The mapping of what is sent, where that is not all that is read.
    pub(super) sent: Option<Arc<Mapping>>,
    /// How many rows there must be, where that is not what the scan counts.
    rows: Rows,
}

/// How many rows a reading must yield.
enum Rows {
    /// As many as the scan counts.
    Counted,
    /// As many as were picked.
    Picked(u64),
    /// Any number.
    Any,
}

impl Reading {
    /// Begins to read what `mapping` needs of changed rows.
    pub(super) fn of_changes(
        changes: &Arc<Changed>,
        mapping: &Mapping,
        pick: Pick<'_>,
        workers: usize,
        budget: u64,
    ) -> Result<Reading> {
        let (scan, mapping) = changes.scan(mapping, pick, workers, budget)?;
        let rows = match pick {
            Pick::At(places) => Rows::Picked(places.len() as u64),
            _ if changes.may_leave_out() => Rows::Any,
            Pick::All | Pick::Went | Pick::Came => Rows::Counted,
        };
        Ok(Reading::of_scan(scan, mapping, rows, |worker| Batches::Changed(worker, Arc::clone(changes))))
    }

    /// Sends the keys of the rows alone, and the column at another position with them, where one is wanted.
    pub(super) fn keys_only(mut self, and: Option<usize>) -> Reading {
        self.sent = Some(Arc::new(self.mapping.of_key_and(and)));
        self
    }

    fn of_scan(scan: Scan, mapping: Mapping, rows: Rows, batches: impl Fn(ScanWorker) -> Batches) -> Reading {
        let stop = scan.cancel.clone();
        let control = ReadControl::Scan { totals: scan.totals, stop, _guard: scan.cancel.drop_guard() };
        Reading {
            workers: scan.workers.into_iter().map(ScanWorker::sharing).map(batches).collect(),
            mapping: Arc::new(mapping),
            control,
            sent: None,
            rows,
        }
    }

    /// How many rows there must have been, by footers and deletion vectors, or by what was picked; a transform may yield
    /// any number. To be asked after the last batch.
    pub(super) fn rows_expected(&self) -> Option<u64> {
        match self.rows {
            Rows::Counted => self.control.rows_counted(),
            Rows::Picked(rows) => Some(rows),
            Rows::Any => None,
        }
    }
}

/// What was read of a source, if its files are still those that were opened: else it may be of two states.
///
/// # Errors
/// Why reading failed; [`Code::FileGone`] where a file was removed or replaced meanwhile, which then is the cause.
pub(super) async fn of_one_state<T>(source: &Source, read: Result<T>) -> Result<T> {
    use Code::{FileGone, RowCountDisagrees, SchemaMismatch, SourceCorrupt};
    match read {
        Ok(read) => source.check_files().await.map(|()| read),
        Err(error) if matches!(error.code(), FileGone | RowCountDisagrees | SchemaMismatch | SourceCorrupt) => {
            match source.check_files().await {
                Err(moved) if moved.code() == FileGone => Err(moved.because(error)),
                // What else the store says now is not what stopped the run.
                _ => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}

/// What counts and stops a reading.
pub(super) enum ReadControl {
    Scan { totals: Arc<ScanTotals>, stop: CancellationToken, _guard: DropGuard },
    Transform(SourceScans),
}

impl ReadControl {
    /// Stops the workers before their next batch.
    pub(super) fn stop(&self) {
        match self {
            ReadControl::Scan { stop, .. } => stop.cancel(),
            ReadControl::Transform(scans) => scans.stop(),
        }
    }

    pub(super) fn bytes_read(&self) -> u64 {
        match self {
            ReadControl::Scan { totals, .. } => totals.bytes_read(),
            ReadControl::Transform(scans) => scans.bytes_read(),
        }
    }

    fn rows_counted(&self) -> Option<u64> {
        match self {
            ReadControl::Scan { totals, .. } => Some(totals.rows()),
            ReadControl::Transform(_) => None,
        }
    }
}

/// Begins to read what `mapping` needs of `source`, or of the transform's result.
pub(super) async fn read(
    source: &Arc<Source>,
    transform: Option<&str>,
    mapping: &Mapping,
    workers: usize,
    budget: u64,
) -> Result<Reading> {
    if let Some(sql) = transform {
        let transform = Transform::plan(Arc::clone(source), sql, workers, budget).await?;
        let control = ReadControl::Transform(transform.scans());
        let workers = transform.execute().await?.into_iter().map(Batches::Transform).collect();
        return Ok(Reading { workers, mapping: Arc::new(mapping.clone()), control, sent: None, rows: Rows::Any });
    }
    let columns: Vec<String> = mapping.schema.columns.iter().map(|column| column.source.clone()).collect();
    let scan = source.scan(Some(&columns), workers, budget)?;
    let mapping = mapping.bound_to(&scan.schema)?;
    Ok(Reading::of_scan(scan, mapping, Rows::Counted, Batches::Scan))
}
