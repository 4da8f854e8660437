//! Each kind of check on whole loads, and what is said when it fails.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow_array::types::Int64Type;
use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Int64Array, ListArray, RecordBatch, StructArray,
};
use arrow_schema::{DataType, Field};
use serde_json::{Value, json};

use super::{THREE, Table};
use crate::support::http::get;
use crate::support::lake::LakeTable;
use crate::support::shown::refusal;

/// Rows with a null, a repeated value and a value that is seldom right.
const ODD: &[super::Row] = &[(1, Some("a")), (2, None), (3, Some("b")), (4, Some("a")), (5, None), (6, Some("it's"))];

const FAILING: [&str; 14] = [
    "row_count: {min: 7}",
    "row_count: {max: 5}",
    "not_null: [name]",
    "unique: [name]",
    "unique: [id, [name]]",
    "accepted_values: {name: [b, \"it's\"]}",
    "accepted_values: {id: [1, 2, 3, 4, 5]}",
    "sql: [SELECT id FROM items WHERE id > 4]",
    "sql: [SELECT id AS number FROM items]",
    "sql: [{name: none of b, query: \"SELECT name, NULL AS nothing FROM items WHERE name = 'b'\"}]",
    "sql: [SELECT 1 WHERE false, SELECT 1 WHERE true]",
    "sql: [SELECT FROM items WHERE id = 1]",
    "sql: [\"WITH a AS (SELECT max(id) AS most FROM items) SELECT * FROM a, items WHERE most = id; -- the last\"]",
    "{row_count: {min: 9, max: 9}, not_null: [name], unique: [name], accepted_values: {name: [a]}, sql: [TABLE items]}",
];

const PASSING: [&str; 7] = [
    "row_count: {min: 6, max: 6, max_change_percent: 0}",
    "not_null: [id]",
    "unique: [id, [name, id], [id, name]]",
    // Null is always accepted.
    "accepted_values: {name: [a, b, \"it's\"], id: [1, 2, 3, 4, 5, 6]}",
    "sql: [SELECT id FROM items WHERE id > 6]",
    "sql: [SELECT name FROM items WHERE name IS NOT NULL GROUP BY name HAVING count(*) > 2;]",
    "sql: [\"SELECT 1 FROM items WHERE false -- a comment\"]",
];

fn declared(checks: &str) -> String {
    let begin = if checks.starts_with('{') { "checks: " } else { "checks:\n  " };
    format!("{begin}{checks}")
}

#[tokio::test]
async fn a_first_load_that_fails_a_check_is_not_published_and_says_what_was_found() {
    let table = Table::unsynced(ODD, "").await;
    let mut said = String::new();
    for checks in FAILING {
        table.declare(&declared(checks));
        let detail = match checks {
            // What a file ends with belongs to the query.
            checks if checks.ends_with("-- the last\"]") => {
                let detail = table.fails("LG5013").await;
                detail.strip_prefix("`checks` of `items`: ").unwrap().to_owned()
            }
            _ => table.fails("LG5012").await.strip_prefix("`items` at version 1 of its source: ").unwrap().to_owned(),
        };
        writeln!(said, "{checks}\n    {detail}").unwrap();
    }
    insta::assert_snapshot!(said);
    let sql = table.project.sql().await;
    assert!(sql.query_one("SELECT to_regclass('lake.items') IS NULL", &[]).await.unwrap().get::<_, bool>(0));
    let left = "SELECT FROM pg_class WHERE relnamespace = 'lakegate_data'::regnamespace AND relkind = 'r'";
    assert_eq!(sql.query(left, &[]).await.unwrap().len(), 0, "what had been loaded is gone");
}

#[tokio::test]
async fn a_load_that_passes_is_published() {
    let table = Table::unsynced(ODD, "").await;
    for checks in PASSING {
        table.declare(&declared(checks));
        let outcome = table.project.run(&["sync", "items", "--full", "--output", "json"]).await.ok().json().remove(0);
        assert_eq!((&outcome["mode"], &outcome["checks_overridden"]), (&json!("snapshot"), &Value::Null), "{checks}");
    }
    table.shows(ODD).await;
}

#[tokio::test]
async fn a_person_reads_which_check_failed_and_what_to_do() {
    let table = Table::unsynced(ODD, "checks: {row_count: {min: 100}, not_null: [name]}").await;
    let ran = table.project.run(&["sync"]).await;
    insta::assert_snapshot!("failed", refusal(&table.project, &ran, &[]));
    table.declare("checks: {not_null: [nam], sql: [SELECT nam FROM items]}");
    let ran = table.project.run(&["plan"]).await;
    insta::assert_snapshot!("invalid", refusal(&table.project, &ran, &[]));
}

#[tokio::test]
async fn a_refresh_that_fails_leaves_the_old_state_to_all_readers() {
    let checks = "mode: snapshot\nchecks: {accepted_values: {name: [a, b, c]}}";
    let mut table = Table::new(THREE, checks).await;
    let server = table.project.start("serve").await;
    table.lake.update("name", "'z'", "id = 2").await;
    let detail = table.fails("LG5012").await;
    assert!(detail.ends_with("accepted_values: `name`: another value in 1 row, by (id): (2) is \"z\""), "{detail}");
    table.shows(THREE).await;
    let reply = get(server.address, "/v1/items/2").await;
    assert_eq!((reply.data(), reply.header("Lakegate-Version")), (json!([{"id": 2, "name": "b"}]), Some("1")));
    let run = table.last_run().await;
    assert_eq!((&run["state"], &run["error"]["code"]), (&json!("failed"), &json!("LG5012")), "{run}");
    // Nothing of it stands in the way of a state that passes.
    table.lake.update("name", "'c'", "id = 2").await;
    table.syncs("snapshot").await;
    table.shows(&[(1, Some("a")), (2, Some("c")), (3, Some("c"))]).await;
}

#[tokio::test]
async fn the_number_of_rows_may_change_by_a_share_of_what_is_published() {
    let checks = "mode: snapshot\nchecks: {row_count: {max_change_percent: 34}}";
    let mut table = Table::new(THREE, checks).await;
    table.lake.append(vec![super::batch(&[(4, None)])]).await;
    table.syncs("snapshot").await;
    table.lake.append(vec![super::batch(&[(5, None), (6, None)])]).await;
    let detail = table.fails("LG5012").await;
    let found = "row_count.max_change_percent: 6 rows instead of 4, a change of 50.00 %, at most 34 % wanted";
    assert!(detail.ends_with(found), "{detail}");
    table.lake.delete("id = 5 OR id = 6 OR id < 3").await;
    assert!(table.fails("LG5012").await.contains(": 2 rows instead of 4, a change of 50.00 %"));
}

#[tokio::test]
async fn changed_checks_alone_are_no_reason_for_a_run() {
    let mut table = Table::new(THREE, "").await;
    table.declare("checks: {row_count: {min: 100}, not_null: [name]}");
    table.syncs("noop").await;
    table.lake.optimize().await;
    table.lake.append(vec![super::batch(&[(4, Some("d"))])]).await;
    assert!(table.fails("LG5012").await.contains("row_count.min: 4 rows, at least 100 wanted"));
    table.declare("checks: {not_null: [name]}");
    table.syncs("append").await;
}

#[tokio::test]
async fn names_and_values_may_be_odd() {
    let odd = "columns: {rename: {name: 'we\"ird co''l$$\\'}}\n";
    let table = Table::unsynced(&[(1, Some("a'b\\c\"d")), (2, Some("x'; SELECT 1; --"))], "").await;
    let column = r#"'we"ird co''l$$\'"#;
    let all = r#"["a'b\\c\"d", "x'; SELECT 1; --"]"#;
    let checks = |values: &str| {
        format!(
            "{odd}checks:\n  not_null: [{column}]\n  unique: [[{column}, id], {column}]\n  accepted_values: {{{column}: \
             {values}}}\n  sql: ['SELECT \"we\"\"ird co''''l$$\\\" FROM items WHERE id > 2']"
        )
    };
    let checks = |values: &str| checks(values).replace("co''''l", "co''l");
    table.declare(&checks(all));
    table.syncs("snapshot").await;
    table.declare(&checks("[x]"));
    let ran = table.project.run(&["sync", "items", "--full", "--output", "json"]).await;
    insta::assert_snapshot!("odd_names", ran.json()[0]["error"]["detail"].as_str().unwrap());
}

#[tokio::test]
async fn values_are_compared_as_the_type_of_their_column_has_it() {
    let project = crate::support::project::TestProject::new().await;
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let prices = Decimal128Array::from(vec![Some(150), None]).with_precision_and_scale(10, 2).unwrap();
    let days: ArrayRef = Arc::new(Date32Array::from(vec![19_782, 19_783]));
    let flags: ArrayRef = Arc::new(BooleanArray::from(vec![true, true]));
    let tags = ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1), None]), Some([Some(2), Some(3)])]);
    let nested = StructArray::from(vec![(Arc::new(Field::new("a", DataType::Int64, false)), Arc::clone(&ids))]);
    let columns: [(&str, ArrayRef); 6] = [
        ("id", ids),
        ("price", Arc::new(prices)),
        ("day", days),
        ("flag", flags),
        ("tags", Arc::new(tags)),
        ("nested", Arc::new(nested)),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut lake = LakeTable::create(&project.path("lake/items"), &batch.schema(), vec![batch]).await;
    let declare = |checks: &str| {
        project.pipeline("items", &format!("source: lake/items\nprimary_key: [id]\nchecks:\n  {checks}\n"));
    };
    let accepted = "accepted_values: {id: [1, \"2\"], price: [1.5, 2], day: [2024-02-29, 2024-03-01], flag: [true], \
                    tags: [\"{1,null}\", \"{2, 3}\"], nested: ['{\"a\": 1}', '{\"a\":2}']}";
    declare(&format!("{accepted}\n  unique: [price, day, tags, nested, [flag, day]]\n  not_null: [nested, tags]"));
    project.sync("items").await;
    lake.update("flag", "false", "id = 2").await;
    lake.update("price", "1.5", "id = 2").await;
    lake.update("day", "CAST('2024-02-29' AS DATE)", "id = 2").await;
    let error = project.sync_fails("items").await;
    insta::assert_snapshot!("typed_values", error["detail"].as_str().unwrap());
}

#[tokio::test]
async fn an_empty_source_never_wipes_a_table_whatever_is_ignored() {
    for mode in ["mode: snapshot", "mode: auto"] {
        let mut table = Table::new(THREE, mode).await;
        // Several commits of deletes, none of which alone empties it.
        table.lake.delete("id = 1").await;
        table.lake.delete("id > 1").await;
        table.fails("LG2014").await;
        let ran = table.project.run(&["sync", "items", "--ignore-checks", "--output", "json"]).await;
        assert_eq!(ran.json()[0]["error"]["code"], "LG2014", "{mode}: {ran:?}");
        let ran = table.project.run(&["sync", "items", "--full", "--ignore-checks", "--output", "json"]).await;
        assert_eq!(ran.json()[0]["error"]["code"], "LG2014", "{mode}: {ran:?}");
        table.shows(THREE).await;
        table.declare(&format!("{mode}\nallow_empty: true"));
        table.project.sync("items").await;
        table.shows(&[]).await;
    }
}
