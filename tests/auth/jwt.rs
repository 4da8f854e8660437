//! Tokens on servers of the read API.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::get_as;
use crate::support::http::get;
use crate::support::items::Items;
use crate::support::project::eventually;

const SECRET: &str = "thirty-two bytes or more of a secret";

/// A token of the issuer with these further claims.
fn token(claims: Value) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut all = json!({"iss": "https://issuer", "aud": "lakegate", "sub": "alice", "exp": now + 600});
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    encode(&Header::default(), &all, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

async fn taking_tokens(further: &str, serve: &str) -> Items {
    let mut items = Items::new(serve).await;
    let auth = "issuer: https://issuer, audience: lakegate, secret: env:JWT_SECRET, roles: /realm/roles";
    items.project.set("LAKEGATE_AUTH", &format!("{{jwt: {{{auth}}}{further}}}"));
    items.project.set("JWT_SECRET", SECRET);
    items
}

#[tokio::test]
async fn a_token_shows_the_rows_and_tables_of_its_bearer_alone() {
    let items = taking_tokens(", keys: true", "serve: {roles: [support], row_filter: {name: person}}\n").await;
    let made =
        items.project.run(&["keys", "create", "the app", "--role", "support", "--role", "admin", "--output", "json"]);
    let key = made.await.ok().json().remove(0)["key"].as_str().unwrap().to_owned();
    let up = items.project.start("up").await;
    let addr = up.address;
    let support = |claims: Value| {
        let mut all = json!({"realm": {"roles": ["support", "admin"]}});
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        token(all)
    };
    let own = support(json!({"person": "row 1"}));
    assert_eq!(get_as(addr, "/v1/items/1", &own).await.data()[0]["name"], "row 1");
    assert_eq!(get_as(addr, "/v1/items/2", &own).await.code(), "LG6002");
    assert_eq!(get_as(addr, "/v1/items/1", &support(json!({}))).await.code(), "LG6002");
    // Roles stand where the project says, and nowhere else.
    let elsewhere = token(json!({"person": "row 1", "roles": ["support"]}));
    assert_eq!(get_as(addr, "/v1/items/1", &elsewhere).await.code(), "LG6001");
    for (refused, code) in [
        (token(json!({"exp": 1})), "LG6020"),
        (token(json!({"aud": "another"})), "LG6019"),
        (token(json!({"iss": "https://other"})), "LG6019"),
        (format!("{own}x"), "LG6019"),
        ("eyJhbGciOiJub25lIn0.e30.".to_owned(), "LG6019"),
    ] {
        let reply = get_as(addr, "/v1/items/1", &refused).await;
        assert_eq!((reply.status, reply.code().as_str()), (401, code), "{refused}");
        assert!(reply.header("www-authenticate").unwrap().starts_with("Bearer"), "{reply:?}");
    }
    // Keys go on beside tokens.
    eventually("the key", async || get_as(addr, "/v1/items/9", &key).await.code() == "LG6002").await;
    assert_eq!(get(addr, "/v1/items/1").await.code(), "LG6018");
}

#[tokio::test]
async fn tokens_alone_let_the_read_api_listen_anywhere_and_the_admin_api_not() {
    let mut items = taking_tokens("", "").await;
    items.project.set("LAKEGATE_API_LISTEN", "0.0.0.0:0");
    let server = items.project.start("serve").await;
    let port = server.address.port();
    assert_eq!(get(([127, 0, 0, 1], port).into(), "/v1/items/1").await.code(), "LG6018");
    assert_eq!(get_as(([127, 0, 0, 1], port).into(), "/v1/items/1", &token(json!({}))).await.status, 200);
    items.project.set("LAKEGATE_ADMIN_LISTEN", "0.0.0.0:0");
    let refused = items.project.run(&["up"]).await;
    assert!(refused.code == Some(1) && refused.stderr.contains("LG1016"), "{refused:?}");
}
