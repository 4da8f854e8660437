//! Refreshing in place: only the rows that differ reach Postgres, and one transaction brings them to the readers.
//!
//! ```text
//! changed rows → touched (equal rows cancel out) → stage (rows that come, keys that go) → apply → publish
//! ```
//!
//! Whatever does not fit what the source's history says, the number of rows and their hashes before and after, ends the
//! merge without a trace; where the pipeline allows, a snapshot follows in the same run.

mod apply;
mod compare;
mod extend;
mod net;
mod stage;
mod touched;

use std::time::Instant;

use tokio_postgres::Transaction;

use crate::domain::{Code, Error, Result, RunMode, RunOutcome};
use crate::observe::{Event, Stage};
use crate::postgres::Session;
use crate::store::{LoadedGeneration, PublishRow};

use super::Engine;
use super::copy::Copied;
use super::plan::Decided;
use super::reading::of_one_state;
use super::run::{Member, Prepared, Work};

/// The largest share of a table's rows, one in so many, that is changed in place, once it is known which they are: beyond
/// it, loading anew costs less, as measured (docs/refresh.md).
const SHARE_MAX: u64 = 10;
/// Fewer rows than that are always changed in place.
const ALWAYS_UP_TO: u64 = 1_000;
/// Bytes of the budget for each row that differs: its place, while the places of all are put together.
const BYTES_PER_DIFFERENCE: u64 = 32;

/// What has been staged.
pub(super) struct Staged {
    /// Rows that come.
    pub(super) coming: Copied,
    /// How many keys go.
    pub(super) going: u64,
    /// The sum of the hashes of the rows that go, as the source had them, where they were read whole.
    pub(super) going_sum: Option<i128>,
}

impl Staged {
    fn is_empty(&self) -> bool {
        self.going == 0 && self.coming.rows_stored == 0
    }
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
        let most = most_changes(decided.live()?).min(self.run_budget() / BYTES_PER_DIFFERENCE);
        let Some(touched) = self.touched(pipeline, changes, &decided.mapping, most).await? else {
            self.control.note_given_up(&**session, member.held.run, changes.size().bytes).await?;
            return Err(Error::new(Code::NotIncremental, format!("more than {most} rows differ")));
        };
        outcome.rows.unchanged = touched.unchanged;
        let mut staged = None;
        if !touched.is_none() || decided.extends() {
            let read = Box::pin(self.stage(session, member, decided, changes, &touched)).await;
            staged = Some(of_one_state(&decided.source, read).await?);
        }
        outcome.rows.read = touched.rows_read;
        outcome.bytes_read = touched.bytes_read;
        if let Some((staged, done)) = &staged {
            // Rows that were compared have been counted.
            if touched.rows_read == 0 {
                outcome.rows.read = done.rows_read;
            }
            outcome.bytes_read += done.bytes_read;
            outcome.bytes_copied = staged.coming.bytes_copied;
            outcome.rows.unchanged += done.unchanged;
        }
        outcome.seconds.copy = copying.elapsed().as_secs_f64();
        // Nothing is left to be written where all that was staged is there already.
        if let Some((staged, _)) = staged.filter(|(staged, _)| !staged.is_empty() || decided.extends())
            && let Work::Keep(decided) = std::mem::replace(work, Work::Confirm)
        {
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
