//! `lakegate drop`: the end of a table.

use crate::domain::{Code, Error};

use super::Ended;
use super::arguments::DropArgs;
use super::context::{Context, table_name};
use super::printer::counted;

pub(super) async fn run(context: &Context<'_>, args: &DropArgs) -> Result<(), Ended> {
    let name = table_name(&args.name)?;
    if !args.yes {
        return Err(Error::new(
            Code::InvalidUsage,
            format!("this would end `{name}`: its view, all its generations and its entry in the API"),
        )
        .hint(format!("say `lakegate drop {name} --yes` to do it; the source is not touched"))
        .into());
    }
    let dropped = context.with_engine(context.log(), async |engine| engine.drop_table(&name).await).await?;
    if context.printer.is_json() {
        context.printer.json(&serde_json::json!({ "pipeline": name, "generations_dropped": dropped }));
    } else {
        context.printer.line(&format!("{name}: dropped, with {}", counted(dropped as u64, "generation")));
    }
    Ok(())
}
