//! The pipelines in `pipelines/`: each runs as it stands, and its rows are served.

use std::fs;
use std::path::Path;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::support::http;
use crate::support::project::{TestProject, eventually};

#[tokio::test]
async fn every_example_runs_and_a_row_of_each_is_served() {
    let project = TestProject::new().await;
    project.run(&["sample", "sample"]).await.ok();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    let mut names = Vec::new();
    for entry in fs::read_dir(examples).unwrap() {
        let file = entry.unwrap().path();
        names.push(file.file_stem().unwrap().to_str().unwrap().to_owned());
        fs::copy(&file, project.path("pipelines").join(file.file_name().unwrap())).unwrap();
    }
    assert!(names.len() >= 5, "{names:?}");
    let plans = project.run(&["plan", "--output", "json"]).await.ok().json();
    assert_eq!(plans.len(), names.len());

    // Each has a schedule: `up` alone loads them.
    let server = project.start("up").await;
    let sql = project.sql().await;
    for plan in &plans {
        let name = plan["pipeline"].as_str().unwrap();
        let first = format!("SELECT to_jsonb(v)::text FROM lake.{name} v LIMIT 1");
        eventually("the first load", async || sql.query_opt(&first, &[]).await.is_ok_and(|row| row.is_some())).await;
        let row: Value = serde_json::from_str(sql.query_one(&first, &[]).await.unwrap().get(0)).unwrap();
        let key: Vec<String> = plan["primary_key"]
            .as_array()
            .unwrap()
            .iter()
            .map(|column| match &row[column.as_str().unwrap()] {
                Value::String(text) => utf8_percent_encode(text, NON_ALPHANUMERIC).to_string(),
                number => number.to_string(),
            })
            .collect();
        let url = format!("/v1/{name}/{}", key.join("/"));
        eventually("the table is served", async || http::get(server.address, &url).await.status == 200).await;
        let reply = http::get(server.address, &url).await;
        let columns: Vec<&str> =
            plan["columns"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
        let shown = reply.data()[0].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(shown, columns, "{url}");
        for column in plan["primary_key"].as_array().unwrap() {
            let column = column.as_str().unwrap();
            assert_eq!(reply.data()[0][column], row[column], "{url}");
        }
        assert_eq!(reply.header("Lakegate-Version"), plan["source_version"].as_str(), "{url}");
    }
}
