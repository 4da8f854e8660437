//! The same rows in one clean file, in many small ones, and in files each of which has a deletion vector: they arrive the same, and
//! loading them takes about as long.
//!
//! `LAKEGATE_TEST_LAYOUT_ROWS` says how many rows (20,000 unless set), `LAKEGATE_TEST_LAYOUT_ROUNDS` how often each is measured (once
//! unless set), `LAKEGATE_TEST_BINARY` which binary does it; `scripts/measure-layouts.sh` sets them.

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{BooleanArray, RecordBatch};
use arrow_select::concat::concat_batches;
use arrow_select::filter::filter_record_batch;
use serde_json::{Value, json};

use crate::support::delta_log::DeltaLog;
use crate::support::lake::LakeTable;
use crate::support::lineitem;
use crate::support::measure::{median, number};
use crate::support::project::TestProject;

/// Small files of a table.
const MANY: u64 = 1_000;
/// Files of the table with deletion vectors.
const MARKED: u64 = 24;

/// Which orders the tables do not have.
fn is_gone(order: i64) -> bool {
    order % 11 == 1
}

fn left(batch: &RecordBatch) -> RecordBatch {
    let orders = batch.column(0).as_primitive::<Int64Type>();
    let wanted: BooleanArray = orders.values().iter().map(|order| Some(!is_gone(*order))).collect();
    filter_record_batch(batch, &wanted).unwrap()
}

/// An empty table and its log, to be filled by hand.
async fn table(project: &TestProject, name: &str) -> DeltaLog {
    project.pipeline(name, &format!("source: lake/{name}\nprimary_key: [l_orderkey, l_linenumber]\n"));
    let dir = project.path(&format!("lake/{name}"));
    let marks = [("delta.enableDeletionVectors", "true")];
    LakeTable::create_with(&dir, &lineitem::rows(0..0).schema(), Vec::new(), &[], &marks).await;
    DeltaLog::of(&dir).by("l_orderkey")
}

/// The first rows in so many files, in one commit.
fn write(log: &DeltaLog, rows: u64, files: u64, of: impl Fn(&RecordBatch) -> RecordBatch) {
    let bounds = (0..files).map(|file| (rows * file / files)..(rows * (file + 1) / files));
    let actions: Vec<Value> = bounds
        .map(|bounds| {
            let batches: Vec<RecordBatch> = lineitem::batches_of(bounds).map(|batch| of(&batch)).collect();
            json!({"add": log.write(&concat_batches(&batches[0].schema(), &batches).unwrap())})
        })
        .collect();
    log.commit(&actions);
}

async fn load(project: &TestProject, name: &str) -> f64 {
    project.sql().await.batch_execute("CHECKPOINT").await.unwrap();
    let loaded = project.run(&["sync", name, "--full", "--output", "json"]).await.ok().json().remove(0);
    loaded["seconds"]["total"].as_f64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_rows_arrive_from_any_layout_of_files() {
    let rows = number("LAKEGATE_TEST_LAYOUT_ROWS", 20_000);
    let project = TestProject::new().await;
    write(&table(&project, "clean").await, rows, 1, left);
    write(&table(&project, "small").await, rows, MANY.min(rows / 100), left);
    let marked = table(&project, "marked").await;
    write(&marked, rows, MARKED, RecordBatch::clone);
    marked.mark_and_add(is_gone, None);

    let layouts = ["clean", "small", "marked"];
    let mut seconds = layouts.map(|_| Vec::new());
    for _ in 0..number("LAKEGATE_TEST_LAYOUT_ROUNDS", 1) {
        for (name, seconds) in layouts.iter().zip(&mut seconds) {
            seconds.push(load(&project, name).await);
        }
    }
    let medians = seconds.each_mut().map(|seconds| median(seconds));
    for ((name, seconds), median) in layouts.iter().zip(&seconds).zip(medians) {
        println!(
            "{name}: median {median:.2} s of {seconds:.2?}, {:.2} times that of one clean file",
            median / medians[0]
        );
    }

    let session = project.sql().await;
    let mut contents = Vec::new();
    for name in layouts {
        let sql = format!("SELECT count(*), sum(hashtextextended(t::text, 0))::text FROM lake.{name} t");
        let row = session.query_one(&sql, &[]).await.unwrap();
        contents.push((row.get::<_, i64>(0), row.get::<_, String>(1)));
    }
    assert!(contents[0].0 > 0 && contents[0].0 < rows as i64, "{contents:?}");
    assert!(contents.iter().all(|content| *content == contents[0]), "{contents:?}");
}
