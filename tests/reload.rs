//! A `lakegate up` whose project's files change under it.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lakegate::domain::TableName;
use lakegate::store::{Control, LeaseAttempt};
use serde_json::{Value, json};

use crate::support::http::{Reply, get};
use crate::support::items::Items;
use crate::support::lake::LakeTable;
use crate::support::process::Process;
use crate::support::project::{RunningServer, eventually};

/// How the project's files stand.
async fn files(up: &RunningServer) -> Value {
    get(up.admin(), "/v1/project").await.json()
}

/// What the admin API says of a table.
async fn status(up: &RunningServer, name: &str) -> Value {
    get(up.admin(), &format!("/v1/pipelines/{name}")).await.json()
}

/// Whether a row is answered with its column `name`.
fn shows_name(reply: &Reply) -> bool {
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.data()[0].get("name").is_some()
}

async fn runs(items: &Items) -> i64 {
    items.project.sql().await.query_one("SELECT count(*) FROM lakegate.runs", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_pipeline_that_comes_is_loaded_and_one_that_goes_is_served_on() {
    let items = Items::new("").await;
    let up = items.project.start("up").await;
    items.project.pipeline("more", "source: lake/items\nprimary_key: [id]\nschedule: every 1h\n");
    let served = async |name: &str| get(up.address, &format!("/v1/{name}/1")).await.status == 200;
    eventually("the new table", async || served("more").await).await;

    fs::remove_file(items.project.path("pipelines/more.yaml")).unwrap();
    eventually("the end of its pipeline", async || status(&up, "more").await["orphaned"] == true).await;
    assert!(served("more").await && served("items").await);
    let sync = "/v1/pipelines/more/sync";
    let headers = [("Lakegate-Request", "1"), ("Content-Type", "application/json")];
    let refused = crate::support::http::post_with(up.admin(), sync, &headers, "{}").await;
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (404, &json!("LG1015")), "{refused:?}");
}

#[tokio::test]
async fn how_a_table_is_served_is_published_without_a_run_and_no_request_fails() {
    let items = Items::new("").await;
    let up = items.project.start("up").await;
    let address = up.address;
    let over = Arc::new(AtomicBool::new(false));
    let client = tokio::spawn({
        let over = Arc::clone(&over);
        async move {
            let mut asked = 0;
            while !over.load(Ordering::Relaxed) {
                assert_eq!(get(address, "/v1/items/1").await.status, 200);
                asked += 1;
            }
            asked
        }
    });
    let ran = runs(&items).await;
    let shown = async || shows_name(&get(address, "/v1/items/1").await);
    assert!(shown().await);
    for hidden in [true, false] {
        items.pipeline(if hidden { "serve: {hide: [name]}\n" } else { "" });
        eventually("what is declared", async || shown().await != hidden).await;
    }
    // What would hide nothing, since no column is called that, changes nothing.
    let before = files(&up).await["changed_at"].take();
    items.pipeline("serve: {hide: [nmae, name]}\n");
    eventually("the file is taken", async || files(&up).await["changed_at"] != before).await;
    assert!(shown().await);
    items.pipeline("serve: {hide: [name]}\n");
    eventually("what is declared", async || !shown().await).await;
    over.store(true, Ordering::Relaxed);
    assert!(client.await.unwrap() > 10);
    assert_eq!(runs(&items).await, ran, "nobody has asked the source");
    let published: i64 = get(up.admin(), "/v1/pipelines/items").await.json()["publish_no"].as_i64().unwrap();
    assert_eq!(published, 4, "once for each policy");
}

#[tokio::test]
async fn that_a_table_is_to_go_is_told_while_its_file_says_so() {
    let items = Items::new("").await;
    let up = items.project.start("up").await;
    let told = async || get(up.address, "/v1/items/1").await.header("deprecation").is_some();
    assert!(!told().await);
    for declared in [true, false] {
        items.pipeline(if declared { "deprecated: {}\n" } else { "" });
        eventually("what is declared", async || told().await == declared).await;
    }
}

#[tokio::test]
async fn a_run_under_way_ends_as_it_began_and_then_the_table_is_served_as_declared() {
    let items = Items::new("").await;
    let up = Process::start(items.project.command(&["up"]));
    let address = up.address().await;
    let session = items.project.sql().await;
    let (control, name) = (Control::new("lakegate"), TableName::new("items").unwrap());
    let lease = control.acquire_lease(&session, &name, "a run", Duration::from_secs(60)).await.unwrap();
    let LeaseAttempt::Acquired(lease) = lease else { panic!("{lease:?}") };
    items.pipeline("serve: {hide: [name]}\n");
    up.says("is published after the run under way").await;
    assert!(shows_name(&get(address, "/v1/items/1").await));
    control.release_lease(&session, &lease).await.unwrap();
    eventually("what is declared", async || !shows_name(&get(address, "/v1/items/1").await)).await;
}

#[tokio::test]
async fn a_broken_file_stops_nothing_and_holds_once_it_is_mended() {
    let mut items = Items::new("schedule: on change\n").await;
    let up = items.project.start("up").await;
    let good = fs::read_to_string(items.project.path("pipelines/items.yaml")).unwrap();
    items.project.pipeline("items", &format!("{good}serve: {{hide: [name]\n"));
    eventually("the problem", async || files(&up).await["problems"][0]["file"] == "pipelines/items.yaml").await;
    let problem = files(&up).await["problems"][0].take();
    assert!(problem["line"].is_u64() && problem["code"] == "LG1001", "{problem}");
    let sound = |expected: u8| format!("\nlakegate_project_sound {expected}.0\n");
    assert!(get(up.admin(), "/metrics").await.body.contains(&sound(0)));

    // What was declared before goes on.
    items.lake.append(vec![LakeTable::numbered(3..4).1]).await;
    eventually("the new row", async || get(up.address, "/v1/items/3").await.status == 200).await;
    assert!(shows_name(&get(up.address, "/v1/items/3").await));

    items.project.pipeline("items", &format!("{good}serve: {{hide: [name]}}\n"));
    eventually("what is declared", async || !shows_name(&get(up.address, "/v1/items/3").await)).await;
    assert_eq!(files(&up).await["problems"], json!([]));
    assert!(get(up.admin(), "/metrics").await.body.contains(&sound(1)));
}

#[tokio::test]
async fn another_schedule_holds_at_once_and_other_settings_with_the_next_start() {
    let mut items = Items::new("").await;
    let up = items.project.start("up").await;
    items.lake.append(vec![LakeTable::numbered(3..4).1]).await;
    items.pipeline("schedule: on change\n");
    eventually("the new row", async || get(up.address, "/v1/items/3").await.status == 200).await;
    // A definition that makes other rows is followed although the source stands still.
    items.pipeline("schedule: on change\ncolumns: {exclude: [name]}\non_schema_change: follow\n");
    eventually("the columns", async || !shows_name(&get(up.address, "/v1/items/3").await)).await;

    let file = items.project.path("lakegate.yaml");
    let before = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{before}limits: {{page_max: 5}}\ndefaults: {{serve: {{page_limit: 2}}}}\n")).unwrap();
    eventually("the setting", async || files(&up).await["restart_needed"] == json!(["limits"])).await;
    let limit = "SELECT (policy ->> 'page_limit')::int FROM lakegate.tables WHERE name = 'items'";
    let session = items.project.sql().await;
    eventually("the default", async || session.query_one(limit, &[]).await.unwrap().get::<_, i32>(0) == 2).await;
    fs::write(&file, before).unwrap();
    eventually("the setting", async || files(&up).await["restart_needed"] == json!([])).await;
}

#[tokio::test]
async fn what_is_declared_last_holds_while_refreshes_go_on() {
    let Items { project, mut lake } = Items::new("schedule: on change\n").await;
    let up = project.start("up").await;
    let over = Arc::new(AtomicBool::new(false));
    let commits = tokio::spawn({
        let over = Arc::clone(&over);
        async move {
            let mut rows = 3;
            while !over.load(Ordering::Relaxed) {
                lake.append(vec![LakeTable::numbered(rows..rows + 1).1]).await;
                rows += 1;
            }
            rows
        }
    });
    let declared = "source: lake/items\nprimary_key: [id]\nschedule: on change\n";
    let shown = async || shows_name(&get(up.address, "/v1/items/1").await);
    for hidden in [true, false, true, false, true] {
        let policy = if hidden { "serve: {hide: [name]}\n" } else { "" };
        project.pipeline("items", &format!("{declared}{policy}"));
        eventually("what is declared", async || shown().await != hidden).await;
    }
    over.store(true, Ordering::Relaxed);
    let last = commits.await.unwrap() - 1;
    eventually("the last row", async || get(up.address, &format!("/v1/items/{last}")).await.status == 200).await;
    eventually("the end", async || status(&up, "items").await["sync"] == "idle").await;
    eventually("what was declared last", async || !shown().await).await;
}

#[tokio::test]
async fn a_failing_pipeline_that_is_mended_is_tried_at_once() {
    let items = Items::unsynced("schedule: every 1h\n").await;
    items.project.pipeline("items", "source: lake/items\nprimary_key: [nothing]\nschedule: every 1h\n");
    let up = items.project.start("up").await;
    eventually("the failure", async || status(&up, "items").await["failures"] == 1).await;
    items.pipeline("schedule: every 1h\n");
    eventually("the load", async || get(up.address, "/v1/items/1").await.status == 200).await;
}
