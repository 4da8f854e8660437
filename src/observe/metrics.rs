//! Events as numbers: what the runs of this process have done since it began.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

use crate::domain::{Code, RunOutcome, RunState, TableName};

use super::{Event, Observer};

/// The label of everything that is counted by pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByPipeline {
    pipeline: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    pipeline: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStage {
    pipeline: String,
    stage: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKind {
    pipeline: String,
    kind: &'static str,
}

type Seconds = Counter<f64, AtomicU64>;

/// Counts the runs that this process makes. Labels are names of pipelines and words of ours, so that there are never more
/// series than the project's files call for.
pub struct RunMetrics {
    runs: Family<ByState, Counter>,
    seconds: Family<ByStage, Seconds>,
    rows: Family<ByKind, Counter>,
    read: Family<ByPipeline, Counter>,
    copied: Family<ByPipeline, Counter>,
    /// The runs that have begun here and not yet ended. What joins a run of somebody else makes none.
    begun: Mutex<HashMap<TableName, i64>>,
}

impl fmt::Debug for RunMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunMetrics").finish_non_exhaustive()
    }
}

impl RunMetrics {
    /// Adds its metrics to `registry`.
    pub fn register(registry: &mut Registry) -> RunMetrics {
        let metrics = RunMetrics {
            runs: Family::default(),
            seconds: Family::default(),
            rows: Family::default(),
            read: Family::default(),
            copied: Family::default(),
            begun: Mutex::default(),
        };
        registry.register("lakegate_runs", "Runs of this process that have ended, by how", metrics.runs.clone());
        registry.register_with_unit(
            "lakegate_run",
            "Time that the runs of this process took which did what they should, by stage",
            Unit::Seconds,
            metrics.seconds.clone(),
        );
        registry.register("lakegate_rows", "Rows of these runs, by what became of them", metrics.rows.clone());
        registry.register_with_unit("lakegate_read", "Data fetched from the lake", Unit::Bytes, metrics.read.clone());
        registry.register_with_unit(
            "lakegate_copied",
            "Data sent to Postgres by COPY",
            Unit::Bytes,
            metrics.copied.clone(),
        );
        metrics
    }

    fn begun(&self) -> MutexGuard<'_, HashMap<TableName, i64>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self, pipeline: &TableName, state: RunState) {
        let state = state.as_str();
        self.runs.get_or_create(&ByState { pipeline: pipeline.to_string(), state }).inc();
    }

    fn finished(&self, pipeline: &TableName, outcome: &RunOutcome) {
        if self.begun().remove(pipeline) != Some(outcome.run) {
            return;
        }
        self.ended(pipeline, outcome.state);
        let name = || pipeline.to_string();
        let seconds = &outcome.seconds;
        for (stage, seconds) in [
            ("plan", seconds.plan),
            ("copy", seconds.copy),
            ("index", seconds.index),
            ("verify", seconds.verify),
            ("publish", seconds.publish),
            ("total", seconds.total),
        ] {
            self.seconds.get_or_create(&ByStage { pipeline: name(), stage }).inc_by(seconds.max(0.0));
        }
        let rows = &outcome.rows;
        for (kind, rows) in [
            ("read", rows.read),
            ("inserted", rows.inserted),
            ("updated", rows.updated),
            ("deleted", rows.deleted),
            ("unchanged", rows.unchanged),
            ("rejected", rows.rejected),
            ("deduplicated", rows.deduplicated),
        ] {
            self.rows.get_or_create(&ByKind { pipeline: name(), kind }).inc_by(rows);
        }
        self.read.get_or_create(&ByPipeline { pipeline: name() }).inc_by(outcome.bytes_read);
        self.copied.get_or_create(&ByPipeline { pipeline: name() }).inc_by(outcome.bytes_copied);
    }

    /// A run that has ended with an error, if one had begun.
    fn failed(&self, pipeline: &TableName, code: Code) {
        // Somebody else's run goes on.
        if code != Code::RunInProgress && self.begun().remove(pipeline).is_some() {
            let state = if code.is_cancellation() { RunState::Cancelled } else { RunState::Failed };
            self.ended(pipeline, state);
        }
    }
}

impl Observer for RunMetrics {
    fn observe(&self, pipeline: &TableName, event: &Event<'_>) {
        match event {
            Event::RunStarted { run } => _ = self.begun().insert(pipeline.clone(), *run),
            Event::Finished(outcome) => self.finished(pipeline, outcome),
            Event::Failed(error) | Event::Retrying { error, .. } => self.failed(pipeline, error.code()),
            _ => {}
        }
    }
}

/// Tells several observers of everything, in their order.
pub struct Several(pub Vec<Arc<dyn Observer>>);

impl fmt::Debug for Several {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Several").field(&self.0.len()).finish()
    }
}

impl Observer for Several {
    fn observe(&self, pipeline: &TableName, event: &Event<'_>) {
        self.0.iter().for_each(|observer| observer.observe(pipeline, event));
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;
    use crate::domain::{Error, RowCounts, RunMode, StageSeconds};

    fn outcome(name: &TableName, run: i64) -> RunOutcome {
        RunOutcome {
            state: RunState::Succeeded,
            rows: RowCounts { read: 5, inserted: 3, ..RowCounts::default() },
            bytes_read: 100,
            seconds: StageSeconds { copy: 1.5, total: 2.0, ..StageSeconds::default() },
            ..RunOutcome::begun(name, run, RunMode::Snapshot, String::new())
        }
    }

    #[test]
    fn runs_are_counted_once_and_only_where_they_are_made() {
        let mut registry = Registry::default();
        let metrics = RunMetrics::register(&mut registry);
        let name = TableName::new("items").unwrap();
        let failed = |code| Error::new(code, "");
        for run in [1, 2] {
            metrics.observe(&name, &Event::RunStarted { run });
            metrics.observe(&name, &Event::Finished(&outcome(&name, run)));
        }
        // A run of somebody else that was joined.
        metrics.observe(&name, &Event::Finished(&outcome(&name, 3)));
        metrics.observe(&name, &Event::Failed(&failed(Code::PostgresUnreachable)));
        for code in [Code::DuplicateKey, Code::CancelledOnRequest] {
            metrics.observe(&name, &Event::RunStarted { run: 4 });
            metrics.observe(&name, &Event::Failed(&failed(Code::RunInProgress)));
            metrics.observe(&name, &Event::Failed(&failed(code)));
        }
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "lakegate_runs_total{pipeline=\"items\",state=\"succeeded\"} 2",
            "lakegate_runs_total{pipeline=\"items\",state=\"failed\"} 1",
            "lakegate_runs_total{pipeline=\"items\",state=\"cancelled\"} 1",
            "lakegate_run_seconds_total{pipeline=\"items\",stage=\"copy\"} 3.0",
            "lakegate_rows_total{pipeline=\"items\",kind=\"inserted\"} 6",
            "lakegate_read_bytes_total{pipeline=\"items\"} 200",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
