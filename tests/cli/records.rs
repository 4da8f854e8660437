//! The records of `--output json` are those that `docs/cli.md` lists: no field is missing there, and none is made up.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use super::items;
use crate::support::project::{Ran, TestProject, eventually};

/// Fields whose insides are the user's own, or are listed elsewhere.
const CLOSED: [&str; 5] = ["error", "key", "last_run", "data", "attributes"];

/// The names of a record's fields, those of fields within fields included.
fn fields(record: &Value, path: &str, found: &mut BTreeSet<String>) {
    for (name, value) in record.as_object().into_iter().flatten() {
        let name = format!("{path}{name}");
        let lists_objects = value.as_array().and_then(|list| list.first()).is_some_and(Value::is_object);
        if CLOSED.contains(&name.rsplit('.').next().unwrap()) {
            found.insert(name);
        } else if value.is_object() {
            fields(value, &format!("{name}."), found);
        } else if lists_objects {
            let each = value.as_array().unwrap().iter();
            each.for_each(|element| fields(element, &format!("{name}[]."), found));
        } else {
            found.insert(name);
        }
    }
}

/// The fields that a section of the page lists. `command` is how its heading begins.
fn documented(command: &str) -> BTreeSet<String> {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md")).unwrap();
    let heading = format!("\n## {command}");
    let start = page.find(&heading).unwrap_or_else(|| panic!("docs/cli.md has no section {command}")) + heading.len();
    let section = page[start..].split("\n## ").next().unwrap();
    section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// Holds all records together to what is documented of `sections`. An empty list of objects shows no fields, so some
/// record must have one that is not.
#[track_caller]
fn hold(sections: &[&str], commands: &[Ran]) {
    let mut printed = BTreeSet::new();
    for ran in commands {
        ran.json().iter().for_each(|record| fields(record, "", &mut printed));
    }
    let documented: BTreeSet<String> = sections.iter().flat_map(|section| documented(section)).collect();
    let of_empty_lists: Vec<String> =
        documented.iter().filter_map(|name| Some(name.split_once("[]")?.0.to_owned())).collect();
    let of_nulls: Vec<&str> = documented.iter().filter_map(|name| Some(name.split_once('.')?.0)).collect();
    printed.retain(|name| !of_empty_lists.contains(name) && !of_nulls.contains(&name.as_str()));
    assert_eq!(printed, documented, "{sections:?}");
}

/// Cancels a run that stays where it is until then.
async fn cancelled(project: &TestProject) -> Ran {
    let mut sync = project.command(&["sync", "items", "--full"]);
    let mut sync =
        sync.env("FAILPOINTS", "during_copy=pause").stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let session = project.sql().await;
    let running = "SELECT FROM lakegate.runs r JOIN lakegate.leases l USING (run) WHERE r.pipeline = 'items'";
    eventually("the run", async || session.query_opt(running, &[]).await.unwrap().is_some()).await;
    let ran = run(project, "cancel items").await.ok();
    assert_eq!(sync.wait().await.unwrap().code(), Some(1));
    ran
}

/// Runs a command, well or badly.
async fn run(project: &TestProject, command: &str) -> Ran {
    let arguments: Vec<&str> = command.split(' ').chain(["--output", "json"]).collect();
    let ran = project.run(&arguments).await;
    assert!(!ran.json().is_empty(), "{command}: {ran:?}");
    ran
}

#[tokio::test]
async fn records_of_errors_are_as_documented() {
    let (project, _table) = items().await;
    let failed = run(&project, "sync nothing").await;
    let mut printed = BTreeSet::new();
    fields(&failed.json()[0]["error"], "error.", &mut printed);
    assert_eq!(printed, documented("errors"));
}

#[tokio::test]
async fn records_of_plans_are_as_documented() {
    let (project, _table) = items().await;
    project.pipeline("items", "source: lake/items\nprimary_key: [id]\ncolumns: {exclude: [name]}\n");
    project.sync("items").await;
    project.sql().await.batch_execute("CREATE VIEW public.report AS SELECT id FROM lake.items").await.unwrap();
    project.pipeline("items", "source: lake/items\nprimary_key: [id]\n");
    project.pipeline("lost", "source: lake/nothing\nprimary_key: [id]\n");
    hold(&["`plan "], &[run(&project, "plan").await]);
}

#[tokio::test]
async fn records_of_a_tables_life_are_as_documented() {
    let (project, mut table) = items().await;
    project.pipeline("items", "source: lake/items\nprimary_key: [id]\nmode: snapshot\n");
    project.sync("items").await;
    table.update("name", "'changed'", "id = 1").await;
    project.pipeline("lost", "source: lake/nothing\nprimary_key: [id]\n");
    hold(&["`sync "], &[run(&project, "sync").await]);
    let runs = run(&project, "runs").await;
    hold(&["`sync ", "`runs "], &[runs]);
    hold(&["`generations "], &[run(&project, "generations items").await]);
    hold(&["`status`"], &[run(&project, "status").await]);
    hold(&["`verify "], &[run(&project, "verify items").await]);
    hold(&["`pause "], &[run(&project, "pause items").await, run(&project, "resume items").await]);
    hold(&["`cancel "], &[cancelled(&project).await]);
    let rollback = run(&project, "rollback items").await.ok();
    let (mut printed, mut expected) = (BTreeSet::new(), documented("`sync "));
    fields(&rollback.json()[0], "", &mut printed);
    expected.remove("error");
    assert_eq!(printed, expected, "a rollback is a run");
    hold(&["`drop "], &[run(&project, "drop items --yes").await]);
}

#[tokio::test]
async fn records_of_keys_are_as_documented() {
    let (project, _table) = items().await;
    let create = ["keys", "create", "app", "--attribute", "tenant=a", "--output", "json"];
    let made = project.run(&create).await.ok();
    assert_eq!(documented("`keys create "), BTreeSet::from(["key".to_owned()]), "what a record has besides");
    let mut of_list = BTreeSet::new();
    let listed = run(&project, "keys list").await.ok();
    fields(&listed.json()[0], "", &mut of_list);
    let mut of_create = BTreeSet::new();
    fields(&made.json()[0], "", &mut of_create);
    of_list.insert("key".to_owned());
    assert_eq!(of_create, of_list);
    let id = made.json()[0]["id"].as_str().unwrap().to_owned();
    hold(&["`keys list`"], &[listed, run(&project, &format!("keys revoke {id}")).await.ok()]);
}

#[tokio::test]
async fn records_of_rows_are_as_documented() {
    let (project, mut table) = items().await;
    project.pipeline("items", "source: lake/items\nprimary_key: [id, name]\non_bad_row: {reject: {max_rows: 5}}\n");
    table.update("name", "chr(0)", "id = 1").await;
    project.sync("items").await;
    let rejected = run(&project, "rejected items").await;
    assert_eq!(rejected.json()[0]["key"], serde_json::json!({"id": "1", "name": "\\u{0}"}));
    hold(&["`rejected "], &[rejected]);
    hold(&["`get "], &[run(&project, "get items 2").await]);
}

#[tokio::test]
async fn records_of_files_and_sources_are_as_documented() {
    let project = TestProject::new().await;
    let init = run(&project, "init shop").await.ok();
    hold(&["`init ", "`sample "], &[init]);
    hold(&["`sample "], &[run(&project, "sample lake").await.ok()]);
    hold(&["`preview "], &[run(&project, "preview lake/orders").await.ok()]);
    hold(&["`add "], &[run(&project, "add lake/orders").await.ok()]);
}

#[tokio::test]
async fn records_of_checks_are_as_documented() {
    let (project, _table) = items().await;
    project.pipeline("lost", "source: lake/nothing\nprimary_key: [id]\n");
    let good = run(&project, "validate").await.ok();
    hold(&["`doctor "], &[run(&project, "doctor").await, run(&project, "doctor --grants").await]);
    project.pipeline("lost", "source: lake/nothing\nprimary_kye: [id]\n");
    hold(&["`validate`"], &[good, run(&project, "validate").await]);
}
