//! The admin API: keys are made and revoked there, and off loopback it asks for one.

use std::net::SocketAddr;

use serde_json::json;

use super::get_as;
use crate::support::http::{Reply, get, get_with, send};
use crate::support::items::Items;
use crate::support::project::eventually;

const HEADERS: [(&str, &str); 2] = [("Lakegate-Request", "1"), ("Content-Type", "application/json")];

async fn post(addr: SocketAddr, url: &str, body: &str) -> Reply {
    send(addr, "POST", url, &HEADERS, body).await
}

fn code(reply: &Reply) -> String {
    reply.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn keys_are_made_listed_and_revoked_by_the_admin_api() {
    let mut items = Items::new("").await;
    items.project.set("LAKEGATE_AUTH", "{keys: true}");
    let up = items.project.start("up").await;
    let wanted = r#"{"name": "the app", "roles": ["support"], "attributes": {"tenant": "a"}, "expires": "90d"}"#;
    let made = post(up.admin(), "/v1/keys", wanted).await;
    assert_eq!((made.status, made.header("cache-control")), (201, Some("no-store")), "{made:?}");
    let made = made.json();
    let (id, text) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    eventually("the key", async || get_as(up.address, "/v1/items/1", text).await.status == 200).await;
    let listed = get(up.admin(), "/v1/keys").await;
    assert_eq!((&listed.data()[0]["id"], &listed.data()[0]["attributes"]), (&json!(id), &json!({"tenant": "a"})));
    assert!(!listed.body.contains(&text[16..]), "{listed:?}");
    let revoked = post(up.admin(), &format!("/v1/keys/{id}/revoke"), "").await;
    assert!(revoked.status == 200 && revoked.json()["revoked_at"].is_string(), "{revoked:?}");
    let when = revoked.json()["revoked_at"].clone();
    let again = post(up.admin(), &format!("/v1/keys/{id}/revoke"), "{}").await;
    assert_eq!(again.json()["revoked_at"], when, "it stays what it was");
    eventually("the end", async || get_as(up.address, "/v1/items/1", text).await.status == 401).await;
    for (url, body, status, expected) in [
        ("/v1/keys/000000000000/revoke", "", 404, "LG7013"),
        ("/v1/keys", "{}", 400, "LG7009"),
        ("/v1/keys", r#"{"name": ""}"#, 400, "LG7009"),
        ("/v1/keys", r#"{"name": "a", "role": "b"}"#, 400, "LG7009"),
        ("/v1/keys", r#"{"name": "a", "attributes": {"b": 1}}"#, 400, "LG7009"),
        ("/v1/keys", r#"{"name": "a", "expires": "yesterday"}"#, 400, "LG7009"),
    ] {
        let reply = post(up.admin(), url, body).await;
        assert_eq!((reply.status, code(&reply).as_str()), (status, expected), "{url} {body}");
    }
    assert_eq!(post(up.admin(), "/v1/keys?x=1", "").await.status, 400);
}

#[tokio::test]
async fn off_loopback_the_admin_api_takes_keys_of_administrators_alone() {
    let mut items = Items::new("").await;
    items.project.set("LAKEGATE_AUTH", "{keys: true}");
    let made = async |items: &Items, arguments: &[&str]| {
        items.project.run(&[&["keys", "create"], arguments].concat()).await.ok().stdout.trim().to_owned()
    };
    let admin = made(&items, &["ops", "--role", "admin"]).await;
    let other = made(&items, &["app", "--role", "support"]).await;
    items.project.set("LAKEGATE_ADMIN_LISTEN", "0.0.0.0:0");
    items.project.set("LAKEGATE_API_LISTEN", "0.0.0.0:0");
    let up = items.project.start("up").await;
    let (admin, other) = (format!("Bearer {admin}"), format!("Bearer {other}"));
    for url in ["/v1/pipelines", "/v1/keys", "/metrics", "/v1/nothing"] {
        let stranger = get(up.admin(), url).await;
        assert_eq!((stranger.status, code(&stranger).as_str()), (401, "LG6018"), "{url}");
        assert_eq!(stranger.header("www-authenticate"), Some("Bearer"), "{url}");
        let other = get_with(up.admin(), url, &[("Authorization", &other)]).await;
        assert_eq!((other.status, code(&other).as_str()), (403, "LG7012"), "{url}");
        let known = get_with(up.admin(), url, &[("Authorization", &admin)]).await;
        assert_eq!(known.status, if url == "/v1/nothing" { 404 } else { 200 }, "{url}: {known:?}");
    }
    assert_eq!(get(up.admin(), "/livez").await.status, 200);
    // A key does not stand for what shows that no foreign web page asks.
    let bare = send(up.admin(), "POST", "/v1/sync", &[("Authorization", &admin)], "").await;
    assert_eq!((bare.status, code(&bare).as_str()), (403, "LG7007"));
    let headers = [HEADERS[0], HEADERS[1], ("Authorization", admin.as_str())];
    assert_eq!(send(up.admin(), "POST", "/v1/sync", &headers, "").await.status, 202);
    // The read API lets both in.
    for key in [&admin, &other] {
        assert_eq!(get_with(up.address, "/v1/items/1", &[("Authorization", key)]).await.status, 200);
    }
}
