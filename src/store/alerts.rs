//! What was told of pipelines to those who watch them, and what is still to be delivered.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_postgres::GenericClient;

use crate::domain::{Result, Standing, TableName};
use crate::postgres::{Doing, OneTrip};

use super::Control;

/// What was last told of a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// How it stood.
    pub standing: Standing,
    /// Since when.
    pub since: DateTime<Utc>,
    /// How many changes have been told of it.
    pub change_no: i64,
}

/// A change of standing that is to be told.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// The pipeline.
    pub pipeline: &'a TableName,
    /// The change that was last told when this one was noticed; 0 = none ever was.
    pub after: i64,
    /// How it stands now.
    pub standing: Standing,
    /// Since when.
    pub since: DateTime<Utc>,
    /// The id of the alert.
    pub id: &'a str,
    /// The alert, in JSON.
    pub body: &'a str,
}

/// An alert that this process has claimed, to deliver it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertMessage {
    /// Its number.
    pub message: i64,
    /// Its id, the same with every delivery.
    pub id: String,
    /// The pipeline.
    pub pipeline: String,
    /// The alert, in JSON.
    pub body: String,
    /// How long ago it was made.
    pub age: Duration,
    /// How often delivering it has been tried, this time included.
    pub tries: u32,
}

impl Control {
    /// What was last told of every pipeline of which anything was.
    pub async fn told(&self, client: &impl GenericClient) -> Result<HashMap<String, Told>> {
        let rows = client
            .rows(&self.sql("SELECT name, standing, since, change_no FROM {control}.alerts"), &[])
            .await
            .doing("read what alerts have told")?;
        let told = |row: &tokio_postgres::Row| Told {
            standing: Standing::named(row.get(1)),
            since: row.get(2),
            change_no: row.get(3),
        };
        Ok(rows.iter().map(|row| (row.get(0), told(row))).collect())
    }

    /// Writes a change down and puts its alert among those to be delivered, both or neither. False when somebody else has
    /// told of a change meanwhile.
    pub async fn tell(&self, client: &impl GenericClient, change: &Change<'_>) -> Result<bool> {
        let Change { pipeline, after, standing, since, id, body } = *change;
        let told = client
            .affected(
                &self.sql(
                    "WITH changed AS ( \
                         INSERT INTO {control}.alerts AS a (name, standing, since, change_no) \
                         SELECT $1, $3, $4, 1 WHERE $2::bigint = 0 OR EXISTS (SELECT FROM {control}.alerts WHERE name = $1) \
                         ON CONFLICT (name) DO UPDATE SET standing = excluded.standing, since = excluded.since, \
                             change_no = a.change_no + 1 WHERE a.change_no = $2 \
                         RETURNING name) \
                     INSERT INTO {control}.alert_messages (id, name, body) SELECT $5, name, $6 FROM changed",
                ),
                &[&pipeline.as_str(), &after, &standing.as_str(), &since, &id, &body],
            )
            .await
            .doing("write an alert down")?;
        Ok(told == 1)
    }

    /// Claims the alert that has waited longest, for `claim`: whoever does not deliver it by then leaves it to others. Of
    /// one pipeline a later alert waits for the earlier one.
    pub async fn claim_alert(&self, client: &impl GenericClient, claim: Duration) -> Result<Option<AlertMessage>> {
        let row = client
            .opt_row(
                &self.sql(
                    "UPDATE {control}.alert_messages SET tries = tries + 1, \
                         due_at = clock_timestamp() + make_interval(secs => $1) \
                     WHERE message = (SELECT m.message FROM {control}.alert_messages m \
                         WHERE m.due_at <= clock_timestamp() AND NOT EXISTS (SELECT FROM {control}.alert_messages e \
                             WHERE e.name = m.name AND e.message < m.message) \
                         ORDER BY m.due_at, m.message LIMIT 1 FOR UPDATE SKIP LOCKED) \
                     RETURNING message, id, name, body, tries, \
                         greatest(extract(epoch FROM clock_timestamp() - made_at), 0)::double precision",
                ),
                &[&claim.as_secs_f64()],
            )
            .await
            .doing("claim an alert")?;
        Ok(row.map(|row| AlertMessage {
            message: row.get(0),
            id: row.get(1),
            pipeline: row.get(2),
            body: row.get(3),
            tries: row.get::<_, i32>(4).unsigned_abs(),
            age: Duration::try_from_secs_f64(row.get(5)).unwrap_or_default(),
        }))
    }

    /// Leaves an alert for a later try.
    pub async fn postpone_alert(&self, client: &impl GenericClient, message: i64, pause: Duration) -> Result<()> {
        client
            .affected(
                &self.sql(
                    "UPDATE {control}.alert_messages SET due_at = clock_timestamp() + make_interval(secs => $2) \
                     WHERE message = $1",
                ),
                &[&message, &pause.as_secs_f64()],
            )
            .await
            .doing("leave an alert for later")?;
        Ok(())
    }

    /// Removes an alert that has been delivered or given up.
    pub async fn remove_alert(&self, client: &impl GenericClient, message: i64) -> Result<()> {
        client
            .affected(&self.sql("DELETE FROM {control}.alert_messages WHERE message = $1"), &[&message])
            .await
            .doing("remove a delivered alert")?;
        Ok(())
    }
}
