//! Groups: tables that run together, read the states of their sources together, and are published together or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use lakegate::failpoint::{AFTER_DRAW, AFTER_PUBLISH, BEFORE_PUBLISH_COMMIT, DURING_COMPARE, OF_MERGE, OF_SNAPSHOT};
use lakegate::postgres::Session;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::leftovers;
use crate::support::project::eventually;
use crate::support::sales::{Sales, begin, state_in, whole_state};

/// How the tables are refreshed: loaded anew, in place, or one so and one so.
const WAYS: [[&str; 2]; 4] =
    [["snapshot"; 2], ["incremental"; 2], ["snapshot", "incremental"], ["incremental", "snapshot"]];
/// Refreshes that readers watch, of each way.
const REFRESHES: i64 = 5;
/// The pause of a reader between two transactions.
const PAUSE: Duration = Duration::from_millis(5);

/// Loaded and declared to be refreshed in these ways.
async fn refreshed_by([lines, orders]: [&str; 2], further: &str) -> Sales {
    let sales = Sales::loaded("").await;
    sales.declare("lines", &format!("mode: {lines}\n{further}"));
    sales.declare("orders", &format!("mode: {orders}\n{further}"));
    sales
}

fn field(outcomes: &[Value; 2], name: &str) -> [String; 2] {
    [0, 1].map(|at| outcomes[at][name].as_str().unwrap_or_default().to_owned())
}

/// What one reader has seen.
#[derive(Default)]
struct Seen {
    latest: AtomicI64,
    answers: AtomicU64,
    refused: AtomicU64,
}

/// Reads both tables in one transaction, again and again.
async fn reads_both(session: Session, tables: [&str; 2], seen: Arc<Seen>, done: CancellationToken) {
    while !done.is_cancelled() {
        begin(&session).await;
        match state_in(&session, tables).await {
            Some(state) => {
                let before = seen.latest.swap(state, Ordering::Relaxed);
                assert!(state >= before, "back in time: state {state} after {before}");
                seen.answers.fetch_add(1, Ordering::Relaxed);
            }
            None => _ = seen.refused.fetch_add(1, Ordering::Relaxed),
        }
        // Readers that never let go of the views would keep the publish waiting.
        tokio::time::sleep(PAUSE).await;
    }
}

#[tokio::test]
async fn a_reader_of_both_tables_never_sees_orders_of_one_state_and_lines_of_another() {
    for way in WAYS {
        let mut sales = refreshed_by(way, "").await;
        let done = CancellationToken::new();
        let seen: [Arc<Seen>; 2] = Default::default();
        let readers = [["orders", "lines"], ["lines", "orders"]].into_iter().zip(&seen);
        let mut reading = tokio::task::JoinSet::new();
        for (tables, seen) in readers {
            reading.spawn(reads_both(sales.project.sql().await, tables, Arc::clone(seen), done.clone()));
        }
        let refresh = async {
            for _ in 0..REFRESHES {
                let state = sales.advance().await;
                let outcomes = sales.sync().await;
                assert_eq!(field(&outcomes, "state"), ["succeeded", "succeeded"]);
                assert_eq!(field(&outcomes, "mode"), way.map(|mode| mode.replace("incremental", "merge")));
                for reader in &seen {
                    let latest = async || reader.latest.load(Ordering::Relaxed) == state;
                    eventually("every reader sees the new state", latest).await;
                }
            }
        };
        tokio::select! {
            ended = reading.join_next() => panic!("{way:?}: a reader ended: {ended:?}"),
            () = refresh => {}
        }
        done.cancel();
        while let Some(ended) = reading.join_next().await {
            ended.unwrap();
        }
        for (seen, first) in seen.iter().zip(["orders", "lines"]) {
            let [answers, refused] = [&seen.answers, &seen.refused].map(|count| count.load(Ordering::Relaxed));
            println!("{way:?}, {first} first: {answers} whole states, told to run again {refused} times");
        }
    }
}

#[tokio::test]
async fn a_transaction_that_began_before_the_publish_sees_the_earlier_state_or_is_told_to_run_again() {
    // Lines are changed in place, which such a transaction does not see, but the view of orders is another one for all.
    let mut sales = refreshed_by(["incremental", "snapshot"], "").await;
    let (holder, reader) = (sales.project.sql().await, sales.project.sql().await);
    holder.batch_execute("BEGIN; SELECT count(*) FROM lake.orders").await.unwrap();
    sales.advance().await;
    let sync = sales.start_sync(&[]);
    let waiting = "SELECT count(*) FROM lakegate.runs WHERE state = 'waiting'";
    eventually("both runs wait", async || reader.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 2).await;
    begin(&reader).await;
    assert_eq!(whole_state(&reader, "lines").await, Some(1));
    assert_eq!(sales.seen().await, 1, "nothing is published of what waits");
    holder.batch_execute("COMMIT").await.unwrap();
    sync.end().await.ok();
    assert_eq!(whole_state(&reader, "lines").await, Some(1));
    assert_eq!(whole_state(&reader, "orders").await, None, "orders of state 2 beside lines of state 1");
    reader.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(sales.seen().await, 2);
    assert_eq!(sales.publish_numbers().await, [2, 2]);
}

#[tokio::test]
async fn naming_one_table_syncs_its_group_once_and_says_so() {
    let mut sales = Sales::new("").await;
    let ran = sales.project.run(&["sync", "orders"]).await.ok();
    assert!(ran.stderr.contains("the group `sales` is synced as a whole: `lines` too"), "{ran:?}");
    assert_eq!(ran.stdout.lines().count(), 2, "{ran:?}");
    assert_eq!(sales.seen().await, 1);

    for names in [&[][..], &["orders", "lines"], &["orders", "orders"]] {
        let before = sales.publish_numbers().await;
        sales.advance().await;
        let command = [&["sync", "--output", "json"], names].concat();
        let ran = sales.project.run(&command).await.ok();
        let outcomes: [Value; 2] = ran.json().try_into().unwrap();
        assert_eq!(field(&outcomes, "pipeline"), ["lines", "orders"]);
        assert_eq!(ran.stderr.contains("synced as a whole"), names == ["orders", "orders"], "{ran:?}");
        assert_eq!(sales.publish_numbers().await, before.iter().map(|number| number + 1).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_table_without_changes_takes_part_as_checked() {
    let mut sales = Sales::loaded("").await;
    sales.orders.delete("id = 0").await;
    let outcomes = sales.sync().await;
    assert_eq!(field(&outcomes, "state"), ["skipped", "succeeded"]);
    assert_eq!(field(&outcomes, "mode"), ["noop", "merge"]);
    assert_eq!(sales.publish_numbers().await, [1, 2]);
    sales.lines.optimize().await;
    sales.advance().await;
    assert_eq!(field(&sales.sync().await, "state"), ["succeeded", "succeeded"]);
}

#[tokio::test]
async fn a_full_load_is_of_the_tables_that_were_named() {
    let sales = Sales::loaded("").await;
    let ran = sales.project.run(&["sync", "orders", "--full", "--output", "json"]).await.ok();
    let outcomes: [Value; 2] = ran.json().try_into().unwrap();
    assert_eq!(field(&outcomes, "mode"), ["noop", "snapshot"]);
}

#[tokio::test]
async fn where_one_table_fails_none_is_published_and_each_says_why() {
    for mode in ["snapshot", "auto"] {
        let mut sales = refreshed_by([mode; 2], "").await;
        sales.advance().await;
        sales.orders.delete("id >= 0").await;
        let [lines, orders] = sales.sync_fails().await;
        assert_eq!((&lines["code"], &orders["code"]), (&"LG5014".into(), &"LG2014".into()), "{mode}");
        let detail = lines["detail"].as_str().unwrap();
        assert!(
            detail.starts_with("`lines` was not published because `orders` of its group `sales` failed"),
            "{detail}"
        );
        assert!(detail.contains("LG2014"), "{detail}");
        assert_eq!(sales.seen().await, 1, "{mode}");
        assert_eq!(sales.publish_numbers().await, [1, 1], "{mode}");
        for (name, code) in [("lines", "LG5014"), ("orders", "LG2014")] {
            let run =
                sales.project.run(&["runs", name, "--limit", "1", "--output", "json"]).await.ok().json().remove(0);
            assert_eq!((&run["state"], &run["error"]["code"]), (&"failed".into(), &code.into()), "{mode}");
        }

        let state = sales.advance().await;
        sales.sync().await;
        assert_eq!(sales.seen().await, state, "{mode}");
        assert_eq!(sales.publish_numbers().await, [2, 2], "{mode}");
        leftovers::none_in(&sales.project.sql().await, mode).await;
    }
}

#[tokio::test]
async fn a_commit_after_the_look_at_the_sources_waits_for_the_next_run() {
    for (mode, failpoint) in [("snapshot", AFTER_DRAW), ("incremental", DURING_COMPARE)] {
        let mut sales = refreshed_by([mode; 2], "").await;
        let state = sales.advance().await;
        // At this point the first table has been planned, and nothing of the second.
        let sync = sales.sync_stopped_at(failpoint).await;
        sales.advance().await;
        sync.signal(Signal::SIGCONT);
        sync.end().await.ok();
        assert_eq!(sales.seen().await, state, "{mode}");
        sales.sync().await;
        assert_eq!(sales.seen().await, state + 1, "{mode}");
    }
}

#[tokio::test]
async fn a_killed_run_leaves_the_old_state_of_all_tables_and_the_next_one_cleans_up() {
    for (mode, failpoints) in [("snapshot", OF_SNAPSHOT), ("incremental", OF_MERGE)] {
        let mut sales = refreshed_by([mode; 2], "").await;
        for &failpoint in failpoints {
            let (old, numbers) = (sales.seen().await, sales.publish_numbers().await);
            let state = sales.advance().await;
            sales.sync_stopped_at(failpoint).await.kill().await;
            let published = failpoint == AFTER_PUBLISH;
            assert_eq!(sales.seen().await, if published { state } else { old }, "{mode}, {failpoint}");

            sales.sync().await;
            assert_eq!(sales.seen().await, state, "{mode}, {failpoint}");
            let next: Vec<i64> = numbers.iter().map(|number| number + 1).collect();
            assert_eq!(sales.publish_numbers().await, next, "{mode}, {failpoint}");
            leftovers::none_in(&sales.project.sql().await, failpoint).await;
        }
    }
}

#[tokio::test]
async fn a_run_killed_with_both_tables_loaded_leaves_neither() {
    let mut sales = refreshed_by(["snapshot"; 2], "").await;
    sales.advance().await;
    let sync = sales.start_sync(&[("FAILPOINTS", "before_publish=1*off->pause")]);
    let session = sales.project.sql().await;
    let loaded = "SELECT count(*) FROM lakegate.generations WHERE published_at IS NULL";
    eventually("both are loaded", async || session.query_one(loaded, &[]).await.unwrap().get::<_, i64>(0) == 2).await;
    sync.kill().await;
    assert_eq!(sales.seen().await, 1);
    sales.sync().await;
    assert_eq!(sales.seen().await, 2);
    leftovers::none_in(&session, "the kill").await;
}

#[tokio::test]
async fn a_run_that_lost_the_lease_of_one_table_publishes_none() {
    for mode in ["snapshot", "incremental"] {
        let mut sales = refreshed_by([mode; 2], "").await;
        sales.advance().await;
        let sync = sales.sync_stopped_at(BEFORE_PUBLISH_COMMIT).await;
        let session = sales.project.sql().await;
        let lose = "UPDATE lakegate.leases SET token = gen_random_uuid() WHERE pipeline = 'lines'";
        assert_eq!(session.execute(lose, &[]).await.unwrap(), 1);
        sync.signal(Signal::SIGCONT);
        let ran = sync.end().await;
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.json().iter().all(|outcome| outcome["error"]["code"] == "LG5004"), "{ran:?}");
        assert_eq!(sales.seen().await, 1, "{mode}");
        sales.sync().await;
        assert_eq!(sales.seen().await, 2, "{mode}");
        leftovers::none_in(&session, mode).await;
    }
}

#[tokio::test]
async fn a_publish_that_cannot_have_one_view_in_time_leaves_all() {
    let mut sales = refreshed_by(["incremental", "snapshot"], "publish_timeout: 1s\n").await;
    sales.declare("lines", "mode: incremental\n");
    sales.advance().await;
    let reader = sales.project.sql().await;
    reader.batch_execute("BEGIN; SELECT count(*) FROM lake.orders").await.unwrap();
    let [lines, orders] = sales.sync_fails().await;
    assert_eq!((&lines["code"], &orders["code"]), (&"LG5014".into(), &"LG5003".into()));
    assert_eq!(sales.seen().await, 1);
    reader.batch_execute("COMMIT").await.unwrap();
    assert_eq!(field(&sales.sync().await, "mode"), ["merge", "snapshot"]);
    assert_eq!(sales.seen().await, 2);
}

#[tokio::test]
async fn a_table_that_is_not_what_its_history_says_is_loaded_anew_and_published_with_the_others() {
    let mut sales = Sales::loaded("").await;
    sales
        .project
        .sql()
        .await
        .batch_execute("UPDATE lakegate_data.orders__g2 SET state = 7 WHERE id = 3")
        .await
        .unwrap();
    sales.advance().await;
    let outcomes = sales.sync().await;
    assert_eq!(field(&outcomes, "mode"), ["merge", "snapshot"], "{outcomes:?}");
    assert!(outcomes[1]["reason"].as_str().unwrap().contains(", but "), "{outcomes:?}");
    assert_eq!((sales.seen().await, sales.publish_numbers().await), (2, vec![2, 2]));
}

#[tokio::test]
async fn processes_that_sync_one_group_at_once_do_not_stop_each_other() {
    let mut sales = Sales::loaded("").await;
    for _ in 0..3 {
        sales.advance().await;
        let run = async |name: &str| sales.project.run(&["sync", name, "--output", "json"]).await.ok();
        let [one, two, three] = ["orders", "lines", "orders"].map(run);
        let ran = <[_; 3]>::from(tokio::join!(one, two, three));
        let changed = ran.iter().filter(|ran| ran.json().iter().any(|outcome| outcome["state"] == "succeeded"));
        assert_eq!(changed.count(), 1, "{ran:?}");
    }
    assert_eq!((sales.seen().await, sales.publish_numbers().await), (4, vec![4, 4]));
    let refused = sales.sync_stopped_at(BEFORE_PUBLISH_COMMIT).await;
    let ran = sales.project.run(&["sync", "orders", "--no-wait", "--output", "json"]).await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.json().iter().all(|outcome| outcome["error"]["code"] == "LG5005"), "{ran:?}");
    refused.kill().await;
}

#[tokio::test]
async fn a_change_of_one_source_takes_the_whole_group_along() {
    for schedule in ["on change", "every 1s"] {
        let mut sales = Sales::new(&format!("schedule: {schedule}\n")).await;
        let _server = sales.project.start("up").await;
        let published = async || sales.project.run(&["status", "--output", "json"]).await.ok().json().remove(0);
        let version_of = async |at: usize| published().await["tables"][at]["source_version"].clone();
        eventually("the first load", async || version_of(1).await == "1").await;
        sales.orders.delete("id = 0").await;
        eventually("the change", async || version_of(1).await == "2").await;
        let session = sales.project.sql().await;
        let beside = "SELECT l.state FROM lakegate.runs o JOIN lakegate.runs l ON l.run = o.run - 1 AND l.pipeline = 'lines' \
             WHERE o.pipeline = 'orders' AND o.source_version = '2' AND o.state = 'succeeded'";
        assert_eq!(session.query_one(beside, &[]).await.unwrap().get::<_, &str>(0), "skipped", "{schedule}");
    }
}

#[tokio::test]
async fn pausing_one_table_pauses_its_group() {
    let mut sales = Sales::loaded("schedule: every 1s\n").await;
    let paused = sales.project.run(&["pause", "orders", "--output", "json"]).await.ok().json();
    assert_eq!(paused, [json!({"pipeline": "lines", "paused": true}), json!({"pipeline": "orders", "paused": true})]);
    // Another table with the same schedule shows that the schedule runs meanwhile.
    sales.project.pipeline("clock", "source: lake/orders\nprimary_key: [id]\nschedule: every 1s\n");
    sales.advance().await;
    let server = sales.project.start("up").await;
    let runs = async || sales.project.run(&["runs", "clock", "--output", "json"]).await.stdout.lines().count();
    eventually("the other pipeline runs", async || runs().await >= 3).await;
    assert_eq!(sales.seen().await, 1);
    drop(server);

    sales.project.run(&["resume", "lines"]).await.ok();
    let _server = sales.project.start("up").await;
    eventually("the resumed group runs", async || sales.seen().await == 2).await;
}

#[tokio::test]
async fn a_rollback_is_of_one_table_and_pauses_its_group() {
    let mut sales = refreshed_by(["snapshot"; 2], "").await;
    sales.advance().await;
    sales.sync().await;
    let ran = sales.project.run(&["rollback", "orders"]).await.ok();
    assert!(ran.stderr.contains("the other tables of the group `sales` stay as they are"), "{ran:?}");
    let session = sales.project.sql().await;
    assert_eq!(whole_state(&session, "orders").await, Some(1));
    assert_eq!(whole_state(&session, "lines").await, Some(2));
    let status = sales.project.run(&["status", "--output", "json"]).await.ok().json().remove(0);
    for table in status["tables"].as_array().unwrap() {
        assert_eq!((&table["group"], &table["paused"]), (&"sales".into(), &true.into()), "{table}");
    }
    // A person's sync brings both forward again.
    sales.sync().await;
    assert_eq!(sales.seen().await, 2);
}

#[tokio::test]
async fn plan_and_status_show_the_group() {
    let sales = Sales::new("").await;
    let plan = sales.project.run(&["plan", "orders", "--output", "json"]).await.ok().json().remove(0);
    assert_eq!((&plan["group"], &plan["published_with"]), (&"sales".into(), &json!(["lines"])));
    let plan = sales.project.run(&["plan", "orders"]).await.ok().stdout;
    assert!(plan.contains("  group      sales, published together with lines\n"), "{plan}");
    let status = sales.project.run(&["status"]).await.ok().stdout;
    assert!(status.contains("sales"), "{status}");
}
