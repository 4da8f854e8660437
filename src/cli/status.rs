//! `lakegate status`: what is published, how fresh it is, how syncs fare.

use chrono::{DateTime, Utc};
use secrecy::ExposeSecret as _;
use serde::Serialize;

use crate::domain::{Pipeline, Result, TableName};
use crate::engine::Engine;
use crate::schedule::{NextRun, is_late, next_run};
use crate::store::{Published, RunRecord, SyncState};

use super::Ended;
use super::context::Context;
use super::printer::{ago, ahead};

/// One table on its two axes: a failing sync is not an outage.
#[derive(Debug, Serialize)]
struct TableStatus {
    name: String,
    serving: &'static str,
    sync: &'static str,
    group: Option<TableName>,
    late: bool,
    failures: u32,
    error_code: Option<String>,
    next_try_at: Option<DateTime<Utc>>,
    paused: bool,
    orphaned: bool,
    generation: Option<i64>,
    publish_no: Option<i64>,
    source_version: Option<String>,
    published_at: Option<DateTime<Utc>>,
    checked_at: Option<DateTime<Utc>>,
    last_run: Option<RunRecord>,
    /// What failed last, while syncs fail.
    #[serde(skip)]
    error: Option<serde_json::Value>,
    /// When it is tried again, while its syncs fail.
    #[serde(skip)]
    next_run: Option<NextRun>,
}

pub(super) async fn run(context: &Context<'_>) -> Result<(), Ended> {
    let opened = context.open().await?;
    let url = opened.server.as_ref().map(|server| server.url_for_people().expose_secret().to_owned());
    let tables = match context.look(&opened).await {
        Ok(engine) => collect(&engine).await,
        Err(error) => Err(error),
    };
    opened.close().await;
    let tables = tables?;
    if context.printer.is_json() {
        context.printer.json(&serde_json::json!({ "postgres": url, "tables": tables }));
        return Ok(());
    }
    if let Some(url) = url {
        context.printer.line(&format!("SQL readers, while a lakegate process runs: {url}"));
    }
    let mut columns = vec!["table", "serving", "sync", "version", "published", "checked", "note"];
    let mut rows: Vec<Vec<String>> = tables.iter().map(row).collect();
    if tables.iter().any(|table| table.group.is_some()) {
        columns.insert(1, "group");
        for (row, table) in rows.iter_mut().zip(&tables) {
            row.insert(1, table.group.as_ref().map(ToString::to_string).unwrap_or_default());
        }
    }
    context.printer.table(&columns, rows);
    Ok(())
}

fn row(table: &TableStatus) -> Vec<String> {
    let freshness = if table.late { ", late" } else { "" };
    vec![
        table.name.clone(),
        table.serving.to_owned(),
        format!("{}{freshness}", table.sync),
        table.source_version.clone().unwrap_or_default(),
        table.published_at.map(ago).unwrap_or_default(),
        table.checked_at.map(ago).unwrap_or_default(),
        note(table),
    ]
}

/// What a person should know: `LG2012, 3 failures in a row, next try in 20 seconds: the store answered 503`.
fn note(table: &TableStatus) -> String {
    if table.orphaned {
        return "orphaned: its pipeline file is gone".to_owned();
    }
    let paused = if table.paused { "paused" } else { "" };
    let Some(error) = &table.error else { return paused.to_owned() };
    let detail = error.get("detail").and_then(|detail| detail.as_str()).unwrap_or_default();
    let mut parts = vec![table.error_code.clone().unwrap_or_default()];
    if table.failures > 1 {
        parts.push(format!("{} failures in a row", table.failures));
    }
    match table.next_run {
        Some(NextRun::At(time)) => parts.push(format!("next try {}", ahead(time))),
        Some(NextRun::WhenSourceMoves) => parts.push("next try when the source moves".to_owned()),
        _ if table.paused => parts.push(paused.to_owned()),
        _ => {}
    }
    format!("{}: {detail}", parts.join(", "))
}

async fn collect(engine: &Engine) -> Result<Vec<TableStatus>> {
    let session = engine.control_session().await?;
    let pipelines = &engine.project().pipelines;
    let (published, mut runs, states) = if engine.is_prepared() {
        let control = engine.control();
        let names: Vec<&TableName> = pipelines.iter().map(|pipeline| &pipeline.name).collect();
        let published = control.all_published(&*session).await?;
        (published, control.last_runs(&*session).await?, control.sync_states(&*session, &names).await?)
    } else {
        Default::default()
    };
    let declared = pipelines.iter().map(|pipeline| pipeline.name.to_string());
    let orphans = published.iter().map(|row| row.name.clone());
    let mut names: Vec<String> = declared.chain(orphans).collect();
    names.sort();
    names.dedup();
    let mut tables = Vec::new();
    for name in names {
        let live = published.iter().find(|row| row.name == name);
        let last = runs.iter().position(|run| run.pipeline == name).map(|index| runs.swap_remove(index));
        let pipeline = pipelines.iter().find(|pipeline| pipeline.name.as_str() == name);
        let state = states.iter().find(|state| state.pipeline == name);
        let members = pipeline.map(|pipeline| engine.members(pipeline)).unwrap_or_default();
        let is_member = |state: &&SyncState| members.iter().any(|member| member.name.as_str() == state.pipeline);
        let paused = states.iter().filter(is_member).any(|state| state.paused);
        tables.push(table_status(name, pipeline, live, last, paused, state));
    }
    Ok(tables)
}

fn table_status(
    name: String,
    pipeline: Option<&Pipeline>,
    live: Option<&Published>,
    last_run: Option<RunRecord>,
    paused: bool,
    state: Option<&SyncState>,
) -> TableStatus {
    let failures = state.map_or(0, |state| state.failures);
    let sync = match state {
        Some(state) if state.under_way => "running",
        _ if failures > 0 => "failing",
        _ => "idle",
    };
    let failing = pipeline.zip(state).filter(|(_, state)| state.failures > 0 && !paused && !state.under_way);
    let next_run = failing.map(|(pipeline, state)| next_run(pipeline, state));
    TableStatus {
        name,
        serving: if live.is_some() { "online" } else { "offline" },
        sync,
        group: pipeline.and_then(|pipeline| pipeline.group.clone()),
        late: pipeline.zip(state).is_some_and(|(pipeline, state)| is_late(pipeline, state)),
        failures,
        error_code: state.and_then(|state| state.failure.as_ref()).map(|failure| failure.code.to_string()),
        next_try_at: next_run.and_then(|next| match next {
            NextRun::At(time) => Some(time),
            NextRun::WhenSourceMoves | NextRun::OnRequest => None,
        }),
        paused,
        orphaned: pipeline.is_none(),
        generation: live.map(|live| live.generation.0),
        publish_no: live.map(|live| live.publish_no),
        source_version: live.map(|live| live.source_version.clone()),
        published_at: live.map(|live| live.published_at),
        checked_at: live.map(|live| live.checked_at),
        error: state.and_then(|state| state.failure.as_ref()).map(|failure| failure.error.clone()),
        next_run,
        last_run,
    }
}
