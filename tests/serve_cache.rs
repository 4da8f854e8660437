//! What the read API keeps of what it has read: never told after a later publish has been heard of, and all that stays
//! the same kept across publishes.
//!
//! Whether an answer comes from the cache is seen by changing rows behind its back, without a publish.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use lakegate::destination::changed_key_sql;
use lakegate::domain::{ColumnType, Generation, ScalarType};
use lakegate::postgres::{Connector, quote};
use lakegate::serve::ServeSettings;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::serve_http::until;
use crate::support::http::{Reply, get, get_with, post};
use crate::support::postgres::{TestCluster, TestDatabase};
use crate::support::proxy::Proxy;
use crate::support::published::{self, Publisher, Running, Table};

const INT: ColumnType = ColumnType::Scalar(ScalarType::Int32);
const TEXT: ColumnType = ColumnType::Scalar(ScalarType::Text);

/// Settings of a server that keeps what it reads.
fn settings() -> ServeSettings {
    let mut settings = published::settings();
    settings.limits.cache_memory = 16 << 20;
    settings
}

/// `items(id, v)`.
fn items() -> Table {
    Table::new("items", &[("id", INT), ("v", TEXT)], &["id"])
}

/// The rows 1 to 9, all of state 0.
async fn published(database: &TestDatabase) -> (Publisher, Generation) {
    let publisher = Publisher::new(database).await;
    let generation = publisher.publish(&items(), "0", "SELECT i, '0' FROM generate_series(1, 9) i").await;
    (publisher, generation)
}

/// Which keys a merge says to have changed.
enum Listed<'a> {
    /// Those that this condition holds for.
    Where(&'a str),
    /// Too many to list.
    All,
    /// None: the list is missing.
    Missing,
}

/// Changes the live generation in one transaction, as a merge does: rows, list, publish.
async fn merge(
    publisher: &Publisher,
    table: &Table,
    generation: Generation,
    version: &str,
    sql: &str,
    listed: Listed<'_>,
) {
    let session = &publisher.session;
    let rows = format!("lakegate_data.{}", quote(&generation.table(&table.name)));
    session.batch_execute(&format!("BEGIN; {}", sql.replace("{rows}", &rows))).await.unwrap();
    publisher.point(table, generation, version).await;
    let hashes = match listed {
        Listed::Missing => None,
        Listed::All => Some("NULL".to_owned()),
        Listed::Where(condition) => {
            Some(format!("(SELECT array_agg({}) FROM {rows} t WHERE {condition})", changed_key_sql(&table.schema)))
        }
    };
    if let Some(hashes) = hashes {
        let list = format!(
            "INSERT INTO lakegate.changed_keys (name, publish_no, key_hashes) \
             SELECT name, publish_no, {hashes} FROM lakegate.published WHERE name = '{}'",
            table.name
        );
        session.batch_execute(&list).await.unwrap();
    }
    session.batch_execute("COMMIT").await.unwrap();
}

/// Changes rows without anybody being told.
async fn behind_its_back(publisher: &Publisher, generation: Generation, sql: &str) {
    let rows = format!("lakegate_data.{}", quote(&generation.table(&items().name)));
    publisher.session.batch_execute(&sql.replace("{rows}", &rows)).await.unwrap();
}

/// The value of a row; `None` = there is no row.
async fn value(addr: SocketAddr, id: u32) -> Option<String> {
    let reply = get(addr, &format!("/v1/items/{id}")).await;
    match reply.status {
        200 => Some(reply.data()[0]["v"].as_str().unwrap().to_owned()),
        404 => None,
        _ => panic!("{reply:?}"),
    }
}

/// Waits until answers are of a version.
async fn reaches(addr: SocketAddr, url: &str, version: &str) -> Reply {
    let mut last = None;
    until(async || {
        let reply = get(addr, url).await;
        let reached = reply.header("lakegate-version") == Some(version);
        last = Some(reply);
        reached
    })
    .await;
    last.unwrap()
}

#[tokio::test]
async fn rows_and_misses_are_read_once_however_they_are_asked_for() {
    let database = TestDatabase::new().await;
    let (publisher, generation) = published(&database).await;
    let running = Running::start(settings(), database.connector()).await;
    let addr = running.server.addr;
    assert_eq!((value(addr, 1).await.as_deref(), value(addr, 10).await), (Some("0"), None));
    // Read by a batch: 2 and 3; by one that is asked on a connection of its own: all others, and 4 to 9.
    post(addr, "/v1/items/_batch", r#"{"keys": [2, 3]}"#).await;
    let many = json!({"keys": (2..200).collect::<Vec<u32>>()}).to_string();
    post(addr, "/v1/items/_batch", &many).await;
    behind_its_back(&publisher, generation, "UPDATE {rows} SET v = 'x'; INSERT INTO {rows} VALUES (10, 'x')").await;
    for id in 1..=9 {
        assert_eq!(value(addr, id).await.as_deref(), Some("0"), "{id}");
    }
    assert_eq!(value(addr, 10).await, None);
    assert_eq!(get(addr, "/v1/items/+1?columns=v").await.data(), json!([{"v": "0"}]));
    let lines = get_with(addr, "/v1/items/2", &[("Accept", "application/x-ndjson")]).await;
    assert_eq!(lines.body, "{\"id\":2,\"v\":\"0\"}\n");
    let mixed = post(addr, "/v1/items/_batch?columns=v", r#"{"keys": [1, 10, 2, 1]}"#).await;
    assert_eq!(mixed.data(), json!([{"v": "0"}, null, {"v": "0"}, {"v": "0"}]));
    // Other formats are made from rows.
    let csv = get_with(addr, "/v1/items/1", &[("Accept", "text/csv")]).await;
    assert_eq!(csv.body, "id,v\r\n1,x\r\n");
}

#[tokio::test]
async fn without_memory_nothing_is_kept() {
    let database = TestDatabase::new().await;
    let (publisher, generation) = published(&database).await;
    let mut settings = settings();
    settings.limits.cache_memory = 0;
    let running = Running::start(settings, database.connector()).await;
    assert_eq!(value(running.server.addr, 1).await.as_deref(), Some("0"));
    behind_its_back(&publisher, generation, "UPDATE {rows} SET v = 'x'").await;
    assert_eq!(value(running.server.addr, 1).await.as_deref(), Some("x"));
}

#[tokio::test]
async fn a_small_merge_drops_its_keys_and_no_others() {
    let database = TestDatabase::new().await;
    let (publisher, generation) = published(&database).await;
    let running = Running::start(settings(), database.connector()).await;
    let addr = running.server.addr;
    for id in 1..=12 {
        value(addr, id).await;
    }
    behind_its_back(&publisher, generation, "UPDATE {rows} SET v = 'x'; INSERT INTO {rows} VALUES (11, 'x')").await;
    let sql = "UPDATE {rows} SET v = '1' WHERE id = 2; INSERT INTO {rows} VALUES (10, '1')";
    merge(&publisher, &items(), generation, "1", sql, Listed::Where("id IN (2, 10)")).await;
    reaches(addr, "/v1/items/1", "1").await;
    assert_eq!((value(addr, 2).await.as_deref(), value(addr, 10).await.as_deref()), (Some("1"), Some("1")));
    // What was not listed is kept: rows, and that there is none.
    assert_eq!(
        (value(addr, 3).await.as_deref(), value(addr, 11).await, value(addr, 12).await),
        (Some("0"), None, None)
    );
    // Several publishes at once.
    for state in 2..=4 {
        let sql = format!("UPDATE {{rows}} SET v = '{state}' WHERE id = {state}");
        let (version, listed) = (state.to_string(), format!("id = {state}"));
        merge(&publisher, &items(), generation, &version, &sql, Listed::Where(&listed)).await;
    }
    reaches(addr, "/v1/items/1", "4").await;
    let values: Vec<Option<String>> = futures::future::join_all((1..=5).map(|id| value(addr, id))).await;
    assert_eq!(values, ["0", "2", "3", "4", "0"].map(|value| Some(value.to_owned())));
}

#[tokio::test]
async fn a_list_names_keys_of_every_type_as_the_read_api_does() {
    let database = TestDatabase::new().await;
    let publisher = Publisher::new(&database).await;
    let cases: [(ScalarType, &[(&str, &str)]); 12] = [
        (ScalarType::Boolean, &[("true", "true"), ("false", "false")]),
        (ScalarType::Int16, &[("-32768", "-32768"), ("7", "7")]),
        (ScalarType::Int32, &[("7", "7"), ("-1", "-1")]),
        (ScalarType::Int64, &[("9223372036854775807", "9223372036854775807"), ("0", "0")]),
        (
            ScalarType::Numeric { precision: 60, scale: 12 },
            &[
                ("1.500", "1.5"),
                ("0.000", "0"),
                ("-0.00012", "-12e-5"),
                ("10000", "1e4"),
                ("123456789012345678901234567890.000000000001", "123456789012345678901234567890.000000000001"),
            ],
        ),
        (ScalarType::Text, &[("'grüße'", "gr%C3%BC%C3%9Fe"), (r"'a\b'", "a%5Cb"), ("'x'", "x")]),
        (ScalarType::Bytea, &[(r"'\xfffefd'", "__79"), (r"'\x00'", "AA")]),
        (ScalarType::Date, &[("'2024-02-29'", "2024-02-29"), ("'1999-12-31'", "1999-12-31")]),
        (ScalarType::Time, &[("'12:34:56.5'", "12:34:56.5")]),
        (ScalarType::Timestamp, &[("'2024-02-29 12:00:00'", "2024-02-29T12:00:00")]),
        (ScalarType::Timestamptz, &[("'2024-02-29 12:00:00Z'", "2024-02-29T14:00:00%2B02:00")]),
        (ScalarType::Uuid, &[("'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "a0eebc999c0b4ef8bb6d6bb9bd380a11")]),
    ];
    let mut tables = Vec::new();
    for (number, (ty, keys)) in cases.iter().enumerate() {
        let columns = [("n", INT), ("k", ColumnType::Scalar(*ty)), ("v", TEXT)];
        let table = Table::new(&format!("t{number}"), &columns, &["k", "n"]);
        let rows: Vec<String> = keys
            .iter()
            .flat_map(|(value, _)| [1, 2].map(|n| format!("({n}, ({value})::{}, 'old')", ty.sql_name())))
            .collect();
        let generation = publisher.publish(&table, "0", &format!("VALUES {}", rows.join(", "))).await;
        tables.push((table, generation));
    }
    let running = Running::start(settings(), database.connector()).await;
    let addr = running.server.addr;
    for ((table, generation), (ty, keys)) in tables.iter().zip(&cases) {
        let url = |spelled: &str, n: u32| format!("/v1/{}?key={spelled}&key={n}&columns=v", table.name);
        for (_, spelled) in *keys {
            assert_eq!(get(addr, &url(spelled, 1)).await.data(), json!([{"v": "old"}]), "{ty:?}");
            assert_eq!(get(addr, &url(spelled, 2)).await.data(), json!([{"v": "old"}]), "{ty:?}");
        }
        // All rows change; those with n = 1 are listed.
        merge(&publisher, table, *generation, "1", "UPDATE {rows} SET v = 'new'", Listed::Where("t.n = 1")).await;
        for (_, spelled) in *keys {
            assert_eq!(reaches(addr, &url(spelled, 1), "1").await.data(), json!([{"v": "new"}]), "{ty:?} {spelled}");
            assert_eq!(get(addr, &url(spelled, 2)).await.data(), json!([{"v": "old"}]), "{ty:?} {spelled}");
        }
    }
}

#[tokio::test]
async fn where_it_is_not_known_what_changed_everything_is_dropped() {
    let database = TestDatabase::new().await;
    let (publisher, mut generation) = published(&database).await;
    let running = Running::start(settings(), database.connector()).await;
    let addr = running.server.addr;
    let mut table = items();
    for (step, listed) in [Listed::All, Listed::Missing].into_iter().enumerate() {
        value(addr, 1).await;
        let state = format!("list {step}");
        merge(&publisher, &table, generation, &state, &format!("UPDATE {{rows}} SET v = '{state}'"), listed).await;
        assert_eq!(reaches(addr, "/v1/items/1", &state).await.data()[0]["v"], json!(state));
    }
    // Another generation.
    generation = publisher.publish(&table, "anew", "SELECT i, 'anew' FROM generate_series(1, 9) i").await;
    assert_eq!(reaches(addr, "/v1/items/1", "anew").await.data()[0]["v"], "anew");
    // Other columns in the same generation, with a list that names another key: a column comes, and is hidden.
    let added = [("id", INT), ("v", TEXT), ("w", INT)];
    table.schema = Table::new("items", &added, &["id"]).schema;
    let sql = "ALTER TABLE {rows} ADD COLUMN w integer DEFAULT 7";
    merge(&publisher, &table, generation, "wider", sql, Listed::Where("id = 9")).await;
    assert_eq!(reaches(addr, "/v1/items/1", "wider").await.data(), json!([{"id": 1, "v": "anew", "w": 7}]));
    table.policy.hide = vec!["v".to_owned()];
    merge(&publisher, &table, generation, "hidden", "", Listed::Where("id = 9")).await;
    assert_eq!(reaches(addr, "/v1/items/1", "hidden").await.data(), json!([{"id": 1, "w": 7}]));
    // A table that ends, and comes again with numbers from the beginning.
    publisher.unpublish(&table).await;
    until(async || get(addr, "/v1/items/1").await.status == 404).await;
    publisher.publish(&items(), "again", "SELECT 1, 'again'").await;
    until(async || value(addr, 1).await.as_deref() == Some("again")).await;
}

/// The state in which a merge of the following test last changed a key before it reached this state.
fn last_change(id: u32, state: u32) -> u32 {
    (1..=state).rev().find(|state| id % 7 == state % 7 || id % 5 == state % 5).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_never_see_a_value_of_another_publish_than_the_answer_says() {
    const STATES: u32 = 60;
    let database = TestDatabase::new().await;
    let (publisher, generation) = published(&database).await;
    let running = Running::start(settings(), database.connector()).await;
    let addr = running.server.addr;
    let (done, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let mut readers = JoinSet::new();
    for reader in 0..6_u32 {
        let (done, seen) = (Arc::clone(&done), Arc::clone(&seen));
        readers.spawn(async move {
            let (mut last, mut answers) = (0, 0_u32);
            while !done.load(Ordering::Relaxed) {
                let ids: Vec<u32> = if reader == 0 { (1..=9).collect() } else { vec![(answers + reader) % 9 + 1] };
                let reply = match reader {
                    0 => post(addr, "/v1/items/_batch", &json!({"keys": ids}).to_string()).await,
                    _ => get(addr, &format!("/v1/items/{}", ids[0])).await,
                };
                answers += 1;
                if reply.status == 503 {
                    assert!(reply.body.contains("published again and again"), "{reply:?}");
                    continue;
                }
                assert_eq!(reply.status, 200, "{reply:?}");
                let version: u32 = reply.header("lakegate-version").unwrap().parse().unwrap();
                assert!(version >= last, "from {last} back to {version}");
                let expected: Vec<Value> =
                    ids.iter().map(|id| json!({"id": id, "v": last_change(*id, version).to_string()})).collect();
                assert_eq!(reply.data(), Value::Array(expected), "at {version}");
                last = version;
                seen.fetch_max(version, Ordering::Relaxed);
            }
            assert!(answers > 20, "{answers} answers");
        });
    }
    for state in 1..=STATES {
        let changed = format!("id % 7 = {} OR id % 5 = {}", state % 7, state % 5);
        let sql = format!("UPDATE {{rows}} SET v = '{state}' WHERE {changed}");
        merge(&publisher, &items(), generation, &state.to_string(), &sql, Listed::Where(&changed)).await;
        while seen.load(Ordering::Relaxed) < state {
            tokio::task::yield_now().await;
        }
    }
    done.store(true, Ordering::Relaxed);
    while let Some(reader) = readers.join_next().await {
        reader.unwrap();
    }
}

/// A server whose connections to Postgres go through a network that can be broken.
async fn behind_a_proxy(settings: ServeSettings, database: &TestDatabase) -> (Proxy, Running) {
    let proxy = Proxy::before(database.port()).await;
    let url = TestCluster::url_by_way_of(proxy.port(), database.name());
    let running = Running::start(settings, Connector::from_url(&SecretString::from(url)).unwrap()).await;
    (proxy, running)
}

async fn is_deaf(addr: SocketAddr) -> bool {
    get(addr, "/readyz").await.body.contains("Postgres does not answer")
}

#[tokio::test]
async fn a_deaf_server_that_can_ask_does_not_use_what_it_keeps() {
    let database = TestDatabase::new().await;
    let (publisher, generation) = published(&database).await;
    let mut settings = settings();
    settings.limits.statement_timeout = Duration::from_secs(2);
    let (proxy, running) = behind_a_proxy(settings, &database).await;
    let addr = running.server.addr;
    assert_eq!(value(addr, 1).await.as_deref(), Some("0"));
    proxy.swallow_those_of("lakegate catalog");
    until(async || is_deaf(addr).await).await;
    behind_its_back(&publisher, generation, "UPDATE {rows} SET v = 'asked' WHERE id = 1").await;
    let reply = get(addr, "/v1/items/1").await;
    assert_eq!((reply.data()[0]["v"].as_str(), reply.header("lakegate-stale")), (Some("asked"), None));
    let batch = post(addr, "/v1/items/_batch?columns=v", r#"{"keys": [1]}"#).await;
    assert_eq!((batch.data(), batch.header("lakegate-stale")), (json!([{"v": "asked"}]), None));
    // A publish that only a lookup can tell of: what is kept is older than what has been heard of.
    merge(&publisher, &items(), generation, "1", "UPDATE {rows} SET v = 'new'", Listed::All).await;
    for url in ["/v1/items/1", "/v1/items/1"] {
        let reply = get(addr, url).await;
        assert_eq!((reply.status, reply.code().as_str()), (503, "LG6009"), "{reply:?}");
    }
    proxy.cut();
    assert_eq!(reaches(addr, "/v1/items/1", "1").await.data()[0]["v"], "new");
}

#[tokio::test]
async fn a_deaf_server_that_cannot_ask_says_that_what_it_tells_may_be_old() {
    let database = TestDatabase::new().await;
    let (publisher, generation) = published(&database).await;
    let mut settings = settings();
    settings.limits.statement_timeout = Duration::from_secs(10);
    let (proxy, running) = behind_a_proxy(settings, &database).await;
    let addr = running.server.addr;
    assert_eq!((value(addr, 1).await.as_deref(), value(addr, 99).await), (Some("0"), None));
    proxy.swallow();
    until(async || is_deaf(addr).await).await;
    merge(&publisher, &items(), generation, "1", "UPDATE {rows} SET v = 'new'", Listed::All).await;
    let reply = get(addr, "/v1/items/1").await;
    assert_eq!(
        (reply.status, reply.header("lakegate-stale"), reply.header("lakegate-version")),
        (200, Some("true"), Some("0"))
    );
    assert_eq!(reply.data()[0]["v"], "0");
    assert_eq!(reply.header("cache-control"), Some("private, no-cache"));
    let miss = get(addr, "/v1/items/99").await;
    assert_eq!((miss.status, miss.header("lakegate-stale")), (404, Some("true")));
    let batch = post(addr, "/v1/items/_batch?columns=v", r#"{"keys": [1, 99]}"#).await;
    assert_eq!((batch.data(), batch.header("lakegate-stale")), (json!([{"v": "0"}, null]), Some("true")));
    // What is not kept cannot be told, in parts neither; that is said long before a statement would have timed out.
    let asked = Instant::now();
    for unknown in [get(addr, "/v1/items/2").await, post(addr, "/v1/items/_batch", r#"{"keys": [1, 2]}"#).await] {
        assert_eq!((unknown.status, unknown.header("lakegate-version")), (503, Some("0")), "{unknown:?}");
    }
    assert!(asked.elapsed() < Duration::from_secs(9), "{:?}", asked.elapsed());
    // Nor what the client finds too old.
    let strict = get_with(addr, "/v1/items/1", &[("Lakegate-Max-Staleness", "1s")]).await;
    assert_eq!((strict.status, strict.code().as_str()), (503, "LG6015"));
    let lenient = get_with(addr, "/v1/items/1", &[("Lakegate-Max-Staleness", "1h")]).await;
    assert_eq!((lenient.status, lenient.header("lakegate-stale")), (200, Some("true")));
    proxy.cut();
    let reply = reaches(addr, "/v1/items/1", "1").await;
    assert_eq!((reply.data()[0]["v"].as_str(), reply.header("lakegate-stale")), (Some("new"), None));
}

#[tokio::test]
async fn what_is_kept_is_told_while_postgres_is_away_for_a_moment() {
    let database = TestDatabase::new().await;
    let (_publisher, _) = published(&database).await;
    let (proxy, running) = behind_a_proxy(settings(), &database).await;
    let addr = running.server.addr;
    assert_eq!(value(addr, 1).await.as_deref(), Some("0"));
    proxy.refuse(true);
    proxy.cut();
    // Within two seconds it may still be told as it is; after them, marked. It is told at any time.
    let mut marked = 0;
    until(async || {
        let reply = get(addr, "/v1/items/1").await;
        assert_eq!((reply.status, reply.data()[0]["v"].as_str()), (200, Some("0")));
        marked += u32::from(reply.header("lakegate-stale") == Some("true"));
        marked > 3
    })
    .await;
    proxy.refuse(false);
    until(async || get(addr, "/v1/items/1").await.header("lakegate-stale").is_none()).await;
}
