//! Whether a pipeline is due, asked again and again.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::domain::{Error, Pipeline, Result, Schedule};
use crate::engine::{Engine, Watched, Watcher};
use crate::store::SyncState;

use super::HOUSEKEEPING;
use super::due::{NextRun, next_run};

/// How often a source is looked at on this machine's disks, and on an object store, where each look costs.
const LOCAL: Duration = Duration::from_secs(1);
const REMOTE: Duration = Duration::from_secs(10);
/// How often a run looks more closely than for the next commit: a table made anew at the same place may have as many.
const CLOSE_LOOK: Duration = Duration::from_secs(300);
/// How often a look that finds nothing new is written down.
const NOTED: Duration = Duration::from_secs(10);
/// How often a run that another process has under way is looked at: it may have died.
pub(super) const ELSEWHERE: Duration = Duration::from_secs(1);

/// Whether a pipeline is due.
#[derive(Debug)]
pub(super) enum Readiness {
    /// Not before this time has passed; then it is to be asked again.
    NotFor(Duration),
    /// Not before a person lets it go on; it is to be asked again after this time.
    Paused(Duration),
    /// Since then.
    Since(DateTime<Utc>),
    /// Its source cannot be looked at. A run tells why, and writes it down for all to see.
    Blind(DateTime<Utc>, Error),
}

impl Readiness {
    /// That of two pipelines that run together.
    pub(super) fn and(self, other: Readiness) -> Readiness {
        use Readiness::{Blind, NotFor, Paused, Since};
        match (self, other) {
            (Paused(pause), _) | (_, Paused(pause)) => Paused(pause),
            (Since(one), Since(other)) => Since(one.min(other)),
            (Since(due), _) | (_, Since(due)) => Since(due),
            (Blind(due, error), _) | (_, Blind(due, error)) => Blind(due, error),
            (NotFor(one), NotFor(other)) => NotFor(one.min(other)),
        }
    }
}

/// Watches one pipeline.
pub(super) struct Watch {
    watcher: Watcher,
    looked_closely: Instant,
    noted: Option<Instant>,
    /// Whether it has been defined otherwise since its last run, so far as this process has seen.
    redefined: bool,
}

impl Watch {
    /// `redefined` where the pipeline was another one before.
    pub(super) fn new(redefined: bool) -> Watch {
        Watch { watcher: Watcher::default(), looked_closely: Instant::now(), noted: None, redefined }
    }

    /// It has run as it is defined.
    pub(super) fn ran(&mut self) {
        self.redefined = false;
    }

    /// Asks once. Waits are at most [`HOUSEKEEPING`], so that a pause, a resume or a manual run is noticed.
    ///
    /// # Errors
    /// Those of the server; those of the source where the last run has failed already.
    pub(super) async fn ask(&mut self, engine: &Engine, pipeline: &Pipeline) -> Result<Readiness> {
        let is_watched = pipeline.schedule == Schedule::OnChange;
        let state = self.watcher.state(engine, pipeline, is_watched).await?;
        if state.paused {
            return Ok(Readiness::Paused(if is_watched { between_looks(pipeline) } else { HOUSEKEEPING }));
        }
        if state.under_way {
            return Ok(Readiness::NotFor(ELSEWHERE));
        }
        match next_run(pipeline, &state) {
            NextRun::At(time) if time <= state.now => Ok(Readiness::Since(time)),
            // What was wrong with it may be mended.
            NextRun::At(_) if self.redefined && state.failure.is_some() => Ok(Readiness::Since(state.now)),
            NextRun::At(time) => {
                Ok(Readiness::NotFor((time - state.now).to_std().unwrap_or_default().min(HOUSEKEEPING)))
            }
            NextRun::WhenSourceMoves => self.look(engine, pipeline, &state).await,
            NextRun::OnRequest => Ok(Readiness::NotFor(HOUSEKEEPING)),
        }
    }

    async fn look(&mut self, engine: &Engine, pipeline: &Pipeline, state: &SyncState) -> Result<Readiness> {
        let watched = match engine.look_at_source(pipeline, state).await {
            Err(error) if state.failure.is_none() => return Ok(Readiness::Blind(state.now, error)),
            other => other?,
        };
        // Other ticks than those of its source there are none, at which it would become what it is defined as.
        let is_due = self.redefined || self.looked_closely.elapsed() > CLOSE_LOOK;
        let close_look = watched == Watched::Same && is_due;
        if watched == Watched::Moved || close_look {
            self.looked_closely = Instant::now();
            return Ok(Readiness::Since(state.now));
        }
        if watched == Watched::Same && self.noted.is_none_or(|noted| noted.elapsed() >= NOTED) {
            self.watcher.note_checked(engine, pipeline).await?;
            self.noted = Some(Instant::now());
        }
        Ok(Readiness::NotFor(between_looks(pipeline)))
    }
}

fn between_looks(pipeline: &Pipeline) -> Duration {
    if pipeline.source.is_local() { LOCAL } else { REMOTE }
}
