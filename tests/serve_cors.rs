//! What web pages of other origins may read.

use lakegate::domain::ApiSettings;
use lakegate::serve::ServeSettings;

use crate::serve_http::orders;
use crate::support::http::{Reply, get_with, request};
use crate::support::postgres::TestDatabase;
use crate::support::published::{Publisher, Running, settings};

const OURS: &str = "https://app.example.com";

async fn running(database: &TestDatabase, cors: &[&str]) -> Running {
    let publisher = Publisher::new(database).await;
    let (table, rows) = orders();
    publisher.publish(&table, "17", rows).await;
    let cors = cors.iter().map(ToString::to_string).collect();
    let api = ApiSettings { cors, ..settings().api };
    Running::start(ServeSettings { api, ..settings() }, database.connector()).await
}

fn allowed(reply: &Reply) -> Option<&str> {
    reply.header("access-control-allow-origin")
}

#[tokio::test]
async fn pages_of_the_declared_origins_read_and_others_do_not() {
    let database = TestDatabase::new().await;
    let running = running(&database, &[OURS]).await;
    let addr = running.server.addr;
    let preflight = async |origin: &str| {
        let asked = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "authorization"),
        ];
        request(addr, "OPTIONS", "/v1/orders/_batch", &asked).await
    };
    let ours = preflight(OURS).await;
    assert_eq!((ours.status, allowed(&ours)), (200, Some(OURS)));
    assert!(ours.header("access-control-allow-headers").unwrap().contains("authorization"), "{ours:?}");
    assert!(ours.header("access-control-allow-credentials").is_none(), "{ours:?}");
    assert_eq!(allowed(&preflight("https://evil.example.com").await), None);
    for url in ["/v1/orders/1", "/v1/orders/9", "/v1/openapi.json"] {
        let reply = get_with(addr, url, &[("Origin", OURS)]).await;
        assert_eq!(allowed(&reply), Some(OURS), "{url}");
        assert!(reply.header("access-control-expose-headers").unwrap().contains("lakegate-version"), "{reply:?}");
        let reply = get_with(addr, url, &[("Origin", "https://evil.example.com")]).await;
        assert_eq!(allowed(&reply), None, "{url}");
    }
}

#[tokio::test]
async fn unless_declared_no_page_of_another_origin_reads() {
    let database = TestDatabase::new().await;
    let running = running(&database, &[]).await;
    let reply = get_with(running.server.addr, "/v1/orders/1", &[("Origin", OURS)]).await;
    assert!(reply.status == 200 && reply.names().all(|name| !name.starts_with("access-control-")), "{reply:?}");
}

#[tokio::test]
async fn a_star_lets_pages_of_any_origin_read() {
    let database = TestDatabase::new().await;
    let running = running(&database, &["*"]).await;
    let reply = get_with(running.server.addr, "/v1/orders/1", &[("Origin", OURS)]).await;
    assert_eq!((reply.status, allowed(&reply)), (200, Some("*")));
}
