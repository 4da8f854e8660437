//! What is done after a run: its failure is written down, and what nobody needs any more is dropped.

use crate::domain::{Code, Error, Generation, Result, RunMode, RunOutcome, RunState};
use crate::observe::Event;
use crate::postgres::{Doing, Session};

use super::group::not_published;
use super::run::{Member, Stopped};
use super::{Engine, ErrorRecord, RunFailure};

impl Engine {
    /// Writes the failure of a run down and drops what its members had loaded, on a connection of its own, since the
    /// run's may be what failed. Where one member failed, the others say that they were not published because of it. A
    /// run whose publish had already committed when it was stopped has succeeded.
    pub(super) async fn settle(&self, members: &[Member<'_>], stopped: Stopped) -> Vec<Result<RunOutcome, RunFailure>> {
        let Stopped { by, error } = self.name_loss(members, stopped).await;
        let cause = by.and_then(|by| members.get(by)).map(|member| member.pipeline);
        let mut errors: Vec<Error> = members
            .iter()
            .map(|member| match cause {
                Some(cause) if cause.name != member.pipeline.name => not_published(member.pipeline, cause, &error),
                _ => error.repeat(),
            })
            .collect();
        // The error underneath stays with the one that it belongs to.
        if let Some(own) = errors.get_mut(by.unwrap_or_default()) {
            *own = error;
        }
        let mut results = Vec::with_capacity(members.len());
        for (member, error) in members.iter().zip(errors) {
            results.push(self.settle_one(*member, error).await);
        }
        results
    }

    /// Whoever takes over ends the sessions of the run, which notices that before it hears of its leases. The loss of one
    /// of them is no member's fault.
    async fn name_loss(&self, members: &[Member<'_>], stopped: Stopped) -> Stopped {
        match stopped.error.code() {
            // Nor is it one's fault that somebody has the run cancelled.
            Code::LeaseLost | Code::CancelledOnRequest => return Stopped { by: None, ..stopped },
            Code::ConnectionLost => {}
            _ => return stopped,
        }
        let Ok(session) = self.control_session().await else { return stopped };
        for member in members {
            match self.control.check_lease(&*session, &member.held.lease).await {
                Err(lost) if lost.code() == Code::LeaseLost => return Stopped { by: None, error: lost },
                _ => {}
            }
        }
        stopped
    }

    async fn settle_one(&self, member: Member<'_>, error: Error) -> Result<RunOutcome, RunFailure> {
        match self.tidy_up(member, &error).await {
            Ok(Some(outcome)) => return Ok(outcome),
            Ok(None) => {}
            Err(trouble) => {
                let text = format!("the failed run could not be tidied up now ({trouble}); the next run does it");
                self.observer.observe(&member.pipeline.name, &Event::Warning(&text));
            }
        }
        Err(RunFailure { run: Some(member.held.run), error })
    }

    async fn tidy_up(&self, member: Member<'_>, error: &Error) -> Result<Option<RunOutcome>> {
        let Member { pipeline, held, .. } = member;
        let mut session = self.control_session().await?;
        // Statements of the run, a commit among them, may still be under way.
        self.control.terminate_run(&session, &held.lease, held.session.backend_pid()).await?;
        let state = if error.code().is_cancellation() { RunState::Cancelled } else { RunState::Failed };
        let record = serde_json::to_value(ErrorRecord::from(error))
            .map_err(|error| Error::internal("an error does not serialise").because(error))?;
        self.control.fail_run(&*session, held.run, state, &record).await?;
        let Some(run) = self.control.run(&*session, held.run).await? else { return Ok(None) };
        if [RunState::Succeeded, RunState::Skipped].iter().any(|state| run.state == state.as_str()) {
            return run.to_outcome(&pipeline.name).map(Some);
        }
        self.discard_staged(&mut session, member).await?;
        // Only what this run made, and nobody has ever seen, is its to drop.
        let Some(generation) = run.generation.map(Generation) else { return Ok(None) };
        let seen = self.control.generation(&*session, generation).await?.is_some_and(|one| one.published_at.is_some());
        if run.mode.as_deref() == Some(RunMode::Snapshot.as_str()) && !seen {
            self.drop_own(&mut session, &pipeline.name, generation).await?;
        }
        Ok(None)
    }

    /// Empties the tables of what was to be merged into the live generation. They are those of any run of the pipeline: only
    /// the holder of its lease may.
    async fn discard_staged(&self, session: &mut Session, member: Member<'_>) -> Result<()> {
        let doing = "discard what was staged";
        let transaction = session.transaction().await.doing(doing)?;
        let Some(live) = self.control.published(&transaction, &member.pipeline.name).await? else { return Ok(()) };
        self.destination.discard_staged(&transaction, live.generation).await?;
        match self.control.fence(&transaction, &member.held.lease).await {
            Ok(()) => transaction.commit().await.doing(doing),
            // Whoever has it now empties them before it stages anything.
            Err(error) if error.code() == Code::LeaseLost => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Old generations go once the new one is published: trouble with that is told, and the next run tries again.
    pub(super) async fn retire_after(&self, member: Member<'_>) {
        let Member { pipeline, held, .. } = member;
        let retire = async {
            // Most refreshes leave nothing behind, and are spared a connection for it.
            if self.superseded(&held.session, pipeline).await.is_ok_and(|old| old.is_empty()) {
                return Ok(());
            }
            let mut session = self.control_session().await?;
            self.retire_superseded(&mut session, pipeline).await
        };
        if let Err(error) = retire.await {
            let text = format!("old generations stay for now: {error}");
            self.observer.observe(&pipeline.name, &Event::Warning(&text));
        }
    }
}
