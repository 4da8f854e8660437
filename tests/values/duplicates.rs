//! Rows that share a key, and sources without rows.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array};
use serde_json::json;

use super::{declare, items, longs, texts, texts_of};

const LATEST: &str = "primary_key: [id]\non_duplicate_key: {latest_by: version}\n";

#[tokio::test]
async fn rows_that_share_a_key_fail_the_run_with_sample_keys() {
    let columns = vec![("region", texts(["eu", "eu", "us", "us", "us"])), ("id", longs([1, 1, 2, 2, 2]))];
    let project = items(columns, "primary_key: [region, id]\n").await;
    let error = project.sync_fails("items").await;
    assert_eq!(error["code"], "LG4007", "{error}");
    let detail = error["detail"].as_str().unwrap();
    assert!(detail.contains("same (region, id)"), "{detail}");
    assert!(detail.contains("eu, 1 (2 rows)") && detail.contains("us, 2 (3 rows)"), "{detail}");
    assert!(error["hint"].as_str().unwrap().contains("latest_by"), "{error}");
}

#[tokio::test]
async fn only_a_few_of_many_shared_keys_are_shown() {
    let columns = vec![("id", longs((0..2_000).map(|row| row / 2)))];
    let project = items(columns, "primary_key: [id]\n").await;
    let error = project.sync_fails("items").await;
    assert_eq!(error["code"], "LG4007");
    assert_eq!(error["detail"].as_str().unwrap().matches("(2 rows)").count(), 5, "{error}");
}

#[tokio::test]
async fn the_newest_row_of_each_key_stays_and_a_null_is_the_oldest() {
    let versions: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(3), Some(2), None, Some(-5), None]));
    let columns = vec![
        ("id", longs([1, 1, 1, 2, 2, 3])),
        ("version", versions),
        ("value", texts(["old", "new", "middle", "null", "negative", "alone"])),
    ];
    let project = items(columns, LATEST).await;
    let outcome = project.sync("items").await;
    assert_eq!(outcome["rows_read"], 6);
    assert_eq!(outcome["rows_inserted"], 3);
    assert_eq!(outcome["rows_deduplicated"], 3);
    let rows = texts_of(&project, "SELECT id || ' ' || value FROM lake.items ORDER BY id").await;
    assert_eq!(rows, ["1 new", "2 negative", "3 alone"]);
    let runs = project.run(&["runs", "items", "--output", "json"]).await.ok().json();
    assert_eq!(runs[0]["rows_deduplicated"], 3);
}

#[tokio::test]
async fn equal_rows_collapse_into_one() {
    let columns =
        vec![("id", longs([7, 7, 7])), ("version", longs([2, 2, 1])), ("value", texts(["same", "same", "old"]))];
    let project = items(columns, LATEST).await;
    let outcome = project.sync("items").await;
    assert_eq!(outcome["rows_inserted"], 1);
    assert_eq!(outcome["rows_deduplicated"], 2);
    assert_eq!(texts_of(&project, "SELECT value FROM lake.items").await, ["same"]);
}

#[tokio::test]
async fn different_rows_of_one_key_and_age_fail_the_run() {
    let columns =
        vec![("id", longs([7, 7, 8])), ("version", longs([2, 2, 1])), ("value", texts(["one", "other", "fine"]))];
    let project = items(columns, LATEST).await;
    let error = project.sync_fails("items").await;
    assert_eq!(error["code"], "LG4007", "{error}");
    let detail = error["detail"].as_str().unwrap();
    assert!(detail.contains("the key (7)") && detail.contains("`version`"), "{detail}");
}

#[tokio::test]
async fn older_rows_that_tie_do_no_harm() {
    let columns =
        vec![("id", longs([7, 7, 7])), ("version", longs([1, 1, 2])), ("value", texts(["one", "other", "new"]))];
    let project = items(columns, LATEST).await;
    assert_eq!(project.sync("items").await["rows_deduplicated"], 2);
    assert_eq!(texts_of(&project, "SELECT value FROM lake.items").await, ["new"]);
}

#[tokio::test]
async fn a_source_that_has_become_empty_empties_the_table_only_where_allowed() {
    let rules = "primary_key: [id]\n";
    let project = items(vec![("id", longs([1, 2]))], rules).await;
    project.sync("items").await;
    declare(&project, "items", vec![("id", longs([]))], rules);
    let error = project.sync_fails("items").await;
    assert_eq!(error["code"], "LG2014", "{error}");
    assert!(error["hint"].as_str().unwrap().contains("allow_empty: true"), "{error}");
    assert_eq!(texts_of(&project, "SELECT count(*)::text FROM lake.items").await, ["2"]);

    project.pipeline("items", &format!("source: lake/items\n{rules}allow_empty: true\n"));
    let outcome = project.sync("items").await;
    assert_eq!(outcome["state"], "succeeded");
    assert_eq!(outcome["rows_inserted"], 0);
    assert_eq!(texts_of(&project, "SELECT count(*)::text FROM lake.items").await, ["0"]);
}

#[tokio::test]
async fn a_table_may_begin_empty() {
    let project = items(vec![("id", longs([]))], "primary_key: [id]\n").await;
    assert_eq!(project.sync("items").await["rows_inserted"], json!(0));
    assert_eq!(texts_of(&project, "SELECT count(*)::text FROM lake.items").await, ["0"]);
}
