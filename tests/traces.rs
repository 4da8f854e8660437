//! Traces as a collector of OpenTelemetry gets them.

use axum::http::StatusCode;
use nix::sys::signal::Signal;

use crate::support::collector::Collector;
use crate::support::http::{get_with, post_with};
use crate::support::items::Items;
use crate::support::process::Process;

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// A trace that a client has begun, and its span.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

#[tokio::test]
async fn a_run_is_a_span_with_one_for_each_of_its_stages() {
    let mut items = Items::new("").await;
    let collector = Collector::start().await;
    items.project.set(ENDPOINT, &collector.endpoint);
    let ran = items.project.run(&["sync", "items", "--full", "--output", "json"]).await.ok();
    let run = ran.json()[0]["run"].to_string();
    let sync = collector.span("sync");
    assert_eq!((sync.service.as_str(), sync.parent.as_str(), sync.failed), ("lakegate", "", false));
    let attributes = ["lakegate.pipeline", "lakegate.run", "lakegate.mode", "lakegate.state"]
        .map(|name| sync.attributes.get(name).map_or("", String::as_str));
    assert_eq!(attributes, ["items", run.as_str(), "snapshot", "succeeded"]);
    for stage in ["plan", "copy", "index", "verify", "publish"] {
        let span = collector.span(stage);
        assert_eq!((&span.trace, &span.parent), (&sync.trace, &sync.id), "{stage}");
        assert!(span.nanoseconds <= sync.nanoseconds, "{stage}");
    }
}

#[tokio::test]
async fn a_run_that_fails_is_marked_with_its_code() {
    let mut items = Items::new("").await;
    let collector = Collector::start().await;
    items.project.set(ENDPOINT, &collector.endpoint);
    items.project.set("OTEL_SERVICE_NAME", "nightly");
    items.project.pipeline("items", "source: lake/items\nprimary_key: [id]\nchecks: {row_count: {min: 1000000}}\n");
    let ran = items.project.run(&["sync", "items", "--full"]).await;
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let sync = collector.span("sync");
    assert_eq!(sync.service, "nightly");
    assert!(sync.failed && ran.stderr.contains(&sync.attributes["error.type"]), "{sync:?} {}", ran.stderr);
}

#[tokio::test]
async fn a_request_goes_on_with_the_trace_of_its_client_and_names_no_key() {
    let mut items = Items::new("").await;
    let collector = Collector::start().await;
    items.project.set(ENDPOINT, &collector.endpoint);
    let server = Process::start(items.project.command(&["serve"]));
    let address = server.address().await;
    let began = format!("00-{TRACE}-{PARENT}-01");
    let traced = [("traceparent", began.as_str())];
    assert_eq!(get_with(address, "/v1/items/1?columns=name", &traced).await.status, 200);
    assert_eq!(get_with(address, "/v1/alice@example.com/7", &traced).await.status, 404);
    assert_eq!(get_with(address, "/readyz", &traced).await.status, 200);
    let json = [("Content-Type", "application/json")];
    assert_eq!(post_with(address, "/v1/items/_batch", &json, r#"{"keys": [1, 2]}"#).await.status, 200);
    server.signal(Signal::SIGTERM);
    server.end().await.ok();

    let mut rows = collector.spans();
    rows.retain(|span| span.name == "GET /v1/{table}/{key}");
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert!(rows.iter().all(|span| (span.trace.as_str(), span.parent.as_str()) == (TRACE, PARENT)), "{rows:?}");
    let shown = |name: &str| rows[0].attributes.get(name).map(String::as_str);
    let told = ["http.request.method", "http.response.status_code", "lakegate.table", "lakegate.operation"].map(shown);
    assert_eq!(told, [Some("GET"), Some("200"), Some("items"), Some("row")]);
    // The wait for Postgres is a part of it.
    let asked = collector.span("ask for a row");
    assert_eq!((&asked.trace, &asked.parent), (&rows[0].trace, &rows[0].id));
    let batch = collector.span("POST /v1/{table}/_batch");
    assert!(batch.parent.is_empty() && batch.trace != TRACE, "{batch:?}");
    assert_eq!(collector.span("ask for rows").parent, batch.id);
    assert!(!collector.was_told("alice") && !collector.was_told("columns"));
    assert!(!collector.spans().iter().any(|span| span.name.contains("readyz")));
}

#[tokio::test]
async fn what_a_client_does_not_sample_is_not_sent() {
    let mut items = Items::new("").await;
    let collector = Collector::start().await;
    items.project.set(ENDPOINT, &collector.endpoint);
    let server = Process::start(items.project.command(&["serve"]));
    let address = server.address().await;
    let unsampled = format!("00-{TRACE}-{PARENT}-00");
    assert_eq!(get_with(address, "/v1/items/1", &[("traceparent", &unsampled)]).await.status, 200);
    assert_eq!(get_with(address, "/v1/items/2", &[("traceparent", "nonsense")]).await.status, 200);
    server.signal(Signal::SIGTERM);
    server.end().await.ok();
    let rows = collector.span("GET /v1/{table}/{key}");
    assert!(rows.parent.is_empty(), "{rows:?}");
}

#[tokio::test]
async fn a_collector_that_takes_nothing_costs_spans_and_is_told_once() {
    let mut items = Items::new("").await;
    let collector = Collector::answering(StatusCode::BAD_REQUEST).await;
    items.project.set(ENDPOINT, &collector.endpoint);
    items.project.set("OTEL_BSP_SCHEDULE_DELAY", "20");
    let server = Process::start(items.project.command(&["serve"]));
    let address = server.address().await;
    assert_eq!(get_with(address, "/v1/items/1", &[]).await.status, 200);
    server.says("spans are lost, the collector does not take them: it answers 400").await;
    assert_eq!(get_with(address, "/v1/items/2", &[]).await.status, 200);
    server.signal(Signal::SIGTERM);
    let ran = server.end().await.ok();
    assert_eq!(ran.stderr.matches("spans are lost").count(), 1, "{}", ran.stderr);
}

#[tokio::test]
async fn a_way_of_sending_that_there_is_not_is_refused() {
    let mut items = Items::new("").await;
    items.project.set(ENDPOINT, "http://127.0.0.1:4317");
    items.project.set("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    let ran = items.project.run(&["sync"]).await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("OTEL_EXPORTER_OTLP_PROTOCOL: spans are not sent by `grpc`"), "{}", ran.stderr);
    items.project.set("OTEL_SDK_DISABLED", "true");
    items.project.run(&["sync"]).await.ok();
}
