//! `lakegate rejected`: rows that were left out, and why.

use super::Ended;
use super::arguments::RejectedArgs;
use super::context::{Context, table_name};

pub(super) async fn run(context: &Context<'_>, args: &RejectedArgs) -> Result<(), Ended> {
    let name = table_name(&args.name)?;
    let rejected = context
        .with_control(async |control, session| {
            control.rejected_rows(session, &name, args.run, i64::from(args.limit)).await
        })
        .await?;
    if context.printer.is_json() {
        rejected.iter().for_each(|row| context.printer.json(row));
        return Ok(());
    }
    let rows = rejected.iter().map(|row| {
        vec![
            row.run.to_string(),
            row.key.to_string(),
            row.column.clone().unwrap_or_default(),
            row.code.clone(),
            row.reason.clone(),
        ]
    });
    context.printer.table(&["run", "key", "column", "code", "reason"], rows.collect());
    Ok(())
}
