//! What changes something: syncs, rollbacks, cancelling, pausing.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use serde::Deserialize;
use serde_json::json;

use crate::domain::{Code, Error, Pipeline, RunState};

use super::Shared;
use super::asked::Wish;
use super::reply::{Answer, begun, list};
use super::request::{Named, Nothing, body};

/// Who cancels, for people.
const WHO: &str = "the admin API";

/// What to sync, and how.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SyncAll {
    /// These; all if left out.
    pipelines: Option<Vec<String>>,
    full: bool,
    ignore_checks: bool,
}

/// How to sync one.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SyncOne {
    full: bool,
    ignore_checks: bool,
}

/// Whereto to go back.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Rollback {
    to: Option<i64>,
    to_version: Option<u64>,
}

/// `POST /v1/sync`
pub(super) async fn sync_all(State(shared): State<Arc<Shared>>, sent: Body) -> Answer {
    let SyncAll { pipelines, full, ignore_checks } = body(sent).await?;
    let engine = shared.engine();
    let pipelines: Vec<&Pipeline> = match &pipelines {
        None => engine.project().pipelines.iter().collect(),
        Some(names) => names.iter().map(|name| engine.pipeline(name)).collect::<Result<_, Error>>()?,
    };
    Ok(begun(&shared.syncs.sync(&pipelines, Wish::Sync { full, ignore_checks }).await?))
}

/// `POST /v1/pipelines/{name}/sync`
pub(super) async fn sync(State(shared): State<Arc<Shared>>, Named(name): Named, sent: Body) -> Answer {
    let SyncOne { full, ignore_checks } = body(sent).await?;
    let engine = shared.engine();
    let pipeline = engine.pipeline(name.as_str())?;
    Ok(begun(&shared.syncs.sync(&[pipeline], Wish::Sync { full, ignore_checks }).await?))
}

/// `POST /v1/pipelines/{name}/rollback`
pub(super) async fn rollback(State(shared): State<Arc<Shared>>, Named(name): Named, sent: Body) -> Answer {
    let Rollback { to, to_version } = body(sent).await?;
    let engine = shared.engine();
    if to.is_some() && to_version.is_some() {
        let detail = "`to` names a generation and `to_version` a version of the source: only one of them can be";
        return Err(Error::new(Code::InvalidBody, detail).into());
    }
    let pipeline = engine.pipeline(name.as_str())?;
    Ok(begun(&[shared.syncs.rollback(pipeline, to, to_version).await?]))
}

/// `POST /v1/pipelines/{name}/cancel`
pub(super) async fn cancel(State(shared): State<Arc<Shared>>, Named(name): Named, sent: Body) -> Answer {
    let Nothing {} = body(sent).await?;
    let engine = shared.engine();
    match engine.ask_cancel(&name, WHO).await {
        // One that waits for its turn is no run yet.
        Err(error) if error.code() == Code::NoRunUnderWay && shared.syncs.withdraw(&name) => {
            Ok(begun(&[json!({ "pipeline": name, "run": null, "state": RunState::Cancelled })]))
        }
        asked => Ok(begun(&[asked?])),
    }
}

/// `POST /v1/pipelines/{name}/pause`
pub(super) async fn pause(State(shared): State<Arc<Shared>>, Named(name): Named, sent: Body) -> Answer {
    let Nothing {} = body(sent).await?;
    let engine = shared.engine();
    let pipeline = engine.pipeline(name.as_str())?;
    Ok(list(&engine.set_paused(pipeline, Some("paused by the admin API")).await?))
}

/// `POST /v1/pipelines/{name}/resume`
pub(super) async fn resume(State(shared): State<Arc<Shared>>, Named(name): Named, sent: Body) -> Answer {
    let Nothing {} = body(sent).await?;
    let engine = shared.engine();
    let pipeline = engine.pipeline(name.as_str())?;
    Ok(list(&engine.set_paused(pipeline, None).await?))
}
