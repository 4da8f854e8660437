//! Rows that Postgres cannot hold, or that are no rows of a table with this key.

use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};

use super::{ITEMS, items, refused};
use crate::support::lake::LakeTable;
use crate::support::project::TestProject;

/// A project whose pipeline `items` reads a Delta table with these columns.
async fn table(yaml: &str, columns: Vec<(&str, ArrayRef)>) -> TestProject {
    let project = items(yaml).await;
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, values)| (name, values, true)));
    let batch = batch.unwrap();
    LakeTable::create(&project.path("lake/items"), &batch.schema(), vec![batch]).await;
    project
}

fn ids(values: Vec<Option<i64>>) -> (&'static str, ArrayRef) {
    ("id", Arc::new(Int64Array::from(values)))
}

fn texts(values: Vec<&str>) -> (&'static str, ArrayRef) {
    ("name", Arc::new(StringArray::from(values)))
}

#[tokio::test]
async fn a_float_key_is_refused_before_the_load() {
    let values: ArrayRef = Arc::new(Float64Array::from(vec![0.1, 0.2]));
    let project = table(ITEMS, vec![("id", values)]).await;
    refused!("float_key", project, "plan" "items");
}

#[tokio::test]
async fn rows_that_share_a_key_are_shown() {
    let project = table(ITEMS, vec![ids(vec![Some(1), Some(2), Some(2)]), texts(vec!["a", "b", "c"])]).await;
    refused!("duplicate_keys", project, "sync" "items");
}

#[tokio::test]
async fn rows_of_equal_age_are_shown() {
    let yaml = "source: lake/items\nprimary_key: [id]\non_duplicate_key: {latest_by: at}\n";
    let at: ArrayRef = Arc::new(Int64Array::from(vec![7, 7]));
    let project = table(yaml, vec![ids(vec![Some(1), Some(1)]), texts(vec!["a", "b"]), ("at", at)]).await;
    refused!("equal_age", project, "sync" "items");
}

#[tokio::test]
async fn a_key_that_is_null_is_refused() {
    let project = table(ITEMS, vec![ids(vec![Some(1), None]), texts(vec!["a", "b"])]).await;
    refused!("null_key", project, "sync" "items");
}

#[tokio::test]
async fn the_character_nul_is_refused_with_key_and_column() {
    let project = table(ITEMS, vec![ids(vec![Some(1), Some(2)]), texts(vec!["a", "b\0c"])]).await;
    refused!("nul_in_text", project, "sync" "items");
}

#[tokio::test]
async fn more_bad_rows_than_allowed_are_refused() {
    let yaml = "source: lake/items\nprimary_key: [id]\non_bad_row: {reject: {max_rows: 1}}\n";
    let project = table(yaml, vec![ids(vec![Some(1), Some(2)]), texts(vec!["\0", "\0"])]).await;
    refused!("too_many_rejected", project, "sync" "items");
}

#[tokio::test]
async fn a_value_that_a_cast_would_change_is_refused_with_key_and_column() {
    let yaml = "source: lake/items\nprimary_key: [id]\ncolumns: {types: {id: smallint}}\n";
    let project = table(yaml, vec![ids(vec![Some(1), Some(70_000)])]).await;
    refused!("lossy_cast", project, "sync" "items");
}

#[tokio::test]
async fn a_key_too_long_for_an_index_is_refused() {
    let yaml = "source: lake/items\nprimary_key: [name]\n";
    let long = "x".repeat(3000);
    let project = table(yaml, vec![texts(vec!["a", &long])]).await;
    refused!("key_too_long", project, "sync" "items");
}
