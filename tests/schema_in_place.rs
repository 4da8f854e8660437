//! Columns that are added to a table that is refreshed in place: the generation gets them, and its rows stay.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use lakegate::failpoint::{AFTER_EXTEND, BEFORE_PUBLISH_COMMIT};
use serde_json::{Value, json};

use crate::incremental::{Table, reason};
use crate::support::lake::LakeTable;
use crate::support::process::Process;

/// Rows with the further column `extra`.
fn with_extra(rows: std::ops::Range<i64>) -> RecordBatch {
    let (_, batch) = LakeTable::numbered(rows.clone());
    let extra: ArrayRef = Arc::new(rows.map(|id| (id % 2 == 0).then_some(id * 10)).collect::<Int64Array>());
    let columns =
        [("id", batch.column(0).clone(), false), ("name", batch.column(1).clone(), false), ("extra", extra, true)];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

async fn text(table: &Table, sql: &str) -> String {
    table.project.sql().await.query_one(sql, &[]).await.unwrap().get(0)
}

const ROWS: &str =
    "SELECT string_agg(concat_ws(':', name, coalesce(extra::text, 'null')), ' ' ORDER BY id) FROM lake.items";

/// Writes a commit that changes nothing but the columns: each a name, an id and a place in the files.
fn set_columns(table: &Table, columns: &[(&str, i64, &str)]) {
    let fields: Vec<Value> = columns
        .iter()
        .map(|(name, id, place)| {
            json!({
                "name": name, "type": if *name == "id" { "long" } else { "string" }, "nullable": *name != "id",
                "metadata": {"delta.columnMapping.id": id, "delta.columnMapping.physicalName": place},
            })
        })
        .collect();
    let mut metadata = table.log.actions(0).into_iter().find_map(|action| action.get("metaData").cloned()).unwrap();
    metadata["schemaString"] = json!(json!({"type": "struct", "fields": fields}).to_string());
    metadata["configuration"] = json!({"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "9"});
    table
        .log
        .commit(&[json!({"protocol": {"minReaderVersion": 2, "minWriterVersion": 5}}), json!({"metaData": metadata})]);
}

#[tokio::test]
async fn rows_with_a_new_column_are_added_to_the_generation_that_is_there() {
    let mut table = Table::new(4).await;
    let session = table.project.sql().await;
    session
        .batch_execute("CREATE VIEW names AS SELECT id, name FROM lake.items; CREATE ROLE schema_reader_1")
        .await
        .unwrap();
    session.batch_execute("GRANT SELECT ON lake.items TO schema_reader_1").await.unwrap();
    table.lake.append_columns(vec![with_extra(4..6)]).await;

    let planned = table.project.run(&["plan", "items", "--output", "json"]).await.ok().json().remove(0);
    assert_eq!((&planned["mode"], &planned["view"]), (&json!("append"), &json!("replaced in place")));
    let ddl: Vec<&str> = planned["ddl"].as_array().unwrap().iter().map(|sql| sql.as_str().unwrap()).collect();
    assert_eq!(ddl[0], "ALTER TABLE \"lakegate_data\".\"items__g1\" ADD COLUMN \"extra\" bigint");
    assert!(
        ddl[1].starts_with("CREATE OR REPLACE VIEW \"lake\".\"items\" AS SELECT \"id\", \"name\", \"extra\""),
        "{ddl:?}"
    );

    let outcome = table.expect("append", [2, 0, 0]).await;
    assert_eq!(outcome["generation"], 1);
    assert_eq!(text(&table, ROWS).await, "row 0:null row 1:null row 2:null row 3:null row 4:40 row 5:null");
    assert_eq!(text(&table, "SELECT count(*)::text FROM names").await, "6", "what depends on the view stays");
    let granted = "SELECT has_table_privilege('schema_reader_1', 'lake.items', 'SELECT')::text";
    assert_eq!(text(&table, granted).await, "true");
    let got = table.project.run(&["get", "items", "4", "--output", "json"]).await.ok().json().remove(0);
    assert_eq!(got["data"][0], json!({"id": 4, "name": "row 4", "extra": 40}));

    // Values in the column come, change and go like all others.
    table.lake.reload().await;
    table.lake.update("extra", "id", "id < 2").await;
    table.expect("merge", [0, 2, 0]).await;
    table.lake.update("extra", "NULL", "id = 1").await;
    table.lake.delete("id = 5").await;
    table.expect("merge", [0, 1, 1]).await;
    assert_eq!(text(&table, ROWS).await, "row 0:0 row 1:null row 2:null row 3:null row 4:40");
}

#[tokio::test]
async fn columns_that_come_without_rows_are_published_alone() {
    let table = Table::new(4).await;
    set_columns(&table, &[("id", 1, "id"), ("name", 2, "name")]);
    let renumbered = table.sync().await;
    assert_eq!(renumbered["mode"], "snapshot", "columns are found in another way from now on: {renumbered}");
    set_columns(&table, &[("id", 1, "id"), ("name", 2, "name"), ("note", 3, "col-3")]);
    let outcome = table.expect("merge", [0, 0, 0]).await;
    assert!(reason(&outcome).ends_with("other columns, and no change of data"), "{outcome}");
    assert_eq!(text(&table, "SELECT count(*)::text FROM lake.items WHERE note IS NULL").await, "4");
}

#[tokio::test]
async fn tables_that_keep_the_newest_row_of_a_key_get_columns_too() {
    let mut table = Table::with(4, &[], "on_duplicate_key: {latest_by: name}\n").await;
    let mut metadata = table.log.actions(0).into_iter().find_map(|action| action.get("metaData").cloned()).unwrap();
    let mut columns: Value = serde_json::from_str(metadata["schemaString"].as_str().unwrap()).unwrap();
    let extra = json!({"name": "extra", "type": "long", "nullable": true, "metadata": {}});
    columns["fields"].as_array_mut().unwrap().push(extra);
    metadata["schemaString"] = json!(columns.to_string());
    table.log.commit(&[json!({"metaData": metadata})]);
    let outcome = table.sync().await;
    assert_eq!((&outcome["mode"], &outcome["generation"]), (&json!("merge"), &json!(1)), "{outcome}");
    table.lake.reload().await;
    table.lake.append(vec![with_extra(4..6)]).await;
    let outcome = table.sync().await;
    assert_eq!((&outcome["mode"], &outcome["generation"]), (&json!("merge"), &json!(1)), "{outcome}");
    assert_eq!(text(&table, ROWS).await, "row 0:null row 1:null row 2:null row 3:null row 4:40 row 5:null");
}

#[tokio::test]
async fn a_column_that_took_the_place_of_another_of_its_name_is_loaded() {
    let table = Table::new(2).await;
    let first = [("id", 1, "id"), ("name", 2, "name")];
    set_columns(&table, &first);
    table.sync().await;
    // Dropped and added again: its old values are gone.
    set_columns(&table, &[("id", 1, "id"), ("name", 3, "col-3")]);
    let outcome = table.sync().await;
    assert_eq!((&outcome["mode"], &outcome["rows_inserted"]), (&json!("snapshot"), &json!(2)), "{outcome}");
    assert_eq!(text(&table, "SELECT count(*)::text FROM lake.items WHERE name IS NULL").await, "2");
}

#[tokio::test]
async fn a_renamed_column_is_followed_by_a_load_alone() {
    let table = Table::with(2, &[], "on_schema_change: follow\n").await;
    set_columns(&table, &[("id", 1, "id"), ("name", 2, "name")]);
    table.sync().await;
    set_columns(&table, &[("id", 1, "id"), ("title", 2, "name")]);
    let outcome = table.sync().await;
    assert_eq!(outcome["mode"], "snapshot", "{outcome}");
    assert_eq!(text(&table, "SELECT string_agg(title, ',' ORDER BY id) FROM lake.items").await, "row 0,row 1");
}

#[tokio::test]
async fn a_column_that_is_left_out_costs_no_load() {
    let mut table = Table::with(4, &[], "on_schema_change: ignore\n").await;
    table.lake.append_columns(vec![with_extra(4..5)]).await;
    let plan = table.project.run(&["plan", "items", "--output", "json"]).await.ok().json().remove(0);
    let warning = "the source's new column `extra` is left out (`on_schema_change: ignore`)";
    assert_eq!(plan["warnings"], json!([warning]));
    table.expect("append", [1, 0, 0]).await;
    table.lake.delete("id = 4").await;
    table.expect("merge", [0, 0, 1]).await;
    // Taken later, it has values that no row here has.
    table.declare("on_schema_change: add_columns\n");
    table.lake.append(vec![with_extra(6..7)]).await;
    let outcome = table.expect("snapshot", [5, 0, 0]).await;
    assert!(reason(&outcome).ends_with("the columns of the source have changed"), "{outcome}");
    assert_eq!(text(&table, ROWS).await, "row 0:null row 1:null row 2:null row 3:null row 6:60");
}

#[tokio::test]
async fn a_run_that_dies_after_the_column_was_added_leaves_nothing_in_the_way() {
    let mut table = Table::new(4).await;
    table.lake.append_columns(vec![with_extra(4..6)]).await;
    for place in [AFTER_EXTEND, BEFORE_PUBLISH_COMMIT] {
        let mut command = table.project.command(&["sync", "items"]);
        command.env("LAKEGATE_TEST_STOP_AT", place);
        Process::start(command).stopped().await.kill().await;
        let shown = "SELECT count(*)::text FROM information_schema.columns WHERE table_schema = 'lake'";
        assert_eq!(text(&table, shown).await, "2", "{place}");
    }
    // What is there by now is of another type.
    let other = "ALTER TABLE lakegate_data.items__g1 DROP COLUMN extra, ADD COLUMN extra text";
    table.project.sql().await.batch_execute(other).await.unwrap();
    table.expect("append", [2, 0, 0]).await;
    assert_eq!(text(&table, ROWS).await, "row 0:null row 1:null row 2:null row 3:null row 4:40 row 5:null");
}

#[tokio::test]
async fn a_reader_that_holds_the_table_is_waited_for_and_named() {
    let mut table = Table::with(4, &[], "publish_timeout: 1s\n").await;
    table.lake.append_columns(vec![with_extra(4..6)]).await;
    let reader = table.project.sql().await;
    reader.batch_execute("BEGIN; SELECT count(*) FROM lake.items").await.unwrap();
    let error = table.project.sync_fails("items").await;
    assert_eq!(error["code"], "LG5003", "{error}");
    assert!(error["detail"].as_str().unwrap().contains("session "), "{error}");
    reader.batch_execute("COMMIT").await.unwrap();
    table.expect("append", [2, 0, 0]).await;
}
