//! Refreshes in place of tables with a transform: those that go row by row follow the changes, the others do not.

use crate::incremental::{Table, reason};
use crate::support::lake::LakeTable;

const UPPER_AND_EVEN: &str = "transform: SELECT id * 10 AS id, upper(name) AS title FROM source WHERE id % 2 = 0\n";

#[tokio::test]
async fn changed_rows_go_through_a_row_wise_transform() {
    let mut table = Table::with(100, &[], UPPER_AND_EVEN).await;
    table.lake.append(vec![LakeTable::numbered(100..105).1]).await;
    table.expect("append", [3, 0, 0]).await;
    table.lake.update("name", "'other'", "id % 10 < 2").await;
    let outcome = table.expect("merge", [0, 11, 0]).await;
    assert_eq!(outcome["rows_unchanged"], 42, "{outcome}");
    table.lake.delete("id < 4").await;
    table.expect("merge", [0, 0, 2]).await;
    let sql = table.project.sql().await;
    let row = sql.query_one("SELECT count(*), min(id), max(title) FROM lake.items", &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, &str>(2)), (51, 40, "ROW 98"));
}

#[tokio::test]
async fn a_row_that_a_filter_lets_in_or_out_is_added_or_deleted() {
    let further = "transform: SELECT id, name FROM source WHERE name <> 'hidden'\n";
    let mut table = Table::with(20, &[("delta.enableChangeDataFeed", "true")], further).await;
    table.lake.update("name", "'hidden'", "id < 3").await;
    table.expect("merge", [0, 0, 3]).await;
    table.lake.update("name", "'shown'", "id = 1").await;
    let outcome = table.expect("merge", [1, 0, 0]).await;
    assert!(reason(&outcome).contains("of the change feed"), "{outcome}");
}

#[tokio::test]
async fn only_what_a_transform_computes_counts_as_a_change() {
    let mut table = Table::with(20, &[], "transform: SELECT id FROM source\n").await;
    table.lake.update("name", "'other'", "id < 3").await;
    let outcome = table.expect("noop", [0, 0, 0]).await;
    assert!(reason(&outcome).ends_with("no row differs"), "{outcome}");
}

#[tokio::test]
async fn subqueries_in_from_cases_and_casts_go_row_by_row() {
    let further = "transform: >\n  SELECT id, CASE WHEN n > 5 THEN 'much' ELSE CAST(n AS VARCHAR) END AS name\n  \
                   FROM (SELECT s.id, s.id % 10 AS n FROM source AS s WHERE s.id >= 0) AS t WHERE n <> 3\n";
    let mut table = Table::with(40, &[("delta.enableDeletionVectors", "true")], further).await;
    table.log.mark_and_add(|id| [3, 4, 5].contains(&id), None);
    table.expect("merge", [0, 0, 2]).await;
    table.lake.reload().await;
}

#[tokio::test]
async fn a_transform_that_needs_other_rows_or_the_clock_is_run_over_the_whole_table() {
    for sql in [
        "SELECT id, count(*) OVER () AS n FROM source",
        "SELECT id, max(name) AS name FROM source GROUP BY id",
        "SELECT DISTINCT id FROM source",
        "SELECT id FROM source ORDER BY id LIMIT 5",
        "SELECT id, now() > TIMESTAMP '2000-01-01' AS late FROM source",
        "SELECT id, (SELECT max(id) FROM source) AS most FROM source",
        "SELECT s.id FROM source s JOIN source t ON s.id = t.id",
    ] {
        let mut table = Table::with(10, &[], &format!("transform: {sql}\n")).await;
        table.lake.append(vec![LakeTable::numbered(10..11).1]).await;
        let outcome = table.sync().await;
        assert_eq!(outcome["mode"], "snapshot", "{sql}: {outcome}");
        assert!(reason(&outcome).ends_with("the transform does not go row by row"), "{sql}: {outcome}");
        // What changes no row of the source changes none of the result.
        table.lake.optimize().await;
        assert_eq!(table.sync().await["mode"], "noop", "{sql}");
    }
}
