//! API keys: which there are, how one is made and revoked.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::Uri;
use chrono::Utc;
use serde::Deserialize;

use crate::auth::create_key;
use crate::domain::{Code, Error, NewKey, parse_expiry};

use super::Shared;
use super::reply::{Answer, list as listed, made, ok};
use super::request::{Nothing, Parameters, body};

/// A key that is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    name: String,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    #[serde(default)]
    expires: Option<String>,
}

impl Wanted {
    fn key(self) -> Result<NewKey, Error> {
        let Wanted { name, roles, attributes, expires } = self;
        let refused = |detail: &str| {
            Error::new(Code::InvalidBody, detail).hint("docs/admin-api.md lists the fields of every request")
        };
        let expiry = |text: String| {
            parse_expiry(&text, Utc::now())
                .ok_or_else(|| refused("`expires` takes a time to come: `90d`, `2027-01-31`, or RFC 3339"))
        };
        let key = NewKey { name, roles, attributes, expires_at: expires.map(expiry).transpose()? };
        key.check().map_err(|detail| refused(&detail))?;
        Ok(key)
    }
}

/// `GET /v1/keys`
pub(super) async fn list(State(shared): State<Arc<Shared>>, uri: Uri) -> Answer {
    Parameters::read(uri.query(), &[])?;
    let engine = shared.engine();
    let session = engine.control_session().await?;
    Ok(listed(&engine.control().keys(&*session).await?))
}

/// `POST /v1/keys`
pub(super) async fn create(State(shared): State<Arc<Shared>>, sent: Body) -> Answer {
    let engine = shared.engine();
    let key = body::<Wanted>(sent).await?.key()?;
    let session = engine.control_session().await?;
    Ok(made(&create_key(engine.control(), &*session, &key).await?))
}

/// `POST /v1/keys/{id}/revoke`
pub(super) async fn revoke(State(shared): State<Arc<Shared>>, Path(id): Path<String>, sent: Body) -> Answer {
    let Nothing {} = body(sent).await?;
    let engine = shared.engine();
    let session = engine.control_session().await?;
    match engine.control().revoke_key(&*session, &id).await? {
        Some(record) => Ok(ok(&record)),
        None => Err(Error::new(Code::NoSuchKey, "no API key has this id").hint("GET /v1/keys lists them").into()),
    }
}
