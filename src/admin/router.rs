//! The routes of the admin API.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::json;

use crate::domain::{Code, Error};
use crate::http::{self, Gate};

use super::{Shared, act, guard, keys, look, metrics, reply};

/// All routes, behind the gate and, save for `/livez`, the guard.
pub(super) fn router(shared: Arc<Shared>, gate: Arc<Gate>, guard: guard::Guard) -> Router {
    Router::new()
        .route("/v1/project", get(look::project))
        .route("/v1/pipelines", get(look::pipelines))
        .route("/v1/pipelines/{name}", get(look::pipeline))
        .route("/v1/pipelines/{name}/plan", get(look::plan))
        .route("/v1/pipelines/{name}/generations", get(look::generations))
        .route("/v1/pipelines/{name}/rejected", get(look::rejected))
        .route("/v1/pipelines/{name}/sync", post(act::sync))
        .route("/v1/pipelines/{name}/rollback", post(act::rollback))
        .route("/v1/pipelines/{name}/cancel", post(act::cancel))
        .route("/v1/pipelines/{name}/pause", post(act::pause))
        .route("/v1/pipelines/{name}/resume", post(act::resume))
        .route("/v1/sync", post(act::sync_all))
        .route("/v1/runs", get(look::runs))
        .route("/v1/runs/{run}", get(look::run))
        .route("/v1/keys", get(keys::list).post(keys::create))
        .route("/v1/keys/{id}/revoke", post(keys::revoke))
        .route("/metrics", get(metrics::show))
        .with_state(shared)
        .fallback(no_such_route)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(guard, guard::pass))
        .route("/livez", get(live).fallback(method_not_allowed))
        .layer(from_fn_with_state(gate, http::pass))
}

pub(super) async fn live() -> Response {
    reply::ok(&json!({ "status": "live" }))
}

async fn no_such_route() -> Response {
    let error = Error::new(Code::NoSuchRoute, "nothing is under this path");
    reply::refusal(
        &error.hint("pipelines are under /v1/pipelines, their history under /v1/runs, API keys under /v1/keys, the files under /v1/project"),
    )
}

pub(super) async fn method_not_allowed(request: Request) -> Response {
    let method: String = request.method().as_str().chars().take(32).collect();
    let error = Error::new(Code::MethodNotAllowed, format!("{method} is not answered here"));
    reply::refusal(&error.hint("what is looked at takes GET, what is done takes POST"))
}
