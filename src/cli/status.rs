//! `lakegate status`: what is published, how fresh it is, how syncs fare.

use secrecy::ExposeSecret as _;

use crate::schedule::{NextRun, TableStatus, table_statuses};

use super::Ended;
use super::context::Context;
use super::printer::{ago, ahead};

pub(super) async fn run(context: &Context<'_>) -> Result<(), Ended> {
    let opened = context.open().await?;
    let url = opened.server.as_ref().map(|server| server.url_for_people().expose_secret().to_owned());
    let tables = match context.look(&opened).await {
        Ok(engine) => table_statuses(&engine).await,
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
