//! Refreshes in place: the mode that is chosen, the rows that are written, and what ends in a snapshot instead.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use serde_json::Value;

use crate::support::delta_log::DeltaLog;
use crate::support::items::Items;
use crate::support::lake::LakeTable;
use crate::support::postgres::TestDatabase;
use crate::support::project::TestProject;

/// A project over a Delta table `items` (`id`, `name`) that is refreshed in place, synced once.
pub(crate) struct Table {
    pub(crate) project: TestProject,
    pub(crate) lake: LakeTable,
    pub(crate) log: DeltaLog,
}

impl Table {
    pub(crate) async fn new(rows: i64) -> Table {
        Table::with(rows, &[], "").await
    }

    /// With table properties and further lines of the pipeline.
    pub(crate) async fn with(rows: i64, properties: &[(&str, &str)], further: &str) -> Table {
        let project = TestProject::on(TestDatabase::new().await);
        let dir = project.path("lake/items");
        let (schema, batch) = LakeTable::numbered(0..rows);
        let lake = LakeTable::create_with(&dir, &schema, vec![batch], &[], properties).await;
        let table = Table { project, lake, log: DeltaLog::of(&dir) };
        table.declare(further);
        let first = table.sync().await;
        assert_eq!(first["mode"], "snapshot");
        table
    }

    pub(crate) fn declare(&self, further: &str) {
        self.project.pipeline("items", &format!("source: lake/items\nprimary_key: [id]\n{further}"));
    }

    pub(crate) async fn sync(&self) -> Value {
        self.project.sync("items").await
    }

    /// Syncs, and checks the mode, the rows that were added, changed and removed, and that the table equals its source.
    #[track_caller]
    pub(crate) fn expect(&self, mode: &'static str, counts: [u64; 3]) -> impl Future<Output = Value> {
        let caller = std::panic::Location::caller();
        async move {
            let outcome = self.sync().await;
            let counted = ["rows_inserted", "rows_updated", "rows_deleted"].map(|name| outcome[name].as_u64().unwrap());
            assert_eq!((&outcome["mode"], counted), (&Value::from(mode), counts), "{caller}: {outcome}");
            let verified = self.project.run(&["verify", "items", "--output", "json"]).await.ok().json().remove(0);
            if mode != "noop" {
                assert_eq!(verified["checksum"], outcome["checksum"], "{caller}: the running sum of row hashes");
            }
            assert_eq!(verified["source_version"], self.log.version().to_string(), "{caller}");
            outcome
        }
    }
}

pub(crate) fn reason(outcome: &Value) -> &str {
    outcome["reason"].as_str().unwrap()
}

#[tokio::test]
async fn rows_that_were_added_are_appended() {
    let mut table = Table::new(10).await;
    table.lake.append(vec![LakeTable::numbered(10..13).1]).await;
    let outcome = table.expect("append", [3, 0, 0]).await;
    assert_eq!(reason(&outcome), "the source moved from version 1 to 2: 1 file added");
    assert_eq!((&outcome["generation"], &outcome["publish_no"]), (&Value::from(1), &Value::from(2)));
    assert_eq!(outcome["rows_read"], 3);
}

#[tokio::test]
async fn of_a_rewritten_file_only_the_rows_that_differ_are_written() {
    let mut table = Table::new(100).await;
    table.lake.update("name", "'other'", "id % 10 = 3").await;
    let outcome = table.expect("merge", [0, 10, 0]).await;
    assert_eq!(outcome["rows_unchanged"], 90);
    assert_eq!(reason(&outcome), "the source moved from version 1 to 2: 1 file added, 1 file removed");
    table.lake.delete("id = 5").await;
    table.expect("merge", [0, 0, 1]).await;
    table.lake.upsert(LakeTable::numbered(5..7).1).await;
    table.expect("merge", [1, 0, 0]).await;
}

#[tokio::test]
async fn several_commits_make_one_refresh() {
    let mut table = Table::new(20).await;
    table.lake.append(vec![LakeTable::numbered(20..25).1]).await;
    table.lake.update("name", "'a'", "id = 1 OR id = 21").await;
    table.lake.update("name", "'b'", "id = 1").await;
    table.lake.delete("id = 22").await;
    table.expect("merge", [4, 1, 0]).await;
}

#[tokio::test]
async fn a_change_feed_tells_the_rows_without_reading_the_rest() {
    let mut table = Table::with(1_000, &[("delta.enableChangeDataFeed", "true")], "").await;
    table.lake.update("name", "'other'", "id = 7").await;
    table.lake.delete("id = 8").await;
    table.lake.upsert(LakeTable::numbered(8..9).1).await;
    table.lake.delete("id = 9").await;
    let outcome = table.expect("merge", [0, 1, 1]).await;
    assert!(reason(&outcome).contains("of the change feed"), "{outcome}");
    assert!(outcome["rows_read"].as_u64().unwrap() < 20, "{outcome}");
}

#[tokio::test]
async fn deletion_vectors_tell_the_rows() {
    let mut table = Table::with(1_000, &[("delta.enableDeletionVectors", "true")], "").await;
    table.log.mark_and_add(|id| id == 3 || id == 500, None);
    let outcome = table.expect("merge", [0, 0, 2]).await;
    assert_eq!(reason(&outcome), "the source moved from version 1 to 2: 1 file with other rows marked as deleted");
    assert_eq!(outcome["rows_read"], 2);
    // A row is changed by marking it and writing it anew; more are marked in the same file.
    let (_, batch) = LakeTable::numbered(7..9);
    let names = arrow_array::StringArray::from(vec!["changed", "row 8"]);
    let batch =
        arrow_array::RecordBatch::try_new(batch.schema(), vec![batch.column(0).clone(), std::sync::Arc::new(names)]);
    table.log.mark_and_add(|id| [7, 8, 900].contains(&id), Some(&batch.unwrap()));
    let outcome = table.expect("merge", [0, 1, 1]).await;
    assert_eq!((&outcome["rows_read"], &outcome["rows_unchanged"]), (&Value::from(5), &Value::from(1)));
    // Marks that are taken back bring rows back.
    table.lake.reload().await;
    table.lake.restore(1).await;
    table.expect("merge", [3, 1, 0]).await;
}

#[tokio::test]
async fn moving_rows_between_files_is_no_change() {
    let mut table = Table::new(10).await;
    table.lake.append(vec![LakeTable::numbered(10..20).1]).await;
    table.sync().await;
    table.lake.optimize().await;
    let outcome = table.expect("noop", [0, 0, 0]).await;
    assert_eq!(reason(&outcome), "the source moved from version 2 to 3 without a change of data");
    assert_eq!((&outcome["state"], &outcome["publish_no"]), (&Value::from("skipped"), &Value::from(2)));
    assert_eq!(outcome["rows_read"], 0);
    table.lake.delete("id = 12").await;
    table.expect("merge", [0, 0, 1]).await;
}

#[tokio::test]
async fn an_overwrite_with_the_same_rows_writes_those_that_differ() {
    let mut table = Table::new(100).await;
    table.lake.overwrite(vec![LakeTable::numbered(0..100).1]).await;
    let outcome = table.expect("noop", [0, 0, 0]).await;
    assert!(reason(&outcome).ends_with("no row differs"), "{outcome}");
    assert_eq!(outcome["source_version"], "2");
    table.lake.overwrite(vec![LakeTable::numbered(1..101).1]).await;
    table.expect("merge", [1, 0, 1]).await;
}

#[tokio::test]
async fn readers_see_all_of_a_merge_or_nothing() {
    let mut table = Table::new(10).await;
    let mut reader = table.project.sql().await;
    let before = reader.build_transaction().isolation_level(tokio_postgres::IsolationLevel::RepeatableRead);
    let before = before.start().await.unwrap();
    let count = "SELECT count(*), min(id) FROM lake.items";
    assert_eq!(before.query_one(count, &[]).await.unwrap().get::<_, i64>(0), 10);
    table.lake.overwrite(vec![LakeTable::numbered(5..11).1]).await;
    table.expect("merge", [1, 0, 5]).await;
    assert_eq!(before.query_one(count, &[]).await.unwrap().get::<_, i64>(0), 10, "the state it began with");
    drop(before);
    let row = reader.query_one(count, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (6, 5));
}

#[tokio::test]
async fn changed_keys_are_listed_for_the_caches() {
    let mut table = Table::new(10).await;
    table.lake.delete("id = 1").await;
    table.expect("merge", [0, 0, 1]).await;
    table.lake.append(vec![LakeTable::numbered(20..22).1]).await;
    table.expect("append", [2, 0, 0]).await;
    let sql = table.project.sql().await;
    let lists = "SELECT publish_no, cardinality(key_hashes) FROM lakegate.changed_keys ORDER BY publish_no";
    let lists: Vec<(i64, i32)> =
        sql.query(lists, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(lists, [(2, 1), (3, 2)]);
}

#[tokio::test]
async fn a_new_row_with_the_key_of_another_fails_and_names_the_key() {
    let mut table = Table::new(10).await;
    table.lake.append(vec![LakeTable::numbered(9..11).1]).await;
    let error = table.project.sync_fails("items").await;
    assert_eq!(error["code"], "LG4007");
    assert!(error["detail"].as_str().unwrap().ends_with("(id) of other rows: 9"), "{error}");
    let sql = table.project.sql().await;
    let rows: i64 = sql.query_one("SELECT count(*) FROM lake.items", &[]).await.unwrap().get(0);
    assert_eq!(rows, 10);
    // What the failed run had staged is not in the way of the next one.
    table.lake.overwrite(vec![LakeTable::numbered(0..11).1]).await;
    table.expect("merge", [1, 0, 0]).await;
}

#[tokio::test]
async fn a_row_that_cannot_be_stored_fails_the_refresh_with_its_key() {
    let mut table = Table::new(3).await;
    let (_, batch) = LakeTable::numbered(3..4);
    let names = arrow_array::StringArray::from(vec!["a\0b"]);
    let batch =
        arrow_array::RecordBatch::try_new(batch.schema(), vec![batch.column(0).clone(), std::sync::Arc::new(names)]);
    table.lake.append(vec![batch.unwrap()]).await;
    let error = table.project.sync_fails("items").await;
    assert_eq!(error["code"], "LG3001");
    assert!(error["detail"].as_str().unwrap().contains("id = 3"), "{error}");
    // Where such rows are left out, a snapshot counts them.
    table.declare("on_bad_row: {reject: {max_rows: 5}}\n");
    table.sync().await;
    let (_, batch) = LakeTable::numbered(4..5);
    let names = arrow_array::StringArray::from(vec!["c\0d"]);
    let batch =
        arrow_array::RecordBatch::try_new(batch.schema(), vec![batch.column(0).clone(), std::sync::Arc::new(names)]);
    table.lake.append(vec![batch.unwrap()]).await;
    let outcome = table.sync().await;
    assert_eq!((&outcome["mode"], &outcome["rows_rejected"]), (&Value::from("snapshot"), &Value::from(2)), "{outcome}");
    assert!(reason(&outcome).contains("rows that cannot be stored are among the changes"), "{outcome}");
}

#[tokio::test]
async fn a_table_that_somebody_changed_is_loaded_anew() {
    let mut table = Table::new(10).await;
    let sql = table.project.sql().await;
    sql.batch_execute("DELETE FROM lakegate_data.items__g1 WHERE id = 4").await.unwrap();
    table.lake.update("name", "'x'", "id = 4").await;
    let outcome = table.expect("snapshot", [10, 0, 0]).await;
    assert!(reason(&outcome).contains("1 rows were to go and 1 to come; 0 were there"), "{outcome}");
}

#[tokio::test]
async fn a_changed_value_that_is_to_go_is_noticed() {
    let mut table = Table::new(10).await;
    let sql = table.project.sql().await;
    sql.batch_execute("UPDATE lakegate_data.items__g1 SET name = 'mine' WHERE id = 4").await.unwrap();
    table.lake.update("name", "'x'", "id = 4").await;
    let outcome = table.expect("snapshot", [10, 0, 0]).await;
    assert!(reason(&outcome).ends_with("that were to go are not as the source had them"), "{outcome}");
}

#[tokio::test]
async fn how_a_table_is_served_changes_with_a_merge_or_without_one() {
    let mut table = Table::new(10).await;
    table.lake.delete("id = 1").await;
    table.declare("serve: {hide: [name]}\n");
    table.expect("merge", [0, 0, 1]).await;
    let sql = table.project.sql().await;
    let hidden = async || -> String {
        sql.query_one("SELECT policy ->> 'hide' FROM lakegate.tables", &[]).await.unwrap().get(0)
    };
    assert_eq!(hidden().await, "[\"name\"]");
    table.lake.optimize().await;
    table.lake.overwrite(vec![LakeTable::numbered(0..1).1, LakeTable::numbered(2..10).1]).await;
    table.declare("serve: {hide: []}\n");
    let outcome = table.expect("noop", [0, 0, 0]).await;
    assert_eq!((hidden().await.as_str(), &outcome["publish_no"]), ("[]", &Value::from(3)));
}

#[tokio::test]
async fn a_view_that_is_gone_is_made_anew() {
    let mut table = Table::new(10).await;
    table.project.sql().await.batch_execute("DROP VIEW lake.items").await.unwrap();
    table.lake.delete("id = 1").await;
    let outcome = table.expect("snapshot", [9, 0, 0]).await;
    assert_eq!(reason(&outcome), "the published view has to be made anew");
}

#[tokio::test]
async fn what_cannot_be_followed_is_loaded_anew_and_says_why() {
    let mut table = Table::new(10).await;

    table.lake.overwrite(vec![LakeTable::numbered(1_000..3_000).1]).await;
    let outcome = table.expect("snapshot", [2_000, 0, 0]).await;
    assert!(reason(&outcome).contains("more than 1000 rows differ"), "{outcome}");

    table.declare("columns: {rename: {name: title}}\non_schema_change: follow\n");
    let outcome = table.expect("snapshot", [2_000, 0, 0]).await;
    assert_eq!(reason(&outcome), "the pipeline's definition has changed");
    table.declare("");
    table.declare("columns: {rename: {name: title}}\non_schema_change: follow\nmode: snapshot\n");
    table.lake.delete("id = 1001").await;
    let outcome = table.expect("snapshot", [1_999, 0, 0]).await;
    assert!(reason(&outcome).starts_with("the source moved from version "), "{outcome}");
}

/// So many rows of text that nothing makes shorter that their changes are worth thinking twice about.
fn long_rows(ids: std::ops::Range<i64>) -> RecordBatch {
    let text = |_| uuid::Uuid::new_v4().to_string();
    let columns: [(&str, ArrayRef); 2] = [
        ("id", Arc::new(ids.clone().collect::<Int64Array>())),
        ("name", Arc::new(ids.map(text).map(Some).collect::<StringArray>())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

#[tokio::test]
async fn a_table_that_differs_as_a_whole_each_time_is_not_compared_each_time() {
    const ROWS: i64 = 40_000;
    let mut table = Table::new(1).await;
    table.lake.overwrite(vec![long_rows(0..ROWS)]).await;
    let all = [ROWS as u64, 0, 0];
    let outcome = table.expect("snapshot", all).await;
    assert!(reason(&outcome).ends_with("more than 1000 rows differ"), "{outcome}");
    // A few rows of a file of their own.
    table.lake.append(vec![long_rows(ROWS..ROWS + 10)]).await;
    table.expect("append", [10, 0, 0]).await;
    table.lake.overwrite(vec![long_rows(0..ROWS)]).await;
    let outcome = table.expect("snapshot", all).await;
    assert!(reason(&outcome).ends_with("rows differ"), "a refresh in place came between: {outcome}");
    for _ in 0..3 {
        table.lake.overwrite(vec![long_rows(0..ROWS)]).await;
        let outcome = table.expect("snapshot", all).await;
        let why = "too many rows differed when changes like these were last read";
        assert!(reason(&outcome).ends_with(why), "{outcome}");
    }
    // Then it is tried again.
    table.lake.overwrite(vec![long_rows(0..ROWS)]).await;
    let outcome = table.expect("snapshot", all).await;
    assert!(reason(&outcome).ends_with("rows differ"), "{outcome}");
    // Small changes are applied in place at any time.
    table.lake.append(vec![long_rows(ROWS..ROWS + 20)]).await;
    table.expect("append", [20, 0, 0]).await;
}

#[tokio::test]
async fn a_table_made_anew_at_the_same_place_is_loaded_anew() {
    let mut table = Table::new(10).await;
    let dir = table.project.path("lake/items");
    std::fs::remove_dir_all(&dir).unwrap();
    let (schema, batch) = LakeTable::numbered(0..5);
    table.lake = LakeTable::create(&dir, &schema, vec![batch]).await;
    table.lake.append(vec![LakeTable::numbered(5..6).1]).await;
    let outcome = table.expect("snapshot", [6, 0, 0]).await;
    assert_eq!(reason(&outcome), "the source is another table than the one that was loaded");
}

#[tokio::test]
async fn a_log_that_was_cleaned_up_leads_to_a_snapshot_or_to_a_refusal() {
    let mut table = Table::new(10).await;
    table.lake.append(vec![LakeTable::numbered(10..11).1]).await;
    table.lake.append(vec![LakeTable::numbered(11..12).1]).await;
    table.lake.checkpoint().await;
    for version in 0..=2 {
        std::fs::remove_file(table.project.path(&format!("lake/items/_delta_log/{version:020}.json"))).unwrap();
    }
    table.declare("mode: incremental\n");
    let error = table.project.sync_fails("items").await;
    assert_eq!(error["code"], "LG5011");
    assert!(error["detail"].as_str().unwrap().contains("no longer holds every commit since version 1"), "{error}");
    table.declare("");
    let outcome = table.sync().await;
    assert_eq!((&outcome["mode"], &outcome["rows_inserted"]), (&Value::from("snapshot"), &Value::from(12)));
}

#[tokio::test]
async fn runs_that_nobody_looks_for_any_more_are_removed() {
    let table = Table::new(3).await;
    let sql = table.project.sql().await;
    let control = lakegate::store::Control::new("lakegate");
    let add = "INSERT INTO lakegate.runs (pipeline, state, trigger, finished_at) \
               SELECT 'items', $1, 'schedule', now() - $2::text::interval FROM generate_series(1, 150)";
    for (state, age) in [("failed", "91 days"), ("skipped", "2 days"), ("failed", "89 days"), ("skipped", "1 hour")] {
        sql.execute(add, &[&state, &age]).await.unwrap();
    }
    assert_eq!(control.prune_history(&*sql).await.unwrap(), 300);
    assert_eq!(control.prune_history(&*sql).await.unwrap(), 0);
    let first = sql.query_one("SELECT state FROM lakegate.runs WHERE run = 1", &[]).await.unwrap();
    assert_eq!(first.get::<_, String>(0), "succeeded", "the run whose table is live stays");
}

#[tokio::test]
async fn a_plan_foretells_the_way() {
    let mut items = Items::new("mode: auto\n").await;
    items.lake.append(vec![LakeTable::numbered(3..5).1]).await;
    let plan = items.project.run(&["plan", "items", "--output", "json"]).await.ok().json().remove(0);
    assert_eq!((&plan["mode"], &plan["rows"]), (&Value::from("append"), &Value::from(2)), "{plan}");
    assert_eq!(plan["view"], "left as it is");
    assert_eq!(plan["ddl"].as_array().map(Vec::len), Some(0));
}

#[tokio::test]
async fn a_merged_table_goes_back_and_forth() {
    let mut table = Table::new(10).await;
    table.lake.delete("id = 1").await;
    table.expect("merge", [0, 0, 1]).await;
    table.lake.overwrite(vec![LakeTable::numbered(0..3_000).1]).await;
    table.expect("snapshot", [3_000, 0, 0]).await;
    // The kept generation stands at the version that it was merged to.
    let back = table.project.run(&["rollback", "items", "--to-version", "2", "--output", "json"]).await.ok();
    assert_eq!(back.json()[0]["generation"], 1);
    table.project.run(&["resume", "items"]).await.ok();
    let outcome = table.expect("snapshot", [3_000, 0, 0]).await;
    assert!(reason(&outcome).contains("rows were added than were there") || reason(&outcome).contains("rows differ"));
}
