//! `lakegate up`: Postgres, the schedule, the read API and the admin API in one process.

use std::sync::Arc;

use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Admin};
use crate::domain::Result;
use crate::engine::Live;
use crate::http::{Api, Listener};
use crate::observe::{Observer, RunMetrics, Several, Traces};
use crate::schedule::{self, Slots};
use crate::serve::{self, ReadMetrics};

use super::context::{Context, Opened, end_traces};
use super::follow::follow;
use super::serve::{ended, serve_settings};
use super::{Ended, interrupt};

pub(super) async fn run(context: &Context<'_>) -> Result<(), Ended> {
    start_logging();
    let traces = context.traces()?;
    let shutdown = interrupt::token();
    let opened = context.open().await?;
    let result = run_all(context, &opened, traces.as_ref(), shutdown).await;
    opened.close().await;
    end_traces(traces).await;
    Ok(result?)
}

async fn run_all(
    context: &Context<'_>,
    opened: &Opened,
    traces: Option<&Traces>,
    shutdown: CancellationToken,
) -> Result<()> {
    // Whoever has something to count adds it to this registry, before the admin API takes it.
    let mut registry = Registry::default();
    let mut observers: Vec<Arc<dyn Observer>> = vec![context.log(), Arc::new(RunMetrics::register(&mut registry))];
    observers.extend(traces.map(|traces| Arc::new(traces.of_runs()) as Arc<dyn Observer>));
    let observer = Several(observers);
    let metrics = ReadMetrics::register(&mut registry);
    let live = Live::new(context.engine(opened, Arc::new(observer)).await?);
    let project = &opened.project;
    // Both addresses are taken before anything begins.
    let listener = Listener::bind(Api::Admin, project.admin.clone(), &project.auth).await?;
    let server =
        serve::serve(serve_settings(project, metrics, traces.is_some()), &opened.connector, shutdown.clone()).await?;
    tracing::info!(address = %server.addr, "the read API listens");
    let slots = Slots::of(project);
    tracing::info!(address = %listener.addr(), "the admin API listens");
    let doorkeeper = Arc::clone(&server.doorkeeper);
    let admin = Admin { live: live.clone(), slots: slots.clone(), registry, doorkeeper };
    let admin = tokio::spawn(admin::serve(listener, admin, shutdown.clone()));
    if opened.server.is_some() {
        tracing::info!("`lakegate status` prints the URL for SQL readers");
    }
    let files = follow(project.dir.clone(), Arc::clone(&context.environment), live.clone(), shutdown.clone());
    let schedule = schedule::run(live, slots, shutdown.clone());
    let ((), (), served, administered) = tokio::join!(
        files,
        schedule,
        ends_all(&shutdown, ended(server.task, "the read API")),
        ends_all(&shutdown, ended(admin, "the admin API")),
    );
    served.and(administered)
}

/// A part that ends by a fault ends the whole.
async fn ends_all(shutdown: &CancellationToken, part: impl Future<Output = Result<()>>) -> Result<()> {
    let result = part.await;
    shutdown.cancel();
    result
}

/// Long-lived commands log to standard error; `LAKEGATE_LOG` sets what, in the syntax of tracing's `EnvFilter`.
pub(super) fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("LAKEGATE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,lakegate=info"));
    // The stream takes colours out where there is no terminal, or where NO_COLOR is set.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(true).with_writer(anstream::stderr).try_init();
}
