//! Postgres.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{ITEMS, items, refused};
use crate::support::lake::LakeTable;
use crate::support::postgres::TestCluster;
use crate::support::project::TestProject;
use crate::support::shown::refusal;

async fn numbered(yaml: &str) -> TestProject {
    let project = items(yaml).await;
    let (schema, batch) = LakeTable::numbered(0..3);
    LakeTable::create(&project.path("lake/items"), &schema, vec![batch]).await;
    project
}

/// A port on which nothing listens.
fn closed_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_not_repeated() {
    let mut project = items(ITEMS).await;
    let port = TestCluster::shared().port();
    project.set("LAKEGATE_POSTGRES", &format!("postgres://tester:hunter2@127.0.0.1:{port}/postgres"));
    let ran = project.run(&["sync"]).await;
    let shown = refusal(&project, &ran, &[]);
    assert!(ran.code == Some(1) && !shown.contains("hunter2"), "{shown}");
    insta::assert_snapshot!("wrong_password", shown);
}

#[tokio::test]
async fn a_database_that_is_not_there_is_named() {
    let mut project = items(ITEMS).await;
    project.set("LAKEGATE_POSTGRES", &TestCluster::shared().url("nowhere"));
    refused!("no_such_database", project, "sync");
}

#[tokio::test]
async fn a_server_that_does_not_run_is_named() {
    let mut project = items(ITEMS).await;
    let port = closed_port();
    project.set("LAKEGATE_POSTGRES", &format!("postgres://tester@127.0.0.1:{port}/lake"));
    refused!("postgres_not_running", project, "sync", &format!(":{port}") => ":PORT");
}

#[tokio::test]
async fn a_host_that_does_not_exist_is_named() {
    let mut project = items(ITEMS).await;
    project.set("LAKEGATE_POSTGRES", "postgres://tester@db.invalid/lake");
    let ran = project.run(&["sync"]).await;
    // What the resolver says differs from system to system.
    assert!(ran.code == Some(1) && ran.stderr.starts_with("error[LG4001]"), "{ran:?}");
    assert!(ran.stderr.contains("Postgres at db.invalid:5432/lake"), "{ran:?}");
}

#[tokio::test]
async fn a_url_that_is_none_is_refused() {
    let mut project = items(ITEMS).await;
    project.set("LAKEGATE_POSTGRES", "postgres://tester@127.0.0.1:many/lake");
    refused!("wrong_url", project, "sync");
}

#[tokio::test]
async fn a_server_without_tls_is_told_apart() {
    let mut project = items(ITEMS).await;
    let url = format!("{}?sslmode=require", project.database.url());
    project.set("LAKEGATE_POSTGRES", &url);
    refused!("no_tls", project, "sync");
}

/// A server that lets anybody in and says of itself what PostgreSQL 13 says; there are no binaries of it to be had.
async fn old_server() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut startup = [0; 1024];
            let _ = socket.read(&mut startup).await;
            let mut greeting = b"R\0\0\0\x08\0\0\0\0".to_vec();
            for (name, value) in [("server_version", "13.14"), ("server_encoding", "UTF8"), ("client_encoding", "UTF8")]
            {
                greeting.push(b'S');
                greeting.extend_from_slice(&((name.len() + value.len() + 6) as u32).to_be_bytes());
                greeting.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
            }
            greeting.extend_from_slice(b"K\0\0\0\x0c\0\0\0\x01\0\0\0\x02Z\0\0\0\x05I");
            let _ = socket.write_all(&greeting).await;
            let _ = socket.read(&mut startup).await;
        }
    });
    port
}

#[tokio::test]
async fn a_server_that_is_too_old_is_refused() {
    let mut project = items(ITEMS).await;
    let port = old_server().await;
    project.set("LAKEGATE_POSTGRES", &format!("postgres://tester@127.0.0.1:{port}/lake?sslmode=disable"));
    refused!("postgres_too_old", project, "sync", &format!(":{port}") => ":PORT");
}

#[tokio::test]
async fn a_database_in_another_encoding_is_refused() {
    let mut project = items(ITEMS).await;
    let latin = format!("{}_latin", project.database.name());
    let session = project.sql().await;
    session.batch_execute(&format!("CREATE DATABASE {latin} TEMPLATE template0 ENCODING 'LATIN1'")).await.unwrap();
    project.set("LAKEGATE_POSTGRES", &TestCluster::shared().url(&latin));
    refused!("database_in_latin1", project, "sync");
    session.batch_execute(&format!("DROP DATABASE {latin} WITH (FORCE)")).await.unwrap();
}

#[tokio::test]
async fn a_name_that_belongs_to_another_table_is_refused() {
    let project = numbered(ITEMS).await;
    project.sql().await.batch_execute("CREATE SCHEMA lake; CREATE TABLE lake.items (id int)").await.unwrap();
    refused!("name_taken", project, "plan" "items");
}

#[tokio::test]
async fn a_role_that_does_not_exist_is_named() {
    let project = numbered("source: lake/items\nprimary_key: [id]\ngrants: [analysts]\n").await;
    refused!("role_missing", project, "plan" "items");
}

#[tokio::test]
async fn what_depends_on_a_view_that_cannot_follow_is_named() {
    let project = numbered(ITEMS).await;
    project.sync("items").await;
    project.sql().await.batch_execute("CREATE VIEW public.report AS SELECT name FROM lake.items").await.unwrap();
    project.pipeline(
        "items",
        "source: lake/items\nprimary_key: [id]\ncolumns: {exclude: [name]}\non_schema_change: follow\n",
    );
    refused!("dependent_view", project, "plan" "items");
}

#[tokio::test]
async fn the_schemas_of_another_project_are_refused() {
    let project = numbered(ITEMS).await;
    project.sync("items").await;
    std::fs::write(project.path("lakegate.yaml"), "project: another\n").unwrap();
    let session = project.sql().await;
    let id: String = session.query_one("SELECT project FROM lakegate.project", &[]).await.unwrap().get(0);
    refused!("foreign_project", project, "sync", &id => "OTHER");
}

#[tokio::test]
async fn a_login_that_may_create_nothing_is_refused() {
    let mut project = numbered(ITEMS).await;
    let login = format!("{}_reader", project.database.name());
    let session = project.sql().await;
    session.batch_execute(&format!("CREATE ROLE {login} LOGIN PASSWORD 'reader'")).await.unwrap();
    let port = TestCluster::shared().port();
    let database = project.database.name().to_owned();
    project.set("LAKEGATE_POSTGRES", &format!("postgres://{login}:reader@127.0.0.1:{port}/{database}"));
    refused!("no_privileges", project, "sync");
    session.batch_execute(&format!("DROP ROLE {login}")).await.unwrap();
}

#[tokio::test]
async fn a_machine_without_postgres_says_what_to_install() {
    let mut project = items(ITEMS).await;
    project.unset("LAKEGATE_POSTGRES");
    project.set("LAKEGATE_POSTGRES_BIN", "/nowhere/bin");
    refused!("no_binaries", project, "sync");
}
