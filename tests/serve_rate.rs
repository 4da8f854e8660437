//! How many rows may be read in how long.

use lakegate::domain::{ColumnType, Rate, RateLimit, ScalarType};

use crate::support::http::{Reply, get, get_with, post};
use crate::support::postgres::TestDatabase;
use crate::support::published::{Publisher, Running, Table, settings};

/// So slow that nothing comes back while a test runs.
const FIVE: Rate = Rate { rows: 5, seconds: 86_400 };

async fn limited(database: &TestDatabase, limit: RateLimit) -> (Publisher, Table) {
    let publisher = Publisher::new(database).await;
    let columns =
        [("part", ScalarType::Int32), ("id", ScalarType::Int32)].map(|(name, ty)| (name, ColumnType::Scalar(ty)));
    let mut table = Table::new("lines", &columns, &["part", "id"]);
    table.policy.rate_limit = Some(limit);
    publisher.publish(&table, "17", "SELECT i / 10, i FROM generate_series(1, 19) i").await;
    (publisher, table)
}

fn left(reply: &Reply) -> &str {
    reply.header("ratelimit").unwrap_or_default()
}

#[tokio::test]
async fn rows_cost_and_who_has_used_them_up_waits() {
    let database = TestDatabase::new().await;
    let (publisher, table) = limited(&database, RateLimit { caller: Some(FIVE), table: None }).await;
    let running = Running::start(settings(), database.connector()).await;
    let addr = running.server.addr;
    let first = get(addr, "/v1/lines/0/1").await;
    assert_eq!((first.status, left(&first)), (200, r#""caller";r=4;t=17280"#));
    assert_eq!(first.header("ratelimit-policy"), Some(r#""caller";q=5;w=86400"#));
    // What is told from memory, what is not there and what has not changed cost a row each.
    let again = get(addr, "/v1/lines/0/1").await;
    assert!(left(&again).contains("r=3;"), "{again:?}");
    assert!(left(&get(addr, "/v1/lines/0/99").await).contains("r=2;"));
    let same = get_with(addr, "/v1/lines/0/1", &[("If-None-Match", first.header("etag").unwrap())]).await;
    assert!(same.status == 304 && left(&same).contains("r=1;"), "{same:?}");
    // The last row is enough for a whole page, which time has to pay off.
    let page = get(addr, "/v1/lines/1").await;
    assert_eq!((page.status, page.data().as_array().unwrap().len()), (200, 10));
    assert!(left(&page).contains("r=0;"), "{page:?}");
    // A publish of the table does not forgive.
    publisher.publish(&table, "18", "SELECT i / 10, i FROM generate_series(1, 19) i").await;
    for reply in [
        get(addr, "/v1/lines/0/1").await,
        get(addr, "/v1/lines/1").await,
        post(addr, "/v1/lines/_batch", r#"{"keys": [[0, 1]]}"#).await,
    ] {
        assert_eq!((reply.status, reply.code().as_str()), (429, "LG6022"), "{reply:?}");
        let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
        // Ten rows of which one was left: ten more have to come.
        assert!((9 * 17_280..=10 * 17_280).contains(&wait), "{wait}");
        assert!(left(&reply).starts_with(r#""caller";r=0;t="#), "{reply:?}");
    }
    // What concerns no row of the table is not limited.
    assert_eq!(get(addr, "/v1/openapi.json").await.status, 200);
}

#[tokio::test]
async fn a_batch_costs_as_many_rows_as_it_has_keys() {
    let database = TestDatabase::new().await;
    let (_publisher, _) = limited(&database, RateLimit { caller: Some(FIVE), table: Some(FIVE) }).await;
    let running = Running::start(settings(), database.connector()).await;
    let addr = running.server.addr;
    let reply = post(addr, "/v1/lines/_batch", r#"{"keys": [[0, 1], [0, 99], [0, 1], [0, 2]]}"#).await;
    assert!(reply.status == 200 && left(&reply).contains("r=1;"), "{reply:?}");
    assert_eq!(get(addr, "/v1/lines/0/1").await.status, 200);
    let refused = get(addr, "/v1/lines/0/1").await;
    assert!(refused.status == 429 && refused.body.contains("for each caller"), "{refused:?}");
}

#[tokio::test]
async fn what_is_not_understood_costs_as_much_as_a_row() {
    let database = TestDatabase::new().await;
    let (_publisher, _) = limited(&database, RateLimit { caller: Some(FIVE), table: None }).await;
    let running = Running::start(settings(), database.connector()).await;
    let addr = running.server.addr;
    for (row, reply) in [
        ("r=4;", get(addr, "/v1/lines/0/1?foo=1").await),
        ("r=3;", get(addr, "/v1/lines//1").await),
        ("r=2;", post(addr, "/v1/lines/_batch", "{").await),
        ("r=1;", get(addr, "/v1/lines/x/1").await),
        ("r=0;", post(addr, "/v1/lines/_batch", r#"{"keys": 1}"#).await),
    ] {
        assert!(reply.status == 400 && left(&reply).contains(row), "{row} {reply:?}");
    }
    assert_eq!(get(addr, "/v1/lines/0/1?foo=1").await.status, 429);
    assert_eq!(post(addr, "/v1/lines/_batch", "{").await.status, 429);
}

#[tokio::test]
async fn all_together_are_limited_too() {
    let database = TestDatabase::new().await;
    let one = Rate { rows: 1, seconds: 86_400 };
    let (_publisher, _) = limited(&database, RateLimit { caller: None, table: Some(one) }).await;
    let running = Running::start(settings(), database.connector()).await;
    let addr = running.server.addr;
    let reply = get(addr, "/v1/lines/0/1").await;
    // What others have left is nobody's affair.
    assert!(reply.status == 200 && reply.header("ratelimit").is_none(), "{reply:?}");
    let refused = get(addr, "/v1/lines/0/1").await;
    assert!(refused.status == 429 && refused.body.contains("all together"), "{refused:?}");
}
