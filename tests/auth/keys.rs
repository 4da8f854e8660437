//! API keys on servers of the read API.

use std::time::{Duration, Instant};

use chrono::Utc;
use lakegate::domain::{ColumnType, NewKey, ScalarType};

use super::{asking, control, get_as, key, named};
use crate::support::http::{get, get_with, post, request};
use crate::support::postgres::TestDatabase;
use crate::support::project::eventually;
use crate::support::published::{Publisher, Running, Table};

/// How soon a key that was made or revoked is so on every server.
const LIVE: Duration = Duration::from_secs(2);

async fn orders(database: &TestDatabase) -> Publisher {
    let publisher = Publisher::new(database).await;
    let columns =
        [("id", ScalarType::Int32), ("note", ScalarType::Text)].map(|(name, ty)| (name, ColumnType::Scalar(ty)));
    let table = Table::new("orders", &columns, &["id"]);
    publisher.publish(&table, "17", "SELECT i, 'note ' || i FROM generate_series(1, 3) i").await;
    publisher
}

#[tokio::test]
async fn only_a_live_key_with_its_secret_is_let_in() {
    let database = TestDatabase::new().await;
    let publisher = orders(&database).await;
    let client = &publisher.session;
    let right = key(client, named("the app")).await;
    let revoked = key(client, named("lost")).await;
    control().revoke_key(&**client, &revoked.id).await.unwrap().unwrap();
    let soon = NewKey { expires_at: Some(Utc::now() + Duration::from_millis(1)), ..named("short") };
    let expired = key(client, soon).await;
    let running = Running::start(asking(), database.connector()).await;
    let addr = running.server.addr;
    let flipped = format!("{}{}", &right.text[..79], if right.text.ends_with('0') { '1' } else { '0' });
    let of_nobody = right.text.replace(&right.id, "0123456789ab");
    let bearer = |text: &str| Some(format!("Bearer {text}"));
    let wrong_of_expired = expired.text.replace(&expired.text[16..], &right.text[16..]);
    let wrong_of_revoked = revoked.text.replace(&revoked.text[16..], &right.text[16..]);
    for (credential, status, code) in [
        (None, 401, "LG6018"),
        (bearer(&right.text), 200, ""),
        (bearer(&flipped), 401, "LG6019"),
        (bearer(&of_nobody), 401, "LG6019"),
        (bearer(&wrong_of_expired), 401, "LG6019"),
        (bearer(&wrong_of_revoked), 401, "LG6019"),
        (bearer("lg_"), 401, "LG6019"),
        (bearer("eyJhbGciOiJub25lIn0.e30."), 401, "LG6019"),
        (Some(format!("Basic {}", right.text)), 401, "LG6019"),
        (Some(right.text.clone()), 401, "LG6019"),
        (bearer(&expired.text), 401, "LG6020"),
        (bearer(&revoked.text), 401, "LG6021"),
    ] {
        let headers: Vec<(&str, &str)> = credential.iter().map(|value| ("Authorization", value.as_str())).collect();
        for url in ["/v1/orders/1", "/v1/orders/9", "/v1/nothing/1", "/v1/orders", "/v1/openapi.json"] {
            let reply = get_with(addr, url, &headers).await;
            if status == 200 {
                assert_ne!(reply.status, 401, "{url}");
                continue;
            }
            assert_eq!((reply.status, reply.code().as_str()), (status, code), "{url} {credential:?}");
            let challenge = reply.header("www-authenticate").unwrap();
            assert!(challenge.starts_with("Bearer"), "{challenge}");
            assert!(reply.header("lakegate-version").is_none() && !reply.body.contains("orders"), "{reply:?}");
            let head = request(addr, "HEAD", url, &headers).await;
            assert_eq!((head.status, head.body.as_str()), (401, ""), "{url}");
        }
        if status != 200 {
            let reply = post(addr, "/v1/orders/_batch", r#"{"keys": [1]}"#).await;
            assert_eq!(reply.status, 401, "{reply:?}");
        }
    }
    assert_eq!(get_as(addr, "/v1/orders/1", &right.text).await.data()[0]["note"], "note 1");
    for url in ["/livez", "/readyz", "/docs", "/docs/page.js", "/docs/page.css"] {
        assert_eq!(get(addr, url).await.status, 200, "{url}");
    }
    let document = get_as(addr, "/v1/openapi.json", &right.text).await.json();
    assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
}

#[tokio::test]
async fn which_tables_cannot_be_read_is_told_to_administrators_alone() {
    let database = TestDatabase::new().await;
    let publisher = orders(&database).await;
    let client = &publisher.session;
    let admin = key(client, NewKey { roles: vec!["admin".to_owned()], ..named("ops") }).await;
    let other = key(client, named("the app")).await;
    client.batch_execute("DROP TABLE lakegate_data.orders__g1").await.unwrap();
    let running = Running::start(asking(), database.connector()).await;
    let addr = running.server.addr;
    for (reply, names) in [
        (get(addr, "/readyz").await, false),
        (get_as(addr, "/readyz", &other.text).await, false),
        (get_as(addr, "/readyz", &admin.text).await, true),
    ] {
        assert_eq!((reply.status, reply.body.contains("orders")), (503, names), "{reply:?}");
    }
}

#[tokio::test]
async fn a_key_is_live_and_revoked_on_every_server_within_two_seconds() {
    let database = TestDatabase::new().await;
    let publisher = orders(&database).await;
    let client = &publisher.session;
    let servers =
        [Running::start(asking(), database.connector()).await, Running::start(asking(), database.connector()).await];
    let settles = async |text: &str, status: u16| {
        let began = Instant::now();
        for server in &servers {
            let answers = async || get_as(server.server.addr, "/v1/orders/1", text).await.status == status;
            eventually("the change", answers).await;
        }
        assert!(began.elapsed() < LIVE, "{status} after {:?}", began.elapsed());
    };
    let made = key(client, named("new")).await;
    settles(&made.text, 200).await;
    control().revoke_key(&**client, &made.id).await.unwrap().unwrap();
    settles(&made.text, 401).await;
    // Servers that are told of nothing look for themselves.
    let untold = key(client, named("untold")).await;
    settles(&untold.text, 200).await;
    client
        .batch_execute(
            "CREATE OR REPLACE FUNCTION lakegate.move_auth_epoch() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN UPDATE lakegate.auth_epoch SET epoch = epoch + 1; RETURN NULL; END'",
        )
        .await
        .unwrap();
    // A key that is changed by hand is another one as soon.
    client.execute("UPDATE lakegate.api_keys SET expires_at = now() WHERE id = $1", &[&untold.id]).await.unwrap();
    settles(&untold.text, 401).await;
}

#[tokio::test]
async fn keys_that_are_all_taken_away_at_once_are_revoked() {
    let database = TestDatabase::new().await;
    let publisher = orders(&database).await;
    let made = key(&publisher.session, named("the app")).await;
    let running = Running::start(asking(), database.connector()).await;
    let addr = running.server.addr;
    assert_eq!(get_as(addr, "/v1/orders/1", &made.text).await.status, 200);
    publisher.session.batch_execute("TRUNCATE lakegate.api_keys").await.unwrap();
    eventually("the change", async || get_as(addr, "/v1/orders/1", &made.text).await.status == 401).await;
}

#[tokio::test]
async fn a_key_in_a_form_that_is_none_keeps_no_other_from_being_heard_of() {
    let database = TestDatabase::new().await;
    let publisher = orders(&database).await;
    let client = &publisher.session;
    let by_hand = key(client, named("by hand")).await;
    let running = Running::start(asking(), database.connector()).await;
    let addr = running.server.addr;
    for change in ["attributes = '{\"tenant\": 7}'", "attributes = '{}', roles = '{NULL}'"] {
        client
            .batch_execute(&format!("UPDATE lakegate.api_keys SET {change} WHERE id = '{}'", by_hand.id))
            .await
            .unwrap();
        let other = key(client, named("made afterwards")).await;
        eventually("the change", async || get_as(addr, "/v1/orders/1", &other.text).await.status == 200).await;
        assert_eq!(get_as(addr, "/v1/orders/1", &by_hand.text).await.status, 401, "{change}");
        assert_eq!(get(addr, "/readyz").await.status, 200, "{change}");
        let listed = control().keys(&**client).await.unwrap();
        let understood = |id: &str| listed.iter().find(|key| key.id == id).unwrap().is_understood();
        assert_eq!((understood(&by_hand.id), understood(&other.id)), (false, true), "{change}");
    }
    let never = "UPDATE lakegate.api_keys SET attributes = '{}', roles = '{}', expires_at = 'infinity'";
    client.batch_execute(never).await.unwrap();
    eventually("the change", async || get_as(addr, "/v1/orders/1", &by_hand.text).await.status == 200).await;
    let listed = control().keys(&**client).await.unwrap();
    assert!(listed.iter().all(|key| key.expires_at.is_none() && key.is_understood()), "{listed:?}");
    let revoked = control().revoke_key(&**client, &by_hand.id).await.unwrap().unwrap();
    assert!(revoked.revoked_at.is_some(), "{revoked:?}");
}

#[tokio::test]
async fn the_last_use_of_a_key_is_noted() {
    let database = TestDatabase::new().await;
    let publisher = orders(&database).await;
    let used = key(&publisher.session, named("used")).await;
    let unused = key(&publisher.session, named("unused")).await;
    let running = Running::start(asking(), database.connector()).await;
    assert_eq!(get_as(running.server.addr, "/v1/orders/1", &used.text).await.status, 200);
    let wrong = format!("{}{}", &unused.text[..16], &used.text[16..]);
    assert_eq!(get_as(running.server.addr, "/v1/orders/1", &wrong).await.status, 401);
    let noted = async |id: &str| {
        let keys = control().keys(&*publisher.session).await.unwrap();
        keys.into_iter().find(|key| key.id == id).unwrap().last_used_at
    };
    eventually("the note", async || noted(&used.id).await.is_some()).await;
    assert_eq!(noted(&unused.id).await, None);

    // Within a minute it is not written again, whoever asks for it.
    let first = noted(&used.id).await;
    let note =
        async || publisher.session.execute("SELECT lakegate.note_key_use(ARRAY[$1])", &[&used.id]).await.unwrap();
    note().await;
    assert_eq!(noted(&used.id).await, first);
    let before = "UPDATE lakegate.api_keys SET last_used_at = last_used_at - interval '1 minute' WHERE id = $1";
    publisher.session.execute(before, &[&used.id]).await.unwrap();
    note().await;
    assert!(noted(&used.id).await > first);
}
