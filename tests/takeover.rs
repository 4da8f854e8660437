//! Two `lakegate up` of one project on one Postgres: whichever dies or hangs, the other goes on with the work, and no version
//! is published twice.

use lakegate::failpoint::{AFTER_MERGE, BEFORE_PUBLISH_COMMIT, DURING_COPY};
use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::support::http;
use crate::support::live_items::Items;
use crate::support::process::Process;
use crate::support::project::eventually;
use crate::support::run_records::assert_published_once;

const SEED: &str = "LAKEGATE_TEST_SEED";
/// How often one of two processes is killed at any time.
const KILLS: u32 = 4;

/// A table that is refreshed as its source changes, loaded once.
async fn watched() -> Items {
    let items = Items::new().await;
    items.declare("mode: auto\nschedule: on change\n");
    items.sync().await;
    items
}

/// One process that has stopped itself in the midst of a run, another one that waits for it, and commits that land
/// meanwhile.
async fn one_in_mid_run(items: &mut Items, failpoint: &str) -> (Process, Process) {
    items.grow().await;
    let first = items.start_up(&[("LAKEGATE_TEST_STOP_AT", failpoint)]).stopped().await;
    let second = items.start_up(&[]);
    second.address().await;
    items.grow().await;
    (first, second)
}

/// Whether, by the server's clock, the newest run but one ended and the newest began within this of the lease's end.
async fn taken_over_at(items: &Items, lease: &str, compared: &str) -> bool {
    let began = "(SELECT min(started_at) FROM lakegate.runs WHERE run > (SELECT max(run) FROM lakegate.runs \
                 WHERE state = 'failed' AND error ->> 'code' = 'LG5004'))";
    items.holds(&format!("SELECT {began} {compared} '{lease}'::timestamptz")).await
}

async fn lease_ends(items: &Items) -> String {
    let sql = "SELECT expires_at::text FROM lakegate.leases";
    items.sql().await.query_one(sql, &[]).await.unwrap().get(0)
}

async fn serves_the_newest_row(items: &Items, process: &Process) {
    let (address, rows) = (process.address().await, items.live().await.rows);
    let path = format!("/v1/items/{}", rows - 1);
    eventually(&path, async || http::get(address, &path).await.status == 200).await;
}

#[tokio::test]
async fn the_other_process_takes_over_at_once_from_one_that_was_killed() {
    for failpoint in [DURING_COPY, AFTER_MERGE, BEFORE_PUBLISH_COMMIT] {
        let mut items = watched().await;
        let (first, second) = one_in_mid_run(&mut items, failpoint).await;
        let lease = lease_ends(&items).await;
        first.kill().await;
        items.shows_the_newest_version().await;
        assert!(taken_over_at(&items, &lease, "<").await, "{failpoint}: the lease was waited for");
        items.grow().await;
        items.shows_the_newest_version().await;
        serves_the_newest_row(&items, &second).await;
        assert_published_once(&items.sql().await, failpoint).await;
        eventually("rest", async || items.holds("SELECT NOT EXISTS (SELECT FROM lakegate.leases)").await).await;
        items.assert_nothing_left(failpoint).await;
    }
}

#[tokio::test]
async fn the_other_process_takes_over_from_one_that_hangs_when_its_lease_ends_and_both_go_on() {
    let mut items = watched().await;
    let (first, second) = one_in_mid_run(&mut items, BEFORE_PUBLISH_COMMIT).await;
    let lease = lease_ends(&items).await;
    items.shows_the_newest_version().await;
    assert!(taken_over_at(&items, &lease, "+ interval '-15 s' <=").await, "not within the time of a lease");
    assert!(taken_over_at(&items, &lease, ">=").await, "before the end of the lease");
    let published = items.live().await;

    first.signal(Signal::SIGCONT);
    first.says("LG5004").await;
    assert_eq!(items.live().await, published, "the process that hung has published");
    for _ in 0..3 {
        items.grow().await;
        items.shows_the_newest_version().await;
    }
    for process in [&first, &second] {
        serves_the_newest_row(&items, process).await;
    }
    assert_published_once(&items.sql().await, "the hang").await;
    // Whichever of the two is left alone does the work.
    second.kill().await;
    items.grow().await;
    items.shows_the_newest_version().await;
    assert_published_once(&items.sql().await, "the hang").await;
}

#[tokio::test]
async fn of_two_processes_either_may_be_killed_at_any_time() {
    let seed: u64 = std::env::var(SEED).map_or_else(|_| rand::random::<u32>().into(), |text| text.parse().unwrap());
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut items = watched().await;
    let mut processes = [items.start_up(&[]), items.start_up(&[])];
    for process in &processes {
        process.address().await;
    }
    for kill in 0..KILLS {
        let at = random.random_range(0..6);
        let victim = random.random_range(0..2);
        for commit in 0..6 {
            items.grow().await;
            if commit == at {
                let fresh = items.start_up(&[]);
                std::mem::replace(&mut processes[victim], fresh).kill().await;
            }
        }
        items.shows_the_newest_version().await;
        assert_published_once_after(&items, &format!("seed {seed}, kill {kill}")).await;
    }
    for process in &processes {
        serves_the_newest_row(&items, process).await;
    }
}

/// Once the run that published the newest version has been joined by the other process.
async fn assert_published_once_after(items: &Items, after: &str) {
    eventually("rest", async || {
        items.holds("SELECT NOT EXISTS (SELECT FROM lakegate.runs WHERE finished_at IS NULL)").await
    })
    .await;
    assert_published_once(&items.sql().await, after).await;
}
