//! A source as a table of DataFusion.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use tokio_util::sync::DropGuard;

use crate::source::{Scan, ScanTotals, ScanWorker, Source};

/// Batches that may wait between a worker and the operators above it.
const BATCHES_IN_FLIGHT: usize = 2;

/// The scans that a transform has begun: one for each reference to `source` in the SQL. Dropping the last copy stops
/// them.
#[derive(Clone, Default)]
pub struct SourceScans(Arc<Mutex<Vec<(Arc<ScanTotals>, DropGuard)>>>);

impl SourceScans {
    /// Bytes fetched so far, by all scans.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(totals, _)| totals.bytes_read()).sum()
    }

    /// Stops all scans.
    pub fn stop(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// How much the next scan may hold, so that all of them together hold no more than `budget`.
    fn next_budget(&self, budget: u64) -> u64 {
        let begun = self.0.lock().unwrap_or_else(PoisonError::into_inner).len();
        budget >> (begun + 1).min(63)
    }

    fn add(&self, scan: &Scan) {
        let entry = (Arc::clone(&scan.totals), scan.cancel.clone().drop_guard());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }
}

/// The table `source` of a transform. Each reference to it in the SQL is a scan of its own.
pub(super) struct SourceTable {
    source: Arc<Source>,
    budget: u64,
    scans: SourceScans,
}

impl SourceTable {
    pub(super) fn new(source: Arc<Source>, budget: u64, scans: SourceScans) -> Self {
        SourceTable { source, budget, scans }
    }
}

impl fmt::Debug for SourceTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceTable").finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for SourceTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.source.schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        // A scan needs a column to count rows by; the plan node above drops it again.
        let fields = self.source.schema().fields();
        let counts_only = projection.is_some_and(Vec::is_empty);
        let columns: Option<Vec<String>> = match projection {
            None => None,
            Some(_) if counts_only => Some(fields.iter().take(1).map(|f| f.name().clone()).collect()),
            Some(indexes) => {
                Some(indexes.iter().filter_map(|&index| fields.get(index).map(|f| f.name().clone())).collect())
            }
        };
        let workers = state.config().target_partitions();
        let scan = self
            .source
            .scan(columns.as_deref(), workers, self.scans.next_budget(self.budget))
            .map_err(|error| DataFusionError::External(Box::new(error)))?;
        self.scans.add(&scan);
        let schema = Arc::clone(&scan.schema);
        let partitions = scan.workers.into_iter().map(|worker| {
            let partition = Partition { schema: Arc::clone(&schema), worker: Mutex::new(Some(worker)) };
            Arc::new(partition) as Arc<dyn PartitionStream>
        });
        let none = Vec::new();
        let projected = counts_only.then_some(&none);
        let exec =
            StreamingTableExec::try_new(Arc::clone(&schema), partitions.collect(), projected, None, false, limit)?;
        Ok(Arc::new(exec))
    }
}

/// One worker of a scan.
#[derive(Debug)]
struct Partition {
    schema: SchemaRef,
    worker: Mutex<Option<ScanWorker>>,
}

impl PartitionStream for Partition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut stream = RecordBatchReceiverStream::builder(Arc::clone(&self.schema), BATCHES_IN_FLIGHT);
        let batches = stream.tx();
        stream.spawn_blocking(move || {
            let Some(mut worker) = worker else {
                return Err(DataFusionError::Internal("a partition was read twice".to_owned()));
            };
            loop {
                match worker.next() {
                    Ok(Some(batch)) => {
                        if batches.blocking_send(Ok(batch)).is_err() {
                            // The operators above have all they want: a LIMIT.
                            return Ok(());
                        }
                    }
                    Ok(None) => return Ok(()),
                    Err(error) => return Err(DataFusionError::External(Box::new(error))),
                }
            }
        });
        stream.build()
    }
}
