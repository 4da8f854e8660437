//! How tables are served is published as soon as it is declared otherwise: whoever hides a column does not wait for the next
//! run.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::domain::{Backoff, Code, Result, Retry, TableName};
use crate::engine::{Engine, Live};

/// How often it is tried while a run is under way, which publishes what it has begun with.
const AFTER_RUN: Duration = Duration::from_secs(1);

/// How long Postgres may take to say and do all: a connection that hangs must not end this.
const ANSWER: Duration = Duration::from_secs(60);

/// Publishes what differs, at first and with each change of the pipelines, until `shutdown`.
pub(super) async fn keep(live: &Live, shutdown: &CancellationToken) {
    let mut changes = live.follow();
    loop {
        let engine = changes.borrow_and_update().clone();
        let mut left: Vec<TableName> =
            engine.project().pipelines.iter().map(|pipeline| pipeline.name.clone()).collect();
        let (mut unanswered, mut is_first) = (0, true);
        // What is left for now is tried again, unless it is declared otherwise by then.
        let changed = loop {
            let pause = match shutdown
                .run_until_cancelled(tokio::time::timeout(ANSWER, publish(&engine, &left, is_first)))
                .await
            {
                None => return,
                Some(Ok(Ok(still_left))) => {
                    (unanswered, is_first) = (0, false);
                    left = still_left;
                    AFTER_RUN
                }
                Some(failed) => {
                    if let Ok(Err(error)) = failed {
                        tracing::warn!("how tables are served cannot be published now: {error}");
                    }
                    unanswered += 1;
                    Backoff::OF_QUESTIONS.pause(unanswered, rand::random())
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = changes.changed() => break changed,
                () = tokio::time::sleep(pause), if !left.is_empty() => {}
            }
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Publishes what differs of these tables: those of which it has to be tried again, which is told where it is the first time.
///
/// # Errors
/// Those of the server that have nothing to do with a table.
async fn publish(engine: &Engine, names: &[TableName], is_first: bool) -> Result<Vec<TableName>> {
    let mut left = Vec::new();
    let mut session = engine.control_session().await?;
    for pipeline in engine.project().pipelines.iter().filter(|pipeline| names.contains(&pipeline.name)) {
        let name = &pipeline.name;
        match engine.publish_serving(&mut session, pipeline).await {
            Ok(false) => {}
            Ok(true) => tracing::info!(pipeline = %name, "published how the table is served"),
            Err(error) if error.code() == Code::RunInProgress => {
                if is_first {
                    tracing::info!(pipeline = %name, "how the table is served is published after the run under way");
                }
                left.push(name.clone());
            }
            Err(error) if error.code().retry() == Retry::Never => {
                tracing::warn!(
                    pipeline = %name, code = %error.code(),
                    "how the table is to be served does not go with what is published, and waits for the next run: {error}"
                );
            }
            Err(error) => return Err(error.at(name)),
        }
    }
    Ok(left)
}
