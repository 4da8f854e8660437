//! A merge's part of the publish transaction: rows, watermark, run record and publish number move together.

use tokio_postgres::Transaction;
use tokio_postgres::error::SqlState;

use crate::destination::{Merged, MergedLatest};
use crate::domain::{Code, Error, OnBadRow, Result, RunOutcome};
use crate::encode::hash_sql;
use crate::postgres::{Session, quote, sqlstate};
use crate::store::{MergedRow, PublishRow};

use super::super::Engine;
use super::super::load::refuse_empty;
use super::super::plan::Decided;
use super::super::run::Member;
use super::Staged;

/// The most changed keys that a publish lists for the caches of servers.
const KEYS_LISTED: i64 = 10_000;

impl Engine {
    /// The part of the publish transaction of a member whose rows change: applies what is staged, and writes it down.
    ///
    /// # Errors
    /// [`Code::NotIncremental`], [`Code::CountMismatch`] and [`Code::ChecksumMismatch`] where what is staged does not fit
    /// the table; [`Code::CheckFailed`] and [`Code::CheckInvalid`]; those of the server: see [`Engine::name_clashing_keys`].
    pub(in crate::engine) async fn apply(
        &self,
        transaction: &mut Transaction<'_>,
        member: Member<'_>,
        decided: &Decided,
        staged: &Staged,
        outcome: &mut RunOutcome,
    ) -> Result<()> {
        let Member { pipeline, held, .. } = member;
        let (name, schema, live) = (&pipeline.name, decided.schema(), decided.live()?);
        let generation = live.generation;
        let row_hash = hash_sql(schema, quote);
        fail::fail_point!(crate::failpoint::BEFORE_MERGE);
        let latest_by = pipeline.on_duplicate_key.latest_by();
        let merged = match latest_by {
            None => {
                let going = staged.going > 0;
                let merged = self.destination.merge(&*transaction, name, generation, schema, &row_hash, going).await?;
                check(name.as_str(), staged, &merged)?;
                merged
            }
            Some(column) => {
                let latest =
                    self.destination.merge_latest(&*transaction, name, generation, schema, &row_hash, column).await?;
                check_latest(name.as_str(), staged, &latest)?;
                outcome.rows.deduplicated = latest.left_out;
                latest.merged
            }
        };
        let rows_after = live.rows + merged.inserted.rows as i64 - merged.deleted as i64;
        refuse_empty(pipeline, decided, rows_after.unsigned_abs())?;
        // What is bad, older than others of its key, or left out by a transform is in the source alone.
        let all_come = pipeline.on_bad_row == OnBadRow::Fail && pipeline.transform.is_none() && latest_by.is_none();
        let rows_there = decided.source.size().rows.filter(|_| all_come);
        if let Some(rows) = rows_there.filter(|rows| i64::try_from(*rows) != Ok(rows_after)) {
            let detail = format!("`{name}` would have {rows_after} rows, the source has {rows}");
            return Err(Error::new(Code::NotIncremental, detail));
        }
        let checks = self.check_merge(transaction, member, decided, rows_after, outcome).await?;
        let touched = self.destination.touched_keys(&*transaction, generation, schema, KEYS_LISTED).await?;
        self.destination.empty_staging(&*transaction, generation).await?;
        // The sum of a load is over all rows that were read, older ones of a key among them.
        let before = live.checksum.as_deref().filter(|_| latest_by.is_none());
        let checksum = running_sum(before, &merged);
        let row = MergedRow {
            generation,
            source: decided.source.version(),
            schema,
            record: decided.source.record(),
            rows: rows_after,
            checksum: checksum.as_deref(),
            checks: checks.as_deref(),
        };
        self.control.record_merge(&*transaction, &row).await?;
        fail::fail_point!(crate::failpoint::AFTER_MERGE);
        let publish = PublishRow {
            name,
            generation,
            source_version: &decided.plan.source_version,
            schema,
            policy: &pipeline.serve,
            checked_by: Some(held.run),
        };
        let publish_no = self.control.record_publish(&*transaction, &publish).await?;
        self.control.record_changed_keys(&*transaction, name, publish_no, touched.as_deref()).await?;
        outcome.publish_no = Some(publish_no);
        outcome.rows.inserted = merged.inserted.rows;
        outcome.rows.updated = merged.updated.rows;
        outcome.rows.deleted = merged.deleted;
        outcome.checksum = checksum;
        Ok(())
    }

    /// What a person needs to know of an error of [`Engine::apply`]: which keys clash, where that is what it says.
    pub(in crate::engine) async fn name_clashing_keys(
        &self,
        session: &Session,
        member: Member<'_>,
        decided: &Decided,
        error: Error,
    ) -> Error {
        if sqlstate(&error) != Some(&SqlState::UNIQUE_VIOLATION) {
            return error;
        }
        let name = &member.pipeline.name;
        let schema = decided.schema();
        let keys = match decided.live() {
            Ok(live) => self.destination.clashing_keys(&**session, name, live.generation, schema).await,
            Err(error) => Err(error),
        };
        let keys = match keys {
            Ok(keys) => keys,
            Err(error) => return error,
        };
        let columns: Vec<&str> = schema.key_columns().map(|column| column.name.as_str()).collect();
        let columns = columns.join(", ");
        let detail = format!("new rows of `{name}` have the ({columns}) of other rows: {}", keys.join("; "));
        Error::new(Code::DuplicateKey, detail).hint(
            "choose a key that is unique or mend the source; if somebody wrote to the generation, \
             `lakegate sync --full` loads it anew",
        )
    }
}

/// What was touched must be what was planned: every key that goes was there, every row that comes was written once, as
/// the source has it.
fn check(name: &str, staged: &Staged, merged: &Merged) -> Result<()> {
    let (going, coming) = (staged.going, staged.coming.rows_stored);
    let replaced = merged.gone.rows.saturating_sub(merged.deleted);
    let written = merged.updated.rows + merged.inserted.rows;
    if merged.gone.rows != going || merged.updated.rows != replaced || written != coming {
        return Err(Error::new(
            Code::CountMismatch,
            format!(
                "`{name}`: {going} rows were to go and {coming} to come; {} were there, {} were deleted, {} replaced, {} added",
                merged.gone.rows, merged.deleted, merged.updated.rows, merged.inserted.rows
            ),
        )
        .hint("the published table is not what the source's history says; `lakegate sync --full` loads it anew"));
    }
    if staged.going_sum.is_some_and(|sum| sum != merged.gone.sum) {
        return Err(Error::new(
            Code::NotIncremental,
            format!("the {going} rows of `{name}` that were to go are not as the source had them"),
        ));
    }
    check_sum(name, staged, merged.updated.sum + merged.inserted.sum)
}

/// What was staged must be what the source has, and what was left of it must have been written.
fn check_latest(name: &str, staged: &Staged, latest: &MergedLatest) -> Result<()> {
    let MergedLatest { merged: Merged { gone, updated, inserted, .. }, left, .. } = latest;
    let written = (updated.rows + inserted.rows, updated.sum + inserted.sum);
    if latest.staged.rows != staged.coming.rows_stored || written != (left.rows, left.sum) || gone.rows != updated.rows
    {
        return Err(Error::new(
            Code::CountMismatch,
            format!(
                "`{name}`: {} of {} rows were to come, {} to be replaced; {} were replaced, {} added",
                left.rows, latest.staged.rows, gone.rows, updated.rows, inserted.rows
            ),
        )
        .hint("the published table is not what the source's history says; `lakegate sync --full` loads it anew"));
    }
    check_sum(name, staged, latest.staged.sum)
}

fn check_sum(name: &str, staged: &Staged, sum: i128) -> Result<()> {
    if sum == staged.coming.checksum.sum {
        return Ok(());
    }
    let (rows, expected) = (staged.coming.rows_stored, staged.coming.checksum.sum);
    Err(Error::new(
        Code::ChecksumMismatch,
        format!("the {rows} rows that came to `{name}` hash to {sum} in Postgres, to {expected} in the source"),
    )
    .hint("nothing was published; please report this with the table's column types (`lakegate plan`)"))
}

/// The sum of the hashes of all rows after a merge, where it was known before.
fn running_sum(before: Option<&str>, merged: &Merged) -> Option<String> {
    let before: i128 = before?.parse().ok()?;
    Some((before - merged.gone.sum + merged.updated.sum + merged.inserted.sum).to_string())
}
