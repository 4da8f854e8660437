//! Pages: rows under the first parts of a composite key.

use lakegate::domain::{ColumnType, ScalarType};
use serde_json::{Value, json};

use crate::support::http::{Reply, get};
use crate::support::postgres::TestDatabase;
use crate::support::published::{Publisher, Running, Table, settings};

const INT: ColumnType = ColumnType::Scalar(ScalarType::Int32);
const TEXT: ColumnType = ColumnType::Scalar(ScalarType::Text);
const NUMERIC: ColumnType = ColumnType::Scalar(ScalarType::Numeric { precision: 9, scale: 1 });

/// `lines(region, ord, line, v)`, key `region, ord, line`: two regions with 4 × 3 rows each.
const ROWS: &str = "SELECT r, o / 2.0, chr(66 + l * 31), r || o || l \
                    FROM unnest(ARRAY['eu', 'us']) r, generate_series(1, 4) o, generate_series(0, 2) l";

fn lines() -> Table {
    let columns = [("region", TEXT), ("ord", NUMERIC), ("line", TEXT), ("v", TEXT)];
    Table::new("lines", &columns, &["region", "ord", "line"])
}

async fn lines_server(database: &TestDatabase) -> (Publisher, Running) {
    let publisher = Publisher::new(database).await;
    publisher.publish(&lines(), "1", ROWS).await;
    (publisher, Running::start(settings(), database.connector()).await)
}

fn next(reply: &Reply) -> Option<String> {
    reply.json()["next"].as_str().map(str::to_owned)
}

fn values(reply: &Reply) -> Vec<String> {
    let rows = reply.data();
    rows.as_array().unwrap().iter().map(|row| row["v"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_rows_under_a_prefix_come_in_the_order_of_the_key() {
    let database = TestDatabase::new().await;
    let (publisher, running) = lines_server(&database).await;
    let reply = get(running.server.addr, "/v1/lines/eu").await;
    let sorted = "SELECT v FROM lakegate_data.lines__g1 WHERE region = 'eu' ORDER BY ord, line COLLATE \"C\"";
    let expected: Vec<String> =
        publisher.session.query(sorted, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!((reply.status, values(&reply), next(&reply)), (200, expected, None));
    let reply = get(running.server.addr, "/v1/lines/eu/0.50").await;
    assert_eq!(values(&reply), ["eu10", "eu11", "eu12"]);
    assert_eq!(get(running.server.addr, "/v1/lines/eu/0.5?columns=line").await.data()[1], json!({"line": "a"}));
}

#[tokio::test]
async fn an_empty_page_is_an_answer() {
    let database = TestDatabase::new().await;
    let (_publisher, running) = lines_server(&database).await;
    let reply = get(running.server.addr, "/v1/lines/asia").await;
    assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"data":[],"error":[],"next":null}"#));
    assert_eq!(reply.header("lakegate-version"), Some("1"));
}

#[tokio::test]
async fn cursors_lead_through_all_rows_once() {
    let database = TestDatabase::new().await;
    let (_publisher, running) = lines_server(&database).await;
    let all = values(&get(running.server.addr, "/v1/lines/us").await);
    for (limit, sizes) in [(5, vec![5, 5, 2]), (6, vec![6, 6]), (12, vec![12]), (1, vec![1; 12])] {
        let (mut seen, mut pages, mut cursor) = (Vec::new(), Vec::new(), String::new());
        loop {
            let reply = get(running.server.addr, &format!("/v1/lines/us?limit={limit}{cursor}")).await;
            let page = values(&reply);
            pages.push(page.len());
            seen.extend(page);
            match next(&reply) {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!((&seen, pages), (&all, sizes), "limit {limit}");
    }
}

#[tokio::test]
async fn a_cursor_is_stale_after_a_publish_unless_it_follows() {
    let database = TestDatabase::new().await;
    let (publisher, running) = lines_server(&database).await;
    let url = "/v1/lines/eu?limit=4";
    let cursor = next(&get(running.server.addr, url).await).unwrap();
    publisher.publish(&lines(), "2", &format!("{ROWS} WHERE o <> 1")).await;

    let reply = get(running.server.addr, &format!("{url}&cursor={cursor}")).await;
    assert_eq!((reply.status, reply.code().as_str()), (409, "LG6006"));
    let reply = get(running.server.addr, &format!("{url}&cursor={cursor}&follow=true")).await;
    assert_eq!(values(&reply), ["eu21", "eu22", "eu30", "eu31"]);
    assert_eq!(reply.header("lakegate-version"), Some("2"));

    let mut other = lines();
    other.schema.columns[2].ty = INT;
    publisher.publish(&other, "3", "SELECT 'eu', 1.0, 1, 'x'").await;
    let reply = get(running.server.addr, &format!("{url}&cursor={cursor}&follow=true")).await;
    assert_eq!((reply.status, reply.code().as_str()), (409, "LG6006"));
}

#[tokio::test]
async fn limits_and_cursors_are_checked() {
    let database = TestDatabase::new().await;
    let publisher = Publisher::new(&database).await;
    let mut table = lines();
    table.policy.page_limit = 7;
    publisher.publish(&table, "1", ROWS).await;
    let running = Running::start(settings(), database.connector()).await;
    let whole = get(running.server.addr, "/v1/lines/eu").await;
    assert_eq!(values(&whole).len(), 7);
    let cursor = next(&whole).unwrap();
    for query in [
        "limit=8".to_owned(),
        "limit=0".to_owned(),
        "cursor=".to_owned(),
        "cursor=AAAA".to_owned(),
        format!("cursor={}", &cursor[..cursor.len() - 4]),
    ] {
        let reply = get(running.server.addr, &format!("/v1/lines/eu?{query}")).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "LG6005"), "{query}");
    }
    let reply = get(running.server.addr, &format!("/v1/lines/us?cursor={cursor}")).await;
    assert_eq!((reply.status, reply.code().as_str()), (400, "LG6005"));
}

#[tokio::test]
async fn a_page_ends_early_where_its_rows_are_large() {
    let database = TestDatabase::new().await;
    let publisher = Publisher::new(&database).await;
    let table = Table::new("large", &[("a", INT), ("b", INT), ("v", TEXT)], &["a", "b"]);
    publisher.publish(&table, "1", "SELECT 1, i, repeat('x', 1000000) FROM generate_series(1, 12) i").await;
    let running = Running::start(settings(), database.connector()).await;
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let reply = get(running.server.addr, &format!("/v1/large/1?columns=b,v{cursor}")).await;
        assert!(reply.body.len() < 6_000_000);
        seen.extend(reply.data().as_array().unwrap().iter().map(|row: &Value| row["b"].as_i64().unwrap()));
        match next(&reply) {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, (1..=12).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_hidden_key_still_orders_and_pages() {
    let database = TestDatabase::new().await;
    let publisher = Publisher::new(&database).await;
    let mut table = lines();
    table.policy.hide = vec!["ord".to_owned(), "region".to_owned()];
    publisher.publish(&table, "1", ROWS).await;
    let running = Running::start(settings(), database.connector()).await;
    let first = get(running.server.addr, "/v1/lines/eu?limit=1").await;
    assert_eq!(first.data(), json!([{"line": "B", "v": "eu10"}]));
    let second = get(running.server.addr, &format!("/v1/lines/eu?limit=1&cursor={}", next(&first).unwrap())).await;
    assert_eq!(second.data(), json!([{"line": "a", "v": "eu11"}]));
    assert_eq!(get(running.server.addr, "/v1/lines/eu/0.5/B").await.data(), json!([{"line": "B", "v": "eu10"}]));
}
