//! The stages of a run, under its leases: each member is prepared, then all are published together.
//!
//! A pipeline without a group is the only member of its run.

use std::time::{Duration, Instant};

use futures::future::try_join_all;

use crate::domain::{Code, Error, Mode, Pipeline, Result, RunMode, RunOutcome, StageSeconds};
use crate::observe::{Event, Stage};
use crate::postgres::{Purpose, Session};
use crate::source::Format;
use crate::store::LoadedRow;

use super::choose::not_incremental;
use super::held::Held;
use super::merge::{Staged, calls_for_a_snapshot};
use super::plan::Decided;
use super::publish::Publication;
use super::unchanged::Found;
use super::{Engine, SyncRequest};

/// One pipeline's part in a run.
#[derive(Clone, Copy)]
pub(super) struct Member<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) request: &'a SyncRequest,
    pub(super) held: &'a Held,
    /// When the run began.
    pub(super) started: Instant,
}

/// A member that is ready to be published.
pub(super) struct Prepared {
    /// What the run's record will say.
    pub(super) outcome: RunOutcome,
    /// What is left to do, all of it in the publish transaction.
    pub(super) work: Work,
}

/// What a member does in the publish transaction.
pub(super) enum Work {
    /// The source stands where it stood, which is noted.
    Confirm,
    /// The source has moved on without a row that differs, which is noted.
    Keep(Box<Decided>),
    /// Staged rows are applied to the live generation.
    Merge(Box<Decided>, Box<Staged>),
    /// The view is pointed at a generation.
    Publish(Box<Publication>),
}

/// What stopped a run.
pub(super) struct Stopped {
    /// Whose part it was, by its place among the members; `None` where it concerns all.
    pub(super) by: Option<usize>,
    pub(super) error: Error,
}

impl Stopped {
    /// Says whose part an error belongs to.
    pub(super) fn of(member: usize) -> impl Fn(Error) -> Stopped {
        move |error| Stopped { by: Some(member), error }
    }
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Stopped { by: None, error }
    }
}

impl Engine {
    /// Plans and does what the plans say. The records of the runs are finished when this returns without an error.
    pub(super) async fn run(&self, members: &[Member<'_>]) -> Result<Vec<RunOutcome>, Stopped> {
        let mut session = self.connector.connect(Purpose::Sync, "lakegate sync").await?;
        for (at, member) in members.iter().enumerate() {
            let Member { pipeline, held, .. } = *member;
            self.observer.observe(&pipeline.name, &Event::Entered(Stage::Plan));
            self.control.note_backends(&*session, &held.lease, held.run, &[session.backend_pid()]).await?;
            self.drop_leftovers(&mut session, &pipeline.name, held.run).await.map_err(Stopped::of(at))?;
        }
        if let Some(skipped) = self.skip_if_paused(&session, members).await? {
            return Ok(skipped);
        }
        // All sources are looked at before any is read: what lands in one of them from here on waits for the next run.
        let looking = members.iter().enumerate().map(|(at, member)| {
            let found = self.find(&session, *member);
            async move { found.await.map_err(Stopped::of(at)) }
        });
        let found = try_join_all(looking).await?;
        let looked = members.first().map_or(Duration::ZERO, |member| member.started.elapsed());
        let mut prepared = Vec::with_capacity(members.len());
        for (at, (member, found)) in members.iter().zip(found).enumerate() {
            // One after the other: each may use all of a run's memory, and all of its connections.
            member.held.end_idle();
            let one = Box::pin(self.prepare(&mut session, *member, found, looked)).await;
            prepared.push(one.map_err(Stopped::of(at))?);
        }
        Box::pin(self.publish(&mut session, members, &mut prepared)).await?;
        if let Some(member) = members.first() {
            member.held.leave_idle(vec![session]);
        }
        Ok(prepared.into_iter().map(|prepared| prepared.outcome).collect())
    }

    /// Does all that can be done before the publish. `looked` is how long the look at the sources took.
    async fn prepare(
        &self,
        session: &mut Session,
        member: Member<'_>,
        found: Found,
        looked: Duration,
    ) -> Result<Prepared> {
        let begun = Instant::now();
        let pipeline = member.pipeline;
        let source = match found {
            Found::Kept(generation) => return self.republish(session, member, *generation).await,
            Found::Unchanged(unchanged) => return self.confirm(session, member, *unchanged).await,
            Found::Opened(source) => source,
        };
        let mut decided = Box::pin(self.decide(session, pipeline, member.request, source)).await?;
        if !member.request.ignore_checks {
            let warnings = self.try_checks(session, pipeline, decided.schema()).await?;
            decided.plan.warnings.extend(warnings);
        }
        for warning in &decided.plan.warnings {
            self.observer.observe(&pipeline.name, &Event::Warning(warning));
        }
        self.announce(session, member, &decided).await?;
        let planned = StageSeconds { plan: (looked + begun.elapsed()).as_secs_f64(), ..StageSeconds::default() };
        if decided.plan.mode == RunMode::Snapshot {
            return self.load_whole(session, member, &decided, planned).await;
        }
        let outcome = RunOutcome {
            source_version: Some(decided.plan.source_version.clone()),
            generation: Some(decided.live()?.generation),
            seconds: planned,
            ..RunOutcome::begun(&pipeline.name, member.held.run, decided.plan.mode, decided.plan.reason.clone())
        };
        let mut prepared = Prepared { outcome, work: Work::Keep(Box::new(decided)) };
        match Box::pin(self.prepare_in_place(session, member, &mut prepared)).await {
            Ok(()) => Ok(prepared),
            Err(error) => self.load_instead(session, member, prepared, error).await,
        }
    }

    /// Says and writes down what the run is going to do.
    async fn announce(&self, session: &Session, member: Member<'_>, decided: &Decided) -> Result<()> {
        let plan = &decided.plan;
        self.observer.observe(&plan.pipeline, &Event::Planned { mode: plan.mode, reason: &plan.reason });
        self.control.record_plan(&**session, member.held.run, plan.mode, &plan.reason, decided.source.version()).await
    }

    /// Loads the whole source in place of changes that could not be staged or applied, where that helps and is wanted.
    pub(super) async fn load_instead(
        &self,
        session: &mut Session,
        member: Member<'_>,
        prepared: Prepared,
        error: Error,
    ) -> Result<Prepared> {
        let (Work::Keep(mut decided) | Work::Merge(mut decided, _)) = prepared.work else { return Err(error) };
        // The files of a folder are others by now: what to do has to be planned anew.
        let outdated = error.code() == Code::FileGone && decided.source.format() == Format::Parquet;
        if outdated || !calls_for_a_snapshot(&error) {
            return Err(error);
        }
        if member.pipeline.mode == Mode::Incremental {
            return Err(not_incremental(member.pipeline, error.detail()).because(error));
        }
        let reason = format!("{}, but {}", decided.plan.reason, error.detail());
        decided.turn_to_load(reason);
        self.check_disk_of_whole(&mut decided)?;
        self.announce(session, member, &decided).await?;
        self.load_whole(session, member, &decided, prepared.outcome.seconds).await
    }

    /// Loads a new generation.
    async fn load_whole(
        &self,
        session: &mut Session,
        member: Member<'_>,
        decided: &Decided,
        planned: StageSeconds,
    ) -> Result<Prepared> {
        let Member { pipeline, held, .. } = member;
        let (name, plan, version) = (&pipeline.name, &decided.plan, decided.source.version());
        if let Some(live) = &decided.live {
            // What a merge staged that came to nothing, in this run or in one that died.
            self.destination.discard_staged(&**session, live.generation).await?;
        }
        let generation = self.control.draw_generation(&**session, held.run).await?;
        fail::fail_point!(crate::failpoint::AFTER_DRAW);
        let mut outcome = RunOutcome {
            source_version: Some(version.version.clone()),
            generation: Some(generation),
            seconds: StageSeconds { plan: planned.plan, ..StageSeconds::default() },
            ..RunOutcome::begun(name, held.run, plan.mode, plan.reason.clone())
        };
        let idle = Box::pin(self.load(session, pipeline, decided, generation, held, &mut outcome)).await?;
        held.leave_idle(idle);
        let checking = Instant::now();
        let checks = Box::pin(self.check_load(session, member, decided, generation, &mut outcome)).await?;
        outcome.seconds.verify += checking.elapsed().as_secs_f64();
        fail::fail_point!(crate::failpoint::BEFORE_RECORD);
        let load = LoadedRow {
            generation,
            pipeline: name,
            run: held.run,
            source: version,
            fingerprint: &decided.fingerprint,
            schema: decided.schema(),
            rows: outcome.rows.inserted,
            checksum: outcome.checksum.as_deref(),
            coverage: outcome.coverage,
            record: decided.source.record(),
            checks: checks.as_deref(),
        };
        self.control.record_load(&**session, &load).await?;
        fail::fail_point!(crate::failpoint::BEFORE_PUBLISH);
        let publication = Publication {
            schema: decided.schema().clone(),
            replaces: decided.live.as_ref().map(|live| live.schema.clone()),
            generation,
            source_version: version.version.clone(),
            checked_by: Some(held.run),
        };
        Ok(Prepared { outcome, work: Work::Publish(Box::new(publication)) })
    }
}
