//! The publish: one short transaction that moves the view, the watermark, the run record and the publish number.

use std::time::{Duration, Instant};

use rand::Rng as _;

use crate::domain::{Code, Error, Generation, Pipeline, Result, RunOutcome, RunState, TableSchema, spell_duration};
use crate::observe::{Event, Stage};
use crate::postgres::{Doing, Session};
use crate::store::{Lease, PublishRow};

use super::Engine;

/// How long a publish waits for its lock before it lets the readers behind it pass: below `deadlock_timeout`, since a
/// waiting ACCESS EXCLUSIVE stops every later reader.
const LOCK_WAIT: Duration = Duration::from_millis(200);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What is to be published.
pub(super) struct Publication<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) schema: &'a TableSchema,
    /// The columns that are published now.
    pub(super) replaces: Option<&'a TableSchema>,
    pub(super) generation: Generation,
    pub(super) source_version: &'a str,
    /// The run that has looked at the source, if it has.
    pub(super) checked_by: Option<i64>,
    /// Why the pipeline's schedule is to stop with this publish.
    pub(super) pause: Option<&'a str>,
    /// When the run began.
    pub(super) started: Instant,
}

impl Engine {
    /// Publishes a loaded and verified generation, trying again until its lock is had or `publish_timeout` is over.
    /// The run is finished in the same transaction; `outcome` carries the publish number afterwards.
    pub(super) async fn publish(
        &self,
        session: &mut Session,
        publication: &Publication<'_>,
        lease: &Lease,
        outcome: &mut RunOutcome,
    ) -> Result<()> {
        let name = &publication.pipeline.name;
        self.observer.observe(name, &Event::Entered(Stage::Publish));
        let started = Instant::now();
        let mut pause = Duration::from_millis(50);
        loop {
            outcome.seconds.publish = started.elapsed().as_secs_f64();
            let error = match self.try_publish(session, publication, lease, outcome).await {
                Ok(()) => {
                    outcome.seconds.publish = started.elapsed().as_secs_f64();
                    return Ok(());
                }
                Err(error) => error,
            };
            if error.code() != Code::LockNotAvailable {
                return Err(error);
            }
            let blockers = self.destination.view_blockers(&**session, name).await.unwrap_or_default();
            if started.elapsed() > publication.pipeline.publish_timeout {
                return Err(Error::new(
                    Code::PublishTimeout,
                    format!(
                        "`{name}` could not be published within {}: {blockers}",
                        spell_duration(publication.pipeline.publish_timeout)
                    ),
                )
                .hint("end the sessions that hold the view, or raise `publish_timeout`")
                .because(error));
            }
            self.control.record_state(&**session, outcome.run, RunState::Waiting).await?;
            self.observer.observe(name, &Event::Waiting { waited: started.elapsed(), blockers: &blockers });
            let jitter = rand::rng().random_range(0.5..1.5);
            tokio::time::sleep(pause.mul_f64(jitter)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn try_publish(
        &self,
        session: &mut Session,
        publication: &Publication<'_>,
        lease: &Lease,
        outcome: &mut RunOutcome,
    ) -> Result<()> {
        let doing = "publish";
        let Publication { pipeline, schema, replaces, generation, source_version, checked_by, pause, started } =
            publication;
        let transaction = session.transaction().await.doing(doing)?;
        self.destination.bound_lock_wait(&transaction, LOCK_WAIT).await?;
        let row = PublishRow {
            name: &pipeline.name,
            generation: *generation,
            source_version,
            schema,
            policy: &pipeline.serve,
            checked_by: *checked_by,
        };
        let publish_no = self.control.record_publish(&transaction, &row).await?;
        outcome.publish_no = Some(publish_no);
        outcome.generation = Some(*generation);
        outcome.state = RunState::Succeeded;
        outcome.seconds.total = started.elapsed().as_secs_f64();
        self.control.finish_run(&transaction, outcome).await?;
        if pause.is_some() {
            self.control.set_paused(&transaction, &pipeline.name, *pause).await?;
        }
        // The locks that stop readers come last, so that they are held for the shortest time.
        self.destination
            .point_view(&transaction, &pipeline.name, *generation, schema, *replaces, &pipeline.grants)
            .await?;
        fail::fail_point!(crate::failpoint::BEFORE_PUBLISH_COMMIT);
        self.control.fence(&transaction, lease).await?;
        transaction.commit().await.doing(doing)
    }
}
