//! API keys: how they are made and revoked, and what servers know of them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio_postgres::{Client, GenericClient, Row};

use crate::domain::{Error, NewKey, Result};
use crate::postgres::{Doing, OneTrip};

use super::Control;

/// An API key as `keys list` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyRecord {
    /// What it is called in itself and where it is revoked.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The roles of whoever shows it.
    pub roles: Vec<String>,
    /// What else is known of him, by name.
    pub attributes: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// From when on it is no longer taken; `None` = never.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was revoked, if it was.
    pub revoked_at: Option<DateTime<Utc>>,
    /// When it was last used, to a minute or so.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// What a server needs to know of a key.
#[derive(Debug, Clone)]
pub struct StoredKey {
    /// The id.
    pub id: String,
    /// The SHA-256 of its secret.
    pub secret_hash: Vec<u8>,
    /// As in [`KeyRecord`].
    pub roles: Vec<String>,
    /// As in [`KeyRecord`].
    pub attributes: BTreeMap<String, String>,
    /// As in [`KeyRecord`].
    pub expires_at: Option<DateTime<Utc>>,
    /// Whether it was revoked.
    pub revoked: bool,
}

const COLUMNS: &str = "id, name, roles, attributes::text, created_at, expires_at, revoked_at, last_used_at";

fn record(row: &Row) -> Result<KeyRecord> {
    Ok(KeyRecord {
        id: row.get(0),
        name: row.get(1),
        roles: row.get(2),
        attributes: attributes(row.get(3))?,
        created_at: row.get(4),
        expires_at: row.get(5),
        revoked_at: row.get(6),
        last_used_at: row.get(7),
    })
}

fn attributes(text: &str) -> Result<BTreeMap<String, String>> {
    serde_json::from_str(text).map_err(|error| Error::internal("the attributes of a key are no texts").because(error))
}

impl Control {
    /// Keeps a new key, of whose secret this is the SHA-256.
    pub async fn add_key(
        &self,
        client: &impl GenericClient,
        id: &str,
        secret_hash: &[u8],
        key: &NewKey,
    ) -> Result<KeyRecord> {
        let NewKey { name, roles, attributes, expires_at } = key;
        let attributes = serde_json::to_string(attributes)
            .map_err(|error| Error::internal("attributes do not serialise").because(error))?;
        let sql = self.sql(&format!(
            "INSERT INTO {{control}}.api_keys (id, name, secret_hash, roles, attributes, expires_at) \
             VALUES ($1, $2, $3, $4, $5::text::jsonb, $6) RETURNING {COLUMNS}"
        ));
        let row = client.one_row(&sql, &[&id, name, &secret_hash, roles, &attributes, expires_at]).await;
        record(&row.doing("keep an API key")?)
    }

    /// All keys, the newest first.
    pub async fn keys(&self, client: &impl GenericClient) -> Result<Vec<KeyRecord>> {
        let sql = self.sql(&format!("SELECT {COLUMNS} FROM {{control}}.api_keys ORDER BY created_at DESC, id"));
        client.rows(&sql, &[]).await.doing("list the API keys")?.iter().map(record).collect()
    }

    /// Revokes a key, unless it is already; `None` where there is none of this id.
    pub async fn revoke_key(&self, client: &impl GenericClient, id: &str) -> Result<Option<KeyRecord>> {
        let doing = "revoke an API key";
        let revoke =
            "UPDATE {control}.api_keys SET revoked_at = clock_timestamp() WHERE id = $1 AND revoked_at IS NULL";
        client.affected(&self.sql(revoke), &[&id]).await.doing(doing)?;
        let sql = self.sql(&format!("SELECT {COLUMNS} FROM {{control}}.api_keys WHERE id = $1"));
        client.opt_row(&sql, &[&id]).await.doing(doing)?.as_ref().map(record).transpose()
    }

    /// How many times the keys have changed. Cheap enough to be asked each second.
    pub async fn auth_epoch(&self, client: &Client) -> Result<i64> {
        let doing = "look whether API keys have changed";
        let rows = client.rows(&self.sql("SELECT epoch FROM {control}.auth_epoch"), &[]).await.doing(doing)?;
        let row = rows.first().ok_or_else(|| Error::internal("the control schema counts no changes of API keys"))?;
        row.try_get(0).doing(doing)
    }

    /// What servers need to know of all keys. Those that have ended a month ago are as ones that never were, and so is one that
    /// somebody wrote by hand in a form that is none: it must not keep the others from being heard of.
    pub async fn stored_keys(&self, client: &Client) -> Result<Vec<StoredKey>> {
        let doing = "read the API keys";
        let sql = self.sql(
            "SELECT id, secret_hash, roles, attributes::text, expires_at, revoked_at IS NOT NULL \
             FROM {control}.api_keys \
             WHERE least(revoked_at, expires_at) IS NULL OR least(revoked_at, expires_at) > now() - interval '30 days'",
        );
        let rows = client.rows(&sql, &[]).await.doing(doing)?;
        let stored = |row: &Row| -> Result<StoredKey> {
            Ok(StoredKey {
                id: row.try_get(0).doing(doing)?,
                secret_hash: row.try_get(1).doing(doing)?,
                roles: row.try_get(2).doing(doing)?,
                attributes: attributes(row.try_get(3).doing(doing)?)?,
                expires_at: row.try_get(4).doing(doing)?,
                revoked: row.try_get(5).doing(doing)?,
            })
        };
        let understood = |row: &Row| {
            let id = || row.try_get::<_, String>(0).unwrap_or_default();
            stored(row)
                .inspect_err(|error| tracing::warn!(%error, key = id(), "an API key is not understood, and not taken"))
                .ok()
        };
        Ok(rows.iter().filter_map(understood).collect())
    }

    /// Notes that keys were used, each once a minute at most.
    pub async fn note_key_use(&self, client: &Client, ids: &[String]) -> Result<()> {
        let sql = self.sql("SELECT {control}.note_key_use($1)");
        client.rows(&sql, &[&ids]).await.doing("note the use of API keys")?;
        Ok(())
    }
}
