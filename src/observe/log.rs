//! Events as log records.

use tracing::{error, info, warn};

use crate::domain::TableName;

use super::{Event, Observer};

/// Writes one record an event that a person wants to find later; progress is left out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Log;

impl Observer for Log {
    fn observe(&self, pipeline: &TableName, event: &Event<'_>) {
        match event {
            Event::RunStarted { run } => info!(%pipeline, run, "run started"),
            Event::Joined { holder } => info!(%pipeline, holder, "joined a run under way"),
            Event::Planned { mode, reason } => info!(%pipeline, mode = mode.as_str(), reason, "planned"),
            Event::Entered(stage) => info!(%pipeline, stage = stage.as_str(), "stage"),
            Event::Copying(_) => {}
            Event::Waiting { waited, blockers } => {
                warn!(%pipeline, waited_secs = waited.as_secs_f64(), blockers, "publish waits for its lock");
            }
            Event::Retrying { error, pause } => {
                warn!(%pipeline, code = %error.code(), pause_secs = pause.as_secs_f64(), "tried again: {error}");
            }
            Event::Warning(text) => warn!(%pipeline, "{text}"),
            Event::Finished(outcome) => info!(
                %pipeline,
                run = outcome.run,
                state = outcome.state.as_str(),
                mode = outcome.mode.as_str(),
                source_version = outcome.source_version,
                rows = outcome.rows.inserted,
                seconds = outcome.seconds.total,
                "run finished"
            ),
            Event::Failed(error) if error.code().is_cancellation() => {
                warn!(%pipeline, code = %error.code(), "{error}");
            }
            Event::Failed(error) => error!(%pipeline, code = %error.code(), "{error}"),
        }
    }
}
