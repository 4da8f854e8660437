//! How the syncs of a pipeline fare: what is under way, what failed in a row, how fresh the data is.
//!
//! All of it is read from the history of runs, so that every process and every restart finds the same.

use chrono::{DateTime, Utc};
use tokio_postgres::{GenericClient, Row};

use crate::domain::{Code, Result, SourceVersion, TableName};
use crate::postgres::{Doing, OneTrip};

use super::Control;
use super::lease::HELD;

/// How the syncs of one pipeline fare.
#[derive(Debug, Clone, PartialEq)]
pub struct SyncState {
    /// The pipeline.
    pub pipeline: String,
    /// What time it is, by the clock of the server, as all times here.
    pub now: DateTime<Utc>,
    /// Whether its schedule is stopped.
    pub paused: bool,
    /// Why, for people.
    pub paused_reason: Option<String>,
    /// The newest run that counts for the schedule, and when it began. One that ended with its process does not count; one
    /// that somebody has had cancelled does.
    pub last: Option<(i64, DateTime<Utc>)>,
    /// Whether that run is going on, in whatever process.
    pub under_way: bool,
    /// How many runs have failed since the last one that did not.
    pub failures: u32,
    /// When the first of them failed.
    pub failing_since: Option<DateTime<Utc>>,
    /// The newest of them.
    pub failure: Option<FailedRun>,
    /// The newest run, where somebody has had it cancelled.
    pub cancelled: Option<CancelledRun>,
    /// When the last run ended that did what it should.
    pub succeeded_at: Option<DateTime<Utc>>,
    /// What is published.
    pub published: Option<PublishedSource>,
    /// When the first run of the history began.
    pub first_start: Option<DateTime<Utc>>,
}

/// A run that failed.
#[derive(Debug, Clone, PartialEq)]
pub struct FailedRun {
    /// The run's number.
    pub run: i64,
    /// When it ended; for one that died without a word, when it began.
    pub ended_at: DateTime<Utc>,
    /// The kind of the error.
    pub code: Code,
    /// The error as the run's record holds it: `code`, `title`, `detail`, `hint`.
    pub error: serde_json::Value,
    /// The version of the source that it failed on, where it came that far.
    pub source: Option<SourceVersion>,
    /// The hash of the pipeline's definition that it was made under, where it came that far.
    pub definition: Option<String>,
}

/// A run that somebody has had cancelled.
#[derive(Debug, Clone, PartialEq)]
pub struct CancelledRun {
    /// The run's number.
    pub run: i64,
    /// When it ended; where its process died before it could, when it began.
    pub ended_at: DateTime<Utc>,
    /// As [`FailedRun::source`].
    pub source: Option<SourceVersion>,
    /// As [`FailedRun::definition`].
    pub definition: Option<String>,
}

/// What a published table was made of.
#[derive(Debug, Clone, PartialEq)]
pub struct PublishedSource {
    /// The version of the source.
    pub source: SourceVersion,
    /// The fingerprint of the definition that the live generation was loaded under.
    pub fingerprint: String,
    /// When the source was last found to hold nothing newer.
    pub checked_at: DateTime<Utc>,
}

impl SyncState {
    /// Since when the data is as old as it is: when it was last compared with its source, or, before anything is
    /// published, when the first try began. `None` before that.
    #[must_use]
    pub fn fresh_at(&self) -> Option<DateTime<Utc>> {
        self.published.as_ref().map(|published| published.checked_at).or(self.first_start)
    }
}

const STATES: &str = "\
    SELECT n.name, clock_timestamp(), coalesce(s.paused, false), s.paused_reason, \
        l.run, l.started_at, l.is_open, l.is_open AND EXISTS (SELECT FROM {control}.leases \
            WHERE pipeline = n.name AND run = l.run AND expires_at > clock_timestamp() AND {held}), \
        f.failures, f.since, e.run, e.finished_at, e.error::text, e.source_version, e.table_id, e.definition, \
        g.source_version, g.table_id, g.fingerprint, p.checked_at, o.started_at, \
        l.is_cancelled, l.finished_at, l.source_version, l.table_id, l.definition, good.finished_at \
    FROM unnest($1::text[]) AS n (name) \
    LEFT JOIN {control}.pipelines s ON s.name = n.name \
    LEFT JOIN {control}.published p ON p.name = n.name \
    LEFT JOIN {control}.generations g ON g.generation = p.generation \
    LEFT JOIN LATERAL (SELECT run, started_at, finished_at, source_version, table_id, definition, \
            state IN ('running', 'waiting') AS is_open, state = 'cancelled' OR cancel_asked_at IS NOT NULL \
                AND state IN ('running', 'waiting') AS is_cancelled \
        FROM {control}.runs WHERE pipeline = n.name AND (state <> 'cancelled' OR error ->> 'code' = 'LG7005') \
        ORDER BY run DESC LIMIT 1) l ON true \
    LEFT JOIN LATERAL (SELECT run, finished_at FROM {control}.runs WHERE pipeline = n.name \
        AND state IN ('succeeded', 'skipped') AND source_version IS NOT NULL ORDER BY run DESC LIMIT 1) good ON true \
    LEFT JOIN LATERAL (SELECT count(*) AS failures, min(finished_at) AS since FROM {control}.runs \
        WHERE pipeline = n.name AND state = 'failed' AND run > coalesce(good.run, 0)) f ON true \
    LEFT JOIN LATERAL (SELECT run, finished_at, error, source_version, table_id, definition FROM {control}.runs \
        WHERE pipeline = n.name AND state = 'failed' AND run > coalesce(good.run, 0) \
        ORDER BY run DESC LIMIT 1) e ON true \
    LEFT JOIN LATERAL (SELECT started_at FROM {control}.runs WHERE pipeline = n.name ORDER BY run LIMIT 1) o ON true";

fn from_row(row: &Row) -> SyncState {
    let version = |at: usize| {
        let version: Option<String> = row.get(at);
        version.map(|version| SourceVersion { version, table_id: row.get(at + 1), commit: None })
    };
    let last = row.get::<_, Option<i64>>(4).zip(row.get(5));
    let (is_open, under_way) = (row.get::<_, Option<bool>>(6) == Some(true), row.get::<_, Option<bool>>(7));
    let under_way = under_way == Some(true);
    let failure = row.get::<_, Option<i64>>(10).zip(row.get(11)).map(|(run, ended_at)| {
        let error = row.get::<_, Option<&str>>(12).and_then(|text| serde_json::from_str(text).ok());
        let error: serde_json::Value = error.unwrap_or_default();
        let code = error.get("code").and_then(serde_json::Value::as_str).and_then(Code::named);
        FailedRun {
            run,
            ended_at,
            // One of a newer version counts as passing: it is tried again.
            code: code.unwrap_or(Code::LeaseLost),
            error,
            source: version(13),
            definition: row.get(15),
        }
    });
    let is_cancelled = row.get::<_, Option<bool>>(21) == Some(true) && !under_way;
    let cancelled = last.filter(|_| is_cancelled).map(|(run, started_at)| CancelledRun {
        run,
        ended_at: row.get::<_, Option<DateTime<Utc>>>(22).unwrap_or(started_at),
        source: version(23),
        definition: row.get(25),
    });
    let mut state = SyncState {
        pipeline: row.get(0),
        now: row.get(1),
        paused: row.get(2),
        paused_reason: row.get(3),
        last,
        under_way,
        failures: u32::try_from(row.get::<_, i64>(8)).unwrap_or(u32::MAX),
        failing_since: row.get(9),
        failure,
        cancelled,
        succeeded_at: row.get(26),
        published: version(16)
            .zip(row.get(18))
            .zip(row.get(19))
            .map(|((source, fingerprint), checked_at)| PublishedSource { source, fingerprint, checked_at }),
        first_start: row.get(20),
    };
    if let Some((run, started_at)) = last.filter(|_| is_open && !under_way && !is_cancelled) {
        // It has died without a word; the next run says so in its record.
        state.failures = state.failures.saturating_add(1);
        state.failing_since = state.failing_since.or(Some(started_at));
        let code = Code::LeaseLost;
        let error = serde_json::json!({
            "code": code.to_string(),
            "title": code.title(),
            "detail": "the process that ran it ended or hangs",
            "hint": "nothing is lost: what was published before is untouched, and the next run starts afresh",
        });
        state.failure = Some(FailedRun { run, ended_at: started_at, code, error, source: None, definition: None });
    }
    state
}

impl Control {
    /// How the syncs of pipelines fare, in the order of their names here.
    pub async fn sync_states(&self, client: &impl GenericClient, pipelines: &[&TableName]) -> Result<Vec<SyncState>> {
        let names: Vec<&str> = pipelines.iter().map(|name| name.as_str()).collect();
        let held = HELD.replace("{pipeline}", "n.name").replace("{schema}", "$2");
        let rows = client
            .rows(&self.sql(&STATES.replace("{held}", &held)), &[&names, &self.name()])
            .await
            .doing("read how syncs fare")?;
        let mut states: Vec<SyncState> = rows.iter().map(from_row).collect();
        states.sort_by_key(|state| names.iter().position(|name| *name == state.pipeline));
        Ok(states)
    }

    /// The hash of the definition under which a pipeline was last brought to the state of its source, or found there.
    pub async fn last_definition(&self, client: &impl GenericClient, pipeline: &TableName) -> Result<Option<String>> {
        let good = "SELECT definition FROM {control}.runs WHERE pipeline = $1 AND state IN ('succeeded', 'skipped') \
            AND source_version IS NOT NULL ORDER BY run DESC LIMIT 1";
        let row = client.opt_row(&self.sql(good), &[&pipeline.as_str()]).await.doing("read the last definition")?;
        Ok(row.and_then(|row| row.get(0)))
    }

    /// Notes of a run what it is made of: the definition of its pipeline, by its hash, and where it is known the version
    /// of the source as it begins, so that a failure says what was refused.
    pub async fn record_attempt(
        &self,
        client: &impl GenericClient,
        run: i64,
        definition: &str,
        source: Option<&SourceVersion>,
    ) -> Result<()> {
        let (version, table_id) = (source.map(|source| &source.version), source.and_then(|one| one.table_id.as_ref()));
        client
            .affected(
                &self.sql(
                    "UPDATE {control}.runs SET definition = $2, source_version = $3, table_id = $4 WHERE run = $1",
                ),
                &[&run, &definition, &version, &table_id],
            )
            .await
            .doing("record what the run is made of")?;
        Ok(())
    }
}
