//! Ctrl-C, SIGTERM and timeouts: a sync ends as cancelled and leaves nothing behind, a service drains and ends well.

use std::time::{Duration, Instant};

use lakegate::failpoint::DURING_COPY;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::http;
use crate::support::live_items::{COPYING, Items, Live};
use crate::support::project::{Ran, eventually};

/// A table that is loaded, and a row more in the lake.
async fn loaded() -> (Items, Live) {
    load(Items::new().await).await
}

async fn load(mut items: Items) -> (Items, Live) {
    items.sync().await;
    items.grow().await;
    let live = items.live().await;
    (items, live)
}

async fn assert_cancelled(items: &Items, ran: &Ran, old: Live) {
    items.assert_cancelled(ran, 130, "LG5008", old).await;
}

#[tokio::test]
async fn a_signal_during_the_copy_ends_the_sync_as_cancelled() {
    for (signal, items) in [(Signal::SIGINT, Items::by_tcp().await), (Signal::SIGTERM, Items::new().await)] {
        let (items, old) = load(items).await;
        let sync = items.sync_in_its_copy().await;
        sync.signal(signal);
        assert_cancelled(&items, &sync.end().await, old).await;
        assert_eq!(items.sync().await["state"], "succeeded");
    }
}

#[tokio::test]
async fn ctrl_c_during_an_index_build_stops_the_build() {
    let (items, old) = loaded().await;
    let (sync, lock) = items.sync_building_its_index().await;
    let begun = Instant::now();
    sync.signal(Signal::SIGINT);
    eventually("the end of the build", async || !items.builds_index().await).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "the build ran on for {:?}", begun.elapsed());
    lock.close().await;
    assert_cancelled(&items, &sync.end().await, old).await;
}

#[tokio::test]
async fn ctrl_c_while_the_publish_waits_for_its_lock_publishes_nothing() {
    let (items, old) = loaded().await;
    let mut reader = items.sql().await;
    let reading = reader.transaction().await.unwrap();
    reading.query("SELECT FROM lake.items", &[]).await.unwrap();
    let sync = items.start_sync(&[], &[]);
    eventually("the wait", async || items.last_run().await.0 == "waiting").await;
    sync.signal(Signal::SIGINT);
    let ran = sync.end().await;
    reading.rollback().await.unwrap();
    assert_cancelled(&items, &ran, old).await;
}

#[tokio::test]
async fn ctrl_c_while_waiting_for_another_process_leaves_that_one_alone() {
    let (items, _) = loaded().await;
    let first = items.sync_stopped_at(DURING_COPY).await;
    let second = items.start_sync(&[], &[]);
    second.says("joins the run of process").await;
    second.signal(Signal::SIGINT);
    assert_eq!(second.end().await.code, Some(130));
    first.signal(Signal::SIGCONT);
    assert_eq!(first.end().await.ok().json()[0]["state"], "succeeded");
}

#[tokio::test]
async fn a_second_ctrl_c_does_not_wait_for_the_tidying_up() {
    let (items, old) = loaded().await;
    let sync = items.sync_in_its_copy().await;
    // The tidying up waits for the row of the run.
    let mut blocker = items.sql().await;
    let lock = blocker.transaction().await.unwrap();
    lock.query("SELECT FROM lakegate.runs FOR UPDATE", &[]).await.unwrap();
    sync.signal(Signal::SIGINT);
    let tidying = "SELECT true FROM pg_stat_activity WHERE datname = current_database() \
                   AND query LIKE 'UPDATE%runs SET state%' AND wait_event_type = 'Lock'";
    eventually("the tidying up", async || items.holds(tidying).await).await;
    sync.signal(Signal::SIGINT);
    assert_eq!(sync.end().await.code, Some(130));
    lock.rollback().await.unwrap();
    assert_eq!(items.live().await, old);
    items.sync().await;
    items.assert_nothing_left("the second Ctrl-C").await;
}

#[tokio::test]
async fn a_run_that_takes_longer_than_its_timeout_is_ended() {
    let (items, old) = loaded().await;
    items.declare("timeout: 1s\n");
    let ran = items.start_sync(&[], &[("FAILPOINTS", "during_copy=pause")]).end().await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(ran.json()[0]["error"]["code"], "LG5009", "{ran:?}");
    assert_eq!(items.last_run().await, ("failed".to_owned(), "LG5009".to_owned()));
    assert_eq!(items.live().await, old);
    assert_eq!(items.tables().await.len(), 1, "the live generation");
    items.assert_nothing_left("the timeout").await;
}

#[tokio::test]
async fn up_answers_the_requests_under_way_and_cancels_its_run_when_told_to_end() {
    let (mut items, old) = loaded().await;
    items.declare("schedule: every 1h\n");
    // The next run is due.
    let day = "UPDATE lakegate.runs SET started_at = started_at - interval '1 day'";
    items.sql().await.execute(day, &[]).await.unwrap();
    items.project.set("FAILPOINTS", "during_copy=pause");
    let mut up = items.project.start("up").await;
    eventually("the scheduled run", async || items.holds(COPYING).await).await;

    // The request waits for this lock.
    let mut blocker = items.sql().await;
    let lock = blocker.transaction().await.unwrap();
    let table = items.tables().await.remove(0);
    lock.batch_execute(&format!("LOCK TABLE lakegate_data.{table} IN ACCESS EXCLUSIVE MODE")).await.unwrap();
    let address = up.address;
    let request = tokio::spawn(async move { http::get(address, "/v1/items/0").await });
    let waiting = "SELECT true FROM pg_stat_activity WHERE datname = current_database() \
                   AND application_name LIKE 'lakegate%' AND wait_event_type = 'Lock' LIMIT 1";
    eventually("the request", async || items.holds(waiting).await).await;
    kill(Pid::from_raw(up.child.id().unwrap().cast_signed()), Signal::SIGTERM).unwrap();
    eventually("the end of listening", async || tokio::net::TcpStream::connect(address).await.is_err()).await;
    lock.rollback().await.unwrap();
    assert_eq!(request.await.unwrap().status, 200);
    assert_eq!(up.child.wait().await.unwrap().code(), Some(0));
    assert_eq!(items.last_run().await, ("cancelled".to_owned(), "LG5008".to_owned()));
    assert_eq!(items.live().await, old);
    items.assert_nothing_left("the end of `up`").await;
}
