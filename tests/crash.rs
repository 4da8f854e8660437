//! Whatever dies, and wherever: what was published serves on, and the next run finds its way and cleans up.

use std::sync::Arc;

use lakegate::config::{self, Environment};
use lakegate::engine::{Engine, SyncRequest};
use lakegate::failpoint::{AFTER_MERGE, AFTER_PUBLISH, BEFORE_MERGE, DURING_COPY, OF_MERGE, OF_SNAPSHOT};
use lakegate::observe::Log;
use lakegate::source::SourceContext;
use nix::sys::signal::Signal;
use tokio_util::sync::CancellationToken;

use crate::support::http;
use crate::support::live_items::{Catalogs, Items, Live};
use crate::support::postgres::TestCluster;
use crate::support::project::eventually;

/// How many refreshes the test of the catalogs makes, a multiple of twenty; 60 where it is not set.
const REFRESHES: &str = "LAKEGATE_TEST_REFRESHES";

/// Loaded, with one superseded generation kept and no other.
async fn settle(items: &Items) -> Catalogs {
    items.age_generations().await;
    items.project.run(&["sync", "items", "--full"]).await.ok();
    assert_eq!(items.tables().await.len(), 2, "the live generation and the one that `retain` keeps");
    items.catalogs().await
}

/// What a reader must see once the run that began from `old` has died at a failpoint.
fn assert_whole(now: Live, old: Live, failpoint: &str) {
    if failpoint == AFTER_PUBLISH {
        assert_eq!((now.rows, now.publish_no), (old.rows + 1, old.publish_no + 1), "{failpoint}");
        assert_ne!(now.generation, old.generation, "{failpoint}");
    } else {
        assert_eq!(now, old, "{failpoint}");
    }
}

/// The next run after one has died at a failpoint, which must bring the row that the dead one did not.
async fn recover(items: &Items, old: Live, failpoint: &str) {
    let next = items.sync().await;
    let state = if failpoint == AFTER_PUBLISH { "skipped" } else { "succeeded" };
    assert_eq!(next["state"], state, "{failpoint}");
    let new = items.live().await;
    assert_eq!((new.rows, new.publish_no), (old.rows + 1, old.publish_no + 1), "{failpoint}");
    items.assert_nothing_left(failpoint).await;
}

#[tokio::test]
async fn a_killed_run_leaves_the_old_state_serving_and_the_next_one_cleans_up() {
    let mut items = Items::new().await;
    items.sync().await;
    let server = items.project.start("serve").await;
    let before = settle(&items).await;
    for &failpoint in OF_SNAPSHOT {
        let old = items.live().await;
        items.grow().await;
        items.sync_stopped_at(failpoint).await.kill().await;

        assert_whole(items.live().await, old, failpoint);
        let reply = http::get(server.address, "/v1/items/0").await;
        assert_eq!(reply.data()[0]["name"], "row 0", "{failpoint}");
        let added = format!("/v1/items/{}", old.rows);
        let status = if failpoint == AFTER_PUBLISH { 200 } else { 404 };
        eventually(failpoint, async || http::get(server.address, &added).await.status == status).await;

        recover(&items, old, failpoint).await;
        eventually(failpoint, async || http::get(server.address, &added).await.status == 200).await;
    }
    let after = settle(&items).await;
    assert_eq!(after.rows, before.rows, "live rows of pg_class, pg_attribute, pg_depend");
}

/// What a reader must see once the merge that began from `old` has died at a failpoint: the same generation, before or
/// after.
fn assert_whole_in_place(now: Live, old: Live, failpoint: &str) {
    let published = i64::from(failpoint == AFTER_PUBLISH);
    let expected = Live { rows: old.rows + published, publish_no: old.publish_no + published, ..old };
    assert_eq!(now, expected, "{failpoint}");
}

#[tokio::test]
async fn a_killed_merge_leaves_the_old_state_and_the_next_run_merges() {
    let mut items = Items::new().await;
    items.declare("mode: incremental\n");
    items.sync().await;
    // The tables that merges need are made once.
    items.rewrite().await;
    items.sync().await;
    let before = items.catalogs().await;
    for &failpoint in OF_MERGE {
        let old = items.live().await;
        items.rewrite().await;
        items.sync_stopped_at(failpoint).await.kill().await;
        assert_whole_in_place(items.live().await, old, failpoint);
        recover(&items, old, failpoint).await;
        assert_eq!(items.live().await.generation, old.generation, "{failpoint}");
    }
    assert_eq!(items.catalogs().await.rows, before.rows, "live rows of pg_class, pg_attribute, pg_depend");
    items.project.run(&["verify", "items"]).await.ok();
}

#[tokio::test]
async fn a_crash_of_postgres_during_a_merge_leaves_the_old_state() {
    let mut cluster = TestCluster::start("crash-merge", &[], |_| {});
    let mut items = Items::on(&cluster).await;
    items.declare("mode: incremental\n");
    items.sync().await;
    for &failpoint in OF_MERGE {
        let old = items.live().await;
        items.rewrite().await;
        let sync = items.sync_stopped_at(failpoint).await;
        cluster.crash();
        sync.signal(Signal::SIGCONT);
        sync.end().await;
        cluster.restart();
        assert_whole_in_place(items.live().await, old, failpoint);
        recover(&items, old, failpoint).await;
    }
    items.project.run(&["verify", "items"]).await.ok();
}

#[tokio::test]
async fn a_hung_merge_that_was_replaced_cannot_publish() {
    let mut items = Items::new().await;
    items.declare("mode: incremental\n");
    items.sync().await;
    let old = items.live().await;
    items.rewrite().await;
    let hung = items.sync_stopped_at(AFTER_MERGE).await;
    items.expire_lease().await;
    assert_eq!(items.sync().await["state"], "succeeded");
    hung.signal(Signal::SIGCONT);
    assert_eq!(hung.end().await.code, Some(1));
    let now = items.live().await;
    assert_eq!((now.rows, now.publish_no), (old.rows + 1, old.publish_no + 1));
    items.assert_nothing_left("a hung merge").await;
}

#[tokio::test]
async fn a_run_that_was_replaced_leaves_alone_what_its_successor_has_staged() {
    let mut items = Items::new().await;
    items.declare("mode: incremental\n");
    items.sync().await;
    items.rewrite().await;
    let hung = items.sync_stopped_at(DURING_COPY).await;
    items.expire_lease().await;
    let successor = items.sync_stopped_at(BEFORE_MERGE).await;
    hung.signal(Signal::SIGCONT);
    let replaced = hung.end().await;
    assert_eq!(replaced.code, Some(1), "{replaced:?}");
    successor.signal(Signal::SIGCONT);
    let ran = successor.end().await.ok();
    let outcome = ran.json().remove(0);
    assert_eq!((&outcome["mode"], &outcome["rows_inserted"]), (&"merge".into(), &1.into()), "{outcome}");
    assert!(items.holds("SELECT cardinality(key_hashes) = 1 FROM lakegate.changed_keys").await);
}

#[tokio::test]
async fn a_first_load_that_is_killed_is_made_afresh() {
    for failpoint in ["after_draw", "during_copy", "before_publish_commit"] {
        let items = Items::new().await;
        items.sync_stopped_at(failpoint).await.kill().await;
        assert_eq!(items.sync().await["rows_inserted"], 3, "{failpoint}");
        assert_eq!(items.live().await.publish_no, 1, "{failpoint}");
        items.assert_nothing_left(failpoint).await;
    }
}

#[tokio::test]
async fn a_crash_of_postgres_leaves_the_old_state_and_the_next_run_cleans_up() {
    let mut cluster = TestCluster::start("crash", &[], |_| {});
    let mut items = Items::on(&cluster).await;
    items.sync().await;
    let before = settle(&items).await;
    for &failpoint in OF_SNAPSHOT {
        let old = items.live().await;
        items.grow().await;
        let sync = items.sync_stopped_at(failpoint).await;
        cluster.crash();
        sync.signal(Signal::SIGCONT);
        let ran = sync.end().await;
        if failpoint == AFTER_PUBLISH {
            assert_eq!(ran.code, Some(0), "{failpoint}: {ran:?}");
        } else {
            assert_eq!(ran.code, Some(1), "{failpoint}: {ran:?}");
            let code = ran.json().remove(0)["error"]["code"].take();
            // Whichever notices first: a statement of the run, or the heartbeat of its lease.
            assert!(code == "LG4014" || code == "LG4001" || code == "LG5004", "{failpoint}: {code}");
        }
        cluster.restart();
        assert_whole(items.live().await, old, failpoint);
        recover(&items, old, failpoint).await;
    }
    let after = settle(&items).await;
    assert_eq!(after.rows, before.rows, "live rows of pg_class, pg_attribute, pg_depend");
}

#[tokio::test]
async fn the_catalogs_do_not_grow_with_the_number_of_refreshes() {
    let refreshes: usize = std::env::var(REFRESHES).map_or(60, |number| number.parse().expect("a number"));
    let items = Items::new().await;
    items.sync().await;
    let engine = engine(&items).await;
    let refresh = SyncRequest { full: true, ..SyncRequest::manual() };
    let pipeline = engine.pipeline("items").unwrap();
    let mut seen = Vec::new();
    for round in 0..refreshes / 20 {
        for _ in 0..20 {
            engine.sync(pipeline, &refresh, &CancellationToken::new()).await.unwrap();
            items.age_generations().await;
        }
        let last = settle(&items).await;
        println!("after {} refreshes: {last:?}", (round + 1) * 20);
        seen.push(last);
    }
    let (first, last) = (seen[0], seen[seen.len() - 1]);
    assert_eq!(last.rows, first.rows, "live rows of pg_class, pg_attribute, pg_depend");
    for (last, first) in last.bytes.iter().zip(first.bytes) {
        assert!(*last <= first + first / 4, "the catalogs grow: {seen:?}");
    }
    items.assert_nothing_left("all refreshes").await;
}

/// An engine in this process: a thousand starts of the binary would take most of the time.
async fn engine(items: &Items) -> Engine {
    let dir = items.project.dir();
    let loaded = config::load(dir, &Environment::default()).unwrap();
    let sources = SourceContext { project_dir: dir.to_owned(), env: std::collections::BTreeMap::new() };
    let project = Arc::new(loaded.project);
    Engine::open(project, sources, items.connector.clone(), Arc::new(Log), None).await.unwrap().0
}
