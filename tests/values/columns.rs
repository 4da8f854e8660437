//! `columns`, `indexes`, and what Postgres is told of the columns.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, Date32Array, Decimal128Array, Float64Array, Int32Array, RecordBatch, StringArray};
use arrow_schema::{Field, Schema};

use super::{items, longs, texts, texts_of};
use crate::support::lake::LakeTable;
use crate::support::project::TestProject;

const COLUMNS: &str = "SELECT attname || ' ' || format_type(atttypid, atttypmod) FROM pg_attribute \
                       WHERE attrelid = 'lake.items'::regclass AND attnum > 0 ORDER BY attnum";

fn prices() -> ArrayRef {
    Arc::new(Decimal128Array::from(vec![1_999, -5]).with_precision_and_scale(15, 2).unwrap())
}

fn many() -> Vec<(&'static str, ArrayRef)> {
    vec![
        ("Order ID", longs([1, 2])),
        ("price", prices()),
        ("sku", texts(["0012", "7"])),
        ("payload", texts([r#"{"b": 1.50, "a": null}"#, "[]"])),
        ("day", Arc::new(Date32Array::from(vec![19_782, 19_783])) as ArrayRef),
        ("secret", texts(["x", "y"])),
    ]
}

#[tokio::test]
async fn columns_are_taken_renamed_and_cast_as_declared() {
    let rules = "primary_key: [id]\n\
                 columns:\n  exclude: [secret]\n  rename: {Order ID: id, day: ordered at}\n  \
                 types: {Order ID: \"numeric(10,0)\", price: text, sku: integer, payload: jsonb, day: timestamp}\n";
    let project = items(many(), rules).await;
    project.sync("items").await;
    assert_eq!(
        texts_of(&project, COLUMNS).await,
        ["id numeric", "price text", "sku integer", "payload jsonb", "ordered at timestamp without time zone"]
    );
    assert_eq!(
        texts_of(&project, "SELECT i::text FROM lake.items i ORDER BY id").await,
        [
            r#"(1,19.99,12,"{""a"": null, ""b"": 1.50}","2024-02-29 00:00:00")"#,
            r#"(2,-0.05,7,[],"2024-03-01 00:00:00")"#,
        ]
    );
}

#[tokio::test]
async fn only_included_columns_are_taken() {
    let project = items(many(), "primary_key: [Order ID]\ncolumns: {include: [sku, Order ID]}\n").await;
    project.sync("items").await;
    assert_eq!(texts_of(&project, COLUMNS).await, ["Order ID bigint", "sku text"]);
    let got = project.run(&["get", "items", "2"]).await.ok();
    assert_eq!(got.json()[0]["data"], serde_json::json!([{ "Order ID": 2, "sku": "7" }]));
}

#[tokio::test]
async fn a_rule_for_a_column_that_is_not_there_is_refused_with_the_nearest_name() {
    let project = items(many(), "primary_key: [Order ID]\ncolumns: {exclude: [secrets]}\n").await;
    let error = project.sync_fails("items").await;
    assert_eq!(error["code"], "LG2008", "{error}");
    assert!(error["hint"].as_str().unwrap().contains("did you mean `secret`?"), "{error}");
}

#[tokio::test]
async fn a_float_key_is_refused_and_so_is_a_cast_that_is_not_exact() {
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.0]));
    let project = items(vec![("id", floats.clone())], "primary_key: [id]\n").await;
    assert_eq!(project.sync_fails("items").await["code"], "LG4019");
    let project = items(
        vec![("id", longs([1, 2])), ("value", floats)],
        "primary_key: [id]\ncolumns: {types: {value: integer}}\n",
    )
    .await;
    assert_eq!(project.sync_fails("items").await["code"], "LG3009");
}

#[tokio::test]
async fn the_key_and_the_declared_indexes_bear_the_generations_number() {
    let rules = "primary_key: [sku, Order ID]\nindexes: [day, [price, day]]\n";
    let project = items(many(), rules).await;
    let generation = project.sync("items").await["generation"].to_string();
    let indexes = texts_of(
        &project,
        "SELECT regexp_replace(indexdef, ' ON .* USING ', ' ') FROM pg_indexes WHERE schemaname = 'lakegate_data' \
         ORDER BY indexname",
    )
    .await;
    assert_eq!(
        indexes,
        [
            format!("CREATE INDEX g{generation}_i1 btree (day)"),
            format!("CREATE INDEX g{generation}_i2 btree (price, day)"),
            format!("CREATE UNIQUE INDEX g{generation}_pk btree (sku, \"Order ID\")"),
        ]
    );
    let constraint = "SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'p' \
                      AND connamespace = 'lakegate_data'::regnamespace";
    let expected = format!("g{generation}_pk PRIMARY KEY (sku, \"Order ID\")");
    assert_eq!(texts_of(&project, constraint).await, [expected]);
    let key_collation = "SELECT collname::text FROM pg_attribute a JOIN pg_collation c ON c.oid = attcollation \
                         WHERE attrelid = 'lake.items'::regclass AND attname = 'sku'";
    assert_eq!(texts_of(&project, key_collation).await, ["C"]);
}

#[tokio::test]
async fn an_index_on_a_column_that_is_not_there_is_refused() {
    let project = items(many(), "primary_key: [Order ID]\nindexes: [dya]\n").await;
    let error = project.sync_fails("items").await;
    assert_eq!(error["code"], "LG2008", "{error}");
}

#[tokio::test]
async fn comments_tell_the_lakes_words_and_the_precision_that_types_leave_out() {
    let comment = |text: &str| HashMap::from([("comment".to_owned(), text.to_owned())]);
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", arrow_schema::DataType::Int32, false),
        Field::new("price", arrow_schema::DataType::Decimal128(15, 2), true).with_metadata(comment("in euros")),
        Field::new("tax", arrow_schema::DataType::Decimal128(15, 2), true),
        Field::new("name", arrow_schema::DataType::Utf8, true).with_metadata(comment("it's a name")),
    ]));
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int32Array::from(vec![1, 2])), prices(), prices(), Arc::new(StringArray::from(vec!["a", "b"]))];
    let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
    let project = TestProject::new().await;
    let _lake = LakeTable::create(&project.path("lake/items"), &schema, vec![batch]).await;
    project.pipeline("items", "source: lake/items\nprimary_key: [id]\n");
    project.sync("items").await;
    for relation in ["lake.items", "lakegate_data.items__g1"] {
        let comments = format!(
            "SELECT attname || ': ' || col_description(attrelid, attnum) FROM pg_attribute \
             WHERE attrelid = '{relation}'::regclass AND col_description(attrelid, attnum) IS NOT NULL ORDER BY attnum"
        );
        assert_eq!(
            texts_of(&project, &comments).await,
            ["price: numeric(15,2): in euros", "tax: numeric(15,2)", "name: it's a name"],
            "{relation}"
        );
    }
    assert_eq!(texts_of(&project, COLUMNS).await, ["id integer", "price numeric", "tax numeric", "name text"]);
}
