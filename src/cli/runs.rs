//! `lakegate runs`: the history.

use crate::store::RunFilter;

use super::Ended;
use super::arguments::RunsArgs;
use super::context::{Context, table_name};
use super::printer::{ago, count, seconds};

pub(super) async fn run(context: &Context<'_>, args: &RunsArgs) -> Result<(), Ended> {
    let name = args.name.as_deref().map(table_name).transpose()?;
    let filter = RunFilter { pipeline: name.as_ref(), before: None, limit: i64::from(args.limit) };
    let runs = context
        .with_engine(context.log(), async |engine| {
            let session = engine.control_session().await?;
            let runs = engine.control().runs(&*session, filter).await?;
            if let (true, Some(name)) = (runs.is_empty(), &args.name) {
                engine.pipeline(name)?;
            }
            Ok(runs)
        })
        .await?;
    if context.printer.is_json() {
        runs.iter().for_each(|run| context.printer.json(run));
        return Ok(());
    }
    let rows = runs.iter().map(|run| {
        let total = run.seconds.as_ref().and_then(|stages| stages.get("total")?.as_f64());
        let why = match &run.error {
            Some(error) => {
                let text = |key: &str| error.get(key).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
                format!("{} {}", text("code"), text("detail"))
            }
            None => {
                let reason = run.reason.clone().unwrap_or_default();
                match run.checks_overridden.as_deref() {
                    None | Some([]) => reason,
                    Some(checks) => format!("{reason}; checks overridden: {}", checks.join("; ")),
                }
            }
        };
        vec![
            run.run.to_string(),
            run.pipeline.clone(),
            run.state.clone(),
            run.mode.clone().unwrap_or_default(),
            run.source_version.clone().unwrap_or_default(),
            count(run.rows_inserted.unsigned_abs()),
            total.map(seconds).unwrap_or_default(),
            ago(run.started_at),
            why,
        ]
    });
    let header = ["run", "table", "state", "mode", "version", "rows", "took", "started", "why"];
    context.printer.table(&header, rows.collect());
    Ok(())
}
