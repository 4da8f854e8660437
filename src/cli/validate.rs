//! `lakegate validate`: every problem of every file, with its place.

use serde_json::json;

use crate::config;

use super::Ended;
use super::context::Context;
use super::printer::{Printer, counted};

pub(super) fn run(context: &Context<'_>) -> Result<(), Ended> {
    let printer = context.printer;
    match config::load(&context.dir, &context.environment) {
        Ok(loaded) => {
            if printer.is_json() {
                let pipelines: Vec<_> = loaded.project.pipelines.iter().map(|pipeline| &pipeline.name).collect();
                printer.json(&json!({ "valid": true, "pipelines": pipelines, "warnings": loaded.warnings }));
                return Ok(());
            }
            for warning in &loaded.warnings {
                printer.note(&warning.render(Printer::is_interactive()));
            }
            let names: Vec<&str> = loaded.project.pipelines.iter().map(|pipeline| pipeline.name.as_str()).collect();
            printer.line(&format!("valid: {} ({})", counted(names.len() as u64, "pipeline"), names.join(", ")));
            Ok(())
        }
        Err(problems) => {
            if printer.is_json() {
                printer.json(&json!({ "valid": false, "problems": problems }));
            } else {
                printer.note(&problems.render(Printer::is_interactive()));
            }
            Err(Ended::Shown)
        }
    }
}
