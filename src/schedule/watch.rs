//! Waiting for a source to change (`schedule: on change`).

use std::time::{Duration, Instant};

use crate::domain::{Pipeline, Result};
use crate::engine::{Engine, Watched, Watcher};

/// How often a source is looked at on this machine's disks, and on an object store, where each look costs.
const LOCAL: Duration = Duration::from_secs(1);
const REMOTE: Duration = Duration::from_secs(10);
/// How often a run looks more closely than for the next commit: a table made anew at the same place may have as many.
const CLOSE_LOOK: Duration = Duration::from_secs(300);

/// Watches one pipeline's source.
pub(super) struct Watch {
    watcher: Watcher,
    looked_closely: Instant,
}

impl Watch {
    pub(super) fn new() -> Watch {
        Watch { watcher: Watcher::default(), looked_closely: Instant::now() }
    }

    /// How long to wait before looking again; zero when the source has changed, or a closer look is due.
    pub(super) async fn until_changed(&mut self, engine: &Engine, pipeline: &Pipeline) -> Result<Duration> {
        let watched = self.watcher.look(engine, pipeline).await?;
        let close_look = watched == Watched::Same && self.looked_closely.elapsed() > CLOSE_LOOK;
        if watched == Watched::Moved || close_look {
            self.looked_closely = Instant::now();
            return Ok(Duration::ZERO);
        }
        Ok(if pipeline.source.is_local() { LOCAL } else { REMOTE })
    }
}
