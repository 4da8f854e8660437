//! Staging: the rows that come and the keys of those that go are copied beside the live generation.

use std::sync::Arc;

use crate::domain::{Code, Error, OnBadRow, Result};
use crate::encode::{Coverage, hash_sql};
use crate::postgres::{Session, quote};
use crate::source::Pick;

use super::super::Engine;
use super::super::changed::Changed;
use super::super::copy::CopyJob;
use super::super::plan::Decided;
use super::super::reading::Reading;
use super::super::run::Member;
use super::Staged;
use super::touched::{Chosen, Touched};

/// Rows for which one stream is enough.
const ROWS_PER_STREAM: usize = 50_000;

/// What staging took.
#[derive(Default)]
pub(super) struct StagingDone {
    /// Rows read, on both sides.
    pub(super) rows_read: u64,
    pub(super) bytes_read: u64,
    /// Rows that went and came again as they were.
    pub(super) unchanged: u64,
}

impl Engine {
    /// Copies the rows that come, and the keys of those that go, into the staging tables.
    ///
    /// # Errors
    /// [`Code::NotIncremental`] where only a snapshot can tell what becomes of a row; those of the source and of Postgres.
    pub(super) async fn stage(
        &self,
        session: &mut Session,
        member: Member<'_>,
        decided: &Decided,
        changes: &Arc<Changed>,
        touched: &Touched,
    ) -> Result<(Staged, StagingDone)> {
        let Member { pipeline, held, .. } = member;
        let (live, schema) = (decided.live()?, decided.schema());
        let latest = pipeline.on_duplicate_key.latest_by().and_then(|column| schema.position(column));
        let (coming, going) = self.destination.prepare_staging(session, live.generation, schema, latest).await?;
        let streams = |chosen: &Chosen| match chosen.count() {
            Some(rows) => (rows / ROWS_PER_STREAM + 1).min(self.streams(u64::MAX)),
            None => self.streams(changes.size().bytes),
        };
        let budget = self.run_budget();
        let mut done = StagingDone::default();
        let (mut going_keys, mut going_sum) = (0, touched.is_compared.then_some(0));
        if !touched.gone.is_none() {
            let (pick, workers) = (touched.gone.pick(Pick::Went), streams(&touched.gone));
            let reading = if touched.is_compared {
                // Whole rows are read and hashed; their keys are all that is sent.
                Reading::of_changes(changes, &decided.mapping, pick, workers, budget)?.keys_only(latest)
            } else {
                Reading::of_changes(changes, &decided.mapping.of_key_and(latest), pick, workers, budget)?
            };
            let sessions = self.sessions_for(held, "lakegate copy", reading.workers.len()).await?;
            let (target, coverage) = (going, Coverage::Full);
            let job = CopyJob { pipeline, reading, sessions, target, coverage, rows_total: None };
            let copied = Box::pin(self.copy_rows(job, OnBadRow::Fail, held)).await;
            // A row that can never have been stored is none that could go.
            let (copied, _) = copied.map_err(left_out)?;
            going_keys = copied.rows_stored;
            going_sum = going_sum.map(|_| copied.checksum.sum);
            done.rows_read += copied.rows_read;
            done.bytes_read += copied.bytes_read;
        }
        let (pick, workers) = (touched.come.pick(Pick::Came), streams(&touched.come));
        let reading = Reading::of_changes(changes, &decided.mapping, pick, workers, budget)?;
        let rows_total = touched.come.count().map(|rows| rows as u64);
        let sessions = self.sessions_for(held, "lakegate copy", reading.workers.len()).await?;
        let job = CopyJob { pipeline, reading, sessions, target: coming, coverage: Coverage::Full, rows_total };
        let coming = Box::pin(self.copy_rows(job, OnBadRow::Fail, held)).await;
        let (coming, _) = coming.map_err(|error| match pipeline.on_bad_row {
            // Only a snapshot counts the rows that are left out.
            OnBadRow::Reject { .. } => left_out(error),
            OnBadRow::Fail => error,
        })?;
        done.rows_read += coming.rows_read;
        done.bytes_read += coming.bytes_read;
        let mut staged = Staged { coming, going: going_keys, going_sum };
        if !touched.is_compared && staged.going > 0 && staged.coming.rows_stored > 0 {
            let row_hash = hash_sql(schema, quote);
            let name = &pipeline.name;
            let same = self.destination.unstage_same(&**session, name, live.generation, schema, &row_hash).await?;
            staged.coming.rows_stored -= same.rows;
            staged.coming.checksum.sum -= same.sum;
            staged.going -= same.rows;
            done.unchanged = same.rows;
        }
        Ok((staged, done))
    }
}

/// What a row that cannot be stored means where such rows may have been left out.
fn left_out(error: Error) -> Error {
    if !error.code().is_about_a_row() {
        return error;
    }
    let detail = format!("rows that cannot be stored are among the changes: {}", error.detail());
    Error::new(Code::NotIncremental, detail)
}
