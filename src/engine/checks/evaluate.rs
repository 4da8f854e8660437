//! Asking every check, and what is said of those that fail.

use tokio_postgres::Transaction;

use crate::destination::{BrokenRow, RowRule};
use crate::domain::{Column, Generation, Pipeline, Result, RowCountCheck, TableName, TableSchema};

use super::super::Engine;
use super::{
    ACCEPTED, Candidate, Findings, NOT_NULL, UNIQUE, accepted_label, bound, column, column_names, fault, sql_label,
};

impl Engine {
    /// Asks every check.
    pub(super) async fn evaluate(
        &self,
        transaction: &mut Transaction<'_>,
        candidate: &Candidate<'_>,
    ) -> Result<Findings> {
        let checks = &candidate.pipeline.checks;
        let mut findings = Findings {
            failed: count_failures(&checks.row_count, candidate.rows, candidate.rows_before),
            invalid: Vec::new(),
        };
        self.evaluate_rows(transaction, candidate, &mut findings).await?;
        self.evaluate_unique(transaction, candidate, &mut findings).await?;
        // Queries of a group are asked when all of it is there.
        if candidate.pipeline.group.is_none() {
            let Candidate { pipeline, schema, generation, .. } = *candidate;
            let itself = [(&pipeline.name, schema, generation)];
            self.evaluate_sql(transaction, pipeline, &itself, &mut findings).await?;
        }
        Ok(findings)
    }

    async fn evaluate_rows(
        &self,
        transaction: &mut Transaction<'_>,
        candidate: &Candidate<'_>,
        findings: &mut Findings,
    ) -> Result<()> {
        let table = candidate.table();
        let rules = self.row_rules(transaction, candidate, findings).await?;
        if rules.is_empty() {
            return Ok(());
        }
        let counts = match self.destination.broken_rows(transaction, &table, &rules).await {
            Ok(counts) => counts,
            Err(error) => {
                // They are asked together, so that none alone can be at fault.
                findings.invalid.push(fault(&format!("{NOT_NULL} and {ACCEPTED}"), error)?);
                return Ok(());
            }
        };
        for (rule, count) in rules.iter().zip(counts).filter(|(_, count)| *count > 0) {
            let shown = match self.destination.some_broken_rows(transaction, &table, rule).await {
                Ok(rows) => rows.iter().map(|row| broken_row(rule, row)).collect::<Vec<_>>().join(", "),
                Err(error) => fault("which ones cannot be told", error)?,
            };
            let what = match rule {
                RowRule::NotNull(column) => format!("{NOT_NULL}: `{}` is null", column.name),
                RowRule::Accepted(column, _) => format!("{}: another value", accepted_label(&column.name)),
            };
            let (rows, key) = (counted(count, "row"), column_names(candidate.schema.key_columns()));
            findings.failed.push(format!("{what} in {rows}, by ({key}): {shown}"));
        }
        Ok(())
    }

    /// The checks that each row passes by itself, without those that cannot be asked.
    async fn row_rules<'a>(
        &self,
        transaction: &mut Transaction<'_>,
        candidate: &Candidate<'a>,
        findings: &mut Findings,
    ) -> Result<Vec<RowRule<'a>>> {
        let (schema, checks) = (candidate.schema, &candidate.pipeline.checks);
        let mut rules = Vec::new();
        for name in &checks.not_null {
            match column(schema, NOT_NULL, name) {
                // The table itself refuses nulls in the others.
                Ok(column) if column.nullable => rules.push(RowRule::NotNull(column)),
                Ok(_) => {}
                Err(unknown) => findings.invalid.push(unknown),
            }
        }
        for (name, values) in &checks.accepted_values {
            let column = match column(schema, ACCEPTED, name) {
                Ok(column) => column,
                Err(unknown) => {
                    findings.invalid.push(unknown);
                    continue;
                }
            };
            let bound = candidate.table().bound;
            match self.destination.try_values(transaction, bound, column, values).await {
                Ok(()) => rules.push(RowRule::Accepted(column, values)),
                Err(error) => findings.invalid.push(fault(&accepted_label(name), error)?),
            }
        }
        Ok(rules)
    }

    async fn evaluate_unique(
        &self,
        transaction: &mut Transaction<'_>,
        candidate: &Candidate<'_>,
        findings: &mut Findings,
    ) -> Result<()> {
        let schema = candidate.schema;
        for names in &candidate.pipeline.checks.unique {
            let found: Result<Vec<&Column>, String> = names.iter().map(|name| column(schema, UNIQUE, name)).collect();
            let columns = match found {
                Ok(columns) => columns,
                Err(fault) => {
                    findings.invalid.push(fault);
                    continue;
                }
            };
            // No two rows share the key, nor anything that the key is a part of.
            if schema.key_columns().all(|key| names.contains(&key.name)) {
                continue;
            }
            let label = format!("{UNIQUE}: ({})", column_names(columns.iter().copied()));
            match self.destination.shared_values(transaction, &candidate.table(), &columns).await {
                Ok(shared) if shared.total > 0 => {
                    let shown =
                        shared.shown.iter().map(|(value, rows)| format!("({value}) in {}", counted(*rows, "row")));
                    let shown = shown.collect::<Vec<_>>().join(", ");
                    let values = counted(shared.total, "value");
                    findings.failed.push(format!("{label} has {values} that several rows share: {shown}"));
                }
                Ok(_) => {}
                Err(error) => findings.invalid.push(fault(&label, error)?),
            }
        }
        Ok(())
    }

    /// Asks the queries of a pipeline. `generations` are those that are not published yet.
    pub(super) async fn evaluate_sql(
        &self,
        transaction: &mut Transaction<'_>,
        pipeline: &Pipeline,
        generations: &[(&TableName, &TableSchema, Generation)],
        findings: &mut Findings,
    ) -> Result<()> {
        for (number, check) in (1..).zip(&pipeline.checks.sql) {
            let label = sql_label(check.name.as_deref(), number);
            match self.destination.returned_rows(transaction, bound(pipeline), generations, &check.query).await {
                Ok(returned) if !returned.shown.is_empty() => {
                    let rows = counted(returned.shown.len() as u64, "row");
                    let rows = if returned.more { format!("more than {rows}, first") } else { rows };
                    let shown: Vec<String> = returned.shown.iter().map(|row| format!("({row})")).collect();
                    findings.failed.push(format!("{label}: returned {rows}: {}", shown.join(", ")));
                }
                Ok(_) => {}
                Err(error) => findings.invalid.push(fault(&label, error)?),
            }
        }
        Ok(())
    }
}

/// The bounds that this number of rows breaks.
fn count_failures(bounds: &RowCountCheck, rows: u64, before: Option<u64>) -> Vec<String> {
    let mut failed = Vec::new();
    if let Some(min) = bounds.min.filter(|min| rows < *min) {
        failed.push(format!("row_count.min: {}, at least {min} wanted", counted(rows, "row")));
    }
    if let Some(max) = bounds.max.filter(|max| rows > *max) {
        failed.push(format!("row_count.max: {}, at most {max} wanted", counted(rows, "row")));
    }
    // From nothing, every change is beyond any share.
    if let (Some(most), Some(before)) = (bounds.max_change_percent, before.filter(|before| *before > 0)) {
        let change = rows.abs_diff(before) as f64 * 100.0;
        if change > most * before as f64 {
            failed.push(format!(
                "row_count.max_change_percent: {} instead of {before}, a change of {:.2} %, at most {most} % wanted",
                counted(rows, "row"),
                change / before as f64
            ));
        }
    }
    failed
}

/// A row that breaks a rule, by its key.
fn broken_row(rule: &RowRule<'_>, row: &BrokenRow) -> String {
    match rule {
        RowRule::NotNull(_) => format!("({})", row.key),
        RowRule::Accepted(..) => format!("({}) is {:?}", row.key, row.value.as_deref().unwrap_or_default()),
    }
}

fn counted(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_on_the_number_of_rows_are_inclusive() {
        let bounds = RowCountCheck { min: Some(10), max: Some(20), max_change_percent: None };
        let fails = |rows| count_failures(&bounds, rows, Some(1)).len();
        assert_eq!([9, 10, 20, 21].map(fails), [1, 0, 0, 1]);
        assert_eq!(count_failures(&bounds, 9, None), ["row_count.min: 9 rows, at least 10 wanted"]);
    }

    #[test]
    fn a_change_counts_up_and_down_and_not_from_nothing() {
        let bounds = RowCountCheck { max_change_percent: Some(12.5), ..RowCountCheck::default() };
        let fails = |rows, before| !count_failures(&bounds, rows, before).is_empty();
        assert_eq!([6, 7, 8, 9, 10].map(|rows| fails(rows, Some(8))), [true, false, false, false, true]);
        assert!(!fails(1_000, None) && !fails(1_000, Some(0)));
        assert!(fails(0, Some(1_000)));
        let none = RowCountCheck { max_change_percent: Some(0.0), ..RowCountCheck::default() };
        assert_eq!(
            count_failures(&none, 1, Some(3)),
            ["row_count.max_change_percent: 1 row instead of 3, a change of 66.67 %, at most 0 % wanted"]
        );
        assert!(count_failures(&none, 3, Some(3)).is_empty());
    }
}
