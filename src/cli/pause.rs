//! `lakegate pause` and `lakegate resume`: the schedule of a pipeline and its group.

use crate::domain::TableName;

use super::Ended;
use super::arguments::NameArgs;
use super::context::Context;

pub(super) async fn pause(context: &Context<'_>, args: &NameArgs) -> Result<(), Ended> {
    set(context, args, Some("paused by hand")).await
}

pub(super) async fn resume(context: &Context<'_>, args: &NameArgs) -> Result<(), Ended> {
    set(context, args, None).await
}

async fn set(context: &Context<'_>, args: &NameArgs, reason: Option<&str>) -> Result<(), Ended> {
    let names = context
        .with_engine(context.log(), async |engine| {
            let pipeline = engine.pipeline(&args.name)?;
            let session = engine.control_session().await?;
            engine.set_paused(&session, pipeline, reason).await?;
            let members = engine.members(pipeline);
            Ok(members.into_iter().map(|member| member.name.clone()).collect::<Vec<TableName>>())
        })
        .await?;
    let paused = reason.is_some();
    for name in names {
        if context.printer.is_json() {
            context.printer.json(&serde_json::json!({ "pipeline": name, "paused": paused }));
        } else if paused {
            context.printer.line(&format!("{name}: paused; `lakegate resume {name}` lets it run again"));
        } else {
            context.printer.line(&format!("{name}: runs by its schedule again"));
        }
    }
    Ok(())
}
