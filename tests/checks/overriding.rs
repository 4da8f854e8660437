//! A person overrides the checks of one run, and the run's record says so.

use serde_json::{Value, json};

use super::{THREE, Table, batch};

const CHECKS: &str = "checks: {row_count: {max: 3}, not_null: [name]}";

const FOUND: [&str; 2] = ["row_count.max: 4 rows, at most 3 wanted", "not_null: `name` is null in 1 row, by (id): (4)"];

#[tokio::test]
async fn one_run_is_overridden_and_the_next_obeys_again() {
    for (mode, way) in [("mode: auto", "append"), ("mode: snapshot", "snapshot")] {
        let mut table = Table::new(THREE, &format!("{mode}\n{CHECKS}")).await;
        assert_eq!(table.last_run().await["checks_overridden"], Value::Null);
        table.lake.append(vec![batch(&[(4, None)])]).await;
        table.fails("LG5012").await;
        let outcome = table.overrides().await;
        assert_eq!((&outcome["mode"], &outcome["checks_overridden"]), (&json!(way), &json!(FOUND)), "{outcome}");
        assert_eq!(table.last_run().await["checks_overridden"], json!(FOUND));
        let stored = "SELECT checks_overridden FROM lakegate.runs ORDER BY run DESC LIMIT 1";
        let stored: Vec<String> = table.project.sql().await.query_one(stored, &[]).await.unwrap().get(0);
        assert_eq!(stored, FOUND);
        assert_eq!(table.published().await.len(), 4);
        // The rows that were let through are not forgotten, whether the next refresh touches them or not.
        table.lake.update("name", "'z'", "id = 1").await;
        let detail = table.fails("LG5012").await;
        assert!(detail.ends_with(&FOUND.join("; ")), "{detail}");
        table.lake.delete("id = 4").await;
        let outcome = table.overrides().await;
        assert_eq!(outcome["checks_overridden"], json!([]), "nothing had to be overridden: {outcome}");
        table.lake.update("name", "'y'", "id = 1").await;
        assert_eq!(table.project.sync("items").await["checks_overridden"], Value::Null);
    }
}

#[tokio::test]
async fn people_are_told_what_was_overridden() {
    let mut table = Table::new(THREE, CHECKS).await;
    table.lake.append(vec![batch(&[(4, None)])]).await;
    let ran = table.project.run(&["sync", "items", "--ignore-checks"]).await.ok();
    let overridden = format!("; checks overridden: {}", FOUND.join("; "));
    assert!(ran.stdout.contains(&overridden), "{ran:?}");
    assert!(ran.stderr.contains(&format!("check overridden: {}", FOUND[0])), "{ran:?}");
    let runs = table.project.run(&["runs", "items"]).await.ok();
    assert!(runs.stdout.contains(&overridden), "{runs:?}");
}

#[tokio::test]
async fn checks_that_cannot_be_evaluated_are_overridden_too() {
    let checks = "checks:\n  not_null: [nam]\n  accepted_values: {id: [one]}\n  unique: [[id, nam]]\n  sql: [SELECT 1/0, \
                  SELEC 1]";
    let table = Table::unsynced(THREE, checks).await;
    table.fails("LG5013").await;
    let outcome = table.overrides().await;
    insta::assert_snapshot!(serde_json::to_string_pretty(&outcome["checks_overridden"]).unwrap());
    table.shows(THREE).await;
}

#[tokio::test]
async fn a_rollback_goes_where_it_was_told_and_notes_what_the_checks_say() {
    let mut table = Table::new(&[(1, None)], "").await;
    table.lake.append(vec![batch(&[(2, Some("b"))])]).await;
    table.lake.update("name", "'a'", "id = 1").await;
    table.declare("checks: {not_null: [name], row_count: {max_change_percent: 10}}\nretain: 0\nmode: snapshot");
    table.overrides().await;
    // The version between the two was never loaded.
    let back = ["rollback", "items", "--to-version", "2", "--output", "json"];
    let outcome = table.project.run(&back).await.ok().json().remove(0);
    let found = json!(["not_null: `name` is null in 1 row, by (id): (1)"]);
    assert_eq!((&outcome["mode"], &outcome["checks_overridden"]), (&json!("snapshot"), &found), "{outcome}");
    table.shows(&[(1, None), (2, Some("b"))]).await;
    // A kept generation is not loaded, and not checked again.
    let back = ["rollback", "items", "--to", "1", "--output", "json"];
    let outcome = table.project.run(&back).await.ok().json().remove(0);
    assert_eq!(outcome["checks_overridden"], Value::Null, "{outcome}");
    table.shows(&[(1, None)]).await;
}
