//! Hours of everything at once: clients at half the rate that the machine is capable of, slow ones beside them, while
//! tables are merged and loaded anew, API keys come and go, and Postgres dies and comes back. No answer is wrong (each is
//! checked against the version that it says it is of, and no server goes back to an earlier one), none fails unless Postgres
//! is away, and memory does not grow.
//!
//! It runs `lakegate up` and a replica, `lakegate serve`. `LAKEGATE_TEST_SOAK_MINUTES` says for how long (a quarter of a
//! minute unless set), `LAKEGATE_TEST_SEED` repeats what is asked and what befalls it. `make soak` runs it for long.

mod clients;
mod content;
mod keys;
mod memory;
mod questions;
mod slow;
mod tally;
mod weather;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lakegate::postgres::Purpose;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::support::http;
use crate::support::lake::LakeTable;
use crate::support::leftovers;
use crate::support::postgres::TestCluster;
use crate::support::project::{ProjectFolder, RunningServer, eventually};
use crate::support::run_records::assert_published_once;
use memory::Memory;
use tally::Tally;
use weather::Weather;

const MINUTES: &str = "LAKEGATE_TEST_SOAK_MINUTES";
const SEED: &str = "LAKEGATE_TEST_SEED";
/// How long it takes where nothing else is said.
const SHORT: Duration = Duration::from_secs(15);
/// How long it may take longer than it is to, until everything has happened that is to happen.
const LONGER: Duration = Duration::from_secs(60);
/// Versions that must be seen.
const VERSIONS: usize = 4;
/// Clients that ask as fast as they are to.
const CLIENTS: usize = 12;
/// Clients that do not.
const SLOW_CLIENTS: usize = 8;
/// Enough for some of the rows, so that the cache lets others go.
const CACHE: &str = "1MiB";

/// What all that happens at once has in common.
struct Soak {
    seed: u64,
    lasts: Duration,
    servers: [Server; 2],
    /// The API key that stays valid.
    key: String,
    /// Microseconds between two questions of a client; 0 = it does not wait.
    pace: AtomicU64,
    weather: Weather,
    tally: Tally,
    over: CancellationToken,
}

/// A server of the read API.
struct Server {
    name: &'static str,
    address: SocketAddr,
    /// The latest version that an answer was of.
    seen: AtomicU64,
}

impl Soak {
    fn server(&self, number: usize) -> &Server {
        &self.servers[number % self.servers.len()]
    }

    fn credential(&self) -> String {
        format!("Bearer {}", self.key)
    }

    /// Whether everything has happened at least once.
    fn has_seen_all(&self) -> bool {
        let revoked = self.tally.keys_revoked.load(Ordering::Relaxed);
        self.tally.versions() >= VERSIONS && self.weather.outages() > 0 && revoked > 0
    }

    fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Waits so long; whether it is over.
    async fn pause(&self, time: Duration) -> bool {
        self.pause_until(Instant::now() + time).await
    }

    async fn pause_until(&self, when: Instant) -> bool {
        tokio::select! {
            () = self.over.cancelled() => {}
            () = tokio::time::sleep_until(when.into()) => {}
        }
        self.is_over()
    }
}

/// The project, its table and the processes over it.
struct World {
    project: ProjectFolder,
    lake: LakeTable,
    cluster: TestCluster,
    up: RunningServer,
    replica: RunningServer,
}

impl World {
    async fn begin() -> World {
        let cluster = tokio::task::spawn_blocking(|| TestCluster::start("soak", &[], |_| {})).await.unwrap();
        let mut project = ProjectFolder::new();
        project.set("LAKEGATE_POSTGRES", &cluster.url("postgres"));
        project.set("LAKEGATE_AUTH", "{keys: true}");
        project.set("LAKEGATE_LIMITS_CACHE_MEMORY", CACHE);
        let serve = "serve: {page_limit: 1000}";
        let pipeline = format!("source: lake/items\nprimary_key: [part, id]\nschedule: on change\n{serve}\n");
        project.pipeline("items", &pipeline);
        let lake = content::create(&project.path("lake/items")).await;
        project.sync("items").await;
        let (up, replica) = (project.start("up").await, project.start("serve").await);
        World { project, lake, cluster, up, replica }
    }

    async fn soak(&self, seed: u64, lasts: Duration) -> Soak {
        let key = self.project.run(&["keys", "create", "the clients"]).await.ok().stdout.trim().to_owned();
        let server = |name, address| Server { name, address, seen: AtomicU64::new(0) };
        let servers = [server("up", self.up.address), server("the replica", self.replica.address)];
        for server in &servers {
            let key = format!("Bearer {key}");
            eventually("the key", async || {
                http::get_with(server.address, "/v1/items/0/0", &[("Authorization", &key)]).await.status != 401
            })
            .await;
        }
        Soak {
            seed,
            lasts,
            servers,
            key,
            pace: AtomicU64::new(0),
            weather: Weather::default(),
            tally: Tally::default(),
            over: CancellationToken::new(),
        }
    }

    /// All that must hold when nobody disturbs it any more.
    async fn comes_to_rest(&self, soak: &Soak) {
        let newest = self.lake.version().to_string();
        let credential = soak.credential();
        for server in &soak.servers {
            eventually(&format!("version {newest} on {}", server.name), async || {
                let headers = [("Authorization", credential.as_str())];
                let reply = http::get_with(server.address, "/v1/items/1?limit=1", &headers).await;
                reply.header("Lakegate-Version") == Some(&newest)
            })
            .await;
        }
        let sql = self.cluster.connector("postgres").connect(Purpose::Control, "tests").await.unwrap();
        leftovers::none_in(&sql, "the soak").await;
        assert_published_once(&sql, "the soak").await;
        self.project.run(&["verify", "items"]).await.ok();
    }
}

/// Asks at full speed for a while, then sets the pace for half of that rate; the peak, in answers a second.
async fn sets_the_pace(soak: &Soak) -> f64 {
    let measured = (soak.lasts / 5).min(Duration::from_secs(10));
    let (began, before) = (Instant::now(), soak.tally.checked.load(Ordering::Relaxed));
    soak.pause(measured).await;
    let answers = soak.tally.checked.load(Ordering::Relaxed) - before;
    let peak = answers as f64 / began.elapsed().as_secs_f64();
    let pace = Duration::from_secs(1).mul_f64(2.0 * CLIENTS as f64 / peak.max(1.0));
    soak.pace.store(pace.as_micros() as u64, Ordering::Relaxed);
    peak
}

/// Ends when a client fails.
async fn first_failure(clients: &mut JoinSet<()>) -> JoinError {
    loop {
        match clients.join_next().await {
            Some(Ok(())) => {}
            Some(Err(failed)) => return failed,
            None => std::future::pending().await,
        }
    }
}

/// Everything that befalls the servers, until the time is over; returns the peak rate.
async fn weathers(soak: &Soak, world: &mut World) -> f64 {
    let World { lake, cluster, up, .. } = world;
    let is_long = soak.lasts > SHORT;
    let began = Instant::now();
    let peak = sets_the_pace(soak).await;
    let commits = async {
        while !soak.pause(Duration::from_millis(if is_long { 1_500 } else { 400 })).await {
            content::advance(lake).await;
        }
    };
    let (restarts, revocations) = if is_long { (40, 2_000) } else { (7, 300) };
    let time = async {
        soak.pause_until(began + soak.lasts).await;
        while !soak.has_seen_all() && began.elapsed() < soak.lasts + LONGER {
            soak.pause(Duration::from_millis(100)).await;
        }
        soak.over.cancel();
    };
    tokio::join!(
        time,
        commits,
        keys::come_and_go(soak, up.admin(), Duration::from_millis(revocations)),
        weather::restarts(soak, cluster, Duration::from_secs(restarts)),
    );
    peak
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_goes_on_for_however_long_answers_are_right_and_memory_is_flat() {
    let seed = std::env::var(SEED).map_or_else(|_| rand::random::<u32>().into(), |text| text.parse().unwrap());
    let minutes = std::env::var(MINUTES).ok().map(|text| text.parse().expect("a number of minutes"));
    let lasts = minutes.map_or(SHORT, |minutes: u64| Duration::from_secs(60 * minutes));
    println!("seed {seed}");
    let mut world = World::begin().await;
    let soak = Arc::new(world.soak(seed, lasts).await);
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let soak = Arc::clone(&soak);
        clients.spawn(async move { clients::asks(&soak, number).await });
    }
    for number in 0..SLOW_CLIENTS {
        let soak = Arc::clone(&soak);
        clients.spawn(async move { slow::dawdles(&soak, number).await });
    }
    let watch = |name, server: &RunningServer| {
        tokio::spawn(Memory::watch(name, server.child.id().expect("a process"), soak.over.clone()))
    };
    let memories = [watch("up", &world.up), watch("the replica", &world.replica)];
    let peak = tokio::select! {
        failed = first_failure(&mut clients) => panic!("seed {seed}: {failed}"),
        peak = weathers(&soak, &mut world) => peak,
    };
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    world.comes_to_rest(&soak).await;
    let [up, replica] = memories.map(|memory| async { memory.await.unwrap() });
    let (up, replica) = tokio::join!(up, replica);
    let (tally, outages) = (&soak.tally, soak.weather.outages());
    println!(
        "soak of {} s, seed {seed}: half of {peak:.0} answers a second; {tally}; Postgres died {outages} times; {up}; {replica}",
        lasts.as_secs()
    );
    assert!(soak.has_seen_all(), "not everything has happened");
    up.assert_flat();
    replica.assert_flat();
}
