//! What the sources hold, and the cheap end of a run: nothing has changed, or nothing but how the table is served.

use std::sync::Arc;

use crate::domain::{Generation, Result, Retry, RunMode, RunOutcome, RunState, SourceVersion, StageSeconds};
use crate::observe::Event;
use crate::postgres::Session;
use crate::source::Source;
use crate::store::{LoadedGeneration, Published};

use super::fingerprint::{definition, fingerprint};
use super::publish::Publication;
use super::run::{Member, Prepared, Work};
use super::{Engine, Trigger};

/// What a run goes by: from here on it reads this and nothing newer.
pub(super) enum Found {
    /// The source is not asked: a kept generation at this version is published again.
    Kept(Box<(Generation, String)>),
    /// The source stands where it stood.
    Unchanged(Box<Unchanged>),
    /// The source at one version.
    Opened(Arc<Source>),
}

/// A table whose source stands where it stood.
pub(super) struct Unchanged {
    published: Published,
    live: LoadedGeneration,
    version: SourceVersion,
}

impl Engine {
    /// Looks at the source of a member, and fixes the version that the run reads.
    pub(super) async fn find(&self, session: &Session, member: Member<'_>) -> Result<Found> {
        if let Some(kept) = &member.request.republish {
            return Ok(Found::Kept(Box::new(kept.clone())));
        }
        let definition = definition(member.pipeline);
        let version = self.record_attempt(session, member, &definition).await?;
        if let Some(unchanged) = self.unchanged(session, member, &definition, version).await? {
            return Ok(Found::Unchanged(Box::new(unchanged)));
        }
        self.open_for(session, member.pipeline, member.request).await.map(Found::Opened)
    }

    /// Writes down what the run is made of, so that what it refuses is known. Returns the version of the source as it
    /// begins; `None` where the source does not say, which is for the plan to explain.
    async fn record_attempt(
        &self,
        session: &Session,
        member: Member<'_>,
        definition: &str,
    ) -> Result<Option<SourceVersion>> {
        let Member { pipeline, request, held, .. } = member;
        let version = match &request.at {
            Some(_) => None,
            None => match Source::current_version(&pipeline.source, &self.sources).await {
                Ok(version) => Some(version),
                // A store that does not answer now is not asked for more.
                Err(error) if error.code().retry() == Retry::Later => return Err(error.at(&pipeline.name)),
                Err(_) => None,
            },
        };
        self.control.record_attempt(&**session, held.run, definition, version.as_ref()).await?;
        Ok(version)
    }

    /// Whether there is nothing to load, found out without listing the source's files. `None` when a plan is needed.
    async fn unchanged(
        &self,
        session: &Session,
        member: Member<'_>,
        definition: &str,
        version: Option<SourceVersion>,
    ) -> Result<Option<Unchanged>> {
        let Member { pipeline, request, .. } = member;
        let Some(version) = version.filter(|_| !request.full) else { return Ok(None) };
        let Some(published) = self.control.published(&**session, &pipeline.name).await? else { return Ok(None) };
        let Some(live) = self.control.generation(&**session, published.generation).await? else { return Ok(None) };
        if live.fingerprint != fingerprint(pipeline) {
            return Ok(None);
        }
        let stands = version.is_same_state(&live.source)
            && self.takes_same_columns(session, pipeline, definition, &live).await?;
        Ok(stands.then_some(Unchanged { published, live, version }))
    }

    /// Prepares the end of a run of an unchanged source: it is noted as checked, and a changed serve policy or new grants
    /// are published without a load.
    pub(super) async fn confirm(
        &self,
        session: &Session,
        member: Member<'_>,
        unchanged: Unchanged,
    ) -> Result<Prepared> {
        let Member { pipeline, held, started, .. } = member;
        let name = &pipeline.name;
        let Unchanged { published, live, version } = unchanged;
        self.destination.check_grants(session, name, &pipeline.grants).await?;
        let policy_differs = self.control.policy_differs(&**session, name, &pipeline.serve).await?;
        let grants = self.destination.missing_grants(&**session, name, &pipeline.grants).await?;
        let serves_otherwise = policy_differs || !grants.is_empty();
        if serves_otherwise {
            // A column that is to be hidden and is misspelled would be shown.
            super::plan::check_names_of_columns(pipeline, &live.schema)?;
        }
        let mut reason = format!("the source is still at version {}", version.version);
        if serves_otherwise {
            reason = format!("{reason}; how the table is served has changed");
        }
        self.observer.observe(name, &Event::Planned { mode: RunMode::Noop, reason: &reason });
        self.control.record_plan(&**session, held.run, RunMode::Noop, &reason, &version).await?;
        let outcome = RunOutcome {
            source_version: Some(version.version.clone()),
            generation: Some(published.generation),
            publish_no: Some(published.publish_no),
            seconds: StageSeconds { plan: started.elapsed().as_secs_f64(), ..StageSeconds::default() },
            ..RunOutcome::begun(name, held.run, RunMode::Noop, reason)
        };
        if !serves_otherwise {
            return Ok(Prepared { outcome, work: Work::Confirm });
        }
        self.destination.preflight(session, name, &live.schema, &pipeline.grants, true).await?;
        let publication = Publication {
            schema: live.schema.clone(),
            replaces: Some(live.schema),
            generation: live.generation,
            source_version: version.version,
            checked_by: Some(held.run),
        };
        Ok(Prepared { outcome, work: Work::Publish(Box::new(publication)) })
    }

    /// Ends a scheduled run that was paused while it waited for its turn.
    pub(super) async fn skip_if_paused(
        &self,
        session: &Session,
        members: &[Member<'_>],
    ) -> Result<Option<Vec<RunOutcome>>> {
        let Some(first) = members.first().filter(|member| member.request.trigger == Trigger::Schedule) else {
            return Ok(None);
        };
        if !self.is_paused(session, first.pipeline).await? {
            return Ok(None);
        }
        let mut outcomes = Vec::with_capacity(members.len());
        for member in members {
            let reason = match &member.pipeline.group {
                None => "the pipeline is paused".to_owned(),
                Some(group) => format!("the group `{group}` is paused"),
            };
            let outcome = RunOutcome {
                state: RunState::Skipped,
                ..RunOutcome::begun(&member.pipeline.name, member.held.run, RunMode::Noop, reason)
            };
            self.control.finish_run(&**session, &outcome).await?;
            outcomes.push(outcome);
        }
        Ok(Some(outcomes))
    }
}
