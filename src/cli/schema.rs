//! `lakegate schema`: JSON Schemas for editors.

use crate::config::json_schema;

use super::Ended;
use super::arguments::{SchemaArgs, SchemaOf};
use super::context::Context;

pub(super) fn run(context: &Context<'_>, args: &SchemaArgs) -> Result<(), Ended> {
    let schema = match args.of {
        SchemaOf::Pipeline => json_schema::pipeline(),
        SchemaOf::Project => json_schema::project(),
        SchemaOf::Table => json_schema::table(),
    };
    if context.printer.is_json() {
        context.printer.json(&schema);
    } else {
        context.printer.line(&format!("{schema:#}"));
    }
    Ok(())
}
