//! `lakegate status`: what is published, how fresh it is, how syncs fare.

use secrecy::ExposeSecret as _;
use serde::Serialize;

use crate::domain::{Pipeline, Result, TableName};
use crate::engine::Engine;
use crate::store::{Published, RunRecord};

use super::Ended;
use super::context::Context;
use super::printer::ago;

/// One table on its two axes: a failing sync is not an outage.
#[derive(Debug, Serialize)]
struct TableStatus {
    name: String,
    serving: &'static str,
    sync: &'static str,
    group: Option<TableName>,
    paused: bool,
    orphaned: bool,
    generation: Option<i64>,
    publish_no: Option<i64>,
    source_version: Option<String>,
    published_at: Option<chrono::DateTime<chrono::Utc>>,
    checked_at: Option<chrono::DateTime<chrono::Utc>>,
    last_run: Option<RunRecord>,
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
    let error = table.last_run.as_ref().and_then(|run| run.error.as_ref());
    let note = match error {
        _ if table.orphaned => "orphaned: its pipeline file is gone".to_owned(),
        _ if table.paused => "paused".to_owned(),
        Some(error) => error.get("detail").and_then(|detail| detail.as_str()).unwrap_or_default().to_owned(),
        None => String::new(),
    };
    vec![
        table.name.clone(),
        table.serving.to_owned(),
        table.sync.to_owned(),
        table.source_version.clone().unwrap_or_default(),
        table.published_at.map(ago).unwrap_or_default(),
        table.checked_at.map(ago).unwrap_or_default(),
        note,
    ]
}

async fn collect(engine: &Engine) -> Result<Vec<TableStatus>> {
    let session = engine.control_session().await?;
    let mut tables = Vec::new();
    let (published, mut runs, held) = if engine.is_prepared() {
        let control = engine.control();
        let published = control.all_published(&*session).await?;
        (published, control.last_runs(&*session).await?, control.held_leases(&*session).await?)
    } else {
        Default::default()
    };
    let declared = engine.project().pipelines.iter().map(|pipeline| pipeline.name.to_string());
    let orphans = published.iter().map(|row| row.name.clone());
    let mut names: Vec<String> = declared.chain(orphans).collect();
    names.sort();
    names.dedup();
    for name in names {
        let live = published.iter().find(|row| row.name == name);
        let last = runs.iter().position(|run| run.pipeline == name).map(|index| runs.swap_remove(index));
        let pipeline = engine.project().pipelines.iter().find(|pipeline| pipeline.name.as_str() == name);
        let paused = match pipeline {
            Some(pipeline) if engine.is_prepared() => engine.is_paused(&session, pipeline).await?,
            _ => false,
        };
        let is_held = held.contains(&name);
        tables.push(table_status(name, pipeline, live, last, paused, is_held));
    }
    Ok(tables)
}

fn table_status(
    name: String,
    pipeline: Option<&Pipeline>,
    live: Option<&Published>,
    last_run: Option<RunRecord>,
    paused: bool,
    is_held: bool,
) -> TableStatus {
    // A run without a lease that is alive has died without a word.
    let sync = match last_run.as_ref().map(|run| run.state.as_str()) {
        Some("running" | "waiting") if is_held => "running",
        Some("failed" | "running" | "waiting") => "failing",
        _ => "idle",
    };
    TableStatus {
        name,
        serving: if live.is_some() { "online" } else { "offline" },
        sync,
        group: pipeline.and_then(|pipeline| pipeline.group.clone()),
        paused,
        orphaned: pipeline.is_none(),
        generation: live.map(|live| live.generation.0),
        publish_no: live.map(|live| live.publish_no),
        source_version: live.map(|live| live.source_version.clone()),
        published_at: live.map(|live| live.published_at),
        checked_at: live.map(|live| live.checked_at),
        last_run,
    }
}
