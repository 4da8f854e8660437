//! `lakegate up`: Postgres, the schedule and the read API in one process.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::domain::Result;
use crate::schedule;
use crate::serve;

use super::context::{Context, Opened};
use super::serve::{ended, serve_settings};
use super::{Ended, interrupt};

pub(super) async fn run(context: &Context<'_>) -> Result<(), Ended> {
    start_logging();
    let shutdown = interrupt::token();
    let opened = context.open().await?;
    let result = run_all(context, &opened, shutdown).await;
    opened.close().await;
    Ok(result?)
}

async fn run_all(context: &Context<'_>, opened: &Opened, shutdown: CancellationToken) -> Result<()> {
    let engine = Arc::new(context.engine(opened, context.log()).await?);
    let settings = serve_settings(&opened.project);
    let server = serve::serve(settings, &opened.connector, shutdown.clone()).await?;
    tracing::info!(address = %server.addr, "the read API listens");
    if opened.server.is_some() {
        tracing::info!("`lakegate status` prints the URL for SQL readers");
    }
    let schedule = schedule::run(engine, shutdown.clone());
    let ((), served) = tokio::join!(schedule, async {
        let served = ended(server.task).await;
        // The API alone ending by a fault ends the whole.
        shutdown.cancel();
        served
    });
    served
}

/// Long-lived commands log to standard error; `LAKEGATE_LOG` sets what, in the syntax of tracing's `EnvFilter`.
pub(super) fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("LAKEGATE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,lakegate=info"));
    // The stream takes colours out where there is no terminal, or where NO_COLOR is set.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(true).with_writer(anstream::stderr).try_init();
}
