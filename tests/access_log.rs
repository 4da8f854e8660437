//! The access log of a server as a user reads it: lines of JSON on standard output.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::http::{get_with, post_with};
use crate::support::items::Items;
use crate::support::process::Process;

/// What a server wrote down of these requests, which were made while it ran: the lines, and all that it said.
async fn log_of(items: &Items, ask: impl AsyncFnOnce(std::net::SocketAddr)) -> (Vec<Value>, String) {
    let server = Process::start(items.project.command(&["serve"]));
    ask(server.address().await).await;
    server.signal(Signal::SIGTERM);
    let ran = server.end().await.ok();
    (ran.json(), ran.stdout + &ran.stderr)
}

#[tokio::test]
async fn requests_are_written_down_with_their_tables_and_without_keys_and_secrets() {
    let mut items = Items::new("").await;
    let made = items.project.run(&["keys", "create", "the app"]).await.ok();
    let (key, secret) = (made.stdout.trim(), &made.stdout.trim()[16..]);
    items.project.set("LAKEGATE_AUTH", "{keys: true}");
    items.project.set("LAKEGATE_API_ACCESS_LOG", "1");
    let authorization = format!("Bearer {key}");
    let (lines, all) = log_of(&items, async |address| {
        let id = ("X-Request-Id", "mine-1");
        let credential = ("Authorization", authorization.as_str());
        assert_eq!(get_with(address, "/v1/items/1?columns=name", &[credential, id]).await.status, 200);
        assert_eq!(get_with(address, "/v1/items/2", &[]).await.status, 401);
        assert_eq!(get_with(address, "/v1/alice@example.com/7", &[credential]).await.status, 404);
        let json = ("Content-Type", "application/json");
        assert_eq!(post_with(address, "/v1/items/_batch", &[credential, json], r#"{"keys": [1]}"#).await.status, 200);
        assert_eq!(get_with(address, "/v1/items/1?foo=1", &[credential]).await.status, 400);
        assert_eq!(post_with(address, "/v1/items/_batch", &[credential, json], "{").await.status, 400);
        assert_eq!(get_with(address, "/v1/openapi.json", &[credential]).await.status, 200);
        assert_eq!(get_with(address, "/readyz", &[]).await.status, 200);
    })
    .await;
    let shown = |line: &Value| {
        json!([line["method"], line["route"], line["table"], line["operation"], line["status"], line["caller"]])
    };
    let caller = format!("key {}", key.split('_').nth(1).unwrap());
    assert_eq!(
        lines.iter().map(shown).collect::<Vec<_>>(),
        [
            json!(["GET", "/v1/{table}/{key}", "items", "row", 200, caller]),
            json!(["GET", "/v1/{table}/{key}", null, null, 401, null]),
            json!(["GET", "/v1/{table}/{key}", null, null, 404, caller]),
            json!(["POST", "/v1/{table}/_batch", "items", "batch", 200, caller]),
            json!(["GET", "/v1/{table}/{key}", "items", "row", 400, caller]),
            json!(["POST", "/v1/{table}/_batch", "items", "batch", 400, caller]),
            json!(["GET", "/v1/openapi.json", null, null, 200, caller]),
        ]
    );
    assert!(lines.iter().all(|line| line["client"] == "127.0.0.1"), "{lines:?}");
    assert_eq!((&lines[0]["request"], lines[1]["request"].as_str().unwrap().len()), (&json!("mine-1"), 36));
    assert!(lines.iter().all(|line| line["bytes"].as_u64().unwrap() > 0 && line["seconds"].is_f64()), "{lines:?}");
    assert!(!all.contains(secret) && !all.contains("alice") && !all.contains("row 1"), "{all}");
}

#[tokio::test]
async fn nothing_is_written_down_unless_it_is_asked_for() {
    let items = Items::new("").await;
    let (lines, _) = log_of(&items, async |address| {
        assert_eq!(get_with(address, "/v1/items/1", &[]).await.status, 200);
    })
    .await;
    assert!(lines.is_empty(), "{lines:?}");
}
