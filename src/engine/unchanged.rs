//! The cheap end of a run: nothing has changed, or nothing but how the table is served.

use std::time::Instant;

use crate::domain::{Pipeline, Result, RunMode, RunOutcome, RunState, SourceVersion, StageSeconds};
use crate::observe::Event;
use crate::postgres::Session;
use crate::source::Source;
use crate::store::{LoadedGeneration, Published};

use super::fingerprint::fingerprint;
use super::publish::Publication;
use super::sync::Held;
use super::{Engine, SyncRequest, Trigger};

/// A table whose source stands where it stood.
pub(super) struct Unchanged {
    published: Published,
    live: LoadedGeneration,
    version: SourceVersion,
}

impl Engine {
    /// Whether there is nothing to load, found out without listing the source's files. `None` when a plan is needed.
    pub(super) async fn unchanged(
        &self,
        session: &Session,
        pipeline: &Pipeline,
        request: &SyncRequest,
    ) -> Result<Option<Unchanged>> {
        if request.full || request.at.is_some() {
            return Ok(None);
        }
        let Some(published) = self.control.published(&**session, &pipeline.name).await? else { return Ok(None) };
        let Some(live) = self.control.generation(&**session, published.generation).await? else { return Ok(None) };
        if live.fingerprint != fingerprint(pipeline) {
            return Ok(None);
        }
        let version =
            Source::current_version(&pipeline.source, &self.sources).await.map_err(|error| error.at(&pipeline.name))?;
        Ok((version == live.source).then_some(Unchanged { published, live, version }))
    }

    /// Ends the run of an unchanged source: notes that it was checked, and publishes a changed serve policy or new
    /// grants without a load.
    pub(super) async fn confirm(
        &self,
        session: &mut Session,
        pipeline: &Pipeline,
        unchanged: Unchanged,
        held: &Held,
        started: Instant,
    ) -> Result<RunOutcome> {
        let name = &pipeline.name;
        let Unchanged { published, live, version } = unchanged;
        self.destination.check_grants(session, name, &pipeline.grants).await?;
        let policy_differs = self.control.policy_differs(&**session, name, &pipeline.serve).await?;
        let grants = self.destination.missing_grants(&**session, name, &pipeline.grants).await?;
        let mut reason = format!("the source is still at version {}", version.version);
        if policy_differs || !grants.is_empty() {
            reason = format!("{reason}; how the table is served has changed");
        }
        self.observer.observe(name, &Event::Planned { mode: RunMode::Noop, reason: &reason });
        self.control.record_plan(&**session, held.run, RunMode::Noop, &reason, &version).await?;
        let mut outcome = RunOutcome {
            state: RunState::Skipped,
            source_version: Some(version.version.clone()),
            generation: Some(published.generation),
            publish_no: Some(published.publish_no),
            seconds: StageSeconds { plan: started.elapsed().as_secs_f64(), ..StageSeconds::default() },
            ..RunOutcome::begun(name, held.run, RunMode::Noop, reason)
        };
        if policy_differs || !grants.is_empty() {
            self.destination.preflight(session, name, &live.schema, &pipeline.grants, true).await?;
            let publication = Publication {
                pipeline,
                schema: &live.schema,
                replaces: Some(&live.schema),
                generation: live.generation,
                source_version: &version.version,
                checked_by: Some(held.run),
                pause: None,
                started,
            };
            self.publish(session, &publication, &held.lease, &mut outcome).await?;
            return Ok(outcome);
        }
        self.control.note_checked(&**session, name).await?;
        outcome.seconds.total = started.elapsed().as_secs_f64();
        self.control.finish_run(&**session, &outcome).await?;
        Ok(outcome)
    }

    /// Ends a scheduled run whose pipeline was paused while the run waited for its turn.
    pub(super) async fn skip_if_paused(
        &self,
        session: &Session,
        pipeline: &Pipeline,
        request: &SyncRequest,
        held: &Held,
    ) -> Result<Option<RunOutcome>> {
        if request.trigger != Trigger::Schedule
            || !self.control.pipeline_state(&**session, &pipeline.name).await?.paused
        {
            return Ok(None);
        }
        let outcome = RunOutcome {
            state: RunState::Skipped,
            ..RunOutcome::begun(&pipeline.name, held.run, RunMode::Noop, "the pipeline is paused".to_owned())
        };
        self.control.finish_run(&**session, &outcome).await?;
        Ok(Some(outcome))
    }
}
