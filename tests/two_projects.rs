//! Two projects on one database: the second is told so, and neither touches the other's tables.

use crate::support::items::Items;
use crate::support::lake::LakeTable;
use crate::support::project::{Ran, TestProject};

/// Another project with a pipeline of the same name, on the same database.
async fn second(first: &Items, further: &str) -> TestProject {
    let mut project = TestProject::new().await;
    project.set("LAKEGATE_POSTGRES", &first.project.database.url());
    let (schema, batch) = LakeTable::numbered(0..5);
    LakeTable::create(&project.path("lake/items"), &schema, vec![batch]).await;
    project.pipeline("items", "source: lake/items\nprimary_key: [id]\n");
    std::fs::write(project.path("lakegate.yaml"), further).unwrap();
    project
}

/// The error of a command that was refused as a whole.
fn refusal(ran: &Ran) -> serde_json::Value {
    assert_eq!(ran.code, Some(1), "{ran:?}");
    ran.json().remove(0)["error"].take()
}

async fn rows(items: &Items, view: &str) -> i64 {
    items.project.sql().await.query_one(&format!("SELECT count(*) FROM {view}"), &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_second_project_is_refused_and_told_what_to_do() {
    let first = Items::new("").await;
    for id in ["", "project: another\n"] {
        let project = second(&first, id).await;
        for command in [&["sync", "items"][..], &["status"], &["drop", "items", "--yes"], &["rollback", "items"]] {
            let error = refusal(&project.run(&[command, &["--output", "json"]].concat()).await);
            assert_eq!(error["code"], "LG4008", "{command:?}");
            assert!(error["hint"].as_str().unwrap().contains("`schemas`"), "{error}");
        }
    }
    assert_eq!(rows(&first, "lake.items").await, 3);
    assert_eq!(first.project.sync("items").await["state"], "skipped");
}

#[tokio::test]
async fn with_other_schemas_neither_touches_the_other() {
    let mut first = Items::new("").await;
    let schemas = "schemas: {published: lake2, data: lake2_data, control: lake2_control}\n";
    let project = second(&first, schemas).await;
    project.sync("items").await;
    assert_eq!((rows(&first, "lake.items").await, rows(&first, "lake2.items").await), (3, 5));

    first.lake.delete("id = 0").await;
    first.project.sync("items").await;
    assert_eq!((rows(&first, "lake.items").await, rows(&first, "lake2.items").await), (2, 5));
    project.run(&["drop", "items", "--yes"]).await.ok();
    assert_eq!(rows(&first, "lake.items").await, 2);
    assert_eq!(first.generation_tables().await, 2);
}

#[tokio::test]
async fn generations_of_two_projects_never_share_a_schema() {
    let first = Items::new("").await;
    let project = second(&first, "schemas: {published: lake2, control: lake2_control}\n").await;
    for command in [&["sync", "items"][..], &["drop", "items", "--yes"]] {
        let error = refusal(&project.run(&[command, &["--output", "json"]].concat()).await);
        assert_eq!(error["code"], "LG4008");
        assert!(error["detail"].as_str().unwrap().contains("`lakegate_data`"), "{error}");
    }
    assert_eq!((rows(&first, "lake.items").await, first.generation_tables().await), (3, 1));
    let left = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'lake2%'";
    let left: i64 = first.project.sql().await.query_one(left, &[]).await.unwrap().get(0);
    assert_eq!(left, 0, "the refused project leaves no schema behind");
}

#[tokio::test]
async fn views_of_two_projects_never_share_a_name() {
    let first = Items::new("").await;
    let project = second(&first, "schemas: {data: lake2_data, control: lake2_control}\n").await;
    assert_eq!(project.sync_fails("items").await["code"], "LG4021");
    assert_eq!(rows(&first, "lake.items").await, 3);
}

#[tokio::test]
async fn the_first_start_writes_the_projects_id_down() {
    // A file without a line break at its end, to which no line can simply be appended.
    let items = Items::unsynced("").await;
    let file = items.project.path("lakegate.yaml");
    std::fs::write(&file, "limits:\n  page_max: 50").unwrap();
    items.project.sync("items").await;
    let id: String =
        items.project.sql().await.query_one("SELECT project FROM lakegate.project", &[]).await.unwrap().get(0);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("limits:\n  page_max: 50\nproject: {id}\n"));
    assert_eq!(items.project.sync("items").await["state"], "skipped");
    assert_eq!(std::fs::read_to_string(&file).unwrap().matches("project").count(), 1);
}

#[tokio::test]
async fn an_id_that_cannot_be_written_is_printed_as_a_line_to_add() {
    let items = Items::unsynced("").await;
    let file = items.project.path("lakegate.yaml");
    // In braces: what is appended would not be read.
    std::fs::write(&file, "{limits: {page_max: 50}}\n").unwrap();
    let ran = items.project.run(&["sync", "items"]).await.ok();
    let line = ran.stderr.lines().find(|line| line.starts_with("project: ")).unwrap_or_else(|| panic!("{ran:?}"));
    assert!(ran.stderr.contains("add this line to it"), "{ran:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "{limits: {page_max: 50}}\n");

    let error = refusal(&items.project.run(&["status", "--output", "json"]).await);
    assert_eq!(error["code"], "LG4008");
    assert!(error["hint"].as_str().unwrap().contains(line), "{error}");
    std::fs::write(&file, format!("limits: {{page_max: 50}}\n{line}\n")).unwrap();
    assert_eq!(items.project.sync("items").await["state"], "skipped");
}

#[tokio::test]
async fn a_file_that_cannot_be_written_does_not_stop_the_first_start() {
    let items = Items::unsynced("").await;
    // Where it would be made nobody can make a file, not even root, whom no mode of a file stops.
    std::os::unix::fs::symlink("/proc/lakegate.yaml", items.project.path("lakegate.yaml")).unwrap();
    let ran = items.project.run(&["sync", "items"]).await.ok();
    assert!(ran.stderr.contains("add this line to it:\nproject: "), "{ran:?}");
}
