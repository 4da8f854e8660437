//! What stands in the document, when it changes, and what it costs.

use std::io::Read as _;

use lakegate::domain::ScalarType;
use lakegate::serve::describe_once;
use serde_json::{Value, json};

use super::{scalar, server, things};
use crate::serve_http::until;
use crate::support::http::{get, get_with, request};
use crate::support::json_schema::resolve;
use crate::support::lake::LakeTable;
use crate::support::postgres::TestDatabase;
use crate::support::project::TestProject;
use crate::support::published::{Publisher, Running, Table, settings};

const URL: &str = "/v1/openapi.json";

#[tokio::test]
async fn a_whole_document_is_told() {
    let database = TestDatabase::new().await;
    let publisher = Publisher::new(&database).await;
    publisher.publish(&things(), "17", super::THINGS).await;
    let running = Running::start(settings(), database.connector()).await;
    let document = get(running.server.addr, URL).await.json();
    let text = format!("{document:#}").replace(env!("CARGO_PKG_VERSION"), "VERSION");
    insta::assert_snapshot!("document", text);
}

#[tokio::test]
async fn what_is_hidden_or_not_served_does_not_appear() {
    let database = TestDatabase::new().await;
    let (_publisher, running) = server(&database).await;
    let reply = get(running.server.addr, URL).await;
    assert!(reply.body.contains("things") && reply.body.contains("{key1}/{key2}"));
    for hidden in ["secret", "tenant", "closed"] {
        assert!(!reply.body.contains(hidden), "{hidden}");
    }
}

#[tokio::test]
async fn every_reference_stands_for_something() {
    fn walk(document: &Value, value: &Value, count: &mut usize) {
        match value {
            Value::Object(members) => {
                if members.contains_key("$ref") {
                    *count += 1;
                    resolve(document, value);
                }
                members.values().for_each(|member| walk(document, member, count));
            }
            Value::Array(items) => items.iter().for_each(|item| walk(document, item, count)),
            _ => {}
        }
    }
    let database = TestDatabase::new().await;
    let (_publisher, running) = server(&database).await;
    let document = get(running.server.addr, URL).await.json();
    let mut count = 0;
    walk(&document, &document, &mut count);
    assert!(count > 500, "{count}");
}

#[tokio::test]
async fn it_follows_what_is_published_and_nothing_else() {
    let database = TestDatabase::new().await;
    let publisher = Publisher::new(&database).await;
    let mut orders = Table::new("orders", &[("id", scalar(ScalarType::Int32))], &["id"]);
    publisher.publish(&orders, "1", "VALUES (1)").await;
    let running = Running::start(settings(), database.connector()).await;
    let addr = running.server.addr;
    let first = get(addr, URL).await;
    let tag = first.header("etag").unwrap().to_owned();
    assert_eq!(first.header("cache-control"), Some("private, no-cache"));
    let known = async || get_with(addr, URL, &[("If-None-Match", &tag)]).await;
    assert_eq!((known().await.status, known().await.body), (304, String::new()));
    let head = request(addr, "HEAD", URL, &[]).await;
    assert_eq!((head.status, head.header("etag"), head.body.as_str()), (200, Some(tag.as_str()), ""));

    // Other rows are no other contract.
    publisher.publish(&orders, "2", "VALUES (2)").await;
    until(async || get(addr, "/v1/orders/2").await.status == 200).await;
    assert_eq!(known().await.status, 304);

    orders
        .schema
        .columns
        .push(Table::new("x", &[("note", scalar(ScalarType::Text))], &["note"]).schema.columns.remove(0));
    publisher.publish(&orders, "3", "VALUES (1, 'x')").await;
    until(async || known().await.status == 200).await;
    let properties = known().await.json()["components"]["schemas"]["orders"]["properties"].take();
    assert_eq!(properties["note"], json!({"type": "string"}));

    publisher.unpublish(&orders).await;
    until(async || get(addr, URL).await.json()["paths"].get("/v1/orders").is_none()).await;
}

#[tokio::test]
async fn it_is_compressed_and_the_command_line_has_the_same() {
    let database = TestDatabase::new().await;
    let (_publisher, running) = server(&database).await;
    let addr = running.server.addr;
    let plain = get(addr, URL).await;
    let settings = settings();
    let described =
        describe_once(&database.connector(), &settings.schemas, &settings.limits, &settings.auth).await.unwrap();
    assert_eq!(plain.body, described.to_string());
    let small = get_with(addr, URL, &[("Accept-Encoding", "gzip")]).await;
    assert_eq!(
        (small.header("content-encoding"), small.header("vary")),
        (Some("gzip"), Some("Accept-Encoding, Authorization"))
    );
    assert_eq!(small.header("etag"), Some(format!("W/{}", plain.header("etag").unwrap()).as_str()));
    let mut back = String::new();
    flate2::read::GzDecoder::new(small.bytes.as_slice()).read_to_string(&mut back).unwrap();
    assert_eq!(back, plain.body);
}

#[tokio::test]
async fn it_is_printed_by_the_command_line() {
    let project = TestProject::new().await;
    let (schema, batch) = LakeTable::numbered(0..3);
    LakeTable::create(&project.path("lake/items"), &schema, vec![batch]).await;
    project.pipeline("items", "source: lake/items\nprimary_key: [id]\nserve: {hide: [name]}\n");
    project.sync("items").await;
    let text = project.run(&["schema", "openapi"]).await.ok().stdout;
    let record = project.run(&["schema", "openapi", "--output", "json"]).await.ok().json().remove(0);
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), record);
    let columns = record["components"]["schemas"]["items"]["properties"].as_object().unwrap();
    assert_eq!(columns.keys().collect::<Vec<_>>(), ["id"]);
    let server = project.start("serve").await;
    assert_eq!(get(server.address, URL).await.json(), record);
}
