//! The history of runs.

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio_postgres::{GenericClient, Row};

use crate::domain::{Error, Generation, Result, RowCounts, RunMode, RunOutcome, RunState, SourceVersion, TableName};
use crate::postgres::{Doing, OneTrip};

use super::Control;
use super::cancel::cancelled_by;

/// A run as stored.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunRecord {
    /// The run's number.
    pub run: i64,
    /// The published table.
    pub pipeline: String,
    /// Where it stands, or how it ended.
    pub state: String,
    /// What it did.
    pub mode: Option<String>,
    /// Why it did that.
    pub reason: Option<String>,
    /// What started it: `manual`, `schedule`, `rollback`.
    pub trigger: String,
    /// The source version it read.
    pub source_version: Option<String>,
    /// The generation it loaded or confirmed.
    pub generation: Option<i64>,
    /// The publish it made.
    pub publish_no: Option<i64>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// Rows the source yielded.
    pub rows_read: i64,
    /// Rows new in the published table.
    pub rows_inserted: i64,
    /// Rows replaced.
    pub rows_updated: i64,
    /// Rows removed.
    pub rows_deleted: i64,
    /// Rows read and found as they are published.
    pub rows_unchanged: i64,
    /// Rows left out as bad.
    pub rows_rejected: i64,
    /// Older rows of a key left out.
    pub rows_deduplicated: i64,
    /// Bytes fetched from the lake.
    pub bytes_read: i64,
    /// Bytes sent by COPY.
    pub bytes_copied: i64,
    /// The sum of row hashes over the verified rows.
    pub checksum: Option<String>,
    /// The share of rows whose values were compared.
    pub coverage: Option<f64>,
    /// What the checks said that a person had the run ignore; `None` where nothing was to be ignored.
    pub checks_overridden: Option<Vec<String>>,
    /// Seconds by stage.
    pub seconds: Option<serde_json::Value>,
    /// The error's code, title, detail and hint.
    pub error: Option<serde_json::Value>,
}

const COLUMNS: &str = "run, pipeline, state, mode, reason, trigger, source_version, generation, publish_no, started_at, \
    finished_at, rows_read, rows_inserted, rows_updated, rows_deleted, rows_unchanged, rows_rejected, rows_deduplicated, \
    bytes_read, bytes_copied, checksum, coverage, seconds::text, error::text, \
    checks_overridden";

fn from_row(row: &Row) -> RunRecord {
    let json = |index: usize| {
        row.get::<_, Option<&str>>(index).and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok())
    };
    RunRecord {
        run: row.get(0),
        pipeline: row.get(1),
        state: row.get(2),
        mode: row.get(3),
        reason: row.get(4),
        trigger: row.get(5),
        source_version: row.get(6),
        generation: row.get(7),
        publish_no: row.get(8),
        started_at: row.get(9),
        finished_at: row.get(10),
        rows_read: row.get(11),
        rows_inserted: row.get(12),
        rows_updated: row.get(13),
        rows_deleted: row.get(14),
        rows_unchanged: row.get(15),
        rows_rejected: row.get(16),
        rows_deduplicated: row.get(17),
        bytes_read: row.get(18),
        bytes_copied: row.get(19),
        checksum: row.get(20),
        coverage: row.get(21),
        seconds: json(22),
        error: json(23),
        checks_overridden: row.get(24),
    }
}

impl RunRecord {
    /// The outcome of a run that did what it should.
    ///
    /// # Errors
    /// [`crate::domain::Code::Internal`] when the record is not of such a run.
    pub fn to_outcome(&self, pipeline: &TableName) -> Result<RunOutcome> {
        let count = |rows: i64| u64::try_from(rows).unwrap_or_default();
        let mode = self.mode.as_deref().unwrap_or("noop");
        Ok(RunOutcome {
            pipeline: pipeline.clone(),
            run: self.run,
            state: self.state.parse()?,
            mode: mode.parse()?,
            reason: self.reason.clone().unwrap_or_default(),
            source_version: self.source_version.clone(),
            generation: self.generation.map(Generation),
            publish_no: self.publish_no,
            rows: RowCounts {
                read: count(self.rows_read),
                inserted: count(self.rows_inserted),
                updated: count(self.rows_updated),
                deleted: count(self.rows_deleted),
                unchanged: count(self.rows_unchanged),
                rejected: count(self.rows_rejected),
                deduplicated: count(self.rows_deduplicated),
            },
            bytes_read: count(self.bytes_read),
            bytes_copied: count(self.bytes_copied),
            checksum: self.checksum.clone(),
            coverage: self.coverage.unwrap_or_default(),
            checks_overridden: self.checks_overridden.clone(),
            seconds: self
                .seconds
                .as_ref()
                .and_then(|seconds| serde_json::from_value(seconds.clone()).ok())
                .unwrap_or_default(),
        })
    }
}

/// Which runs to list.
#[derive(Debug, Clone, Copy)]
pub struct RunFilter<'a> {
    /// Of this pipeline only.
    pub pipeline: Option<&'a TableName>,
    /// Older than this run only.
    pub before: Option<i64>,
    /// At most this many, newest first.
    pub limit: i64,
}

impl Control {
    /// Begins a run.
    pub async fn start_run(&self, client: &impl GenericClient, pipeline: &TableName, trigger: &str) -> Result<i64> {
        let row = client
            .one_row(
                &self.sql(
                    "INSERT INTO {control}.runs (pipeline, state, trigger, started_at) \
                     VALUES ($1, 'running', $2, clock_timestamp()) RETURNING run",
                ),
                &[&pipeline.as_str(), &trigger],
            )
            .await
            .doing("record the start of the run")?;
        Ok(row.get(0))
    }

    /// Marks runs of this pipeline that died without a word. To be called by the holder of the lease: whatever still
    /// says that it runs does not.
    pub async fn bury_dead_runs(&self, client: &impl GenericClient, pipeline: &TableName) -> Result<u64> {
        client
            .affected(
                &self.sql(
                    "UPDATE {control}.runs SET finished_at = clock_timestamp(), \
                         state = CASE WHEN cancel_asked_by IS NULL THEN 'failed' ELSE 'cancelled' END, \
                         error = CASE WHEN cancel_asked_by IS NULL THEN jsonb_build_object( \
                             'code', 'LG5004', 'title', 'Another process took over this pipeline', \
                             'detail', 'the process that ran it ended before the run did', \
                             'hint', 'nothing is lost: what was published before is untouched, and the next run starts afresh') \
                         ELSE jsonb_build_object( \
                             'code', 'LG7005', 'title', 'The run was cancelled on request', \
                             'detail', 'the run was cancelled by ' || cancel_asked_by || '; its process ended first', \
                             'hint', 'what was published before is untouched') END \
                     WHERE pipeline = $1 AND state IN ('running', 'waiting')",
                ),
                &[&pipeline.as_str()],
            )
            .await
            .doing("close runs that died")
    }

    /// Notes of a run that it gave up changing the table in place, after it had read changes of so many bytes.
    pub async fn note_given_up(&self, client: &impl GenericClient, run: i64, bytes: u64) -> Result<()> {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        client
            .affected(&self.sql("UPDATE {control}.runs SET given_up_bytes = $2 WHERE run = $1"), &[&run, &bytes])
            .await
            .doing("record that the run loads the table anew")?;
        Ok(())
    }

    /// Changes of how many bytes turned out to be too many to be applied in place, where that was within the last `loads`
    /// refreshes of the table, and it has been loaded anew each time since.
    pub async fn given_up_bytes(
        &self,
        client: &impl GenericClient,
        pipeline: &TableName,
        loads: i64,
    ) -> Result<Option<u64>> {
        let rows = client
            .rows(
                &self.sql(
                    "SELECT mode = 'snapshot', given_up_bytes FROM {control}.runs WHERE pipeline = $1 \
                     AND state = 'succeeded' AND mode <> 'noop' ORDER BY run DESC LIMIT $2",
                ),
                &[&pipeline.as_str(), &loads],
            )
            .await
            .doing("read how the table was refreshed")?;
        let mut loads = rows.iter().take_while(|row| row.get(0));
        Ok(loads.find_map(|row| row.get::<_, Option<i64>>(1)).map(i64::unsigned_abs))
    }

    /// Draws the number of a new generation and writes it down, before its table is made.
    pub async fn draw_generation(&self, client: &impl GenericClient, run: i64) -> Result<Generation> {
        let row = client
            .one_row(
                &self.sql(
                    "UPDATE {control}.runs SET mode = 'snapshot', generation = nextval('{control}.generation_numbers') \
                     WHERE run = $1 RETURNING generation",
                ),
                &[&run],
            )
            .await
            .doing("draw a generation number")?;
        Ok(Generation(row.get(0)))
    }

    /// Notes what the run is going to do.
    pub async fn record_plan(
        &self,
        client: &impl GenericClient,
        run: i64,
        mode: RunMode,
        reason: &str,
        source: &SourceVersion,
    ) -> Result<()> {
        client
            .affected(
                &self.sql(
                    "UPDATE {control}.runs SET mode = $2, reason = $3, source_version = $4, table_id = $5 WHERE run = $1",
                ),
                &[&run, &mode.as_str(), &reason, &source.version, &source.table_id],
            )
            .await
            .doing("record the plan of the run")?;
        Ok(())
    }

    /// Notes that the run waits for the lock of its publish, or no longer does.
    pub async fn record_state(&self, client: &impl GenericClient, run: i64, state: RunState) -> Result<()> {
        client
            .affected(
                &self.sql("UPDATE {control}.runs SET state = $2 WHERE run = $1 AND finished_at IS NULL"),
                &[&run, &state.as_str()],
            )
            .await
            .doing("record the state of the run")?;
        Ok(())
    }

    /// Ends a run that did what it should. Part of the publish transaction where there is one.
    ///
    /// # Errors
    /// [`Code::CancelledOnRequest`] where somebody has asked for its end; from here to the commit nobody can any more.
    pub async fn finish_run(&self, client: &impl GenericClient, outcome: &RunOutcome) -> Result<()> {
        let seconds = serde_json::to_string(&outcome.seconds)
            .map_err(|error| Error::internal("run seconds do not serialise").because(error))?;
        let rows = &outcome.rows;
        let finished = client
            .opt_row(
                &self.sql(
                    "UPDATE {control}.runs SET state = $2, mode = $3, reason = $4, source_version = $5, generation = $6, \
                         publish_no = $7, finished_at = clock_timestamp(), rows_read = $8, rows_inserted = $9, \
                         rows_updated = $10, rows_deleted = $11, rows_rejected = $12, rows_deduplicated = $13, \
                         bytes_read = $14, bytes_copied = $15, checksum = $16, coverage = $17, \
                         seconds = $18::text::jsonb, rows_unchanged = $19, checks_overridden = $20 WHERE run = $1 \
                     RETURNING cancel_asked_by",
                ),
                &[
                    &outcome.run,
                    &outcome.state.as_str(),
                    &outcome.mode.as_str(),
                    &outcome.reason,
                    &outcome.source_version,
                    &outcome.generation.map(|generation| generation.0),
                    &outcome.publish_no,
                    &(rows.read as i64),
                    &(rows.inserted as i64),
                    &(rows.updated as i64),
                    &(rows.deleted as i64),
                    &(rows.rejected as i64),
                    &(rows.deduplicated as i64),
                    &(outcome.bytes_read as i64),
                    &(outcome.bytes_copied as i64),
                    &outcome.checksum,
                    &outcome.coverage,
                    &seconds,
                    &(rows.unchanged as i64),
                    &outcome.checks_overridden,
                ],
            )
            .await
            .doing("record the end of the run")?;
        match finished.and_then(|row| row.get::<_, Option<String>>(0)) {
            Some(by) => Err(cancelled_by(&format!("the run of `{}`", outcome.pipeline), &by)),
            None => Ok(()),
        }
    }

    /// Ends a run that failed or was cancelled, unless it has already been closed by somebody else.
    pub async fn fail_run(
        &self,
        client: &impl GenericClient,
        run: i64,
        state: RunState,
        error: &serde_json::Value,
    ) -> Result<()> {
        client
            .affected(
                &self.sql(
                    "UPDATE {control}.runs SET state = $2, finished_at = clock_timestamp(), error = $3::text::jsonb \
                     WHERE run = $1 AND state IN ('running', 'waiting')",
                ),
                &[&run, &state.as_str(), &error.to_string()],
            )
            .await
            .doing("record the failure of the run")?;
        Ok(())
    }

    /// Runs, newest first.
    pub async fn runs(&self, client: &impl GenericClient, filter: RunFilter<'_>) -> Result<Vec<RunRecord>> {
        let name = filter.pipeline.map(TableName::as_str);
        let rows = client
            .rows(
                &self.sql(&format!(
                    "SELECT {COLUMNS} FROM {{control}}.runs WHERE ($1::text IS NULL OR pipeline = $1) \
                         AND ($3::bigint IS NULL OR run < $3) ORDER BY run DESC LIMIT $2"
                )),
                &[&name, &filter.limit, &filter.before],
            )
            .await
            .doing("read the runs")?;
        Ok(rows.iter().map(from_row).collect())
    }

    /// One run.
    pub async fn run(&self, client: &impl GenericClient, run: i64) -> Result<Option<RunRecord>> {
        let row = client
            .opt_row(&self.sql(&format!("SELECT {COLUMNS} FROM {{control}}.runs WHERE run = $1")), &[&run])
            .await
            .doing("read the run")?;
        Ok(row.as_ref().map(from_row))
    }

    /// The last run of each pipeline.
    pub async fn last_runs(&self, client: &impl GenericClient) -> Result<Vec<RunRecord>> {
        let rows = client
            .rows(
                &self.sql(&format!(
                    "SELECT DISTINCT ON (pipeline) {COLUMNS} FROM {{control}}.runs ORDER BY pipeline, run DESC"
                )),
                &[],
            )
            .await
            .doing("read the last runs")?;
        Ok(rows.iter().map(from_row).collect())
    }

    /// Removes runs that nobody looks for any more, with their rejected rows: those that found nothing to do after a day,
    /// all others after ninety days. Of each pipeline the newest hundred stay and the last that did not fail, and whatever
    /// says of a table in Postgres whose it is. Returns how many went.
    pub async fn prune_history(&self, client: &impl GenericClient) -> Result<u64> {
        client
            .affected(
                &self.sql(
                    "WITH old AS (SELECT run FROM (SELECT run, state, finished_at, generation, cleaned, \
                             row_number() OVER (PARTITION BY pipeline ORDER BY run DESC) AS age FROM {control}.runs) r \
                         WHERE age > 100 AND finished_at < clock_timestamp() \
                             - CASE WHEN state = 'skipped' THEN interval '1 day' ELSE interval '90 days' END \
                           AND (state = 'skipped' OR generation IS NULL OR cleaned) \
                           AND run NOT IN (SELECT max(run) FROM {control}.runs \
                               WHERE state IN ('succeeded', 'skipped') AND source_version IS NOT NULL \
                               GROUP BY pipeline)), \
                     rows AS (DELETE FROM {control}.rejected_rows WHERE run IN (SELECT run FROM old)) \
                     DELETE FROM {control}.runs WHERE run IN (SELECT run FROM old)",
                ),
                &[],
            )
            .await
            .doing("remove old runs")
    }
}
