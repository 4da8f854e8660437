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
use crate::postgres::Session;
use crate::source::{ChangedRows, RowPlace};
use crate::store::LoadedGeneration;

use super::Engine;
use super::copy::{Copied, CopyJob};
use super::plan::Decided;
use super::reading::Reading;
use super::sync::Held;

/// The largest share of a table's rows, one in so many, that is changed in place: beyond it, loading anew costs less.
const SHARE_MAX: u64 = 5;
/// Fewer rows than that are always changed in place.
const ALWAYS_UP_TO: u64 = 1_000;
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
        changes: &Arc<ChangedRows>,
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
            let compared = self.compare_changes(pipeline, changes, &decided.mapping, most_changes(live)).await?;
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
    pub(super) async fn keep(&self, session: &Session, merge: &Merge<'_>) -> Result<RunOutcome> {
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
    async fn find_the_same(&self, session: &Session, merge: &Merge<'_>, mut outcome: RunOutcome) -> Result<RunOutcome> {
        let name = &merge.pipeline.name;
        let published = self.control.published(&**session, name).await?;
        let version = &merge.decided.plan.source_version;
        self.control.note_same_rows(&**session, name, merge.live.generation, version).await?;
        outcome.publish_no = published.map(|published| published.publish_no);
        outcome.mode = RunMode::Noop;
        outcome.state = RunState::Skipped;
        if merge.decided.changes.is_some() {
            outcome.reason = format!("{}; no row differs", outcome.reason);
        }
        outcome.checksum.clone_from(&merge.live.checksum);
        outcome.seconds.total = merge.started.elapsed().as_secs_f64();
        self.control.finish_run(&**session, &outcome).await?;
        Ok(outcome)
    }

    /// Copies the rows that come, and the keys of those that go, into the staging tables. Without lists of places, all
    /// rows come.
    async fn stage(
        &self,
        session: &Session,
        merge: &Merge<'_>,
        changes: &Arc<ChangedRows>,
        gone: Option<Vec<RowPlace>>,
        come: Option<Vec<RowPlace>>,
    ) -> Result<Staged> {
        let Merge { pipeline, decided, live, held, .. } = *merge;
        let schema = decided.schema();
        let (coming, going) = self.destination.prepare_staging(session, live.generation, schema).await?;
        let streams = |places: Option<&Vec<RowPlace>>| match places {
            Some(places) => (places.len() / ROWS_PER_STREAM + 1).min(self.streams(u64::MAX)),
            None => self.streams(changes.size().bytes),
        };
        let budget = self.run_budget();
        let mut going_keys = 0;
        if let Some(places) = gone.filter(|places| !places.is_empty()) {
            let mapping = decided.mapping.of_key();
            let reading = Reading::of_changes(changes, &mapping, Some(&places), streams(Some(&places)), budget)?;
            let job = CopyJob { pipeline, reading, target: going, coverage: Coverage::Full, rows_total: None };
            going_keys = Box::pin(self.copy_rows(job, OnBadRow::Fail, held)).await?.rows_stored;
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
        Ok(Staged { coming, going: going_keys })
    }
}

/// The most rows that may go and come for a table to be changed in place.
fn most_changes(live: &LoadedGeneration) -> u64 {
    // A row that is replaced goes and comes.
    (live.rows.unsigned_abs() / SHARE_MAX * 2).max(ALWAYS_UP_TO)
}

/// Whether a merge that failed like this can be made up for by a snapshot.
pub(super) fn calls_for_a_snapshot(error: &Error) -> bool {
    matches!(error.code(), Code::NotIncremental | Code::CountMismatch | Code::ChecksumMismatch | Code::FileGone)
}
