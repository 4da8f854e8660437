//! What is so: tables, runs, generations, rejected rows, plans.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use serde_json::json;

use crate::domain::{Code, Error};
use crate::schedule::table_statuses;
use crate::store::RunFilter;

use super::Shared;
use super::reply::{Answer, list, ok};
use super::request::{Named, Numbered, Parameters};

/// Rows of a page of runs or rejected rows: unless asked otherwise, and at most.
const PAGE: i64 = 100;
const LONGEST_PAGE: i64 = 1_000;

/// More generations than anybody keeps; the list ends with retired ones.
const GENERATIONS: i64 = 100;

/// `GET /v1/project`
pub(super) async fn project(State(shared): State<Arc<Shared>>, uri: Uri) -> Answer {
    Parameters::read(uri.query(), &[])?;
    Ok(ok(&shared.live.files()))
}

/// `GET /v1/pipelines`
pub(super) async fn pipelines(State(shared): State<Arc<Shared>>, uri: Uri) -> Answer {
    Parameters::read(uri.query(), &[])?;
    let engine = shared.engine();
    Ok(list(&table_statuses(&engine).await?))
}

/// `GET /v1/pipelines/{name}`
pub(super) async fn pipeline(State(shared): State<Arc<Shared>>, Named(name): Named, uri: Uri) -> Answer {
    Parameters::read(uri.query(), &[])?;
    let engine = shared.engine();
    let tables = table_statuses(&engine).await?;
    match tables.into_iter().find(|table| table.name == name.as_str()) {
        Some(table) => Ok(ok(&table)),
        // One that is neither declared nor published: the error names those that are.
        None => Err(engine.pipeline(name.as_str()).err().unwrap_or_else(|| gone(name.as_str())).into()),
    }
}

fn gone(name: &str) -> Error {
    Error::new(Code::UnknownPipeline, format!("no pipeline is called `{name}`"))
}

/// `GET /v1/pipelines/{name}/plan`
pub(super) async fn plan(State(shared): State<Arc<Shared>>, Named(name): Named, uri: Uri) -> Answer {
    Parameters::read(uri.query(), &[])?;
    let engine = shared.engine();
    let pipeline = engine.pipeline(name.as_str())?;
    Ok(ok(&Box::pin(engine.plan(pipeline)).await?))
}

/// `GET /v1/pipelines/{name}/generations`
pub(super) async fn generations(State(shared): State<Arc<Shared>>, Named(name): Named, uri: Uri) -> Answer {
    Parameters::read(uri.query(), &[])?;
    let engine = shared.engine();
    let session = engine.control_session().await?;
    let generations = engine.control().generations(&*session, &name, GENERATIONS).await?;
    if generations.is_empty() {
        engine.pipeline(name.as_str())?;
    }
    Ok(list(&generations))
}

/// `GET /v1/pipelines/{name}/rejected`
pub(super) async fn rejected(State(shared): State<Arc<Shared>>, Named(name): Named, uri: Uri) -> Answer {
    let asked = Parameters::read(uri.query(), &["run", "limit"])?;
    let engine = shared.engine();
    let (run, limit) = (asked.number("run", 1, i64::MAX)?, asked.number("limit", 1, LONGEST_PAGE)?.unwrap_or(PAGE));
    let session = engine.control_session().await?;
    let rows = engine.control().rejected_rows(&*session, &name, run, limit).await?;
    if rows.is_empty() {
        engine.pipeline(name.as_str())?;
    }
    Ok(list(&rows))
}

/// `GET /v1/runs`: newest first, a page at a time. `next` is what `before` has to be for the next page.
pub(super) async fn runs(State(shared): State<Arc<Shared>>, uri: Uri) -> Answer {
    let asked = Parameters::read(uri.query(), &["pipeline", "limit", "before"])?;
    let engine = shared.engine();
    let limit = asked.number("limit", 1, LONGEST_PAGE)?.unwrap_or(PAGE);
    let before = asked.number("before", 1, i64::MAX)?;
    let name = asked
        .text("pipeline")
        .map(|name| crate::domain::TableName::new(name).map_err(|_| gone(&name.chars().take(64).collect::<String>())));
    let name = name.transpose()?;
    let session = engine.control_session().await?;
    // One more than asked for tells whether there are more.
    let filter = RunFilter { pipeline: name.as_ref(), before, limit: limit + 1 };
    let mut runs = engine.control().runs(&*session, filter).await?;
    if let (true, None, Some(name)) = (runs.is_empty(), before, &name) {
        engine.pipeline(name.as_str())?;
    }
    let page = usize::try_from(limit).unwrap_or(usize::MAX);
    let is_last = runs.len() <= page;
    runs.truncate(page);
    let next = runs.last().map(|run| run.run).filter(|_| !is_last);
    Ok(ok(&json!({ "data": runs, "next": next })))
}

/// `GET /v1/runs/{run}`
pub(super) async fn run(State(shared): State<Arc<Shared>>, Numbered(run): Numbered, uri: Uri) -> Answer {
    Parameters::read(uri.query(), &[])?;
    let engine = shared.engine();
    let session = engine.control_session().await?;
    match engine.control().run(&*session, run).await? {
        Some(record) => Ok(ok(&record)),
        None => Err(Error::new(Code::NoSuchRun, format!("there is no run {run}"))
            .hint("old runs are removed; GET /v1/runs lists those that are kept")
            .into()),
    }
}
