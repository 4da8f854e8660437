//! Rows that were left out because Postgres cannot hold them.

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio_postgres::GenericClient;

use crate::domain::{Error, Result, TableName};
use crate::postgres::{Doing, OneTrip};

use super::Control;

/// A row left out, with the reason.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RejectedRow {
    /// The run that left it out.
    pub run: i64,
    /// The key, by column, as text; null where the key itself is missing.
    pub key: serde_json::Value,
    /// The column at fault, where one is.
    pub column: Option<String>,
    /// The error code.
    pub code: String,
    /// What is wrong with the value.
    pub reason: String,
    /// When it was left out; set by the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected_at: Option<DateTime<Utc>>,
}

impl Control {
    /// Keeps rejected rows, numbered from `first_ordinal` within the run.
    pub async fn record_rejected(
        &self,
        client: &impl GenericClient,
        pipeline: &TableName,
        rows: &[RejectedRow],
        first_ordinal: i64,
    ) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let json = serde_json::to_string(rows)
            .map_err(|error| Error::internal("rejected rows do not serialise").because(error))?;
        client
            .affected(
                &self.sql(
                    "INSERT INTO {control}.rejected_rows (run, pipeline, ordinal, key, column_name, code, reason) \
                     SELECT (r.value->>'run')::bigint, $1, $3 + r.ordinality - 1, r.value->'key', r.value->>'column', \
                            r.value->>'code', r.value->>'reason' \
                     FROM jsonb_array_elements($2::text::jsonb) WITH ORDINALITY r",
                ),
                &[&pipeline.as_str(), &json, &first_ordinal],
            )
            .await
            .doing("keep the rejected rows")?;
        Ok(())
    }

    /// The rejected rows of a pipeline's newest run that had any, or of one run.
    pub async fn rejected_rows(
        &self,
        client: &impl GenericClient,
        pipeline: &TableName,
        run: Option<i64>,
        limit: i64,
    ) -> Result<Vec<RejectedRow>> {
        let rows = client
            .rows(
                &self.sql(
                    "SELECT run, key::text, column_name, code, reason, rejected_at FROM {control}.rejected_rows \
                     WHERE pipeline = $1 AND run = coalesce($2, (SELECT max(run) FROM {control}.rejected_rows WHERE pipeline = $1)) \
                     ORDER BY ordinal LIMIT $3",
                ),
                &[&pipeline.as_str(), &run, &limit],
            )
            .await
            .doing("read the rejected rows")?;
        rows.iter()
            .map(|row| {
                Ok(RejectedRow {
                    run: row.get(0),
                    key: serde_json::from_str(row.get(1))
                        .map_err(|error| Error::internal("a rejected key cannot be read").because(error))?,
                    column: row.get(2),
                    code: row.get(3),
                    reason: row.get(4),
                    rejected_at: Some(row.get(5)),
                })
            })
            .collect()
    }
}
