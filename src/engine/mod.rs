//! Runs: from a pipeline and the state of its source to a published generation.
//!
//! [`Engine::plan`] decides and changes nothing; [`Engine::sync_together`] does what the plans say of a pipeline and its
//! group. One run of a pipeline goes on at a time across all processes, and whatever ends a run, what was published before
//! it stays.

mod cancel;
mod changed;
mod checks;
mod choose;
mod columns;
mod copy;
mod differing;
mod drop_table;
mod error_record;
mod fingerprint;
mod group;
mod held;
mod live;
mod load;
mod merge;
mod plan;
mod publish;
mod reading;
mod rejects;
mod retire;
mod rollback;
mod run;
mod schema_change;
mod server_check;
mod serving;
mod settle;
mod sync;
mod unchanged;
mod verify_table;
mod watch;

use std::sync::Arc;

use crate::destination::Destination;
use crate::domain::{Code, Error, Pipeline, Project, Result};
use crate::observe::Observer;
use crate::postgres::{Connector, Purpose, Session};
use crate::source::SourceContext;
use crate::store::{Control, Identity};

pub use cancel::CancelledRun;
pub use error_record::ErrorRecord;
pub use group::Paused;
pub use live::{FilesState, Live};
pub use plan::{ColumnPlan, Plan};
pub use sync::{RunFailure, SyncRequest, Synced, Trigger};
pub use verify_table::TableVerification;
pub use watch::{Watched, Watcher};

/// Everything that runs need, for one project.
#[derive(Clone)]
pub struct Engine {
    project: Arc<Project>,
    sources: SourceContext,
    control: Control,
    destination: Destination,
    connector: Connector,
    observer: Arc<dyn Observer>,
    /// Where the server's data lies, when it is on this machine and ours to look at.
    data_directory: Option<std::path::PathBuf>,
    prepared: bool,
}

impl Engine {
    /// Connects without making anything: for commands that only look. See [`Engine::is_prepared`].
    ///
    /// # Errors
    /// [`Code::ForeignProject`] when the control schema belongs to another project.
    pub async fn look(
        project: Arc<Project>,
        sources: SourceContext,
        connector: Connector,
        observer: Arc<dyn Observer>,
        data_directory: Option<std::path::PathBuf>,
    ) -> Result<Engine> {
        Ok(Engine::meet(project, sources, connector, observer, data_directory).await?.0)
    }

    /// The engine, a session, and whose the control schema is.
    async fn meet(
        project: Arc<Project>,
        sources: SourceContext,
        connector: Connector,
        observer: Arc<dyn Observer>,
        data_directory: Option<std::path::PathBuf>,
    ) -> Result<(Engine, Session, Identity)> {
        let control = Control::new(&project.schemas.control);
        let destination = Destination::new(project.schemas.clone());
        let mut engine =
            Engine { project, sources, control, destination, connector, observer, data_directory, prepared: false };
        let session = engine.control_session().await?;
        let adopt = engine.data_directory.is_some();
        let identity = engine.control.identify(&session, engine.project.id.as_deref(), adopt).await?;
        engine.prepared = !identity.is_new;
        Ok((engine, session, identity))
    }

    /// Connects, prepares schemas, roles and control tables, and checks that they are this project's.
    ///
    /// `data_directory` is where the embedded server keeps its data; that server belongs to the project, and so does
    /// the control schema in it.
    pub async fn open(
        project: Arc<Project>,
        sources: SourceContext,
        connector: Connector,
        observer: Arc<dyn Observer>,
        data_directory: Option<std::path::PathBuf>,
    ) -> Result<(Engine, Identity)> {
        let (mut engine, mut session, identity) =
            Engine::meet(project, sources, connector, observer, data_directory).await?;
        let adopt = engine.data_directory.is_some();
        engine.destination.prepare_schemas(&mut session, &identity.project).await?;
        let identity = engine.control.migrate(&mut session, identity, adopt).await?;
        engine.destination.grant_reader(&mut session, &identity.project).await?;
        engine.prepared = true;
        Ok((engine, identity))
    }

    /// Whether the control tables exist; if not, nothing has ever been synced.
    #[must_use]
    pub fn is_prepared(&self) -> bool {
        self.prepared
    }

    /// The project.
    #[must_use]
    pub fn project(&self) -> &Project {
        &self.project
    }

    /// The same engine for further runs, of which this observer is told instead.
    #[must_use]
    pub fn observed_by(&self, observer: Arc<dyn Observer>) -> Engine {
        Engine { observer, ..self.clone() }
    }

    /// Who is told of runs.
    #[must_use]
    pub fn observer(&self) -> &Arc<dyn Observer> {
        &self.observer
    }

    /// The control schema.
    #[must_use]
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// The destination.
    #[must_use]
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// The bytes that one run may hold: all runs of the process together stay within `limits.memory`.
    fn run_budget(&self) -> u64 {
        self.project.limits.memory / u64::from(self.project.limits.concurrent_runs.max(1))
    }

    /// A connection for short statements on the control schema.
    pub async fn control_session(&self) -> Result<Session> {
        self.connector.connect(Purpose::Control, "lakegate control").await
    }

    /// The pipeline of this name.
    ///
    /// # Errors
    /// [`Code::UnknownPipeline`] with the names there are.
    pub fn pipeline(&self, name: &str) -> Result<&Pipeline> {
        self.project.pipelines.iter().find(|pipeline| pipeline.name.as_str() == name).ok_or_else(|| {
            let names: Vec<&str> = self.project.pipelines.iter().map(|pipeline| pipeline.name.as_str()).collect();
            let hint = if names.is_empty() {
                "the project has no pipelines; `lakegate add SOURCE` makes one".to_owned()
            } else {
                format!("the pipelines are: {}", names.join(", "))
            };
            Error::new(Code::UnknownPipeline, format!("no pipeline is called `{name}`")).hint(hint)
        })
    }
}
