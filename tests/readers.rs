//! What readers see while a table is refreshed again and again: one whole state each time, never an empty table, never
//! a mix, never an earlier state than before; a transaction older than the load is told to run again.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use lakegate::postgres::Session;
use tokio::task::{JoinHandle, JoinSet};
use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;

use crate::support::http;
use crate::support::project::eventually;
use crate::support::states::{SUMMARY, States, row_count, whole_state};

/// How many refreshes; `LAKEGATE_TEST_REFRESHES` says otherwise.
const REFRESHES: i64 = 20;
/// The pause of a polling client between two questions.
const PAUSE: Duration = Duration::from_millis(5);
/// The advisory lock that statements wait for in the middle of their work.
const GATE: i64 = 4711;

/// Functions over the view, of both languages that plan their statements at different times.
const FUNCTIONS: &str = "
    CREATE FUNCTION summary_sql() RETURNS bigint[] STABLE LANGUAGE sql
        AS 'SELECT ARRAY[min(state), max(state), count(*)] FROM lake.states';
    CREATE FUNCTION summary_plpgsql() RETURNS bigint[] STABLE LANGUAGE plpgsql
        AS 'BEGIN RETURN (SELECT ARRAY[min(state), max(state), count(*)] FROM lake.states); END';";
const IN_FUNCTIONS: [&str; 2] = ["SELECT summary_sql()", "SELECT summary_plpgsql()"];

/// What one client has seen so far.
#[derive(Debug, Default)]
struct Seen {
    latest: AtomicI64,
    answers: AtomicU64,
    refused: AtomicU64,
}

impl Seen {
    fn state(&self, state: i64) {
        let before = self.latest.swap(state, Ordering::Relaxed);
        assert!(state >= before, "back in time: state {state} after {before}");
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    /// An answer to a transaction that may be older than the load.
    fn answer(&self, answer: Answer) {
        match answer {
            Answer::Whole(state) => self.state(state),
            Answer::TooOld => _ = self.refused.fetch_add(1, Ordering::Relaxed),
        }
    }
}

/// The two answers that a statement may get.
#[derive(Debug, PartialEq)]
enum Answer {
    Whole(i64),
    TooOld,
}

async fn ask(session: &Session, sql: &str) -> Answer {
    match session.query_one(sql, &[]).await {
        Ok(row) => Answer::Whole(whole_state(&row.get::<_, Vec<Option<i64>>>(0))),
        Err(error) if error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE) => Answer::TooOld,
        Err(error) => panic!("{sql}: {error:?}"),
    }
}

async fn polls_keys_over_http(address: std::net::SocketAddr, seen: Arc<Seen>, done: CancellationToken) {
    while !done.is_cancelled() {
        let page = http::get(address, "/v1/states/1?limit=1000").await;
        assert_eq!(page.status, 200, "{page:?}");
        let rows = page.data();
        let states: Vec<i64> = rows.as_array().unwrap().iter().map(|row| row["state"].as_i64().unwrap()).collect();
        let &[state, ..] = states.as_slice() else { panic!("an empty page: {page:?}") };
        assert_eq!(states, vec![state; usize::try_from(row_count(state)).unwrap()], "not one whole state");
        assert_eq!(page.header("Lakegate-Version"), Some(state.to_string().as_str()));
        seen.state(state);

        let row = http::get(address, "/v1/states/1/100").await;
        assert_eq!(row.status, 200, "{row:?}");
        let state = row.data()[0]["state"].as_i64().unwrap();
        assert_eq!(row.header("Lakegate-Version"), Some(state.to_string().as_str()));
        seen.state(state);
        tokio::time::sleep(PAUSE).await;
    }
}

async fn counts_through_the_view(session: Session, seen: Arc<Seen>, done: CancellationToken) {
    let prepared = session.prepare(SUMMARY).await.unwrap();
    while !done.is_cancelled() {
        assert_ne!(ask(&session, SUMMARY).await, Answer::TooOld, "a statement with a snapshot of its own");
        let row = session.query_one(&prepared, &[]).await.unwrap();
        seen.state(whole_state(&row.get::<_, Vec<Option<i64>>>(0)));
        tokio::time::sleep(PAUSE).await;
    }
}

async fn counts_in_old_snapshots(session: Session, seen: Arc<Seen>, done: CancellationToken) {
    while !done.is_cancelled() {
        session.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await.unwrap();
        tokio::time::sleep(PAUSE).await;
        seen.answer(ask(&session, SUMMARY).await);
        session.batch_execute("ROLLBACK").await.unwrap();
    }
}

async fn counts_in_stable_functions(session: Session, seen: Arc<Seen>, done: CancellationToken) {
    while !done.is_cancelled() {
        for sql in IN_FUNCTIONS {
            seen.answer(ask(&session, sql).await);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Readers that began before a refresh and look after it.
struct OldReaders {
    repeatable: Vec<(Session, &'static str)>,
    /// A statement that waits in its midst, with the snapshot of its beginning.
    midway: JoinHandle<(Session, Answer)>,
    gate: Session,
}

impl OldReaders {
    async fn begin(states: &States) -> OldReaders {
        let mut repeatable = Vec::new();
        for sql in [SUMMARY].into_iter().chain(IN_FUNCTIONS) {
            let session = states.project.sql().await;
            session.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await.unwrap();
            repeatable.push((session, sql));
        }
        let gate = states.project.sql().await;
        gate.batch_execute(&format!("SELECT pg_advisory_lock({GATE})")).await.unwrap();
        let session = states.project.sql().await;
        let midway = tokio::spawn(async move {
            // What stands in FROM comes before what is selected. A function in SQL would not do: the planner looks into
            // it, and the view would be locked before the gate.
            let sql = format!("SELECT summary_plpgsql() FROM (SELECT pg_advisory_lock_shared({GATE}) OFFSET 0) gate");
            let answer = ask(&session, &sql).await;
            (session, answer)
        });
        let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1::bigint::oid \
                       AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND NOT granted";
        eventually("waiting in the midst of a statement", async || {
            gate.query_one(waiting, &[&GATE]).await.unwrap().get::<_, i64>(0) == 1
        })
        .await;
        OldReaders { repeatable, midway, gate }
    }

    /// All are told to run again, and find the present state when they do.
    async fn look(self, state: i64) {
        for (session, sql) in &self.repeatable {
            assert_eq!(ask(session, sql).await, Answer::TooOld, "{sql} in a transaction older than state {state}");
            session.batch_execute("ROLLBACK").await.unwrap();
            assert_eq!(ask(session, sql).await, Answer::Whole(state));
        }
        self.gate.batch_execute(&format!("SELECT pg_advisory_unlock({GATE})")).await.unwrap();
        let (session, answer) = self.midway.await.unwrap();
        assert_eq!(answer, Answer::TooOld, "a statement older than state {state}");
        assert_eq!(ask(&session, IN_FUNCTIONS[1]).await, Answer::Whole(state));
    }
}

#[tokio::test]
async fn every_answer_during_twenty_refreshes_is_one_whole_state() {
    let refreshes = std::env::var("LAKEGATE_TEST_REFRESHES").map_or(REFRESHES, |number| number.parse().unwrap());
    let mut states = States::new("serve: {page_limit: 1000}\n").await;
    states.project.sql().await.batch_execute(FUNCTIONS).await.unwrap();
    let server = states.project.start("serve").await;

    let done = CancellationToken::new();
    let mut clients = JoinSet::new();
    let seen: [Arc<Seen>; 4] = Default::default();
    let [http, view, repeatable, function] = seen.clone();
    clients.spawn(polls_keys_over_http(server.address, http, done.clone()));
    clients.spawn(counts_through_the_view(states.project.sql().await, view, done.clone()));
    clients.spawn(counts_in_old_snapshots(states.project.sql().await, repeatable, done.clone()));
    clients.spawn(counts_in_stable_functions(states.project.sql().await, function, done.clone()));

    let refresh = async {
        for _ in 0..refreshes {
            let old = OldReaders::begin(&states).await;
            let (state, outcome) = states.refresh().await;
            assert_eq!((&outcome["state"], &outcome["mode"]), (&"succeeded".into(), &"snapshot".into()));
            old.look(state).await;
            for client in &seen {
                eventually("every client sees the new state", async || client.latest.load(Ordering::Relaxed) == state)
                    .await;
            }
        }
    };
    tokio::select! {
        ended = clients.join_next() => panic!("a client ended: {ended:?}"),
        () = refresh => {}
    }
    done.cancel();
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    println!("http, view, repeatable read, function: {seen:?}");
}
