//! Checks of refreshes in place: within the transaction, and only as far as the changes reach.

use serde_json::{Value, json};

use super::{THREE, Table, batch};
use crate::support::http::get;

const ALL_KINDS: &str = "checks:\n  row_count: {min: 2, max: 5, max_change_percent: 40}\n  not_null: [name]\n  unique: \
                         [name]\n  accepted_values: {name: [a, b, c, d, e, f]}\n  sql: [\"SELECT * FROM items WHERE name = \
                         'f' AND (SELECT count(*) FROM items) > 3\"]";

#[tokio::test]
async fn appended_rows_are_checked() {
    let mut table = Table::new(THREE, ALL_KINDS).await;
    let server = table.project.start("serve").await;
    for (row, found) in [
        ((4, None), "not_null: `name` is null in 1 row, by (id): (4)"),
        ((4, Some("x")), "accepted_values: `name`: another value in 1 row, by (id): (4) is \"x\""),
        ((4, Some("b")), "unique: (name) has 1 value that several rows share: (b) in 2 rows"),
        ((4, Some("f")), "sql: query 1: returned 1 row: (id = 4, name = f)"),
    ] {
        let before = table.lake.version();
        table.lake.append(vec![batch(&[row])]).await;
        let detail = table.fails("LG5012").await;
        assert!(detail.ends_with(&format!("of its source: {found}")), "{detail}");
        assert_eq!(table.last_run().await["mode"], "append");
        table.shows(THREE).await;
        assert_eq!(get(server.address, "/v1/items/4").await.status, 404);
        table.lake.restore(before).await;
    }
    table.lake.append(vec![batch(&[(4, Some("d"))])]).await;
    table.project.sync("items").await;
    assert_eq!(get(server.address, "/v1/items/4").await.data(), json!([{"id": 4, "name": "d"}]));
}

#[tokio::test]
async fn merged_rows_are_checked() {
    let mut table = Table::new(THREE, ALL_KINDS).await;
    for (value, found) in [
        ("NULL", "not_null: `name` is null in 1 row, by (id): (2)"),
        ("'x'", "accepted_values: `name`: another value in 1 row, by (id): (2) is \"x\""),
        ("'a'", "unique: (name) has 1 value that several rows share: (a) in 2 rows"),
    ] {
        let before = table.lake.version();
        table.lake.update("name", value, "id = 2").await;
        let detail = table.fails("LG5012").await;
        assert!(detail.ends_with(&format!("of its source: {found}")), "{detail}");
        assert_eq!(table.last_run().await["mode"], "merge");
        table.shows(THREE).await;
        table.lake.restore(before).await;
    }
    // Two rows trade their values: neither state has a value twice.
    table.lake.overwrite(vec![batch(&[(1, Some("b")), (2, Some("a")), (3, Some("c"))])]).await;
    table.syncs("merge").await;
    // Rows that go make a difference to counts alone.
    table.lake.delete("id > 1").await;
    let detail = table.fails("LG5012").await;
    let found = "row_count.min: 1 row, at least 2 wanted; row_count.max_change_percent: 1 row instead of 3, a change of \
                 66.67 %, at most 40 % wanted";
    assert!(detail.ends_with(found), "{detail}");
    table.shows(&[(1, Some("b")), (2, Some("a")), (3, Some("c"))]).await;
}

#[tokio::test]
async fn rows_that_passed_and_stay_are_not_looked_at_again() {
    let mut table = Table::new(THREE, "checks: {not_null: [name], accepted_values: {name: [a, b, c, d]}}").await;
    let sql = table.project.sql().await;
    sql.batch_execute("UPDATE lakegate_data.items__g1 SET name = NULL WHERE id = 1").await.unwrap();
    table.lake.append(vec![batch(&[(4, Some("d"))])]).await;
    table.syncs("append").await;
    table.lake.update("name", "'c'", "id = 2").await;
    table.syncs("merge").await;
}

#[tokio::test]
async fn a_new_check_is_asked_of_all_rows_once() {
    let mut table = Table::new(&[(1, None), (2, Some("b"))], "").await;
    table.declare("checks: {not_null: [name]}");
    // A run that finds nothing to do asks nothing.
    table.syncs("noop").await;
    table.lake.append(vec![batch(&[(3, Some("c"))])]).await;
    assert!(table.fails("LG5012").await.ends_with("not_null: `name` is null in 1 row, by (id): (1)"));
    table.lake.update("name", "'a'", "id = 1").await;
    table.syncs("merge").await;
    // From here on the rows that come are enough.
    let noted = "SELECT checks FROM lakegate.generations ORDER BY generation DESC LIMIT 1";
    let noted: String = table.project.sql().await.query_one(noted, &[]).await.unwrap().get(0);
    let noted: Value = serde_json::from_str(&noted).unwrap();
    assert_eq!(noted["not_null"], json!(["name"]));
}

#[tokio::test]
async fn a_check_that_fails_leads_to_no_snapshot() {
    let mut table = Table::new(THREE, "checks: {row_count: {max: 3}}").await;
    table.lake.append(vec![batch(&[(4, None)])]).await;
    table.fails("LG5012").await;
    table.fails("LG5012").await;
    let run = table.last_run().await;
    assert_eq!((&run["mode"], &run["generation"]), (&json!("append"), &Value::Null), "{run}");
}
