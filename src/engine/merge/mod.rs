//! Refreshing in place: only the rows that differ reach Postgres, and one transaction brings them to the readers.
//!
//! ```text
//! changed rows → compare (equal rows cancel out) → stage (rows that come, keys that go) → apply → publish
//! ```
//!
//! Whatever does not fit what the source's history says, the number of rows and their hashes before and after, ends the
//! merge without a trace; where the pipeline allows, a snapshot follows in the same run.

mod apply;
mod compare;
mod net;

use std::sync::Arc;
use std::time::Instant;

use crate::domain::{Code, Error, OnBadRow, Pipeline, Result, RunMode, RunOutcome, RunState, StageSeconds};
use crate::encode::Coverage;
use crate::observe::{Event, Stage};
use crate::postgres::{Doing, Session};
use crate::source::RowPlace;
use crate::store::{LoadedGeneration, PublishRow};

use super::Engine;
use super::changed::Changed;
use super::copy::{Copied, CopyJob};
use super::plan::Decided;
use super::reading::Reading;
use super::sync::Held;

/// The largest share of a table's rows, one in so many, that is changed in place: beyond it, loading anew costs less.
const SHARE_MAX: u64 = 5;
/// Fewer rows than that are always changed in place.
const ALWAYS_UP_TO: u64 = 1_000;
/// Bytes of the budget for each row that differs: its place, while the places of all are put together.
const BYTES_PER_DIFFERENCE: u64 = 32;
/// Rows for which one stream is enough.
const ROWS_PER_STREAM: usize = 50_000;

/// A merge that is under way.
pub(super) struct Merge<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) decided: &'a Decided,
    pub(super) live: &'a LoadedGeneration,
    pub(super) held: &'a Held,
    pub(super) pause: Option<&'a str>,
    pub(super) started: Instant,
}

/// What has been staged.
pub(super) struct Staged {
    /// Rows that come.
    pub(super) coming: Copied,
    /// How many keys go.
    pub(super) going: u64,
    /// The sum of the hashes of the rows that go, as the source had them.
    pub(super) going_sum: i128,
}

impl Engine {
    /// Brings the live generation to the planned state of the source by these changes.
    ///
    /// # Errors
    /// [`Code::NotIncremental`], [`Code::CountMismatch`], [`Code::ChecksumMismatch`] and [`Code::FileGone`] where only a
    /// snapshot helps; [`Code::DuplicateKey`] where a row comes whose key another row has; others of the source and of
    /// Postgres. Nothing is changed then.
    pub(super) async fn merge(
        &self,
        session: &mut Session,
        merge: &Merge<'_>,
        changes: &Arc<Changed>,
    ) -> Result<RunOutcome> {
        let Merge { pipeline, decided, live, held, started, .. } = *merge;
        let (name, plan) = (&pipeline.name, &decided.plan);
        let mut outcome = RunOutcome {
            source_version: Some(plan.source_version.clone()),
            generation: Some(live.generation),
            coverage: 1.0,
            seconds: StageSeconds { plan: started.elapsed().as_secs_f64(), ..StageSeconds::default() },
            ..RunOutcome::begun(name, held.run, plan.mode, plan.reason.clone())
        };
        self.observer.observe(name, &Event::Entered(Stage::Copy));
        let copying = Instant::now();
        let net = if changes.only_added() {
            None
        } else {
            let most = most_changes(live).min(self.run_budget() / BYTES_PER_DIFFERENCE);
            let compared = self.compare_changes(pipeline, changes, &decided.mapping, most).await?;
            outcome.rows.read = compared.rows_read;
            outcome.rows.unchanged = compared.net.unchanged;
            outcome.bytes_read = compared.bytes_read;
            Some(compared.net)
        };
        if net.as_ref().is_some_and(|net| net.gone.is_empty() && net.come.is_empty()) {
            outcome.seconds.copy = copying.elapsed().as_secs_f64();
            return self.find_the_same(session, merge, outcome).await;
        }
        let (gone, come) = net.map_or((None, None), |net| (Some(net.gone), Some(net.come)));
        let staged = Box::pin(self.stage(session, merge, changes, gone, come)).await?;
        if outcome.rows.read == 0 {
            outcome.rows.read = staged.coming.rows_read;
        }
        outcome.bytes_read += staged.coming.bytes_read;
        outcome.bytes_copied = staged.coming.bytes_copied;
        outcome.seconds.copy = copying.elapsed().as_secs_f64();
        Box::pin(self.apply(session, merge, &staged, &mut outcome)).await?;
        Ok(outcome)
    }

    /// Ends the run of a source that moved on without a change of data.
    pub(super) async fn keep(&self, session: &mut Session, merge: &Merge<'_>) -> Result<RunOutcome> {
        let Merge { pipeline, decided, live, held, started, .. } = *merge;
        let outcome = RunOutcome {
            source_version: Some(decided.plan.source_version.clone()),
            generation: Some(live.generation),
            seconds: StageSeconds { plan: started.elapsed().as_secs_f64(), ..StageSeconds::default() },
            ..RunOutcome::begun(&pipeline.name, held.run, RunMode::Noop, decided.plan.reason.clone())
        };
        self.find_the_same(session, merge, outcome).await
    }

    /// Ends a run that found no row to change.
    async fn find_the_same(
        &self,
        session: &mut Session,
        merge: &Merge<'_>,
        mut outcome: RunOutcome,
    ) -> Result<RunOutcome> {
        let doing = "note that no row differs";
        let name = &merge.pipeline.name;
        let published = self.control.published(&**session, name).await?;
        outcome.publish_no = published.map(|published| published.publish_no);
        let version = &merge.decided.plan.source_version;
        let policy_differs = self.control.policy_differs(&**session, name, &merge.pipeline.serve).await?;
        let transaction = session.transaction().await.doing(doing)?;
        self.control.note_same_rows(&transaction, name, merge.live.generation, version).await?;
        if policy_differs {
            let publish = PublishRow {
                name,
                generation: merge.live.generation,
                source_version: version,
                schema: merge.decided.schema(),
                policy: &merge.pipeline.serve,
                checked_by: Some(merge.held.run),
            };
            outcome.publish_no = Some(self.control.record_publish(&transaction, &publish).await?);
        }
        outcome.mode = RunMode::Noop;
        outcome.state = RunState::Skipped;
        if merge.decided.changes.is_some() {
            outcome.reason = format!("{}; no row differs", outcome.reason);
        }
        outcome.checksum.clone_from(&merge.live.checksum);
        outcome.seconds.total = merge.started.elapsed().as_secs_f64();
        self.control.finish_run(&transaction, &outcome).await?;
        self.control.fence(&transaction, &merge.held.lease).await?;
        transaction.commit().await.doing(doing)?;
        Ok(outcome)
    }

    /// Copies the rows that come, and the keys of those that go, into the staging tables. Without lists of places, all
    /// rows come.
    async fn stage(
        &self,
        session: &mut Session,
        merge: &Merge<'_>,
        changes: &Arc<Changed>,
        gone: Option<Vec<RowPlace>>,
        come: Option<Vec<RowPlace>>,
    ) -> Result<Staged> {
        let Merge { pipeline, decided, live, held, .. } = *merge;
        let schema = decided.schema();
        let latest = pipeline.on_duplicate_key.latest_by().and_then(|column| schema.position(column));
        let (coming, going) = self.destination.prepare_staging(session, live.generation, schema, latest).await?;
        let streams = |places: Option<&Vec<RowPlace>>| match places {
            Some(places) => (places.len() / ROWS_PER_STREAM + 1).min(self.streams(u64::MAX)),
            None => self.streams(changes.size().bytes),
        };
        let budget = self.run_budget();
        let (mut going_keys, mut going_sum) = (0, 0);
        if let Some(places) = gone.filter(|places| !places.is_empty()) {
            let workers = streams(Some(&places));
            // Whole rows are read and hashed; their keys are all that is sent.
            let reading = Reading::of_changes(changes, &decided.mapping, Some(&places), workers, budget)?;
            let reading = reading.keys_only(latest);
            let job = CopyJob { pipeline, reading, target: going, coverage: Coverage::Full, rows_total: None };
            let copied = Box::pin(self.copy_rows(job, OnBadRow::Fail, held)).await?;
            (going_keys, going_sum) = (copied.rows_stored, copied.checksum.sum);
        }
        let workers = streams(come.as_ref());
        let reading = Reading::of_changes(changes, &decided.mapping, come.as_deref(), workers, budget)?;
        let rows_total = come.as_ref().map(|come| come.len() as u64);
        let job = CopyJob { pipeline, reading, target: coming, coverage: Coverage::Full, rows_total };
        let coming = Box::pin(self.copy_rows(job, OnBadRow::Fail, held)).await;
        let coming = coming.map_err(|error| match pipeline.on_bad_row {
            // Only a snapshot counts the rows that are left out.
            OnBadRow::Reject { .. } if error.code().is_about_a_row() => Error::new(
                Code::NotIncremental,
                format!("rows that cannot be stored are among the changes: {}", error.detail()),
            ),
            _ => error,
        })?;
        Ok(Staged { coming, going: going_keys, going_sum })
    }
}

/// The most rows that may go and come for a table to be changed in place.
fn most_changes(live: &LoadedGeneration) -> u64 {
    // A row that is replaced goes and comes.
    (live.rows.unsigned_abs() / SHARE_MAX * 2).max(ALWAYS_UP_TO)
}

/// Whether a merge that failed like this can be made up for by a snapshot: files that it had to read and a snapshot need
/// not, a table that is not what the source's history says. Values that were written wrongly are a defect, which a
/// snapshot might make as well.
pub(super) fn calls_for_a_snapshot(error: &Error) -> bool {
    use Code::{CountMismatch, NotIncremental, SchemaMismatch, SourceAccess, SourceCorrupt, SourceUnavailable};
    use Code::{FileGone, RowCountDisagrees, UnreadableFile};
    matches!(
        error.code(),
        NotIncremental
            | CountMismatch
            | FileGone
            | SourceAccess
            | SourceUnavailable
            | SourceCorrupt
            | RowCountDisagrees
            | SchemaMismatch
            | UnreadableFile
    )
}
