//! Answers as numbers: how many, of what kind, how soon, and what waits.
//!
//! Each table's counters are looked up once, when the table is first heard of, so that counting an answer takes neither a
//! lock nor memory. Labels are names of published tables and words of ours.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use axum::http::StatusCode;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// What is asked for in one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// One row.
    Row,
    /// The rows under a prefix.
    Page,
    /// The rows with many keys.
    Batch,
}

impl Operation {
    const ALL: [Operation; 3] = [Operation::Row, Operation::Page, Operation::Batch];

    /// Its name in metrics and in the access log.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Operation::Row => "row",
            Operation::Page => "page",
            Operation::Batch => "batch",
        }
    }
}

/// Upper bounds of the classes of times, in seconds: fine where answers usually are, up to the longest that a request
/// may take.
const SECONDS: [f64; 14] =
    [0.000_25, 0.000_5, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

/// The statuses whose counters are at hand.
const USUAL: [StatusCode; 3] = [StatusCode::OK, StatusCode::NOT_MODIFIED, StatusCode::NOT_FOUND];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    table: String,
    operation: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOperation {
    table: String,
    operation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Looked {
    table: String,
    found: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByTable {
    table: String,
}

fn histogram() -> Histogram {
    Histogram::new(SECONDS)
}

/// Counts the answers of a read API.
#[derive(Debug, Clone)]
pub struct ReadMetrics {
    answers: Family<Answered, Counter>,
    seconds: Family<ByOperation, Histogram, fn() -> Histogram>,
    bytes: Family<ByTable, Counter>,
    looks: Family<Looked, Counter>,
    present: Arc<OnceLock<Weak<dyn Present>>>,
}

impl Default for ReadMetrics {
    fn default() -> Self {
        ReadMetrics {
            answers: Family::default(),
            seconds: Family::new_with_constructor(histogram),
            bytes: Family::default(),
            looks: Family::default(),
            present: Arc::default(),
        }
    }
}

impl ReadMetrics {
    /// Adds its metrics to `registry`.
    pub fn register(registry: &mut Registry) -> ReadMetrics {
        let metrics = ReadMetrics::default();
        registry.register("lakegate_answers", "Answers about tables, by status", metrics.answers.clone());
        registry.register_with_unit(
            "lakegate_answer",
            "Time from a request's head to its answer, which then is sent",
            Unit::Seconds,
            metrics.seconds.clone(),
        );
        registry.register_with_unit("lakegate_answer", "Bodies of answers", Unit::Bytes, metrics.bytes.clone());
        registry.register("lakegate_cache_looks", "Keys looked for in the cache", metrics.looks.clone());
        registry.register_collector(Box::new(AtPresent(Arc::clone(&metrics.present))));
        metrics
    }

    /// Tells of the present through this.
    pub(super) fn watch(&self, present: Weak<dyn Present>) {
        let _ = self.present.set(present);
    }

    /// The counters of a table.
    pub(super) fn of_table(&self, name: &str) -> TableMetrics {
        let table = || name.to_owned();
        let seconds = Operation::ALL.map(|operation| {
            self.seconds.get_or_create_owned(&ByOperation { table: table(), operation: operation.name() })
        });
        let usual = Operation::ALL.map(|operation| {
            USUAL.map(|status| {
                let status = status.as_u16();
                self.answers.get_or_create_owned(&Answered { table: table(), operation: operation.name(), status })
            })
        });
        let looks = ["hit", "miss"].map(|found| self.looks.get_or_create_owned(&Looked { table: table(), found }));
        let [hits, misses] = looks;
        let bytes = self.bytes.get_or_create_owned(&ByTable { table: table() });
        TableMetrics(Arc::new(Counters {
            name: table(),
            answers: self.answers.clone(),
            seconds,
            usual,
            hits,
            misses,
            bytes,
        }))
    }
}

/// The counters of one table.
#[derive(Debug, Clone)]
pub(super) struct TableMetrics(Arc<Counters>);

#[derive(Debug)]
struct Counters {
    name: String,
    answers: Family<Answered, Counter>,
    seconds: [Histogram; Operation::ALL.len()],
    usual: [[Counter; USUAL.len()]; Operation::ALL.len()],
    hits: Counter,
    misses: Counter,
    bytes: Counter,
}

impl TableMetrics {
    /// Counts an answer, with the bytes of its body.
    pub(super) fn answered(&self, operation: Operation, status: StatusCode, took: Duration, bytes: u64) {
        let counters = &self.0;
        let usual = USUAL.iter().position(|usual| *usual == status);
        match usual.and_then(|at| counters.usual.get(operation as usize)?.get(at)) {
            Some(counter) => counter.inc(),
            None => {
                let (table, status) = (counters.name.clone(), status.as_u16());
                counters.answers.get_or_create(&Answered { table, operation: operation.name(), status }).inc()
            }
        };
        if let Some(seconds) = counters.seconds.get(operation as usize) {
            seconds.observe(took.as_secs_f64());
        }
        counters.bytes.inc_by(bytes);
    }

    /// Counts keys that were looked for in the cache.
    pub(super) fn looked(&self, hits: u64, misses: u64) {
        self.0.hits.inc_by(hits);
        self.0.misses.inc_by(misses);
    }
}

/// What waits and what is held at a moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Presence {
    /// Lookups that wait for a connection.
    pub(super) lookups_waiting: u64,
    /// Connections for lookups that stand.
    pub(super) lookup_connections: u64,
    /// Bytes of answers that wait to be sent.
    pub(super) unsent_bytes: u64,
    /// Bytes that the cache keeps.
    pub(super) cache_bytes: u64,
    /// Whether Postgres has been heard from of late.
    pub(super) is_heard: bool,
}

/// Who knows of the present.
pub(super) trait Present: fmt::Debug + Send + Sync {
    fn presence(&self) -> Presence;
}

#[derive(Debug)]
struct AtPresent(Arc<OnceLock<Weak<dyn Present>>>);

impl Collector for AtPresent {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(present) = self.0.get().and_then(Weak::upgrade) else { return Ok(()) };
        let now = present.presence();
        for (name, help, value) in [
            ("lakegate_lookups_waiting", "Lookups that wait for a connection to Postgres", now.lookups_waiting),
            ("lakegate_lookup_connections", "Connections for lookups that stand", now.lookup_connections),
            ("lakegate_unsent_bytes", "Answers that wait until their clients take them", now.unsent_bytes),
            ("lakegate_cache_bytes", "Rows and misses that are kept in memory", now.cache_bytes),
            ("lakegate_hearing", "Whether publishes are heard of", now.is_heard.into()),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[derive(Debug)]
    struct Busy;

    impl Present for Busy {
        fn presence(&self) -> Presence {
            Presence { lookups_waiting: 3, ..Presence::default() }
        }
    }

    #[test]
    fn answers_are_counted_by_table_operation_and_status() {
        let mut registry = Registry::default();
        let metrics = ReadMetrics::register(&mut registry);
        let busy: Arc<dyn Present> = Arc::new(Busy);
        metrics.watch(Arc::downgrade(&busy));
        let orders = metrics.of_table("orders");
        for status in [StatusCode::OK, StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE] {
            orders.answered(Operation::Page, status, Duration::from_micros(1_500), 10);
        }
        // The next state of the table goes on counting.
        metrics.of_table("orders").looked(2, 1);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            r#"lakegate_answers_total{table="orders",operation="page",status="200"} 2"#,
            r#"lakegate_answers_total{table="orders",operation="page",status="503"} 1"#,
            r#"lakegate_answers_total{table="orders",operation="row",status="200"} 0"#,
            r#"lakegate_answer_seconds_bucket{le="0.001",table="orders",operation="page"} 0"#,
            r#"lakegate_answer_seconds_bucket{le="0.002",table="orders",operation="page"} 3"#,
            r#"lakegate_answer_bytes_total{table="orders"} 30"#,
            r#"lakegate_cache_looks_total{table="orders",found="hit"} 2"#,
            "lakegate_lookups_waiting 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }
}
