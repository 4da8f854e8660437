//! `lakegate pause` and `lakegate resume`: a pipeline's schedule.

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
    let name = context
        .with_engine(context.log(), async |engine| {
            let name = &engine.pipeline(&args.name)?.name;
            let session = engine.control_session().await?;
            engine.control().set_paused(&*session, name, reason).await?;
            Ok(name.clone())
        })
        .await?;
    let paused = reason.is_some();
    if context.printer.is_json() {
        context.printer.json(&serde_json::json!({ "pipeline": name, "paused": paused }));
    } else if paused {
        context.printer.line(&format!("{name}: paused; `lakegate resume {name}` lets it run again"));
    } else {
        context.printer.line(&format!("{name}: runs by its schedule again"));
    }
    Ok(())
}
