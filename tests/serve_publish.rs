//! The read API while what it reads changes: publishes, drops, damage, and a Postgres that goes away.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use lakegate::domain::{ColumnType, Generation, ScalarType};
use lakegate::postgres::Connector;
use secrecy::SecretString;
use serde_json::json;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::serve_http::until;
use crate::support::http::get;
use crate::support::postgres::{TestCluster, TestDatabase};
use crate::support::published::{Publisher, Running, Table, settings};

const INT: ColumnType = ColumnType::Scalar(ScalarType::Int32);
const TEXT: ColumnType = ColumnType::Scalar(ScalarType::Text);

fn states() -> Table {
    Table::new("states", &[("a", INT), ("b", INT), ("v", TEXT)], &["a", "b"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_whole_states_in_order_while_generations_come_and_go() {
    let database = TestDatabase::new().await;
    let publisher = Publisher::new(&database).await;
    let rows = |state: u32| format!("SELECT 1, b, '{state}' FROM generate_series(1, 50) b");
    let mut live = publisher.publish(&states(), "0", &rows(0)).await;
    let running = Running::start(settings(), database.connector()).await;
    let addr = running.server.addr;
    let (done, seen) = (Arc::new(AtomicBool::new(false)), Arc::new([const { AtomicU32::new(0) }; 6]));
    let mut readers = JoinSet::new();
    for reader in 0..6 {
        let (done, seen) = (Arc::clone(&done), Arc::clone(&seen));
        readers.spawn(async move {
            let (mut last, mut answers) = (0, 0);
            while !done.load(Ordering::Relaxed) {
                let url =
                    if reader % 3 == 0 { "/v1/states/1".to_owned() } else { format!("/v1/states/1/{}", reader + 1) };
                let reply = get(addr, &url).await;
                assert_eq!(reply.status, 200, "{reply:?}");
                let version = reply.header("lakegate-version").unwrap();
                let data = reply.data();
                let rows = data.as_array().unwrap();
                assert_eq!(rows.len(), if reader % 3 == 0 { 50 } else { 1 });
                assert!(rows.iter().all(|row| row["v"] == version), "{version}: {data}");
                let version: u32 = version.parse().unwrap();
                assert!(version >= last, "from {last} back to {version}");
                last = version;
                seen[reader].store(version, Ordering::Relaxed);
                answers += 1;
            }
            (last, answers)
        });
    }
    for state in 1..=30 {
        let next = publisher.publish(&states(), &state.to_string(), &rows(state)).await;
        // Sooner than a sync would: whoever has planned with the old one must ask again.
        publisher.drop_generation(&states(), live).await;
        live = next;
        // A question is asked again a few times only: none may be overtaken by one publish after another.
        while seen.iter().any(|seen| seen.load(Ordering::Relaxed) < state) {
            assert!(!readers.is_empty() && readers.try_join_next().is_none(), "a reader has ended");
            tokio::task::yield_now().await;
        }
    }
    done.store(true, Ordering::Relaxed);
    while let Some(reader) = readers.join_next().await {
        let (last, answers) = reader.unwrap();
        assert!(last > 0 && answers > 10, "{answers} answers, the last of state {last}");
    }
}

#[tokio::test]
async fn tables_appear_change_and_vanish_without_a_restart() {
    let database = TestDatabase::new().await;
    let publisher = Publisher::new(&database).await;
    let running = Running::start(settings(), database.connector()).await;
    let addr = running.server.addr;
    assert_eq!(get(addr, "/v1/states/1/1").await.code(), "LG6001");
    let mut table = states();
    let generation = publisher.publish(&table, "1", "SELECT 1, 1, 'x'").await;
    until(async || get(addr, "/v1/states/1/1").await.status == 200).await;

    table.policy.hide = vec!["v".to_owned()];
    publisher.point(&table, generation, "1").await;
    assert_eq!(get(addr, "/v1/states/1/1").await.data(), json!([{"a": 1, "b": 1}]));

    table.policy.enabled = false;
    publisher.point(&table, generation, "1").await;
    assert_eq!(get(addr, "/v1/states/1/1").await.code(), "LG6001");

    table.policy.enabled = true;
    publisher.point(&table, generation, "1").await;
    until(async || get(addr, "/v1/states/1/1").await.status == 200).await;
    publisher.unpublish(&table).await;
    assert_eq!(get(addr, "/v1/states/1/1").await.code(), "LG6001");
    assert_eq!(get(addr, "/readyz").await.status, 200);
}

#[tokio::test]
async fn the_key_may_change_with_a_publish() {
    let database = TestDatabase::new().await;
    let publisher = Publisher::new(&database).await;
    publisher.publish(&states(), "1", "SELECT 1, 1, 'x'").await;
    let running = Running::start(settings(), database.connector()).await;
    assert_eq!(get(running.server.addr, "/v1/states/1/1").await.status, 200);
    let other = Table::new("states", &[("v", TEXT), ("n", INT)], &["v"]);
    publisher.publish(&other, "2", "SELECT '1', 7").await;
    assert_eq!(get(running.server.addr, "/v1/states/1").await.data(), json!([{"v": "1", "n": 7}]));
}

#[tokio::test]
async fn a_table_that_cannot_be_read_is_503_and_says_nothing_of_postgres() {
    let database = TestDatabase::new().await;
    let publisher = Publisher::new(&database).await;
    let generation = publisher.publish(&states(), "1", "SELECT 1, 1, 'x'").await;
    let calm = Table::new("calm", &[("k", INT)], &["k"]);
    publisher.publish(&calm, "1", "SELECT 1").await;
    let running = Running::start(settings(), database.connector()).await;
    let addr = running.server.addr;
    assert_eq!(get(addr, "/readyz").await.status, 200);

    let table = format!("lakegate_data.{}", generation.table(&states().name));
    let damages = [
        format!("ALTER TABLE {table} RENAME COLUMN v TO w"),
        format!("ALTER TABLE {table} RENAME COLUMN w TO v; ALTER TABLE {table} ALTER COLUMN a TYPE text"),
        format!("ALTER TABLE {table} RENAME TO elsewhere"),
    ];
    for damage in damages {
        publisher.session.batch_execute(&damage).await.unwrap();
        for url in ["/v1/states/1/1", "/v1/states/1"] {
            let reply = get(addr, url).await;
            assert_eq!((reply.status, reply.code().as_str()), (503, "LG6009"), "{damage}: {reply:?}");
            assert_eq!(reply.header("retry-after"), Some("1"));
            assert!(!reply.body.contains("again and again"), "{damage}: {}", reply.body);
            for leak in ["column", "relation", "elsewhere", "lakegate_data", "__g", "ERROR", "type"] {
                assert!(!reply.body.contains(leak), "{leak}: {}", reply.body);
            }
        }
    }
    assert_eq!(get(addr, "/v1/calm/1").await.status, 200);
    until(async || {
        let reply = get(addr, "/readyz").await;
        reply.status == 503 && reply.body.contains("states") && !reply.body.contains("calm")
    })
    .await;
    assert_eq!(get(addr, "/livez").await.status, 200);
}

#[tokio::test]
async fn a_description_that_is_not_understood_harms_its_own_table_only() {
    let database = TestDatabase::new().await;
    let publisher = Publisher::new(&database).await;
    publisher.publish(&states(), "1", "SELECT 1, 1, 'x'").await;
    publisher.publish(&Table::new("calm", &[("k", INT)], &["k"]), "1", "SELECT 1").await;
    publisher.session.batch_execute("UPDATE lakegate.tables SET schema = '{}' WHERE name = 'states'").await.unwrap();
    let running = Running::start(settings(), database.connector()).await;
    assert_eq!(get(running.server.addr, "/v1/states/1/1").await.status, 503);
    assert_eq!(get(running.server.addr, "/v1/calm/1").await.status, 200);
    assert!(get(running.server.addr, "/readyz").await.body.contains("states"));
}

#[tokio::test]
async fn a_lookup_that_takes_too_long_is_503() {
    let database = TestDatabase::new().await;
    let mut publisher = Publisher::new(&database).await;
    publisher.publish(&states(), "1", "SELECT 1, 1, 'x'").await;
    let mut settings = settings();
    settings.limits.statement_timeout = Duration::from_millis(300);
    let running = Running::start(settings, database.connector()).await;
    let lock = publisher.session.transaction().await.unwrap();
    let table = Generation(1).table(&states().name);
    lock.batch_execute(&format!("LOCK TABLE lakegate_data.{table} IN ACCESS EXCLUSIVE MODE")).await.unwrap();
    for url in ["/v1/states/1/1", "/v1/states/1"] {
        let began = Instant::now();
        let reply = get(running.server.addr, url).await;
        assert_eq!((reply.status, reply.code().as_str()), (503, "LG6009"), "{url}");
        assert!(began.elapsed() < Duration::from_secs(5), "{url}");
    }
    lock.rollback().await.unwrap();
    until(async || get(running.server.addr, "/v1/states/1/1").await.status == 200).await;
}

#[tokio::test]
async fn ended_sessions_are_replaced_without_an_error() {
    let database = TestDatabase::new().await;
    let publisher = Publisher::new(&database).await;
    publisher.publish(&states(), "1", "SELECT 1, 1, 'x'").await;
    let running = Running::start(settings(), database.connector()).await;
    for _ in 0..3 {
        assert_eq!(get(running.server.addr, "/v1/states/1/1").await.status, 200);
        assert_eq!(get(running.server.addr, "/v1/states/1").await.status, 200);
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
        publisher.session.batch_execute(end).await.unwrap();
    }
    publisher.publish(&states(), "2", "SELECT 1, 1, 'y'").await;
    assert_eq!(get(running.server.addr, "/v1/states/1/1").await.data()[0]["v"], "y");
}

/// Stands between the server and Postgres, and can be cut.
struct Wire {
    addr: SocketAddr,
    connections: JoinSet<()>,
}

impl Wire {
    async fn lay(at: SocketAddr) -> Wire {
        let listener = TcpListener::bind(at).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut connections = JoinSet::new();
        connections.spawn(async move {
            let mut streams = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                streams.spawn(async move {
                    let mut far = TcpStream::connect(("127.0.0.1", TestCluster::shared().port())).await.unwrap();
                    let _ = copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        Wire { addr, connections }
    }

    async fn cut(mut self) -> SocketAddr {
        self.connections.shutdown().await;
        self.addr
    }
}

#[tokio::test]
async fn without_postgres_answers_are_503_until_it_is_back() {
    let database = TestDatabase::new().await;
    let publisher = Publisher::new(&database).await;
    publisher.publish(&states(), "1", "SELECT 1, 1, 'x'").await;
    let wire = Wire::lay("127.0.0.1:0".parse().unwrap()).await;
    let port = format!(":{}/", TestCluster::shared().port());
    let url = database.url().replace(&port, &format!(":{}/", wire.addr.port()));
    let connector = Connector::from_url(&SecretString::from(url)).unwrap();
    let running = Running::start(settings(), connector).await;
    let addr = running.server.addr;
    assert_eq!(get(addr, "/v1/states/1/1").await.status, 200);

    let place = wire.cut().await;
    for url in ["/v1/states/1/1", "/v1/states/1"] {
        let reply = get(addr, url).await;
        assert_eq!((reply.status, reply.code().as_str()), (503, "LG6009"), "{url}");
        assert!(!reply.body.contains("127.0.0.1"), "{}", reply.body);
    }
    until(async || get(addr, "/readyz").await.status == 503).await;
    assert_eq!(get(addr, "/livez").await.status, 200);
    assert_eq!(get(addr, "/v1/unheard/1").await.status, 503);

    let _wire = Wire::lay(place).await;
    until(async || get(addr, "/v1/states/1/1").await.status == 200).await;
    until(async || get(addr, "/readyz").await.status == 200).await;
}

#[tokio::test]
async fn a_server_that_starts_without_postgres_is_alive_but_not_ready() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = SecretString::from(format!("postgres://nobody@127.0.0.1:{}/none", closed.port()));
    let running = Running::start(settings(), Connector::from_url(&url).unwrap()).await;
    assert_eq!(get(running.server.addr, "/livez").await.status, 200);
    assert_eq!(get(running.server.addr, "/readyz").await.status, 503);
    assert_eq!(get(running.server.addr, "/v1/states/1/1").await.status, 503);
}
