//! What Postgres holds, as a checksum.

use tokio_postgres::Client;

use crate::domain::{Generation, Result, TableName};
use crate::postgres::{Doing, quote};

use super::Destination;

/// A checksum over the stored rows of a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredChecksum {
    /// The rows that are in `sum`.
    pub hashed: i64,
    /// The exact sum of their hashes, in decimal digits.
    pub sum: String,
}

impl Destination {
    /// Reads a generation once for its checksum. `query` makes the statement from the table's quoted name and the
    /// function that quotes names; it returns the hashed rows and the sum as text.
    pub async fn checksum(
        &self,
        client: &Client,
        name: &TableName,
        generation: Generation,
        query: impl FnOnce(&str, &dyn Fn(&str) -> String) -> String,
    ) -> Result<StoredChecksum> {
        let sql = query(&self.table(name, generation), &|column| quote(column));
        let row = client.query_one(&sql, &[]).await.doing("hash the rows in Postgres")?;
        Ok(StoredChecksum { hashed: row.get(0), sum: row.get(1) })
    }

    /// The exact sums of each column's hashes, in decimal digits, in the order of the columns.
    pub async fn column_sums(
        &self,
        client: &Client,
        name: &TableName,
        generation: Generation,
        query: impl FnOnce(&str, &dyn Fn(&str) -> String) -> String,
    ) -> Result<Vec<String>> {
        let sql = query(&self.table(name, generation), &|column| quote(column));
        let row = client.query_one(&sql, &[]).await.doing("hash the columns in Postgres")?;
        Ok(row.get(0))
    }
}
