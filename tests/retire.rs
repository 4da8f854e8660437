//! What becomes of superseded generations: kept as `retain` says, for a minute at least, and as long as anybody reads.

use lakegate::postgres::Session;

use crate::support::states::States;

/// The generations that still exist as tables.
async fn tables(session: &Session) -> Vec<i64> {
    let sql = "SELECT substring(relname FROM '__g(.*)$')::bigint FROM pg_class \
               WHERE relnamespace = 'lakegate_data'::regnamespace AND relname ~ '^states__g' ORDER BY 1";
    session.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// Lets the minute pass for every generation that is superseded now.
async fn a_minute_passes(session: &Session) {
    let sql = "UPDATE lakegate.generations SET superseded_at = superseded_at - interval '61 seconds'";
    session.batch_execute(sql).await.unwrap();
}

/// What `lakegate generations` says of each, newest first.
async fn listed(states: &States) -> Vec<(i64, bool)> {
    let ran = states.project.run(&["generations", "states", "--output", "json"]).await.ok();
    ran.json().iter().map(|row| (row["generation"].as_i64().unwrap(), !row["retired_at"].is_null())).collect()
}

#[tokio::test]
async fn generations_beyond_retain_go_after_a_minute() {
    let mut states = States::new("").await;
    let session = states.project.sql().await;
    states.refresh().await;
    states.refresh().await;
    assert_eq!(tables(&session).await, [1, 2, 3], "within the minute");

    a_minute_passes(&session).await;
    states.project.sync("states").await;
    assert_eq!(tables(&session).await, [2, 3], "one besides the live one");
    assert_eq!(listed(&states).await, [(3, false), (2, false), (1, true)]);
}

#[tokio::test]
async fn without_retain_only_the_live_generation_stays() {
    let mut states = States::new("retain: 0\n").await;
    let session = states.project.sql().await;
    states.refresh().await;
    assert_eq!(tables(&session).await, [1, 2], "within the minute");
    a_minute_passes(&session).await;
    states.project.sync("states").await;
    assert_eq!(tables(&session).await, [2]);
}

#[tokio::test]
async fn a_generation_that_is_read_is_not_dropped() {
    let mut states = States::new("retain: 0\n").await;
    let session = states.project.sql().await;
    let reader = states.project.sql().await;
    reader.batch_execute("BEGIN; SELECT count(*) FROM lakegate_data.states__g1").await.unwrap();
    states.refresh().await;
    a_minute_passes(&session).await;
    let (_, outcome) = states.refresh().await;
    assert_eq!(outcome["state"], "succeeded", "the run does not wait for it");
    assert_eq!(tables(&session).await, [1, 2, 3]);
    let rows: i64 = reader.query_one("SELECT count(*) FROM lakegate_data.states__g1", &[]).await.unwrap().get(0);
    assert_eq!(rows, 101);

    reader.batch_execute("COMMIT").await.unwrap();
    a_minute_passes(&session).await;
    states.project.sync("states").await;
    assert_eq!(tables(&session).await, [3]);
}

#[tokio::test]
async fn a_generation_that_something_depends_on_is_kept_and_named() {
    let mut states = States::new("retain: 0\n").await;
    let session = states.project.sql().await;
    session.batch_execute("CREATE VIEW direct AS SELECT count(*) FROM lakegate_data.states__g1").await.unwrap();
    states.refresh().await;
    a_minute_passes(&session).await;
    let ran = states.project.run(&["sync", "states"]).await.ok();
    assert!(ran.stderr.contains("generation 1 is kept: other objects depend on its table"), "{ran:?}");
    assert_eq!(tables(&session).await, [1, 2]);
}
