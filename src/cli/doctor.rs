//! `lakegate doctor`: what is wrong, and what to do about it.

use serde::Serialize;

use crate::config;
use crate::destination::Destination;
use crate::domain::{Error, Project};
use crate::engine::{Engine, ErrorRecord};

use super::Ended;
use super::arguments::DoctorArgs;
use super::context::{Context, Opened};
use super::printer::counted;

/// One thing looked at.
#[derive(Debug, Serialize)]
struct Check {
    name: String,
    ok: bool,
    /// What was found.
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorRecord>,
}

impl Check {
    fn passed(name: impl Into<String>, found: impl Into<String>) -> Self {
        Check { name: name.into(), ok: true, found: found.into(), error: None }
    }

    fn failed(name: impl Into<String>, error: &Error) -> Self {
        Check { name: name.into(), ok: false, found: error.detail().to_owned(), error: Some(ErrorRecord::from(error)) }
    }
}

pub(super) async fn run(context: &Context<'_>, args: &DoctorArgs) -> Result<(), Ended> {
    if args.grants {
        let project = context.load_project()?;
        let sql = Destination::new(project.schemas.clone()).grants_needed_sql();
        if context.printer.is_json() {
            context.printer.json(&serde_json::json!({ "sql": sql }));
        } else {
            context.printer.line(&sql);
        }
        return Ok(());
    }
    let checks = examine(context).await;
    if context.printer.is_json() {
        checks.iter().for_each(|check| context.printer.json(check));
    } else {
        for check in &checks {
            let mark = if check.ok { "ok    " } else { "FAILED" };
            context.printer.line(&format!("{mark} {}: {}", check.name, check.found));
            if let Some(hint) = check.error.as_ref().and_then(|error| error.hint.as_ref()) {
                context.printer.line(&format!("       hint: {hint}"));
            }
        }
    }
    if checks.iter().all(|check| check.ok) { Ok(()) } else { Err(Ended::Shown) }
}

async fn examine(context: &Context<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    match config::load(&context.dir, &context.environment) {
        Ok(loaded) => {
            checks.push(Check::passed("configuration", counted(loaded.project.pipelines.len() as u64, "pipeline")));
        }
        Err(problems) => {
            checks.push(Check::failed("configuration", &problems.into()));
            return checks;
        }
    }
    let opened = match context.open().await {
        Ok(opened) => opened,
        Err(Ended::With(error)) => {
            checks.push(Check::failed("Postgres", &error));
            return checks;
        }
        Err(Ended::Shown) => return checks,
    };
    examine_project(context, &opened, &mut checks).await;
    opened.close().await;
    checks
}

async fn examine_project(context: &Context<'_>, opened: &Opened, checks: &mut Vec<Check>) {
    let engine = match context.look(opened).await {
        Ok(engine) => engine,
        Err(error) => {
            checks.push(Check::failed("Postgres", &error));
            return;
        }
    };
    checks.push(match engine.describe_server().await {
        Ok(found) => Check::passed("Postgres", format!("{}, {found}", opened.connector.place())),
        Err(error) => Check::failed("Postgres", &error),
    });
    checks.push(match engine.check_direct_connection().await {
        Ok(()) => Check::passed("connection", "direct: LISTEN and session locks work"),
        Err(error) => Check::failed("connection", &error),
    });
    examine_pipelines(&engine, &opened.project, checks).await;
}

async fn examine_pipelines(engine: &Engine, project: &Project, checks: &mut Vec<Check>) {
    for pipeline in &project.pipelines {
        let name = format!("pipeline {}", pipeline.name);
        checks.push(match engine.plan(pipeline).await {
            Ok(plan) => Check::passed(
                name,
                format!(
                    "{} version {}, {}, {}",
                    plan.format,
                    plan.source_version,
                    counted(plan.columns.len() as u64, "column"),
                    plan.reason
                ),
            ),
            Err(error) => Check::failed(name, &error),
        });
    }
}
