//! Logins with few privileges: what suffices for syncs and for replicas, and what is said where it does not.

use crate::support::http;
use crate::support::items::Items;
use crate::support::postgres::TestDatabase;
use crate::support::roles::{ask_as, login, role};

#[tokio::test]
async fn a_login_that_may_only_create_schemas_is_enough_for_everything() {
    let mut items = Items::unsynced("").await;
    let admin = items.project.sql().await;
    let (syncer, url) = login(&admin, &items.project.database, "syncer").await;
    let reader = role(&admin, &items.project.database, "reader").await;
    let database = items.project.database.name().to_owned();
    admin.batch_execute(&format!("GRANT CREATE ON DATABASE {database} TO {syncer}")).await.unwrap();
    items.project.set("LAKEGATE_POSTGRES", &url);
    items.pipeline(&format!("grants: [{reader}]\nretain: 0\non_schema_change: follow\n"));

    items.project.sync("items").await;
    items.lake.update("name", "'changed'", "id = 1").await;
    items.project.sync("items").await;
    let name = "SELECT name FROM lake.items WHERE id = 1";
    assert_eq!(ask_as(&admin, &reader, name).await, Ok("changed".to_owned()));
    let got = items.project.run(&["get", "items", "1"]).await.ok();
    assert_eq!(got.json()[0]["data"][0]["name"], "changed");
    let server = items.project.start("up").await;
    assert_eq!(http::get(server.address, "/v1/items/1").await.status, 200);
    drop(server);

    // A view made anew, a rollback, the end: all without a right to create roles.
    items.project.run(&["rollback", "items"]).await.ok();
    assert_eq!(ask_as(&admin, &reader, name).await, Ok("row 1".to_owned()));
    items.replace_columns(&["id"]).await;
    items.project.sync("items").await;
    assert_eq!(ask_as(&admin, &reader, "SELECT count(*) FROM lake.items").await, Ok("3".to_owned()));
    let checks = items.project.run(&["doctor", "--output", "json"]).await.ok();
    assert!(checks.json().iter().all(|check| check["ok"] == true), "{checks:?}");
    items.project.run(&["drop", "items", "--yes"]).await.ok();
}

#[tokio::test]
async fn a_login_that_makes_roles_shares_the_table_with_others_of_its_role() {
    let mut items = Items::unsynced("").await;
    // Roles of the project's own, which no other test has made before.
    std::fs::write(items.project.path("lakegate.yaml"), "schemas: {control: lakegate_shared}\n").unwrap();
    let admin = items.project.sql().await;
    let (first, first_url) = login(&admin, &items.project.database, "first").await;
    let (second, second_url) = login(&admin, &items.project.database, "second").await;
    let database = items.project.database.name().to_owned();
    admin
        .batch_execute(&format!("ALTER ROLE {first} CREATEROLE; GRANT CREATE ON DATABASE {database} TO {first}"))
        .await
        .unwrap();
    items.project.set("LAKEGATE_POSTGRES", &first_url);
    items.project.sync("items").await;

    admin.batch_execute(&format!("GRANT lakegate_shared_owner TO {second}")).await.unwrap();
    items.project.set("LAKEGATE_POSTGRES", &second_url);
    items.lake.update("name", "'changed'", "id = 1").await;
    items.project.sync("items").await;
    items.project.set("LAKEGATE_POSTGRES", &first_url);
    items.lake.delete("id = 1").await;
    assert_eq!(items.project.sync("items").await["publish_no"], 3);
    let owners = "SELECT DISTINCT pg_get_userbyid(relowner)::text FROM pg_class WHERE relkind IN ('r', 'v', 'S') AND \
                  relnamespace IN ('lake'::regnamespace, 'lakegate_data'::regnamespace, 'lakegate_shared'::regnamespace)";
    let owners: Vec<String> = admin.query(owners, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(owners, ["lakegate_shared_owner"]);
}

#[tokio::test]
async fn a_login_without_privileges_is_told_what_it_lacks() {
    let mut items = Items::on(TestDatabase::alone().await, "").await;
    let admin = items.project.sql().await;
    let (nobody, url) = login(&admin, &items.project.database, "nobody").await;
    let own = items.project.database.url();
    items.project.set("LAKEGATE_POSTGRES", &url);
    let refused = async |items: &Items| {
        let ran = items.project.run(&["sync", "items", "--output", "json"]).await;
        assert_eq!(ran.code, Some(1), "{ran:?}");
        let error = ran.json().remove(0)["error"].take();
        assert_eq!(error["code"], "LG4004", "{error}");
        error["hint"].as_str().unwrap().to_owned()
    };
    let hint = refused(&items).await;
    assert!(hint.contains("CREATE SCHEMA \"lake\" AUTHORIZATION"), "{hint}");

    // The same where the schemas are there, but somebody else's.
    items.project.set("LAKEGATE_POSTGRES", &own);
    items.project.sync("items").await;
    items.project.set("LAKEGATE_POSTGRES", &url);
    let hint = refused(&items).await;
    assert!(hint.contains("lakegate doctor --grants"), "{hint}");
    admin.batch_execute(&format!("GRANT lakegate_owner TO {nobody}")).await.unwrap();
    assert_eq!(items.project.sync("items").await["state"], "skipped");
}

#[tokio::test]
async fn a_replica_needs_no_more_than_the_api_role() {
    let mut items = Items::with_roles("").await;
    let admin = items.project.sql().await;
    let (replica, url) = login(&admin, &items.project.database, "replica").await;
    admin.batch_execute(&format!("GRANT lakegate_api TO {replica}")).await.unwrap();
    let own = items.project.database.url();
    items.project.set("LAKEGATE_POSTGRES", &url);
    let server = items.project.start("serve").await;
    assert_eq!(http::get(server.address, "/v1/items/1").await.data()[0]["name"], "row 1");
    assert_eq!(http::get(server.address, "/readyz").await.status, 200);

    // A new generation is readable for it too, and nothing else is.
    items.project.set("LAKEGATE_POSTGRES", &own);
    items.lake.update("name", "'changed'", "id = 1").await;
    items.project.sync("items").await;
    assert_eq!(http::get(server.address, "/v1/items/1").await.data()[0]["name"], "changed");
    for forbidden in ["lakegate.rejected_rows", "lakegate.leases", "lake.items"] {
        let answer = ask_as(&admin, &replica, &format!("SELECT count(*) FROM {forbidden}")).await;
        assert_eq!(answer, Err("42501".to_owned()), "{forbidden}");
    }
}
