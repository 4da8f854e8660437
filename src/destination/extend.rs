//! Giving a live generation further columns, before rows with values in them are merged.
//!
//! It happens in a transaction of its own: readers see nothing of it, since the view names its columns, and the lock that
//! it takes must not be held for as long as a merge takes.

use std::fmt::Write as _;
use std::time::Duration;

use tokio_postgres::{Client, GenericClient};

use crate::domain::{Column, Generation, Result, TableName, TableSchema};
use crate::postgres::{Doing, OneTrip, quote, quote_literal};

use super::Destination;
use super::generation_table::column_comment;

impl Destination {
    /// The statements that bring a generation from the columns `before` to those of `after`, which are the same and
    /// further ones behind them.
    #[must_use]
    pub fn extend_sql(
        &self,
        name: &TableName,
        generation: Generation,
        before: &TableSchema,
        after: &TableSchema,
    ) -> Vec<String> {
        let table = self.table(name, generation);
        let mut sql = Vec::new();
        for column in &after.columns {
            let (name, own) =
                (quote(&column.name), |column: &Column| column_comment(column.ty, column.comment.as_deref()));
            let old = before.position(&column.name).and_then(|at| before.columns.get(at));
            match old {
                None => sql.push(format!("ALTER TABLE {table} ADD COLUMN {name} {}", column.ty.sql_name())),
                Some(old) if column.nullable && !old.nullable => {
                    sql.push(format!("ALTER TABLE {table} ALTER COLUMN {name} DROP NOT NULL"));
                }
                Some(_) => {}
            }
            let comment = own(column);
            if old.map_or(comment.is_some(), |old| own(old) != comment) {
                let comment = comment.as_deref().map_or_else(|| "NULL".to_owned(), quote_literal);
                sql.push(format!("COMMENT ON COLUMN {table}.{name} IS {comment}"));
            }
        }
        sql
    }

    /// Runs those statements. What a run has left that died after them is undone before: no row has a value in such a
    /// column, because rows get them with the publish alone. The tables for staging go: they are made with the columns
    /// that they are needed for.
    ///
    /// # Errors
    /// [`crate::domain::Code::LockNotAvailable`] where readers hold the generation for longer than `longest`, and others
    /// of the server. Nothing has changed then.
    pub async fn extend(
        &self,
        client: &mut Client,
        name: &TableName,
        generation: Generation,
        before: &TableSchema,
        after: &TableSchema,
        longest: Duration,
    ) -> Result<()> {
        let doing = "add columns to the live generation";
        let transaction = client.transaction().await.doing(doing)?;
        self.bound_lock_wait(&transaction, longest).await?;
        let table = self.table(name, generation);
        let mut sql = String::new();
        for left in self.further_columns(&transaction, &table, before).await? {
            let _ = writeln!(sql, "ALTER TABLE {table} DROP COLUMN {};", quote(&left));
        }
        for statement in self.extend_sql(name, generation, before, after) {
            let _ = writeln!(sql, "{statement};");
        }
        let (coming, going) = (self.coming_rows(generation), self.going_keys(generation));
        let _ = writeln!(sql, "DROP TABLE IF EXISTS {coming}, {going};");
        transaction.batch_execute(&sql).await.doing(doing)?;
        transaction.commit().await.doing(doing)
    }

    /// The columns of a generation's table that are not among these.
    async fn further_columns(
        &self,
        client: &impl GenericClient,
        table: &str,
        known: &TableSchema,
    ) -> Result<Vec<String>> {
        let known: Vec<&str> = known.columns.iter().map(|column| column.name.as_str()).collect();
        let rows = client
            .rows(
                "SELECT attname::text FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 \
                 AND NOT attisdropped AND attname <> ALL ($2::text[])",
                &[&table, &known],
            )
            .await
            .doing("read the columns of the live generation")?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}
