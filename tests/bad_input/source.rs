//! The lake.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use serde_json::json;

use super::{ITEMS, items, refused};
use crate::support::lake::LakeTable;
use crate::support::project::TestProject;
use crate::support::shown::refusal;

/// A project whose pipeline `items` reads a Delta table of three numbered rows.
async fn numbered(yaml: &str) -> (TestProject, LakeTable) {
    let project = items(yaml).await;
    let (schema, batch) = LakeTable::numbered(0..3);
    let table = LakeTable::create(&project.path("lake/items"), &schema, vec![batch]).await;
    (project, table)
}

/// The one data file of a table.
fn data_file(table: &Path) -> PathBuf {
    let files = fs::read_dir(table).unwrap().map(|entry| entry.unwrap().path());
    files.into_iter().find(|path| path.extension().is_some_and(|ext| ext == "parquet")).unwrap()
}

#[tokio::test]
async fn a_table_that_is_not_there_is_named_with_its_place() {
    let project = items(ITEMS).await;
    refused!("missing_table", project, "sync" "items");
}

#[tokio::test]
async fn a_data_file_that_cannot_be_opened_is_named() {
    let (project, _table) = numbered(ITEMS).await;
    let file = data_file(&project.path("lake/items"));
    fs::remove_file(&file).unwrap();
    // A link to itself cannot be opened by anybody, root included.
    std::os::unix::fs::symlink(&file, &file).unwrap();
    refused!("unreadable_data_file", project, "sync" "items");
}

#[tokio::test]
async fn a_data_file_that_is_gone_is_named() {
    let (project, _table) = numbered(ITEMS).await;
    fs::remove_file(data_file(&project.path("lake/items"))).unwrap();
    refused!("data_file_gone", project, "sync" "items");
}

#[tokio::test]
async fn a_truncated_data_file_is_named() {
    let (project, _table) = numbered(ITEMS).await;
    let file = data_file(&project.path("lake/items"));
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    refused!("truncated_data_file", project, "sync" "items");
}

#[tokio::test]
async fn a_file_that_is_no_parquet_is_named() {
    let project = items("source: lake/items.parquet\nprimary_key: [id]\n").await;
    fs::create_dir(project.path("lake")).unwrap();
    fs::write(project.path("lake/items.parquet"), "id,name\n1,one\n").unwrap();
    refused!("not_parquet", project, "sync" "items");
}

#[tokio::test]
async fn a_corrupt_log_is_named() {
    let (project, _table) = numbered(ITEMS).await;
    let commit = project.path("lake/items/_delta_log/00000000000000000001.json");
    let text = fs::read_to_string(&commit).unwrap();
    fs::write(&commit, &text[..text.len() / 2]).unwrap();
    refused!("corrupt_log", project, "sync" "items");
}

#[tokio::test]
async fn a_gap_in_the_log_is_named() {
    let (project, mut table) = numbered(ITEMS).await;
    table.update("name", "'changed'", "id = 1").await;
    fs::remove_file(project.path("lake/items/_delta_log/00000000000000000001.json")).unwrap();
    refused!("gap_in_log", project, "sync" "items");
}

#[tokio::test]
async fn a_table_feature_that_is_not_supported_is_named() {
    let (project, _table) = numbered(ITEMS).await;
    let protocol = json!({"protocol": {
        "minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["telepathy"], "writerFeatures": ["telepathy"],
    }});
    let commit = project.path("lake/items/_delta_log/00000000000000000002.json");
    fs::write(commit, format!("{protocol}\n")).unwrap();
    refused!("unsupported_feature", project, "plan" "items");
}

#[tokio::test]
async fn a_version_that_is_not_there_is_named() {
    let (project, _table) = numbered("source: {delta: {uri: lake/items, version: 9}}\nprimary_key: [id]\n").await;
    refused!("missing_version", project, "plan" "items");
}

#[tokio::test]
async fn a_key_column_that_is_not_there_is_answered_with_those_there_are() {
    let (project, _table) = numbered("source: lake/items\nprimary_key: [item_id]\n").await;
    refused!("wrong_key_column", project, "plan" "items");
}

#[tokio::test]
async fn a_column_that_is_not_there_is_answered_with_those_there_are() {
    let (project, _table) = numbered("source: lake/items\nprimary_key: [id]\ncolumns: {exclude: [nmae]}\n").await;
    refused!("wrong_column", project, "plan" "items");
}

#[tokio::test]
async fn a_transform_that_does_not_fit_says_where() {
    let (project, _table) =
        numbered("source: lake/items\nprimary_key: [id]\ntransform: SELECT idd FROM source\n").await;
    refused!("wrong_transform", project, "plan" "items");
}

#[tokio::test]
async fn a_column_that_goes_is_a_change_to_be_followed_knowingly() {
    let (project, _table) = numbered(ITEMS).await;
    project.sync("items").await;
    fs::remove_dir_all(project.path("lake/items")).unwrap();
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..3));
    let batch = RecordBatch::try_from_iter([("id", ids)]).unwrap();
    LakeTable::create(&project.path("lake/items"), &batch.schema(), vec![batch]).await;
    refused!("column_gone", project, "sync" "items");
}

#[tokio::test]
async fn a_source_that_is_suddenly_empty_does_not_empty_the_table() {
    let (project, mut table) = numbered(ITEMS).await;
    project.sync("items").await;
    table.delete("id >= 0").await;
    refused!("empty_source", project, "sync" "items");
}

#[tokio::test]
async fn an_unknown_kind_of_address_is_refused() {
    let project = items("source: ftp://lake/items\nprimary_key: [id]\n").await;
    refused!("unknown_scheme", project, "plan" "items");
}

#[tokio::test]
async fn a_command_on_a_source_needs_no_project() {
    let project = TestProject::new().await;
    let ran = project.run(&["preview", "lake/nothing"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    insta::assert_snapshot!("preview_of_nothing", refusal(&project, &ran, &[]));
}
