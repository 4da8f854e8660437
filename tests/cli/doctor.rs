//! `lakegate doctor`.

use super::items;
use crate::support::project::TestProject;
use crate::support::shown::steady;

#[tokio::test]
async fn a_doctor_who_finds_nothing_says_what_was_looked_at() {
    let (project, _table) = items().await;
    let ran = project.run(&["doctor"]).await.ok();
    assert_eq!(ran.stderr, "");
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{ran:?}");
    assert!(lines.iter().all(|line| line.starts_with("ok ")), "{ran:?}");
    assert_eq!(lines[0], "ok     configuration: 1 pipeline");
    assert!(lines[1].starts_with("ok     Postgres: Postgres at 127.0.0.1:"), "{ran:?}");
    assert_eq!(lines[3], "ok     pipeline items: delta version 1, 2 columns, the table has never been loaded");
}

#[tokio::test]
async fn a_doctor_who_finds_something_goes_on_and_says_what_to_do() {
    let (project, _table) = items().await;
    project.pipeline("others", "source: lake/others\nprimary_key: [id]\n");
    let ran = project.run(&["doctor"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let bad: Vec<&str> = ran.stdout.lines().skip_while(|line| !line.starts_with("FAILED")).collect();
    insta::assert_snapshot!("doctor_finds_a_missing_table", steady(&project, &bad.join("\n"), &[]));
    assert!(ran.stdout.contains("ok     pipeline items"), "{ran:?}");
}

#[tokio::test]
async fn a_doctor_without_postgres_names_the_place() {
    let (mut project, _table) = items().await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    project.set("LAKEGATE_POSTGRES", &format!("postgres://me@127.0.0.1:{closed}/lake"));
    let ran = project.run(&["doctor"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let place = format!(":{closed}");
    insta::assert_snapshot!("doctor_without_postgres", steady(&project, &ran.stdout, &[(&place, ":PORT")]));
}

#[tokio::test]
async fn a_doctor_on_broken_files_repeats_what_validate_says() {
    let project = TestProject::new().await;
    project.pipeline("items", "source: lake/items\nprimary_key: [id]\nretain: many\n");
    let ran = project.run(&["doctor"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    insta::assert_snapshot!("doctor_on_broken_files", steady(&project, &ran.stdout, &[]));
}

#[tokio::test]
async fn the_grants_that_are_printed_are_enough() {
    let (mut project, _table) = items().await;
    let sql = project.run(&["doctor", "--grants"]).await.ok().stdout;
    insta::assert_snapshot!("grants", steady(&project, &sql, &[]));
    let (database, login) = (project.database.name().to_owned(), format!("{}_login", project.database.name()));
    let admin = project.sql().await;
    admin.batch_execute(&format!("CREATE ROLE {login} LOGIN PASSWORD 'login'")).await.unwrap();
    let create = sql.lines().find(|line| line.starts_with("GRANT CREATE")).unwrap();
    admin.batch_execute(&create.replace("DBNAME", &database).replace("LOGIN", &login)).await.unwrap();
    let port = crate::support::postgres::TestCluster::shared().port();
    project.set("LAKEGATE_POSTGRES", &format!("postgres://{login}:login@127.0.0.1:{port}/{database}"));
    let outcome = project.sync("items").await;
    assert_eq!(outcome["state"], "succeeded");
    admin.batch_execute(&format!("DROP OWNED BY {login} CASCADE; DROP ROLE {login}")).await.unwrap();
}
