//! A publish that cannot have its lock: the verified load waits, readers do not, and nothing is loaded twice.

use std::time::{Duration, Instant};

use lakegate::postgres::Session;
use serde_json::Value;

use crate::support::project::eventually;
use crate::support::roles::{ask_as, role};
use crate::support::states::{SUMMARY, States, whole_state};

/// The longest a reader may be kept: one try of the publish holds readers up for 200 ms at most.
const PATIENCE: Duration = Duration::from_secs(2);

async fn state(session: &Session) -> i64 {
    whole_state(&session.query_one(SUMMARY, &[]).await.unwrap().get::<_, Vec<Option<i64>>>(0))
}

/// The newest run as `lakegate runs` shows it.
async fn newest_run(states: &States) -> Value {
    states.project.run(&["runs", "states", "--limit", "1", "--output", "json"]).await.ok().json().remove(0)
}

async fn until_waiting(states: &States) {
    eventually("the run waits", async || newest_run(states).await["state"] == "waiting").await;
}

#[tokio::test]
async fn a_verified_load_waits_for_a_long_reader_and_is_not_loaded_again() {
    let mut states = States::new("").await;
    states.advance().await;
    let reader = states.project.sql().await;
    let cursor = "BEGIN; DECLARE held CURSOR FOR SELECT state FROM lake.states; FETCH 1 FROM held";
    reader.batch_execute(cursor).await.unwrap();
    let other = states.project.sql().await;

    let sync = states.project.run(&["sync", "states", "--output", "json"]);
    let meanwhile = async {
        until_waiting(&states).await;
        let status = states.project.run(&["status", "--output", "json"]).await.ok().json().remove(0);
        assert_eq!(status["tables"][0]["serving"], "online");
        assert_eq!(status["tables"][0]["sync"], "running");
        // Whoever comes later is not stuck behind the publish.
        for _ in 0..5 {
            let asked = Instant::now();
            assert_eq!(state(&other).await, 1);
            assert!(asked.elapsed() < PATIENCE, "a reader waited for {:?}", asked.elapsed());
        }
        // A snapshot between the load and the publish: it may see either state, but a whole one.
        other.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await.unwrap();
        let rest = reader.query("FETCH ALL FROM held", &[]).await.unwrap();
        assert_eq!(rest.len(), 100, "the cursor goes on where it was");
        assert!(rest.iter().all(|row| row.get::<_, i64>(0) == 1));
        reader.batch_execute("COMMIT").await.unwrap();
    };
    let (ran, ()) = tokio::join!(sync, meanwhile);

    let outcome = ran.ok().json().remove(0);
    assert_eq!((&outcome["state"], &outcome["generation"]), (&"succeeded".into(), &2.into()));
    assert_eq!(outcome["rows_inserted"], 102);
    assert_eq!(state(&reader).await, 2);
    assert_eq!(state(&other).await, 2);
    other.batch_execute("ROLLBACK").await.unwrap();
    let drawn =
        "SELECT count(DISTINCT generation), (SELECT last_value FROM lakegate.generation_numbers) FROM lakegate.runs";
    let row = other.query_one(drawn, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (2, 2), "one load for each state");
    assert_eq!(newest_run(&states).await["state"], "succeeded");
}

#[tokio::test]
async fn a_publish_that_waits_too_long_fails_and_leaves_nothing_behind() {
    let mut states = States::new("publish_timeout: 1s\n").await;
    states.advance().await;
    let reader = states.project.sql().await;
    reader.batch_execute("BEGIN; SELECT count(*) FROM lake.states").await.unwrap();

    let error = states.project.sync_fails("states").await;
    assert_eq!(error["code"], "LG5003");
    let blocker = format!("session {} of", reader.backend_pid());
    assert!(error["detail"].as_str().unwrap().contains(&blocker), "{error}");
    assert_eq!(state(&reader).await, 1);
    let left = "SELECT relname::text FROM pg_class WHERE relnamespace = 'lakegate_data'::regnamespace \
                AND relname ~ '^states__g' ORDER BY 1";
    let tables: Vec<String> = reader.query(left, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(tables, ["states__g1"]);
    let run = newest_run(&states).await;
    assert_eq!((&run["state"], &run["error"]["code"]), (&"failed".into(), &"LG5003".into()));

    reader.batch_execute("COMMIT").await.unwrap();
    assert_eq!(states.project.sync("states").await["publish_no"], 2);
    assert_eq!(state(&reader).await, 2);
}

#[tokio::test]
async fn prepared_statements_and_kept_cursors_live_through_a_publish() {
    let mut states = States::new("").await;
    let session = states.project.sql().await;
    let sql = format!(
        "PREPARE summary AS {SUMMARY}; EXECUTE summary;
         BEGIN; DECLARE kept CURSOR WITH HOLD FOR SELECT state FROM lake.states; COMMIT;"
    );
    session.batch_execute(&sql).await.unwrap();
    let bound = session.prepare(SUMMARY).await.unwrap();
    for _ in 0..2 {
        let (newest, _) = states.refresh().await;
        let row = session.query_one("EXECUTE summary", &[]).await.unwrap();
        assert_eq!(whole_state(&row.get::<_, Vec<Option<i64>>>(0)), newest);
        let row = session.query_one(&bound, &[]).await.unwrap();
        assert_eq!(whole_state(&row.get::<_, Vec<Option<i64>>>(0)), newest);
    }
    let kept = session.query("FETCH ALL FROM kept", &[]).await.unwrap();
    assert_eq!(kept.len(), 101, "the state of its beginning");
    assert!(kept.iter().all(|row| row.get::<_, i64>(0) == 1));
}

#[tokio::test]
async fn two_publishes_that_grant_to_the_same_new_role_do_not_fail_each_other() {
    let states = States::new("").await;
    let session = states.project.sql().await;
    let reader = role(&session, &states.project.database, "reader").await;
    let names = ["one", "two", "three", "four"];
    for name in names {
        let yaml = format!("source: lake/states\nprimary_key: [part, id]\ngrants: [{reader}]\n");
        states.project.pipeline(name, &yaml);
    }
    let sync = async |name: &str| states.project.sync(name).await;
    let [one, two, three, four] = names.map(sync);
    tokio::join!(one, two, three, four);
    for name in names {
        let rows = ask_as(&session, &reader, &format!("SELECT count(*) FROM lake.{name}")).await;
        assert_eq!(rows, Ok("101".to_owned()));
    }
}
