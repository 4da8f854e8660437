//! The read API over real sockets: keys of every type, columns, errors, headers, health, the life of the listener.

use std::time::Duration;

use lakegate::domain::{Auth, Code, ColumnType, Generation, ScalarType};
use lakegate::serve::{Question, lookup_once, serve};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::support::http::{get, get_with, request};
use crate::support::postgres::TestDatabase;
use crate::support::published::{Publisher, Running, Table, settings};

const fn scalar(ty: ScalarType) -> ColumnType {
    ColumnType::Scalar(ty)
}

const INT: ColumnType = scalar(ScalarType::Int32);
const TEXT: ColumnType = scalar(ScalarType::Text);
const NUMERIC: ColumnType = scalar(ScalarType::Numeric { precision: 38, scale: 2 });

/// `orders(id, note, secret, price)` with the rows 1 to 3; `secret` is hidden.
pub(crate) fn orders() -> (Table, &'static str) {
    let columns = [("id", INT), ("note", TEXT), ("secret", TEXT), ("price", NUMERIC)];
    let mut table = Table::new("orders", &columns, &["id"]);
    table.policy.hide = vec!["secret".to_owned()];
    (table, "SELECT i, 'note ' || i, 'hush ' || i, i * 1.50 FROM generate_series(1, 3) i")
}

async fn orders_server(database: &TestDatabase) -> (Publisher, Running) {
    let publisher = Publisher::new(database).await;
    let (table, rows) = orders();
    publisher.publish(&table, "17", rows).await;
    (publisher, Running::start(settings(), database.connector()).await)
}

#[tokio::test]
async fn a_row_is_found_by_every_spelling_of_a_key_of_every_type() {
    let database = TestDatabase::new().await;
    let publisher = Publisher::new(&database).await;
    let cases: [(&str, ScalarType, &str, &[&str]); 12] = [
        ("bool", ScalarType::Boolean, "true", &["true"]),
        ("int2", ScalarType::Int16, "-32768", &["-32768"]),
        ("int4", ScalarType::Int32, "7", &["7", "+7", "007"]),
        ("int8", ScalarType::Int64, "9223372036854775807", &["9223372036854775807"]),
        (
            "numeric",
            ScalarType::Numeric { precision: 38, scale: 3 },
            "1.500",
            &["1.5", "1.50", "15e-1", "1.500000", "0.15e1"],
        ),
        ("text", ScalarType::Text, "'grüße'", &["gr%C3%BC%C3%9Fe"]),
        ("bytea", ScalarType::Bytea, r"'\xfffefd'", &["__79", "%5F%5F79"]),
        ("date", ScalarType::Date, "'2024-02-29'", &["2024-02-29", "+2024-02-29"]),
        ("time", ScalarType::Time, "'12:34:56.5'", &["12:34:56.5", "12:34:56.500"]),
        (
            "timestamp",
            ScalarType::Timestamp,
            "'2024-02-29 12:00:00'",
            &["2024-02-29T12:00:00", "2024-02-29%2012:00:00.0"],
        ),
        (
            "timestamptz",
            ScalarType::Timestamptz,
            "'2024-02-29 12:00:00Z'",
            &["2024-02-29T12:00:00Z", "2024-02-29T14:00:00+02:00", "2024-02-29t06:30:00.000-05:30"],
        ),
        (
            "uuid",
            ScalarType::Uuid,
            "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
            &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "A0EEBC999C0B4EF8BB6D6BB9BD380A11"],
        ),
    ];
    for (name, ty, value, _) in &cases {
        let table = Table::new(&format!("t_{name}"), &[("k", scalar(*ty)), ("v", TEXT)], &["k"]);
        publisher.publish(&table, "1", &format!("SELECT ({value})::{}, '{name}'", ty.sql_name())).await;
        // The same column as the second part of a key.
        let table = Table::new(&format!("c_{name}"), &[("k", scalar(*ty)), ("n", INT), ("v", TEXT)], &["n", "k"]);
        publisher.publish(&table, "1", &format!("SELECT ({value})::{}, 5, '{name}'", ty.sql_name())).await;
    }
    let running = Running::start(settings(), database.connector()).await;
    for (name, _, _, spellings) in &cases {
        for key in *spellings {
            let in_query = key.replace('+', "%2B");
            for url in [
                format!("/v1/t_{name}/{key}?columns=v"),
                format!("/v1/t_{name}?key={in_query}&columns=v"),
                format!("/v1/c_{name}/5/{key}?columns=v"),
                format!("/v1/c_{name}?key=5&columns=v&key={in_query}"),
            ] {
                let reply = get(running.server.addr, &url).await;
                assert_eq!(
                    (reply.status, reply.body),
                    (200, format!(r#"{{"data":[{{"v":"{name}"}}],"error":[]}}"#)),
                    "{url}"
                );
            }
        }
        let reply = get(running.server.addr, &format!("/v1/c_{name}/6/{}", spellings[0])).await;
        assert_eq!((reply.status, reply.code().as_str()), (404, "LG6002"), "{name}");
    }
}

#[tokio::test]
async fn text_keys_hold_any_text() {
    let database = TestDatabase::new().await;
    let publisher = Publisher::new(&database).await;
    let table = Table::new("names", &[("k", TEXT), ("n", INT)], &["k"]);
    let keys = ["a/b", "100%", "", ".", "..", "%2F", "a b+c", "ключ", "a'b\"c\\d", "\u{1F600}", "{,}", "NULL"];
    let rows: Vec<String> =
        keys.iter().enumerate().map(|(n, key)| format!("('{}', {n})", key.replace('\'', "''"))).collect();
    publisher.publish(&table, "1", &format!("VALUES {}", rows.join(", "))).await;
    let running = Running::start(settings(), database.connector()).await;
    for (n, key) in keys.iter().enumerate() {
        let encoded = percent_encoding::utf8_percent_encode(key, percent_encoding::NON_ALPHANUMERIC).to_string();
        let reply = get(running.server.addr, &format!("/v1/names?key={encoded}")).await;
        assert_eq!(reply.data(), json!([{"k": key, "n": n}]), "{key}");
        if !matches!(*key, "" | "." | "..") {
            let reply = get(running.server.addr, &format!("/v1/names/{encoded}")).await;
            assert_eq!(reply.data(), json!([{"k": key, "n": n}]), "{key}");
        }
    }
}

#[tokio::test]
async fn many_keys_at_once_each_get_their_own_row() {
    let database = TestDatabase::new().await;
    let publisher = Publisher::new(&database).await;
    let single = Table::new("single", &[("id", INT), ("v", TEXT)], &["id"]);
    let composite = Table::new("pair", &[("a", INT), ("b", TEXT), ("v", TEXT)], &["a", "b"]);
    publisher.publish(&single, "1", "SELECT i, 'v' || i FROM generate_series(0, 499, 2) i").await;
    publisher.publish(&composite, "1", "SELECT i, 'b' || i, 'v' || i FROM generate_series(0, 499, 2) i").await;
    let running = Running::start(settings(), database.connector()).await;
    let addr = running.server.addr;
    let lookups = (0..500).map(|i| async move {
        for url in [format!("/v1/single/{i}?columns=v"), format!("/v1/pair/{i}/b{i}?columns=v")] {
            let reply = get(addr, &url).await;
            if i % 2 == 0 {
                assert_eq!(reply.data(), json!([{"v": format!("v{i}")}]), "{url}");
            } else {
                assert_eq!(reply.status, 404, "{url}");
            }
        }
    });
    futures::future::join_all(lookups).await;
}

#[tokio::test]
async fn columns_are_shown_as_asked_and_hidden_ones_do_not_exist() {
    let database = TestDatabase::new().await;
    let (_publisher, running) = orders_server(&database).await;
    let addr = running.server.addr;
    assert_eq!(get(addr, "/v1/orders/2").await.body, r#"{"data":[{"id":2,"note":"note 2","price":3.00}],"error":[]}"#);
    assert_eq!(get(addr, "/v1/orders/2?columns=price,id").await.body, r#"{"data":[{"price":3.00,"id":2}],"error":[]}"#);
    let hidden = get(addr, "/v1/orders/2?columns=secret").await;
    let absent = get(addr, "/v1/orders/2?columns=absent").await;
    assert_eq!((hidden.status, hidden.code().as_str()), (400, "LG6004"));
    assert_eq!(hidden.body.replace("secret", "absent"), absent.body);
}

#[tokio::test]
async fn what_cannot_be_answered_says_why() {
    let database = TestDatabase::new().await;
    let (_publisher, running) = orders_server(&database).await;
    let long = format!("/v1/orders/{}", "1".repeat(9000));
    let cases = [
        ("GET", "/v1/orders/9", 404, "LG6002"),
        ("GET", "/v1/nothing/1", 404, "LG6001"),
        ("GET", "/v1/Orders/1", 404, "LG6001"),
        ("GET", "/v1/%FF/1", 400, "LG6005"),
        ("GET", "/v1/orders", 400, "LG6003"),
        ("GET", "/v1/orders/", 400, "LG6003"),
        ("GET", "/v1/orders/.", 400, "LG6003"),
        ("GET", "/v1/orders/%2e%2e", 400, "LG6003"),
        ("GET", "/v1/orders/1/2", 400, "LG6003"),
        ("GET", "/v1/orders/x", 400, "LG6003"),
        ("GET", "/v1/orders/1?key=1", 400, "LG6005"),
        ("GET", "/v1/orders/1?colums=id", 400, "LG6005"),
        ("GET", "/v1/orders/1?limit=1", 400, "LG6005"),
        ("GET", "/v1/orders/1?columns=id,id", 400, "LG6005"),
        ("GET", "/v1/orders/1?columns=", 400, "LG6004"),
        ("GET", &long, 413, "LG6010"),
        ("GET", "/v1", 404, "LG6013"),
        ("GET", "/", 404, "LG6013"),
        ("GET", "/v2/orders/1", 404, "LG6013"),
        ("GET", "/v1/openapi.json/1", 404, "LG6001"),
        ("POST", "/v1/openapi.json", 405, "LG6011"),
        ("POST", "/v1/orders/1", 405, "LG6011"),
        ("POST", "/v1/orders/_batch", 415, "LG6017"),
        ("POST", "/v1/orders/%5Fbatch", 405, "LG6011"),
        ("GET", "/v1/orders/_batch", 405, "LG6011"),
        ("DELETE", "/v1/orders/_batch", 405, "LG6011"),
        ("DELETE", "/v1/orders/1", 405, "LG6011"),
        ("BREW", "/v1/orders/1", 405, "LG6011"),
        ("POST", "/livez", 405, "LG6011"),
    ];
    for (method, url, status, code) in cases {
        let reply = request(running.server.addr, method, url, &[]).await;
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{method} {url}: {reply:?}");
        assert!(reply.header("x-request-id").is_some(), "{url}");
        let error = &reply.json()["error"][0];
        assert!(error["title"].is_string() && error["detail"].is_string(), "{error}");
        assert_eq!(reply.json()["data"], json!([]));
        if status == 405 {
            let allowed = if url.ends_with("/_batch") { "POST" } else { "GET,HEAD" };
            assert_eq!(reply.header("allow"), Some(allowed), "{url}");
        }
    }
}

#[tokio::test]
async fn every_answer_about_a_table_says_what_it_holds() {
    let database = TestDatabase::new().await;
    let (publisher, running) = orders_server(&database).await;
    let published = publisher.session.query_one(
        "SELECT generation::text, to_char(published_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS') FROM lakegate.published",
        &[],
    );
    let published = published.await.unwrap();
    for (url, accept) in [
        ("/v1/orders/1", "*/*"),
        ("/v1/orders/9", "*/*"),
        ("/v1/orders/x", "*/*"),
        ("/v1/orders", "*/*"),
        ("/v1/orders/1", "application/xml"),
    ] {
        let reply = get_with(running.server.addr, url, &[("Accept", accept)]).await;
        assert_eq!(reply.header("lakegate-version"), Some("17"), "{url}");
        assert_eq!(reply.header("lakegate-generation"), Some(published.get(0)), "{url}");
        let synced = reply.header("lakegate-synced-at").unwrap();
        assert!(synced.starts_with(published.get::<_, &str>(1)) && synced.ends_with('Z'), "{synced}");
        assert_eq!(reply.header("cache-control"), Some("private, no-cache"), "{url}");
    }
    let reply = get_with(running.server.addr, "/v1/orders/1", &[("Accept", "application/xml")]).await;
    assert_eq!((reply.status, reply.code().as_str()), (406, "LG6007"));
}

#[tokio::test]
async fn a_request_id_is_given_back_if_it_is_sane() {
    let database = TestDatabase::new().await;
    let (_publisher, running) = orders_server(&database).await;
    let id = async |given: &str| {
        let reply = get_with(running.server.addr, "/v1/orders/1", &[("X-Request-Id", given)]).await;
        reply.header("x-request-id").unwrap().to_owned()
    };
    assert_eq!(id("abc-123").await, "abc-123");
    assert_ne!(id("a b").await, "a b");
    assert_ne!(id("a b").await, id("a b").await);
}

#[tokio::test]
async fn an_etag_follows_the_content() {
    let database = TestDatabase::new().await;
    let (publisher, running) = orders_server(&database).await;
    let addr = running.server.addr;
    let first = get(addr, "/v1/orders/1").await;
    let tag = first.header("etag").unwrap().to_owned();
    let again = get_with(addr, "/v1/orders/1", &[("If-None-Match", &tag)]).await;
    assert_eq!((again.status, again.body.as_str(), again.header("etag")), (304, "", Some(tag.as_str())));
    assert_eq!(again.header("lakegate-version"), Some("17"));
    assert_ne!(get(addr, "/v1/orders/2").await.header("etag"), Some(tag.as_str()));
    assert_eq!(get_with(addr, "/v1/orders/9", &[("If-None-Match", "*")]).await.status, 404);

    let head = request(addr, "HEAD", "/v1/orders/1", &[]).await;
    assert_eq!((head.status, head.body.as_str(), head.header("etag")), (200, "", Some(tag.as_str())));
    assert_eq!(head.header("content-length"), Some(first.body.len().to_string().as_str()));

    let (table, _) = orders();
    publisher.publish(&table, "18", "SELECT 1, 'note 1', 'other', 1.50").await;
    let same = get_with(addr, "/v1/orders/1", &[("If-None-Match", &tag)]).await;
    assert_eq!((same.status, same.header("lakegate-version")), (304, Some("18")));
    publisher.publish(&table, "19", "SELECT 1, 'changed', 'other', 1.50").await;
    assert_eq!(get_with(addr, "/v1/orders/1", &[("If-None-Match", &tag)]).await.status, 200);
}

#[tokio::test]
async fn clients_may_keep_what_the_policy_lets_them_keep() {
    let database = TestDatabase::new().await;
    let publisher = Publisher::new(&database).await;
    let (mut table, rows) = orders();
    table.policy.cache_ttl = Some(90);
    publisher.publish(&table, "17", rows).await;
    let running = Running::start(settings(), database.connector()).await;
    let addr = running.server.addr;
    let kept = async |url: &str, headers: &[(&str, &str)]| {
        let reply = get_with(addr, url, headers).await;
        (reply.status, reply.header("cache-control").unwrap().to_owned())
    };
    let first = get(addr, "/v1/orders/1").await;
    let ttl = "private, max-age=90".to_owned();
    assert_eq!((first.status, first.header("cache-control")), (200, Some(ttl.as_str())));
    assert_eq!(kept("/v1/orders/1", &[("If-None-Match", first.header("etag").unwrap())]).await, (304, ttl));
    // What is not there may be there in a moment.
    assert_eq!(kept("/v1/orders/9", &[]).await, (404, "private, no-cache".to_owned()));
}

#[tokio::test]
async fn data_that_was_checked_too_long_ago_is_refused() {
    let database = TestDatabase::new().await;
    let (publisher, running) = orders_server(&database).await;
    let addr = running.server.addr;
    let status = async |most: &str| get_with(addr, "/v1/orders/1", &[("Lakegate-Max-Staleness", most)]).await.status;
    assert_eq!((status("10m").await, status("0ms").await), (200, 503));
    let refused = get_with(addr, "/v1/orders/9", &[("Lakegate-Max-Staleness", "0ms")]).await;
    assert_eq!((refused.code().as_str(), refused.header("retry-after")), ("LG6015", Some("1")));
    for nonsense in ["10", "soon", "-1m"] {
        assert_eq!(status(nonsense).await, 400, "{nonsense}");
    }

    let check = "UPDATE lakegate.published SET checked_at = now() - interval";
    // Another publish, so that the age is read with it and not later.
    publisher.point(&orders().0, Generation(1), "18").await;
    publisher.session.batch_execute(&format!("{check} '1 hour'")).await.unwrap();
    publisher.point(&orders().0, Generation(1), "19").await;
    until(async || status("59m").await == 503).await;
    assert_eq!(status("2h").await, 200);
    let refused = get_with(addr, "/v1/orders/1", &[("Lakegate-Max-Staleness", "59m")]).await;
    assert!(refused.body.contains("was last looked at 1h ago"), "{}", refused.body);
    assert_eq!(refused.header("lakegate-version"), Some("19"));

    // A run that finds no change is a check; it is not announced.
    publisher.session.batch_execute(&format!("{check} '0'")).await.unwrap();
    until(async || status("59m").await == 200).await;
}

#[tokio::test]
async fn requests_to_other_hosts_and_with_bodies_are_refused() {
    let database = TestDatabase::new().await;
    let publisher = Publisher::new(&database).await;
    let (table, rows) = orders();
    publisher.publish(&table, "17", rows).await;
    let mut settings = settings();
    settings.api.hosts = vec!["data.example.com".to_owned()];
    let running = Running::start(settings, database.connector()).await;
    let status = async |headers: &[(&str, &str)]| get_with(running.server.addr, "/v1/orders/1", headers).await.status;
    assert_eq!(status(&[("Host", "localhost:1")]).await, 200);
    assert_eq!(status(&[("Host", "data.example.com")]).await, 200);
    assert_eq!(status(&[("Host", "evil.example.com")]).await, 421);
    assert_eq!(status(&[("Host", "")]).await, 421);
    // Of two, somebody else may heed the other one.
    assert_eq!(status(&[("Host", "localhost"), ("Host", "localhost")]).await, 421);
    // What is sent as to a proxy names its host twice (RFC 9112, section 3.2.2).
    for (host, field, expected) in [
        ("localhost:1", "localhost:1", 200),
        ("evil.example.com", "localhost:1", 421),
        ("localhost:1", "evil.example.com", 421),
    ] {
        let url = format!("http://{host}/v1/orders/1");
        let reply = get_with(running.server.addr, &url, &[("Host", field)]).await;
        assert_eq!(reply.status, expected, "{host} {field}");
    }
    assert_eq!(status(&[("Content-Length", "5")]).await, 413);
    let many: Vec<_> = (0..100).map(|_| ("X-Filler", "x")).collect();
    assert_eq!(status(&many).await, 431);
    assert_eq!(status(&[("X-Filler", &"x".repeat(64 << 10))]).await, 431);
}

#[tokio::test]
async fn http_2_is_spoken_without_being_asked_for() {
    let database = TestDatabase::new().await;
    let (_publisher, running) = orders_server(&database).await;
    let mut stream = TcpStream::connect(running.server.addr).await.unwrap();
    let empty_settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    stream.write_all(&[&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &empty_settings].concat()).await.unwrap();
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame[3], 4, "the first frame is the server's settings: {frame:?}");
}

#[tokio::test]
async fn the_command_line_gets_the_same_bytes() {
    let database = TestDatabase::new().await;
    let (_publisher, running) = orders_server(&database).await;
    let settings = settings();
    let ask = async |key: &str| {
        let question = Question { table: "orders".to_owned(), key: vec![key.into()], ..Question::default() };
        lookup_once(&database.connector(), &settings.schemas, &settings.limits, &question).await
    };
    let body = ask("3").await.unwrap();
    assert_eq!(String::from_utf8(body).unwrap(), get(running.server.addr, "/v1/orders/3").await.body);
    assert_eq!(ask("9").await.unwrap_err().code(), Code::RowNotFound);
    assert_eq!(ask("x").await.unwrap_err().code(), Code::BadKey);
}

#[tokio::test]
async fn off_loopback_the_server_starts_only_if_told_so_in_plain_words() {
    let database = TestDatabase::new().await;
    let _publisher = Publisher::new(&database).await;
    let mut settings = settings();
    settings.api.listen = "0.0.0.0:0".parse().unwrap();
    let refused = serve(settings.clone(), &database.connector(), CancellationToken::new()).await.unwrap_err();
    assert_eq!(refused.code(), Code::AuthRequired);
    settings.auth = Auth::None;
    Running::start(settings, database.connector()).await;
}

#[tokio::test]
async fn a_taken_port_is_said_so() {
    let database = TestDatabase::new().await;
    let (_publisher, running) = orders_server(&database).await;
    let mut settings = settings();
    settings.api.listen = running.server.addr;
    let refused = serve(settings, &database.connector(), CancellationToken::new()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PortTaken);
    assert!(refused.detail().contains(&running.server.addr.to_string()), "{refused}");
}

#[tokio::test]
async fn a_request_under_way_is_finished_when_the_server_ends() {
    let database = TestDatabase::new().await;
    let (mut publisher, running) = orders_server(&database).await;
    let addr = running.server.addr;
    let watcher = database.client().await;
    let lock = publisher.session.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE lakegate_data.orders__g1 IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let answer = tokio::spawn(async move { get(addr, "/v1/orders/1").await });
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lakegate lookup' \
                   AND datname = current_database() AND wait_event_type = 'Lock'";
    until(async || watcher.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 1).await;
    running.shutdown.cancel();
    until(async || TcpStream::connect(addr).await.is_err()).await;
    lock.rollback().await.unwrap();
    assert_eq!(answer.await.unwrap().status, 200);
    let Running { server, .. } = running;
    tokio::time::timeout(Duration::from_secs(10), server.task).await.expect("the end").unwrap();
}

/// Waits until something is so, 20 seconds at most.
pub(crate) async fn until(mut so: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !so().await {
        assert!(tokio::time::Instant::now() < deadline, "it does not become so");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
