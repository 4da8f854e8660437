//! Noticing that a pipeline fails, is late or has recovered, and telling it once.
//!
//! How pipelines stand is found out from Postgres, whoever runs them and whether anything runs at all: a run that hangs,
//! a paused schedule or a failing source are noticed alike. What was last told is in Postgres, too.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::domain::{Alerts, Code, Pipeline, Result, Retry, Schedule, Standing, TableName, spell_duration};
use crate::engine::{Engine, Live};
use crate::store::{Change, SyncState, Told};

use super::due::{NextRun, next_run};
use super::rest;
use super::webhook;

/// How often pipelines are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// How long that may take: a connection that hangs must not keep anybody from being told.
const ANSWER: Duration = Duration::from_secs(30);
/// How many failures in a row of what may heal by itself are told.
const TOLD_AFTER: u32 = 2;

/// Tells changes of standing until `shutdown`; nothing where nobody is to be told.
pub(super) async fn run(live: &Live, shutdown: &CancellationToken) {
    let engine = live.now();
    let Some(alerts) = engine.project().alerts.clone() else { return };
    let written = Arc::new(Notify::new());
    let delivery = tokio::spawn({
        let (written, shutdown) = (Arc::clone(&written), shutdown.clone());
        let Alerts { webhook } = alerts;
        async move { webhook::deliver(&engine, &webhook, &written, &shutdown).await }
    });
    loop {
        match tokio::time::timeout(ANSWER, notice(&live.now())).await {
            Ok(Ok(true)) => written.notify_one(),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => tracing::warn!("how pipelines stand cannot be found out: {error}"),
            Err(_) => tracing::warn!("how pipelines stand cannot be found out: Postgres does not answer"),
        }
        if !rest(LOOK, shutdown).await {
            break;
        }
    }
    let _ = delivery.await;
}

/// Writes down what has changed since it was last told. Whether there was anything.
async fn notice(engine: &Engine) -> Result<bool> {
    let pipelines = &engine.project().pipelines;
    let names: Vec<&TableName> = pipelines.iter().map(|pipeline| &pipeline.name).collect();
    let session = engine.control_session().await?;
    // What was told is read first: were it read last, it could be about something later than the states.
    let told = engine.control().told(&*session).await?;
    let states = engine.control().sync_states(&*session, &names).await?;
    let mut written = false;
    for (pipeline, state) in pipelines.iter().zip(&states) {
        let told = told.get(pipeline.name.as_str());
        let (standing, since) = standing(pipeline, state);
        if standing == told.map_or(Standing::Ok, |told| told.standing) {
            continue;
        }
        let id = uuid::Uuid::now_v7().to_string();
        let body = alert(engine, pipeline, state, standing, since, told, &id).to_string();
        let after = told.map_or(0, |told| told.change_no);
        let change = Change { pipeline: &pipeline.name, after, standing, since, id: &id, body: &body };
        if engine.control().tell(&*session, &change).await? {
            tracing::info!(pipeline = %pipeline.name, standing = standing.as_str(), "the pipeline's standing has changed");
            written = true;
        }
    }
    Ok(written)
}

/// How a pipeline stands, and since when.
fn standing(pipeline: &Pipeline, state: &SyncState) -> (Standing, DateTime<Utc>) {
    if let Some(since) = late_since(pipeline, state) {
        return (Standing::Late, since);
    }
    // A table that was not published because of another one heals as that one does.
    let may_heal = |code: Code| code.retry() != Retry::Never || code == Code::GroupNotPublished;
    let may_heal = state.failure.as_ref().is_some_and(|failure| may_heal(failure.code));
    if state.failures >= if may_heal { TOLD_AFTER } else { 1 } {
        return (Standing::Failing, state.failing_since.unwrap_or(state.now));
    }
    (Standing::Ok, state.now)
}

/// Whether a pipeline's data is older than its `freshness`.
#[must_use]
pub fn is_late(pipeline: &Pipeline, state: &SyncState) -> bool {
    late_since(pipeline, state).is_some()
}

fn late_since(pipeline: &Pipeline, state: &SyncState) -> Option<DateTime<Utc>> {
    let freshness = TimeDelta::from_std(pipeline.freshness?).ok()?;
    let limit = state.fresh_at()?.checked_add_signed(freshness)?;
    (limit < state.now).then_some(limit)
}

/// What is posted.
fn alert(
    engine: &Engine,
    pipeline: &Pipeline,
    state: &SyncState,
    standing: Standing,
    since: DateTime<Utc>,
    told: Option<&Told>,
    id: &str,
) -> Value {
    let next = match next_run(pipeline, state) {
        NextRun::At(time) if !state.paused => Some(rfc3339(time)),
        _ => None,
    };
    let published = state.published.as_ref();
    let attempted = state.failure.as_ref().and_then(|failure| failure.source.as_ref());
    json!({
        "id": id,
        "project": engine.project().id,
        "pipeline": pipeline.name,
        "status": if standing == Standing::Ok { "recovered" } else { standing.as_str() },
        "previous": told.map_or(Standing::Ok, |told| told.standing).as_str(),
        "since": rfc3339(since),
        "noticed_at": rfc3339(state.now),
        "reason": reason(pipeline, state, standing),
        "failures": state.failures,
        "run": state.failure.as_ref().map(|failure| failure.run).or(state.last.map(|(run, _)| run)),
        "source_version": attempted.or(published.map(|one| &one.source)).map(|source| &source.version),
        "published_version": published.map(|one| &one.source.version),
        "checked_at": published.map(|one| rfc3339(one.checked_at)),
        "next_try_at": next,
    })
}

fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Why a pipeline stands as it does, in the form of an error.
fn reason(pipeline: &Pipeline, state: &SyncState, standing: Standing) -> Value {
    match standing {
        Standing::Ok => Value::Null,
        Standing::Failing => state.failure.as_ref().map_or(Value::Null, |failure| failure.error.clone()),
        Standing::Late => {
            let freshness = spell_duration(pipeline.freshness.unwrap_or_default());
            let checked = match &state.published {
                Some(published) => format!("was last compared with its source at {}", rfc3339(published.checked_at)),
                None => "has never been published".to_owned(),
            };
            let (cause, hint) = cause(pipeline, state);
            json!({
                "code": Code::Late.to_string(),
                "title": Code::Late.title(),
                "detail": format!("`{}` {checked}, its `freshness` is {freshness}; {cause}", pipeline.name),
                "hint": hint,
            })
        }
    }
}

/// What keeps a pipeline from being fresh, and what to do about it.
fn cause(pipeline: &Pipeline, state: &SyncState) -> (String, String) {
    let name = &pipeline.name;
    let detail = |error: &Value| error.get("detail").and_then(Value::as_str).unwrap_or_default().to_owned();
    if let Some(cancelled) = state.cancelled.as_ref().filter(|_| !state.paused) {
        return (format!("run {} was cancelled", cancelled.run), format!("run it again: lakegate sync {name}"));
    }
    match (&state.failure, state.last) {
        _ if state.paused => {
            let why = state.paused_reason.as_deref().unwrap_or("no reason is given");
            (format!("its schedule is paused ({why})"), format!("lakegate resume {name}"))
        }
        (_, Some((run, since))) if state.under_way => (
            format!("run {run} has been under way since {}", rfc3339(since)),
            format!("see what it does: lakegate runs {name}"),
        ),
        (Some(failure), _) => (
            format!("run {} failed: {} {}", failure.run, failure.code, detail(&failure.error)),
            failure.error.get("hint").and_then(Value::as_str).unwrap_or("mend the cause").to_owned(),
        ),
        _ if pipeline.schedule == Schedule::Manual => {
            ("it has no schedule".to_owned(), format!("lakegate sync {name}, or declare a `schedule`"))
        }
        _ => (
            "no run is due yet, or none has come to its turn".to_owned(),
            "see whether `schedule` and `limits.concurrent_runs` go with `freshness`".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::due::tests::{failed, pipeline};
    use super::*;

    #[test]
    fn what_may_heal_is_told_after_the_second_failure_and_what_cannot_after_the_first() {
        let watched = pipeline("items", Schedule::OnChange);
        let told =
            |code| [1, 2].map(|failures| standing(&watched, &failed(100, failures, code)).0 == Standing::Failing);
        assert_eq!(told(Code::ConnectionLost), [false, true]);
        assert_eq!(told(Code::DuplicateKey), [true, true]);
    }

    #[test]
    fn a_table_held_up_by_another_one_of_its_group_is_told_no_sooner_than_that_one() {
        let state = |failures| failed(100, failures, Code::GroupNotPublished);
        let watched = pipeline("items", Schedule::OnChange);
        assert_eq!([1, 2].map(|failures| standing(&watched, &state(failures)).0), [Standing::Ok, Standing::Failing]);
    }
}
