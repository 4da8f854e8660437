//! `lakegate serve`: the read API alone.

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::domain::{Error, Project, Result};
use crate::serve::{self, ReadMetrics, ServeSettings};

use super::context::{Context, Opened};
use super::up::start_logging;
use super::{Ended, interrupt};

pub(super) async fn run(context: &Context<'_>) -> Result<(), Ended> {
    start_logging();
    let shutdown = interrupt::token();
    let opened = context.open().await?;
    let result = serve_until(&opened, shutdown).await;
    opened.close().await;
    Ok(result?)
}

async fn serve_until(opened: &Opened, shutdown: CancellationToken) -> Result<()> {
    let settings = serve_settings(&opened.project, ReadMetrics::default());
    let server = serve::serve(settings, &opened.connector, shutdown).await?;
    tracing::info!(address = %server.addr, "the read API listens");
    ended(server.task, "the read API").await
}

/// What the read API needs of the project.
pub(super) fn serve_settings(project: &Project, metrics: ReadMetrics) -> ServeSettings {
    ServeSettings {
        schemas: project.schemas.clone(),
        api: project.api.clone(),
        auth: project.auth.clone(),
        limits: project.limits.clone(),
        metrics,
    }
}

/// Waits for the end of a server's task.
pub(super) async fn ended(task: JoinHandle<()>, what: &str) -> Result<()> {
    task.await.map_err(|error| Error::internal(format!("{what} stopped")).because(error))
}
