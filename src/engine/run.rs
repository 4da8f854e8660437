//! The stages of one run, under its lease.

use std::time::Instant;

use crate::domain::{Pipeline, Result, RunOutcome, StageSeconds};
use crate::observe::{Event, Stage};
use crate::postgres::Purpose;
use crate::store::LoadedRow;

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
        if let Some(generation) = request.republish {
            return self.republish(&mut session, pipeline, generation, held, request).await;
        }
        if let Some(unchanged) = self.unchanged(&session, pipeline, request).await? {
            return self.confirm(&mut session, pipeline, unchanged, held, started).await;
        }
        let decided = Box::pin(self.decide(&session, pipeline, request)).await?;
        let plan = &decided.plan;
        self.observer.observe(name, &Event::Planned { mode: plan.mode, reason: &plan.reason });
        for warning in &plan.warnings {
            self.observer.observe(name, &Event::Warning(warning));
        }
        let version = decided.source.version();
        self.control.record_plan(&*session, held.run, plan.mode, &plan.reason, version).await?;
        let generation = self.control.draw_generation(&*session, held.run).await?;
        fail::fail_point!(crate::failpoint::AFTER_DRAW);
        let mut outcome = RunOutcome {
            source_version: Some(version.version.clone()),
            generation: Some(generation),
            seconds: StageSeconds { plan: started.elapsed().as_secs_f64(), ..StageSeconds::default() },
            ..RunOutcome::begun(name, held.run, plan.mode, plan.reason.clone())
        };
        Box::pin(self.load(&session, pipeline, &decided, generation, held, &mut outcome)).await?;
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
        self.control.record_load(&*session, &load).await?;
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
        self.publish(&mut session, &publication, &held.lease, &mut outcome).await?;
        Ok(outcome)
    }
}
