//! `lakegate schema`: JSON Schemas for editors, and the contract of the read API.

use serde_json::Value;

use crate::config::json_schema;
use crate::serve;

use super::Ended;
use super::arguments::{SchemaArgs, SchemaOf};
use super::context::Context;

pub(super) async fn run(context: &Context<'_>, args: &SchemaArgs) -> Result<(), Ended> {
    let schema = match args.of {
        SchemaOf::Pipeline => json_schema::pipeline(),
        SchemaOf::Project => json_schema::project(),
        SchemaOf::Table => json_schema::table(),
        SchemaOf::Openapi => openapi(context).await?,
    };
    if context.printer.is_json() {
        context.printer.json(&schema);
    } else {
        context.printer.line(&format!("{schema:#}"));
    }
    Ok(())
}

/// What the read API promises of the tables that are published now.
async fn openapi(context: &Context<'_>) -> Result<Value, Ended> {
    let opened = context.open().await?;
    let project = &opened.project;
    let document = serve::describe_once(&opened.connector, &project.schemas, &project.limits, &project.auth).await;
    opened.close().await;
    Ok(document?)
}
