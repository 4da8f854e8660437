//! `lakegate serve`: the read API alone, and its metrics.

use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::admin::serve_metrics;
use crate::domain::{Code, Error, Project, Result};
use crate::http::{Api, Listener};
use crate::serve::{self, ReadMetrics, ServeSettings};

use super::context::{Context, Opened, end_traces};
use super::up::start_logging;
use super::{Ended, interrupt};

pub(super) async fn run(context: &Context<'_>) -> Result<(), Ended> {
    start_logging();
    let traces = context.traces()?;
    let shutdown = interrupt::token();
    let opened = context.open().await?;
    let result = serve_until(&opened, traces.is_some(), shutdown).await;
    opened.close().await;
    end_traces(traces).await;
    Ok(result?)
}

async fn serve_until(opened: &Opened, traced: bool, shutdown: CancellationToken) -> Result<()> {
    let project = &opened.project;
    let mut registry = Registry::default();
    let metrics = ReadMetrics::register(&mut registry);
    let listener = metrics_listener(project).await?;
    let server = serve::serve(serve_settings(project, metrics, traced), &opened.connector, shutdown.clone()).await?;
    tracing::info!(address = %server.addr, "the read API listens");
    let told = listener.map(|listener| {
        tracing::info!(address = %listener.addr(), "the admin API listens, with metrics alone");
        tokio::spawn(serve_metrics(listener, registry, server.doorkeeper, shutdown.clone()))
    });
    let served = ended(server.task, "the read API").await;
    shutdown.cancel();
    match told {
        Some(told) => served.and(ended(told, "the admin API").await),
        None => served,
    }
}

/// Where metrics are to be had. A replica beside a `lakegate up`, with the settings of that, serves rows without them.
async fn metrics_listener(project: &Project) -> Result<Option<Listener>> {
    match Listener::bind(Api::Admin, project.admin.clone(), &project.auth).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if error.code() == Code::PortTaken => {
            tracing::warn!("this replica has no metrics: {error} ({})", error.advice().unwrap_or_default());
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// What the read API needs of the project.
pub(super) fn serve_settings(project: &Project, metrics: ReadMetrics, traced: bool) -> ServeSettings {
    ServeSettings {
        schemas: project.schemas.clone(),
        api: project.api.clone(),
        auth: project.auth.clone(),
        limits: project.limits.clone(),
        metrics,
        traced,
    }
}

/// Waits for the end of a server's task.
pub(super) async fn ended(task: JoinHandle<()>, what: &str) -> Result<()> {
    task.await.map_err(|error| Error::internal(format!("{what} stopped")).because(error))
}
