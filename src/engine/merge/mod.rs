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
mod extend;
mod net;

use std::sync::Arc;
use std::time::Instant;

use tokio_postgres::Transaction;

use crate::domain::{Code, Error, OnBadRow, Result, RunMode, RunOutcome};
use crate::encode::Coverage;
use crate::observe::{Event, Stage};
use crate::postgres::Session;
use crate::source::RowPlace;
use crate::store::{LoadedGeneration, PublishRow};

use super::Engine;
use super::changed::Changed;
use super::copy::{Copied, CopyJob};
use super::plan::Decided;
use super::reading::{Reading, of_one_state};
use super::run::{Member, Prepared, Work};

/// The largest share of a table's rows, one in so many, that is changed in place, once it is known which they are: beyond
/// it, loading anew costs less, as measured (docs/refresh.md).
const SHARE_MAX: u64 = 10;
/// Fewer rows than that are always changed in place.
const ALWAYS_UP_TO: u64 = 1_000;
/// Bytes of the budget for each row that differs: its place, while the places of all are put together.
const BYTES_PER_DIFFERENCE: u64 = 32;
/// Rows for which one stream is enough.
const ROWS_PER_STREAM: usize = 50_000;

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
    /// Stages what has changed of a member whose plan stands in `prepared`, as work for its publish.
    ///
    /// # Errors
    /// [`Code::NotIncremental`], [`Code::FileGone`] and others where only a snapshot helps, see
    /// [`calls_for_a_snapshot`]; those of the source and of Postgres. Nothing is changed then.
    pub(super) async fn prepare_in_place(
        &self,
        session: &mut Session,
        member: Member<'_>,
        prepared: &mut Prepared,
    ) -> Result<()> {
        let pipeline = member.pipeline;
        let Prepared { outcome, work } = prepared;
        // Grants hang on the view, which a merge leaves alone.
        self.destination.grant_missing(&**session, &pipeline.name, &pipeline.grants).await?;
        let Work::Keep(decided) = &work else { return Ok(()) };
        if decided.extends() {
            self.extend(session, member, decided).await?;
        }
        let Some(changes) = &decided.changes else {
            if decided.extends()
                && let Work::Keep(decided) = std::mem::replace(work, Work::Confirm)
            {
                *work = self.extend_alone(session, pipeline, decided).await?;
            }
            return Ok(());
        };
        outcome.coverage = 1.0;
        self.observer.observe(&pipeline.name, &Event::Entered(Stage::Copy));
        let copying = Instant::now();
        let net = if changes.only_added() {
            None
        } else {
            let most = most_changes(decided.live()?).min(self.run_budget() / BYTES_PER_DIFFERENCE);
            let Some(compared) = self.compare_changes(pipeline, changes, &decided.mapping, most).await? else {
                self.control.note_given_up(&**session, member.held.run, changes.size().bytes).await?;
                return Err(Error::new(Code::NotIncremental, format!("more than {most} rows differ")));
            };
            outcome.rows.read = compared.rows_read;
            outcome.rows.unchanged = compared.net.unchanged;
            outcome.bytes_read = compared.bytes_read;
            Some(compared.net)
        };
        if net.as_ref().is_some_and(|net| net.gone.is_empty() && net.come.is_empty()) && !decided.extends() {
            outcome.seconds.copy = copying.elapsed().as_secs_f64();
            return Ok(());
        }
        let (gone, come) = net.map_or((None, None), |net| (Some(net.gone), Some(net.come)));
        let staged = Box::pin(self.stage(session, member, decided, changes, gone, come)).await;
        let staged = of_one_state(&decided.source, staged).await?;
        if outcome.rows.read == 0 {
            outcome.rows.read = staged.coming.rows_read;
        }
        outcome.bytes_read += staged.coming.bytes_read;
        outcome.bytes_copied = staged.coming.bytes_copied;
        outcome.seconds.copy = copying.elapsed().as_secs_f64();
        if let Work::Keep(decided) = std::mem::replace(work, Work::Confirm) {
            *work = Work::Merge(decided, Box::new(staged));
        }
        Ok(())
    }

    /// The part of the publish transaction of a member without a row to change.
    pub(super) async fn keep(
        &self,
        transaction: &Transaction<'_>,
        member: Member<'_>,
        decided: &Decided,
        outcome: &mut RunOutcome,
    ) -> Result<()> {
        let Member { pipeline, held, .. } = member;
        let (name, live, source) = (&pipeline.name, decided.live()?, &decided.source);
        let published = self.control.published(transaction, name).await?;
        outcome.publish_no = published.map(|published| published.publish_no);
        self.control.note_same_rows(transaction, name, live.generation, source.version(), source.record()).await?;
        if self.control.policy_differs(transaction, name, &pipeline.serve).await? {
            let publish = PublishRow {
                name,
                generation: live.generation,
                source_version: &source.version().version,
                schema: decided.schema(),
                policy: &pipeline.serve,
                checked_by: Some(held.run),
            };
            outcome.publish_no = Some(self.control.record_publish(transaction, &publish).await?);
        }
        outcome.mode = RunMode::Noop;
        outcome.reason.clone_from(&decided.plan.reason);
        if decided.changes.is_some() {
            outcome.reason.push_str("; no row differs");
        }
        outcome.checksum.clone_from(&live.checksum);
        Ok(())
    }

    /// Copies the rows that come, and the keys of those that go, into the staging tables. Without lists of places, all
    /// rows come.
    async fn stage(
        &self,
        session: &mut Session,
        member: Member<'_>,
        decided: &Decided,
        changes: &Arc<Changed>,
        gone: Option<Vec<RowPlace>>,
        come: Option<Vec<RowPlace>>,
    ) -> Result<Staged> {
        let Member { pipeline, held, .. } = member;
        let (live, schema) = (decided.live()?, decided.schema());
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
