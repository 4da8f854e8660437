//! The checks of a pipeline: what must hold of a new state before it is published.
//!
//! A load is checked as a whole. A refresh in place is checked within its transaction, and only as far as its changes can
//! have broken anything: rows that stay have passed the same checks before, which is noted with each generation.

mod evaluate;

use std::time::Duration;

use serde_json::json;
use tokio_postgres::Transaction;

use crate::destination::{CheckedRows, CheckedTable};
use crate::domain::{Checks, Code, Column, Error, Generation, Pipeline, Result, RunOutcome, TableSchema};
use crate::observe::{Event, Stage};
use crate::postgres::{Doing, Session, sqlstate};

use super::Engine;
use super::plan::Decided;
use super::run::{Member, Prepared, Stopped, Work};

/// The share of a run's `timeout` that one statement of a check may take: one part in so many.
const SHARE_OF_TIMEOUT: u32 = 10;

/// What the checks say of a state, a line for each that says anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Findings {
    /// Checks that the state fails.
    failed: Vec<String>,
    /// Checks of which nothing can be said, and why.
    invalid: Vec<String>,
}

impl Findings {
    /// Whether all checks hold.
    fn nothing(&self) -> bool {
        self.failed.is_empty() && self.invalid.is_empty()
    }
}

/// The longest that one statement of a check may take.
fn bound(pipeline: &Pipeline) -> Duration {
    pipeline.timeout / SHARE_OF_TIMEOUT
}

/// A state before it is published.
struct Candidate<'a> {
    pipeline: &'a Pipeline,
    schema: &'a TableSchema,
    generation: Generation,
    looked_at: CheckedRows,
    rows: u64,
    /// The rows that are published now.
    rows_before: Option<u64>,
}

impl<'a> Candidate<'a> {
    fn table(&self) -> CheckedTable<'a> {
        CheckedTable {
            name: &self.pipeline.name,
            generation: self.generation,
            schema: self.schema,
            rows: self.looked_at,
            bound: bound(self.pipeline),
        }
    }
}

impl Engine {
    /// Looks for checks that do not fit the columns to be published, before anything is loaded. Returns what a person
    /// should know of the others.
    ///
    /// # Errors
    /// [`Code::CheckInvalid`].
    pub(super) async fn try_checks(
        &self,
        session: &mut Session,
        pipeline: &Pipeline,
        schema: &TableSchema,
    ) -> Result<Vec<String>> {
        let checks = &pipeline.checks;
        let mut invalid: Vec<String> =
            columns_named(checks).filter_map(|(check, name)| column(schema, check, name).err()).collect();
        invalid.dedup();
        let mut warnings = Vec::new();
        let hint = |error: Error| error.hint(format!("the columns are: {}", column_names(schema.columns.iter())));
        if checks.accepted_values.is_empty() && checks.sql.is_empty() {
            return refuse_invalid(pipeline, invalid).map_err(hint).map(|()| warnings);
        }
        let bound = bound(pipeline);
        let mut transaction = session.transaction().await.doing("try the checks")?;
        for (name, values) in &checks.accepted_values {
            let Some(column) = schema.columns.iter().find(|column| column.name == *name) else { continue };
            let tried = self.destination.try_values(&mut transaction, bound, column, values).await;
            if let Err(error) = tried {
                invalid.push(fault(&accepted_label(name), error)?);
            }
        }
        for (number, check) in (1..).zip(&checks.sql) {
            let query = check.query.as_str();
            let label = sql_label(check.name.as_deref(), number);
            match self.destination.try_query(&mut transaction, bound, &pipeline.name, schema, query).await {
                Ok(()) => {}
                Err(error) if names_a_missing_table(&error) => {
                    warnings
                        .push(format!("`checks`: {}; it must be there by the end of the load", fault(&label, error)?));
                }
                Err(error) => invalid.push(fault(&label, error)?),
            }
        }
        transaction.rollback().await.doing("try the checks")?;
        refuse_invalid(pipeline, invalid).map_err(hint).map(|()| warnings)
    }

    /// Checks a loaded generation. Returns the checks that all its rows have passed, to be noted with it.
    ///
    /// # Errors
    /// [`Code::CheckFailed`], [`Code::CheckInvalid`], unless the request says to ignore the checks.
    pub(super) async fn check_load(
        &self,
        session: &mut Session,
        member: Member<'_>,
        decided: &Decided,
        generation: Generation,
        outcome: &mut RunOutcome,
    ) -> Result<Option<String>> {
        let pipeline = member.pipeline;
        let candidate = Candidate {
            pipeline,
            schema: decided.schema(),
            generation,
            looked_at: CheckedRows::All,
            rows: outcome.rows.inserted,
            rows_before: decided.live.as_ref().map(|live| live.rows.unsigned_abs()),
        };
        let findings = if pipeline.checks.is_empty() {
            Findings::default()
        } else {
            self.observer.observe(&pipeline.name, &Event::Entered(Stage::Verify));
            let mut transaction = session.transaction().await.doing("check the load")?;
            let findings = self.evaluate(&mut transaction, &candidate).await?;
            transaction.rollback().await.doing("check the load")?;
            findings
        };
        let passed = findings.nothing().then(|| passed(&pipeline.checks));
        self.judge(member, findings, outcome).map(|()| passed)
    }

    /// Checks the rows that the transaction of a merge has written, before the staging tables are emptied. Otherwise as
    /// [`Self::check_load`].
    pub(super) async fn check_merge(
        &self,
        transaction: &mut Transaction<'_>,
        member: Member<'_>,
        decided: &Decided,
        rows_after: i64,
        outcome: &mut RunOutcome,
    ) -> Result<Option<String>> {
        let (pipeline, live) = (member.pipeline, decided.live()?);
        let passed_before = live.checks.as_deref() == Some(passed(&pipeline.checks).as_str());
        let candidate = Candidate {
            pipeline,
            schema: decided.schema(),
            generation: live.generation,
            looked_at: if passed_before { CheckedRows::Coming } else { CheckedRows::All },
            rows: rows_after.unsigned_abs(),
            rows_before: Some(live.rows.unsigned_abs()),
        };
        let findings = if pipeline.checks.is_empty() {
            Findings::default()
        } else {
            self.evaluate(transaction, &candidate).await?
        };
        let passed = findings.nothing().then(|| passed(&pipeline.checks));
        self.judge(member, findings, outcome).map(|()| passed)
    }

    /// Asks the queries of a group, within its publish and after all members have done their part: each sees the new
    /// state of all. Also those of members that stay as they are, since what others do may break them.
    pub(super) async fn check_group(
        &self,
        transaction: &mut Transaction<'_>,
        members: &[Member<'_>],
        prepared: &mut [Prepared],
    ) -> Result<(), Stopped> {
        if !prepared.iter().any(|prepared| prepared.work.is_seen()) {
            return Ok(());
        }
        // Views that are not repointed yet show the state before; rows that were changed in place show through them.
        let loaded = |(member, prepared): (&Member<'_>, &Prepared)| match &prepared.work {
            Work::Publish(publication) => {
                Some((member.pipeline.name.clone(), publication.schema.clone(), publication.generation))
            }
            _ => None,
        };
        let loaded: Vec<_> = members.iter().zip(prepared.iter()).filter_map(loaded).collect();
        let generations: Vec<_> = loaded.iter().map(|(name, schema, generation)| (name, schema, *generation)).collect();
        for (at, (member, prepared)) in members.iter().zip(prepared).enumerate() {
            // A rollback to a kept generation brings back what was checked when it was loaded.
            if member.pipeline.group.is_none()
                || member.pipeline.checks.sql.is_empty()
                || member.request.republish.is_some()
            {
                continue;
            }
            let mut findings = Findings::default();
            let asked = self.evaluate_sql(transaction, member.pipeline, &generations, &mut findings).await;
            asked.map_err(Stopped::of(at))?;
            let overridden = !findings.nothing() && member.request.ignore_checks;
            self.judge(*member, findings, &mut prepared.outcome).map_err(Stopped::of(at))?;
            if overridden {
                self.control.finish_run(&*transaction, &prepared.outcome).await.map_err(Stopped::of(at))?;
            }
        }
        Ok(())
    }

    /// Lets a state pass, or not, and writes down what was overridden.
    fn judge(&self, member: Member<'_>, findings: Findings, outcome: &mut RunOutcome) -> Result<()> {
        let Findings { failed, invalid } = findings;
        let name = &member.pipeline.name;
        if member.request.ignore_checks {
            let overridden = outcome.checks_overridden.get_or_insert_default();
            for line in failed.into_iter().chain(invalid) {
                // A publish that is tried again asks again.
                if !overridden.contains(&line) {
                    self.observer.observe(name, &Event::Warning(&format!("check overridden: {line}")));
                    overridden.push(line);
                }
            }
            return Ok(());
        }
        if failed.is_empty() {
            return refuse_invalid(member.pipeline, invalid);
        }
        let version = outcome.source_version.as_deref().unwrap_or("?");
        let found = failed.into_iter().chain(invalid).collect::<Vec<_>>().join("; ");
        Err(Error::new(Code::CheckFailed, format!("`{name}` at version {version} of its source: {found}")).hint(format!(
            "what was published before is untouched; mend the source or change `checks`, or publish this state all the \
             same, once: lakegate sync {name} --ignore-checks"
        )))
    }
}

const NOT_NULL: &str = "not_null";
const UNIQUE: &str = "unique";
const ACCEPTED: &str = "accepted_values";

/// A canonical text of the checks that each row passes by itself or beside the others. What is said of the number of rows
/// or of the whole table is asked anew each time.
fn passed(checks: &Checks) -> String {
    let Checks { not_null, unique, accepted_values, row_count: _, sql: _ } = checks;
    json!({ NOT_NULL: not_null, UNIQUE: unique, ACCEPTED: accepted_values }).to_string()
}

/// The columns that checks name, each with its check.
fn columns_named(checks: &Checks) -> impl Iterator<Item = (&'static str, &str)> {
    let not_null = checks.not_null.iter().map(|column| (NOT_NULL, column));
    let unique = checks.unique.iter().flatten().map(|column| (UNIQUE, column));
    let accepted = checks.accepted_values.keys().map(|column| (ACCEPTED, column));
    not_null.chain(unique).chain(accepted).map(|(check, column)| (check, column.as_str()))
}

/// The column of this published name, or what is to be said where there is none.
fn column<'a>(schema: &'a TableSchema, check: &str, name: &str) -> Result<&'a Column, String> {
    schema
        .columns
        .iter()
        .find(|column| column.name == name)
        .ok_or_else(|| format!("{check} names the column `{name}`, which is not published"))
}

/// What is wrong with a check; an error that is not about the check stays one.
fn fault(check: &str, error: Error) -> Result<String> {
    if error.code() == Code::CheckInvalid { Ok(format!("{check}: {}", error.detail())) } else { Err(error) }
}

/// Whether a statement names a table or a schema that does not exist, or not yet.
fn names_a_missing_table(error: &Error) -> bool {
    use tokio_postgres::error::SqlState;
    [&SqlState::UNDEFINED_TABLE, &SqlState::INVALID_SCHEMA_NAME].into_iter().any(|state| sqlstate(error) == Some(state))
}

fn refuse_invalid(pipeline: &Pipeline, invalid: Vec<String>) -> Result<()> {
    if invalid.is_empty() {
        return Ok(());
    }
    Err(Error::new(Code::CheckInvalid, format!("`checks` of `{}`: {}", pipeline.name, invalid.join("; ")))
        .hint("mend `checks` in the pipeline, or what its queries read; `lakegate plan` tries them"))
}

fn accepted_label(column: &str) -> String {
    format!("{ACCEPTED}: `{column}`")
}

/// What a check by SQL is called: its name, or its number in the list.
fn sql_label(name: Option<&str>, number: usize) -> String {
    match name {
        Some(name) => format!("sql: `{name}`"),
        None => format!("sql: query {number}"),
    }
}

fn column_names<'a>(columns: impl Iterator<Item = &'a Column>) -> String {
    columns.map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::RowCountCheck;

    #[test]
    fn what_rows_have_passed_is_told_apart_by_what_single_rows_pass() {
        let counted = Checks { row_count: RowCountCheck { min: Some(1), ..Default::default() }, ..Checks::default() };
        assert_eq!(passed(&counted), passed(&Checks::default()));
        let null = Checks { not_null: vec!["a".to_owned()], ..Checks::default() };
        assert_ne!(passed(&null), passed(&Checks::default()));
    }
}
