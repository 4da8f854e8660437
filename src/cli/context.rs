//! What commands share: the project, Postgres, the engine.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_postgres::Client;

use crate::config::{self, Environment, PROJECT_FILE};
use crate::domain::{Code, Error, Project, Result};
use crate::engine::Engine;
use crate::observe::{Log, Observer, Traces};
use crate::postgres::Connector;
use crate::postgres::embedded::{BinarySearch, EmbeddedServer};
use crate::source::SourceContext;
use crate::store::Control;

use super::Ended;
use super::arguments::Arguments;
use super::printer::Printer;
use super::progress::ProgressView;

/// What a command works with.
pub(super) struct Context<'a> {
    pub(super) dir: PathBuf,
    pub(super) printer: &'a Printer,
    pub(super) environment: Arc<Environment>,
}

/// A project with its Postgres at hand.
pub(super) struct Opened {
    pub(super) project: Arc<Project>,
    pub(super) connector: Connector,
    pub(super) server: Option<EmbeddedServer>,
}

impl Opened {
    /// Gives the embedded server up; the last process of the project stops it.
    pub(super) async fn close(self) {
        drop(self.connector);
        if let Some(server) = self.server {
            // The work is done; a server that does not stop is adopted by the next process.
            if let Err(error) = server.release().await {
                tracing::warn!("the embedded Postgres is left running: {error}");
            }
        }
    }
}

impl<'a> Context<'a> {
    pub(super) fn new(arguments: &Arguments, printer: &'a Printer) -> Self {
        Context { dir: arguments.project.clone(), printer, environment: Arc::new(Environment::from_process()) }
    }

    /// The project, or every problem of its files.
    pub(super) fn load_project(&self) -> Result<Arc<Project>, Ended> {
        match config::load(&self.dir, &self.environment) {
            Ok(loaded) => {
                for warning in &loaded.warnings {
                    self.printer.note(&warning.render(false));
                }
                Ok(Arc::new(loaded.project))
            }
            Err(problems) if self.printer.is_json() => Err(Ended::With(problems.into())),
            Err(problems) => {
                self.printer.note(&problems.render(Printer::is_interactive()));
                Err(Ended::Shown)
            }
        }
    }

    /// The project and a connector to its Postgres; starts the embedded server where there is no URL.
    pub(super) async fn open(&self) -> Result<Opened, Ended> {
        let project = self.load_project()?;
        let (connector, server) = match &project.postgres {
            Some(url) => (Connector::from_url(url)?, None),
            None => {
                let folder = self.environment.get("LAKEGATE_POSTGRES_BIN").map(PathBuf::from);
                let search = BinarySearch { folder };
                let server = EmbeddedServer::start(&project.dir, &search).await?;
                (server.connector()?, Some(server))
            }
        };
        Ok(Opened { project, connector, server })
    }

    /// The engine on an opened project. The first start writes the project's id down.
    pub(super) async fn engine(&self, opened: &Opened, observer: Arc<dyn Observer>) -> Result<Engine> {
        let data_directory = opened.server.as_ref().map(|server| server.data_directory());
        let (project, unwritten) = self.with_id(opened).await?;
        let (engine, identity) = Engine::open(
            project,
            self.source_context(&opened.project.dir),
            opened.connector.clone(),
            observer,
            data_directory,
        )
        .await?;
        if let Some(why_not) = unwritten.filter(|_| identity.is_new) {
            let (file, id) = (opened.project.dir.join(PROJECT_FILE), identity.project);
            let file = file.display();
            self.printer.note(&format!("{file} cannot be written ({why_not}); add this line to it:\nproject: {id}"));
        }
        Ok(engine)
    }

    /// The project with an id, and why that could not be written to its file. An id is written down before anything that
    /// bears it is made in Postgres: else a process that dies between the two leaves schemas behind which no project
    /// states to be its own.
    async fn with_id(&self, opened: &Opened) -> Result<(Arc<Project>, Option<String>)> {
        let project = &opened.project;
        if project.id.is_some() || opened.server.is_some() || self.look(opened).await?.is_prepared() {
            return Ok((Arc::clone(project), None));
        }
        let file = project.dir.join(PROJECT_FILE);
        let drawn = uuid::Uuid::new_v4().to_string();
        let (id, why_not) = match self.append_id(&file, &drawn) {
            Ok(id) => {
                if id == drawn {
                    self.printer.note(&format!("wrote the project's id to {}", file.display()));
                }
                (id, None)
            }
            Err(error) => (drawn, Some(error.to_string())),
        };
        Ok((Arc::new(Project { id: Some(id), ..Project::clone(project) }), why_not))
    }

    /// Runs `work` on the control schema of a project that has been synced before, and closes everything again.
    ///
    /// # Errors
    /// [`Code::NothingPublished`] when nothing has ever been synced.
    pub(super) async fn with_control<R>(
        &self,
        work: impl AsyncFnOnce(&Control, &Client) -> Result<R>,
    ) -> Result<R, Ended> {
        self.looking(async |engine| {
            if !engine.is_prepared() {
                return Err(Error::new(Code::NothingPublished, "nothing has been synced into this database yet")
                    .hint("load the tables: lakegate sync"));
            }
            let session = engine.control_session().await?;
            work(engine.control(), &session).await
        })
        .await
    }

    /// Runs `work` on an engine that makes nothing, and closes everything again.
    pub(super) async fn looking<R>(&self, work: impl AsyncFnOnce(&Engine) -> Result<R>) -> Result<R, Ended> {
        let opened = self.open().await?;
        let engine = self.look(&opened).await;
        let result = match engine {
            Ok(engine) => work(&engine).await,
            Err(error) => Err(error),
        };
        opened.close().await;
        Ok(result?)
    }

    /// An engine on an opened project that makes nothing.
    pub(super) async fn look(&self, opened: &Opened) -> Result<Engine> {
        let data_directory = opened.server.as_ref().map(|server| server.data_directory());
        Engine::look(
            Arc::clone(&opened.project),
            self.source_context(&opened.project.dir),
            opened.connector.clone(),
            self.log(),
            data_directory,
        )
        .await
    }

    /// Runs `work` on the engine of the project and closes everything again.
    pub(super) async fn with_engine<R>(
        &self,
        observer: Arc<dyn Observer>,
        work: impl AsyncFnOnce(&Engine) -> Result<R>,
    ) -> Result<R, Ended> {
        let opened = self.open().await?;
        let result = match self.engine(&opened, observer).await {
            Ok(engine) => work(&engine).await,
            Err(error) => Err(error),
        };
        opened.close().await;
        Ok(result?)
    }

    /// What opening sources depends on.
    pub(super) fn source_context(&self, project_dir: &Path) -> SourceContext {
        SourceContext { project_dir: project_dir.to_owned(), env: self.environment.variables().clone() }
    }

    /// Sends spans, where the environment says where to.
    pub(super) fn traces(&self) -> Result<Option<Traces>> {
        Traces::start(|name| self.environment.get(name).map(str::to_owned))
    }

    /// Shows runs as they go.
    pub(super) fn progress(&self) -> Arc<dyn Observer> {
        Arc::new(ProgressView::new(*self.printer))
    }

    /// Writes log records, as long-lived commands do.
    pub(super) fn log(&self) -> Arc<dyn Observer> {
        Arc::new(Log)
    }

    /// Appends the id such that it is read as what it is, unless another process has been faster: the id that the file
    /// states then.
    fn append_id(&self, file: &Path, id: &str) -> io::Result<String> {
        let mut open = std::fs::OpenOptions::new().create(true).read(true).append(true).open(file)?;
        open.lock()?;
        if let Ok(loaded) = config::load(&self.dir, &self.environment)
            && let Some(stated) = loaded.project.id
        {
            return Ok(stated);
        }
        let mut text = String::new();
        open.read_to_string(&mut text)?;
        let lines = config::project_id_lines(&text, id)
            .ok_or_else(|| io::Error::other("a line at its end would not be read"))?;
        open.write_all(lines.as_bytes())?;
        open.sync_all()?;
        Ok(id.to_owned())
    }
}

/// Sends the last spans.
pub(super) async fn end_traces(traces: Option<Traces>) {
    if let Some(traces) = traces {
        traces.end().await;
    }
}

/// Parses a name given on the command line.
pub(super) fn table_name(name: &str) -> Result<crate::domain::TableName> {
    crate::domain::TableName::new(name).map_err(|error| {
        Error::new(Code::UnknownPipeline, error.detail().to_owned()).hint("`lakegate status` lists the tables")
    })
}
