//! `GET /metrics`: what the process has counted, and how tables and schedule stand at this moment.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::time::timeout;

use crate::domain::{Error, Result};
use crate::schedule::{SlotUse, TableStatus, table_statuses};

use super::Shared;
use super::reply::{Answer, response};

/// The text format of `OpenMetrics`, which Prometheus reads.
const MEDIA: HeaderValue = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// How long Postgres may take to say how tables stand: below what scrapers allow as a rule.
const ANSWER: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByPipeline {
    pipeline: String,
}

type Number = Gauge<f64, AtomicU64>;

/// The handler. What the process knows by itself is shown without Postgres, too.
pub(super) async fn show(State(shared): State<Arc<Shared>>) -> Answer {
    let tables = timeout(ANSWER, table_statuses(&shared.engine())).await;
    let tables = tables
        .ok()
        .and_then(|tables| tables.inspect_err(|error| tracing::warn!("metrics are without the tables: {error}")).ok());
    let mut now = Registry::default();
    number(&mut now, "lakegate_postgres_up", "Whether Postgres said how tables stand", flag(tables.is_some()));
    let is_sound = shared.live.files().problems.is_empty();
    number(
        &mut now,
        "lakegate_project_sound",
        "Whether the project's files as they are now can be used",
        flag(is_sound),
    );
    of_process(&mut now, shared.slots.in_use());
    of_tables(&mut now, &tables.unwrap_or_default());
    Ok(response(StatusCode::OK, MEDIA, text(&[&shared.registry, &now])?))
}

/// What a process shows that syncs nothing.
pub(super) fn of_replica(registry: &Registry) -> Answer {
    let mut now = Registry::default();
    of_memory(&mut now);
    Ok(response(StatusCode::OK, MEDIA, text(&[registry, &now])?))
}

fn text(registries: &[&Registry]) -> Result<String> {
    let mut text = String::new();
    let write = |text: &mut String| {
        registries.iter().try_for_each(|registry| encode_registry(text, registry))?;
        encode_eof(text)
    };
    write(&mut text).map_err(|error| Error::internal("metrics cannot be written").because(error))?;
    Ok(text)
}

fn flag(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

fn number(registry: &mut Registry, name: &str, help: &str, value: f64) {
    let gauge = Number::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

fn of_process(registry: &mut Registry, slots: SlotUse) {
    let SlotUse { number: limit, taken, waiting } = slots;
    number(registry, "lakegate_runs_running", "Runs of this process under way; a group's is one", f64::from(taken));
    number(registry, "lakegate_runs_waiting", "Runs of this process that are due and wait for a turn", waiting.into());
    number(registry, "lakegate_runs_limit", "The most runs of this process at a time", limit.into());
    of_memory(registry);
}

fn of_memory(registry: &mut Registry) {
    if let Some(bytes) = resident_bytes() {
        number(registry, "process_resident_memory_bytes", "Memory of this process, in bytes", bytes);
    }
}

/// What the process holds in memory; `None` on systems that do not say so this way.
fn resident_bytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = kibibytes.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}

/// One number of a table, where it has it.
type Of = fn(&TableStatus) -> Option<f64>;

const OF_TABLES: &[(&str, &str, Of)] = &[
    ("lakegate_publish_number", "How many times what readers see has changed", |table| {
        table.publish_no.map(|number| number as f64)
    }),
    ("lakegate_behind_seconds", "How long ago the table was last compared with its source", |table| {
        Some((table.as_of? - table.checked_at?).as_seconds_f64().max(0.0))
    }),
    ("lakegate_last_success_timestamp_seconds", "When the last run ended that did what it should", |table| {
        table.succeeded_at.map(|time| time.timestamp_millis() as f64 / 1e3)
    }),
    ("lakegate_failures", "Runs that have failed since the last one that did not", |table| {
        Some(f64::from(table.failures))
    }),
    ("lakegate_running", "Whether a run is under way, in whichever process", |table| {
        Some(flag(table.sync == "running"))
    }),
    ("lakegate_failing", "Whether syncs fail", |table| Some(flag(table.failures > 0))),
    ("lakegate_late", "Whether the data is older than the pipeline's freshness", |table| Some(flag(table.late))),
    ("lakegate_paused", "Whether the schedule is stopped", |table| Some(flag(table.paused))),
    ("lakegate_online", "Whether the table is published", |table| Some(flag(table.serving == "online"))),
];

fn of_tables(registry: &mut Registry, tables: &[TableStatus]) {
    for (name, help, of) in OF_TABLES {
        let family = Family::<ByPipeline, Number>::default();
        for table in tables {
            if let Some(value) = of(table) {
                family.get_or_create(&ByPipeline { pipeline: table.name.clone() }).set(value);
            }
        }
        registry.register(*name, *help, family);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_known_where_the_system_says_it() {
        if cfg!(target_os = "linux") {
            let bytes = resident_bytes().unwrap();
            assert!((1e6..1e12).contains(&bytes), "{bytes}");
        }
    }

    #[test]
    fn several_registries_make_one_text() {
        let (mut one, mut other) = (Registry::default(), Registry::default());
        number(&mut one, "a", "A", 1.0);
        number(&mut other, "b", "B", 0.5);
        let expected = "# HELP a A.\n# TYPE a gauge\na 1.0\n# HELP b B.\n# TYPE b gauge\nb 0.5\n# EOF\n";
        assert_eq!(text(&[&one, &other]).unwrap(), expected);
    }
}
