//! What Postgres holds, as a checksum.

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::domain::{Generation, Result, TableName};
use crate::postgres::{Doing, OneTrip, quote};

use super::Destination;

/// How often it is looked how far an index is.
const POLL: Duration = Duration::from_millis(10);
/// How often it is looked for one that does not seem to be built.
const POLLS_FOR_NOTHING: u32 = 10;

/// A checksum over the stored rows of a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredChecksum {
    /// The rows that are in `sum`.
    pub hashed: i64,
    /// The exact sum of their hashes, in decimal digits.
    pub sum: String,
}

impl Destination {
    /// Waits until the index that another session builds leaves a processor idle, and lets a session compare by one process from
    /// then on. Several processes scan and sort for an index, and then one of them alone merges what they have sorted
    /// (<https://www.postgresql.org/docs/15/progress-reporting.html>).
    pub async fn stand_back(&self, client: &Client, builder: i32) -> Result<()> {
        let doing = "look how far the index is";
        client.batch_execute("SET max_parallel_workers_per_gather = 0").await.doing(doing)?;
        // Where activities are not tracked, or not shown to this role, nothing is found, and nothing waited for.
        let sql = "SELECT FROM pg_stat_progress_create_index WHERE pid = $1 \
                   AND phase NOT LIKE 'building index: loading tuples%' \
                   AND (phase = 'initializing' OR EXISTS (SELECT FROM pg_stat_activity WHERE leader_pid = $1))";
        let statement = client.prepare_typed(sql, &[Type::INT4]).await.doing(doing)?;
        let mut seen = false;
        for polls in 0.. {
            let is_shared = !client.query(&statement, &[&builder]).await.doing(doing)?.is_empty();
            if !is_shared && (seen || polls >= POLLS_FOR_NOTHING) {
                break;
            }
            seen |= is_shared;
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

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
        let row = client.one_row(&sql, &[]).await.doing("hash the rows in Postgres")?;
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
        let row = client.one_row(&sql, &[]).await.doing("hash the columns in Postgres")?;
        Ok(row.get(0))
    }
}
