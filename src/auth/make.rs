//! How an API key comes to be.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};
use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};
use tokio_postgres::GenericClient;

use super::token;
use crate::domain::{NewKey, Result};
use crate::store::{Control, KeyRecord};

/// A key that has just been made. Serialised, it is its record and, as `key`, all of it: the only time that it is shown.
pub struct CreatedKey {
    /// What is kept of it.
    pub record: KeyRecord,
    /// All of it, as requests bear it.
    pub key: SecretString,
}

impl fmt::Debug for CreatedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreatedKey").field("record", &self.record).finish_non_exhaustive()
    }
}

impl Serialize for CreatedKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let KeyRecord { id, name, roles, attributes, created_at, expires_at, revoked_at, last_used_at } = &self.record;
        let mut fields = serializer.serialize_struct("CreatedKey", 9)?;
        fields.serialize_field("id", id)?;
        fields.serialize_field("key", self.key.expose_secret())?;
        fields.serialize_field("name", name)?;
        fields.serialize_field("roles", roles)?;
        fields.serialize_field("attributes", attributes)?;
        fields.serialize_field("created_at", created_at)?;
        fields.serialize_field("expires_at", expires_at)?;
        fields.serialize_field("revoked_at", revoked_at)?;
        fields.serialize_field("last_used_at", last_used_at)?;
        fields.end()
    }
}

/// Draws a key and keeps what is needed to know it again: not its secret. What is asked for has been checked.
///
/// # Errors
/// Those of Postgres.
pub async fn create_key(control: &Control, client: &impl GenericClient, new: &NewKey) -> Result<CreatedKey> {
    let drawn = token::draw()?;
    let record = control.add_key(client, &drawn.id, &drawn.hash, new).await?;
    Ok(CreatedKey { record, key: drawn.text })
}
