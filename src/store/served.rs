//! The read API's side of the control state: what is published, and what to know to read it.
//!
//! Statements are not prepared, so that they work behind poolers that share sessions.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_postgres::{Client, Row};

use crate::domain::{Error, Generation, Result, ServePolicy, TableName, TableSchema};
use crate::postgres::{Doing, OneTrip, explain};

use super::Control;

/// How many publishes' lists of changed keys are read at most: ten thousand keys each.
const MAX_LISTS: i64 = 64;

/// Which state of a table is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedState {
    /// The table.
    pub name: String,
    /// The live generation.
    pub generation: Generation,
    /// How many times what readers see has changed.
    pub publish_no: i64,
    /// The source version that readers see.
    pub source_version: String,
    /// How long ago the source was last looked at, by the clock of Postgres.
    pub unchecked_for: Duration,
}

/// A published state with all that reading it needs.
#[derive(Debug, Clone)]
pub struct ServedTable {
    /// The table.
    pub name: TableName,
    /// The live generation.
    pub generation: Generation,
    /// How many times what readers see has changed.
    pub publish_no: i64,
    /// The source version that readers see.
    pub source_version: String,
    /// When readers first saw it.
    pub published_at: DateTime<Utc>,
    /// The columns and the key.
    pub schema: TableSchema,
    /// How it is served.
    pub policy: ServePolicy,
}

impl Control {
    /// Which state of each table is published. Cheap enough to be asked each second.
    pub async fn published_states(&self, client: &Client) -> Result<Vec<PublishedState>> {
        let doing = "read what is published";
        let sql = self.sql(
            "SELECT name, generation, publish_no, source_version, \
             (extract(epoch FROM clock_timestamp() - checked_at) * 1000)::bigint FROM {control}.published",
        );
        let rows = client.rows(&sql, &[]).await.doing(doing)?;
        let state = |row: &Row| {
            Ok(PublishedState {
                name: row.try_get(0)?,
                generation: Generation(row.try_get(1)?),
                publish_no: row.try_get(2)?,
                source_version: row.try_get(3)?,
                // Clocks that were set back make it negative.
                unchecked_for: Duration::from_millis(u64::try_from(row.try_get::<_, i64>(4)?).unwrap_or(0)),
            })
        };
        rows.iter().map(state).collect::<Result<_, _>>().doing(doing)
    }

    /// These tables as they are published, each of one moment; an error in place of a table whose description is not
    /// understood.
    pub async fn served_tables(&self, client: &Client, names: &[&str]) -> Result<Vec<(String, Result<ServedTable>)>> {
        let sql = self.sql(
            "SELECT p.name, p.generation, p.publish_no, p.source_version, p.published_at, t.generation, t.schema::text, \
             t.policy::text FROM {control}.published p LEFT JOIN {control}.tables t USING (name) WHERE p.name = ANY($1)",
        );
        let rows = client.rows(&sql, &[&names]).await.doing("read how tables are served")?;
        rows.iter().map(|row| Ok((row.try_get(0).map_err(explain)?, served_table(row)))).collect()
    }

    /// The hashes of the keys of a table that changed after one publish up to another one; `None` where nobody knows, or
    /// they are the work of too many publishes to be worth asking for.
    pub async fn changed_keys(
        &self,
        client: &Client,
        name: &TableName,
        after: i64,
        until: i64,
    ) -> Result<Option<Vec<i64>>> {
        if !(1..=MAX_LISTS).contains(&(until - after)) {
            return Ok(None);
        }
        let doing = "read which keys have changed";
        let sql = self.sql(
            "SELECT key_hashes FROM {control}.changed_keys WHERE name = $1 AND publish_no > $2 AND publish_no <= $3",
        );
        let rows = client.rows(&sql, &[&name.as_str(), &after, &until]).await.doing(doing)?;
        if rows.len() as i64 != until - after {
            return Ok(None);
        }
        let mut hashes = Some(Vec::new());
        for row in &rows {
            match (&mut hashes, row.try_get::<_, Option<Vec<i64>>>(0).doing(doing)?) {
                (Some(hashes), Some(list)) => hashes.extend(list),
                _ => hashes = None,
            }
        }
        Ok(hashes)
    }

    /// Asks to be told of publishes on this connection.
    pub async fn listen(&self, client: &Client) -> Result<()> {
        client.batch_execute(&self.sql("LISTEN {control}")).await.doing("listen for publishes")
    }

    /// Those of the named tables in the data schema that this login may read.
    pub async fn readable(&self, client: &Client, data_schema: &str, tables: &[String]) -> Result<HashSet<String>> {
        let doing = "look for what can be read";
        let sql = "SELECT c.relname::text FROM pg_catalog.pg_class c \
                   JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                   WHERE n.nspname = $1 AND c.relname = ANY($2) AND has_schema_privilege(n.oid, 'USAGE') \
                   AND (has_table_privilege(c.oid, 'SELECT') OR has_any_column_privilege(c.oid, 'SELECT'))";
        let rows = client.rows(sql, &[&data_schema, &tables]).await.doing(doing)?;
        rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().doing(doing)
    }
}

fn served_table(row: &Row) -> Result<ServedTable> {
    let unclear = |error: serde_json::Error| Error::internal("its schema or policy is of another form").because(error);
    let generation: i64 = row.try_get(1).map_err(explain)?;
    let described: Option<i64> = row.try_get(5).map_err(explain)?;
    if described != Some(generation) {
        return Err(Error::internal(format!("generation {generation} is published, {described:?} is described")));
    }
    Ok(ServedTable {
        name: TableName::new(row.try_get::<_, String>(0).map_err(explain)?)?,
        generation: Generation(generation),
        publish_no: row.try_get(2).map_err(explain)?,
        source_version: row.try_get(3).map_err(explain)?,
        published_at: row.try_get(4).map_err(explain)?,
        schema: serde_json::from_str(row.try_get(6).map_err(explain)?).map_err(unclear)?,
        policy: serde_json::from_str(row.try_get(7).map_err(explain)?).map_err(unclear)?,
    })
}
