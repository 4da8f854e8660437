//! What the command line asks without a server: `get` and `schema openapi`.

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use tokio::runtime::Handle;

use super::cache::Cache;
use super::catalog::Catalog;
use super::metrics::ReadMetrics;
use super::openapi::{Bounds, Shown, document};
use super::rate::Asker;
use super::reader::Reader;
use super::request::{Asked, Question};
use crate::auth::Doorkeeper;
use crate::domain::{Auth, Caller, Code, Error, Limits, Result, Schemas};
use crate::postgres::{Connector, Purpose};

/// Answers one question by the code that answers it over HTTP, and gives the same bytes.
///
/// # Errors
/// As the read API (`LG6…`), a missing row included; and whatever keeps Postgres from being reached, in its own words:
/// who runs this is the operator.
pub async fn lookup_once(
    connector: &Connector,
    schemas: &Schemas,
    limits: &Limits,
    question: &Question,
) -> Result<Vec<u8>> {
    connector.connect(Purpose::Control, "lakegate get").await?.close().await;
    let limits = Limits { connections: 1, cache_memory: 0, ..limits.clone() };
    let doorkeeper = Arc::new(Doorkeeper::of_operator());
    let reader = Reader::start(connector, schemas, &limits, &ReadMetrics::default(), doorkeeper, &[Handle::current()])?;
    reader
        .answer(Asked::One(question), Asker { caller: &Caller::operator(), peer: None }, Instant::now())
        .await
        .body
        .map(|body| body.bytes)
}

/// The document that the read API serves as `/v1/openapi.json`, of what is published now.
///
/// # Errors
/// Whatever keeps Postgres from being reached; [`Code::Unavailable`] where what is published cannot be read.
pub async fn describe_once(connector: &Connector, schemas: &Schemas, limits: &Limits, auth: &Auth) -> Result<Value> {
    connector.connect(Purpose::Control, "lakegate schema").await?.close().await;
    let (cache, doorkeeper) = (Arc::new(Cache::new(0)), Arc::new(Doorkeeper::of_operator()));
    let catalog = Catalog::start(connector.clone(), schemas.clone(), cache, ReadMetrics::default(), doorkeeper);
    catalog.refresh().await;
    let unread = || {
        Error::new(Code::Unavailable, "what is published cannot be read")
            .hint("run `lakegate sync` first, or see `lakegate doctor`")
    };
    let tables = catalog.served().ok_or_else(unread)?;
    let tables: Vec<Shown> = tables.into_iter().filter_map(|table| Shown::to(table, &Caller::operator())).collect();
    Ok(document(&tables, Bounds::of(limits, Doorkeeper::new(auth).asks())))
}
