//! What happens during syncs, told once: one event type that logs, progress bars and tests listen to.

mod log;
mod metrics;
mod traces;

use std::time::Duration;

use crate::domain::{RunMode, RunOutcome, TableName};

pub use log::Log;
pub use metrics::{RunMetrics, Several};
pub use traces::{RunTraces, Traces, part};

/// A stage of a run, in the order in which a snapshot passes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Reading the log, comparing schemas.
    Plan,
    /// Reading, encoding and COPY.
    Copy,
    /// Indexes, primary key, statistics.
    Index,
    /// Counts and row hashes.
    Verify,
    /// The publish transaction.
    Publish,
}

impl Stage {
    /// The name that people see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Stage::Plan => "plan",
            Stage::Copy => "copy",
            Stage::Index => "index",
            Stage::Verify => "verify",
            Stage::Publish => "publish",
        }
    }
}

/// How far a copy is. Absolute, not since the last event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Rows encoded so far.
    pub rows: u64,
    /// Rows that the source holds, where its log or footers say so.
    pub rows_total: Option<u64>,
    /// Bytes handed to Postgres so far.
    pub bytes_copied: u64,
}

/// Something that happened to a pipeline.
#[derive(Debug)]
pub enum Event<'a> {
    /// A run has begun.
    RunStarted {
        /// The run's number.
        run: i64,
    },
    /// A run of another process is under way; this one waits for its end.
    Joined {
        /// Who runs.
        holder: &'a str,
    },
    /// What the run is going to do.
    Planned {
        /// The mode.
        mode: RunMode,
        /// Why this mode.
        reason: &'a str,
    },
    /// A stage has begun.
    Entered(Stage),
    /// The copy has come this far.
    Copying(Progress),
    /// The publish could not have its lock and will try again.
    Waiting {
        /// How long it has waited.
        waited: Duration,
        /// Who holds the lock.
        blockers: &'a str,
    },
    /// A run has failed by what often passes soon; it is begun again.
    Retrying {
        /// What stopped it.
        error: &'a crate::domain::Error,
        /// After this pause.
        pause: Duration,
    },
    /// Something a person should know that does not stop the run.
    Warning(&'a str),
    /// The run has ended without an error.
    Finished(&'a RunOutcome),
    /// The run has ended with an error.
    Failed(&'a crate::domain::Error),
}

/// Listens to events. Called on the hot path: it must not block.
pub trait Observer: Send + Sync {
    /// Takes one event of one pipeline.
    fn observe(&self, pipeline: &TableName, event: &Event<'_>);
}
