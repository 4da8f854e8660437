//! The routes of the read API.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::header::VARY;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderValue};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{get, post};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::time::timeout;
use tower::util::option_layer;
use tower_http::cors::CorsLayer;

use super::accept::{Format, body_is_json};
use super::batch::read_body;
use super::catalog::Readiness;
use super::docs;
use super::metrics::Operation;
use super::rate::Asker;
use super::reader::{Answer, Reader};
use super::reply;
use super::request::{Asked, BatchQuestion, Question, max_staleness};
use super::table::PublishedTable;
use crate::domain::{Caller, Code, Error, Result};
use crate::http::{Gate, Noted, OTHER, Peer, pass};

/// The most names of unreadable tables that `/readyz` lists.
const MAX_NAMES: usize = 100;

/// The longest body of a batch, in bytes.
const MAX_BODY: usize = 1 << 20;

/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What reading routes stand under.
pub(super) const ROOT: &str = "/v1/";

/// All routes, behind the gate.
pub(super) fn router(reader: Arc<Reader>, cors: Option<CorsLayer>, gate: Arc<Gate>) -> Router {
    Router::new()
        .route("/v1/{table}", get(routed))
        .route("/v1/{table}/", get(routed))
        .route("/v1/{table}/_batch", post(batch))
        .route("/v1/{table}/{*key}", get(routed))
        .route("/v1/openapi.json", get(contract))
        .route("/readyz", get(ready))
        .with_state(reader)
        .route("/livez", get(live))
        .route("/docs", get(docs::page))
        .route("/docs/page.css", get(docs::style))
        .route("/docs/page.js", get(docs::script))
        .fallback(no_such_route)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(option_layer(cors))
        .layer(from_fn_with_state(gate, pass))
}

/// What the access log says of a path: never a key, nor what anybody makes up. Probes are of no interest as long as they
/// are answered.
pub(super) fn route(path: &str) -> Option<&'static str> {
    match path {
        "/livez" | "/readyz" => None,
        "/v1/openapi.json" => Some("/v1/openapi.json"),
        "/docs" | "/docs/page.css" | "/docs/page.js" => Some("/docs"),
        _ => match path.strip_prefix(ROOT).map(|path| path.trim_end_matches('/').split_once('/')) {
            None => Some(OTHER),
            Some(None) => Some("/v1/{table}"),
            Some(Some((_, "_batch"))) => Some("/v1/{table}/_batch"),
            Some(Some(_)) => Some("/v1/{table}/{key}"),
        },
    }
}

/// See [`rows`].
async fn routed(State(reader): State<Arc<Reader>>, request: Request) -> Response {
    let (head, _) = request.into_parts();
    rows(&reader, &head, Instant::now()).await
}

/// A row by its whole key, or a page by the first parts of it. The path is taken raw: an encoded `/` is data.
pub(super) async fn rows(reader: &Reader, head: &Parts, began: Instant) -> Response {
    let (uri, headers) = (&head.uri, &head.headers);
    let caller = match reader.admit(headers) {
        Ok(caller) => caller,
        Err(error) => return reply::refusal(&error),
    };
    let asker = asker(&caller, &head.extensions);
    let path = uri.path().strip_prefix(ROOT).unwrap_or_default();
    let mut operation = Operation::Row;
    let answer = match question(path, uri.query(), headers) {
        Ok(question) => {
            let asked = Asked::One(&question);
            let answer = reader.answer(asked, asker, began).await;
            operation = answer.table.as_deref().map_or(operation, |table| asked.operation(table));
            answer
        }
        Err(error) => refused(reader, asker, path, error),
    };
    rows_of(reader, answer, operation, head, began).await
}

/// The response to a request for rows.
pub(super) async fn rows_of(
    reader: &Reader,
    answer: Answer,
    operation: Operation,
    head: &Parts,
    began: Instant,
) -> Response {
    let table = answer.table.clone();
    let response = reply::tagged(answer, &head.headers, reader.unsent()).await;
    counted(response, table.as_deref(), operation, began, &head.extensions)
}

/// Counts an answer about a table, and notes what it is about.
pub(super) fn counted(
    response: Response,
    table: Option<&PublishedTable>,
    operation: Operation,
    began: Instant,
    extensions: &Extensions,
) -> Response {
    if let Some(table) = table {
        if let Some(noted) = extensions.get::<Noted>() {
            noted.asks(table.name.as_str(), operation.name());
        }
        let bytes = response.body().size_hint().exact().unwrap_or(0);
        table.metrics.answered(operation, response.status(), began.elapsed(), bytes);
    }
    response
}

pub(super) fn question(path: &str, query: Option<&str>, headers: &HeaderMap) -> Result<Question> {
    let format = Format::of(headers)?;
    Ok(Question { format, max_staleness: max_staleness(headers)?, ..Question::from_url(path, query)? })
}

/// Rows by many whole keys, which stand in the body.
async fn batch(State(reader): State<Arc<Reader>>, request: Request) -> Response {
    let began = Instant::now();
    let (head, body) = request.into_parts();
    let (uri, headers) = (&head.uri, &head.headers);
    let caller = match reader.admit(headers) {
        Ok(caller) => caller,
        Err(error) => return reply::refusal(&error),
    };
    let asker = asker(&caller, &head.extensions);
    let path = uri.path().strip_prefix(ROOT).unwrap_or_default();
    let answer = match reader.admit_batch() {
        // What bodies take in memory is bounded by how many are taken at a time.
        Ok(_place) => match batch_question(path, uri.query(), headers, body, reader.batch_keys_max()).await {
            Ok(question) => reader.answer(Asked::Batch(&question), asker, Instant::now()).await,
            Err(error) => refused(&reader, asker, path, error),
        },
        Err(error) => Answer::refusal(reader.known(table_of(path), &caller), error),
    };
    let table = answer.table.clone();
    let response = reply::untagged(answer, headers, reader.unsent()).await;
    counted(response, table.as_deref(), Operation::Batch, began, &head.extensions)
}

async fn batch_question(
    path: &str,
    query: Option<&str>,
    headers: &HeaderMap,
    body: Body,
    most: u32,
) -> Result<BatchQuestion> {
    let format = Format::of(headers)?;
    body_is_json(headers)?;
    let max_staleness = max_staleness(headers)?;
    let question = BatchQuestion { max_staleness, format, ..BatchQuestion::from_url(table_of(path), query)? };
    let too_long = || {
        let detail = format!("the body is longer than {} MiB", MAX_BODY >> 20);
        Error::new(Code::TooLarge, detail).hint("ask in several batches")
    };
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(too_long());
    }
    let body = match timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_long()),
        Ok(Err(_)) => return Err(Error::new(Code::BadBody, "the body ended before its end")),
        Err(_) => {
            return Err(Error::new(Code::BadBody, format!("the body took longer than {} s", BODY_TIMEOUT.as_secs())));
        }
    };
    Ok(BatchQuestion { keys: read_body(&body, most)?, ..question })
}

/// The answer to a request that cannot be understood, about the table that it names. It costs as much as a row.
fn refused(reader: &Reader, asker: Asker<'_>, path: &str, error: Error) -> Answer {
    let Some(table) = reader.known(table_of(path), asker.caller) else { return error.into() };
    let (error, quota) = match table.rates.grant(table.policy.rate_limit, asker) {
        Ok(grant) => (error, grant.map(|grant| grant.pay(0)).unwrap_or_default()),
        Err(limited) => limited,
    };
    Answer { quota, ..Answer::refusal(Some(table), error) }
}

/// The table's name as it stands in a path.
fn table_of(path: &str) -> &str {
    path.split('/').next().unwrap_or_default()
}

/// Tells the access log who asks.
pub(super) fn note_caller(caller: &Caller, extensions: &Extensions) {
    if let Some(noted) = extensions.get::<Noted>() {
        noted.comes_from(caller.name());
    }
}

/// Whoever asks, and from where; the access log is told, too.
fn asker<'a>(caller: &'a Caller, extensions: &Extensions) -> Asker<'a> {
    note_caller(caller, extensions);
    Asker { caller, peer: extensions.get::<Peer>().map(|Peer(address)| *address) }
}

/// What is promised of every table. No table has this name.
async fn contract(State(reader): State<Arc<Reader>>, request: Request) -> Response {
    let (head, _) = request.into_parts();
    let headers = &head.headers;
    let caller = match reader.admit(headers) {
        Ok(caller) => caller,
        Err(error) => return reply::refusal(&error),
    };
    note_caller(&caller, &head.extensions);
    match reader.contract(&caller).await {
        Ok((content, stale)) => {
            let mut response = content.reply(headers).await;
            response.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding, Authorization"));
            if stale {
                response.headers_mut().insert(reply::STALE, HeaderValue::from_static("true"));
            }
            response
        }
        Err(error) => reply::refusal(&error),
    }
}

async fn live() -> Response {
    reply::json(r#"{"status":"live"}"#)
}

async fn ready(State(reader): State<Arc<Reader>>, headers: HeaderMap) -> Response {
    let why = match reader.readiness(&headers) {
        Readiness::Ready => return reply::json(r#"{"status":"ready"}"#),
        Readiness::Deaf => "what is published is not known: Postgres does not answer".to_owned(),
        Readiness::Unreadable(names) if names.is_empty() => "a published table cannot be read".to_owned(),
        Readiness::Unreadable(mut names) => {
            names.truncate(MAX_NAMES);
            format!("these published tables cannot be read: {}", names.join(", "))
        }
    };
    reply::refusal(&Error::new(Code::Unavailable, why))
}

async fn no_such_route() -> Response {
    let error = Error::new(Code::NoSuchRoute, "nothing is served under this path");
    reply::refusal(&error.hint("rows are under /v1/TABLE/KEY, and /docs describes them"))
}

async fn method_not_allowed(request: Request) -> Response {
    let method: String = request.method().as_str().chars().take(32).collect();
    let refusal = Error::new(Code::MethodNotAllowed, format!("{method} is not answered here"));
    reply::refusal(&refusal.hint("use GET or HEAD; POST is for /v1/TABLE/_batch"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_access_log_shows_no_key_and_nothing_made_up() {
        for (path, shown) in [
            ("/v1/orders/7", Some("/v1/{table}/{key}")),
            ("/v1/orders/a%2Fb/c", Some("/v1/{table}/{key}")),
            ("/v1/alice@example.com", Some("/v1/{table}")),
            ("/v1/orders/", Some("/v1/{table}")),
            ("/v1/orders/_batch", Some("/v1/{table}/_batch")),
            ("/v1/openapi.json", Some("/v1/openapi.json")),
            ("/docs/page.js", Some("/docs")),
            ("/alice", Some(OTHER)),
            ("/livez", None),
            ("/readyz", None),
        ] {
            assert_eq!(route(path), shown, "{path}");
        }
    }
}
