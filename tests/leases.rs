//! One run of a pipeline at a time, whoever else wants one, hangs or dies.

use std::time::Duration;

use lakegate::domain::TableName;
use lakegate::failpoint::{BEFORE_INDEX, BEFORE_PUBLISH, BEFORE_PUBLISH_COMMIT, DURING_COPY};
use lakegate::postgres::Purpose;
use lakegate::store::{Control, LeaseAttempt};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::live_items::Items;
use crate::support::process::Process;
use crate::support::project::eventually;

/// The one outcome that a process printed at its good end.
async fn outcome(sync: Process) -> Value {
    sync.end().await.ok().json().remove(0)
}

/// The code of the error that a process ended with.
async fn failure(sync: Process) -> String {
    let ran = sync.end().await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    ran.json()[0]["error"]["code"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_second_sync_joins_the_run_under_way_and_reports_it() {
    let items = Items::new().await;
    let first = items.sync_stopped_at(DURING_COPY).await;
    let second = items.start_sync(&[], &[]);
    second.says("joins the run of process").await;
    first.signal(Signal::SIGCONT);
    let (first, second) = (outcome(first).await, outcome(second).await);
    assert_eq!(first["state"], "succeeded");
    for field in ["run", "state", "generation", "publish_no", "rows_inserted", "checksum"] {
        assert_eq!(first[field], second[field], "{field}");
    }
    assert_eq!(items.runs().await, 1);
}

#[tokio::test]
async fn a_sync_that_does_not_wait_fails_while_a_run_is_under_way() {
    let items = Items::new().await;
    let first = items.sync_stopped_at(DURING_COPY).await;
    assert_eq!(failure(items.start_sync(&["--no-wait"], &[])).await, "LG5005");
    first.signal(Signal::SIGCONT);
    assert_eq!(outcome(first).await["state"], "succeeded");
    assert_eq!(items.runs().await, 1);
}

#[tokio::test]
async fn a_hung_process_is_replaced_when_its_lease_runs_out_and_cannot_publish_afterwards() {
    for failpoint in [DURING_COPY, BEFORE_INDEX, BEFORE_PUBLISH, BEFORE_PUBLISH_COMMIT] {
        let items = Items::new().await;
        let hung = items.sync_stopped_at(failpoint).await;
        items.expire_lease().await;
        let next = items.sync().await;
        assert_eq!(next["state"], "succeeded", "{failpoint}");
        let published = items.live().await;

        hung.signal(Signal::SIGCONT);
        assert_eq!(failure(hung).await, "LG5004", "{failpoint}");
        assert_eq!(items.live().await, published, "{failpoint}");
        assert!(items.holds("SELECT state = 'failed' FROM lakegate.runs WHERE run = 1").await, "{failpoint}");
        items.assert_nothing_left(failpoint).await;
    }
}

#[tokio::test]
async fn a_run_without_a_living_lease_cannot_publish_even_where_nobody_ends_its_sessions() {
    for loss in ["expires_at = clock_timestamp()", "token = gen_random_uuid()"] {
        let items = Items::new().await;
        items.sync().await;
        let old = items.live().await;
        let sync = items.start_sync(&["--full"], &[("LAKEGATE_TEST_STOP_AT", BEFORE_PUBLISH_COMMIT)]);
        let sync = sync.stopped().await;
        items.sql().await.execute(&format!("UPDATE lakegate.leases SET {loss}"), &[]).await.unwrap();
        sync.signal(Signal::SIGCONT);
        assert_eq!(failure(sync).await, "LG5004", "{loss}");
        assert_eq!(items.live().await, old, "{loss}");
        items.sync().await;
        items.assert_nothing_left(loss).await;
    }
}

#[tokio::test]
async fn whoever_waits_for_a_run_takes_over_when_its_process_hangs_or_dies() {
    for dies in [false, true] {
        let items = Items::new().await;
        let first = items.sync_stopped_at(BEFORE_PUBLISH).await;
        let second = items.start_sync(&[], &[]);
        second.says("joins the run of process").await;
        let begun = std::time::Instant::now();
        if dies {
            first.kill().await;
            assert_eq!(outcome(second).await["run"], 2);
            assert!(begun.elapsed().as_secs() < 10, "the dead one was waited for until its lease ran out");
        } else {
            items.expire_lease().await;
            assert_eq!(outcome(second).await["run"], 2);
            first.signal(Signal::SIGCONT);
            assert_eq!(failure(first).await, "LG5004");
        }
        assert_eq!(items.live().await.publish_no, 1);
        items.assert_nothing_left("the takeover").await;
    }
}

#[tokio::test]
async fn a_run_whose_lease_session_is_cut_stops() {
    let items = Items::new().await;
    let (sync, lock) = items.sync_building_its_index().await;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'lakegate lease' \
               AND datname = current_database()";
    assert!(items.holds(cut).await);
    eventually("the end of the build", async || !items.builds_index().await).await;
    lock.close().await;
    assert_eq!(failure(sync).await, "LG5004");
    assert_eq!(items.last_run().await, ("failed".to_owned(), "LG5004".to_owned()));
    assert_eq!(items.tables().await, [""; 0]);
    items.sync().await;
    items.assert_nothing_left("the cut").await;
}

#[tokio::test]
async fn the_index_build_of_a_killed_process_does_not_run_on() {
    let items = Items::new().await;
    let (sync, lock) = items.sync_building_its_index().await;
    sync.kill().await;
    eventually("the end of the build", async || !items.builds_index().await).await;
    lock.close().await;
    items.sync().await;
    items.assert_nothing_left("the kill").await;
}

#[tokio::test]
async fn a_process_that_hangs_between_the_lock_and_the_lease_is_replaced() {
    let items = Items::new().await;
    items.sync().await;
    let hung = items.connector.connect(Purpose::Control, "lakegate lease").await.unwrap();
    let lock = "SELECT pg_advisory_lock(hashtextextended('lakegate lease lakegate items', 0::bigint))";
    hung.batch_execute(lock).await.unwrap();
    let (control, session) = (Control::new("lakegate"), items.sql().await);
    let name = TableName::new("items").unwrap();
    let patient = control.acquire_lease(&session, &name, "the next one", Duration::from_secs(600)).await.unwrap();
    assert!(matches!(patient, LeaseAttempt::Held { .. }), "{patient:?}");
    let brief = Duration::from_millis(200);
    eventually("the lease", async || {
        let attempt = control.acquire_lease(&session, &name, "the next one", brief).await.unwrap();
        matches!(attempt, LeaseAttempt::Acquired(_))
    })
    .await;
    assert!(hung.query_one("SELECT 1", &[]).await.is_err(), "the session of the hung process goes on");
}

#[tokio::test]
async fn a_process_that_hangs_while_it_starts_does_not_keep_others_from_starting() {
    let items = Items::new().await;
    items.sync().await;
    let hung = items.connector.connect(Purpose::Control, "lakegate control").await.unwrap();
    let lock = "BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('lakegate schemas lakegate', 0::bigint))";
    hung.batch_execute(lock).await.unwrap();
    items.sync().await;
    assert!(hung.query_one("SELECT 1", &[]).await.is_err(), "the session of the hung process goes on");
}
