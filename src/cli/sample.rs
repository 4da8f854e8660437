//! `lakegate sample`: a small real lake.

use std::path::Path;

use crate::domain::Result;
use crate::sample::{SampleOptions, write};

use super::Ended;
use super::arguments::SampleArgs;
use super::context::Context;
use super::printer::counted;

pub(super) async fn run(context: &Context<'_>, args: &SampleArgs) -> Result<(), Ended> {
    write_lake(context, &args.dir).await?;
    Ok(())
}

/// Writes the lake and says what is in it.
pub(super) async fn write_lake(context: &Context<'_>, dir: &Path) -> Result<()> {
    let tables = write(dir, SampleOptions::default()).await?;
    if context.printer.is_json() {
        tables.iter().for_each(|table| context.printer.json(table));
        return Ok(());
    }
    for table in &tables {
        context.printer.line(&format!("{}: {}", table.path.display(), counted(table.rows, "row")));
    }
    Ok(())
}
