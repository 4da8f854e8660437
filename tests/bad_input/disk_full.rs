//! A disk that fills up while Postgres writes to it.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};

use super::{ITEMS, items};
use crate::support::lake::LakeTable;
use crate::support::postgres::TestCluster;
use crate::support::shown::refusal;

/// Whether this account may mount a file system that nobody else sees.
fn may_mount() -> bool {
    let tried = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    tried.is_ok_and(|output| output.status.success())
}

/// A kilobyte a row in Postgres, next to nothing in Parquet.
async fn wide_table(dir: &Path, rows: i64) {
    let text = "x".repeat(1000);
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|_| &text)));
    let batch = RecordBatch::try_from_iter([("id", ids), ("text", texts)]).unwrap();
    LakeTable::create(dir, &batch.schema(), vec![batch]).await;
}

#[tokio::test]
async fn a_full_disk_of_postgres_fails_the_run_and_leaves_what_is_published() {
    if !may_mount() {
        println!("not shown: this account may not mount a small file system");
        return;
    }
    let cluster = tokio::task::spawn_blocking(|| TestCluster::start_with_small_disk("small-disk", "24m"));
    let cluster = cluster.await.unwrap();
    let mut project = items(ITEMS).await;
    project.set("LAKEGATE_POSTGRES", &cluster.url("small"));
    wide_table(&project.path("lake/items"), 10).await;
    project.sync("items").await;

    std::fs::remove_dir_all(project.path("lake/items")).unwrap();
    wide_table(&project.path("lake/items"), 40_000).await;
    let ran = project.run(&["sync", "items"]).await;
    let shown = refusal(&project, &ran, &[(&format!(":{}", cluster.port()), ":PORT")]);
    assert_eq!(ran.code, Some(1), "{shown}");
    // Newer servers name the function that failed.
    let shown = without_files(&shown).replace(" with FileFallocate()", "");
    insta::assert_snapshot!("disk_full", shown);
    let got = project.run(&["get", "items", "9", "--output", "json"]).await.ok();
    assert_eq!(got.json()[0]["data"][0]["id"], 9);
}

/// Postgres names its file by numbers that differ from run to run.
fn without_files(text: &str) -> String {
    let quoted = text.split('"').enumerate();
    quoted.map(|(place, part)| if place % 2 == 1 { "\"FILE\"" } else { part }).collect()
}
