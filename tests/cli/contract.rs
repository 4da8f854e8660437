//! What holds for every command: streams, exit codes, help, colours.

use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::items;
use crate::support::project::{TestProject, eventually};
use crate::support::shown::steady;

const COMMANDS: [&str; 24] = [
    "init",
    "sample",
    "preview",
    "add",
    "validate",
    "plan",
    "sync",
    "up",
    "serve",
    "status",
    "runs",
    "generations",
    "rejected",
    "get",
    "rollback",
    "pause",
    "resume",
    "cancel",
    "verify",
    "pin",
    "drop",
    "keys",
    "schema",
    "doctor",
];

#[tokio::test]
async fn every_command_says_what_it_does_and_takes() {
    let project = TestProject::new().await;
    let help = project.run(&["--help"]).await.ok();
    assert_eq!(help.stderr, "");
    insta::assert_snapshot!("help", steady(&project, &help.stdout, &[]));
    let mut all = String::new();
    for command in COMMANDS {
        assert!(help.stdout.contains(&format!("\n  {command} ")), "{command} is not in the list");
        let ran = project.run(&[command, "-h"]).await.ok();
        // What all commands take is in the help of the whole.
        let own: Vec<&str> = ran.stdout.split("      --project <DIR>").next().unwrap().lines().collect();
        all.push_str(&format!("──────── lakegate {command} -h\n{}\n", own.join("\n").trim_end()));
    }
    let listed = help.stdout.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty()).filter(|line| !line.starts_with("   ")).count();
    assert_eq!(listed, COMMANDS.len(), "a command is missing here");
    insta::assert_snapshot!("help_of_commands", all);
}

#[tokio::test]
async fn data_goes_to_standard_output_and_the_rest_to_standard_error() {
    let (project, _table) = items().await;
    let synced = project.run(&["sync"]).await.ok();
    assert!(synced.stdout.starts_with("items: 3 rows of version 1 published in "), "{synced:?}");
    assert!(synced.stdout.ends_with("; every value compared with the source\n"), "{synced:?}");
    assert_eq!(synced.stderr, "items: snapshot (the table has never been loaded)\n");
    let json = project.run(&["sync", "--output", "json"]).await.ok();
    assert_eq!((json.json().len(), json.json()[0]["state"].as_str()), (1, Some("skipped")));
}

#[tokio::test]
async fn a_program_gets_its_errors_as_records_on_standard_output() {
    let (project, _table) = items().await;
    for (command, code) in [
        (&["sync", "nothing"][..], "LG1015"),
        (&["get", "items", "1"], "LG6001"),
        (&["rollback", "items"], "LG5006"),
        (&["verify", "items"], "LG5006"),
        (&["generations", "No"], "LG1015"),
        (&["preview", "nowhere"], "LG2001"),
        (&["add", "lake/items"], "LG1014"),
        (&["drop", "items"], "LG1013"),
        (&["sample", "lake"], "LG1014"),
    ] {
        let command: Vec<&str> = command.iter().copied().chain(["--output", "json"]).collect();
        let ran = project.run(&command).await;
        assert_eq!(ran.code, Some(1), "{command:?}: {ran:?}");
        let records = ran.json();
        assert_eq!(records.len(), 1, "{command:?}: {ran:?}");
        assert_eq!(records[0]["error"]["code"], code, "{command:?}: {ran:?}");
    }
}

#[tokio::test]
async fn an_interrupted_sync_ends_with_130_and_publishes_nothing() {
    let (project, mut table) = items().await;
    project.pipeline("items", "source: lake/items\nprimary_key: [id]\nmode: snapshot\n");
    project.sync("items").await;
    table.update("name", "'changed'", "id = 1").await;
    // A reader's transaction keeps the view from being repointed, so that the run waits.
    let reader = project.sql().await;
    reader.batch_execute("BEGIN; SELECT * FROM lake.items").await.unwrap();
    let mut sync = project.command(&["sync"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let watcher = project.sql().await;
    let state = async || {
        let row = watcher.query_one("SELECT state FROM lakegate.runs ORDER BY run DESC LIMIT 1", &[]).await.unwrap();
        row.get::<_, String>(0)
    };
    eventually("the run waits", async || state().await == "waiting").await;
    kill(Pid::from_raw(sync.id().unwrap().cast_signed()), Signal::SIGINT).unwrap();
    assert_eq!(sync.wait().await.unwrap().code(), Some(130));
    assert_eq!(state().await, "cancelled");
    reader.batch_execute("ROLLBACK").await.unwrap();
    let rows = watcher.query("SELECT FROM lake.items WHERE name = 'changed'", &[]).await.unwrap();
    assert_eq!(rows.len(), 0);
}

#[tokio::test]
async fn colours_are_for_terminals_and_for_who_insists() {
    let (mut project, _table) = items().await;
    let escapes = async |project: &TestProject| project.run(&["sync", "nothing"]).await.stderr.contains('\u{1b}');
    assert!(!escapes(&project).await);
    project.set("CLICOLOR_FORCE", "1");
    assert!(escapes(&project).await, "the check would not see colours");
    project.set("NO_COLOR", "1");
    assert!(!escapes(&project).await);
}

#[tokio::test]
async fn the_log_of_a_server_has_no_escape_codes_off_a_terminal() {
    let (mut project, _table) = items().await;
    project.set("LAKEGATE_API_LISTEN", "0.0.0.0:0");
    let ran = project.run(&["up"]).await;
    assert_eq!(ran.code, Some(1));
    steady(&project, &ran.stderr, &[]);
}

#[tokio::test]
async fn schemas_are_those_of_the_repository() {
    let project = TestProject::new().await;
    for (of, file) in [("pipeline", "schemas/pipeline.json"), ("project", "schemas/project.json")] {
        let text = std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        assert_eq!(project.run(&["schema", of]).await.ok().stdout, text);
        let record = project.run(&["schema", of, "--output", "json"]).await.ok().json().remove(0);
        assert_eq!(record, serde_json::from_str::<serde_json::Value>(&text).unwrap());
    }
}

#[tokio::test]
async fn options_may_stand_after_a_key_and_keys_may_be_negative() {
    let (project, mut table) = items().await;
    let (_, batch) = crate::support::lake::LakeTable::numbered(-7..-6);
    table.append(vec![batch]).await;
    project.sync("items").await;
    let got = project.run(&["get", "items", "-7", "--output", "json"]).await.ok();
    assert_eq!(got.json()[0]["data"][0]["name"], "row -7");
}
