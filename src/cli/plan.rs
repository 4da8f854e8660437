//! `lakegate plan`: what a sync would do.

use crate::domain::{Result, TableName};
use crate::engine::{Engine, ErrorRecord, Plan};

use super::Ended;
use super::arguments::NamesArgs;
use super::context::Context;
use super::printer::{bytes, counted, render};
use super::sync::select;

pub(super) async fn run(context: &Context<'_>, args: &NamesArgs) -> Result<(), Ended> {
    let failed = context.looking(async |engine| plan_all(context, engine, args).await).await?;
    if failed { Err(Ended::Shown) } else { Ok(()) }
}

async fn plan_all(context: &Context<'_>, engine: &Engine, args: &NamesArgs) -> Result<bool> {
    let printer = context.printer;
    let mut failed = false;
    for pipeline in select(engine, &args.names)? {
        match engine.plan(pipeline).await {
            Ok(plan) if printer.is_json() => printer.json(&plan),
            Ok(plan) => printer.line(&describe(&plan)),
            Err(error) => {
                failed = true;
                if printer.is_json() {
                    let record = ErrorRecord::from(&error);
                    printer.json(&serde_json::json!({ "pipeline": pipeline.name, "error": record }));
                } else {
                    printer.note(&format!("{}: {}", pipeline.name, render(&error)));
                }
            }
        }
    }
    Ok(failed)
}

fn describe(plan: &Plan) -> String {
    let mut lines = vec![
        format!("{}: {} because {}", plan.pipeline, plan.mode.as_str(), plan.reason),
        format!("  source     {} ({}), version {}", plan.source, plan.format, plan.source_version),
        format!(
            "  read       {} in {}, {}",
            bytes(plan.bytes_to_read),
            counted(plan.files, "file"),
            plan.rows.map_or_else(|| "rows unknown".to_owned(), |rows| counted(rows, "row"))
        ),
        format!("  key        {}", plan.primary_key.join(", ")),
    ];
    if let Some(group) = &plan.group {
        let others: Vec<&str> = plan.published_with.iter().map(TableName::as_str).collect();
        let with = if others.is_empty() { "nothing else" } else { &others.join(", ") };
        lines.push(format!("  group      {group}, published together with {with}"));
    }
    for (index, column) in plan.columns.iter().enumerate() {
        let renamed = if column.source == column.name { String::new() } else { format!("  from {}", column.source) };
        let null = if column.nullable { "" } else { " not null" };
        let change = column.change.map(|change| format!("  ({change})")).unwrap_or_default();
        let title = if index == 0 { "columns" } else { "" };
        lines.push(format!("  {title:<10} {} {}{null}{renamed}{change}", column.name, column.ty));
    }
    if !plan.left_out.is_empty() {
        lines.push(format!("  left out   {} (no type: every value is null)", plan.left_out.join(", ")));
    }
    if plan.mode != crate::domain::RunMode::Noop {
        lines.push(format!(
            "  disk       about {} for the new generation, {} at the peak",
            bytes(plan.estimated_bytes),
            bytes(plan.peak_bytes)
        ));
        lines.push(format!("  view       {}", plan.view));
        lines.extend(plan.ddl.iter().map(|sql| format!("  ddl        {}", sql.replace('\n', "\n             "))));
    }
    lines.extend(plan.dependents.iter().map(|dependent| format!("  dependent  {} (kept)", dependent.object)));
    lines.extend(plan.warnings.iter().map(|warning| format!("  warning    {warning}")));
    lines.join("\n")
}
