//! SQL over a source, run once per refresh by DataFusion: `transform` of a pipeline.
//!
//! The source is the one table there is, named `source`; it is read by our own scan, so that a transform sees exactly
//! what a pipeline without one would load.

mod row_wise;
mod source_table;
mod uniqueness;

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use futures::StreamExt as _;
use tokio::runtime::Handle;

use crate::domain::{Code, Error, Result};
use crate::source::Source;

pub use row_wise::{Computed, RowWise};
pub use source_table::SourceScans;
use source_table::SourceTable;
pub use uniqueness::{ColumnCounts, count_values, is_unique};

/// The name under which SQL knows the source.
const TABLE: &str = "source";

/// A transform that fits its source.
pub struct Transform {
    frame: DataFrame,
    schema: SchemaRef,
    scans: SourceScans,
}

impl Transform {
    /// Plans `sql` over `source`. Sorts, joins and aggregates hold at most half of `budget` bytes and spill to temporary
    /// files beyond that; the rest is for reading.
    ///
    /// # Errors
    /// [`Code::TransformFailed`] with DataFusion's own words when the SQL does not fit the source.
    pub async fn plan(source: Arc<Source>, sql: &str, workers: usize, budget: u64) -> Result<Self> {
        let (context, scans) = context_over(source, workers, budget)?;
        let frame = query(&context, sql).await?;
        let schema = Arc::clone(frame.schema().inner());
        Ok(Transform { frame, schema, scans })
    }

    /// The columns of the result.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// What is read of the source; whoever wants the work to go on keeps a copy.
    #[must_use]
    pub fn scans(&self) -> SourceScans {
        self.scans.clone()
    }

    /// Begins the work: streams that together yield the result once.
    pub async fn execute(self) -> Result<Vec<TransformWorker>> {
        let streams = self.frame.execute_stream_partitioned().await.map_err(failed)?;
        let runtime = Handle::current();
        Ok(streams.into_iter().map(|stream| TransformWorker { stream, runtime: runtime.clone() }).collect())
    }
}

/// Plans a query, and nothing but a query.
async fn query(context: &SessionContext, sql: &str) -> Result<DataFrame> {
    let only_queries = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    context.sql_with_options(sql, only_queries).await.map_err(failed)
}

/// A session whose one table is `source`. Operators may hold half of `budget`, the scans of the source the rest.
fn context_over(source: Arc<Source>, workers: usize, budget: u64) -> Result<(SessionContext, SourceScans)> {
    let pool = FairSpillPool::new(usize::try_from(budget / 2).unwrap_or(usize::MAX));
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(pool)).build_arc().map_err(failed)?;
    let config = SessionConfig::new().with_target_partitions(workers).with_information_schema(false);
    let context = SessionContext::new_with_config_rt(config, runtime);
    let scans = SourceScans::default();
    let table = SourceTable::new(source, budget / 2, scans.clone());
    context.register_table(TABLE, Arc::new(table)).map_err(failed)?;
    Ok((context, scans))
}

/// All rows of a source as a frame to work on.
async fn frame_over(source: &Arc<Source>, budget: u64) -> Result<(DataFrame, SourceScans)> {
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (context, scans) = context_over(Arc::clone(source), workers, budget)?;
    Ok((context.table(TABLE).await.map_err(failed)?, scans))
}

/// One stream of a transform's result.
pub struct TransformWorker {
    stream: SendableRecordBatchStream,
    runtime: Handle,
}

impl TransformWorker {
    /// The next batch, or `None` at the end. To be called from a thread that may block.
    pub fn next(&mut self) -> Result<Option<RecordBatch>> {
        self.runtime.block_on(self.stream.next()).transpose().map_err(failed)
    }
}

/// DataFusion's error as ours; an error of our own scan comes out as it went in.
fn failed(error: DataFusionError) -> Error {
    if let Some(ours) = ours(&error) {
        return ours;
    }
    if let DataFusionError::ResourcesExhausted(text) = error.find_root() {
        return Error::new(Code::TransformFailed, text).hint("raise `limits.memory` in lakegate.yaml");
    }
    Error::new(Code::TransformFailed, error.strip_backtrace())
        .hint("`transform` is one SELECT over the table `source`; names with capitals need double quotes")
}

/// The error of our own scan, wherever operators have wrapped it.
fn ours(error: &DataFusionError) -> Option<Error> {
    match error {
        DataFusionError::External(inner) => inner.downcast_ref::<Error>().map(Error::repeat),
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => ours(inner),
        DataFusionError::Shared(inner) => ours(inner),
        DataFusionError::Collection(errors) => errors.iter().find_map(ours),
        _ => None,
    }
}
