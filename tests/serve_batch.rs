//! Batches of the read API: many keys, one answer, one publish.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use lakegate::domain::{ColumnType, ScalarType};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::serve_http::until;
use crate::support::http::{post, post_with, request};
use crate::support::postgres::TestDatabase;
use crate::support::published::{Publisher, Running, Table, settings};

const fn scalar(ty: ScalarType) -> ColumnType {
    ColumnType::Scalar(ty)
}

const INT: ColumnType = scalar(ScalarType::Int32);
const TEXT: ColumnType = scalar(ScalarType::Text);

/// `single(id, v)` with the even keys below 500, and `pair(a, b, v)` with the same.
async fn server(database: &TestDatabase) -> (Publisher, Running) {
    let publisher = Publisher::new(database).await;
    let single = Table::new("single", &[("id", INT), ("v", TEXT)], &["id"]);
    let pair = Table::new("pair", &[("a", INT), ("b", TEXT), ("v", TEXT)], &["a", "b"]);
    publisher.publish(&single, "7", "SELECT i, 'v' || i FROM generate_series(0, 499, 2) i").await;
    publisher.publish(&pair, "7", "SELECT i, 'b' || i, 'v' || i FROM generate_series(0, 499, 2) i").await;
    (publisher, Running::start(settings(), database.connector()).await)
}

/// The keys of these numbers as each table has them.
fn bodies(numbers: &[u32]) -> [(&'static str, String); 2] {
    let pairs: Vec<Value> = numbers.iter().map(|i| json!([i, format!("b{i}")])).collect();
    [("single", json!({"keys": numbers}).to_string()), ("pair", json!({"keys": pairs}).to_string())]
}

#[tokio::test]
async fn rows_come_in_the_order_asked_and_misses_say_where() {
    let database = TestDatabase::new().await;
    let (_publisher, running) = server(&database).await;
    for (table, body) in bodies(&[8, 3, 2, 8, 5]) {
        let reply = post(running.server.addr, &format!("/v1/{table}/_batch?columns=v"), &body).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let miss = |index: usize| {
            format!(
                r#"{{"code":"LG6002","title":"No such row","detail":"the table has no row with this key","hint":null,"index":{index}}}"#
            )
        };
        let data = r#"[{"v":"v8"},null,{"v":"v2"},{"v":"v8"},null]"#;
        assert_eq!(reply.body, format!(r#"{{"data":{data},"error":[{},{}]}}"#, miss(1), miss(4)));
        assert_eq!((reply.header("lakegate-version"), reply.header("etag")), (Some("7"), None));
        assert_eq!(reply.header("cache-control"), Some("private, no-cache"));
    }
    let none = post(running.server.addr, "/v1/single/_batch", r#"{"keys": []}"#).await;
    assert_eq!((none.status, none.body.as_str()), (200, r#"{"data":[],"error":[]}"#));
}

#[tokio::test]
async fn batches_of_every_size_give_each_key_its_row() {
    let database = TestDatabase::new().await;
    let (_publisher, running) = server(&database).await;
    for size in [1, 63, 64, 65, 300, 1000] {
        // Some keys stand in it twice or more.
        let numbers: Vec<u32> = (0..size).map(|i| i * 7 % 499).collect();
        for (table, body) in bodies(&numbers) {
            let reply = post(running.server.addr, &format!("/v1/{table}/_batch?columns=v"), &body).await;
            let expected: Vec<Value> =
                numbers.iter().map(|i| if i % 2 == 0 { json!({"v": format!("v{i}")}) } else { Value::Null }).collect();
            assert_eq!(reply.data(), Value::Array(expected), "{table}, {size}");
            let misses: Vec<u64> =
                reply.json()["error"].as_array().unwrap().iter().map(|miss| miss["index"].as_u64().unwrap()).collect();
            let odd: Vec<u64> = (0..).zip(&numbers).filter(|(_, i)| *i % 2 == 1).map(|(at, _)| at).collect();
            assert_eq!(misses, odd);
        }
    }
}

#[tokio::test]
async fn keys_of_every_type_are_written_as_json_has_them() {
    let database = TestDatabase::new().await;
    let publisher = Publisher::new(&database).await;
    // The type, the value in SQL, how it is written, and what is refused.
    let cases: [(ScalarType, &str, &[&str], &[&str]); 12] = [
        (ScalarType::Boolean, "true", &["true"], &["\"true\"", "1"]),
        (ScalarType::Int16, "-32768", &["-32768", "-32768.0"], &["-32769", "\"-32768\"", "1.5", "1e9"]),
        (ScalarType::Int32, "7", &["7", "7.0", "70e-1"], &["\"7\"", "7.1", "true", "2147483648"]),
        (
            ScalarType::Int64,
            "9007199254740993",
            &["9007199254740993", "\"9007199254740993\"", "9007199254740993.0"],
            &["\"9007199254740993.0\"", "9223372036854775808", "\"x\""],
        ),
        (
            ScalarType::Numeric { precision: 38, scale: 20 },
            "123456789012345678.12345678901234567890",
            &[
                "123456789012345678.1234567890123456789",
                "\"123456789012345678.12345678901234567890\"",
                "12345678901234567812345678901234567890e-20",
            ],
            &["\"NaN\"", "true"],
        ),
        (ScalarType::Text, "'7'", &["\"7\"", "\"\\u0037\""], &["7", "true", "\"a\\u0000\""]),
        (ScalarType::Bytea, r"'\xfffefd'", &["\"__79\""], &["\"//79\"", "1"]),
        (ScalarType::Date, "'2024-02-29'", &["\"2024-02-29\""], &["\"2023-02-29\"", "20240229"]),
        (ScalarType::Time, "'12:34:56.5'", &["\"12:34:56.5\""], &["\"25:00\"", "12"]),
        (ScalarType::Timestamp, "'2024-02-29 12:00:00'", &["\"2024-02-29T12:00:00\""], &["\"2024-02-29T12:00:00Z\""]),
        (
            ScalarType::Timestamptz,
            "'2024-02-29 12:00:00Z'",
            &["\"2024-02-29T12:00:00Z\"", "\"2024-02-29T14:00:00+02:00\""],
            &["\"2024-02-29T12:00:00\"", "1709208000"],
        ),
        (
            ScalarType::Uuid,
            "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
            &["\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\""],
            &["\"a0\""],
        ),
    ];
    for (number, (ty, value, _, _)) in cases.iter().enumerate() {
        let table = Table::new(&format!("t{number}"), &[("k", scalar(*ty)), ("v", TEXT)], &["k"]);
        publisher.publish(&table, "1", &format!("SELECT ({value})::{}, 'found'", ty.sql_name())).await;
    }
    let running = Running::start(settings(), database.connector()).await;
    for (number, (ty, _, spellings, refused)) in cases.iter().enumerate() {
        let url = format!("/v1/t{number}/_batch?columns=v");
        let reply = post(running.server.addr, &url, &format!("{{\"keys\":[{}]}}", spellings.join(","))).await;
        let expected: Vec<Value> = spellings.iter().map(|_| json!({"v": "found"})).collect();
        assert_eq!(reply.data(), Value::Array(expected), "{ty:?}: {reply:?}");
        for key in *refused {
            let reply = post(running.server.addr, &url, &format!("{{\"keys\":[{},{key}]}}", spellings[0])).await;
            assert_eq!((reply.status, reply.code().as_str()), (400, "LG6003"), "{ty:?}: {key}");
            assert!(reply.body.contains("keys[1]: the key column `k` takes"), "{reply:?}");
        }
    }
}

#[tokio::test]
async fn what_is_no_batch_is_refused() {
    let database = TestDatabase::new().await;
    let publisher = Publisher::new(&database).await;
    let single = Table::new("single", &[("id", INT), ("v", TEXT)], &["id"]);
    publisher.publish(&single, "7", "SELECT 1, 'x'").await;
    let mut settings = settings();
    settings.limits.batch_keys_max = 3;
    let running = Running::start(settings, database.connector()).await;
    let addr = running.server.addr;
    for (url, body, status, code) in [
        ("/v1/single/_batch", "", 400, "LG6016"),
        ("/v1/single/_batch", "[1]", 400, "LG6016"),
        ("/v1/single/_batch", r#"{"keys":[1],"x":1}"#, 400, "LG6016"),
        ("/v1/single/_batch", r#"{"keys":[[1]]}"#, 400, "LG6003"),
        ("/v1/single/_batch", r#"{"keys":["1"]}"#, 400, "LG6003"),
        ("/v1/single/_batch", r#"{"keys":[1,2,3,4]}"#, 413, "LG6010"),
        ("/v1/single/_batch?limit=1", r#"{"keys":[1]}"#, 400, "LG6005"),
        ("/v1/single/_batch?columns=none", r#"{"keys":[1]}"#, 400, "LG6004"),
        ("/v1/nothing/_batch", r#"{"keys":[1]}"#, 404, "LG6001"),
    ] {
        let reply = post(addr, url, body).await;
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{url} {}: {reply:?}", body.len());
    }
    // A body that is said to be too long is not waited for.
    let headers = [("Content-Type", "application/json"), ("Content-Length", "1048577")];
    let long = request(addr, "POST", "/v1/single/_batch", &headers).await;
    assert_eq!((long.status, long.code().as_str()), (413, "LG6010"));
    for (header, status, code) in [
        (("Content-Type", "text/plain"), 415, "LG6017"),
        (("X-Nothing", ""), 415, "LG6017"),
        (("Content-Type", "application/json; charset=utf-8"), 200, ""),
    ] {
        let reply = post_with(addr, "/v1/single/_batch", &[header], r#"{"keys":[1]}"#).await;
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{header:?}");
    }
    let headers = [("Content-Type", "application/json"), ("Content-Encoding", "gzip")];
    let compressed = post_with(addr, "/v1/single/_batch", &headers, r#"{"keys":[1]}"#).await;
    assert_eq!((compressed.status, compressed.code().as_str()), (415, "LG6017"));
    let headers = [("Content-Type", "application/json"), ("Lakegate-Max-Staleness", "0ms")];
    assert_eq!(post_with(addr, "/v1/single/_batch", &headers, r#"{"keys":[1]}"#).await.code(), "LG6015");
}

#[tokio::test]
async fn rows_that_are_too_many_bytes_are_refused() {
    let database = TestDatabase::new().await;
    let publisher = Publisher::new(&database).await;
    let table = Table::new("wide", &[("id", INT), ("v", TEXT)], &["id"]);
    publisher.publish(&table, "1", "SELECT i, repeat(md5(i::text), 16384) FROM generate_series(1, 70) i").await;
    let running = Running::start(settings(), database.connector()).await;
    let keys = |numbers: &mut dyn Iterator<Item = u32>| json!({"keys": numbers.collect::<Vec<_>>()}).to_string();
    let many = post(running.server.addr, "/v1/wide/_batch", &keys(&mut (1..=70))).await;
    assert_eq!((many.status, many.code().as_str()), (413, "LG6010"), "{}", many.body.len());
    // One row, asked for a hundred times.
    let often = post(running.server.addr, "/v1/wide/_batch", &keys(&mut std::iter::repeat_n(1, 100))).await;
    assert_eq!((often.status, often.code().as_str()), (413, "LG6010"), "{}", often.body.len());
    let few = post(running.server.addr, "/v1/wide/_batch?columns=id", &keys(&mut (1..=30))).await;
    assert_eq!(few.data().as_array().unwrap().len(), 30);
}

#[tokio::test]
async fn few_rows_that_are_large_are_too_many_bytes_all_the_same() {
    let database = TestDatabase::new().await;
    let publisher = Publisher::new(&database).await;
    let table = Table::new("wide", &[("id", INT), ("v", TEXT)], &["id"]);
    publisher.publish(&table, "1", "SELECT i, repeat(md5(i::text), 32768) FROM generate_series(1, 20) i").await;
    let running = Running::start(settings(), database.connector()).await;
    let keys = |most: u32| json!({"keys": (1..=most).collect::<Vec<_>>()}).to_string();
    // Before anything is known of the width of the rows, and afterwards.
    for most in [20, 17, 15, 20] {
        let reply = post(running.server.addr, "/v1/wide/_batch", &keys(most)).await;
        let expected = if most > 15 { (413, "LG6010".to_owned()) } else { (200, String::new()) };
        assert_eq!((reply.status, reply.code()), expected, "{most}: {} bytes", reply.body.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_of_one_publish() {
    let database = TestDatabase::new().await;
    let publisher = Publisher::new(&database).await;
    let table = Table::new("states", &[("id", INT), ("v", TEXT)], &["id"]);
    let rows = |state: u32| format!("SELECT i, '{state}' FROM generate_series(1, 200) i");
    publisher.publish(&table, "0", &rows(0)).await;
    let running = Running::start(settings(), database.connector()).await;
    let addr = running.server.addr;
    const SIZES: [usize; 4] = [2, 40, 64, 200];
    let (done, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(SIZES.map(|_| AtomicU32::new(0))));
    let mut readers = JoinSet::new();
    for (reader, size) in SIZES.into_iter().enumerate() {
        let (done, seen) = (Arc::clone(&done), Arc::clone(&seen));
        readers.spawn(async move {
            let mut keys = String::from("{\"keys\":[1");
            (2..=size).for_each(|key| write!(keys, ",{key}").unwrap());
            keys.push_str("]}");
            while !done.load(Ordering::Relaxed) {
                let reply = post(addr, "/v1/states/_batch", &keys).await;
                assert_eq!(reply.status, 200, "{reply:?}");
                let version = reply.header("lakegate-version").unwrap();
                let data = reply.data();
                assert_eq!(data.as_array().unwrap().len(), size);
                assert!(data.as_array().unwrap().iter().all(|row| row["v"] == version), "{version}: {data}");
                seen[reader].store(version.parse().unwrap(), Ordering::Relaxed);
            }
        });
    }
    for state in 1..=30 {
        publisher.publish(&table, &state.to_string(), &rows(state)).await;
        // A table that is published faster than it can be read is refused, as it should be.
        until(async || seen.iter().all(|seen| seen.load(Ordering::Relaxed) >= state)).await;
    }
    done.store(true, Ordering::Relaxed);
    while let Some(reader) = readers.join_next().await {
        reader.unwrap();
    }
}
