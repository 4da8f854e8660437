//! `lakegate pause` and `lakegate resume`: the schedule of a pipeline and its group.

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
    let changed = context
        .with_engine(context.log(), async |engine| {
            let pipeline = engine.pipeline(&args.name)?;
            engine.set_paused(pipeline, reason).await
        })
        .await?;
    for record in changed {
        let name = &record.pipeline;
        if context.printer.is_json() {
            context.printer.json(&record);
        } else if record.paused {
            context.printer.line(&format!("{name}: paused; `lakegate resume {name}` lets it run again"));
        } else {
            context.printer.line(&format!("{name}: runs by its schedule again"));
        }
    }
    Ok(())
}
