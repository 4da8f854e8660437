//! `/metrics`: what Prometheus reads.

use std::collections::{BTreeMap, BTreeSet};

use super::{begun, post, run};
use crate::support::http::get;
use crate::support::live_items::Items;
use crate::support::project::eventually;

/// All samples by their name with labels; fails on a line that is none of the format, and on a metric that is told twice.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let (mut described, mut family) = (BTreeSet::new(), String::new());
    let body = text.strip_suffix("# EOF\n").expect("the end");
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (what, name) = (words.next().unwrap(), words.next().unwrap());
            assert!(["HELP", "TYPE", "UNIT"].contains(&what), "{line}");
            assert!(described.insert((what.to_owned(), name.to_owned())), "twice: {line}");
            name.clone_into(&mut family);
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        assert!(series.starts_with(&family), "{line} under {family}");
        let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
        assert!(samples.insert(series.to_owned(), value).is_none(), "twice: {line}");
    }
    samples
}

#[tokio::test]
async fn runs_are_counted_and_tables_are_shown_as_they_stand() {
    let mut items = Items::new().await;
    items.declare("freshness: 1h\nmode: auto\n");
    items.project.pipeline("lost", "source: lake/nothing\nprimary_key: [id]\n");
    let up = items.project.start("up").await;
    let sync = async |name: &str| {
        let record = begun(&post(up.admin(), &format!("/v1/pipelines/{name}/sync"), "").await).remove(0);
        eventually("the end", async || run(up.admin(), &record["run"]).await["finished_at"].is_string()).await;
    };
    let scraped = async || {
        let reply = get(up.admin(), "/metrics").await;
        let media = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        assert_eq!((reply.status, reply.header("content-type")), (200, Some(media)));
        parse(&reply.body)
    };
    let before = scraped().await;
    assert_eq!(before.get("lakegate_online{pipeline=\"items\"}"), Some(&0.0));
    assert!(!before.keys().any(|series| series.starts_with("lakegate_runs_total{")), "{before:?}");
    assert!(!before.contains_key("lakegate_behind_seconds{pipeline=\"items\"}"), "nothing to be behind with");
    assert!(before["process_resident_memory_bytes"] > 1e6);

    sync("items").await;
    sync("items").await;
    items.grow().await;
    sync("items").await;
    sync("lost").await;
    post(up.admin(), "/v1/pipelines/items/pause", "").await;
    // The event comes a moment after the record.
    let failed = "lakegate_runs_total{pipeline=\"lost\",state=\"failed\"}";
    eventually("the counts", async || scraped().await.get(failed) == Some(&1.0)).await;
    let after = scraped().await;
    for (series, value) in [
        ("lakegate_runs_total{pipeline=\"items\",state=\"succeeded\"}", 2.0),
        ("lakegate_runs_total{pipeline=\"items\",state=\"skipped\"}", 1.0),
        ("lakegate_rows_total{pipeline=\"items\",kind=\"inserted\"}", 4.0),
        ("lakegate_publish_number{pipeline=\"items\"}", 2.0),
        ("lakegate_failures{pipeline=\"items\"}", 0.0),
        ("lakegate_failures{pipeline=\"lost\"}", 1.0),
        ("lakegate_failing{pipeline=\"lost\"}", 1.0),
        ("lakegate_late{pipeline=\"items\"}", 0.0),
        ("lakegate_paused{pipeline=\"items\"}", 1.0),
        ("lakegate_paused{pipeline=\"lost\"}", 0.0),
        ("lakegate_online{pipeline=\"items\"}", 1.0),
        ("lakegate_running{pipeline=\"items\"}", 0.0),
        ("lakegate_runs_running", 0.0),
        ("lakegate_runs_limit", 2.0),
        ("lakegate_postgres_up", 1.0),
    ] {
        assert_eq!(after.get(series), Some(&value), "{series}: {after:?}");
    }
    let total = after["lakegate_run_seconds_total{pipeline=\"items\",stage=\"total\"}"];
    let copy = after["lakegate_run_seconds_total{pipeline=\"items\",stage=\"copy\"}"];
    assert!(0.0 < copy && copy < total && total < 60.0, "{copy} of {total} seconds");
    assert!(after["lakegate_read_bytes_total{pipeline=\"items\"}"] > 0.0);
    assert!(after["lakegate_copied_bytes_total{pipeline=\"items\"}"] > 0.0);
    let behind = after["lakegate_behind_seconds{pipeline=\"items\"}"];
    assert!((0.0..60.0).contains(&behind), "{behind}");
    let success = after["lakegate_last_success_timestamp_seconds{pipeline=\"items\"}"];
    let now = chrono::Utc::now().timestamp() as f64;
    assert!((now - 60.0..=now + 1.0).contains(&success), "{success}");
}

#[tokio::test]
async fn answers_of_the_read_api_are_counted() {
    let items = Items::new().await;
    let up = items.project.start("up").await;
    let record = begun(&post(up.admin(), "/v1/sync", "").await).remove(0);
    eventually("the end", async || run(up.admin(), &record["run"]).await["finished_at"].is_string()).await;
    let mut bytes = 0;
    for (url, status) in [("/v1/items/1", 200), ("/v1/items/1", 200), ("/v1/items/77", 404), ("/v1/items/x", 400)] {
        let reply = get(up.address, url).await;
        assert_eq!(reply.status, status, "{reply:?}");
        bytes += reply.bytes.len();
    }
    // A table that is not there has no series.
    assert_eq!(get(up.address, "/v1/nothing/1").await.status, 404);
    let counted = parse(&get(up.admin(), "/metrics").await.body);
    for (series, value) in [
        ("lakegate_answers_total{table=\"items\",operation=\"row\",status=\"200\"}", 2.0),
        ("lakegate_answers_total{table=\"items\",operation=\"row\",status=\"404\"}", 1.0),
        ("lakegate_answers_total{table=\"items\",operation=\"row\",status=\"400\"}", 1.0),
        ("lakegate_answer_seconds_count{table=\"items\",operation=\"row\"}", 4.0),
        ("lakegate_answer_seconds_count{table=\"items\",operation=\"page\"}", 0.0),
        ("lakegate_answer_bytes_total{table=\"items\"}", bytes as f64),
        ("lakegate_cache_looks_total{table=\"items\",found=\"hit\"}", 1.0),
        ("lakegate_cache_looks_total{table=\"items\",found=\"miss\"}", 2.0),
        ("lakegate_lookups_waiting", 0.0),
        ("lakegate_unsent_bytes", 0.0),
        ("lakegate_hearing", 1.0),
    ] {
        assert_eq!(counted.get(series), Some(&value), "{series}: {counted:?}");
    }
    assert!(!counted.keys().any(|series| series.contains("nothing")), "{counted:?}");
}

#[tokio::test]
async fn every_metric_is_documented_with_its_labels() {
    let items = Items::new().await;
    let up = items.project.start("up").await;
    let record = begun(&post(up.admin(), "/v1/sync", "").await).remove(0);
    eventually("the end", async || run(up.admin(), &record["run"]).await["finished_at"].is_string()).await;
    let counted = async || {
        let text = get(up.admin(), "/metrics").await.body;
        ["lakegate_runs_total{", "lakegate_answers_total{"].iter().all(|series| text.contains(series))
    };
    eventually("the counts", counted).await;
    let names = |samples: BTreeMap<String, f64>| -> BTreeSet<String> {
        samples.into_keys().map(|series| series.split('{').next().unwrap().to_owned()).collect()
    };
    let shown = names(parse(&get(up.admin(), "/metrics").await.body));
    let page =
        std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/admin-api.md")).unwrap();
    let section = page.split("\n## Metrics\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let documented: BTreeSet<String> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(['`', '{']).next().map(str::to_owned))
        .collect();
    assert_eq!(shown, documented);
}
