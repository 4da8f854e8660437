//! Keeping the newest row of each key (`on_duplicate_key: {latest_by: …}`).

use tokio_postgres::{Client, GenericClient};

use crate::domain::{Code, Error, Generation, Result, TableName, TableSchema};
use crate::postgres::{Doing, OneTrip, quote};

use super::{Destination, column_list, unused};

/// What became of rows that share a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deduplicated {
    /// Rows removed.
    pub removed: u64,
}

impl Destination {
    /// Removes all but the row with the greatest `latest_by` of each key, from a loaded generation without indexes.
    /// Rows that are equal in every column count as one; a null ordering value is older than any other.
    ///
    /// # Errors
    /// [`Code::DuplicateKey`] when two different rows of a key have the same greatest value: which of them is the
    /// newest cannot be known.
    pub async fn keep_latest(
        &self,
        client: &Client,
        name: &TableName,
        generation: Generation,
        schema: &TableSchema,
        latest_by: &str,
    ) -> Result<Deduplicated> {
        self.keep_latest_in(client, &self.table(name, generation), name, schema, latest_by).await
    }

    /// The same in any table of these columns.
    pub(super) async fn keep_latest_in(
        &self,
        client: &impl GenericClient,
        table: &str,
        name: &TableName,
        schema: &TableSchema,
        latest_by: &str,
    ) -> Result<Deduplicated> {
        let key = column_list(schema.key_columns().map(|column| column.name.as_str()));
        let latest = quote(latest_by);
        let [rows, ranked, tie, whole, place] =
            ["rows", "ranked", "tie", "whole", "place"].map(|name| unused(name, schema));
        let tied = client
            .opt_row(
                &format!(
                    "SELECT (SELECT string_agg(value, ', ') FROM json_each_text(row_to_json({tie}))) FROM ( \
                         SELECT {key} FROM (SELECT {key}, ROW({rows}.*)::text AS {whole}, \
                                rank() OVER (PARTITION BY {key} ORDER BY {latest} DESC NULLS LAST) AS {place} \
                                FROM {table} AS {rows}) AS {ranked} \
                         WHERE {place} = 1 GROUP BY {key} HAVING min({whole}) <> max({whole}) LIMIT 1) AS {tie}"
                ),
                &[],
            )
            .await
            .doing("look for rows of equal age")?;
        if let Some(row) = tied {
            return Err(tied_rows(name, row.get(0), latest_by));
        }
        let removed = client
            .affected(
                &format!(
                    "DELETE FROM {table} AS {rows} USING (SELECT ctid AS {whole}, \
                         row_number() OVER (PARTITION BY {key} ORDER BY {latest} DESC NULLS LAST) AS {place} \
                         FROM {table}) AS {ranked} \
                     WHERE {rows}.ctid = {ranked}.{whole} AND {ranked}.{place} > 1"
                ),
                &[],
            )
            .await
            .doing("remove older rows of a key")?;
        Ok(Deduplicated { removed })
    }
}

/// The refusal to choose between rows of a key that are equally new.
pub(super) fn tied_rows(name: &TableName, key: &str, latest_by: &str) -> Error {
    let detail = format!("different rows of `{name}` with the key ({key}) have the same `{latest_by}`");
    Error::new(Code::DuplicateKey, detail).hint("name a column in `latest_by` that tells rows of one key apart")
}
