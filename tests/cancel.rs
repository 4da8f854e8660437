//! `lakegate cancel` ends the run under way of a pipeline, in whichever process it goes on: nothing is published, nothing is
//! left, and its schedule does not begin it again at once.

use lakegate::failpoint::{
    AFTER_DRAW, AFTER_MERGE, BEFORE_INDEX, BEFORE_MERGE, BEFORE_PUBLISH, BEFORE_PUBLISH_COMMIT, BEFORE_RECORD,
    BEFORE_VERIFY, DURING_COMPARE, DURING_COPY,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::leftovers;
use crate::support::live_items::{COPYING, Items, Live};
use crate::support::process::Process;
use crate::support::project::{ProjectFolder, Ran, eventually};
use crate::support::sales::Sales;

/// A table that is loaded, and a row more in the lake.
async fn loaded(further: &str) -> (Items, Live) {
    let mut items = Items::new().await;
    items.declare(further);
    items.sync().await;
    if further.contains("incremental") {
        items.rewrite().await;
    } else {
        items.grow().await;
    }
    let live = items.live().await;
    (items, live)
}

/// `lakegate cancel`: what it prints.
async fn cancel(project: &ProjectFolder, arguments: &[&str]) -> Ran {
    let arguments: Vec<&str> = ["cancel", "--output", "json"].iter().chain(arguments).copied().collect();
    project.run(&arguments).await
}

async fn assert_cancelled(items: &Items, ran: &Ran, old: Live) {
    items.assert_cancelled(ran, 1, "LG7005", old).await;
}

#[tokio::test]
async fn a_run_in_its_copy_ends_by_a_word_from_another_process() {
    let (items, old) = loaded("").await;
    let sync = items.sync_in_its_copy().await;
    let record = cancel(&items.project, &["items"]).await.ok().json().remove(0);
    let run = items.sql().await.query_one("SELECT max(run) FROM lakegate.runs", &[]).await.unwrap().get::<_, i64>(0);
    assert_eq!(record, json!({"pipeline": "items", "run": run, "state": "cancelled"}));
    let ran = sync.end().await;
    let error = &ran.json()[0]["error"];
    assert!(error["detail"].as_str().unwrap().starts_with("the run of `items` was cancelled by "), "{error}");
    assert_cancelled(&items, &ran, old).await;
    assert_eq!(items.sync().await["state"], "succeeded");
}

#[tokio::test]
async fn people_are_told_that_the_run_has_ended() {
    let (items, _) = loaded("").await;
    let sync = items.sync_in_its_copy().await;
    let ran = items.project.run(&["cancel", "items"]).await.ok();
    assert!(ran.stdout.starts_with("items: run 2 is cancelled; "), "{ran:?}");
    let ran = sync.end().await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
}

#[tokio::test]
async fn nothing_is_published_that_was_asked_to_end_before_wherever_the_run_is() {
    let of_snapshot = [AFTER_DRAW, DURING_COPY, BEFORE_VERIFY, BEFORE_INDEX, BEFORE_RECORD, BEFORE_PUBLISH];
    let of_merge = [DURING_COMPARE, BEFORE_MERGE, AFTER_MERGE];
    let ways = of_snapshot.map(|at| (at, "mode: snapshot\n")).into_iter();
    for (failpoint, mode) in ways.chain(of_merge.map(|at| (at, "mode: incremental\n"))) {
        let (items, old) = loaded(mode).await;
        // It hangs while it is asked, and is at the next step before it has looked.
        let sync = items.sync_stopped_at(failpoint).await;
        let asked = cancel(&items.project, &["items", "--no-wait"]).await.ok().json().remove(0);
        assert_eq!(asked["state"], "running", "{failpoint}");
        sync.signal(Signal::SIGCONT);
        assert_cancelled(&items, &sync.end().await, old).await;
    }
}

#[tokio::test]
async fn a_publish_that_is_being_committed_is_too_far() {
    let (items, old) = loaded("").await;
    let sync = items.sync_stopped_at(BEFORE_PUBLISH_COMMIT).await;
    let late = Process::start(items.project.command(&["cancel", "items", "--output", "json"]));
    let waiting = "SELECT true FROM pg_stat_activity WHERE datname = current_database() \
                   AND query LIKE '%cancel_asked_by%' AND wait_event_type = 'Lock' LIMIT 1";
    eventually("the question", async || items.holds(waiting).await).await;
    sync.signal(Signal::SIGCONT);
    assert_eq!(sync.end().await.ok().json()[0]["state"], "succeeded");
    let late = late.end().await;
    assert_eq!((late.code, &late.json()[0]["error"]["code"]), (Some(1), &json!("LG7006")), "{late:?}");
    assert_eq!(items.live().await.publish_no, old.publish_no + 1);
    items.assert_nothing_left("the cancelling that came too late").await;
}

#[tokio::test]
async fn a_run_that_waits_for_the_lock_of_its_publish_ends_too() {
    let (items, old) = loaded("").await;
    let mut reader = items.sql().await;
    let reading = reader.transaction().await.unwrap();
    reading.query("SELECT FROM lake.items", &[]).await.unwrap();
    let sync = items.start_sync(&[], &[]);
    eventually("the wait", async || items.last_run().await.0 == "waiting").await;
    cancel(&items.project, &["items"]).await.ok();
    reading.rollback().await.unwrap();
    assert_cancelled(&items, &sync.end().await, old).await;
}

#[tokio::test]
async fn a_sync_that_has_joined_a_cancelled_run_says_so() {
    let (items, old) = loaded("").await;
    let first = items.sync_in_its_copy().await;
    let second = Process::start(items.project.command(&["sync", "items"]));
    second.says("joins the run of process").await;
    cancel(&items.project, &["items"]).await.ok();
    assert_cancelled(&items, &first.end().await, old).await;
    let ran = second.end().await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("the joined run 2 was cancelled: the run of `items` was cancelled by "), "{ran:?}");
    assert_eq!(items.runs().await, 2, "it has made no run of its own");
}

#[tokio::test]
async fn the_whole_run_of_a_group_is_cancelled() {
    let mut sales = Sales::loaded("mode: snapshot\n").await;
    sales.advance().await;
    let sync = sales.start_sync(&[("FAILPOINTS", "during_copy=pause")]);
    let session = sales.project.sql().await;
    let copying = async || session.query_opt(COPYING, &[]).await.unwrap().is_some();
    eventually("the copy", copying).await;
    let joined = sales.start_sync(&[]);
    joined.says("joins the run of process").await;
    let record = cancel(&sales.project, &["orders"]).await.ok().json().remove(0);
    assert_eq!((&record["pipeline"], &record["state"]), (&json!("orders"), &json!("cancelled")));
    for ran in [sync.end().await, joined.end().await] {
        assert_eq!(ran.code, Some(1), "{ran:?}");
        let outcomes = ran.json();
        assert_eq!(outcomes.len(), 2, "{ran:?}");
        for outcome in outcomes {
            assert_eq!((&outcome["state"], &outcome["error"]["code"]), (&json!("cancelled"), &json!("LG7005")));
            assert!(
                outcome["error"]["detail"].as_str().unwrap().contains("the run of the group `sales` was cancelled by")
            );
        }
    }
    let states = session.query("SELECT state FROM lakegate.runs ORDER BY run", &[]).await.unwrap();
    let states: Vec<&str> = states.iter().map(|row| row.get(0)).collect();
    assert_eq!(states, ["succeeded", "succeeded", "cancelled", "cancelled"]);
    assert_eq!((sales.seen().await, sales.publish_numbers().await), (1, vec![1, 1]));
    leftovers::none_in(&session, "the cancelling of a group").await;
    sales.sync().await;
    assert_eq!(sales.seen().await, 2);
}

#[tokio::test]
async fn a_schedule_does_not_begin_again_what_was_cancelled() {
    let (mut items, old) = loaded("schedule: on change\n").await;
    // Another pipeline shows that the schedule goes on meanwhile.
    items.project.pipeline("clock", "source: lake/items\nprimary_key: [id]\nschedule: every 1s\n");
    items.project.sync("clock").await;
    items.project.set("FAILPOINTS", "during_copy=1*pause");
    let _up = items.project.start("up").await;
    eventually("the scheduled run", async || items.holds(COPYING).await).await;
    let record = cancel(&items.project, &["items"]).await.ok().json().remove(0);
    assert_eq!(record["state"], "cancelled");
    let runs = async |name: &str| {
        let sql = "SELECT count(*) FROM lakegate.runs WHERE pipeline = $1";
        items.sql().await.query_one(sql, &[&name]).await.unwrap().get::<_, i64>(0)
    };
    let (of_items, of_clock) = (runs("items").await, runs("clock").await);
    eventually("the clock", async || runs("clock").await >= of_clock + 4).await;
    assert_eq!(runs("items").await, of_items);
    let published = "SELECT publish_no FROM lakegate.published WHERE name = 'items'";
    let publish_no = async || items.sql().await.query_one(published, &[]).await.unwrap().get::<_, i64>(0);
    assert_eq!(publish_no().await, old.publish_no);
    let status = items.project.run(&["status", "--output", "json"]).await.ok().json().remove(0);
    let shown = status["tables"].as_array().unwrap().iter().find(|table| table["name"] == "items").unwrap();
    let fields = ["sync", "failures", "paused"].map(|field| shown[field].clone());
    assert_eq!(json!(fields), json!(["idle", 0, false]), "{shown}");

    items.grow().await;
    let sql = "SELECT publish_no FROM lakegate.published WHERE name = 'items'";
    let session = items.sql().await;
    let moved = async || session.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == old.publish_no + 1;
    eventually("the next version", moved).await;
}

#[tokio::test]
async fn a_run_whose_process_dies_after_it_was_asked_counts_as_cancelled() {
    let (items, old) = loaded("").await;
    let sync = items.sync_stopped_at(DURING_COPY).await;
    cancel(&items.project, &["items", "--no-wait"]).await.ok();
    sync.kill().await;
    let dead = async || cancel(&items.project, &["items"]).await.json()[0]["error"]["code"] == "LG7006";
    eventually("the end of its lease", dead).await;
    assert_eq!(items.live().await, old);
    items.sync().await;
    let sql = "SELECT state, error ->> 'code' FROM lakegate.runs WHERE run = 2";
    let row = items.sql().await.query_one(sql, &[]).await.unwrap();
    assert_eq!((row.get(0), row.get(1)), ("cancelled", "LG7005"));
    items.assert_nothing_left("the death").await;
}

#[tokio::test]
async fn without_a_run_there_is_nothing_to_cancel() {
    let (items, old) = loaded("").await;
    let codes = async |name: &str| -> (Option<i32>, Value) {
        let ran = cancel(&items.project, &[name]).await;
        (ran.code, ran.json()[0]["error"]["code"].clone())
    };
    assert_eq!(codes("items").await, (Some(1), json!("LG7006")));
    assert_eq!(codes("nothing").await, (Some(1), json!("LG1015")));
    assert_eq!(codes("No").await, (Some(1), json!("LG1015")));
    assert_eq!(items.live().await, old);
}
