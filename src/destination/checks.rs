//! Looking at rows before they are published.
//!
//! Every statement runs in a savepoint that is rolled back whatever comes of it: it can only read, for a bounded time, as
//! the role that owns the project's schemas where the login is another one. What the server refuses there is the fault of
//! the check ([`Code::CheckInvalid`]), not of the run.

use std::ops::Range;
use std::time::Duration;

use tokio_postgres::error::ErrorPosition;
use tokio_postgres::{Row, Transaction};

use crate::domain::{
    Code, Column, ColumnType, Error, Generation, Result, ScalarType, TableName, TableSchema, spell_duration,
};
use crate::postgres::{Doing, OneTrip, explain, quote, quote_literal};

use super::{Destination, column_list};

/// How many rows, or values, are shown of those that fail a check.
const SHOWN: usize = 5;
/// The most characters that are shown of a value.
const SHOWN_CHARACTERS: usize = 100;
/// Of a statement in which nothing is the user's own text.
const OURS: Range<usize> = 0..0;
/// The name of a query's rows within the statement that makes text of them; no column is likely to have it.
const QUERY_ROWS: &str = "row of a check";

/// Which rows of a generation are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckedRows {
    /// All.
    All,
    /// Those that a merge has written, which are still staged.
    Coming,
}

/// A generation that is not published yet, or not as it stands now.
#[derive(Debug, Clone, Copy)]
pub struct CheckedTable<'a> {
    /// The published name.
    pub name: &'a TableName,
    /// The generation.
    pub generation: Generation,
    /// Its columns.
    pub schema: &'a TableSchema,
    /// Which rows conditions on single rows, and on values shared with other rows, are asked of.
    pub rows: CheckedRows,
    /// The longest a statement may take.
    pub bound: Duration,
}

/// What must hold of every row by itself.
#[derive(Debug, Clone, Copy)]
pub enum RowRule<'a> {
    /// The column is not null.
    NotNull(&'a Column),
    /// The column is null or one of these values.
    Accepted(&'a Column, &'a [String]),
}

impl<'a> RowRule<'a> {
    /// The column that it is about.
    #[must_use]
    pub fn column(&self) -> &'a Column {
        match self {
            RowRule::NotNull(column) | RowRule::Accepted(column, _) => column,
        }
    }

    /// That a row of the table `t` breaks it.
    fn broken(&self) -> String {
        match self {
            RowRule::NotNull(column) => format!("t.{} IS NULL", quote(&column.name)),
            // Null is neither in the list nor not in it.
            RowRule::Accepted(column, values) => {
                format!("t.{} NOT IN ({})", quote(&column.name), typed_values(column, values))
            }
        }
    }
}

/// A row that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenRow {
    /// Its key, as text.
    pub key: String,
    /// The value of the rule's column, as text.
    pub value: Option<String>,
}

/// Values that several rows have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SharedValues {
    /// How many.
    pub total: u64,
    /// Some of them, as text, each with the number of its rows.
    pub shown: Vec<(String, u64)>,
}

/// Rows that a query returned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReturnedRows {
    /// The first of them, as text.
    pub shown: Vec<String>,
    /// Whether there are more.
    pub more: bool,
}

impl Destination {
    /// How many rows break each of the rules, found in one pass over the rows.
    ///
    /// # Errors
    /// [`Code::CheckInvalid`] as of all statements here; others where the server or the connection fails.
    pub async fn broken_rows(
        &self,
        transaction: &mut Transaction<'_>,
        table: &CheckedTable<'_>,
        rules: &[RowRule<'_>],
    ) -> Result<Vec<u64>> {
        let counts: Vec<String> =
            rules.iter().map(|rule| format!("count(*) FILTER (WHERE {})", rule.broken())).collect();
        let sql = format!("SELECT {} FROM {} AS t", counts.join(", "), self.checked_rows(table));
        let rows = self.ask(transaction, table.bound, &sql, OURS).await?;
        Ok(rows.iter().flat_map(|row| (0..rules.len()).map(|at| row.get::<_, i64>(at).unsigned_abs())).collect())
    }

    /// Some rows that break a rule, in the order of the key.
    pub async fn some_broken_rows(
        &self,
        transaction: &mut Transaction<'_>,
        table: &CheckedTable<'_>,
        rule: &RowRule<'_>,
    ) -> Result<Vec<BrokenRow>> {
        let sql = format!(
            "SELECT {}, left(t.{}::text, {SHOWN_CHARACTERS}) FROM {} AS t WHERE {} ORDER BY {} LIMIT {SHOWN}",
            as_text(table.schema.key_columns()),
            quote(&rule.column().name),
            self.checked_rows(table),
            rule.broken(),
            of_table("t", table.schema.key_columns()).join(", "),
        );
        let rows = self.ask(transaction, table.bound, &sql, OURS).await?;
        Ok(rows.iter().map(|row| BrokenRow { key: row.get(0), value: row.get(1) }).collect())
    }

    /// The values of these columns that more than one row of the generation has; of [`CheckedRows::Coming`], those that
    /// one of the coming rows has. A row with a null among them has none.
    pub async fn shared_values(
        &self,
        transaction: &mut Transaction<'_>,
        table: &CheckedTable<'_>,
        columns: &[&Column],
    ) -> Result<SharedValues> {
        let columns = || columns.iter().copied();
        let of_rows = of_table("t", columns());
        let condition = match table.rows {
            CheckedRows::All => of_rows.iter().map(|column| format!("{column} IS NOT NULL")).collect::<Vec<_>>(),
            CheckedRows::Coming => {
                let pairs = of_table("n", columns()).into_iter().zip(&of_rows);
                let same: Vec<String> = pairs.map(|(coming, there)| format!("{coming} = {there}")).collect();
                let coming = self.coming_rows(table.generation);
                vec![format!("EXISTS (SELECT FROM {coming} AS n WHERE {})", same.join(" AND "))]
            }
        };
        let sql = format!(
            "SELECT {}, count(*), count(*) OVER () FROM {} AS t WHERE {} GROUP BY {list} HAVING count(*) > 1 \
             ORDER BY {list} LIMIT {SHOWN}",
            as_text(columns()),
            self.table(table.name, table.generation),
            condition.join(" AND "),
            list = of_rows.join(", "),
        );
        let rows = self.ask(transaction, table.bound, &sql, OURS).await?;
        let count = |row: &Row, at: usize| row.get::<_, i64>(at).unsigned_abs();
        Ok(SharedValues {
            total: rows.first().map_or(0, |row| count(row, 2)),
            shown: rows.iter().map(|row| (row.get(0), count(row, 1))).collect(),
        })
    }

    /// The rows that a query returns in which the published names of generations stand for them, and other names for what
    /// the transaction sees. Each generation has the name and the columns that it is going to be published with.
    pub async fn returned_rows(
        &self,
        transaction: &mut Transaction<'_>,
        bound: Duration,
        generations: &[(&TableName, &TableSchema, Generation)],
        query: &str,
    ) -> Result<ReturnedRows> {
        let stands_for: Vec<String> = generations
            .iter()
            .map(|(name, schema, generation)| stand_in(name, schema, &self.table(name, *generation)))
            .collect();
        let (sql, own) = wrapped(&stands_for, query);
        let rows = self.ask(transaction, bound, &sql, own).await?;
        let shown = rows.iter().take(SHOWN).map(|row| row.get::<_, Option<String>>(0).unwrap_or_default());
        Ok(ReturnedRows { shown: shown.collect(), more: rows.len() > SHOWN })
    }

    /// Finds out whether all values are of the column's type.
    pub async fn try_values(
        &self,
        transaction: &mut Transaction<'_>,
        bound: Duration,
        column: &Column,
        values: &[String],
    ) -> Result<()> {
        self.attempt(transaction, bound, &format!("SELECT {}", typed_values(column, values)), OURS).await
    }

    /// Finds out whether a query fits a table of these columns, which need not exist, without running it.
    pub async fn try_query(
        &self,
        transaction: &mut Transaction<'_>,
        bound: Duration,
        name: &TableName,
        schema: &TableSchema,
        query: &str,
    ) -> Result<()> {
        let columns = schema.columns.iter().enumerate().map(|(index, Column { name, ty, .. })| {
            let bytewise = *ty == ColumnType::Scalar(ScalarType::Text) && schema.key.contains(&index);
            let collation = if bytewise { " COLLATE \"C\"" } else { "" };
            format!("NULL::{}{collation} AS {}", ty.sql_name(), quote(name))
        });
        let relation = format!("(SELECT {}) AS t", columns.collect::<Vec<_>>().join(", "));
        let (sql, own) = wrapped(&[stand_in(name, schema, &relation)], query);
        self.attempt(transaction, bound, &sql, own).await
    }

    /// The rows that rules on single rows are asked of.
    fn checked_rows(&self, table: &CheckedTable<'_>) -> String {
        match table.rows {
            CheckedRows::All => self.table(table.name, table.generation),
            CheckedRows::Coming => self.coming_rows(table.generation),
        }
    }

    /// Runs a statement. `own` is where the user's own text stands in it, in characters.
    async fn ask(
        &self,
        transaction: &mut Transaction<'_>,
        bound: Duration,
        sql: &str,
        own: Range<usize>,
    ) -> Result<Vec<Row>> {
        let savepoint = self.confine(transaction, bound).await?;
        let rows = savepoint.rows(sql, &[]).await;
        let left = savepoint.rollback().await;
        let rows = rows.map_err(|error| refused(error, bound, &own))?;
        left.doing("end a check")?;
        Ok(rows)
    }

    /// As [`Self::ask`], but the server only analyses the statement.
    async fn attempt(
        &self,
        transaction: &mut Transaction<'_>,
        bound: Duration,
        sql: &str,
        own: Range<usize>,
    ) -> Result<()> {
        let savepoint = self.confine(transaction, bound).await?;
        let statement = savepoint.prepare(sql).await;
        let left = savepoint.rollback().await;
        let statement = statement.map_err(|error| refused(error, bound, &own))?;
        left.doing("end a check")?;
        if statement.params().is_empty() {
            return Ok(());
        }
        Err(Error::new(Code::CheckInvalid, "it has parameters (`$1`), for which there are no values"))
    }

    /// Begins a savepoint in which nothing can be written. A savepoint that only reads cannot be made one that writes, so
    /// that no function called from within can undo this.
    async fn confine<'t>(&self, transaction: &'t mut Transaction<'_>, bound: Duration) -> Result<Transaction<'t>> {
        let doing = "begin a check";
        let savepoint = transaction.savepoint("lakegate_check").await.doing(doing)?;
        let role = match self.owner_role(&savepoint).await? {
            Some(owner) => format!("SET LOCAL ROLE {}; ", quote(&owner)),
            None => String::new(),
        };
        let settings = format!(
            "SET LOCAL search_path = pg_catalog, {}, pg_temp; SET LOCAL statement_timeout = {}; {role}\
             SET LOCAL transaction_read_only = on",
            quote(&self.schemas.published),
            bound.as_millis().min(i32::MAX as u128),
        );
        savepoint.batch_execute(&settings).await.doing(doing)?;
        Ok(savepoint)
    }
}

/// A WITH query that lets a published name stand for another relation. It is not materialized, so that what reads it is
/// planned as if it named the relation itself.
fn stand_in(name: &TableName, schema: &TableSchema, relation: &str) -> String {
    let columns = column_list(schema.columns.iter().map(|column| column.name.as_str()));
    format!("{} AS NOT MATERIALIZED (SELECT {columns} FROM {relation})", quote(name.as_str()))
}

/// A statement that returns some rows of a query as text, and where the query stands in it, in characters. A statement
/// that writes cannot stand where the query does, and a second one cannot follow.
fn wrapped(stand_ins: &[String], query: &str) -> (String, Range<usize>) {
    let rows = quote(QUERY_ROWS);
    let with = if stand_ins.is_empty() { String::new() } else { format!("WITH {} ", stand_ins.join(", ")) };
    let before = format!(
        "{with}SELECT (SELECT string_agg(key || ' = ' || coalesce(left(value, {SHOWN_CHARACTERS}), 'null'), ', ') \
         FROM json_each_text(row_to_json({rows}))) FROM (\n"
    );
    let begins = before.chars().count();
    // The line break ends a comment that the query may end with.
    let query = query.trim_end().trim_end_matches(';');
    let own = begins..begins + query.chars().count();
    (format!("{before}{query}\n) AS {rows} LIMIT {}", SHOWN + 1), own)
}

/// Columns of a table of this name.
fn of_table<'a>(table: &str, columns: impl Iterator<Item = &'a Column>) -> Vec<String> {
    columns.map(|column| format!("{table}.{}", quote(&column.name))).collect()
}

/// Columns of the table `t` as one text.
fn as_text<'a>(columns: impl Iterator<Item = &'a Column>) -> String {
    let texts = of_table("t", columns).into_iter().map(|column| format!("left({column}::text, {SHOWN_CHARACTERS})"));
    format!("concat_ws(', ', {})", texts.collect::<Vec<_>>().join(", "))
}

/// Values as literals of the column's type.
fn typed_values(column: &Column, values: &[String]) -> String {
    let ty = column.ty.sql_name();
    values.iter().map(|value| format!("{}::{ty}", quote_literal(value))).collect::<Vec<_>>().join(", ")
}

/// What is at fault when a statement of a check fails: the check, where the server says no to the statement itself.
fn refused(error: tokio_postgres::Error, bound: Duration, own: &Range<usize>) -> Error {
    let said = error.as_db_error().map(|refusal| {
        // A message may quote the rest of the statement, line by line.
        let mut text = refusal.message().lines().next().unwrap_or_default().to_owned();
        // The server counts from 1.
        if let Some(ErrorPosition::Original(position)) = refusal.position()
            && let Some(at) = (*position as usize).checked_sub(1).filter(|at| own.contains(at))
        {
            text.push_str(&format!(" at character {}", at - own.start + 1));
        }
        for further in [refusal.detail(), refusal.hint()].into_iter().flatten() {
            text.push_str(&format!(" ({})", further.trim_end_matches('.')));
        }
        text
    });
    let error = explain(error);
    let detail = match error.code() {
        Code::StatementTimeout => format!("it took longer than {}", spell_duration(bound)),
        Code::PostgresRefused | Code::PostgresPrivilege | Code::Internal => {
            said.unwrap_or_else(|| error.detail().to_owned())
        }
        _ => return error.at("cannot evaluate a check"),
    };
    Error::new(Code::CheckInvalid, detail).because(error)
}
