//! Commands that look and change nothing: preview, plan.

use std::fs;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use serde_json::json;

use super::items;
use crate::support::lake::LakeTable;
use crate::support::project::TestProject;
use crate::support::shown::steady;

#[tokio::test]
async fn a_preview_says_what_a_source_is_and_shows_rows() {
    let project = TestProject::new().await;
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let names: ArrayRef = Arc::new(StringArray::from(vec![Some("a \u{1b}[31mred\u{1b}[0m tile"), None]));
    let batch = RecordBatch::try_from_iter_with_nullable([("id", ids, false), ("name", names, true)]).unwrap();
    LakeTable::create_with(&project.path("lake/items"), &batch.schema(), vec![batch], &[], &[]).await;
    let text = project.run(&["preview", "lake/items"]).await.ok();
    assert_eq!(text.stderr, "");
    let size = |line: &str| line.starts_with("size ").then(|| "size       2 rows, 1 file, SIZE".to_owned());
    let lines: Vec<String> = text.stdout.lines().map(|line| size(line).unwrap_or_else(|| line.to_owned())).collect();
    insta::assert_snapshot!("preview", steady(&project, &lines.join("\n"), &[]));
}

#[tokio::test]
async fn a_preview_in_ndjson_is_the_rows() {
    let (project, _table) = items().await;
    let limited = project.run(&["preview", "lake/items", "--limit", "2", "--output", "ndjson"]).await.ok();
    assert_eq!(limited.json(), [json!({"id": 0, "name": "row 0"}), json!({"id": 1, "name": "row 1"})]);
    let all = project.run(&["preview", "lake/items", "--all", "--output", "ndjson"]).await.ok();
    assert_eq!(all.json().len(), 3);
}

#[tokio::test]
async fn a_single_parquet_file_is_a_source() {
    let project = TestProject::new().await;
    let (schema, batch) = LakeTable::numbered(0..3);
    let file = fs::File::create(project.path("items.parquet")).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, schema, None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    project.run(&["add", "items.parquet"]).await.ok();
    let outcome = project.sync("items").await;
    assert_eq!(outcome["rows_inserted"], 3);
}

#[tokio::test]
async fn a_plan_of_a_first_load_says_all_that_will_happen() {
    let (project, _table) = items().await;
    project.pipeline(
        "items",
        "source: lake/items\nprimary_key: [id]\ncolumns: {rename: {name: label}, types: {id: \"numeric(20,0)\"}}\nindexes: [label]\n",
    );
    let plan = project.run(&["plan", "items"]).await.ok();
    insta::assert_snapshot!("plan_of_a_first_load", without_sizes(&steady(&project, &plan.stdout, &[])));
    let tables = project.sql().await.query("SELECT FROM pg_tables WHERE schemaname = 'lakegate_data'", &[]).await;
    assert_eq!(tables.unwrap().len(), 0, "a plan makes no table");
}

#[tokio::test]
async fn a_plan_of_a_changed_table_says_what_changes() {
    let (project, mut table) = items().await;
    project.pipeline("items", "source: lake/items\nprimary_key: [id]\nmode: snapshot\n");
    project.sync("items").await;
    project.sql().await.batch_execute("CREATE VIEW public.report AS SELECT id FROM lake.items").await.unwrap();
    let unchanged = project.run(&["plan", "items"]).await.ok();
    insta::assert_snapshot!("plan_without_a_change", without_sizes(&steady(&project, &unchanged.stdout, &[])));
    table.update("name", "'changed'", "id = 1").await;
    let plan = project.run(&["plan", "items"]).await.ok();
    insta::assert_snapshot!("plan_of_a_changed_table", without_sizes(&steady(&project, &plan.stdout, &[])));
    let json = project.run(&["plan", "items", "--output", "json"]).await.ok().json().remove(0);
    assert_eq!(json["mode"], "snapshot");
    assert_eq!((&json["published_version"], &json["source_version"]), (&json!("1"), &json!("2")));
    assert_eq!(json["dependents"], json!([{ "object": "view public.report" }]));
}

/// Sizes depend on the version of the library that writes the table.
fn without_sizes(text: &str) -> String {
    let mut words: Vec<&str> = text.split(' ').collect();
    for place in 1..words.len() {
        if ["B", "KiB", "MiB"].contains(&words[place]) {
            words[place - 1] = "N";
        }
    }
    words.join(" ").replace(" KiB", " B").replace(" MiB", " B")
}
