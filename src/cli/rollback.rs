//! `lakegate rollback`: back to an earlier state.

use crate::domain::Generation;

use super::arguments::RollbackArgs;
use super::context::Context;
use super::{Ended, interrupt};

pub(super) async fn run(context: &Context<'_>, args: &RollbackArgs) -> Result<(), Ended> {
    let cancel = interrupt::token();
    let (outcome, group) = context
        .with_engine(context.progress(), async |engine| {
            let pipeline = engine.pipeline(&args.name)?;
            let outcome = engine.rollback(pipeline, args.to.map(Generation), args.to_version, &cancel).await?;
            Ok((outcome, pipeline.group.clone()))
        })
        .await?;
    if let Some(group) = group {
        context.printer.note(&format!(
            "the other tables of the group `{group}` stay as they are; the whole group is paused with this one"
        ));
    }
    if context.printer.is_json() {
        context.printer.json(&outcome);
    } else {
        context.printer.line(&format!(
            "{}: version {} is published again (generation {}); the pipeline is paused until `lakegate resume {}`",
            outcome.pipeline,
            outcome.source_version.as_deref().unwrap_or("?"),
            outcome.generation.map(|generation| generation.to_string()).unwrap_or_default(),
            outcome.pipeline
        ));
    }
    Ok(())
}
