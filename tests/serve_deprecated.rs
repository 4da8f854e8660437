//! Tables that are to go: what their clients are told.

use lakegate::domain::{Deprecation, TableName};

use crate::serve_http::orders;
use crate::support::http::get;
use crate::support::postgres::TestDatabase;
use crate::support::published::{Publisher, Running, Table, settings};

#[tokio::test]
async fn every_answer_about_a_table_that_is_to_go_says_so() {
    let database = TestDatabase::new().await;
    let publisher = Publisher::new(&database).await;
    let (mut table, rows) = orders();
    table.policy.deprecated = Some(Deprecation {
        since: Some(1_767_225_600_000),
        sunset: Some(1_798_761_599_000),
        link: Some("https://example.com/orders-2".to_owned()),
    });
    publisher.publish(&table, "17", rows).await;
    let others = Table { name: TableName::new("others").unwrap(), ..orders().0 };
    publisher.publish(&others, "1", rows).await;
    let running = Running::start(settings(), database.connector()).await;
    for (url, status) in [("/v1/orders/1", 200), ("/v1/orders/9", 404), ("/v1/orders/x", 400), ("/v1/orders", 400)] {
        let reply = get(running.server.addr, url).await;
        assert_eq!(reply.status, status, "{reply:?}");
        let told = ["deprecation", "sunset", "link"].map(|name| reply.header(name).unwrap_or_default().to_owned());
        let link = "<https://example.com/orders-2>; rel=\"deprecation\"; type=\"text/html\"";
        assert_eq!(told, ["@1767225600", "Thu, 31 Dec 2026 23:59:59 GMT", link], "{url}");
    }
    let document = get(running.server.addr, "/v1/openapi.json").await.json();
    let operation = document.pointer("/paths/~1v1~1orders~1{id}/get").unwrap();
    assert_eq!(operation["deprecated"], true);
    // A table that is not is not.
    let reply = get(running.server.addr, "/v1/others/1").await;
    assert!(reply.names().all(|name| !["deprecation", "sunset", "link"].contains(&name.as_str())), "{reply:?}");
}
