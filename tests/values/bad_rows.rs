//! Rows that Postgres cannot hold: `on_bad_row`.

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::{
    ArrayRef, Date32Array, Decimal128Array, Int64Array, StringArray, TimestampMillisecondArray,
    TimestampNanosecondArray,
};
use serde_json::{Value, json};

use super::{declare, items, longs, texts, texts_of};
use crate::support::project::TestProject;

/// A bad value among good ones: what is wrong, the column `value`, and rules of the pipeline.
struct BadCell {
    code: &'static str,
    reason: &'static str,
    values: ArrayRef,
    rules: &'static str,
}

/// Each has three rows, of which the second, with the key 2, is bad.
fn bad_cells() -> Vec<BadCell> {
    let cell = |code, reason, values, rules| BadCell { code, reason, values, rules };
    let nanoseconds: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![1_000, 1_001, 2_000]));
    // The first instant of the year 294277.
    let far: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![0, 9_224_318_016_000_000, 0]));
    // The day before 24 November 4714 BC.
    let days: ArrayRef = Arc::new(Date32Array::from(vec![0, -2_440_589, 0]));
    let cents: ArrayRef = Arc::new(Decimal128Array::from(vec![100, 150, 200]).with_precision_and_scale(10, 2).unwrap());
    let february = texts(["2024-02-29", "2024-02-30", "2024-03-01"]);
    vec![
        cell("LG3001", "NUL", texts(["a", "b\0c", "d"]), ""),
        cell("LG3002", "range", far, ""),
        cell("LG3002", "range", days, ""),
        cell("LG3006", "microsecond: 1970-01-01T00:00:00.000001001", nanoseconds, ""),
        cell("LG3006", "exactly: 1.50", cents, "columns: {types: {value: integer}}\n"),
        cell("LG3002", ": 40000", longs([1, 40_000, 2]), "columns: {types: {value: smallint}}\n"),
        cell("LG3007", ": 2024-02-30", february, "columns: {types: {value: date}}\n"),
    ]
}

/// A project with a pipeline `c<n>` for each bad cell, synced in one command that ends with this code: what it says of
/// each.
async fn sync_bad_cells(rules: &str, code: i32) -> (TestProject, Vec<(BadCell, Value)>) {
    let project = TestProject::new().await;
    let cells = bad_cells();
    for (index, cell) in cells.iter().enumerate() {
        let rules = format!("primary_key: [id]\n{rules}{}", cell.rules);
        declare(&project, &format!("c{index}"), vec![("id", longs([1, 2, 3])), ("value", cell.values.clone())], &rules);
    }
    let ran = project.run(&["sync", "--output", "json"]).await;
    assert_eq!(ran.code, Some(code), "{ran:?}");
    let mut outcomes = ran.json();
    outcomes.sort_by_key(|outcome| outcome["pipeline"].as_str().unwrap().to_owned());
    assert_eq!(outcomes.len(), cells.len());
    (project, cells.into_iter().zip(outcomes).collect())
}

#[tokio::test]
async fn a_bad_row_fails_the_run_with_its_key_and_column() {
    let (project, outcomes) = sync_bad_cells("", 1).await;
    for (cell, outcome) in outcomes {
        let error = &outcome["error"];
        assert_eq!(error["code"], cell.code, "{error}");
        let detail = error["detail"].as_str().unwrap();
        assert!(detail.contains("column `value` of the row with id = 2: "), "{error}");
        assert!(detail.contains(cell.reason), "{error}");
        assert!(error["hint"].as_str().unwrap().contains("on_bad_row"), "{error}");
    }
    let tables = "SELECT relname::text FROM pg_class WHERE relnamespace IN ('lake'::regnamespace, 'lakegate_data'::regnamespace)";
    assert!(texts_of(&project, tables).await.is_empty());
}

#[tokio::test]
async fn a_bad_row_may_be_left_out_and_is_kept_with_its_reason() {
    let (project, outcomes) = sync_bad_cells("on_bad_row: {reject: {max_rows: 1}}\n", 0).await;
    for (cell, outcome) in outcomes {
        let name = outcome["pipeline"].as_str().unwrap();
        assert_eq!(outcome["rows_read"], 3, "{outcome}");
        assert_eq!(outcome["rows_inserted"], 2, "{outcome}");
        assert_eq!(outcome["rows_rejected"], 1, "{outcome}");
        assert_eq!(outcome["coverage"], 1.0, "{outcome}");
        assert_eq!(texts_of(&project, &format!("SELECT id::text FROM lake.{name} ORDER BY id")).await, ["1", "3"]);
        let rejected = project.run(&["rejected", name, "--output", "json"]).await.ok().json();
        let [rejected] = rejected.as_slice() else { panic!("{rejected:?}") };
        assert_eq!(rejected["run"], outcome["run"]);
        assert_eq!(rejected["key"], json!({ "id": "2" }));
        assert_eq!(rejected["column"], "value");
        assert_eq!(rejected["code"], cell.code);
        assert!(rejected["reason"].as_str().unwrap().contains(cell.reason), "{rejected}");
    }
    let shown = project.run(&["rejected", "c0"]).await.ok().stdout;
    assert!(shown.contains("LG3001") && shown.contains("value"), "{shown}");
}

#[tokio::test]
async fn a_key_with_a_nul_is_kept_in_a_form_that_can_be_read() {
    let columns = vec![("key", texts(["a", "b\0c"]))];
    let project = items(columns, "primary_key: [key]\non_bad_row: {reject: {max_rows: 1}}\n").await;
    assert_eq!(project.sync("items").await["rows_rejected"], 1);
    let rejected = project.run(&["rejected", "items", "--output", "json"]).await.ok().json();
    assert_eq!(rejected[0]["key"], json!({ "key": "b\\u{0}c" }));
}

#[tokio::test]
async fn a_key_that_is_null_or_too_long_is_a_bad_row() {
    let long = "k".repeat(2_601);
    let mut keys = StringBuilder::new();
    keys.append_value("a");
    keys.append_null();
    keys.append_value(&long);
    let keys: ArrayRef = Arc::new(keys.finish());
    let columns = || vec![("region", texts(["eu", "eu", "us"])), ("key", keys.clone())];

    let project = items(columns(), "primary_key: [region, key]\n").await;
    let error = project.sync_fails("items").await;
    assert_eq!(error["code"], "LG3003");
    let detail = error["detail"].as_str().unwrap();
    assert!(detail.contains("column `key` of the row with region = eu, key = null"), "{detail}");

    let project = items(columns(), "primary_key: [region, key]\non_bad_row: {reject: {max_rows: 10}}\n").await;
    let outcome = project.sync("items").await;
    assert_eq!(outcome["rows_rejected"], 2);
    assert_eq!(outcome["rows_inserted"], 1);
    let rejected = project.run(&["rejected", "items", "--output", "json"]).await.ok().json();
    assert_eq!(rejected[0]["key"], json!({ "region": "eu", "key": Value::Null }));
    assert_eq!(rejected[0]["column"], "key");
    assert_eq!(rejected[0]["code"], "LG3003");
    assert_eq!(rejected[1]["code"], "LG3004");
    assert_eq!(rejected[1]["column"], Value::Null);
    let shown = rejected[1]["key"]["key"].as_str().unwrap();
    assert!(shown.len() < 300 && shown.ends_with("… (2601 bytes)"), "{shown}");
}

#[tokio::test]
async fn a_key_as_long_as_an_index_holds_is_taken() {
    let key = "k".repeat(2_600);
    let project = items(vec![("key", texts([key.as_str()]))], "primary_key: [key]\n").await;
    project.sync("items").await;
    assert_eq!(texts_of(&project, "SELECT key FROM lake.items").await, [key]);
}

#[tokio::test]
async fn more_bad_rows_than_allowed_fail_the_run_and_leave_what_is_published() {
    let good = || vec![("id", longs(0..10)), ("value", texts(["fine"; 10]))];
    let rules = "primary_key: [id]\non_bad_row: {reject: {max_rows: 3}}\n";
    let project = items(good(), rules).await;
    let first = project.sync("items").await;
    let bad = StringArray::from_iter_values((0..10).map(|row| if row % 2 == 0 { "b\0d" } else { "good" }));
    declare(&project, "items", vec![("id", longs(0..10)), ("value", Arc::new(bad))], rules);
    let error = project.sync_fails("items").await;
    assert_eq!(error["code"], "LG3008", "{error}");
    let detail = error["detail"].as_str().unwrap();
    assert!(detail.contains('3') && detail.contains("column `value`"), "{detail}");
    // Those that led there can be looked at.
    let rejected = project.run(&["rejected", "items", "--output", "json"]).await.ok().json();
    let keys: Vec<&str> = rejected.iter().map(|row| row["key"]["id"].as_str().unwrap()).collect();
    assert_eq!(keys, ["0", "2", "4"]);
    assert_eq!(texts_of(&project, "SELECT DISTINCT value FROM lake.items").await, ["fine"]);
    let generations = project.run(&["generations", "items", "--output", "json"]).await.ok().json();
    assert_eq!(generations.len(), 1, "{generations:?}");
    assert_eq!(generations[0]["generation"], first["generation"]);
}

#[tokio::test]
async fn as_many_bad_rows_as_allowed_are_left_out() {
    let bad = StringArray::from_iter_values((0..5_000).map(|row| if row % 5 == 0 { "b\0d" } else { "good" }));
    let columns = vec![("id", longs(0..5_000)), ("value", Arc::new(bad) as ArrayRef)];
    let project = items(columns, "primary_key: [id]\non_bad_row: {reject: {max_rows: 1000}}\n").await;
    let outcome = project.sync("items").await;
    assert_eq!(outcome["rows_rejected"], 1_000);
    assert_eq!(outcome["rows_inserted"], 4_000);
    let kept = "SELECT count(DISTINCT (key->>'id')::bigint)::text FROM lakegate.rejected_rows \
                WHERE (key->>'id')::bigint % 5 = 0";
    assert_eq!(texts_of(&project, kept).await, ["1000"]);
    assert_eq!(texts_of(&project, "SELECT count(*)::text FROM lake.items WHERE id % 5 <> 0").await, ["4000"]);
    let first = project.run(&["rejected", "items", "--limit", "2", "--output", "json"]).await.ok().json();
    assert_eq!(first.len(), 2);
}

#[tokio::test]
async fn a_row_with_several_faults_counts_once() {
    let keys: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    let columns = vec![("id", keys), ("a", texts(["x", "\0"])), ("b", texts(["y", "\0"]))];
    let project = items(columns, "primary_key: [id]\non_bad_row: {reject: {max_rows: 1}}\n").await;
    let outcome = project.sync("items").await;
    assert_eq!(outcome["rows_rejected"], 1);
    assert_eq!(outcome["rows_inserted"], 1);
}
