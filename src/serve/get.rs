//! One question without a server: the command line's `get`.

use super::reader::{Asked, Reader};
use super::request::Question;
use crate::domain::{Limits, Result, Schemas};
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
    Reader::start(connector, schemas, &limits)?.answer(Asked::One(question)).await.body.map(|body| body.bytes)
}
