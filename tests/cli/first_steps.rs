//! What a new user does first.

use std::fs;

use crate::support::project::TestProject;
use crate::support::shown::{refusal, steady};

/// A folder without a project, and without the tests' database.
async fn nothing_yet() -> TestProject {
    let mut project = TestProject::new().await;
    fs::remove_dir(project.path("pipelines")).unwrap();
    project.unset("LAKEGATE_POSTGRES");
    if let Some(folder) = crate::support::postgres::binary_search().folder {
        project.set("LAKEGATE_POSTGRES_BIN", folder.to_str().unwrap());
    }
    project
}

#[tokio::test]
async fn a_new_project_runs_as_it_is_on_a_postgres_of_its_own() {
    let project = nothing_yet().await;
    let init = project.run(&["init"]).await.ok();
    insta::assert_snapshot!("init", steady(&project, &init.stdout, &[]));
    let synced = project.run(&["sync"]).await.ok();
    assert_eq!(synced.stdout.lines().count(), 5, "{synced:?}");
    let status = project.run(&["status", "--output", "json"]).await.ok().json().remove(0);
    assert!(status["postgres"].as_str().unwrap().starts_with("postgres://"), "{status}");
    let tables = status["tables"].as_array().unwrap();
    assert_eq!(tables.len(), 5);
    for table in tables {
        assert_eq!((&table["serving"], &table["sync"]), (&"online".into(), &"idle".into()), "{table}");
    }
    let got = project.run(&["get", "customers", "1", "--output", "json"]).await.ok().json().remove(0);
    assert_eq!(got["data"][0]["customer_id"], 1);
    let text = project.run(&["status"]).await.ok();
    assert!(text.stdout.starts_with("SQL readers, while a lakegate process runs: postgres://"), "{text:?}");
}

#[tokio::test]
async fn init_in_another_folder_says_how_to_go_on() {
    let project = nothing_yet().await;
    let init = project.run(&["init", "shop"]).await.ok();
    assert!(init.stdout.ends_with("next: lakegate --project shop up\n"), "{init:?}");
    assert!(project.path("shop/sample/orders/_delta_log").is_dir());
    let ignored = fs::read_to_string(project.path("shop/.gitignore")).unwrap();
    assert_eq!(ignored, "/.lakegate/\n/sample/\n");
}

#[tokio::test]
async fn init_overwrites_nothing() {
    let project = nothing_yet().await;
    fs::create_dir(project.path("pipelines")).unwrap();
    fs::write(project.path("pipelines/orders.yaml"), "mine").unwrap();
    let ran = project.run(&["init"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    insta::assert_snapshot!("init_over_a_project", refusal(&project, &ran, &[]));
    assert_eq!(fs::read_to_string(project.path("pipelines/orders.yaml")).unwrap(), "mine");
    assert!(!project.path("lakegate.yaml").exists() && !project.path("sample").exists());
}

#[tokio::test]
async fn a_sample_is_never_written_over_other_files() {
    let project = nothing_yet().await;
    fs::create_dir(project.path("mine")).unwrap();
    fs::write(project.path("mine/notes.txt"), "keep").unwrap();
    let ran = project.run(&["sample", "mine"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    insta::assert_snapshot!("sample_over_other_files", refusal(&project, &ran, &[]));
    assert_eq!(fs::read_to_string(project.path("mine/notes.txt")).unwrap(), "keep");
}

#[tokio::test]
async fn tables_of_the_sample_are_added_with_the_key_they_have() {
    let project = TestProject::new().await;
    project.run(&["sample", "lake"]).await.ok();
    for (table, key) in [
        ("customers", &["customer_id"][..]),
        ("orders", &["order_id"]),
        ("order_lines", &["order_id", "line_number"]),
        ("events", &["event_id"]),
    ] {
        let record = project.run(&["add", &format!("lake/{table}"), "--output", "json"]).await.ok().json().remove(0);
        assert_eq!(record["primary_key"], serde_json::json!(key), "{record}");
        assert_eq!(record["key_proposed"], true);
    }
    let text = fs::read_to_string(project.path("pipelines/order_lines.yaml")).unwrap();
    assert_eq!(text, "source: lake/order_lines\nprimary_key: [order_id, line_number]\nschedule: every 15m\n");
    project.run(&["validate"]).await.ok();
    let synced = project.run(&["sync", "--output", "json"]).await.ok();
    assert!(synced.json().iter().all(|run| run["state"] == "succeeded"), "{synced:?}");
    let lines = project.run(&["get", "order_lines", "1", "2", "--output", "json"]).await.ok();
    assert_eq!(lines.json()[0]["data"][0]["line_number"], 2);
}

#[tokio::test]
async fn a_table_is_added_under_the_name_and_key_that_are_given() {
    let project = TestProject::new().await;
    project.run(&["sample", "lake"]).await.ok();
    let added = project.run(&["add", "lake/orders", "--name", "shop", "--key", "month,order_id"]).await.ok();
    insta::assert_snapshot!("add", steady(&project, &added.stdout, &[]));
    let refused = project.run(&["add", "lake/orders", "--name", "other", "--key", "nothing"]).await;
    assert!(refused.code == Some(1) && refused.stderr.contains("LG2006"), "{refused:?}");
    assert!(!project.path("pipelines/other.yaml").exists());
}
