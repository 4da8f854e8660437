//! What is left of the admin API where nothing is synced: metrics, and whether the process lives.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::auth::Doorkeeper;
use crate::domain::{Code, Error};
use crate::http::{self, Listener};

use super::reply::Answer;
use super::{guard, metrics, reply, router};

/// Answers `/metrics` and `/livez` until `shutdown`. Whoever asks has to show what the whole API asks for.
pub async fn serve_metrics(
    listener: Listener,
    registry: Registry,
    doorkeeper: Arc<Doorkeeper>,
    shutdown: CancellationToken,
) {
    let guard = guard::Guard::new(listener.addr(), doorkeeper);
    let gate = listener.gate(reply::refusal);
    let routes = Router::new()
        .route("/metrics", get(show))
        .with_state(Arc::new(registry))
        .fallback(no_such_route)
        .method_not_allowed_fallback(router::method_not_allowed)
        .layer(from_fn_with_state(guard, guard::pass))
        .route("/livez", get(router::live).fallback(router::method_not_allowed))
        .layer(from_fn_with_state(gate, http::pass));
    listener.run(routes, shutdown).await;
}

async fn show(State(registry): State<Arc<Registry>>) -> Answer {
    metrics::of_replica(&registry)
}

async fn no_such_route() -> Response {
    let error = Error::new(Code::NoSuchRoute, "a replica answers nothing but /metrics and /livez here");
    reply::refusal(&error.hint("ask the admin API of `lakegate up`, which syncs the tables"))
}
