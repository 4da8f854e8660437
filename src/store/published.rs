//! What readers see now.

use chrono::{DateTime, Utc};
use tokio_postgres::{GenericClient, Row};

use crate::domain::{Error, Generation, Result, ServePolicy, SourceVersion, TableName, TableSchema};
use crate::postgres::{Doing, OneTrip};

use super::Control;

/// The row of a published table.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// The table.
    pub name: String,
    /// The live generation.
    pub generation: Generation,
    /// How many times what readers see has changed.
    pub publish_no: i64,
    /// The source version that readers see.
    pub source_version: String,
    /// When readers first saw it.
    pub published_at: DateTime<Utc>,
    /// When the source was last found to hold nothing newer.
    pub checked_at: DateTime<Utc>,
}

/// What a publish writes down.
#[derive(Debug, Clone, Copy)]
pub struct PublishRow<'a> {
    /// The table.
    pub name: &'a TableName,
    /// The generation that readers see from now on.
    pub generation: Generation,
    /// The source version that it holds.
    pub source_version: &'a str,
    /// Its columns and key.
    pub schema: &'a TableSchema,
    /// How it is served.
    pub policy: &'a ServePolicy,
    /// The run that has looked at the source, if it has: the source counts as checked at its start.
    pub checked_by: Option<i64>,
}

/// How many publishes of a table keep their lists of changed keys: a server that is further behind drops its cache.
const CHANGED_KEYS_KEPT: i64 = 1_000;

const COLUMNS: &str = "name, generation, publish_no, source_version, published_at, checked_at";

fn from_row(row: &Row) -> Published {
    Published {
        name: row.get(0),
        generation: Generation(row.get(1)),
        publish_no: row.get(2),
        source_version: row.get(3),
        published_at: row.get(4),
        checked_at: row.get(5),
    }
}

impl Control {
    /// All published tables, by name.
    pub async fn all_published(&self, client: &impl GenericClient) -> Result<Vec<Published>> {
        let rows = client
            .rows(&self.sql(&format!("SELECT {COLUMNS} FROM {{control}}.published ORDER BY name")), &[])
            .await
            .doing("read what is published")?;
        Ok(rows.iter().map(from_row).collect())
    }

    /// What is published under one name.
    pub async fn published(&self, client: &impl GenericClient, name: &TableName) -> Result<Option<Published>> {
        let row = client
            .opt_row(
                &self.sql(&format!("SELECT {COLUMNS} FROM {{control}}.published WHERE name = $1")),
                &[&name.as_str()],
            )
            .await
            .doing("read what is published")?;
        Ok(row.as_ref().map(from_row))
    }

    /// Notes that the source holds nothing newer than what is published. Rewritten at most every ten seconds, so that
    /// frequent checks do not bloat the table.
    pub async fn note_checked(&self, client: &impl GenericClient, name: &TableName) -> Result<()> {
        client
            .affected(
                &self.sql(
                    "UPDATE {control}.published SET checked_at = clock_timestamp() \
                     WHERE name = $1 AND checked_at < clock_timestamp() - interval '10 seconds'",
                ),
                &[&name.as_str()],
            )
            .await
            .doing("note that the source was checked")?;
        Ok(())
    }

    /// Part of the publish transaction: this is published now. Returns the publish number.
    pub async fn record_publish(&self, transaction: &impl GenericClient, row: &PublishRow<'_>) -> Result<i64> {
        let PublishRow { name, generation, source_version, schema, policy, checked_by } = *row;
        let doing = "record the publish";
        let to_json = |error: serde_json::Error| Error::internal("a schema does not serialise").because(error);
        let schema = serde_json::to_string(schema).map_err(to_json)?;
        let policy = serde_json::to_string(policy).map_err(to_json)?;
        transaction
            .affected(
                &self.sql(
                    "INSERT INTO {control}.tables (name, generation, schema, policy) \
                     VALUES ($1, $2, $3::text::jsonb, $4::text::jsonb) ON CONFLICT (name) DO UPDATE \
                     SET generation = excluded.generation, schema = excluded.schema, policy = excluded.policy",
                ),
                &[&name.as_str(), &generation.0, &schema, &policy],
            )
            .await
            .doing(doing)?;
        transaction
            .affected(
                &self.sql(
                    "UPDATE {control}.generations SET superseded_at = clock_timestamp() \
                     WHERE pipeline = $1 AND generation <> $2 AND published_at IS NOT NULL AND superseded_at IS NULL",
                ),
                &[&name.as_str(), &generation.0],
            )
            .await
            .doing(doing)?;
        transaction
            .affected(
                &self.sql(
                    "UPDATE {control}.generations SET published_at = clock_timestamp(), superseded_at = NULL \
                     WHERE generation = $1",
                ),
                &[&generation.0],
            )
            .await
            .doing(doing)?;
        let row = transaction
            .one_row(
                &self.sql(
                    "INSERT INTO {control}.published AS p \
                         (name, generation, publish_no, source_version, published_at, checked_at) \
                     VALUES ($1, $2, 1, $3, clock_timestamp(), coalesce( \
                         (SELECT started_at FROM {control}.runs WHERE run = $4), clock_timestamp())) \
                     ON CONFLICT (name) DO UPDATE SET generation = excluded.generation, \
                         publish_no = p.publish_no + 1, source_version = excluded.source_version, \
                         published_at = excluded.published_at, \
                         checked_at = CASE WHEN $4::bigint IS NULL THEN p.checked_at ELSE excluded.checked_at END \
                     RETURNING publish_no",
                ),
                &[&name.as_str(), &generation.0, &source_version, &checked_by],
            )
            .await
            .doing(doing)?;
        let publish_no: i64 = row.get(0);
        transaction
            .affected("SELECT pg_notify($1, $2)", &[&self.name(), &format!("{name} {publish_no}")])
            .await
            .doing(doing)?;
        Ok(publish_no)
    }

    /// Part of the transaction of a merge, after [`Control::record_publish`]: which keys changed in place, by their
    /// hashes, or that too many did to list them. Lists that no server can need any more are removed.
    pub async fn record_changed_keys(
        &self,
        transaction: &impl GenericClient,
        name: &TableName,
        publish_no: i64,
        key_hashes: Option<&[i64]>,
    ) -> Result<()> {
        let doing = "list the changed keys";
        transaction
            .affected(
                &self.sql("INSERT INTO {control}.changed_keys (name, publish_no, key_hashes) VALUES ($1, $2, $3)"),
                &[&name.as_str(), &publish_no, &key_hashes],
            )
            .await
            .doing(doing)?;
        transaction
            .affected(
                &self.sql("DELETE FROM {control}.changed_keys WHERE name = $1 AND publish_no <= $2"),
                &[&name.as_str(), &(publish_no - CHANGED_KEYS_KEPT)],
            )
            .await
            .doing(doing)?;
        Ok(())
    }

    /// Notes that the source stands at another version whose rows are the same as those published; `record` as in
    /// [`super::LoadedRow`].
    pub async fn note_same_rows(
        &self,
        client: &impl GenericClient,
        name: &TableName,
        generation: Generation,
        source: &SourceVersion,
        record: Option<&[u8]>,
    ) -> Result<()> {
        let doing = "note that the source was checked";
        client
            .affected(
                &self.sql(
                    "WITH moved AS (UPDATE {control}.generations SET source_version = $3, source_commit = $4, \
                         source_record = $5 WHERE generation = $2) \
                     UPDATE {control}.published SET source_version = $3, checked_at = clock_timestamp() \
                     WHERE name = $1 AND generation = $2",
                ),
                &[&name.as_str(), &generation.0, &source.version, &source.commit, &record],
            )
            .await
            .doing(doing)?;
        Ok(())
    }

    /// Whether a table is served under another policy than this one.
    pub async fn policy_differs(
        &self,
        client: &impl GenericClient,
        name: &TableName,
        policy: &ServePolicy,
    ) -> Result<bool> {
        let row = client
            .opt_row(&self.sql("SELECT policy::text FROM {control}.tables WHERE name = $1"), &[&name.as_str()])
            .await
            .doing("read how the table is served")?;
        // A policy of another form is one of another version: writing it anew is right.
        let stored = row.and_then(|row| serde_json::from_str::<ServePolicy>(row.get(0)).ok());
        Ok(stored.as_ref() != Some(policy))
    }

    /// Ends a published table: its rows in `published`, `tables`, `changed_keys` and `pipelines`, and alerts of it.
    pub async fn forget_table(&self, transaction: &impl GenericClient, name: &TableName) -> Result<()> {
        for table in ["published", "tables", "changed_keys", "pipelines", "alerts", "alert_messages"] {
            transaction
                .affected(&self.sql(&format!("DELETE FROM {{control}}.{table} WHERE name = $1")), &[&name.as_str()])
                .await
                .doing("drop the table")?;
        }
        transaction
            .affected(
                &self.sql(
                    "UPDATE {control}.generations SET superseded_at = clock_timestamp() \
                     WHERE pipeline = $1 AND superseded_at IS NULL",
                ),
                &[&name.as_str()],
            )
            .await
            .doing("drop the table")?;
        transaction
            .affected("SELECT pg_notify($1, $2)", &[&self.name(), &format!("{name} 0")])
            .await
            .doing("drop the table")?;
        Ok(())
    }
}
