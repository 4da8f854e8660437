//! Checks by SQL: what a query sees, and that it can do nothing but look.

use std::fmt::Write as _;

use serde_json::json;

use super::{THREE, Table, batch};
use crate::support::postgres::TestDatabase;
use crate::support::project::TestProject;

#[tokio::test]
async fn a_query_sees_the_new_state_and_other_published_tables() {
    let mut table = Table::new(THREE, "mode: snapshot").await;
    table.project.pipeline("others", "source: lake/items\nprimary_key: [id]\nmode: snapshot\n");
    let orphans = "checks:\n  sql:\n    - name: orphans\n      query: |\n        -- rows of others without an item\n        \
                   SELECT o.id FROM others AS o LEFT JOIN items USING (id)\n        WHERE items.id IS NULL";
    table.declare(&format!("mode: snapshot\n{orphans}"));
    table.lake.delete("id = 2").await;
    // The other table is not there yet: a plan says so, and the run fails only if it still is not.
    let plan = table.project.run(&["plan", "items", "--output", "json"]).await.ok().json().remove(0);
    let warning = "`checks`: sql: `orphans`: relation \"others\" does not exist";
    assert!(plan["warnings"][0].as_str().unwrap().starts_with(warning), "{plan}");
    assert!(table.fails("LG5013").await.contains("relation \"others\" does not exist at character "));
    table.lake.restore(1).await;
    table.project.sync("others").await;
    table.lake.delete("id = 2").await;
    let detail = table.fails("LG5012").await;
    assert!(detail.ends_with("sql: `orphans`: returned 1 row: (id = 2)"), "{detail}");
    // The same within the transaction of a merge.
    table.declare(orphans);
    let detail = table.fails("LG5012").await;
    assert!(detail.ends_with("sql: `orphans`: returned 1 row: (id = 2)"), "{detail}");
    assert_eq!(table.last_run().await["mode"], "merge");
    table.shows(THREE).await;
}

#[tokio::test]
async fn a_query_cannot_write_and_a_second_statement_cannot_follow() {
    let mut table = Table::new(THREE, "").await;
    let sql = table.project.sql().await;
    sql.batch_execute(
        "CREATE TABLE public.traces (trace text); GRANT ALL ON public.traces TO PUBLIC; CREATE SEQUENCE public.numbers; \
         GRANT ALL ON SEQUENCE public.numbers TO PUBLIC; \
         CREATE FUNCTION public.leave_trace() RETURNS integer LANGUAGE plpgsql AS \
         $$ BEGIN INSERT INTO public.traces VALUES ('here'); RETURN 1; END $$; \
         CREATE FUNCTION public.leave_trace_by_force() RETURNS integer LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM set_config('transaction_read_only', 'off', true); \
            INSERT INTO public.traces VALUES ('here'); RETURN 1; END $$",
    )
    .await
    .unwrap();
    table.lake.append(vec![batch(&[(4, Some("d"))])]).await;
    // Those that Postgres refuses without running them, and those that it runs.
    let unfit = [
        "INSERT INTO public.traces VALUES ('here') RETURNING 1",
        "WITH gone AS (DELETE FROM lakegate_data.items__g1 RETURNING id) SELECT id FROM gone",
        "SELECT 1; DROP TABLE public.traces",
        "SELECT 1) AS a; DROP TABLE public.traces; SELECT 1 FROM (SELECT 1",
        "DROP TABLE public.traces",
        "COMMIT",
        "SELECT 1 /* without an end",
        "SELECT $$1::text",
        "SELECT nam FROM items",
    ];
    let failing = [
        "SELECT public.leave_trace()",
        "SELECT public.leave_trace_by_force()",
        "SELECT nextval('public.numbers')",
        "SELECT id FROM lake.items FOR UPDATE",
        "SELECT 1 / (id - id) FROM items",
    ];
    let mut said = String::new();
    for queries in [&unfit[..], &failing[..]] {
        let mut details = Vec::new();
        for mode in ["mode: auto", "mode: snapshot"] {
            let list = serde_json::to_string(queries).unwrap();
            table.declare(&format!("{mode}\nchecks: {{sql: {list}}}"));
            details.push(table.fails("LG5013").await);
        }
        assert_eq!(details[0], details[1], "of a merge and of a load the same is said");
        let faults: Vec<&str> = details[0].strip_prefix("`checks` of `items`: ").unwrap().split("; sql: ").collect();
        assert_eq!(faults.len(), queries.len(), "{faults:?}");
        for (query, fault) in queries.iter().zip(faults) {
            writeln!(said, "{query}\n    {}", fault.split_once(": ").unwrap().1.trim_start_matches("query 1: "))
                .unwrap();
        }
    }
    insta::assert_snapshot!(said);
    assert_eq!(sql.query("SELECT FROM public.traces", &[]).await.unwrap().len(), 0);
    table.shows(THREE).await;
    // What a query set for itself does not outlive it.
    let settings = "checks:\n  sql:\n    - SELECT 1 WHERE set_config('search_path', 'nowhere', false) IS NULL\n    - SELECT \
                    1 WHERE set_config('role', 'none', false) IS NULL\n    - SELECT 1 WHERE \
                    current_setting('search_path') = 'nowhere'";
    table.declare(settings);
    table.syncs("append").await;
}

#[tokio::test]
async fn a_query_runs_with_the_rights_of_the_projects_owner_not_those_of_the_login() {
    let mut table = Table::on(TestProject::on(TestDatabase::alone().await), THREE, "").await;
    let sql = table.project.sql().await;
    sql.batch_execute("CREATE TABLE public.salaries (amount integer)").await.unwrap();
    table.declare("checks: {sql: [SELECT current_user AS me FROM items WHERE id = 1]}");
    let detail = table.fails("LG5012").await;
    assert!(detail.ends_with("sql: query 1: returned 1 row: (me = lakegate_owner)"), "{detail}");
    table.declare("checks: {sql: [SELECT * FROM public.salaries]}");
    let detail = table.fails("LG5013").await;
    assert!(detail.ends_with("permission denied for table salaries"), "{detail}");
    sql.batch_execute("GRANT SELECT ON public.salaries TO lakegate_owner").await.unwrap();
    table.syncs("snapshot").await;
    // The same goes for what a merge has written and staged.
    table.declare(
        "checks: {not_null: [name], unique: [name], sql: [SELECT current_user AS me FROM items WHERE id = 4]}",
    );
    table.lake.append(vec![batch(&[(4, Some("c"))])]).await;
    let detail = table.fails("LG5012").await;
    let found = "unique: (name) has 1 value that several rows share: (c) in 2 rows; sql: query 1: returned 1 row: (me = \
                 lakegate_owner)";
    assert!(detail.ends_with(found), "{detail}");
    assert_eq!(table.last_run().await["mode"], "append");
}

#[tokio::test]
async fn a_query_that_takes_too_long_is_ended() {
    let table = Table::unsynced(THREE, "timeout: 60s\nchecks: {sql: [SELECT pg_sleep(600)]}").await;
    let detail = table.fails("LG5013").await;
    assert!(detail.ends_with("sql: query 1: it took longer than 6s"), "{detail}");
}

#[tokio::test]
async fn a_plan_finds_faults_before_anything_is_loaded() {
    let checks = "checks:\n  not_null: [nam, id]\n  unique: [[id, nme]]\n  accepted_values: {id: [1, two], naem: [x]}\n  \
                  sql: [SELECT nam FROM items, {name: broken, query: SELECT FROM WHERE}, SELECT id FROM items]";
    let table = Table::unsynced(THREE, checks).await;
    let error = table.plan_fails().await;
    insta::assert_snapshot!(format!(
        "{}\nhint: {}",
        error["detail"].as_str().unwrap(),
        error["hint"].as_str().unwrap()
    ));
    assert_eq!(error["code"], "LG5013");
    assert_eq!(table.project.sync_fails("items").await, error);
    let run = table.last_run().await;
    assert_eq!((&run["state"], &run["rows_read"]), (&json!("failed"), &json!(0)));
    // A plan needs no control schema and makes none.
    let plan = Table::unsynced(THREE, "checks: {sql: [SELECT id FROM items], accepted_values: {id: [1]}}").await;
    plan.project.run(&["plan", "items"]).await.ok();
    let made = "SELECT FROM pg_namespace WHERE nspname = 'lake'";
    assert_eq!(plan.project.sql().await.query(made, &[]).await.unwrap().len(), 0);
}
