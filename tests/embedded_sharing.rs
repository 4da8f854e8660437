//! The embedded Postgres under whole commands: shared by the processes of a project, stopped by the last one, adopted
//! where its process died.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::support::http;
use crate::support::lake::LakeTable;
use crate::support::process::Process;
use crate::support::project::{ProjectFolder, RunningServer, eventually};

/// A project without a Postgres URL, whose table is loaded by `up` as soon as it runs.
async fn project() -> ProjectFolder {
    let project = ProjectFolder::new();
    let (schema, batch) = LakeTable::numbered(0..3);
    LakeTable::create(&project.path("lake/items"), &schema, vec![batch]).await;
    project.pipeline("items", "source: lake/items\nprimary_key: [id]\nschedule: every 1h\n");
    project
}

/// `up`, once the table is loaded.
async fn up(project: &ProjectFolder) -> RunningServer {
    let up = project.start("up").await;
    eventually("the first load", async || http::get(up.address, "/v1/items/1").await.status == 200).await;
    up
}

/// The process number of the server, as long as it has not been stopped in order.
fn postmaster(project: &ProjectFolder) -> Option<String> {
    let file = project.path(".lakegate/postgres/data/postmaster.pid");
    Some(std::fs::read_to_string(file).ok()?.lines().next()?.to_owned())
}

async fn assert_ends_well(mut server: RunningServer, signal: Signal) {
    kill(Pid::from_raw(server.child.id().unwrap().cast_signed()), signal).unwrap();
    assert_eq!(server.child.wait().await.unwrap().code(), Some(0));
}

async fn get(project: &ProjectFolder) {
    let got = project.run(&["get", "items", "1"]).await.ok();
    assert_eq!(got.json()[0]["data"], json!([{ "id": 1, "name": "row 1" }]));
}

#[tokio::test]
async fn commands_share_the_server_of_up_and_the_last_one_out_stops_it() {
    let project = project().await;
    let up = up(&project).await;
    let server = postmaster(&project);
    assert!(server.is_some());
    get(&project).await;
    assert_eq!(postmaster(&project), server, "`get` used the server that ran and left it running");

    let serve = project.start("serve").await;
    assert_ends_well(up, Signal::SIGTERM).await;
    assert_eq!(postmaster(&project), server, "`serve` still uses it");
    assert_eq!(http::get(serve.address, "/v1/items/1").await.status, 200);
    assert_ends_well(serve, Signal::SIGINT).await;
    assert_eq!(postmaster(&project), None);
}

#[tokio::test]
async fn a_killed_up_leaves_a_server_that_the_next_command_adopts_and_stops() {
    let project = project().await;
    let mut up = up(&project).await;
    let orphan = postmaster(&project);
    up.child.kill().await.unwrap();
    assert_eq!(postmaster(&project), orphan);
    assert!(orphan.is_some());

    let serve = project.start("serve").await;
    assert_eq!(postmaster(&project), orphan, "it was adopted");
    assert_eq!(http::get(serve.address, "/v1/items/1").await.status, 200);
    assert_ends_well(serve, Signal::SIGTERM).await;
    assert_eq!(postmaster(&project), None);
    get(&project).await;
}

#[tokio::test]
async fn ctrl_c_while_the_server_is_being_made_leaves_none_running() {
    let project = project().await;
    let sync = Process::start(project.command(&["sync"]));
    eventually("the server's folder", async || project.path(".lakegate/postgres").exists()).await;
    sync.signal(Signal::SIGINT);
    let ran = sync.end().await;
    assert_eq!(ran.code, Some(130), "{ran:?}");
    assert_eq!(postmaster(&project), None);
    project.sync("items").await;
}
