//! Random histories of a table: after each refresh, however it was done, readers see what the source holds.
//!
//! `LAKEGATE_TEST_HISTORIES` says how many (15 unless set), `LAKEGATE_TEST_SEED` with which one to begin. Each prints its
//! seed and the modes that its refreshes took.

use std::collections::BTreeMap;
use std::sync::Arc;

use lakegate::config::{self, Environment};
use lakegate::engine::{Engine, SyncRequest};
use lakegate::observe::Log;
use lakegate::postgres::Session;
use lakegate::source::SourceContext;
use rand::Rng as _;
use tokio_util::sync::CancellationToken;

use crate::support::history::{History, Row, Rows, part};
use crate::support::http;
use crate::support::measure::number;
use crate::support::postgres::TestDatabase;
use crate::support::project::{TestProject, eventually};

const HISTORIES: &str = "LAKEGATE_TEST_HISTORIES";
const SEED: &str = "LAKEGATE_TEST_SEED";
/// Refreshes of one history.
const STEPS: usize = 20;

/// What readers see in SQL.
async fn published(session: &Session, has_extra: bool) -> Rows {
    let extra = if has_extra { "extra" } else { "NULL::bigint" };
    let query =
        format!("SELECT id, part, name, (price * 100)::bigint, quantity, tags, {extra}, scale(price) FROM lake.items");
    let rows = session.query(&query, &[]).await.unwrap();
    rows.iter()
        .map(|found| {
            let id: i64 = found.get(0);
            assert_eq!(found.get::<_, String>(1), part(id));
            assert!(found.get::<_, Option<i32>>(7).is_none_or(|scale| scale == 2));
            let row = Row {
                name: found.get(2),
                price: found.get::<_, Option<i64>>(3).map(i128::from),
                quantity: found.get(4),
                tags: found.get(5),
                extra: found.get(6),
            };
            (id, row)
        })
        .collect()
}

async fn run(seed: u64) -> BTreeMap<String, usize> {
    let project = TestProject::on(TestDatabase::new().await);
    project.pipeline("items", "source: lake/items\nprimary_key: [id]\n");
    let mut history = History::begin(seed, &project.path("lake/items"), 50..400).await;
    let engine = engine(&project).await;
    let session = project.sql().await;
    let pipeline = engine.pipeline("items").unwrap();
    let mut modes = BTreeMap::new();
    let mut server = None;
    for step in 0..STEPS {
        let mut done = Vec::new();
        if step > 0 {
            for _ in 0..history.random.random_range(1..=3) {
                done.push(history.commit().await);
            }
        }
        let place = format!("seed {seed}, {:?}, step {step} after {done:?}", history.kind);
        let outcome = engine.sync(pipeline, &SyncRequest::manual(), &CancellationToken::new()).await;
        let outcome = outcome.unwrap_or_else(|failure| panic!("{place}: {:?}", failure.error));
        *modes.entry(outcome.mode.as_str().to_owned()).or_default() += 1;
        let found = published(&session, history.has_extra).await;
        if found != history.rows {
            let differing: Vec<_> = found
                .keys()
                .chain(history.rows.keys())
                .filter(|id| found.get(id) != history.rows.get(id))
                .map(|id| (id, found.get(id), history.rows.get(id)))
                .take(3)
                .collect();
            panic!("{place}: {} ({}) leaves {differing:?}", outcome.mode.as_str(), outcome.reason);
        }
        assert_eq!(outcome.source_version.as_deref(), Some(history.lake.version().to_string().as_str()), "{place}");
        let server = match &server {
            Some(server) => server,
            None => server.insert(project.start("serve").await),
        };
        for _ in 0..3 {
            let id = history.random.random_range(0..history.rows.keys().last().map_or(1, |id| id + 2));
            let expected = history.rows.get(&id).map(|row| row.quantity);
            let path = format!("/v1/items/{id}?columns=quantity");
            eventually(&format!("{place}: {id} is {expected:?} over HTTP"), async || {
                let reply = http::get(server.address, &path).await;
                let quantity = (reply.status == 200).then(|| reply.data()[0]["quantity"].as_i64().unwrap());
                quantity == expected
            })
            .await;
        }
    }
    let verified = engine.verify_table(pipeline, &CancellationToken::new()).await.unwrap();
    assert_eq!(verified.rows, history.rows.len() as u64);
    modes
}

async fn engine(project: &TestProject) -> Engine {
    let environment = Environment::from_iter([("LAKEGATE_POSTGRES".to_owned(), project.database.url())]);
    let loaded = config::load(project.dir(), &environment).unwrap();
    let sources = SourceContext { project_dir: project.dir().to_owned(), env: BTreeMap::new() };
    Engine::open(Arc::new(loaded.project), sources, project.database.connector(), Arc::new(Log), None).await.unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refresh_shows_what_the_source_holds() {
    let (histories, first) = (number(HISTORIES, 15), number(SEED, u64::from(rand::random::<u32>())));
    let mut all = BTreeMap::new();
    for seed in first..first + histories {
        let modes = run(seed).await;
        println!("seed {seed}: {modes:?}");
        for (mode, count) in modes {
            *all.entry(mode).or_insert(0) += count;
        }
    }
    println!("{histories} histories of {STEPS} refreshes from seed {first}: {all:?}");
    assert!(["append", "merge", "noop", "snapshot"].iter().all(|mode| all.contains_key(*mode)) || histories < 10);
}
