//! Whatever dies, wherever, and whatever the work: readers see one whole state each, never an earlier one than before; the
//! next sync brings the newest one and clears away what the dead have left; each version is published once.
//!
//! A life is one table: a random history of commits, each followed by a sync that dies in a random way at a random place,
//! and by another one that does not. `LAKEGATE_TEST_TORTURE_ROUNDS` says how many deaths (12 unless set), or
//! `LAKEGATE_TEST_TORTURE_MINUTES` for how long, `LAKEGATE_TEST_SEED` with which life to begin; each prints its seed.
//! `make torture` runs it for long.

mod death;
mod known;
mod network;
mod readers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lakegate::postgres::{Connector, Purpose, Session};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::support::history::History;
use crate::support::http;
use crate::support::leftovers;
use crate::support::postgres::TestCluster;
use crate::support::process::Process;
use crate::support::project::{ProjectFolder, RunningServer, eventually};
use crate::support::run_records::assert_published_once;
use death::{At, Blow};
use known::{PARTS, Seen};
use network::Network;
use readers::{ALL_ROWS, Around, page_of, reads_over_http, reads_the_view};

const ROUNDS: &str = "LAKEGATE_TEST_TORTURE_ROUNDS";
const MINUTES: &str = "LAKEGATE_TEST_TORTURE_MINUTES";
const SEED: &str = "LAKEGATE_TEST_SEED";
/// The most deaths in one life.
const ROUNDS_OF_A_LIFE: u64 = 12;

/// One table and all that happens to it.
struct Life {
    /// What befalls it. The history has a source of its own.
    random: StdRng,
    name: String,
    /// Every refresh makes a generation.
    is_snapshot: bool,
    project: ProjectFolder,
    history: History,
    connector: Connector,
    /// The server's own URL, not by way of the network that may be cut.
    direct: String,
    around: Arc<Around>,
    server: RunningServer,
    /// How long a sync takes that is left in peace.
    usual: Duration,
}

impl Life {
    async fn begin(seed: u64, network: &Network) -> Life {
        let mut random = StdRng::seed_from_u64(seed ^ 0xDEAD);
        let name = format!("life_{seed}");
        network.create_database(&name).await;
        let mut project = ProjectFolder::new();
        project.set("LAKEGATE_POSTGRES", &TestCluster::url_by_way_of(network.proxy.port(), &name));
        let is_snapshot = random.random_bool(0.35);
        let mode = if is_snapshot { "mode: snapshot\n" } else { "" };
        let pipeline = format!(
            "source: lake/items\nprimary_key: [part, id]\non_schema_change: add_columns\nserve: {{page_limit: 1000}}\n{mode}"
        );
        project.pipeline("items", &pipeline);
        let history = History::begin(seed, &project.path("lake/items"), 50..600).await;
        let around = Arc::new(Around::default());
        around.known.note(&history);
        let server = project.start("serve").await;
        Life {
            random,
            connector: network.cluster.connector(&name),
            direct: network.cluster.url(&name),
            name,
            is_snapshot,
            project,
            history,
            around,
            server,
            usual: Duration::from_secs(1),
        }
    }

    /// Some commits, a sync that dies, one that does not, and all that must hold then.
    async fn round(&mut self, network: &mut Network, tally: &mut Tally) {
        let is_first = !self.around.known.is_seen();
        let mut work = if is_first { vec!["first load"] } else { Vec::new() };
        for _ in 0..self.random.random_range(if is_first { 0..1 } else { 0..4 }) {
            work.push(self.history.commit().await);
            self.around.known.note(&self.history);
        }
        if work.is_empty() {
            work.push("no commit");
        }
        let blow = Blow::draw(&mut self.random, self.is_snapshot || is_first);
        let place = format!("{}: {} by {:?} at {:?}", self.name, work.join(", "), blow.death, blow.at);
        println!("{place}");
        let struck = self.strike(blow, network).await;
        tally.count(&work, blow, struck);

        let begun = Instant::now();
        let ran = self.start_sync(&[]).end().await.ok();
        self.usual = begun.elapsed();
        let outcome = ran.json().remove(0);
        self.shows_the_newest_state(&outcome, &place).await;
        assert_published_once(&self.sql().await, &place).await;
        leftovers::none_in(&self.sql().await, &place).await;
        self.around.is_cut_off.store(false, Ordering::Relaxed);
    }

    fn start_sync(&self, environment: &[(&str, &str)]) -> Process {
        let mut command = self.project.command(&["sync", "items", "--output", "json"]);
        command.envs(environment.iter().copied());
        Process::start(command)
    }

    /// A session of a superuser.
    async fn sql(&self) -> Session {
        self.connector.connect(Purpose::Control, "tests").await.unwrap()
    }

    /// How often the table has been published; 0 before the first time.
    async fn publish_no(&self) -> i64 {
        let session = self.sql().await;
        let exists = session.query_one("SELECT to_regclass('lakegate.published') IS NOT NULL", &[]).await.unwrap();
        if !exists.get::<_, bool>(0) {
            return 0;
        }
        let sql = "SELECT coalesce(max(publish_no), 0) FROM lakegate.published";
        session.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// How many runs have done what they should, be it nothing. There has been one.
    async fn runs_done(&self) -> i64 {
        let sql = "SELECT count(*) FROM lakegate.runs WHERE state IN ('succeeded', 'skipped')";
        self.sql().await.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// What is published is the newest version, value for value, in SQL and soon over HTTP.
    async fn shows_the_newest_state(&self, outcome: &Value, place: &str) {
        let newest = self.around.known.newest();
        assert_eq!(outcome["source_version"], newest.to_string(), "{place}: {outcome}");
        let session = self.sql().await;
        let rows: String = session.query_one(ALL_ROWS, &[]).await.unwrap().get(0);
        let rows: Vec<Value> = serde_json::from_str(&rows).unwrap();
        let held: i64 = session
            .query_one("SELECT rows FROM lakegate.generations JOIN lakegate.published USING (generation)", &[])
            .await
            .unwrap()
            .get(0);
        assert_eq!(held, rows.len() as i64, "{place}: the recorded number of rows");
        for part in PARTS {
            let rows: Vec<Value> = rows.iter().filter(|row| row["part"] == part).cloned().collect();
            self.around.known.see_version(&mut Seen::default(), newest, &rows, part);
        }
        eventually(&format!("{place}: version {newest} over HTTP"), async || {
            let mut pages = Vec::new();
            for part in PARTS {
                pages.push(http::get(self.server.address, &page_of(part)).await);
            }
            let row = http::get(self.server.address, "/v1/items/p%200/0").await;
            pages.iter().all(|page| page.header("Lakegate-Version") == Some(&newest.to_string()))
                && matches!(row.status, 200 | 404)
        })
        .await;
    }
}

/// How many rounds of what.
#[derive(Debug, Default)]
struct Tally {
    rounds: u64,
    /// Rounds in which something died while a sync was under way.
    deaths: u64,
    by_death: BTreeMap<String, u64>,
    by_place: BTreeMap<String, u64>,
    by_work: BTreeMap<&'static str, u64>,
    answers: u64,
}

impl Tally {
    fn count(&mut self, work: &[&'static str], blow: Blow, struck: bool) {
        self.rounds += 1;
        if !struck {
            return;
        }
        self.deaths += 1;
        *self.by_death.entry(format!("{:?}", blow.death)).or_default() += 1;
        let place = match blow.at {
            At::Failpoint(name) => name,
            At::Share(_) => "any time",
        };
        *self.by_place.entry(place.to_owned()).or_default() += 1;
        for kind in work {
            *self.by_work.entry(kind).or_default() += 1;
        }
    }
}

/// When it is enough.
enum Limit {
    Rounds(u64),
    Until(Instant),
}

impl Limit {
    fn from_environment() -> Limit {
        let number = |name| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
        match number(MINUTES) {
            Some(minutes) => Limit::Until(Instant::now() + Duration::from_secs(minutes * 60)),
            None => Limit::Rounds(number(ROUNDS).unwrap_or(12)),
        }
    }

    fn is_reached(&self, tally: &Tally) -> bool {
        match self {
            Limit::Rounds(rounds) => tally.rounds >= *rounds,
            Limit::Until(end) => Instant::now() >= *end,
        }
    }
}

async fn live(seed: u64, network: &mut Network, limit: &Limit, tally: &mut Tally) {
    let mut life = Life::begin(seed, network).await;
    println!("seed {seed}: {:?}, {} rows", life.history.kind, life.history.rows.len());
    let mut readers = JoinSet::new();
    readers.spawn(reads_the_view(life.connector.clone(), Arc::clone(&life.around)));
    readers.spawn(reads_over_http(life.server.address, Arc::clone(&life.around)));
    let rounds = life.random.random_range(3..=ROUNDS_OF_A_LIFE);
    let all_rounds = async {
        for _ in 0..rounds {
            if !limit.is_reached(tally) {
                life.round(network, tally).await;
            }
        }
        life.project.run(&["verify", "items"]).await.ok();
    };
    tokio::select! {
        ended = readers.join_next() => panic!("seed {seed}: a reader ended: {ended:?}"),
        () = all_rounds => {}
    }
    readers.shutdown().await;
    tally.answers += life.around.answers.load(Ordering::Relaxed);
    network.drop_database(&life.name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_dies_nothing_is_torn_lost_doubled_or_left_behind() {
    let first = std::env::var(SEED).map_or_else(|_| rand::random::<u32>().into(), |text| text.parse().unwrap());
    let limit = Limit::from_environment();
    let mut network = Network::new().await;
    let mut tally = Tally::default();
    for seed in first.. {
        if limit.is_reached(&tally) {
            break;
        }
        live(seed, &mut network, &limit, &mut tally).await;
    }
    println!("from seed {first}: {tally:#?}");
    assert!(tally.deaths > 0, "nothing died");
}
