//! `lakegate sync`: runs, now.

use std::sync::Arc;

use futures::stream::{self, StreamExt as _};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::domain::{Blame, Code, Error, Pipeline, Result, RowCounts, RunMode, RunOutcome, RunState};
use crate::engine::{Engine, ErrorRecord, RunFailure, SyncRequest};
use crate::observe::{Observer, Several};

use super::arguments::SyncArgs;
use super::context::{Context, end_traces};
use super::printer::{Printer, count, counted, render, seconds};
use super::{Ended, interrupt};

pub(super) async fn run(context: &Context<'_>, args: &SyncArgs) -> Result<(), Ended> {
    let traces = context.traces()?;
    let cancel = interrupt::token();
    let opened = context.open().await?;
    let mut observers = vec![context.progress()];
    observers.extend(traces.as_ref().map(|traces| Arc::new(traces.of_runs()) as Arc<dyn Observer>));
    let engine = context.engine(&opened, Arc::new(Several(observers))).await;
    let result = match engine {
        Ok(engine) => sync_all(context, &engine, args, &cancel).await,
        Err(error) => Err(error.into()),
    };
    opened.close().await;
    end_traces(traces).await;
    result
}

async fn sync_all(
    context: &Context<'_>,
    engine: &Engine,
    args: &SyncArgs,
    cancel: &CancellationToken,
) -> Result<(), Ended> {
    let pipelines = select(engine, &args.names)?;
    let request = SyncRequest {
        full: args.full,
        wait: !args.no_wait,
        ignore_checks: args.ignore_checks,
        ..SyncRequest::manual()
    };
    let at_once = engine.project().limits.concurrent_runs as usize;
    let mut worst: Option<Code> = None;
    let runs = engine.together(&pipelines);
    runs.iter().for_each(|asked| say_who_comes_along(*context.printer, engine, asked));
    let results = stream::iter(runs)
        .map(|asked| {
            let request = &request;
            async move { engine.sync_together(&asked, request, cancel).await }
        })
        .buffer_unordered(at_once)
        .flat_map(stream::iter);
    let mut results = std::pin::pin!(results);
    while let Some((pipeline, result)) = results.next().await {
        show(*context.printer, engine, pipeline, &result).await;
        if let Err(failure) = result {
            let code = failure.error.code();
            let graver = worst.is_none_or(|worst| code.blame() == Blame::Defect || worst == Code::Cancelled);
            worst = if graver { Some(code) } else { worst };
        }
    }
    match worst {
        None => Ok(()),
        Some(Code::Cancelled) => {
            Err(Error::new(Code::Cancelled, "interrupted; what was published before is untouched").into())
        }
        Some(code) if code.blame() == Blame::Defect => {
            Err(Error::new(code, "a run failed by a defect of Lakegate (see above)").into())
        }
        Some(_) => Err(Ended::Shown),
    }
}

/// Says which pipelines run that nobody has named.
fn say_who_comes_along(printer: Printer, engine: &Engine, asked: &[&Pipeline]) {
    let Some(first) = asked.first() else { return };
    let (members, Some(group)) = (engine.members(first), &first.group) else { return };
    let is_further = |member: &&&Pipeline| !asked.iter().any(|asked| asked.name == member.name);
    let others: Vec<String> = members.iter().filter(is_further).map(|member| format!("`{}`", member.name)).collect();
    if !others.is_empty() {
        printer.note(&format!("the group `{group}` is synced as a whole: {} too", others.join(", ")));
    }
}

/// The pipelines of these names; all if none is named.
pub(super) fn select<'e>(engine: &'e Engine, names: &[String]) -> Result<Vec<&'e Pipeline>> {
    if names.is_empty() {
        let all: Vec<&Pipeline> = engine.project().pipelines.iter().collect();
        if all.is_empty() {
            return Err(Error::new(
                Code::UnknownPipeline,
                format!("the project in {} has no pipelines", engine.project().dir.display()),
            )
            .hint("`lakegate add SOURCE` makes one, `lakegate init` a whole example"));
        }
        return Ok(all);
    }
    names.iter().map(|name| engine.pipeline(name)).collect()
}

async fn show(printer: Printer, engine: &Engine, pipeline: &Pipeline, result: &Result<RunOutcome, RunFailure>) {
    match result {
        Ok(outcome) if printer.is_json() => printer.json(outcome),
        Ok(outcome) => printer.line(&sentence(outcome)),
        Err(failure) if printer.is_json() => match record(engine, failure).await {
            Some(record) => printer.json(&record),
            None => printer.json(&json!({
                "pipeline": pipeline.name,
                "state": if failure.error.code().is_cancellation() { RunState::Cancelled } else { RunState::Failed },
                "error": ErrorRecord::from(&failure.error),
            })),
        },
        Err(failure) => printer.note(&format!("{}: {}", pipeline.name, render(&failure.error))),
    }
}

/// The record of a failed run, where there is one and it can be read.
async fn record(engine: &Engine, failure: &RunFailure) -> Option<Value> {
    let session = engine.control_session().await.ok()?;
    let record = engine.control().run(&*session, failure.run?).await.ok()??;
    let mut record = serde_json::to_value(record).ok()?;
    // What `runs` says besides what a sync is said to print.
    let fields = record.as_object_mut()?;
    for further in ["trigger", "started_at", "finished_at"] {
        fields.remove(further);
    }
    Some(record)
}

fn sentence(outcome: &RunOutcome) -> String {
    let version = outcome.source_version.as_deref().unwrap_or("?");
    if outcome.mode == RunMode::Noop {
        return format!("{}: up to date at version {version} ({})", outcome.pipeline, seconds(outcome.seconds.total));
    }
    let took = seconds(outcome.seconds.total);
    if outcome.mode != RunMode::Snapshot {
        let RowCounts { inserted, updated, deleted, .. } = outcome.rows;
        return format!(
            "{}: {} added, {} changed, {} removed: version {version} published in {took}; every written value \
             compared{}",
            outcome.pipeline,
            counted(inserted, "row"),
            count(updated),
            count(deleted),
            overridden(outcome),
        );
    }
    let mut text = format!(
        "{}: {} of version {version} published in {took}",
        outcome.pipeline,
        counted(outcome.rows.inserted, "row")
    );
    if outcome.rows.rejected > 0 {
        text.push_str(&format!(", {} rejected", count(outcome.rows.rejected)));
    }
    if outcome.rows.deduplicated > 0 {
        text.push_str(&format!(", {} older rows of a key left out", count(outcome.rows.deduplicated)));
    }
    let compared = if outcome.coverage >= 1.0 {
        "every value compared with the source".to_owned()
    } else {
        format!("{:.1} % of the rows compared with the source", outcome.coverage * 100.0)
    };
    format!("{text}; {compared}{}", overridden(outcome))
}

/// What is said of checks that a person had the run ignore.
fn overridden(outcome: &RunOutcome) -> String {
    match outcome.checks_overridden.as_deref() {
        None | Some([]) => String::new(),
        Some(checks) => format!("; checks overridden: {}", checks.join("; ")),
    }
}
