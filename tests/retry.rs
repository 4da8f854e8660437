//! What may heal by itself heals by itself: a store or a Postgres that goes away and comes back, under a schedule and
//! under a command; and a source that hangs ends with the run's timeout.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::live_items::Items;
use crate::support::postgres::TestCluster;
use crate::support::process::Process;
use crate::support::project::eventually;
use crate::support::s3::S3Server;
use crate::support::webhook::Receiver;

/// The table `items`, read from an S3-compatible server over its lake folder; one request is tried once.
async fn on_s3(lines: &str) -> (Items, S3Server) {
    let items = Items::new().await;
    let server = S3Server::start(items.project.dir()).await;
    let yaml = format!(
        "source:\n  delta:\n    uri: s3://lake/items\n    options:\n      aws_endpoint_url: {}\n      \
         aws_region: us-east-1\n      aws_access_key_id: {}\n      aws_secret_access_key: \"${{S3_SECRET}}\"\n      \
         max_retries: 0\nprimary_key: [id]\n{lines}",
        server.endpoint,
        S3Server::ACCESS_KEY,
    );
    items.project.pipeline("items", &yaml);
    let mut items = items;
    items.project.set("S3_SECRET", S3Server::SECRET_KEY);
    (items, server)
}

async fn status(items: &Items) -> Value {
    let mut lines = items.project.run(&["status", "--output", "json"]).await.ok().json();
    lines.remove(0)["tables"][0].take()
}

async fn failures(items: &Items) -> i64 {
    status(items).await["failures"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_comes_back_is_found_again_and_its_absence_is_told_when_it_lasts() {
    let (mut items, mut server) = on_s3("schedule: every 1s\n").await;
    let receiver = Receiver::start(&[]).await;
    items.project.set("LAKEGATE_ALERTS_WEBHOOK", &receiver.url);
    items.sync().await;
    server.stop().await;
    let mut up = items.project.start("up").await;
    eventually("the first failure", async || failures(&items).await >= 1).await;
    let shown = status(&items).await;
    let fields = ["serving", "sync", "error_code", "late"].map(|field| shown[field].clone());
    assert_eq!(json!(fields), json!(["online", "failing", "LG2012", false]), "{shown}");
    assert!(shown["next_try_at"].as_str().is_some(), "{shown}");
    assert_eq!(receiver.posts().len(), 0, "one failure of what may heal is no news");

    // The count goes on in another process.
    up.child.kill().await.unwrap();
    let _up = items.project.start("up").await;
    let alert = receiver.nth(1).await.alert;
    assert_eq!((&alert["status"], &alert["reason"]["code"]), (&json!("failing"), &json!("LG2012")));
    assert!(alert["failures"].as_i64().unwrap() >= 2 && alert["next_try_at"].is_string(), "{alert}");
    assert!(!alert.to_string().contains(S3Server::SECRET_KEY), "{alert}");

    items.grow().await;
    server.restart().await;
    assert_eq!(receiver.nth(2).await.alert["status"], "recovered");
    assert_eq!(items.live().await.rows, 4);
    let shown = status(&items).await;
    let fields = ["failures", "error_code", "next_try_at"].map(|field| shown[field].clone());
    assert_eq!(json!(fields), json!([0, null, null]), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_source_that_cannot_be_looked_at_shows_as_failing_and_heals() {
    let (mut items, mut server) = on_s3("schedule: every 1s\n").await;
    items.sync().await;
    // The same source, watched.
    let file = items.project.path("pipelines/items.yaml");
    let yaml = std::fs::read_to_string(&file).unwrap().replace("every 1s", "on change");
    std::fs::write(&file, yaml).unwrap();
    server.stop().await;
    let _up = items.project.start("up").await;
    eventually("the failure", async || failures(&items).await >= 1).await;
    assert_eq!(status(&items).await["error_code"], "LG2012");
    items.grow().await;
    server.restart().await;
    eventually("the new version", async || items.live().await.rows == 4).await;
    assert_eq!(failures(&items).await, 0);
}

#[tokio::test]
async fn a_schedule_survives_a_crash_of_postgres() {
    let mut cluster = TestCluster::start("retry", &[], |_| {});
    let mut items = Items::on(&cluster).await;
    items.declare("schedule: every 1s\n");
    items.sync().await;
    // A run that is in its copy when Postgres dies; the ones after it are not held up.
    items.project.set("FAILPOINTS", "during_copy=1*sleep(5000)");
    items.grow().await;
    let _up = items.project.start("up").await;
    let copying = "SELECT true FROM pg_stat_activity WHERE application_name = 'lakegate copy' LIMIT 1";
    eventually("the copy", async || items.holds(copying).await).await;
    cluster.crash();
    cluster.restart();
    eventually("the schedule goes on", async || items.live().await.rows == 4).await;
    items.grow().await;
    eventually("the next version", async || items.live().await.rows == 5).await;
    assert_eq!(status(&items).await["failures"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_tries_again_what_passes_soon_and_says_so() {
    let (items, mut server) = on_s3("").await;
    server.stop().await;
    let sync = items.start_sync(&[], &[]);
    sync.says("; tried again in ").await;
    server.restart().await;
    let ran = sync.end().await.ok();
    assert!(ran.stderr.contains("items: LG2012 The source cannot be reached"), "{ran:?}");
    assert_eq!(ran.json()[0]["state"], "succeeded");
    let failed: i64 = {
        let sql = "SELECT count(*) FROM lakegate.runs WHERE state = 'failed'";
        items.sql().await.query_one(sql, &[]).await.unwrap().get(0)
    };
    assert!(failed >= 1, "every try is a run");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_gives_up_after_a_few_tries() {
    let (items, mut server) = on_s3("").await;
    server.stop().await;
    let ran = items.start_sync(&[], &[]).end().await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(ran.json()[0]["error"]["code"], "LG2012", "{ran:?}");
    assert_eq!(items.runs().await, 4);
    assert_eq!(ran.stderr.matches("; tried again in ").count(), 3, "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_does_not_wait_for_the_next_try() {
    let (items, mut server) = on_s3("").await;
    server.stop().await;
    let sync: Process = items.start_sync(&[], &[]);
    sync.says("; tried again in ").await;
    sync.signal(Signal::SIGINT);
    let ran = sync.end().await;
    assert_eq!(ran.code, Some(130), "{ran:?}");
    assert_eq!(ran.json()[0]["state"], "cancelled", "{ran:?}");
    items.assert_nothing_left("the interruption").await;
}

#[tokio::test]
async fn what_cannot_heal_is_not_tried_again() {
    let mut items = Items::new().await;
    items.sync().await;
    items.rewrite().await;
    items.declare("columns: {types: {name: bigint}}\n");
    let ran = items.start_sync(&[], &[]).end().await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(!ran.stderr.contains("tried again in"), "{ran:?}");
    assert_eq!(items.runs().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_hangs_ends_with_the_timeout_and_leaves_nothing() {
    let (items, server) = on_s3("timeout: 5s\nmode: snapshot\n").await;
    items.sync().await;
    let old = items.live().await;
    // The log can still be read.
    server.hang_at(".parquet");
    let ran = items.start_sync(&["--full"], &[]).end().await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(ran.json()[0]["error"]["code"], "LG5009", "{ran:?}");
    assert_eq!(items.last_run().await, ("failed".to_owned(), "LG5009".to_owned()));
    items.assert_nothing_left("the timeout").await;
    assert_eq!(items.live().await, old);
    assert_eq!(items.tables().await.len(), 1, "the live generation");
}

#[tokio::test]
async fn two_processes_publish_every_version_once() {
    let mut items = Items::new().await;
    items.declare("schedule: on change\n");
    let mut ups = vec![items.project.start("up").await, items.project.start("up").await];
    eventually("the first load", async || items.runs().await > 0 && items.last_run().await.0 == "succeeded").await;
    for rows in 4..=6 {
        items.grow().await;
        eventually("the next version", async || items.live().await.rows == rows).await;
        if rows == 5 {
            ups.remove(0).child.kill().await.unwrap();
        }
    }
    let sql = "SELECT count(*), count(DISTINCT source_version) FROM lakegate.runs WHERE state = 'succeeded'";
    let row = items.sql().await.query_one(sql, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (4, 4));
    assert_eq!(items.live().await.publish_no, 4);
}
