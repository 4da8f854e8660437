//! Keys made at the command line, on a replica that has no more than the API's role.

use serde_json::{Value, json};

use super::get_as;
use crate::support::http::get;
use crate::support::items::Items;
use crate::support::project::eventually;
use crate::support::roles::{ask_as, login};

async fn ran(items: &Items, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--output", "json"]].concat();
    items.project.run(&arguments).await.ok().json().remove(0)
}

#[tokio::test]
async fn a_replica_checks_keys_and_notes_their_use_and_changes_nothing_else() {
    let mut items = Items::with_roles("").await;
    items.project.set("LAKEGATE_AUTH", "{keys: true}");
    let admin = items.project.sql().await;
    let (replica, url) = login(&admin, &items.project.database, "replica").await;
    admin.batch_execute(&format!("GRANT lakegate_api TO {replica}")).await.unwrap();
    let arguments = ["keys", "create", "the app", "--role", "support", "--attribute", "tenant=a=b", "--expires", "90d"];
    let made = ran(&items, &arguments).await;
    let (id, text) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert_eq!((&made["roles"], &made["attributes"]), (&json!(["support"]), &json!({"tenant": "a=b"})));

    let own = items.project.database.url();
    items.project.set("LAKEGATE_POSTGRES", &url);
    let server = items.project.start("serve").await;
    items.project.set("LAKEGATE_POSTGRES", &own);
    assert_eq!(get(server.address, "/v1/items/1").await.status, 401);
    assert_eq!(get_as(server.address, "/v1/items/1", text).await.data()[0]["name"], "row 1");
    let listed = async || ran(&items, &["keys", "list"]).await;
    eventually("the note of its use", async || listed().await["last_used_at"].is_string()).await;
    for forbidden in [
        "WITH x AS (INSERT INTO lakegate.api_keys (id, name, secret_hash) VALUES ('000000000000', '', '') RETURNING 1) SELECT 1 FROM x",
        "WITH x AS (UPDATE lakegate.api_keys SET revoked_at = null RETURNING 1) SELECT count(*) FROM x",
        "WITH x AS (UPDATE lakegate.auth_epoch SET epoch = 0 RETURNING 1) SELECT count(*) FROM x",
        "WITH x AS (DELETE FROM lakegate.api_keys RETURNING 1) SELECT count(*) FROM x",
    ] {
        let answer = admin.batch_execute(&format!("SET ROLE {replica}; {forbidden}")).await.unwrap_err();
        assert_eq!(answer.code().unwrap().code(), "42501", "{forbidden}: {answer:?}");
        admin.batch_execute("RESET ROLE").await.unwrap();
    }
    // Who is nobody may not even note a use.
    let (nobody, _) = login(&admin, &items.project.database, "nobody").await;
    admin.batch_execute(&format!("GRANT USAGE ON SCHEMA lakegate TO {nobody}")).await.unwrap();
    let note = ask_as(&admin, &nobody, "SELECT lakegate.note_key_use(ARRAY['x'])").await;
    assert_eq!(note, Err("42501".to_owned()));

    let revoked = ran(&items, &["keys", "revoke", id]).await;
    assert!(revoked["revoked_at"].is_string() && revoked.get("key").is_none(), "{revoked}");
    eventually("the end", async || get_as(server.address, "/v1/items/1", text).await.code() == "LG6021").await;
}

#[tokio::test]
async fn a_secret_is_shown_once_and_kept_nowhere() {
    let mut items = Items::unsynced("").await;
    items.project.set("LAKEGATE_AUTH", "{keys: true}");
    let made = items.project.run(&["keys", "create", "the app"]).await.ok();
    let text = made.stdout.trim();
    assert!(text.starts_with("lg_") && text.len() == 80 && !made.stderr.contains(text), "{made:?}");
    let (id, secret) = (&text[3..15], &text[16..]);
    let row = "SELECT string_agg(k::text, ' ') FROM lakegate.api_keys k";
    let kept: String = items.project.sql().await.query_one(row, &[]).await.unwrap().get(0);
    assert!(kept.contains(id) && !kept.contains(secret), "{kept}");
    let list = items.project.run(&["keys", "list"]).await.ok();
    assert!(list.stdout.contains(id) && !list.stdout.contains(secret), "{list:?}");
    let by_hand = "UPDATE lakegate.api_keys SET attributes = '{\"tenant\": 7}', roles = '{support, NULL}'";
    items.project.sql().await.batch_execute(by_hand).await.unwrap();
    let list = items.project.run(&["keys", "list"]).await.ok();
    let shown = ["tenant=7", "support, null", "not taken: a role or an attribute is no text"];
    assert!(shown.iter().all(|shown| list.stdout.contains(shown)), "{list:?}");
    let again = items.project.run(&["keys", "revoke", text, "--output", "json"]).await;
    assert_eq!((again.code, again.json()[0]["error"]["code"].as_str()), (Some(1), Some("LG7013")));
    assert!(!again.stdout.contains(secret) && !again.stderr.contains(secret), "{again:?}");
    for wrong in [
        &["keys", "create", ""][..],
        &["keys", "create", "x", "--role", "a b"],
        &["keys", "create", "x", "--attribute", "a"],
        &["keys", "create", "x", "--attribute", "a=1", "--attribute", "a=2"],
        &["keys", "create", "x", "--expires", "2020-01-01"],
    ] {
        let refused = items.project.run(&[wrong, &["--output", "json"]].concat()).await;
        assert_eq!((refused.code, refused.json()[0]["error"]["code"].as_str()), (Some(1), Some("LG1013")), "{wrong:?}");
    }
}

#[tokio::test]
async fn who_sees_what_is_published_with_the_next_run_and_binds_everybody_but_the_operator() {
    let mut items = Items::new("mode: auto\n").await;
    items.project.set("LAKEGATE_AUTH", "{keys: true}");
    let mine = ["keys", "create", "mine", "--role", "support", "--attribute", "who=row 1"];
    let mine = ran(&items, &mine).await["key"].as_str().unwrap().to_owned();
    let other = ran(&items, &["keys", "create", "other"]).await["key"].as_str().unwrap().to_owned();
    let server = items.project.start("serve").await;
    for key in [&mine, &other] {
        assert_eq!(get_as(server.address, "/v1/items/2", key).await.status, 200);
    }
    items.pipeline("mode: auto\nserve: {roles: [support], row_filter: {name: who}}\n");
    let published = items.project.sync("items").await;
    assert_eq!((&published["mode"], &published["rows_read"]), (&json!("noop"), &json!(0)), "{published}");
    let closed = async || get_as(server.address, "/v1/items/2", &mine).await.code() == "LG6002";
    eventually("the policy", closed).await;
    assert_eq!(get_as(server.address, "/v1/items/1", &mine).await.data()[0]["name"], "row 1");
    assert_eq!(get_as(server.address, "/v1/items/1", &other).await.code(), "LG6001");
    let got = items.project.run(&["get", "items", "2"]).await.ok();
    assert_eq!(got.json()[0]["data"][0]["name"], "row 2");

    for (serve, code) in [
        ("{row_filter: {nothing: who}}", "LG2008"),
        ("{roles: {support: {hide: [nothing]}}}", "LG2008"),
        ("{roles: {support: {hide: [id]}}}", "LG1003"),
    ] {
        items.pipeline(&format!("mode: auto\nserve: {serve}\n"));
        assert_eq!(items.project.sync_fails("items").await["code"], code, "{serve}");
    }
    assert_eq!(get_as(server.address, "/v1/items/2", &mine).await.code(), "LG6002", "what was published holds");

    // Where nobody is asked who he is, nobody has a role.
    items.project.set("LAKEGATE_AUTH", "none");
    let open = items.project.start("serve").await;
    assert_eq!(get(open.address, "/v1/items/1").await.code(), "LG6001");
}
