//! Pinned tables: what a table promises its readers stays so, whatever the lake does.

use std::fs;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use serde_json::Value;

use crate::support::items::Items;

const FILE: &str = "schemas/tables/items.yaml";

async fn pin(items: &Items) -> Value {
    items.project.run(&["pin", "items", "--output", "json"]).await.ok().json().remove(0)
}

fn contract(items: &Items) -> String {
    fs::read_to_string(items.project.path(FILE)).unwrap()
}

/// The columns of the view, in order.
async fn columns(items: &Items) -> Vec<String> {
    let sql = "SELECT attname || ' ' || format_type(atttypid, atttypmod) FROM pg_attribute \
               WHERE attrelid = 'lake.items'::regclass AND attnum > 0 ORDER BY attnum";
    items.project.sql().await.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// The detail of the refusal of a plan and of a sync, neither of which has loaded anything.
async fn refused(items: &Items) -> String {
    let generations = items.generation_tables().await;
    let planned = items.project.run(&["plan", "items", "--output", "json"]).await;
    assert_eq!(planned.code, Some(1), "{planned:?}");
    let error = planned.json().remove(0)["error"].take();
    assert_eq!(error["code"], "LG2017", "{error}");
    assert_eq!(items.project.sync_fails("items").await, error);
    assert_eq!(items.generation_tables().await, generations);
    error["detail"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_pin_writes_what_the_source_has_and_costs_no_load() {
    let items = Items::new("").await;
    let pinned = pin(&items).await;
    assert_eq!((&pinned["file"], &pinned["written"]), (&FILE.into(), &true.into()));
    insta::assert_snapshot!("contract", contract(&items));
    assert_eq!(items.project.sync("items").await["mode"], "noop");
    assert_eq!(pin(&items).await["written"], false);

    let text = items.project.run(&["pin", "items"]).await.ok();
    assert_eq!(text.stdout, "items: schemas/tables/items.yaml promises what the source has already\n");
    let unknown = items.project.run(&["pin", "item", "--output", "json"]).await;
    assert_eq!((unknown.code, unknown.json()[0]["error"]["code"].as_str()), (Some(1), Some("LG1015")));
}

#[tokio::test]
async fn a_table_can_be_pinned_before_it_is_loaded() {
    let items = Items::unsynced("").await;
    pin(&items).await;
    items.project.sync("items").await;
    assert_eq!(columns(&items).await, ["id bigint", "name text"]);
}

#[tokio::test]
async fn further_columns_are_left_out_and_reported_until_they_are_pinned() {
    let mut items = Items::new("").await;
    pin(&items).await;
    items.replace_columns(&["price", "name", "id"]).await;
    let planned = items.project.run(&["plan", "items", "--output", "json"]).await.ok().json().remove(0);
    assert_eq!(planned["warnings"][0], "the source's column `price` is left out: schemas/tables/items.yaml lacks it");
    items.project.sync("items").await;
    assert_eq!(columns(&items).await, ["id bigint", "name text"]);
    items.project.run(&["verify", "items"]).await.ok();

    let again = pin(&items).await;
    assert_eq!(again["changes"][0], "`price` numeric(10,2) not null is new");
    // The source stands where it stood, but the table promises more.
    let synced = items.project.sync("items").await;
    assert_eq!(
        (&synced["mode"], &synced["reason"]),
        (&"snapshot".into(), &"the columns that are taken have changed".into())
    );
    assert_eq!(columns(&items).await, ["id bigint", "name text", "price numeric"]);
}

#[tokio::test]
async fn a_source_that_no_longer_fits_fails_before_the_load() {
    let mut items = Items::new("on_schema_change: follow\n").await;
    pin(&items).await;
    items.replace_columns(&["id"]).await;
    let lacks = "`items`: schemas/tables/items.yaml pins `name`, which the source lacks";
    assert_eq!(refused(&items).await, lacks);
    items.replace_columns(&["id", "name_number"]).await;
    let retyped = "`items`: schemas/tables/items.yaml pins `name` as text, the source has bigint";
    assert_eq!(refused(&items).await, retyped);

    let again = pin(&items).await;
    assert_eq!(again["changes"][0], "`name` was text not null and is bigint not null");
    items.project.sync("items").await;
    assert_eq!(columns(&items).await, ["id bigint", "name bigint"]);
}

#[tokio::test]
async fn what_is_never_null_must_be_declared_so_by_the_source() {
    let mut items = Items::new("").await;
    pin(&items).await;
    let fields = [("id", DataType::Int64, false), ("name", DataType::Utf8, true)];
    let schema = Schema::new(fields.map(|(name, ty, nullable)| Field::new(name, ty, nullable)).to_vec());
    let values: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![0])), Arc::new(StringArray::from(vec!["a"]))];
    items.lake.replace(vec![RecordBatch::try_new(Arc::new(schema), values).unwrap()]).await;
    let detail = "`items`: schemas/tables/items.yaml pins `name` as not null, which the source does not declare";
    assert_eq!(refused(&items).await, detail);

    // A promise of less is kept by a source that declares more.
    items.replace_columns(&["id", "name"]).await;
    let looser = contract(&items).replace("name: text not null", "name: text");
    fs::write(items.project.path(FILE), looser).unwrap();
    items.project.sync("items").await;
    assert_eq!(columns(&items).await, ["id bigint", "name text"]);
}

#[tokio::test]
async fn a_promise_that_takes_a_published_column_away_is_for_on_schema_change_to_allow() {
    let items = Items::new("").await;
    pin(&items).await;
    let shorter = contract(&items).replace("  name: text not null\n", "");
    fs::write(items.project.path(FILE), &shorter).unwrap();
    assert_eq!(items.project.sync_fails("items").await["code"], "LG2015");
    items.pipeline("on_schema_change: follow\n");
    items.project.sync("items").await;
    assert_eq!(columns(&items).await, ["id bigint"]);

    fs::remove_file(items.project.path(FILE)).unwrap();
    items.project.sync("items").await;
    assert_eq!(columns(&items).await, ["id bigint", "name text"], "a table without a promise takes all again");
}

#[tokio::test]
async fn columns_that_were_ignored_arrive_when_the_pipeline_takes_them() {
    let mut items = Items::new("on_schema_change: ignore\n").await;
    items.replace_columns(&["id", "name", "price"]).await;
    items.project.sync("items").await;
    assert_eq!(columns(&items).await, ["id bigint", "name text"]);
    items.pipeline("on_schema_change: add_columns\n");
    items.project.sync("items").await;
    assert_eq!(columns(&items).await, ["id bigint", "name text", "price numeric"]);
}
