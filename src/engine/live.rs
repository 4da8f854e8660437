//! The engine of a process that goes on while the project's files change.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio::sync::watch;

use crate::domain::{Pipeline, Project};

use super::Engine;

/// Holds the engine of the pipelines as they are declared now. Whoever begins something takes it once and goes on with it:
/// a run ends with the definition that it began with. Cheap to clone.
#[derive(Clone)]
pub struct Live(Arc<Shared>);

struct Shared {
    engine: watch::Sender<Arc<Engine>>,
    files: Mutex<FilesState>,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("files", &self.files()).finish_non_exhaustive()
    }
}

/// How the project's files stand to what goes on.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct FilesState {
    /// What is wrong with the files as they are now. While that is anything, what they declared before goes on.
    pub problems: Vec<serde_json::Value>,
    /// Settings that are declared otherwise by now, and hold from the next start on.
    pub restart_needed: Vec<&'static str>,
    /// When pipelines were last taken over that had changed; `None` = not since the start.
    pub changed_at: Option<DateTime<Utc>>,
}

impl Live {
    /// Begins with this engine.
    #[must_use]
    pub fn new(engine: Engine) -> Live {
        Live(Arc::new(Shared { engine: watch::Sender::new(Arc::new(engine)), files: Mutex::default() }))
    }

    /// The engine as of now.
    #[must_use]
    pub fn now(&self) -> Arc<Engine> {
        Arc::clone(&self.0.engine.borrow())
    }

    /// Tells of the engines to come.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<Arc<Engine>> {
        self.0.engine.subscribe()
    }

    /// From now on these pipelines are declared.
    pub fn declare(&self, pipelines: Vec<Pipeline>) {
        self.0.engine.send_modify(|engine| *engine = Arc::new(engine.with_pipelines(pipelines)));
    }

    /// Has everybody look again whether something is to be done, as if something had changed.
    pub fn look_again(&self) {
        self.0.engine.send_modify(|_| {});
    }

    /// How the project's files stand to what goes on.
    #[must_use]
    pub fn files(&self) -> FilesState {
        self.0.files.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes how the project's files stand.
    pub fn note_files(&self, files: FilesState) {
        *self.0.files.lock().unwrap_or_else(PoisonError::into_inner) = files;
    }
}

impl Engine {
    /// The same engine for other pipelines; the project's settings stay.
    fn with_pipelines(&self, pipelines: Vec<Pipeline>) -> Engine {
        let project = Arc::new(Project { pipelines, ..Project::clone(&self.project) });
        Engine { project, ..self.clone() }
    }
}
