//! A table from the lake to a row by key: what one pipeline does over its life.

use serde_json::json;

use crate::support::lake::LakeTable;
use crate::support::project::TestProject;

/// A project whose pipeline `items` reads a Delta table of `rows` numbered rows.
async fn items(rows: i64) -> (TestProject, LakeTable) {
    let project = TestProject::new().await;
    let (schema, batch) = LakeTable::numbered(0..rows);
    let lake = LakeTable::create(&project.path("lake/items"), &schema, vec![batch]).await;
    project.pipeline("items", "source: lake/items\nprimary_key: [id]\nmode: snapshot\n");
    (project, lake)
}

async fn rows_of(project: &TestProject, sql: &str) -> Vec<(i64, String)> {
    let rows = project.sql().await.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test]
async fn a_delta_table_becomes_a_view_and_a_row_by_key() {
    let (project, _lake) = items(3).await;
    let outcome = project.sync("items").await;
    assert_eq!(outcome["state"], "succeeded");
    assert_eq!(outcome["mode"], "snapshot");
    assert_eq!(outcome["source_version"], "1");
    assert_eq!(outcome["rows_inserted"], 3);
    assert_eq!(outcome["coverage"], 1.0);
    let rows = rows_of(&project, "SELECT id, name FROM lake.items ORDER BY id").await;
    assert_eq!(rows, [(0, "row 0".to_owned()), (1, "row 1".to_owned()), (2, "row 2".to_owned())]);
    let got = project.run(&["get", "items", "2"]).await.ok();
    assert_eq!(got.json()[0]["data"], json!([{ "id": 2, "name": "row 2" }]));
}

#[tokio::test]
async fn an_unchanged_source_costs_nothing_and_a_changed_one_makes_a_new_generation() {
    let (project, mut lake) = items(3).await;
    let first = project.sync("items").await;
    let second = project.sync("items").await;
    assert_eq!(second["state"], "skipped");
    assert_eq!(second["mode"], "noop");
    assert_eq!(second["generation"], first["generation"]);
    assert_eq!(second["publish_no"], first["publish_no"]);

    lake.update("name", "'changed'", "id = 1").await;
    let third = project.sync("items").await;
    assert_eq!(third["mode"], "snapshot");
    assert_eq!(third["reason"], "the source moved from version 1 to 2");
    assert_eq!(third["publish_no"], 2);
    assert_ne!(third["generation"], first["generation"]);
    let rows = rows_of(&project, "SELECT id, name FROM lake.items WHERE id = 1").await;
    assert_eq!(rows, [(1, "changed".to_owned())]);
}

#[tokio::test]
async fn a_load_makes_statistics_of_all_columns_and_leaves_autovacuum_better_ones_to_make() {
    let (project, _lake) = items(1_000).await;
    project.sync("items").await;
    let sql = project.sql().await;
    let columns = sql.query("SELECT FROM pg_stats WHERE tablename LIKE 'items\\_\\_g%'", &[]).await.unwrap();
    assert_eq!(columns.len(), 2);
    // What the load's sessions did is counted when they end, and autovacuum may have come by then.
    let rest = "SELECT autoanalyze_count > 0 OR n_mod_since_analyze = 1000 FROM pg_stat_all_tables \
                WHERE relname LIKE 'items\\_\\_g%'";
    crate::support::project::eventually("all rows count as not analyzed", async || {
        sql.query_one(rest, &[]).await.unwrap().get::<_, bool>(0)
    })
    .await;
    let small = "SELECT autoanalyze_count > 0 OR array_length(histogram_bounds::text::text[], 1) = 11 \
                 FROM pg_stat_all_tables JOIN pg_stats ON tablename = relname WHERE attname = 'id' \
                 AND relname LIKE 'items\\_\\_g%'";
    assert!(sql.query_one(small, &[]).await.unwrap().get::<_, bool>(0));
}

#[tokio::test]
async fn up_loads_what_is_scheduled_and_serves_it() {
    let (project, _lake) = items(3).await;
    project.pipeline("items", "source: lake/items\nprimary_key: [id]\nschedule: every 1h\n");
    let server = project.start("up").await;
    crate::support::project::eventually("the first load", async || {
        crate::support::http::get(server.address, "/v1/items/1").await.status == 200
    })
    .await;
    let reply = crate::support::http::get(server.address, "/v1/items/1").await;
    assert_eq!(reply.data(), json!([{ "id": 1, "name": "row 1" }]));
    assert_eq!(reply.header("Lakegate-Version"), Some("1"));
}
