//! The stages of one run, under its lease.

use std::time::Instant;

use crate::domain::{Error, Mode, Pipeline, Result, RunMode, RunOutcome, StageSeconds};
use crate::observe::{Event, Stage};
use crate::postgres::{Purpose, Session};
use crate::store::LoadedRow;

use super::choose::not_incremental;
use super::merge::{Merge, calls_for_a_snapshot};
use super::plan::Decided;
use super::publish::Publication;
use super::sync::Held;
use super::{Engine, SyncRequest};

impl Engine {
    /// Plans and does what the plan says. The run's record is finished when this returns without an error.
    pub(super) async fn run(&self, pipeline: &Pipeline, request: &SyncRequest, held: &Held) -> Result<RunOutcome> {
        let started = Instant::now();
        let name = &pipeline.name;
        self.observer.observe(name, &Event::Entered(Stage::Plan));
        let mut session = self.connector.connect(Purpose::Sync, "lakegate sync").await?;
        self.control.note_backends(&*session, &held.lease, held.run, &[session.backend_pid()]).await?;
        self.drop_leftovers(&mut session, name, held.run).await?;
        if let Some(skipped) = self.skip_if_paused(&session, pipeline, request, held).await? {
            return Ok(skipped);
        }
        if let Some((generation, version)) = &request.republish {
            return self.republish(&mut session, pipeline, (*generation, version), held, request).await;
        }
        if let Some(unchanged) = self.unchanged(&session, pipeline, request).await? {
            return self.confirm(&mut session, pipeline, unchanged, held, started).await;
        }
        let mut decided = Box::pin(self.decide(&session, pipeline, request)).await?;
        for warning in &decided.plan.warnings {
            self.observer.observe(name, &Event::Warning(warning));
        }
        self.announce(&session, held, &decided).await?;
        if decided.plan.mode != RunMode::Snapshot {
            let in_place = Box::pin(self.refresh_in_place(&mut session, pipeline, &decided, request, held, started));
            match in_place.await {
                Err(error) if calls_for_a_snapshot(&error) && pipeline.mode == Mode::Incremental => {
                    return Err(not_incremental(pipeline, error.detail()).because(error));
                }
                Err(error) if calls_for_a_snapshot(&error) => {
                    decided.plan.reason = format!("{}, but {}", decided.plan.reason, error.detail());
                    decided.plan.mode = RunMode::Snapshot;
                    self.check_disk_of_whole(&mut decided)?;
                    self.announce(&session, held, &decided).await?;
                }
                other => return other,
            }
        }
        self.refresh_whole(&mut session, pipeline, &decided, request, held, started).await
    }

    /// Says and writes down what the run is going to do.
    async fn announce(&self, session: &Session, held: &Held, decided: &Decided) -> Result<()> {
        let plan = &decided.plan;
        self.observer.observe(&plan.pipeline, &Event::Planned { mode: plan.mode, reason: &plan.reason });
        self.control.record_plan(&**session, held.run, plan.mode, &plan.reason, decided.source.version()).await
    }

    /// Applies what changed to the live generation.
    async fn refresh_in_place(
        &self,
        session: &mut Session,
        pipeline: &Pipeline,
        decided: &Decided,
        request: &SyncRequest,
        held: &Held,
        started: Instant,
    ) -> Result<RunOutcome> {
        let Some(live) = &decided.live else {
            return Err(Error::internal("nothing is published that could be changed"));
        };
        let merge = Merge { pipeline, decided, live, held, pause: request.pause, started };
        // Grants hang on the view, which a merge leaves alone.
        self.destination.grant_missing(&**session, &pipeline.name, &pipeline.grants).await?;
        match &decided.changes {
            Some(changes) => self.merge(session, &merge, changes).await,
            None => self.keep(session, &merge).await,
        }
    }

    /// Loads a new generation and publishes it.
    async fn refresh_whole(
        &self,
        session: &mut Session,
        pipeline: &Pipeline,
        decided: &Decided,
        request: &SyncRequest,
        held: &Held,
        started: Instant,
    ) -> Result<RunOutcome> {
        let (name, plan, version) = (&pipeline.name, &decided.plan, decided.source.version());
        let generation = self.control.draw_generation(&**session, held.run).await?;
        fail::fail_point!(crate::failpoint::AFTER_DRAW);
        let mut outcome = RunOutcome {
            source_version: Some(version.version.clone()),
            generation: Some(generation),
            seconds: StageSeconds { plan: started.elapsed().as_secs_f64(), ..StageSeconds::default() },
            ..RunOutcome::begun(name, held.run, plan.mode, plan.reason.clone())
        };
        Box::pin(self.load(session, pipeline, decided, generation, held, &mut outcome)).await?;
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
        };
        self.control.record_load(&**session, &load).await?;
        fail::fail_point!(crate::failpoint::BEFORE_PUBLISH);
        let publication = Publication {
            pipeline,
            schema: decided.schema(),
            replaces: decided.live.as_ref().map(|live| &live.schema),
            generation,
            source_version: &version.version,
            checked_by: Some(held.run),
            pause: request.pause,
            started,
        };
        self.publish(session, &publication, &held.lease, &mut outcome).await?;
        Ok(outcome)
    }
}
