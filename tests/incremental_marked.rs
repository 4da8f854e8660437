//! Rows that the log names one by one: of those that went only the keys are read, and Postgres tells which came again.

use std::sync::Arc;

use arrow_array::{ArrayRef, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray};
use serde_json::Value;

use crate::incremental::{Table, reason};
use crate::support::delta_log::DeltaLog;
use crate::support::lake::LakeTable;
use crate::support::postgres::TestDatabase;
use crate::support::project::TestProject;

const DELETION_VECTORS: &[(&str, &str)] = &[("delta.enableDeletionVectors", "true")];

/// Measurements: a key, a float, and a decimal of two places.
fn measurements(rows: &[(i64, f64, i128)]) -> RecordBatch {
    let decimals = Decimal128Array::from_iter_values(rows.iter().map(|row| row.2)).with_precision_and_scale(9, 2);
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0)))),
        ("level", Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.1)))),
        ("price", Arc::new(decimals.unwrap())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

#[tokio::test]
async fn rows_that_are_all_written_again_as_they_were_change_nothing() {
    let table = Table::with(1_000, DELETION_VECTORS, "").await;
    let (_, again) = LakeTable::numbered(100..120);
    table.log.mark_and_add(|id| (100..120).contains(&id), Some(&again));
    let outcome = table.expect("noop", [0, 0, 0]).await;
    assert!(reason(&outcome).ends_with("no row differs"), "{outcome}");
    assert_eq!((&outcome["rows_unchanged"], &outcome["publish_no"]), (&Value::from(20), &Value::from(1)));
    assert_eq!(outcome["source_version"], table.log.version().to_string());
}

#[tokio::test]
async fn a_value_that_only_sql_takes_for_the_same_is_written() {
    let project = TestProject::on(TestDatabase::new().await);
    let dir = project.path("lake/measurements");
    let rows = measurements(&[(1, 0.0, 100), (2, 0.0, 100), (3, f64::NAN, 100)]);
    LakeTable::create_with(&dir, &rows.schema(), vec![rows.clone()], &[], DELETION_VECTORS).await;
    project.pipeline("measurements", "source: lake/measurements\nprimary_key: [id]\n");
    project.sync("measurements").await;
    let again = measurements(&[(1, -0.0, 100), (2, 0.0, 100), (3, f64::NAN, 100)]);
    DeltaLog::of(&dir).mark_and_add(|_| true, Some(&again));
    let outcome = project.sync("measurements").await;
    let counts = ["mode", "rows_updated", "rows_unchanged"].map(|name| &outcome[name]);
    assert_eq!(counts, [&Value::from("merge"), &Value::from(1), &Value::from(2)], "{outcome}");
    let stored = project.sql().await.query("SELECT level::text FROM lake.measurements ORDER BY id", &[]).await.unwrap();
    let stored: Vec<String> = stored.iter().map(|row| row.get(0)).collect();
    assert_eq!(stored, ["-0", "0", "NaN"]);
}

#[tokio::test]
async fn a_row_that_came_was_moved_and_went_again_is_followed() {
    let mut table = Table::with(1_000, DELETION_VECTORS, "").await;
    let changed = |name: &str| {
        let (schema, batch) = LakeTable::numbered(7..8);
        let names = Arc::new(StringArray::from(vec![name]));
        RecordBatch::try_new(schema, vec![Arc::clone(batch.column(0)), names]).unwrap()
    };
    table.log.mark_and_add(|id| id == 7, Some(&changed("once")));
    table.lake.reload().await;
    table.lake.optimize().await;
    table.log.mark_and_add(|id| id == 7, Some(&changed("twice")));
    let outcome = table.expect("merge", [0, 1, 0]).await;
    assert!(outcome["rows_read"].as_u64().unwrap() < 10, "{outcome}");
}

#[tokio::test]
async fn keys_that_go_and_were_never_there_end_in_a_full_load() {
    let table = Table::with(1_000, DELETION_VECTORS, "").await;
    table.project.sql().await.batch_execute("DELETE FROM lakegate_data.items__g1 WHERE id = 7").await.unwrap();
    table.log.mark_and_add(|id| id == 7, None);
    let outcome = table.expect("snapshot", [999, 0, 0]).await;
    assert!(reason(&outcome).contains("1 rows were to go"), "{outcome}");
    let staged = "SELECT count(*) FROM lakegate.g1_going";
    assert_eq!(table.project.sql().await.query_one(staged, &[]).await.unwrap().get::<_, i64>(0), 0);
}
