//! API keys: how they are made and revoked, and what servers know of them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
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
    /// The roles of whoever shows it: texts, unless somebody wrote them by hand.
    pub roles: Vec<Option<String>>,
    /// What else is known of him, by name: texts, unless somebody wrote them by hand.
    pub attributes: BTreeMap<String, Value>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// From when on it is no longer taken; `None` = never.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was revoked, if it was.
    pub revoked_at: Option<DateTime<Utc>>,
    /// When it was last used, to a minute or so.
    pub last_used_at: Option<DateTime<Utc>>,
}

impl KeyRecord {
    /// Whether its roles and attributes are texts; servers take no other key.
    pub fn is_understood(&self) -> bool {
        self.roles.iter().all(Option::is_some) && self.attributes.values().all(Value::is_string)
    }
}

/// What a server needs to know of a key.
#[derive(Debug, Clone)]
pub struct StoredKey {
    /// The id.
    pub id: String,
    /// The SHA-256 of its secret.
    pub secret_hash: Vec<u8>,
    /// The roles of whoever shows it.
    pub roles: Vec<String>,
    /// What else is known of him, by name.
    pub attributes: BTreeMap<String, String>,
    /// As in [`KeyRecord`].
    pub expires_at: Option<DateTime<Utc>>,
    /// Whether it was revoked.
    pub revoked: bool,
}

/// Whoever writes a key by hand may say `infinity` for never.
const COLUMNS: &str =
    "id, name, roles, attributes::text, created_at, nullif(expires_at, 'infinity'), revoked_at, last_used_at";

fn record(row: &Row, doing: &str) -> Result<KeyRecord> {
    Ok(KeyRecord {
        id: row.try_get(0).doing(doing)?,
        name: row.try_get(1).doing(doing)?,
        roles: row.try_get(2).doing(doing)?,
        attributes: attributes(row.try_get(3).doing(doing)?)?,
        created_at: row.try_get(4).doing(doing)?,
        expires_at: row.try_get(5).doing(doing)?,
        revoked_at: row.try_get(6).doing(doing)?,
        last_used_at: row.try_get(7).doing(doing)?,
    })
}

fn attributes<V: DeserializeOwned>(text: &str) -> Result<BTreeMap<String, V>> {
    serde_json::from_str(text)
        .map_err(|error| Error::internal("the attributes of a key are not understood").because(error))
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
        let doing = "keep an API key";
        let row = client.one_row(&sql, &[&id, name, &secret_hash, roles, &attributes, expires_at]).await;
        record(&row.doing(doing)?, doing)
    }

    /// All keys, the newest first.
    pub async fn keys(&self, client: &impl GenericClient) -> Result<Vec<KeyRecord>> {
        let sql = self.sql(&format!("SELECT {COLUMNS} FROM {{control}}.api_keys ORDER BY created_at DESC, id"));
        let doing = "list the API keys";
        client.rows(&sql, &[]).await.doing(doing)?.iter().map(|row| record(row, doing)).collect()
    }

    /// Revokes a key, unless it is already; `None` where there is none of this id.
    pub async fn revoke_key(&self, client: &impl GenericClient, id: &str) -> Result<Option<KeyRecord>> {
        let doing = "revoke an API key";
        let revoke =
            "UPDATE {control}.api_keys SET revoked_at = clock_timestamp() WHERE id = $1 AND revoked_at IS NULL";
        client.affected(&self.sql(revoke), &[&id]).await.doing(doing)?;
        let sql = self.sql(&format!("SELECT {COLUMNS} FROM {{control}}.api_keys WHERE id = $1"));
        client.opt_row(&sql, &[&id]).await.doing(doing)?.as_ref().map(|row| record(row, doing)).transpose()
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
            "SELECT id, secret_hash, roles, attributes::text, nullif(expires_at, 'infinity'), revoked_at IS NOT NULL \
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
