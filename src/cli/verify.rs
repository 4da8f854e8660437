//! `lakegate verify`: a whole published table against its source, now.

use super::arguments::NameArgs;
use super::context::Context;
use super::printer::count;
use super::{Ended, interrupt};

pub(super) async fn run(context: &Context<'_>, args: &NameArgs) -> Result<(), Ended> {
    let cancel = interrupt::token();
    let verified = context
        .with_engine(context.progress(), async |engine| {
            engine.verify_table(engine.pipeline(&args.name)?, &cancel).await
        })
        .await?;
    if context.printer.is_json() {
        context.printer.json(&verified);
    } else {
        context.printer.line(&format!(
            "{}: all {} rows of generation {} equal version {} of the source in every value",
            verified.pipeline,
            count(verified.rows),
            verified.generation,
            verified.source_version
        ));
    }
    Ok(())
}
