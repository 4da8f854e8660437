//! Indexes and statistics of a loaded generation: the key's and the declared ones.

use futures::future::try_join_all;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::domain::{Code, Error, Generation, Result, TableName, TableSchema};
use crate::postgres::{Doing, OneTrip, quote};

use super::{Destination, column_list, unused};

/// How many sample keys an error shows.
const SAMPLE_KEYS: i64 = 5;
/// The `default_statistics_target` of a load's statistics: ANALYZE reads 300 times as many rows, and sorts them once for each
/// column. Lookups by key need no more, and autovacuum, where it is on, makes them anew by the server's own target.
const STATISTICS_TARGET: u32 = 10;

impl Destination {
    /// The statements that index a generation, in the order in which they are begun. All run at once, the last two (statistics,
    /// primary key) excepted.
    #[must_use]
    pub fn index_sql(
        &self,
        name: &TableName,
        generation: Generation,
        schema: &TableSchema,
        indexes: &[Vec<String>],
    ) -> Vec<String> {
        let table = self.table(name, generation);
        let key = column_list(schema.key_columns().map(|column| column.name.as_str()));
        let mut statements = vec![format!("CREATE UNIQUE INDEX {} ON {table} ({key})", quote(&generation.key_index()))];
        for (number, columns) in indexes.iter().enumerate() {
            statements.push(format!(
                "CREATE INDEX {} ON {table} ({})",
                quote(&generation.further_index(number + 1)),
                column_list(columns.iter().map(String::as_str))
            ));
        }
        // They take one processor, and nobody may build an index meanwhile. Because columns are named, the rows still count as
        // not analyzed, for which autovacuum comes where it is on.
        let columns = column_list(schema.columns.iter().map(|column| column.name.as_str()));
        statements
            .push(format!("SET LOCAL default_statistics_target = {STATISTICS_TARGET}; ANALYZE {table} ({columns})"));
        let key_index = quote(&generation.key_index());
        // The only one for which nobody else may be reading the table: it comes when all else is done.
        statements.push(format!(
            "ALTER TABLE {table} ADD CONSTRAINT {key_index} PRIMARY KEY USING INDEX {key_index}, \
             RESET (autovacuum_enabled)"
        ));
        statements
    }

    /// Builds all indexes, one connection each as far as `clients` go, makes the statistics, then the primary key.
    ///
    /// # Errors
    /// [`Code::DuplicateKey`] with sample keys when rows share a key.
    pub async fn build_indexes(
        &self,
        clients: &[&Client],
        name: &TableName,
        generation: Generation,
        schema: &TableSchema,
        indexes: &[Vec<String>],
    ) -> Result<()> {
        let Some(&first) = clients.first() else {
            return Err(Error::internal("no connection to build indexes on"));
        };
        let statements = self.index_sql(name, generation, schema, indexes);
        let [indexes @ .., statistics, primary_key] = statements.as_slice() else {
            return Err(Error::internal("a table without a primary key"));
        };
        for wave in indexes.chunks(clients.len()) {
            let built = wave.iter().zip(clients).map(|(sql, client)| async move { client.batch_execute(sql).await });
            if let Err(error) = try_join_all(built).await {
                if error.code() == Some(&SqlState::UNIQUE_VIOLATION) {
                    return Err(self.duplicate_keys(first, name, generation, schema).await);
                }
                return Err(error).doing("build the indexes");
            }
        }
        first.batch_execute(statistics).await.doing("make the statistics")?;
        first.batch_execute(primary_key).await.doing("make the primary key")
    }

    /// The error that names some keys which several rows share.
    async fn duplicate_keys(
        &self,
        client: &Client,
        name: &TableName,
        generation: Generation,
        schema: &TableSchema,
    ) -> Error {
        let key = column_list(schema.key_columns().map(|column| column.name.as_str()));
        let [all, one, rows] = ["all", "one", "rows"].map(|name| unused(name, schema));
        let sql = format!(
            "SELECT (SELECT string_agg(value, ', ') FROM json_each_text(row_to_json({one}))) || ' (' || {rows} || ' rows)' \
             FROM (SELECT {key}, count(*) AS {rows} FROM {table} GROUP BY {key} HAVING count(*) > 1 \
             LIMIT {SAMPLE_KEYS}) AS {all}, LATERAL (SELECT {key}) AS {one}",
            table = self.table(name, generation),
        );
        let samples = match client.rows(&sql, &[]).await.doing("look for the keys that rows share") {
            Ok(rows) => rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join("; "),
            Err(error) => return error,
        };
        let columns = schema.key_columns().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
        Error::new(Code::DuplicateKey, format!("several rows of `{name}` have the same ({columns}): {samples}")).hint(
            "choose a key that is unique, keep the newest row with `on_duplicate_key: {latest_by: COLUMN}`, \
                   or mend the source",
        )
    }
}
