//! What refreshes of a large table cost, against loading it anew: one row in a thousand is changed, one removed and one
//! added each time, spread over the whole table.
//!
//! `LAKEGATE_TEST_REFRESH_ROWS` says how many rows (20,000 unless set), `LAKEGATE_TEST_REFRESH_CHANGED` how many are
//! changed instead of one in a thousand, `LAKEGATE_TEST_REFRESH_SHARES` which percentages of all rows are changed to see
//! from where on loading anew costs less (10 unless set), `LAKEGATE_TEST_REFRESH_ROUNDS` how often each kind is measured
//! (once unless set), `LAKEGATE_TEST_REFRESH_LOADS` how often the table is loaded (as many rounds unless set),
//! `LAKEGATE_TEST_BINARY` which binary does it; `scripts/measure-refresh.sh` sets them.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use arrow_select::concat::concat_batches;
use serde_json::Value;

use crate::support::delta_log::DeltaLog;
use crate::support::lake::LakeTable;
use crate::support::lineitem;
use crate::support::measure::{median, number};
use crate::support::project::TestProject;

/// How long a load may take.
const PATIENCE: Duration = Duration::from_secs(900);

struct Measure {
    project: TestProject,
    lake: LakeTable,
    /// Seconds of the first load.
    first: f64,
    rows: u64,
    /// Rows that were added.
    added: u64,
    /// Of so many rows one is changed, one removed and one added each time.
    one_of: u64,
}

impl Measure {
    async fn new(rows: u64, properties: &[(&str, &str)]) -> Measure {
        let project = TestProject::new().await;
        project.pipeline("lineitem", "source: lake/lineitem\nprimary_key: [l_orderkey, l_linenumber]\n");
        let lake = lineitem::write_with(&project.path("lake/lineitem"), rows, properties).await;
        let changed = number("LAKEGATE_TEST_REFRESH_CHANGED", rows / 1_000);
        let mut measure = Measure { project, lake, first: 0.0, rows, added: 0, one_of: rows / changed.max(1) };
        measure.first = measure.sync(&[]).await["seconds"]["total"].as_f64().unwrap();
        measure.vacuum().await;
        measure
    }

    /// Does what a load leaves to the autovacuum, which would otherwise read the whole table while refreshes are measured.
    async fn vacuum(&self) {
        let session = self.project.sql().await;
        let sql = "SELECT max(generation) FROM lakegate.generations WHERE pipeline = 'lineitem'";
        let generation: i64 = session.query_one(sql, &[]).await.unwrap().get(0);
        session.batch_execute(&format!("VACUUM lakegate_data.lineitem__g{generation}")).await.unwrap();
    }

    /// Rows beyond all others.
    fn new_rows(&mut self) -> RecordBatch {
        let count = (self.rows / self.one_of).max(1);
        let start = self.rows + self.added;
        self.added += count;
        lineitem::rows(start..start + count)
    }

    /// Syncs after a checkpoint, so that none falls into the measured time.
    async fn sync(&self, arguments: &[&str]) -> Value {
        self.project.sql().await.batch_execute("CHECKPOINT").await.unwrap();
        let mut all = vec!["sync", "lineitem", "--output", "json"];
        all.extend(arguments);
        self.project.run_within(PATIENCE, &all).await.ok().json().remove(0)
    }

    /// Runs a kind of change and its refresh some times; prints and returns the median seconds.
    async fn rounds(&mut self, what: &str, change: impl AsyncFn(&mut Measure, u64)) -> f64 {
        let mut seconds = Vec::new();
        let mut last = Value::Null;
        for round in 0..number("LAKEGATE_TEST_REFRESH_ROUNDS", 1) {
            change(self, round).await;
            last = self.sync(&[]).await;
            assert_eq!(last["mode"], "merge", "{last}");
            println!("{}", last["seconds"]);
            seconds.push(last["seconds"]["total"].as_f64().unwrap());
        }
        let median = median(&mut seconds);
        let counts =
            ["rows_read", "rows_inserted", "rows_updated", "rows_deleted", "bytes_read"].map(|name| &last[name]);
        println!(
            "{} rows, {what}: median {median:.3} s of {seconds:.3?}; read, inserted, updated, deleted, bytes read: \
             {counts:?}; seconds {}",
            self.rows, last["seconds"]
        );
        median
    }

    async fn full(&self) -> f64 {
        let mut seconds = vec![self.first];
        let loads = number("LAKEGATE_TEST_REFRESH_LOADS", number("LAKEGATE_TEST_REFRESH_ROUNDS", 1));
        for _ in 1..loads {
            seconds.push(self.sync(&["--full"]).await["seconds"]["total"].as_f64().unwrap());
        }
        let median = median(&mut seconds);
        println!("{} rows, loaded: median {median:.3} s of {seconds:.3?}", self.rows);
        self.vacuum().await;
        median
    }

    async fn verify(&self) {
        self.project.run_within(PATIENCE, &["verify", "lineitem"]).await.ok();
    }
}

impl Measure {
    /// Which remainder chooses the orders of a round, and of which division. Orders, and so their lines, are numbered with
    /// gaps: of every 32 numbers the first 8 are used.
    fn chosen(&self, round: u64, which: i64) -> (i64, i64) {
        (4 * self.one_of as i64, 1 + which + 32 * (round as i64 % 30))
    }

    fn chooses(&self, order: i64, round: u64, which: i64) -> bool {
        let (divisor, remainder) = self.chosen(round, which);
        order % divisor == remainder
    }

    fn condition(&self, round: u64, which: i64) -> String {
        let (divisor, remainder) = self.chosen(round, which);
        format!("l_orderkey % {divisor} = {remainder}")
    }

    /// The rows of the orders that a round chooses, as they were written first.
    fn of_round(&self, round: u64, which: i64) -> RecordBatch {
        let (divisor, remainder) = self.chosen(round, which);
        let (orders, end) = ((remainder..).step_by(divisor as usize), self.rows + self.added);
        let written = orders.map(lineitem::rows_of).take_while(|rows| rows.start < end);
        let all: Vec<RecordBatch> = written.map(|rows| lineitem::rows(rows.start..rows.end.min(end))).collect();
        concat_batches(&lineitem::rows(0..0).schema(), &all).unwrap()
    }

    /// Changes rows of a round and removes others.
    async fn change_and_remove(&mut self, round: u64) {
        let (changed, gone) = (self.condition(round, 0), self.condition(round, 1));
        self.lake.update("l_comment", "'changed'", &changed).await;
        self.lake.delete(&gone).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_feed_makes_the_refresh_as_small_as_the_change() {
    let rows = number("LAKEGATE_TEST_REFRESH_ROWS", 20_000);
    let both = [("delta.enableChangeDataFeed", "true"), ("delta.enableDeletionVectors", "true")];
    let mut measure = Measure::new(rows, &both).await;
    let log = DeltaLog::of(&measure.project.path("lake/lineitem")).by("l_orderkey");
    let full = measure.full().await;
    let median = measure
        .rounds("change feed", async |measure, round| {
            let (before, removed) = (measure.of_round(round, 0), measure.of_round(round, 1));
            let (after, new) = (changed(&before), measure.new_rows());
            let written = concat_batches(&after.schema(), [&after, &new]).unwrap();
            let kinds = ["update_preimage", "update_postimage", "delete", "insert"];
            let told = [before, after, removed, new].into_iter().zip(kinds).map(|(rows, kind)| told(&rows, kind));
            let told: Vec<RecordBatch> = told.collect();
            let told = concat_batches(&told[0].schema(), &told).unwrap();
            let gone = |order| measure.chooses(order, round, 0) || measure.chooses(order, round, 1);
            log.mark_add_and_tell(gone, Some(&written), Some(&told));
        })
        .await;
    println!("change feed: {:.1} % of loading", median / full * 100.0);
    let none = measure.sync(&[]).await;
    assert_eq!(none["mode"], "noop");
    println!("no change: {} s", none["seconds"]["total"]);
    measure.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_vectors_make_the_refresh_as_small_as_the_change() {
    let rows = number("LAKEGATE_TEST_REFRESH_ROWS", 20_000);
    let mut measure = Measure::new(rows, &[("delta.enableDeletionVectors", "true")]).await;
    let log = DeltaLog::of(&measure.project.path("lake/lineitem")).by("l_orderkey");
    let full = measure.full().await;
    let median = measure
        .rounds("deletion vectors", async |measure, round| {
            let (after, new) = (changed(&measure.of_round(round, 0)), measure.new_rows());
            let written = concat_batches(&after.schema(), [&after, &new]).unwrap();
            let gone = |order| measure.chooses(order, round, 0) || measure.chooses(order, round, 1);
            log.mark_and_add(gone, Some(&written));
        })
        .await;
    println!("deletion vectors: {:.1} % of loading", median / full * 100.0);
    measure.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_files_that_are_all_rewritten_only_the_rows_that_differ_are_sent() {
    let rows = number("LAKEGATE_TEST_REFRESH_ROWS", 20_000);
    let mut measure = Measure::new(rows, &[]).await;
    let full = measure.full().await;
    let median = measure
        .rounds("all files rewritten", async |measure, round| {
            measure.change_and_remove(round).await;
            let new = measure.new_rows();
            measure.lake.append(vec![new]).await;
        })
        .await;
    println!("all files rewritten: {:.1} % of loading", median / full * 100.0);
    measure.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_share_that_differs_is_known_whether_it_is_changed_in_place() {
    let rows = number("LAKEGATE_TEST_REFRESH_ROWS", 20_000);
    let mut measure = Measure::new(rows, &[]).await;
    let full = measure.full().await;
    let shares = std::env::var("LAKEGATE_TEST_REFRESH_SHARES").unwrap_or_else(|_| "10".to_owned());
    for share in shares.split(',') {
        let mut seconds = Vec::new();
        let mut modes = Vec::new();
        for round in 0..number("LAKEGATE_TEST_REFRESH_ROUNDS", 1) {
            let condition = format!("(l_orderkey / 32) % 100 < {share}");
            measure.lake.update("l_comment", &format!("'{share} {round}'"), &condition).await;
            let refreshed = measure.sync(&[]).await;
            modes.push(refreshed["mode"].as_str().unwrap().to_owned());
            seconds.push(refreshed["seconds"]["total"].as_f64().unwrap());
        }
        let median = median(&mut seconds);
        println!(
            "{rows} rows, {share} % changed in rewritten files: median {median:.3} s of {seconds:.3?}, {:.0} % of loading \
             anew; {modes:?}",
            median / full * 100.0
        );
    }
    measure.verify().await;
}

/// These rows with another comment.
fn changed(rows: &RecordBatch) -> RecordBatch {
    let comments: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows.num_rows()).map(|_| "changed")));
    let mut columns = rows.columns().to_vec();
    *columns.last_mut().unwrap() = comments;
    RecordBatch::try_new(rows.schema(), columns).unwrap()
}

/// These rows as a change feed tells of them.
fn told(rows: &RecordBatch, kind: &str) -> RecordBatch {
    let kinds: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows.num_rows()).map(|_| kind)));
    let mut fields = rows.schema().fields().to_vec();
    fields.push(Arc::new(Field::new("_change_type", DataType::Utf8, false)));
    let columns = rows.columns().iter().cloned().chain([kinds]).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}
