//! The routes of the read API.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::get;

use super::catalog::Readiness;
use super::reader::{Answer, Reader};
use super::request::Question;
use super::{accept, reply};
use crate::domain::{Code, Error};
use crate::http::{Gate, pass};

/// The most names of unreadable tables that `/readyz` lists.
const MAX_NAMES: usize = 100;

/// What reading routes stand under.
const ROOT: &str = "/v1/";

/// All routes, behind the gate.
pub(super) fn router(reader: Arc<Reader>, gate: Arc<Gate>) -> Router {
    Router::new()
        .route("/v1/{table}", get(rows))
        .route("/v1/{table}/", get(rows))
        .route("/v1/{table}/{*key}", get(rows))
        .route("/readyz", get(ready))
        .with_state(reader)
        .route("/livez", get(live))
        .fallback(no_such_route)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(gate, pass))
}

/// A row by its whole key, or a page by the first parts of it. The path is taken raw: an encoded `/` is data.
async fn rows(State(reader): State<Arc<Reader>>, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().strip_prefix(ROOT).unwrap_or_default();
    let question = accept::json(&headers).and_then(|()| Question::from_url(path, uri.query()));
    let answer = match question {
        Ok(question) => reader.answer(&question).await,
        Err(error) => {
            let name = path.split('/').next().unwrap_or_default();
            Answer { table: reader.known(name), body: Err(error) }
        }
    };
    reply::answer(answer, &headers)
}

async fn live() -> Response {
    reply::json(r#"{"status":"live"}"#)
}

async fn ready(State(reader): State<Arc<Reader>>) -> Response {
    let why = match reader.readiness() {
        Readiness::Ready => return reply::json(r#"{"status":"ready"}"#),
        Readiness::Deaf => "what is published is not known: Postgres does not answer".to_owned(),
        Readiness::Unreadable(mut names) => {
            names.truncate(MAX_NAMES);
            format!("these published tables cannot be read: {}", names.join(", "))
        }
    };
    reply::refusal(&Error::new(Code::Unavailable, why))
}

async fn no_such_route() -> Response {
    let error = Error::new(Code::NoSuchRoute, "nothing is served under this path");
    reply::refusal(&error.hint("rows are under /v1/TABLE/KEY"))
}

async fn method_not_allowed(request: Request) -> Response {
    let method: String = request.method().as_str().chars().take(32).collect();
    reply::refusal(
        &Error::new(Code::MethodNotAllowed, format!("{method} is not answered here")).hint("use GET or HEAD"),
    )
}
