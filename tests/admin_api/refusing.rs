//! What the admin API does not take.

use serde_json::json;

use super::{HEADERS, code, post};
use crate::support::http::{get, get_with, send};
use crate::support::live_items::Items;

#[tokio::test]
async fn what_cannot_be_answered_says_why() {
    let items = Items::new().await;
    items.sync().await;
    let up = items.project.start("up").await;
    for (method, url, status, expected) in [
        ("GET", "/v1/pipelines/nothing", 404, "LG1015"),
        ("GET", "/v1/pipelines/No", 404, "LG1015"),
        ("GET", "/v1/pipelines/%FF", 404, "LG1015"),
        ("GET", "/v1/pipelines/nothing/plan", 404, "LG1015"),
        ("GET", "/v1/pipelines/nothing/generations", 404, "LG1015"),
        ("GET", "/v1/pipelines/nothing/rejected", 404, "LG1015"),
        ("GET", "/v1/runs?pipeline=nothing", 404, "LG1015"),
        ("GET", "/v1/runs?pipeline=No", 404, "LG1015"),
        ("GET", "/v1/runs/999", 404, "LG7010"),
        ("GET", "/v1/runs/x", 404, "LG7010"),
        ("GET", "/v1/runs?limit=0", 400, "LG6005"),
        ("GET", "/v1/runs?limit=1001", 400, "LG6005"),
        ("GET", "/v1/runs?before=x", 400, "LG6005"),
        ("GET", "/v1/runs?since=1", 400, "LG6005"),
        ("GET", "/v1/runs?limit=1&limit=2", 400, "LG6005"),
        ("GET", "/v1/pipelines?limit=1", 400, "LG6005"),
        ("GET", "/v1/pipelines/items/rejected?run=-1", 400, "LG6005"),
        ("GET", "/", 404, "LG6013"),
        ("GET", "/v1/orders/1", 404, "LG6013"),
        ("GET", "/v1/sync", 405, "LG6011"),
        ("GET", "/v1/pipelines/items/cancel", 405, "LG6011"),
        ("POST", "/v1/pipelines", 405, "LG6011"),
        ("DELETE", "/v1/pipelines/items", 405, "LG6011"),
        ("POST", "/livez", 405, "LG6011"),
        ("POST", "/v1/nothing", 404, "LG6013"),
        ("POST", "/v1/pipelines/nothing/sync", 404, "LG1015"),
        ("POST", "/v1/pipelines/nothing/cancel", 404, "LG1015"),
        ("POST", "/v1/pipelines/nothing/pause", 404, "LG1015"),
        ("POST", "/v1/pipelines/nothing/resume", 404, "LG1015"),
        ("POST", "/v1/pipelines/nothing/rollback", 404, "LG1015"),
        ("POST", "/v1/pipelines/items/cancel", 409, "LG7006"),
        ("POST", "/v1/pipelines/items/rollback", 404, "LG5007"),
    ] {
        let headers: &[(&str, &str)] = if method == "GET" { &[] } else { &HEADERS };
        let reply = send(up.admin(), method, url, headers, "").await;
        assert_eq!((reply.status, code(&reply).as_str()), (status, expected), "{method} {url}: {reply:?}");
        assert!(reply.header("x-request-id").is_some(), "{url}");
        assert_eq!(reply.header("content-type"), Some("application/json"), "{url}");
    }
    assert_eq!(items.runs().await, 1);
}

#[tokio::test]
async fn what_changes_something_shows_that_no_foreign_page_sent_it() {
    let items = Items::new().await;
    items.sync().await;
    let up = items.project.start("up").await;
    let urls = ["/v1/sync"].into_iter().map(str::to_owned);
    let of_one = ["sync", "cancel", "pause", "resume", "rollback"].map(|what| format!("/v1/pipelines/items/{what}"));
    for url in urls.chain(of_one) {
        for (headers, status, expected) in [
            (&[][..], 403, "LG7007"),
            (&[("Content-Type", "application/json")], 403, "LG7007"),
            (&[("Lakegate-Request", "1")], 415, "LG7008"),
            (&[("Lakegate-Request", "1"), ("Content-Type", "text/plain")], 415, "LG7008"),
            (&[("Lakegate-Request", "1"), ("Content-Type", "application/x-www-form-urlencoded")], 415, "LG7008"),
            (&[HEADERS[0], HEADERS[1], ("Host", "evil.example")], 421, "LG6008"),
        ] {
            let reply = send(up.admin(), "POST", &url, headers, "{}").await;
            assert_eq!((reply.status, code(&reply).as_str()), (status, expected), "{url} {headers:?}");
        }
    }
    // A browser asks first whether it may send the header.
    let preflight = [("Origin", "https://evil.example"), ("Access-Control-Request-Method", "POST")];
    let reply = send(up.admin(), "OPTIONS", "/v1/sync", &preflight, "").await;
    assert_eq!(reply.status, 403);
    assert!(
        reply.header("access-control-allow-origin").is_none() && reply.header("access-control-allow-headers").is_none()
    );
    for url in ["/v1/pipelines", "/metrics", "/livez"] {
        let reply = get_with(up.admin(), url, &[("Host", "evil.example")]).await;
        assert_eq!((reply.status, code(&reply).as_str()), (421, "LG6008"), "{url}");
        assert!(reply.json()["error"]["hint"].as_str().unwrap().contains("`admin.hosts`"), "{reply:?}");
    }
    assert_eq!(items.runs().await, 1);
    let table = get(up.admin(), "/v1/pipelines/items").await.json();
    assert_eq!(table["paused"], false);
}

#[tokio::test]
async fn a_configured_host_is_admitted() {
    let mut items = Items::new().await;
    items.project.set("LAKEGATE_ADMIN_HOSTS", "[admin.example]");
    let up = items.project.start("up").await;
    assert_eq!(get_with(up.admin(), "/livez", &[("Host", "admin.example:8081")]).await.status, 200);
}

#[tokio::test]
async fn a_body_is_what_is_expected_and_not_longer() {
    let items = Items::new().await;
    items.sync().await;
    let up = items.project.start("up").await;
    let long = format!("{{\"full\": true, \"note\": \"{}\"}}", "x".repeat(70_000));
    for (url, body, status, expected) in [
        ("/v1/pipelines/items/sync", "{", 400, "LG7009"),
        ("/v1/pipelines/items/sync", "[]", 400, "LG7009"),
        ("/v1/pipelines/items/sync", r#"{"full": "yes"}"#, 400, "LG7009"),
        ("/v1/pipelines/items/sync", r#"{"ful": true}"#, 400, "LG7009"),
        ("/v1/pipelines/items/sync", r#"{"pipelines": ["items"]}"#, 400, "LG7009"),
        ("/v1/pipelines/items/sync", &long, 413, "LG6010"),
        ("/v1/sync", r#"{"pipelines": "items"}"#, 400, "LG7009"),
        ("/v1/sync", r#"{"pipelines": ["items", "nothing"]}"#, 404, "LG1015"),
        ("/v1/pipelines/items/pause", r#"{"reason": "x"}"#, 400, "LG7009"),
        ("/v1/pipelines/items/rollback", r#"{"to": 1, "to_version": 1}"#, 400, "LG7009"),
        ("/v1/pipelines/items/rollback", r#"{"to_version": -1}"#, 400, "LG7009"),
    ] {
        let reply = post(up.admin(), url, body).await;
        assert_eq!((reply.status, code(&reply).as_str()), (status, expected), "{url} {reply:?}");
    }
    let reply = get_with(up.admin(), "/v1/pipelines", &[("Content-Length", "2")]).await;
    assert_eq!((reply.status, code(&reply).as_str()), (413, "LG6010"));
    assert_eq!(items.runs().await, 1);
}

#[tokio::test]
async fn errors_have_the_form_of_those_of_commands() {
    let items = Items::new().await;
    let up = items.project.start("up").await;
    let of_command = items.project.run(&["sync", "nothing", "--output", "json"]).await.json().remove(0);
    let reply = post(up.admin(), "/v1/pipelines/nothing/sync", "").await;
    assert_eq!(reply.json(), of_command);
    assert_eq!(reply.json()["error"]["hint"], json!("the pipelines are: items"));
}
