//! When runs happen: each scheduled pipeline by the clock or as its source changes, a few at a time.

mod due;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use rand::Rng as _;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::domain::{Code, Pipeline, Result, Retry, Schedule};
use crate::engine::{Engine, RunFailure, SyncRequest, Synced, Trigger};

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
    let scheduled = engine.project().pipelines.iter().filter(|pipeline| pipeline.schedule != Schedule::Manual);
    let groups = engine.together(&scheduled.collect::<Vec<_>>());
    let loops = groups.into_iter().map(|group| {
        let group: Vec<Pipeline> = group.into_iter().cloned().collect();
        let (engine, slots, shutdown) = (Arc::clone(&engine), Arc::clone(&slots), shutdown.clone());
        tokio::spawn(async move { keep_fresh(&engine, &group, &slots, &shutdown).await })
    });
    let housekeeping = {
        let (engine, shutdown) = (Arc::clone(&engine), shutdown.clone());
        tokio::spawn(async move { keep_tidy(&engine, &shutdown).await })
    };
    join_all(loops.chain(std::iter::once(housekeeping))).await;
}

/// Runs a pipeline, or those of a group together, whenever one of them is due.
async fn keep_fresh(engine: &Engine, group: &[Pipeline], slots: &Semaphore, shutdown: &CancellationToken) {
    let Some(first) = group.first() else { return };
    let all: Vec<&Pipeline> = group.iter().collect();
    let mut watches: Vec<Watch> = group.iter().map(|_| Watch::new()).collect();
    // In a row: questions that got no answer, and runs that failed.
    let (mut unanswered, mut failures): (u32, u32) = (0, 0);
    // Whether the last run failed in a way that a further try may heal, whatever the clock says.
    let mut again = false;
    loop {
        let due = tokio::select! {
            () = shutdown.cancelled() => return,
            due = until_any_due(engine, group, &mut watches), if !again => due,
            () = std::future::ready(()), if again => Ok(Duration::ZERO),
        };
        let pause = match due {
            Ok(pause) => {
                unanswered = 0;
                pause
            }
            Err(error) => {
                tracing::warn!(pipeline = %first.name, "whether it is due cannot be found out: {error}");
                unanswered += 1;
                backoff(unanswered)
            }
        };
        if pause > Duration::ZERO {
            // Asked again afterwards: something may have happened meanwhile, a manual run or a pause.
            if rest(pause, shutdown).await {
                continue;
            }
            return;
        }
        let Ok(slot) = slots.acquire().await else { return };
        let request = SyncRequest { trigger: Trigger::Schedule, ..SyncRequest::manual() };
        let synced = engine.sync_together(&all, &request, shutdown).await;
        drop(slot);
        if shutdown.is_cancelled() {
            return;
        }
        let Some(failure) = cause(synced) else {
            (failures, again) = (0, false);
            continue;
        };
        failures += 1;
        again = failure.error.code().retry() != Retry::Never;
        if !rest(after_failure(first, failures, again, failure.run.is_some()), shutdown).await {
            return;
        }
    }
}

/// Why a run failed: what the one member says because of which the others were not published.
fn cause(synced: Vec<Synced<'_>>) -> Option<RunFailure> {
    let failures = synced.into_iter().filter_map(|(_, result)| result.err());
    failures.min_by_key(|failure| failure.error.code() == Code::GroupNotPublished)
}

/// Sleeps; false when it is time to end.
async fn rest(pause: Duration, shutdown: &CancellationToken) -> bool {
    tokio::select! {
        () = shutdown.cancelled() => false,
        () = tokio::time::sleep(pause) => true,
    }
}

/// The pause after a run that failed. What only a person can mend waits for the next tick of the clock; without a clock,
/// or where not even a run came of it, a pause that grows keeps the same failure from being repeated at once.
fn after_failure(pipeline: &Pipeline, failures: u32, may_heal: bool, was_a_run: bool) -> Duration {
    match pipeline.schedule {
        Schedule::Every(interval) if may_heal => backoff(failures).min(interval),
        Schedule::Every(_) | Schedule::Cron(_) if !may_heal && was_a_run => Duration::ZERO,
        _ => backoff(failures),
    }
}

/// The pause before the next try of a run that failed and may heal: doubled each time, with jitter, so that pipelines
/// that failed together do not come back together.
fn backoff(failures: u32) -> Duration {
    let pause = FIRST_BACKOFF.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(LONGEST_BACKOFF);
    pause.mul_f64(rand::rng().random_range(0.75..1.25))
}

/// How long until the next run of a group: it is due when one of its pipelines is.
async fn until_any_due(engine: &Engine, group: &[Pipeline], watches: &mut [Watch]) -> Result<Duration> {
    let due = group.iter().zip(watches).map(|(pipeline, watch)| until_due(engine, pipeline, watch));
    Ok(try_join_all(due).await?.into_iter().min().unwrap_or(HOUSEKEEPING))
}

/// How long until the pipeline's next run; zero when it is due. At most [`HOUSEKEEPING`], so that a pause, a resume or a
/// manual run is noticed. A table that has never been tried is due.
async fn until_due(engine: &Engine, pipeline: &Pipeline, watch: &mut Watch) -> Result<Duration> {
    if pipeline.schedule == Schedule::OnChange {
        return watch.until_changed(engine, pipeline).await;
    }
    let session = engine.control_session().await?;
    if engine.is_paused(&session, pipeline).await? {
        return Ok(HOUSEKEEPING);
    }
    let Some((last, now)) = engine.control().last_start(&*session, &pipeline.name).await? else {
        return Ok(Duration::ZERO);
    };
    let pause = match &pipeline.schedule {
        Schedule::Every(interval) => due::until_interval(last, *interval, now),
        Schedule::Cron(cron) => due::until_cron(last, cron, now),
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
            engine.control().prune_history(&*session).await?;
            Ok::<(), crate::domain::Error>(())
        };
        if let Err(error) = tidy.await {
            tracing::warn!("old generations stay for now: {error}");
        }
    }
}
