//! The life of a table from the command line: rollback, pause and resume, runs, generations, status, drop.

use serde_json::{Value, json};

use crate::support::http;
use crate::support::project::eventually;
use crate::support::states::{SUMMARY, States, whole_state};

async fn state(states: &States) -> i64 {
    let row = states.project.sql().await.query_one(SUMMARY, &[]).await.unwrap();
    whole_state(&row.get::<_, Vec<Option<i64>>>(0))
}

/// The first table of `lakegate status`; null where there is none.
async fn status(states: &States) -> Value {
    let ran = states.project.run(&["status", "--output", "json"]).await.ok();
    ran.json()[0]["tables"].get(0).cloned().unwrap_or_default()
}

/// Runs a command that must fail with exit code 1: its error.
async fn refused(states: &States, command: &[&str]) -> Value {
    let ran = states.project.run(&[command, &["--output", "json"]].concat()).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    ran.json().remove(0)["error"].take()
}

#[tokio::test]
async fn a_rollback_publishes_a_kept_generation_again_and_pauses() {
    let mut states = States::new("retain: 2\n").await;
    states.refresh().await;
    states.refresh().await;
    let server = states.project.start("serve").await;

    let outcome = states.project.run(&["rollback", "states", "--output", "json"]).await.ok().json().remove(0);
    assert_eq!((&outcome["generation"], &outcome["source_version"]), (&json!(2), &json!("2")));
    assert_eq!((&outcome["publish_no"], &outcome["bytes_copied"]), (&json!(4), &json!(0)));
    assert_eq!(state(&states).await, 2);
    eventually("the read API follows", async || {
        http::get(server.address, "/v1/states/1/5").await.header("Lakegate-Version") == Some("2")
    })
    .await;
    let paused = status(&states).await;
    assert_eq!((&paused["paused"], &paused["source_version"]), (&json!(true), &json!("2")));

    states.project.run(&["rollback", "states", "--to", "1"]).await.ok();
    assert_eq!(state(&states).await, 1);
    states.project.run(&["rollback", "states", "--to-version", "3"]).await.ok();
    assert_eq!(state(&states).await, 3);
    let runs = states.project.run(&["runs", "states", "--output", "json"]).await.ok().json();
    assert_eq!(runs.len(), 6);
    assert_eq!(
        (&runs[0]["trigger"], &runs[0]["generation"]),
        (&json!("rollback"), &json!(3)),
        "kept, not loaded again"
    );

    assert_eq!(refused(&states, &["rollback", "states", "--to", "99"]).await["code"], "LG5007");
    assert_eq!(state(&states).await, 3);
}

#[tokio::test]
async fn a_rollback_to_a_version_that_is_not_kept_loads_it() {
    let mut states = States::new("retain: 0\n").await;
    states.refresh().await;
    states
        .project
        .sql()
        .await
        .batch_execute("UPDATE lakegate.generations SET superseded_at = superseded_at - interval '61 s'")
        .await
        .unwrap();
    states.project.sync("states").await;

    let error = refused(&states, &["rollback", "states"]).await;
    assert_eq!(error["code"], "LG5007");
    assert!(error["hint"].as_str().unwrap().contains("--to-version"), "{error}");
    let command = ["rollback", "states", "--to-version", "1", "--output", "json"];
    let outcome = states.project.run(&command).await.ok().json().remove(0);
    assert_eq!((&outcome["generation"], &outcome["rows_inserted"]), (&json!(3), &json!(101)));
    assert_eq!((state(&states).await, &status(&states).await["paused"]), (1, &json!(true)));
    assert_eq!(refused(&states, &["rollback", "states", "--to-version", "99"]).await["code"], "LG2009");
    assert_eq!(state(&states).await, 1);

    // A person's sync goes forward again.
    assert_eq!(states.project.sync("states").await["source_version"], "2");
    assert_eq!(state(&states).await, 2);
}

#[tokio::test]
async fn a_paused_pipeline_does_not_run_by_its_schedule() {
    let mut states = States::new("").await;
    assert_eq!(refused(&states, &["pause", "stats"]).await["code"], refused(&states, &["sync", "stats"]).await["code"]);
    states.project.run(&["pause", "states"]).await.ok();
    let yaml = "source: lake/states\nprimary_key: [part, id]\nschedule: every 1s\n";
    states.project.pipeline("states", yaml);
    // A second table with the same schedule shows that the schedule runs meanwhile.
    states.project.pipeline("clock", yaml);
    states.advance().await;
    let server = states.project.start("up").await;
    let runs_of_clock =
        async || states.project.run(&["runs", "clock", "--output", "json"]).await.stdout.lines().count();
    eventually("the other pipeline runs", async || runs_of_clock().await >= 3).await;
    assert_eq!(state(&states).await, 1);
    drop(server);

    states.project.run(&["resume", "states"]).await.ok();
    assert_eq!(status(&states).await["paused"], false);
    let _server = states.project.start("up").await;
    eventually("the resumed pipeline runs", async || state(&states).await == 2).await;
}

#[tokio::test]
async fn a_dropped_table_is_gone_and_can_be_made_again() {
    let mut states = States::new("").await;
    states.refresh().await;
    let session = states.project.sql().await;
    let server = states.project.start("serve").await;
    assert_eq!(http::get(server.address, "/v1/states/1/5").await.status, 200);

    assert_eq!(state(&states).await, 2);
    assert!(refused(&states, &["drop", "states"]).await["hint"].as_str().unwrap().contains("--yes"));
    session.batch_execute("CREATE VIEW daily AS SELECT count(*) FROM lake.states").await.unwrap();
    let error = refused(&states, &["drop", "states", "--yes"]).await;
    assert_eq!(error["code"], "LG4016");
    assert!(error["detail"].as_str().unwrap().contains("view public.daily"), "{error}");
    assert_eq!(state(&states).await, 2);

    session.batch_execute("DROP VIEW daily").await.unwrap();
    let dropped = states.project.run(&["drop", "states", "--yes", "--output", "json"]).await.ok().json().remove(0);
    assert_eq!(dropped, json!({ "pipeline": "states", "generations_dropped": 2 }));
    let left = "SELECT count(*) FROM pg_class WHERE relname ~ '^states'";
    assert_eq!(session.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0);
    eventually("the read API forgets it", async || http::get(server.address, "/v1/states/1/5").await.status == 404)
        .await;
    assert_eq!(refused(&states, &["drop", "states", "--yes"]).await["code"], "LG5006");

    let outcome = states.project.sync("states").await;
    assert_eq!((&outcome["publish_no"], &outcome["generation"]), (&json!(1), &json!(3)));
    assert_eq!(http::get(server.address, "/v1/states/1/5").await.status, 200);
}

#[tokio::test]
async fn a_drop_that_a_reader_stands_against_says_so_and_is_done_again() {
    let states = States::new("").await;
    let reader = states.project.sql().await;
    reader.batch_execute("BEGIN; SELECT count(*) FROM lakegate_data.states__g1").await.unwrap();
    let error = refused(&states, &["drop", "states", "--yes"]).await;
    assert_eq!(error["code"], "LG4015");
    assert!(error["hint"].as_str().unwrap().contains("lakegate drop states --yes"), "{error}");
    reader.batch_execute("COMMIT").await.unwrap();
    states.project.run(&["drop", "states", "--yes"]).await.ok();
    let left = "SELECT count(*) FROM pg_class WHERE relname ~ '^states'";
    assert_eq!(reader.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn a_table_whose_file_is_gone_is_served_and_called_orphaned() {
    let states = States::new("").await;
    std::fs::remove_file(states.project.path("pipelines/states.yaml")).unwrap();
    let orphan = status(&states).await;
    assert_eq!(
        (&orphan["name"], &orphan["orphaned"], &orphan["serving"]),
        (&json!("states"), &json!(true), &json!("online"))
    );
    let text = states.project.run(&["status"]).await.ok().stdout;
    assert!(text.contains("orphaned: its pipeline file is gone"), "{text}");
    states.project.run(&["get", "states", "1", "5"]).await.ok();
    states.project.run(&["drop", "states", "--yes"]).await.ok();
    assert_eq!(status(&states).await, Value::Null);
}

#[tokio::test]
async fn a_failing_sync_is_not_an_outage() {
    let states = States::new("").await;
    std::fs::remove_dir_all(states.project.path("lake")).unwrap();
    let error = states.project.sync_fails("states").await;
    let failing = status(&states).await;
    assert_eq!((&failing["serving"], &failing["sync"]), (&json!("online"), &json!("failing")));
    assert_eq!(failing["last_run"]["error"]["code"], error["code"]);
    let text = states.project.run(&["runs", "states"]).await.ok().stdout;
    assert!(text.contains(error["code"].as_str().unwrap()), "{text}");
    states.project.run(&["get", "states", "1", "5"]).await.ok();
    for command in ["runs", "generations"] {
        assert_eq!(
            refused(&states, &[command, "stats"]).await["code"],
            refused(&states, &["sync", "stats"]).await["code"]
        );
    }
}
