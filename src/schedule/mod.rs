//! When runs happen: each scheduled pipeline by its interval, a few at a time.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::join_all;
use rand::Rng as _;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::domain::{Pipeline, Result, Retry, Schedule};
use crate::engine::{Engine, SyncRequest, Trigger};

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
    let pipelines = engine.project().pipelines.iter().filter_map(|pipeline| match pipeline.schedule {
        Schedule::Manual => None,
        Schedule::Every(interval) => Some((pipeline.clone(), interval)),
    });
    let loops = pipelines.map(|(pipeline, interval)| {
        let (engine, slots, shutdown) = (Arc::clone(&engine), Arc::clone(&slots), shutdown.clone());
        tokio::spawn(async move { keep_fresh(&engine, &pipeline, interval, &slots, &shutdown).await })
    });
    let housekeeping = {
        let (engine, shutdown) = (Arc::clone(&engine), shutdown.clone());
        tokio::spawn(async move { keep_tidy(&engine, &shutdown).await })
    };
    join_all(loops.chain(std::iter::once(housekeeping))).await;
}

async fn keep_fresh(
    engine: &Engine,
    pipeline: &Pipeline,
    interval: Duration,
    slots: &Semaphore,
    shutdown: &CancellationToken,
) {
    // Failures in a row that waiting may heal.
    let mut failures: u32 = 0;
    loop {
        let pause = match until_due(engine, pipeline, interval).await {
            _ if failures > 0 => backoff(failures).min(interval),
            Ok(pause) => pause,
            Err(error) => {
                tracing::warn!(pipeline = %pipeline.name, "the schedule cannot be read: {error}");
                failures += 1;
                continue;
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
            _ => 0,
        };
    }
}

/// The pause before the next try of a run that failed and may heal: doubled each time, with jitter, so that pipelines
/// that failed together do not come back together.
fn backoff(failures: u32) -> Duration {
    let pause = FIRST_BACKOFF.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(LONGEST_BACKOFF);
    pause.mul_f64(rand::rng().random_range(0.75..1.25))
}

/// How long until the pipeline's next run; zero when it is due. At most [`HOUSEKEEPING`], so that a pause, a resume or a
/// manual run is noticed.
async fn until_due(engine: &Engine, pipeline: &Pipeline, interval: Duration) -> Result<Duration> {
    let session = engine.control_session().await?;
    if engine.control().pipeline_state(&*session, &pipeline.name).await?.paused {
        return Ok(HOUSEKEEPING);
    }
    let last = engine.control().last_start(&*session, &pipeline.name).await?;
    Ok(pause_before(last, interval, Utc::now()).min(HOUSEKEEPING))
}

fn pause_before(last_start: Option<DateTime<Utc>>, interval: Duration, now: DateTime<Utc>) -> Duration {
    let Some(last) = last_start else { return Duration::ZERO };
    // A clock set back must not stop the schedule: the pause is never longer than the interval.
    let since = (now - last).to_std().unwrap_or_default();
    interval.saturating_sub(since)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn a_table_never_run_is_due_at_once() {
        assert_eq!(pause_before(None, Duration::from_secs(60), at(0)), Duration::ZERO);
    }

    #[test]
    fn the_pause_counts_from_the_last_start() {
        assert_eq!(pause_before(Some(at(100)), Duration::from_secs(60), at(130)), Duration::from_secs(30));
    }

    #[test]
    fn missed_ticks_make_one_run() {
        assert_eq!(pause_before(Some(at(100)), Duration::from_secs(60), at(10_000)), Duration::ZERO);
    }

    #[test]
    fn a_clock_set_back_does_not_stop_the_schedule() {
        assert_eq!(pause_before(Some(at(10_000)), Duration::from_secs(60), at(0)), Duration::from_secs(60));
    }
}
