//! What is so, with the records of the commands.

use serde_json::{Value, json};

use crate::support::http::get;
use crate::support::live_items::Items;
use crate::support::sales::Sales;

#[tokio::test]
async fn every_list_has_the_records_of_its_command() {
    let mut items = Items::new().await;
    items.declare("on_bad_row: {reject: {max_rows: 5}}\n");
    items.sync().await;
    items.rewrite().await;
    items.sync().await;
    items.project.pipeline("lost", "source: lake/nothing\nprimary_key: [id]\n");
    items.project.run(&["sync", "lost"]).await;
    let up = items.project.start("up").await;
    let command = async |arguments: &str| -> Vec<Value> {
        let arguments: Vec<&str> = arguments.split(' ').chain(["--output", "json"]).collect();
        items.project.run(&arguments).await.json()
    };
    let answer = async |url: &str| {
        let reply = get(up.admin(), url).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")), "{reply:?}");
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{reply:?}");
        reply.json()
    };
    let tables = command("status").await.remove(0)["tables"].take();
    assert_eq!(answer("/v1/pipelines").await, json!({ "data": tables }));
    assert_eq!(answer("/v1/pipelines/items").await, tables[0]);
    assert_eq!(answer("/v1/pipelines/lost").await["error_code"], "LG2001");
    assert_eq!(answer("/v1/pipelines/items/plan").await, command("plan items").await[0]);
    for (url, arguments) in [
        ("/v1/pipelines/items/generations", "generations items"),
        ("/v1/pipelines/items/rejected", "rejected items"),
        ("/v1/pipelines/items/rejected?run=1&limit=1", "rejected items --run 1 --limit 1"),
    ] {
        assert_eq!(answer(url).await, json!({ "data": command(arguments).await }), "{url}");
    }
    let runs = command("runs").await;
    assert_eq!(runs.len(), 3);
    assert_eq!(answer("/v1/runs").await, json!({ "data": runs, "next": null }));
    assert_eq!(answer("/v1/runs?pipeline=items").await["data"], json!(command("runs items").await));
    assert_eq!(answer(&format!("/v1/runs/{}", runs[1]["run"])).await, runs[1]);
    assert_eq!(answer("/livez").await, json!({"status": "live"}));
}

#[tokio::test]
async fn rejected_rows_are_shown_with_their_reasons() {
    let items = Items::new().await;
    items.declare("on_bad_row: {reject: {max_rows: 5}}\ncolumns: {types: {name: bigint}}\n");
    items.sync().await;
    let up = items.project.start("up").await;
    let rows = get(up.admin(), "/v1/pipelines/items/rejected?limit=2").await.data();
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 2, "{rows:?}");
    let fields = ["key", "column", "code"].map(|field| rows[0][field].clone());
    assert_eq!(json!(fields), json!([{"id": "0"}, "name", "LG3007"]), "{rows:?}");
}

#[tokio::test]
async fn runs_come_a_page_at_a_time_and_none_twice_while_others_are_added() {
    let mut items = Items::new().await;
    for _ in 0..5 {
        items.sync().await;
        items.grow().await;
    }
    let up = items.project.start("up").await;
    let (mut seen, mut url) = (Vec::new(), "/v1/runs?limit=2".to_owned());
    loop {
        let page = get(up.admin(), &url).await.json();
        let runs = page["data"].as_array().unwrap();
        assert!((1..=2).contains(&runs.len()), "{page}");
        seen.extend(runs.iter().map(|run| run["run"].as_i64().unwrap()));
        let Some(next) = page["next"].as_i64() else { break };
        url = format!("/v1/runs?limit=2&before={next}");
        items.sync().await;
    }
    assert_eq!(seen, [5, 4, 3, 2, 1]);
    // A page that ends with the last run has no next one.
    let page = get(up.admin(), "/v1/runs?limit=2&before=3").await.json();
    assert_eq!((page["data"].as_array().unwrap().len(), &page["next"]), (2, &Value::Null));
}

#[tokio::test]
async fn a_plan_that_cannot_be_made_says_why() {
    let items = Items::new().await;
    items.project.pipeline("lost", "source: lake/nothing\nprimary_key: [id]\n");
    items.project.pipeline("wrong", "source: lake/items\nprimary_key: [nothing]\n");
    let up = items.project.start("up").await;
    for (name, expected) in [("lost", "LG2001"), ("wrong", "LG2006")] {
        let reply = get(up.admin(), &format!("/v1/pipelines/{name}/plan")).await;
        assert_eq!((reply.status, super::code(&reply).as_str()), (422, expected), "{reply:?}");
    }
}

#[tokio::test]
async fn what_is_looked_at_shows_groups_and_tables_without_a_pipeline() {
    let sales = Sales::loaded("").await;
    std::fs::remove_file(sales.project.path("pipelines/orders.yaml")).unwrap();
    let up = sales.project.start("up").await;
    let tables = get(up.admin(), "/v1/pipelines").await.data();
    let shown: Vec<Value> =
        tables.as_array().unwrap().iter().map(|one| json!([one["name"], one["group"], one["orphaned"]])).collect();
    assert_eq!(json!(shown), json!([["lines", "sales", false], ["orders", null, true]]));
    assert_eq!(get(up.admin(), "/v1/pipelines/orders").await.json()["orphaned"], true);
    assert_eq!(get(up.admin(), "/v1/pipelines/orders/generations").await.data().as_array().unwrap().len(), 1);
    assert_eq!(get(up.admin(), "/v1/pipelines/orders/plan").await.status, 404);
}
