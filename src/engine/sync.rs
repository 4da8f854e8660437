//! One sync, of a pipeline or its whole group: the leases, the records of the runs, their end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng as _;
use tokio_util::sync::CancellationToken;

use crate::domain::{
    Backoff, Code, Error, Generation, NextTry, Pipeline, Result, RunOutcome, SourcePin, next_try, passes_soon,
    spell_duration,
};
use crate::observe::Event;
use crate::store::{RunRecord, cancelled_by};

use super::Engine;
use super::group::run_of;
use super::held::{Begun, Held, Stop};
use super::run::{Member, Stopped};

/// How often `lakegate sync` begins a run that fails by what often passes within seconds.
const TRIES_OF_A_COMMAND: u32 = 4;

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
    pub(super) const fn as_str(self) -> &'static str {
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
    /// Load a new generation even where nothing has changed; not of pipelines that only belong to the same group.
    pub full: bool,
    /// Wait for the end of a run that is under way elsewhere, instead of failing.
    pub wait: bool,
    /// Read this state of the source instead of the one the pipeline names.
    pub at: Option<SourcePin>,
    /// Publish this kept generation again, if it still stands at this version, instead of reading the source.
    pub republish: Option<(Generation, String)>,
    /// Publish a state that the pipeline's checks refuse, and write down what they said; not of pipelines that only belong
    /// to the same group.
    pub ignore_checks: bool,
    /// Stop the pipeline's schedule with the publish, for this reason.
    pub pause: Option<&'static str>,
    /// How often a run that fails by what often passes within seconds is begun, with short pauses between; at least 1.
    pub tries: u32,
}

impl SyncRequest {
    /// What `lakegate sync` asks for.
    #[must_use]
    pub fn manual() -> Self {
        SyncRequest {
            trigger: Trigger::Manual,
            full: false,
            wait: true,
            at: None,
            republish: None,
            ignore_checks: false,
            pause: None,
            tries: TRIES_OF_A_COMMAND,
        }
    }

    /// What a schedule asks for. It does not wait for a run that another process has under way, and leaves further tries
    /// for later.
    #[must_use]
    pub fn scheduled() -> Self {
        SyncRequest { trigger: Trigger::Schedule, wait: false, tries: 1, ..SyncRequest::manual() }
    }

    /// Whether it brings one table to another state than its source's: its group has no part in that.
    fn is_rollback(&self) -> bool {
        self.at.is_some() || self.republish.is_some()
    }

    /// Whether a run that somebody else has under way does what is asked for.
    fn is_met_by_any_run(&self) -> bool {
        !self.full && !self.ignore_checks && !self.is_rollback()
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

/// A pipeline of a run, and how it ended.
pub type Synced<'a> = (&'a Pipeline, Result<RunOutcome, RunFailure>);

/// What came of waiting for the leases.
enum Turn {
    /// They are ours.
    Ours(Vec<Held>),
    /// Another process did what was asked for.
    Joined(Result<RunOutcome, RunFailure>),
}

impl Engine {
    /// As [`Engine::sync_together`], with the result of this pipeline alone.
    ///
    /// # Errors
    /// Whatever stopped the run; the run's record says the same. [`Code::Cancelled`] when cancelled,
    /// [`Code::RunInProgress`] when another run is under way and the request does not wait,
    /// [`Code::GroupNotPublished`] when another pipeline of the group failed.
    pub async fn sync(
        &self,
        pipeline: &Pipeline,
        request: &SyncRequest,
        cancel: &CancellationToken,
    ) -> Result<RunOutcome, RunFailure> {
        let synced = self.sync_together(&[pipeline], request, cancel).await;
        let own = synced.into_iter().find(|(member, _)| member.name == pipeline.name);
        own.map_or_else(|| Err(Error::internal("a run without its pipeline").into()), |(_, result)| result)
    }

    /// Brings the tables of a group to the states of their sources, in one publish; a table without a group for itself.
    /// `asked` are pipelines of one group: the others run with them. A run that another process has under way is joined,
    /// where that does what is asked for, or waited for.
    ///
    /// Cancelling ends the run as `cancelled`, drops what it had loaded, and leaves what is published alone. A rollback
    /// is of one table, and leaves the others of its group alone.
    pub async fn sync_together<'a>(
        &'a self,
        asked: &[&'a Pipeline],
        request: &SyncRequest,
        cancel: &CancellationToken,
    ) -> Vec<Synced<'a>> {
        let Some(first) = asked.first() else { return Vec::new() };
        let pipelines = if request.is_rollback() { vec![*first] } else { self.members(first) };
        let further = SyncRequest { full: false, ignore_checks: false, ..request.clone() };
        let ask = |pipeline: &&'a Pipeline| {
            let is_asked = asked.iter().any(|asked| asked.name == pipeline.name);
            (*pipeline, if is_asked { request } else { &further })
        };
        let asks: Vec<(&Pipeline, &SyncRequest)> = pipelines.iter().map(ask).collect();
        let mut failures = 0;
        let mut results = Box::pin(self.sync_once(&asks, cancel)).await;
        while let Some((at, failure)) = cause(&results) {
            failures += 1;
            let Some((pipeline, request)) = asks.get(at) else { break };
            let Some(pause) = pause_before_next(pipeline, request, failure.error.code(), failures) else { break };
            self.observer.observe(&pipeline.name, &Event::Retrying { error: &failure.error, pause });
            results = match cancel.run_until_cancelled(tokio::time::sleep(pause)).await {
                Some(()) => Box::pin(self.sync_once(&asks, cancel)).await,
                None => asks.iter().map(|_| Err(not_begun(&pipelines).into())).collect(),
            };
        }
        let synced: Vec<Synced<'a>> = pipelines.into_iter().zip(results).collect();
        for (pipeline, result) in &synced {
            match result {
                Ok(outcome) => self.observer.observe(&pipeline.name, &Event::Finished(outcome)),
                Err(failure) => self.observer.observe(&pipeline.name, &Event::Failed(&failure.error)),
            }
        }
        synced
    }

    /// The results are in the order of `asks`.
    async fn sync_once(
        &self,
        asks: &[(&Pipeline, &SyncRequest)],
        cancel: &CancellationToken,
    ) -> Vec<Result<RunOutcome, RunFailure>> {
        let stop = Stop::with(cancel);
        let held = match self.take_turn(asks, &stop, cancel).await {
            Ok(Turn::Ours(held)) => held,
            Ok(Turn::Joined(result)) => return vec![result],
            Err(error) => {
                let repeated: Vec<Error> = asks.iter().skip(1).map(|_| error.repeat()).collect();
                return std::iter::once(error).chain(repeated).map(|error| Err(error.into())).collect();
            }
        };
        let started = Instant::now();
        let members: Vec<Member<'_>> = asks
            .iter()
            .zip(&held)
            .map(|((pipeline, request), held)| Member { pipeline, request, held, started })
            .collect();
        let result = self.run_to_its_end(&members, &stop, cancel).await;
        fail::fail_point!(crate::failpoint::AFTER_PUBLISH);
        let results: Vec<Result<RunOutcome, RunFailure>> = match result {
            Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
            Err(stopped) => {
                stop.now();
                held.iter().for_each(Held::end_idle);
                self.settle(&members, stopped).await
            }
        };
        for (member, result) in members.iter().zip(&results) {
            if result.is_ok() {
                self.retire_after(*member).await;
            }
        }
        self.give_back(held).await;
        results
    }

    /// Waits until the leases are ours, or until another process has done what is asked for.
    async fn take_turn(
        &self,
        asks: &[(&Pipeline, &SyncRequest)],
        stop: &Arc<Stop>,
        cancel: &CancellationToken,
    ) -> Result<Turn> {
        loop {
            if cancel.is_cancelled() {
                let pipelines: Vec<&Pipeline> = asks.iter().map(|(pipeline, _)| *pipeline).collect();
                return Err(not_begun(&pipelines));
            }
            let (pipeline, holder) = match self.begin(asks, stop).await? {
                Begun::Held(held) => return Ok(Turn::Ours(held)),
                Begun::Elsewhere { pipeline, holder } => (pipeline, holder),
            };
            if asks.iter().any(|(_, request)| !request.wait) {
                return Err(Error::new(
                    Code::RunInProgress,
                    format!("`{}` is being synced by {holder}", pipeline.name),
                )
                .hint("wait for it, or leave --no-wait out to join it"));
            }
            let joined = self.join(pipeline, &holder, cancel).await?;
            if let Some(error) = joined.as_ref().and_then(|record| cancelled_for_all(asks, record)) {
                return Err(error);
            }
            // A group looks for itself: what was waited for may have been the rollback of one of its tables.
            let [(pipeline, request)] = asks else { continue };
            if let Some(record) = joined.filter(|_| request.is_met_by_any_run()) {
                return Ok(Turn::Joined(joined_outcome(pipeline, &record)));
            }
        }
    }

    async fn run_to_its_end(
        &self,
        members: &[Member<'_>],
        stop: &Stop,
        cancel: &CancellationToken,
    ) -> Result<Vec<RunOutcome>, Stopped> {
        let pipelines: Vec<&Pipeline> = members.iter().map(|member| member.pipeline).collect();
        let longest: Duration = pipelines.iter().map(|pipeline| pipeline.timeout).sum();
        let result = tokio::select! {
            biased;
            () = stop.comes() => Err(if cancel.is_cancelled() {
                Error::new(Code::Cancelled, format!("{} was cancelled", run_of(&pipelines)))
                    .hint("what was published before is untouched")
            } else if let Some(by) = stop.asked_by() {
                cancelled_by(&run_of(&pipelines), by)
            } else {
                Error::new(Code::LeaseLost, format!("a lease of {} could not be renewed", run_of(&pipelines)))
                    .hint("check the connection to Postgres; the next run starts afresh")
            }.into()),
            result = tokio::time::timeout(longest, Box::pin(self.run(members))) => result.unwrap_or_else(|_| {
                let detail = format!("{} took longer than {}", run_of(&pipelines), spell_duration(longest));
                Err(Error::new(Code::RunTimeout, detail).hint("raise `timeout` in the pipeline").into())
            }),
        };
        match result {
            // Cancelled, but not by us: somebody ended one of our statements.
            Err(Stopped { by, error }) if error.code() == Code::Cancelled && !cancel.is_cancelled() => {
                let detail = format!("a statement of the run was cancelled in Postgres: {}", error.detail());
                let error = Error::new(Code::ConnectionLost, detail)
                    .hint("see who cancels statements of Lakegate; the run is tried again by its schedule");
                Err(Stopped { by, error })
            }
            other => other,
        }
    }
}

/// Which member failed, and of what: the one because of which the others were not published.
fn cause(results: &[Result<RunOutcome, RunFailure>]) -> Option<(usize, &RunFailure)> {
    let failures = results.iter().enumerate().filter_map(|(at, result)| Some((at, result.as_ref().err()?)));
    failures.min_by_key(|(_, failure)| failure.error.code() == Code::GroupNotPublished)
}

/// The pause before the next try of a sync that has failed so often; `None` when that was the last.
fn pause_before_next(pipeline: &Pipeline, request: &SyncRequest, code: Code, failures: u32) -> Option<Duration> {
    // A disk of this machine does not come back in moments, as a network does.
    let is_soon = passes_soon(code) && !(code == Code::SourceUnavailable && pipeline.source.is_local());
    match next_try(code, failures, Backoff::WITHIN_A_COMMAND, rand::rng().random()) {
        // A file that is gone belongs to a version that is not the newest any more.
        NextTry::Now => request.at.is_none().then_some(Duration::ZERO),
        NextTry::Later(pause) => (failures < request.tries && is_soon).then_some(pause),
        NextTry::Never => None,
    }
}

fn not_begun(pipelines: &[&Pipeline]) -> Error {
    Error::new(Code::Cancelled, format!("{} was not begun", run_of(pipelines)))
}

/// The error of a group that has joined a run of itself which somebody had cancelled: it does not run at once what was just
/// stopped. `None` where it has something else to do.
fn cancelled_for_all(asks: &[(&Pipeline, &SyncRequest)], record: &RunRecord) -> Option<Error> {
    let is_group = asks.len() > 1 && record.trigger != Trigger::Rollback.as_str();
    let is_joined = is_group && asks.iter().all(|(_, request)| request.is_met_by_any_run());
    joined_error(record).filter(|error| is_joined && error.code() == Code::CancelledOnRequest)
}

fn joined_outcome(pipeline: &Pipeline, record: &RunRecord) -> Result<RunOutcome, RunFailure> {
    match joined_error(record) {
        Some(error) => Err(RunFailure { run: Some(record.run), error }),
        None => Ok(record.to_outcome(&pipeline.name)?),
    }
}

/// What stopped a run that was joined.
fn joined_error(record: &RunRecord) -> Option<Error> {
    let error = record.error.as_ref()?;
    let text = |key: &str| error.get(key).and_then(serde_json::Value::as_str);
    let code = text("code").and_then(Code::named);
    let ended = if code.is_some_and(Code::is_cancellation) { "was cancelled" } else { "failed" };
    let detail = text("detail").unwrap_or_default();
    let error = Error::new(code.unwrap_or(Code::Internal), format!("the joined run {} {ended}: {detail}", record.run));
    Some(match text("hint") {
        Some(hint) => error.hint(hint),
        None => error,
    })
}
