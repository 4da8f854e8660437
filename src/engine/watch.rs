//! Looking whether a source has moved on, again and again.

use std::fmt;
use std::time::Duration;

use crate::domain::{Code, Error, Pipeline, Result, Retry, SourceVersion, spell_duration};
use crate::postgres::Session;
use crate::source::Source;
use crate::store::{CancelledRun, FailedRun, SyncState};

use super::Engine;
use super::fingerprint::{definition, fingerprint};

/// How long a question to Postgres may take: a connection that hangs must not stop the schedule.
const ANSWER: Duration = Duration::from_secs(30);

/// What a look at a source found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// The source stands where it stood when it was published.
    Same,
    /// It may hold something newer, or nothing is published.
    Moved,
    /// It stands where the last run refused it or was cancelled, and nothing was said to mend that.
    Refused,
}

/// A run that is not to be made again as it was.
struct Refused<'a> {
    source: &'a Option<SourceVersion>,
    definition: &'a Option<String>,
    /// What stopped it; `None` where a person did.
    code: Option<Code>,
}

/// Asks about one pipeline, with a connection that stays open between questions if wanted.
#[derive(Default)]
pub struct Watcher {
    session: Option<Session>,
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher").field("connected", &self.session.is_some()).finish()
    }
}

impl Watcher {
    /// How the pipeline's syncs fare. `keep` keeps the connection for the next question.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn state(&mut self, engine: &Engine, pipeline: &Pipeline, keep: bool) -> Result<SyncState> {
        let ask = async {
            let session = self.session(engine).await?;
            let states = engine.control.sync_states(&*session, &[&pipeline.name]).await?;
            Ok::<_, Error>((session, states))
        };
        let Ok(answer) = tokio::time::timeout(ANSWER, ask).await else {
            let detail = format!("no answer within {}", spell_duration(ANSWER));
            return Err(Error::new(Code::PostgresUnreachable, detail).hint("check the server and the network"));
        };
        let (session, mut states) = answer?;
        self.session = keep.then_some(session);
        let state = states.pop();
        state.ok_or_else(|| Error::internal("a question about one pipeline has no answer"))
    }

    /// Notes that the source holds nothing newer than what is published.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn note_checked(&mut self, engine: &Engine, pipeline: &Pipeline) -> Result<()> {
        let session = self.session(engine).await?;
        let noted = engine.control.note_checked(&*session, &pipeline.name).await;
        self.session = Some(session);
        noted
    }

    async fn session(&mut self, engine: &Engine) -> Result<Session> {
        match self.session.take() {
            Some(session) if !session.is_closed() => Ok(session),
            _ => engine.control_session().await,
        }
    }
}

impl Engine {
    /// Looks once whether a pipeline whose syncs fare like this has something to load, asking as little as possible.
    ///
    /// # Errors
    /// Those of the source.
    pub async fn look_at_source(&self, pipeline: &Pipeline, state: &SyncState) -> Result<Watched> {
        if let Some(cancelled) = &state.cancelled {
            let CancelledRun { source, definition, .. } = cancelled;
            return self.look_at_refused(pipeline, state, &Refused { source, definition, code: None }).await;
        }
        match &state.failure {
            Some(failure) if failure.code.retry() == Retry::Never => {
                let FailedRun { source, definition, code, .. } = failure;
                self.look_at_refused(pipeline, state, &Refused { source, definition, code: Some(*code) }).await
            }
            Some(_) => Ok(Watched::Moved),
            None => match &state.published {
                Some(published) if !self.has_moved(pipeline, &published.source).await? => Ok(Watched::Same),
                _ => Ok(Watched::Moved),
            },
        }
    }

    /// What a run refused, or a person has had cancelled, is not run again unless the source has moved or the pipeline is
    /// defined otherwise by now.
    async fn look_at_refused(&self, pipeline: &Pipeline, state: &SyncState, run: &Refused<'_>) -> Result<Watched> {
        if run.definition.as_deref() != Some(definition(pipeline).as_str()) {
            return Ok(Watched::Moved);
        }
        let Some(refused) = run.source else { return self.look_whether_readable(pipeline, run.code).await };
        // A load of what is published anyway was asked for: it is still there.
        let is_published =
            |one: &crate::store::PublishedSource| one.source == *refused && one.fingerprint == fingerprint(pipeline);
        if state.published.as_ref().is_some_and(is_published) || self.has_moved(pipeline, refused).await? {
            return Ok(Watched::Moved);
        }
        Ok(Watched::Refused)
    }

    /// Whether a source whose version could not be found out has one by now.
    async fn look_whether_readable(&self, pipeline: &Pipeline, refused: Option<Code>) -> Result<Watched> {
        match Source::current_version(&pipeline.source, &self.sources).await {
            Ok(_) => Ok(Watched::Moved),
            Err(error) if Some(error.code()) == refused => Ok(Watched::Refused),
            Err(error) => Err(error.at(&pipeline.name)),
        }
    }

    async fn has_moved(&self, pipeline: &Pipeline, from: &SourceVersion) -> Result<bool> {
        let moved = Source::has_moved(&pipeline.source, &self.sources, from).await;
        moved.map_err(|error| error.at(&pipeline.name))
    }
}
