//! `lakegate generations`: what is kept of a table.

use super::Ended;
use super::arguments::NameArgs;
use super::context::{Context, table_name};
use super::printer::{ago, count};

/// More than anybody keeps; the list ends with retired ones.
const LISTED: i64 = 100;

pub(super) async fn run(context: &Context<'_>, args: &NameArgs) -> Result<(), Ended> {
    let name = table_name(&args.name)?;
    let generations = context
        .with_engine(context.log(), async |engine| {
            let session = engine.control_session().await?;
            let generations = engine.control().generations(&*session, &name, LISTED).await?;
            if generations.is_empty() {
                engine.pipeline(&args.name)?;
            }
            Ok(generations)
        })
        .await?;
    if context.printer.is_json() {
        generations.iter().for_each(|generation| context.printer.json(generation));
        return Ok(());
    }
    let rows = generations.iter().map(|generation| {
        let state = if generation.retired_at.is_some() {
            "retired"
        } else if generation.superseded_at.is_some() {
            "kept"
        } else if generation.published_at.is_some() {
            "live"
        } else {
            "loaded"
        };
        vec![
            generation.generation.to_string(),
            state.to_owned(),
            generation.source.version.clone(),
            count(generation.rows.unsigned_abs()),
            ago(generation.loaded_at),
            generation.run.to_string(),
        ]
    });
    context.printer.table(&["generation", "state", "version", "rows", "loaded", "run"], rows.collect());
    Ok(())
}
