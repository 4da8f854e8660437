//! When runs happen: each scheduled pipeline by the clock or as its source changes, a few at a time.

mod due;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use futures::future::join_all;
use rand::Rng as _;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::domain::{Pipeline, Result, Retry, Schedule};
use crate::engine::{Engine, SyncRequest, Trigger};

use watch::Watch;

/// How often generations that readers held are tried again, and pipelines that failed to start are looked at.
const HOUSEKEEPING: Duration = Duration::from_secs(30);
/// The first and the longest pause after a run that failed and may heal by itself.
const FIRST_BACKOFF: Duration = Duration::from_secs(5);
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);

/// Runs what is due until `shutdown`; then cancels what is under way and returns when it has ended.
///
/// A table that has never been loaded is loaded at once; ticks missed while no process was running are made up for by
/// one run.
pub async fn run(engine: Arc<Engine>, shutdown: CancellationToken) {
    let slots = Arc::new(Semaphore::new(engine.project().limits.concurrent_runs as usize));
    let pipelines = engine.project().pipelines.iter().filter(|pipeline| pipeline.schedule != Schedule::Manual);
    let loops = pipelines.cloned().map(|pipeline| {
        let (engine, slots, shutdown) = (Arc::clone(&engine), Arc::clone(&slots), shutdown.clone());
        tokio::spawn(async move { keep_fresh(&engine, &pipeline, &slots, &shutdown).await })
    });
    let housekeeping = {
        let (engine, shutdown) = (Arc::clone(&engine), shutdown.clone());
        tokio::spawn(async move { keep_tidy(&engine, &shutdown).await })
    };
    join_all(loops.chain(std::iter::once(housekeeping))).await;
}

async fn keep_fresh(engine: &Engine, pipeline: &Pipeline, slots: &Semaphore, shutdown: &CancellationToken) {
    let mut watch = Watch::new();
    // Failures in a row that waiting may heal.
    let mut failures: u32 = 0;
    loop {
        let pause = match until_due(engine, pipeline, &mut watch).await {
            Ok(pause) if failures == 0 => pause,
            Ok(_) => backoff(failures),
            Err(error) => {
                tracing::warn!(pipeline = %pipeline.name, "whether it is due cannot be found out: {error}");
                failures += 1;
                backoff(failures)
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        if pause > Duration::ZERO && failures == 0 {
            // Something may have happened meanwhile: a manual run, a pause.
            continue;
        }
        let Ok(_slot) = slots.acquire().await else { return };
        let request = SyncRequest { trigger: Trigger::Schedule, ..SyncRequest::manual() };
        let result = engine.sync(pipeline, &request, shutdown).await;
        if shutdown.is_cancelled() {
            return;
        }
        failures = match result {
            Err(failure) if failure.error.code().retry() != Retry::Never => failures + 1,
            Err(_) => {
                // What only a person or the source can mend is looked at again with the next tick, or after a while.
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(after_refusal(pipeline)) => 0,
                }
            }
            Ok(_) => 0,
        };
    }
}

/// The pause after a run that failed and will fail again unless somebody mends something. A run of a clock has its next
/// tick; one that follows its source would fail again at once.
fn after_refusal(pipeline: &Pipeline) -> Duration {
    if pipeline.schedule == Schedule::OnChange { HOUSEKEEPING } else { Duration::ZERO }
}

/// The pause before the next try of a run that failed and may heal: doubled each time, with jitter, so that pipelines
/// that failed together do not come back together.
fn backoff(failures: u32) -> Duration {
    let pause = FIRST_BACKOFF.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(LONGEST_BACKOFF);
    pause.mul_f64(rand::rng().random_range(0.75..1.25))
}

/// How long until the pipeline's next run; zero when it is due. At most [`HOUSEKEEPING`], so that a pause, a resume or a
/// manual run is noticed.
async fn until_due(engine: &Engine, pipeline: &Pipeline, watch: &mut Watch) -> Result<Duration> {
    if pipeline.schedule == Schedule::OnChange {
        return watch.until_changed(engine, pipeline).await;
    }
    let session = engine.control_session().await?;
    if engine.control().pipeline_state(&*session, &pipeline.name).await?.paused {
        return Ok(HOUSEKEEPING);
    }
    let last = engine.control().last_start(&*session, &pipeline.name).await?;
    let pause = match &pipeline.schedule {
        Schedule::Every(interval) => due::until_interval(last, *interval, Utc::now()),
        Schedule::Cron(cron) => due::until_cron(last, cron, Utc::now()),
        Schedule::Manual | Schedule::OnChange => Duration::MAX,
    };
    Ok(pause.min(HOUSEKEEPING))
}

async fn keep_tidy(engine: &Engine, shutdown: &CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(HOUSEKEEPING) => {}
        }
        let tidy = async {
            let mut session = engine.control_session().await?;
            for pipeline in &engine.project().pipelines {
                engine.retire_superseded(&mut session, pipeline).await?;
            }
            engine.retire_dropped_tables(&mut session).await?;
            Ok::<(), crate::domain::Error>(())
        };
        if let Err(error) = tidy.await {
            tracing::warn!("old generations stay for now: {error}");
        }
    }
}
