//! Syncs, rollbacks, cancelling and pausing over HTTP.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{begun, post, run};
use crate::support::http::get;
use crate::support::live_items::Items;
use crate::support::project::eventually;
use crate::support::sales::Sales;

/// Whether a copy is under way.
const COPYING: &str = "SELECT true FROM pg_stat_activity WHERE datname = current_database() \
    AND application_name = 'lakegate copy' AND query LIKE 'COPY%' LIMIT 1";

/// The first copy of each process stays until its run is told to end.
const HANGS: &str = "during_copy=1*pause";

#[tokio::test]
async fn a_sync_is_answered_with_its_run_which_goes_on_by_itself() {
    let mut items = Items::new().await;
    let up = items.project.start("up").await;
    let sync = async |body: &str| begun(&post(up.admin(), "/v1/pipelines/items/sync", body).await).remove(0);
    let ended = async |begun: Value| {
        let ended = async || run(up.admin(), &begun["run"]).await["finished_at"].is_string();
        eventually("the end of the run", ended).await;
        run(up.admin(), &begun["run"]).await
    };
    let first = sync("").await;
    assert_eq!((&first["pipeline"], &first["joined"]), (&json!("items"), &json!(false)));
    let record = ended(first).await;
    let fields = ["state", "mode", "trigger"].map(|field| record[field].clone());
    assert_eq!(json!(fields), json!(["succeeded", "snapshot", "manual"]));
    assert_eq!(ended(sync("{}").await).await["state"], "skipped");
    assert_eq!(ended(sync(r#"{"full": true}"#).await).await["mode"], "snapshot");

    items.grow().await;
    let url = "/v1/sync";
    let all = begun(&post(up.admin(), url, "").await).remove(0);
    assert_eq!(ended(all).await["source_version"], items.newest().to_string());
    assert_eq!(items.live().await.rows, 4);
    assert_eq!(begun(&post(up.admin(), url, r#"{"pipelines": []}"#).await), [Value::Null; 0]);
}

#[tokio::test]
async fn a_run_goes_on_when_its_client_has_gone_away() {
    let items = Items::new().await;
    let up = items.project.start("up").await;
    // The request waits for this lock.
    let mut blocker = items.sql().await;
    let lock = blocker.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE lakegate.leases IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut client = TcpStream::connect(up.admin()).await.unwrap();
    let request = format!(
        "POST /v1/sync HTTP/1.1\r\nHost: {}\r\nLakegate-Request: 1\r\nContent-Type: application/json\r\n\
         Content-Length: 2\r\n\r\n{{}}",
        up.admin()
    );
    client.write_all(request.as_bytes()).await.unwrap();
    let waiting = "SELECT true FROM pg_stat_activity WHERE datname = current_database() \
                   AND application_name LIKE 'lakegate%' AND wait_event_type = 'Lock' LIMIT 1";
    eventually("the request", async || items.holds(waiting).await).await;
    client.shutdown().await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"", "the server has given the client up");
    lock.rollback().await.unwrap();
    eventually("the run", async || get(up.admin(), "/v1/runs").await.data()[0]["state"] == "succeeded").await;
    assert_eq!(items.live().await.rows, 3);
}

#[tokio::test]
async fn a_sync_under_way_is_joined_and_cancelled_wherever_it_goes_on() {
    let mut items = Items::new().await;
    items.sync().await;
    items.grow().await;
    let old = items.live().await;
    items.project.set("FAILPOINTS", HANGS);
    let up = items.project.start("up").await;
    let url = "/v1/pipelines/items/sync";
    let first = begun(&post(up.admin(), url, "").await).remove(0);
    let fields = ["pipeline", "run", "state", "joined"].map(|field| first[field].clone());
    assert_eq!(json!(fields), json!(["items", 2, "running", false]));
    eventually("the copy", async || items.holds(COPYING).await).await;
    for (url, body) in [(url, ""), ("/v1/sync", ""), (url, "{}")] {
        let joined = json!({"pipeline": "items", "run": 2, "state": "running", "joined": true});
        assert_eq!(begun(&post(up.admin(), url, body).await), [joined], "{url}");
    }
    let asked = begun(&post(up.admin(), "/v1/pipelines/items/cancel", "").await).remove(0);
    assert_eq!(asked, json!({"pipeline": "items", "run": 2, "state": "running"}));
    eventually("the end", async || items.last_run().await.0 == "cancelled").await;
    let record = run(up.admin(), &json!(2)).await;
    assert_eq!(record["error"]["code"], "LG7005");
    assert!(record["error"]["detail"].as_str().unwrap().ends_with("was cancelled by the admin API"), "{record}");
    assert_eq!(items.live().await, old);
    items.assert_nothing_left("the cancelling").await;

    // The same of a run that a command has under way, in another process.
    let sync = items.start_sync(&[], &[("FAILPOINTS", "during_copy=pause")]);
    eventually("the copy", async || items.holds(COPYING).await).await;
    let joined = begun(&post(up.admin(), url, "").await).remove(0);
    assert_eq!(joined, json!({"pipeline": "items", "run": 3, "state": "running", "joined": true}));
    post(up.admin(), "/v1/pipelines/items/cancel", "").await;
    assert_eq!(sync.end().await.code, Some(1));
    assert_eq!(items.live().await, old);

    let last = begun(&post(up.admin(), url, "").await).remove(0);
    eventually("the sync", async || run(up.admin(), &last["run"]).await["state"] == "succeeded").await;
    assert_eq!(items.runs().await, 4);
}

#[tokio::test]
async fn no_more_runs_at_a_time_than_the_project_allows_whoever_asks() {
    let mut items = Items::new().await;
    items.project.set("LAKEGATE_LIMITS_CONCURRENT_RUNS", "1");
    items.project.set("FAILPOINTS", HANGS);
    for name in ["more", "other"] {
        items.project.pipeline(name, "source: lake/items\nprimary_key: [id]\nmode: snapshot\n");
    }
    let up = items.project.start("up").await;
    let sync = async |name: &str| {
        let url = format!("/v1/pipelines/{name}/sync");
        begun(&post(up.admin(), &url, "").await).remove(0)
    };
    assert_eq!(sync("items").await["state"], "running");
    eventually("the copy", async || items.holds(COPYING).await).await;
    let queued = json!({"pipeline": "other", "run": null, "state": "queued", "joined": false});
    assert_eq!(sync("other").await, queued);
    assert_eq!(sync("other").await["joined"], true, "what waits for its turn is joined, too");
    assert_eq!(sync("more").await["state"], "queued");
    let metrics = get(up.admin(), "/metrics").await.body;
    for line in ["lakegate_runs_running 1.0", "lakegate_runs_waiting 2.0", "lakegate_runs_limit 1.0"] {
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
    // What waits for its turn can be taken back.
    let withdrawn = begun(&post(up.admin(), "/v1/pipelines/more/cancel", "").await).remove(0);
    assert_eq!(withdrawn, json!({"pipeline": "more", "run": null, "state": "cancelled"}));
    assert_eq!(items.runs().await, 1);

    post(up.admin(), "/v1/pipelines/items/cancel", "").await;
    let runs = async || {
        let runs = get(up.admin(), "/v1/runs").await.data();
        json!(runs.as_array().unwrap().iter().map(|run| json!([run["pipeline"], run["state"]])).collect::<Vec<_>>())
    };
    let expected = json!([["other", "succeeded"], ["items", "cancelled"]]);
    eventually("the turn of the other", async || runs().await == expected).await;
}

#[tokio::test]
async fn naming_one_table_of_a_group_syncs_all_of_it() {
    let sales = Sales::new("").await;
    let up = sales.project.start("up").await;
    let records = begun(&post(up.admin(), "/v1/pipelines/orders/sync", "").await);
    let names: Vec<&Value> = records.iter().map(|record| &record["pipeline"]).collect();
    assert_eq!(names, ["lines", "orders"]);
    for record in &records {
        eventually("the run", async || run(up.admin(), &record["run"]).await["state"] == "succeeded").await;
    }
    let paused = post(up.admin(), "/v1/pipelines/lines/pause", "").await;
    assert_eq!((paused.status, paused.data()[1].clone()), (200, json!({"pipeline": "orders", "paused": true})));
}

#[tokio::test]
async fn a_rollback_pauses_and_resume_lets_it_run_again() {
    let mut items = Items::new().await;
    items.sync().await;
    items.grow().await;
    items.sync().await;
    let up = items.project.start("up").await;
    let table = async || get(up.admin(), "/v1/pipelines/items").await.json();
    let back = begun(&post(up.admin(), "/v1/pipelines/items/rollback", "").await).remove(0);
    assert_eq!((&back["pipeline"], &back["run"]), (&json!("items"), &json!(3)));
    eventually("the rollback", async || table().await["publish_no"] == 3).await;
    assert_eq!((items.live().await.rows, &table().await["paused"]), (3, &json!(true)));
    assert_eq!(run(up.admin(), &back["run"]).await["trigger"], "rollback");
    for (what, paused) in [("resume", false), ("pause", true), ("resume", false)] {
        let reply = post(up.admin(), &format!("/v1/pipelines/items/{what}"), "").await;
        assert_eq!(reply.json(), json!({"data": [{"pipeline": "items", "paused": paused}]}), "{what}");
        assert_eq!(table().await["paused"], paused, "{what}");
    }
    let version = items.newest();
    let on = post(up.admin(), "/v1/pipelines/items/rollback", &format!("{{\"to_version\": {version}}}")).await;
    let on = begun(&on).remove(0);
    eventually("the version", async || run(up.admin(), &on["run"]).await["state"] == "succeeded").await;
    assert_eq!(items.live().await.rows, 4);
    let reply = post(up.admin(), "/v1/pipelines/items/rollback", r#"{"to": 99}"#).await;
    assert_eq!((reply.status, super::code(&reply).as_str()), (404, "LG5007"), "{reply:?}");
}

#[tokio::test]
async fn a_sync_that_cannot_succeed_says_so_in_its_run() {
    let items = Items::new().await;
    items.project.pipeline("lost", "source: lake/nothing\nprimary_key: [id]\n");
    let up = items.project.start("up").await;
    let begun = begun(&post(up.admin(), "/v1/pipelines/lost/sync", "").await).remove(0);
    eventually("the failure", async || run(up.admin(), &begun["run"]).await["state"] == "failed").await;
    assert_eq!(run(up.admin(), &begun["run"]).await["error"]["code"], "LG2001");
}

#[tokio::test]
async fn runs_that_were_asked_for_end_with_the_process() {
    let mut items = Items::new().await;
    items.sync().await;
    items.grow().await;
    let old = items.live().await;
    items.project.set("FAILPOINTS", HANGS);
    let mut up = items.project.start("up").await;
    begun(&post(up.admin(), "/v1/sync", "").await);
    eventually("the copy", async || items.holds(COPYING).await).await;
    kill(Pid::from_raw(up.child.id().unwrap().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(up.child.wait().await.unwrap().code(), Some(0));
    assert_eq!(items.last_run().await, ("cancelled".to_owned(), "LG5008".to_owned()));
    assert_eq!(items.live().await, old);
    items.assert_nothing_left("the end of `up`").await;
}
