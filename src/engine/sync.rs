//! One sync of one pipeline: the lease, the run's record, its end.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::domain::{
    Code, Error, Generation, Pipeline, Result, Retry, RunMode, RunOutcome, RunState, SourcePin, spell_duration,
};
use crate::observe::Event;
use crate::postgres::{Purpose, Session};
use crate::store::{Heartbeat, Lease, LeaseAttempt, RunRecord};

use super::{Engine, ErrorRecord};

/// How long a lease holds without being renewed. A hung process is replaced after this time, a dead one at once.
const LEASE_TTL: Duration = Duration::from_secs(15);
/// How often a joined run is looked at.
const JOIN_POLL: Duration = Duration::from_millis(200);
/// How long giving the lease back may take; one that is not given back expires.
const RELEASE: Duration = Duration::from_secs(5);

/// What started a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// A person or a program, now.
    Manual,
    /// The pipeline's schedule.
    Schedule,
    /// `lakegate rollback`.
    Rollback,
}

impl Trigger {
    const fn as_str(self) -> &'static str {
        match self {
            Trigger::Manual => "manual",
            Trigger::Schedule => "schedule",
            Trigger::Rollback => "rollback",
        }
    }
}

/// What is asked of a sync.
#[derive(Debug, Clone)]
pub struct SyncRequest {
    /// What started it.
    pub trigger: Trigger,
    /// Load a new generation even where nothing has changed.
    pub full: bool,
    /// Wait for the end of a run that is under way elsewhere, instead of failing.
    pub wait: bool,
    /// Read this state of the source instead of the one the pipeline names.
    pub at: Option<SourcePin>,
    /// Publish this kept generation again, if it still stands at this version, instead of reading the source.
    pub republish: Option<(Generation, String)>,
    /// Stop the pipeline's schedule with the publish, for this reason.
    pub pause: Option<&'static str>,
}

impl SyncRequest {
    /// What `lakegate sync` asks for.
    #[must_use]
    pub fn manual() -> Self {
        SyncRequest { trigger: Trigger::Manual, full: false, wait: true, at: None, republish: None, pause: None }
    }

    /// Whether a run that somebody else has under way does what is asked for.
    fn is_met_by_any_run(&self) -> bool {
        !self.full && self.at.is_none() && self.republish.is_none()
    }
}

/// Why a sync did not do what it should.
#[derive(Debug)]
pub struct RunFailure {
    /// The run whose record says the same; `None` when it did not come to a run.
    pub run: Option<i64>,
    /// What stopped it.
    pub error: Error,
}

impl From<Error> for RunFailure {
    fn from(error: Error) -> Self {
        RunFailure { run: None, error }
    }
}

impl From<RunFailure> for Error {
    fn from(failure: RunFailure) -> Self {
        failure.error
    }
}

/// A run under way: its lease, and what dies with it.
pub(super) struct Held {
    pub(super) lease: Lease,
    pub(super) run: i64,
    pub(super) session: Arc<Session>,
    heartbeat: Heartbeat,
}

enum Begun {
    Held(Held),
    Elsewhere(String),
}

impl Engine {
    /// Brings a table to the state of its source. Joins a run that another process has under way, where that does what
    /// is asked for.
    ///
    /// Cancelling ends the run as `cancelled`, drops what it had loaded, and leaves what is published alone.
    ///
    /// # Errors
    /// Whatever stopped the run; the run's record says the same. [`Code::Cancelled`] when cancelled,
    /// [`Code::RunInProgress`] when another run is under way and the request does not wait.
    pub async fn sync(
        &self,
        pipeline: &Pipeline,
        request: &SyncRequest,
        cancel: &CancellationToken,
    ) -> Result<RunOutcome, RunFailure> {
        let mut result = Box::pin(self.sync_once(pipeline, request, cancel)).await;
        if matches!(&result, Err(failure) if failure.error.code().retry() == Retry::Now && request.at.is_none()) {
            // A file that is gone belongs to a version that is not the newest any more.
            result = Box::pin(self.sync_once(pipeline, request, cancel)).await;
        }
        match &result {
            Ok(outcome) => self.observer.observe(&pipeline.name, &Event::Finished(outcome)),
            Err(failure) => self.observer.observe(&pipeline.name, &Event::Failed(&failure.error)),
        }
        result
    }

    async fn sync_once(
        &self,
        pipeline: &Pipeline,
        request: &SyncRequest,
        cancel: &CancellationToken,
    ) -> Result<RunOutcome, RunFailure> {
        // Ends the run, by a person or by the loss of the lease.
        let stop = cancel.child_token();
        let held = loop {
            if cancel.is_cancelled() {
                let unbegun = format!("the run of `{}` was not begun", pipeline.name);
                return Err(Error::new(Code::Cancelled, unbegun).into());
            }
            match self.begin(pipeline, request, &stop).await? {
                Begun::Held(held) => break held,
                Begun::Elsewhere(holder) if !request.wait => {
                    return Err(Error::new(
                        Code::RunInProgress,
                        format!("`{}` is being synced by {holder}", pipeline.name),
                    )
                    .hint("wait for it, or leave --no-wait out to join it")
                    .into());
                }
                Begun::Elsewhere(holder) => {
                    self.observer.observe(&pipeline.name, &Event::Joined { holder: &holder });
                    let joined = self.join(pipeline, cancel).await?;
                    if let Some(record) = joined.filter(|_| request.is_met_by_any_run()) {
                        return joined_outcome(pipeline, &record);
                    }
                }
            }
        };
        let result = self.run_to_its_end(pipeline, request, &held, &stop, cancel).await;
        fail::fail_point!(crate::failpoint::AFTER_PUBLISH);
        let result = match result {
            Ok(outcome) => Ok(outcome),
            Err(error) => {
                stop.cancel();
                self.settle_failure(pipeline, &held, error).await
            }
        };
        if result.is_ok() {
            self.retire_after(pipeline).await;
        }
        if !held.heartbeat.is_lost() {
            // A lease that cannot be given back expires, and its lock goes with the connection.
            let _ = tokio::time::timeout(RELEASE, self.control.release_lease(&held.session, &held.lease)).await;
        }
        result
    }

    async fn run_to_its_end(
        &self,
        pipeline: &Pipeline,
        request: &SyncRequest,
        held: &Held,
        stop: &CancellationToken,
        cancel: &CancellationToken,
    ) -> Result<RunOutcome> {
        let run = Box::pin(self.run(pipeline, request, held));
        let result = tokio::select! {
            biased;
            () = stop.cancelled() => Err(if cancel.is_cancelled() {
                Error::new(Code::Cancelled, format!("the run of `{}` was cancelled", pipeline.name))
                    .hint("what was published before is untouched")
            } else {
                Error::new(Code::LeaseLost, format!("the lease of `{}` could not be renewed", pipeline.name))
                    .hint("check the connection to Postgres; the next run starts afresh")
            }),
            result = tokio::time::timeout(pipeline.timeout, run) => result.unwrap_or_else(|_| {
                Err(Error::new(
                    Code::RunTimeout,
                    format!("the run of `{}` took longer than {}", pipeline.name, spell_duration(pipeline.timeout)),
                )
                .hint("raise `timeout` in the pipeline"))
            }),
        };
        match result {
            // Cancelled, but not by us: somebody ended one of our statements.
            Err(error) if error.code() == Code::Cancelled && !cancel.is_cancelled() => Err(Error::new(
                Code::ConnectionLost,
                format!("a statement of the run was cancelled in Postgres: {}", error.detail()),
            )
            .hint("see who cancels statements of Lakegate; the run is tried again by its schedule")),
            other => other,
        }
    }

    async fn begin(&self, pipeline: &Pipeline, request: &SyncRequest, stop: &CancellationToken) -> Result<Begun> {
        let session = Arc::new(self.connector.connect(Purpose::Control, "lakegate lease").await?);
        let lease = match self.control.acquire_lease(&session, &pipeline.name, &holder(), LEASE_TTL).await? {
            LeaseAttempt::Acquired(lease) => lease,
            LeaseAttempt::Held { holder } => return Ok(Begun::Elsewhere(holder)),
        };
        self.control.bury_dead_runs(&**session, &pipeline.name).await?;
        let run = self.control.start_run(&**session, &pipeline.name, request.trigger.as_str()).await?;
        self.control.note_backends(&**session, &lease, run, &[]).await?;
        let on_lost = {
            let stop = stop.clone();
            move || stop.cancel()
        };
        let heartbeat = Heartbeat::start(self.control.clone(), Arc::clone(&session), lease.clone(), LEASE_TTL, on_lost);
        self.observer.observe(&pipeline.name, &Event::RunStarted { run });
        Ok(Begun::Held(Held { lease, run, session, heartbeat }))
    }

    /// Waits for the end of the run that another process has under way. `None` when the lease is worth another try: no
    /// run is to be seen, or its process hangs or is dead.
    async fn join(&self, pipeline: &Pipeline, cancel: &CancellationToken) -> Result<Option<RunRecord>> {
        let session = self.control_session().await?;
        let Some(run) = self.control.leased_run(&*session, &pipeline.name).await? else {
            tokio::time::sleep(JOIN_POLL).await;
            return Ok(None);
        };
        loop {
            let record = self.control.run(&*session, run).await?;
            match record.filter(|record| record.finished_at.is_some()) {
                Some(record) => return Ok(Some(record)),
                None if self.control.leased_run(&*session, &pipeline.name).await? != Some(run) => return Ok(None),
                None => {}
            }
            tokio::select! {
                () = cancel.cancelled() => {
                    return Err(Error::new(Code::Cancelled, "no longer waits for the run under way; that run goes on"));
                }
                () = tokio::time::sleep(JOIN_POLL) => {}
            }
        }
    }

    /// Writes the failure down and drops what the run had loaded, on a connection of its own, since the run's may be
    /// what failed. A run whose publish had already committed when it was stopped has succeeded.
    async fn settle_failure(
        &self,
        pipeline: &Pipeline,
        held: &Held,
        mut error: Error,
    ) -> Result<RunOutcome, RunFailure> {
        match self.tidy_up(pipeline, held, &mut error).await {
            Ok(Some(outcome)) => return Ok(outcome),
            Ok(None) => {}
            Err(trouble) => {
                let text = format!("the failed run could not be tidied up now ({trouble}); the next run does it");
                self.observer.observe(&pipeline.name, &Event::Warning(&text));
            }
        }
        Err(RunFailure { run: Some(held.run), error })
    }

    async fn tidy_up(&self, pipeline: &Pipeline, held: &Held, error: &mut Error) -> Result<Option<RunOutcome>> {
        let mut session = self.control_session().await?;
        // Whoever takes over ends the sessions of the run, which notices that before it hears of its lease.
        if error.code() == Code::ConnectionLost {
            match self.control.check_lease(&*session, &held.lease).await {
                Err(lost) if lost.code() == Code::LeaseLost => *error = lost,
                other => other?,
            }
        }
        // Statements of the run, a commit among them, may still be under way.
        self.control.terminate_run(&session, &held.lease, held.session.backend_pid()).await?;
        let state = if error.code() == Code::Cancelled { RunState::Cancelled } else { RunState::Failed };
        let record = serde_json::to_value(ErrorRecord::from(&*error))
            .map_err(|error| Error::internal("an error does not serialise").because(error))?;
        self.control.fail_run(&*session, held.run, state, &record).await?;
        let Some(run) = self.control.run(&*session, held.run).await? else { return Ok(None) };
        if [RunState::Succeeded, RunState::Skipped].iter().any(|state| run.state == state.as_str()) {
            return run.to_outcome(&pipeline.name).map(Some);
        }
        // Only what this run made, and nobody has ever seen, is its to drop.
        let Some(generation) = run.generation.map(Generation) else { return Ok(None) };
        let seen = self.control.generation(&*session, generation).await?.is_some_and(|one| one.published_at.is_some());
        if run.mode.as_deref() == Some(RunMode::Snapshot.as_str()) && !seen {
            self.drop_own(&mut session, &pipeline.name, generation).await?;
        }
        Ok(None)
    }

    /// Old generations go once the new one is published: trouble with that is told, and the next run tries again.
    async fn retire_after(&self, pipeline: &Pipeline) {
        let retire = async {
            let mut session = self.control_session().await?;
            self.retire_superseded(&mut session, pipeline).await
        };
        if let Err(error) = retire.await {
            let text = format!("old generations stay for now: {error}");
            self.observer.observe(&pipeline.name, &Event::Warning(&text));
        }
    }
}

/// How this process calls itself in a lease.
fn holder() -> String {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    format!("process {} on {host}", std::process::id())
}

fn joined_outcome(pipeline: &Pipeline, record: &RunRecord) -> Result<RunOutcome, RunFailure> {
    let Some(error) = &record.error else { return Ok(record.to_outcome(&pipeline.name)?) };
    let text = |key: &str| error.get(key).and_then(serde_json::Value::as_str);
    let code = Code::ALL.iter().copied().find(|code| Some(code.to_string().as_str()) == text("code"));
    let detail = text("detail").unwrap_or_default();
    let mut error =
        Error::new(code.unwrap_or(Code::Internal), format!("the joined run {} failed: {detail}", record.run));
    if let Some(hint) = text("hint") {
        error = error.hint(hint);
    }
    Err(RunFailure { run: Some(record.run), error })
}
