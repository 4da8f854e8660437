//! Sessions on a real server: settings, refusals, cancelling, notifications, the pool, quoting.

use std::time::Duration;

use lakegate::domain::{Code, Error};
use lakegate::postgres::{Connector, Pool, Purpose, explain, qualified, quote, quote_literal, sqlstate};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use secrecy::SecretString;
use tokio::time::timeout;

use crate::support::postgres::{PASSWORD, TestCluster, TestDatabase, USER};

const SOON: Duration = Duration::from_secs(20);

async fn refusal(url: &str) -> Error {
    let connector = Connector::from_url(&SecretString::from(url)).expect("a connector");
    match connector.connect(Purpose::Control, "lakegate tests").await {
        Ok(_) => panic!("connected"),
        Err(error) => error,
    }
}

/// All that a person or a log could get to see of an error.
fn everything(error: &Error) -> String {
    format!("{error} {error:?} {}", error.advice().unwrap_or_default())
}

#[tokio::test]
async fn a_url_with_a_password_full_of_special_characters_connects() {
    let database = TestDatabase::new().await;
    let connector = Connector::from_url(&SecretString::from(database.url())).unwrap();
    let session = connector.connect(Purpose::Control, "lakegate url").await.unwrap();
    let row = session.query_one("SELECT current_database()::text, current_setting('application_name')", &[]).await;
    let row = row.unwrap();
    assert_eq!(row.get::<_, String>(0), database.name());
    assert_eq!(row.get::<_, String>(1), "lakegate url");
    assert!(!connector.place().contains(USER));
}

#[tokio::test]
async fn refused_logins_have_codes_and_never_show_the_password() {
    let database = TestDatabase::new().await;
    let port = TestCluster::shared().port();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let wrong = "hunter2-hunter2";
    let table = [
        (format!("postgres://{USER}:{wrong}@127.0.0.1:{port}/{}", database.name()), Code::PostgresAuth),
        (format!("postgres://nobody_here:{wrong}@127.0.0.1:{port}/{}", database.name()), Code::PostgresAuth),
        (format!("postgres://{USER}@127.0.0.1:{port}/{}", database.name()), Code::PostgresAuth),
        (TestCluster::shared().url("no_such_database"), Code::DatabaseMissing),
        (format!("postgres://{USER}:{wrong}@127.0.0.1:{closed}/db"), Code::PostgresUnreachable),
        (format!("host=/no/such/folder user={USER} password={wrong}"), Code::PostgresUnreachable),
        (format!("postgres://{USER}:{wrong}@no-such-host.invalid/db"), Code::PostgresUnreachable),
        (format!("{}?sslmode=require", database.url()), Code::PostgresTls),
    ];
    for (url, code) in table {
        let error = refusal(&url).await;
        let shown = everything(&error);
        assert_eq!(error.code(), code, "{shown}");
        assert!(error.advice().is_some(), "{shown}");
        assert!(!shown.contains(wrong) && !shown.contains(PASSWORD) && !shown.contains("battery"), "{shown}");
        assert!(error.detail().contains("Postgres at"), "{shown}");
    }
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_given_up_in_time() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let error = refusal(&format!("postgres://u:p@127.0.0.1:{port}/db?connect_timeout=1")).await;
    assert_eq!(error.code(), Code::PostgresUnreachable);
    assert!(error.detail().contains("no login within 1 s"), "{error}");
}

#[tokio::test]
async fn a_peer_that_hangs_up_counts_as_unreachable() {
    let peer = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = peer.local_addr().unwrap().port();
    tokio::spawn(async move { while peer.accept().await.is_ok() {} });
    let error = refusal(&format!("postgres://u:p@127.0.0.1:{port}/db?sslmode=disable")).await;
    assert_eq!(error.code(), Code::PostgresUnreachable, "{error}");
}

#[tokio::test]
async fn a_database_in_another_encoding_is_refused() {
    let database = TestDatabase::new().await;
    let latin = format!("{}_latin", database.name());
    let admin = database.client().await;
    let create = format!("CREATE DATABASE {} TEMPLATE template0 ENCODING 'LATIN1'", quote(&latin));
    admin.batch_execute(&create).await.unwrap();
    let error = refusal(&TestCluster::shared().url(&latin)).await;
    assert_eq!(error.code(), Code::ServerEncoding, "{error}");
    admin.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", quote(&latin))).await.unwrap();
}

#[tokio::test]
async fn each_purpose_sets_what_it_needs() {
    let database = TestDatabase::new().await;
    // What an administrator may have set for the database must not change what we read.
    let name = quote(database.name());
    let admin = database.client().await;
    for setting in ["TimeZone = 'Asia/Tokyo'", "DateStyle = 'German'", "statement_timeout = '7s'", "jit = on"] {
        admin.batch_execute(&format!("ALTER DATABASE {name} SET {setting}")).await.unwrap();
    }
    let statement_timeout = Duration::from_millis(2500);
    let purposes =
        [Purpose::Control, Purpose::Sync, Purpose::Lookup { statement_timeout }, Purpose::Page { statement_timeout }];
    let expected: [(&str, [&str; 4]); 10] = [
        ("TimeZone", ["UTC"; 4]),
        ("DateStyle", ["ISO, YMD"; 4]),
        ("IntervalStyle", ["iso_8601"; 4]),
        ("statement_timeout", ["7s", "0", "2500ms", "2500ms"]),
        ("idle_in_transaction_session_timeout", ["15s", "0", "0", "0"]),
        ("jit", ["on", "off", "off", "off"]),
        ("enable_seqscan", ["on", "on", "off", "off"]),
        ("default_transaction_read_only", ["off", "off", "on", "on"]),
        ("plan_cache_mode", ["auto", "auto", "force_generic_plan", "auto"]),
        ("client_connection_check_interval", ["0", "500ms", "0", "0"]),
    ];
    for (index, purpose) in purposes.into_iter().enumerate() {
        let session = database.connector().connect(purpose, "lakegate tests").await.unwrap();
        for (setting, values) in expected {
            let shown: String = session.query_one(&format!("SHOW {setting}"), &[]).await.unwrap().get(0);
            assert_eq!(shown, values[index], "{setting} for {purpose:?}");
        }
        let pid: i32 = session.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        assert_eq!(pid, session.backend_pid());
    }
}

#[tokio::test]
async fn a_sync_on_the_machine_of_its_server_sorts_by_no_more_processes_than_there_are_processors() {
    const SETTING: &str = "max_parallel_maintenance_workers";
    let database = TestDatabase::new().await;
    let helpers = async |url: String| {
        let connector = Connector::from_url(&SecretString::from(url)).unwrap();
        let session = connector.connect(Purpose::Sync, "lakegate tests").await.unwrap();
        session.query_one(&format!("SHOW {SETTING}"), &[]).await.unwrap().get::<_, String>(0)
    };
    let processors = std::thread::available_parallelism().unwrap().get();
    let admin = database.client().await;
    // Each is what the server's administrator wants at most; the session itself is one process more.
    for wanted in [0, 1, 64] {
        let set = format!("ALTER DATABASE {} SET {SETTING} = {wanted}", quote(database.name()));
        admin.batch_execute(&set).await.unwrap();
        assert_eq!(helpers(database.url()).await, wanted.to_string(), "by TCP, a server may be anywhere");
        let nearby = wanted.min(processors.max(2) - 1);
        assert_eq!(helpers(database.socket_url()).await, nearby.to_string(), "{processors} processors");
    }
}

#[tokio::test]
async fn a_statement_that_is_cancelled_says_so() {
    let database = TestDatabase::new().await;
    let session = database.connector().connect(Purpose::Sync, "lakegate tests").await.unwrap();
    let pid = session.backend_pid();
    let sleeping = tokio::spawn(async move { session.batch_execute("SELECT pg_sleep(600)").await });
    let watch = database.client().await;
    let asleep = async {
        loop {
            let row = watch
                .query_opt("SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'", &[&pid])
                .await;
            if row.unwrap().is_some() {
                return;
            }
        }
    };
    timeout(SOON, asleep).await.expect("the statement runs");
    watch.execute("SELECT pg_cancel_backend($1)", &[&pid]).await.unwrap();
    let error = explain(timeout(SOON, sleeping).await.expect("it ends").unwrap().unwrap_err());
    assert_eq!(error.code(), Code::Cancelled, "{error}");
}

#[tokio::test]
async fn refused_statements_keep_their_sqlstate() {
    let database = TestDatabase::new().await;
    let session = database.client().await;
    let refused = async |statement: &str| explain(session.batch_execute(statement).await.unwrap_err());

    let error = refused("SELECT 1/0").await;
    assert_eq!(error.code(), Code::PostgresRefused);
    assert_eq!(sqlstate(&error).unwrap().code(), "22012");
    assert!(error.detail().contains("division by zero") && error.detail().contains("22012"), "{error}");

    let error = refused("SET statement_timeout = 1; SELECT pg_sleep(60)").await;
    assert_eq!(error.code(), Code::StatementTimeout, "{error}");

    session.batch_execute("CREATE TABLE secrets (); CREATE ROLE lesser_reader; SET ROLE lesser_reader").await.unwrap();
    let error = refused("SELECT FROM secrets").await;
    assert_eq!(error.code(), Code::PostgresPrivilege, "{error}");
    session.batch_execute("RESET ROLE; DROP ROLE lesser_reader").await.unwrap();

    let other = database.client().await;
    other.batch_execute("BEGIN; LOCK TABLE secrets").await.unwrap();
    let error = refused("SET lock_timeout = 1; SELECT FROM secrets").await;
    assert_eq!(error.code(), Code::LockNotAvailable, "{error}");

    assert!(sqlstate(&Error::internal("ours")).is_none());
}

#[tokio::test]
async fn a_session_ended_by_the_server_is_a_lost_connection() {
    let database = TestDatabase::new().await;
    let victim = database.client().await;
    let admin = database.client().await;
    let sleeping = async { victim.batch_execute("SELECT pg_sleep(600)").await };
    let ending = async {
        admin.execute("SELECT pg_terminate_backend($1)", &[&victim.backend_pid()]).await.unwrap();
    };
    let (slept, ()) = timeout(SOON, async { tokio::join!(sleeping, ending) }).await.expect("the session ends");
    assert_eq!(explain(slept.unwrap_err()).code(), Code::ConnectionLost);
    let later = explain(victim.batch_execute("SELECT 1").await.unwrap_err());
    assert_eq!(later.code(), Code::ConnectionLost, "{later}");
}

#[tokio::test]
async fn notifications_arrive_and_their_channel_ends_with_the_connection() {
    let database = TestDatabase::new().await;
    let (listening, mut notifications) = database.connector().connect_listening("lakegate tests").await.unwrap();
    listening.batch_execute("LISTEN published").await.unwrap();
    let sender = database.client().await;
    sender.batch_execute(&format!("NOTIFY published, {}", quote_literal(r"it's \ 7"))).await.unwrap();
    let arrived = timeout(SOON, notifications.recv()).await.expect("in time").expect("a notification");
    assert_eq!((arrived.channel(), arrived.payload()), ("published", r"it's \ 7"));

    sender.execute("SELECT pg_terminate_backend($1)", &[&listening.backend_pid()]).await.unwrap();
    assert!(timeout(SOON, notifications.recv()).await.expect("in time").is_none());
}

#[tokio::test]
async fn a_pool_is_bounded_reuses_sessions_and_replaces_dead_ones() {
    let database = TestDatabase::new().await;
    let purpose = Purpose::Page { statement_timeout: Duration::from_secs(10) };
    let pool = Pool::new(database.connector(), purpose, "lakegate pool", 2, Duration::from_millis(50)).unwrap();
    let first = pool.get().await.unwrap();
    let second = pool.get().await.unwrap();
    let refused = pool.get().await.err().expect("no third session");
    assert_eq!(refused.code(), Code::Overloaded);

    let pid = first.backend_pid();
    drop(first);
    let again = pool.get().await.unwrap();
    assert_eq!(again.backend_pid(), pid);
    drop((again, second));

    let admin = database.client().await;
    let ended =
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'lakegate pool'";
    admin.batch_execute(ended).await.unwrap();
    for _ in 0..2 {
        let fresh = pool.get().await.unwrap();
        fresh.batch_execute("SELECT 1").await.unwrap();
    }
}

#[test]
fn quoted_names_and_texts_come_back_from_postgres_as_they_went() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let database = runtime.block_on(TestDatabase::new());
    let session = runtime.block_on(database.client());
    // Everything but NUL, with a weight on what quoting is about.
    let text = proptest::string::string_regex("([\"'\\\\$; .%-]|[^\u{0}]){0,12}").unwrap();
    let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&text, |text| {
        // Postgres cuts names after 63 bytes, and has none that are empty.
        prop_assume!(text.len() <= 63);
        runtime.block_on(async {
            for conforming in ["on", "off"] {
                let set = format!("SET standard_conforming_strings = {conforming}; SET escape_string_warning = off");
                session.batch_execute(&set).await.unwrap();
                let literal = format!("SELECT {}::text", quote_literal(&text));
                let read: String = session.query_one(&literal, &[]).await.unwrap().get(0);
                prop_assert_eq!(&read, &text);
            }
            if !text.is_empty() {
                let column = format!("SELECT 1 AS {}", quote(&text));
                let statement = session.prepare(&column).await.unwrap();
                prop_assert_eq!(statement.columns()[0].name(), &text);
                let table = qualified("pg_temp", &text);
                session.batch_execute(&format!("CREATE TABLE {table} (); DROP TABLE {table}")).await.unwrap();
            }
            Ok(())
        })
    });
    outcome.unwrap();
}
