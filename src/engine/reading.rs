//! The rows of a source on their way to the encoders, with or without a transform in between.

use std::sync::Arc;

use arrow_array::RecordBatch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::domain::Result;
use crate::encode::Mapping;
use crate::source::{ChangedRows, RowPlace, Scan, ScanTotals, ScanWorker, Source};
use crate::transform::{SourceScans, Transform, TransformWorker};

/// Where the batches of one worker come from.
pub(super) enum Batches {
    Scan(ScanWorker),
    Transform(TransformWorker),
}

impl Batches {
    /// The next batch, or `None` at the end. Blocks.
    pub(super) fn next(&mut self) -> Result<Option<RecordBatch>> {
        match self {
            Batches::Scan(worker) => worker.next(),
            Batches::Transform(worker) => worker.next(),
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
    /// How many rows were picked to be read.
    picked: Option<u64>,
}

impl Reading {
    /// Begins to read what `mapping` needs of changed rows, with `picks` of the rows at these places alone.
    pub(super) fn of_changes(
        changes: &ChangedRows,
        mapping: &Mapping,
        picks: Option<&[RowPlace]>,
        workers: usize,
        budget: u64,
    ) -> Result<Reading> {
        let columns: Vec<String> = mapping.schema.columns.iter().map(|column| column.source.clone()).collect();
        let scan = changes.scan(&columns, picks, workers, budget)?;
        Reading::of_scan(scan, mapping, picks.map(|picks| picks.len() as u64))
    }

    /// Sends the keys of the rows alone.
    pub(super) fn keys_only(mut self) -> Reading {
        self.sent = Some(Arc::new(self.mapping.of_key()));
        self
    }

    fn of_scan(scan: Scan, mapping: &Mapping, picked: Option<u64>) -> Result<Reading> {
        let mapping = Arc::new(mapping.bound_to(&scan.schema)?);
        let stop = scan.cancel.clone();
        let control = ReadControl::Scan { totals: scan.totals, stop, _guard: scan.cancel.drop_guard() };
        Ok(Reading {
            workers: scan.workers.into_iter().map(Batches::Scan).collect(),
            mapping,
            control,
            sent: None,
            picked,
        })
    }

    /// How many rows there must have been, by footers and deletion vectors, or by what was picked; a transform may yield
    /// any number. To be asked after the last batch.
    pub(super) fn rows_expected(&self) -> Option<u64> {
        self.picked.or_else(|| self.control.rows_expected())
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

    fn rows_expected(&self) -> Option<u64> {
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
        return Ok(Reading { workers, mapping: Arc::new(mapping.clone()), control, sent: None, picked: None });
    }
    let columns: Vec<String> = mapping.schema.columns.iter().map(|column| column.source.clone()).collect();
    Reading::of_scan(source.scan(Some(&columns), workers, budget)?, mapping, None)
}
