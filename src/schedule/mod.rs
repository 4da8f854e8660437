//! When runs happen: each scheduled pipeline by the clock or as its source changes, a few at a time; and who is told
//! when they do not.

mod alarm;
mod declared;
mod due;
mod serving;
mod slots;
mod status;
mod watch;
mod webhook;

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::{join_all, try_join_all};
use rand::Rng as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::domain::{Backoff, Code, Pipeline, Result};
use crate::engine::{Engine, Live, SyncRequest};

use declared::{Declared, Together, scheduled};
use watch::{ELSEWHERE, Readiness, Watch};

pub use alarm::is_late;
pub use due::{NextRun, next_run};
pub use slots::{Slot, SlotUse, Slots};
pub use status::{TableStatus, table_statuses};

/// How often generations that readers held are tried again, and the longest that a pipeline is not looked at.
const HOUSEKEEPING: Duration = Duration::from_secs(30);

/// Runs what is due until `shutdown`; then cancels what is under way and returns when it has ended.
///
/// A table that has never been loaded is loaded at once; ticks missed while no process was running are made up for by
/// one run. Where the project says whom to tell, changes of a pipeline's standing are told. Pipelines may be declared
/// otherwise meanwhile: see [`Live`].
/// Its runs take their turn at `slots` with all others of the process.
pub async fn run(live: Live, slots: Slots, shutdown: CancellationToken) {
    let all = {
        let (live, shutdown) = (live.clone(), shutdown.clone());
        tokio::spawn(async move { keep_all_fresh(&live, &slots, &shutdown).await })
    };
    let housekeeping = {
        let (live, shutdown) = (live.clone(), shutdown.clone());
        tokio::spawn(async move { keep_tidy(&live, &shutdown).await })
    };
    let serving = {
        let (live, shutdown) = (live.clone(), shutdown.clone());
        tokio::spawn(async move { serving::keep(&live, &shutdown).await })
    };
    let alarm = tokio::spawn(async move { alarm::run(&live, &shutdown).await });
    join_all([all, housekeeping, serving, alarm]).await;
}

/// Keeps every group fresh that is scheduled, from when it is declared until it no longer is.
async fn keep_all_fresh(live: &Live, slots: &Slots, shutdown: &CancellationToken) {
    let mut changes = live.follow();
    let mut loops: JoinSet<Together> = JoinSet::new();
    let mut kept: HashSet<Together> = HashSet::new();
    loop {
        let engine = changes.borrow_and_update().clone();
        for together in scheduled(&engine).keys() {
            if !shutdown.is_cancelled() && kept.insert(together.clone()) {
                let (live, slots, shutdown) = (live.clone(), slots.clone(), shutdown.clone());
                let together = together.clone();
                loops.spawn(async move {
                    keep_fresh(&live, &together, &slots, &shutdown).await;
                    together
                });
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            changed = changes.changed() => if changed.is_err() { break },
            Some(ended) = loops.join_next() => match ended {
                // One may be declared again at the moment in which it ends.
                Ok(together) => _ = kept.remove(&together),
                Err(error) => tracing::error!("a schedule has ended by a fault: {error}"),
            },
        }
    }
    while loops.join_next().await.is_some() {}
}

/// Runs a pipeline, or those of a group together, whenever one of them is due, as long as they are declared and scheduled.
async fn keep_fresh(live: &Live, together: &Together, slots: &Slots, shutdown: &CancellationToken) {
    let mut declared = Declared::new(live, together);
    let mut watches = declared.watches(false);
    // In a row: questions that got no answer, and runs of which nothing could be written down. Everything else is in
    // Postgres.
    let mut unanswered: u32 = 0;
    while let Some(first) = declared.group.first() {
        let engine = &declared.engine;
        let asked = tokio::select! {
            () = shutdown.cancelled() => return,
            asked = ask(engine, &declared.group, &mut watches) => asked,
        };
        let pause = match asked {
            Ok(Readiness::NotFor(pause) | Readiness::Paused(pause)) => {
                unanswered = 0;
                Some(pause)
            }
            Ok(Readiness::Since(due)) => run_once(&declared, slots, due, &mut watches, shutdown).await,
            Ok(Readiness::Blind(now, error)) => {
                tracing::warn!(pipeline = %first.name, "the source cannot be looked at: {error}");
                let ran = run_once(&declared, slots, now, &mut watches, shutdown).await;
                // A run that sees what a look does not must not follow upon the next.
                ran.filter(|pause| *pause > Duration::ZERO).or(None)
            }
            Err(error) => {
                tracing::warn!(pipeline = %first.name, "whether it is due cannot be found out: {error}");
                None
            }
        };
        let pause = pause.unwrap_or_else(|| {
            unanswered += 1;
            Backoff::OF_QUESTIONS.pause(unanswered, rand::rng().random())
        });
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = declared.redefined() => {
                watches = declared.watches(true);
                unanswered = 0;
            }
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Whether the pipelines of a group are due: they are when one of them is, and none while one is paused.
async fn ask(engine: &Engine, group: &[Pipeline], watches: &mut [Watch]) -> Result<Readiness> {
    let asked = group.iter().zip(watches).map(|(pipeline, watch)| watch.ask(engine, pipeline));
    let asked = try_join_all(asked).await?;
    Ok(asked.into_iter().reduce(Readiness::and).unwrap_or(Readiness::NotFor(HOUSEKEEPING)))
}

/// Runs pipelines that are due once it is their turn. The pause until they are to be asked again; `None` when that is for
/// the caller to say, since nothing could be written down.
async fn run_once(
    declared: &Declared,
    slots: &Slots,
    due: DateTime<Utc>,
    watches: &mut [Watch],
    shutdown: &CancellationToken,
) -> Option<Duration> {
    let slot = shutdown.run_until_cancelled(slots.acquire(due)).await?;
    let (engine, group) = (&declared.engine, &declared.group);
    // It waits for its turn anew as what it is now.
    if declared.is_outdated() {
        return Some(Duration::ZERO);
    }
    // Another process may have done it meanwhile.
    if slot.waited
        && let Ok(Readiness::NotFor(pause) | Readiness::Paused(pause)) = ask(engine, group, watches).await
    {
        return Some(pause);
    }
    let all: Vec<&Pipeline> = group.iter().collect();
    let synced = engine.sync_together(&all, &SyncRequest::scheduled(), shutdown).await;
    let mut failures = synced.into_iter().filter_map(|(_, result)| result.err()).peekable();
    if failures.peek().is_some_and(|failure| failure.error.code() == Code::RunInProgress) {
        return Some(ELSEWHERE);
    }
    for watch in watches {
        watch.ran();
    }
    declared.after_run();
    failures.all(|failure| failure.run.is_some()).then_some(Duration::ZERO)
}

/// Sleeps; false when it is time to end.
async fn rest(pause: Duration, shutdown: &CancellationToken) -> bool {
    shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_some()
}

async fn keep_tidy(live: &Live, shutdown: &CancellationToken) {
    while rest(HOUSEKEEPING, shutdown).await {
        let engine = live.now();
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
