//! Refreshes in place of tables that keep the newest row of each key (`on_duplicate_key: {latest_by: …}`).

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use serde_json::Value;

use crate::incremental::reason;
use crate::support::lake::LakeTable;
use crate::support::postgres::TestDatabase;
use crate::support::project::TestProject;

/// A table of events (`id`, `seq`, `note`), of which the one with the greatest `seq` counts.
struct Events {
    project: TestProject,
    lake: LakeTable,
}

type Event<'a> = (i64, Option<i64>, &'a str);

fn batch(events: &[Event<'_>]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(events.iter().map(|event| event.0)));
    let seqs: ArrayRef = Arc::new(events.iter().map(|event| event.1).collect::<Int64Array>());
    let notes: ArrayRef = Arc::new(StringArray::from_iter_values(events.iter().map(|event| event.2)));
    RecordBatch::try_from_iter_with_nullable([("id", ids, false), ("seq", seqs, true), ("note", notes, true)]).unwrap()
}

impl Events {
    async fn new(events: &[Event<'_>]) -> Events {
        let project = TestProject::on(TestDatabase::new().await);
        let batch = batch(events);
        let lake = LakeTable::create(&project.path("lake/items"), &batch.schema(), vec![batch]).await;
        project.pipeline("items", "source: lake/items\nprimary_key: [id]\non_duplicate_key: {latest_by: seq}\n");
        let events = Events { project, lake };
        assert_eq!(events.project.sync("items").await["mode"], "snapshot");
        events
    }

    async fn append(&mut self, events: &[Event<'_>]) {
        self.lake.append(vec![batch(events)]).await;
    }

    async fn rows(&self) -> Vec<(i64, Option<i64>, String)> {
        let sql = self.project.sql().await;
        let rows = sql.query("SELECT id, seq, note FROM lake.items ORDER BY id", &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
    }

    /// Syncs, checks mode and counts (inserted, updated, left out), and that a full load gives the same rows.
    #[track_caller]
    fn expect(&self, mode: &'static str, counts: [u64; 3]) -> impl Future<Output = Value> {
        let caller = std::panic::Location::caller();
        async move {
            let outcome = self.project.sync("items").await;
            let names = ["rows_inserted", "rows_updated", "rows_deduplicated"];
            let counted = names.map(|name| outcome[name].as_u64().unwrap());
            assert_eq!((&outcome["mode"], counted), (&Value::from(mode), counts), "{caller}: {outcome}");
            let merged = self.rows().await;
            self.project.run(&["sync", "items", "--full"]).await.ok();
            assert_eq!(merged, self.rows().await, "{caller}: a full load");
            outcome
        }
    }
}

#[tokio::test]
async fn a_newer_row_replaces_the_one_that_is_there_and_an_older_one_is_left_out() {
    let mut events = Events::new(&[(1, Some(5), "a"), (1, Some(3), "old"), (2, Some(5), "b"), (3, None, "c")]).await;
    events.append(&[(1, Some(6), "newer"), (2, Some(4), "older"), (3, Some(0), "any is newer"), (4, None, "d")]).await;
    events.expect("merge", [1, 2, 1]).await;
    // Of several that come, the newest.
    events.append(&[(2, Some(7), "x"), (2, Some(8), "y"), (5, Some(1), "e"), (5, None, "f"), (1, None, "g")]).await;
    events.expect("merge", [1, 1, 3]).await;
    let notes: Vec<String> = events.rows().await.into_iter().map(|row| row.2).collect();
    assert_eq!(notes, ["newer", "y", "any is newer", "d", "e"]);
}

#[tokio::test]
async fn the_same_row_once_more_is_left_out() {
    let mut events = Events::new(&[(1, Some(5), "a")]).await;
    events.append(&[(1, Some(5), "a"), (1, Some(5), "a")]).await;
    events.expect("merge", [0, 0, 2]).await;
}

#[tokio::test]
async fn rows_that_are_equally_new_and_differ_fail() {
    let mut events = Events::new(&[(1, Some(5), "a"), (2, None, "b")]).await;
    events.append(&[(1, Some(5), "another")]).await;
    let error = events.project.sync_fails("items").await;
    assert_eq!(error["code"], "LG4007");
    assert!(error["detail"].as_str().unwrap().contains("with the key (1) have the same `seq`"), "{error}");
    events.lake.delete("note = 'another'").await;
    events.append(&[(2, None, "c")]).await;
    let error = events.project.sync_fails("items").await;
    assert!(error["detail"].as_str().unwrap().contains("with the key (2) have the same `seq`"), "{error}");
    events.lake.delete("note = 'c'").await;
    events.append(&[(3, Some(1), "x"), (3, Some(1), "y")]).await;
    let error = events.project.sync_fails("items").await;
    assert!(error["detail"].as_str().unwrap().contains("with the key (3) have the same `seq`"), "{error}");
}

#[tokio::test]
async fn an_update_in_the_lake_is_followed_unless_it_lowers_the_age() {
    let mut events = Events::new(&[(1, Some(5), "a"), (1, Some(3), "old"), (2, Some(5), "b")]).await;
    // As new as before, in place of the row that was there.
    events.lake.update("note", "'corrected'", "id = 1 AND seq = 5").await;
    events.expect("merge", [0, 1, 0]).await;
    events.lake.update("seq", "9", "id = 2").await;
    events.expect("merge", [0, 1, 0]).await;
    // A row that was left out may change as it likes while it stays older.
    events.lake.update("note", "'older still'", "seq = 3").await;
    events.expect("merge", [0, 0, 1]).await;
    events.lake.update("seq", "1", "seq = 5").await;
    let outcome = events.expect("snapshot", [2, 0, 1]).await;
    assert!(reason(&outcome).contains("with the key (1) went"), "{outcome}");
    assert_eq!(events.rows().await[0], (1, Some(3), "older still".to_owned()));
}

#[tokio::test]
async fn the_newest_row_of_a_key_that_is_deleted_takes_a_snapshot_to_follow() {
    let mut events = Events::new(&[(1, Some(5), "a"), (1, Some(3), "old"), (2, Some(5), "b")]).await;
    events.lake.delete("seq = 3").await;
    events.expect("merge", [0, 0, 0]).await;
    events.append(&[(1, Some(4), "next")]).await;
    events.expect("merge", [0, 0, 1]).await;
    events.lake.delete("id = 1 AND seq = 5").await;
    events.expect("snapshot", [2, 0, 0]).await;
    assert_eq!(events.rows().await[0].2, "next");
    let sql = events.project.sql().await;
    let changed: i64 = sql.query_one("SELECT count(*) FROM lakegate.changed_keys", &[]).await.unwrap().get(0);
    assert!(changed > 0);
}
