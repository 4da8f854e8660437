//! Traces of OpenTelemetry: a span a run with one for each of its stages, and what answers requests adds its own.
//!
//! Where they go and which are sampled is told by the variables that OpenTelemetry gives all programs: without
//! `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` there are none.
//! <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry::global::{self, BoxedSpan};
use opentelemetry::trace::{Span as _, SpanKind, Status, TraceContextExt as _, Tracer as _, get_active_span};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;

use super::{Event, Observer};
use crate::domain::{Code, Error, Result, RunOutcome, TableName};

/// How long the end waits until the last spans are sent.
const LAST_SPANS: Duration = Duration::from_secs(3);

/// How long a collector may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// The most bytes of a collector's answer that are read.
const MAX_ANSWER: usize = 64 << 10;

/// Who makes these spans.
const SCOPE: &str = "lakegate";

/// Sends the spans of this process, until it is ended.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Starts to send spans, where the environment says where to; `None` = nobody wants any.
    ///
    /// # Errors
    /// [`Code::InvalidValue`] for a variable that cannot be followed.
    pub fn start(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Traces>> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let said = |name: &str, value: &str| variable(name).is_some_and(|text| text.eq_ignore_ascii_case(value));
        let wanted = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
        if said("OTEL_SDK_DISABLED", "true")
            || said("OTEL_TRACES_EXPORTER", "none")
            || wanted.iter().all(|name| variable(name).is_none())
        {
            return Ok(None);
        }
        for name in ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"] {
            if let Some(protocol) = variable(name).filter(|protocol| protocol != "http/protobuf") {
                return Err(Error::new(Code::InvalidValue, format!("{name}: spans are not sent by `{protocol}`"))
                    .hint(
                        "set it to http/protobuf, and the endpoint to the collector's port for that (usually 4318)",
                    ));
            }
        }
        let exporter = SpanExporter::builder().with_http().with_http_client(Collector::new()?).build();
        let exporter = exporter.map_err(|error| {
            Error::new(Code::InvalidValue, format!("spans cannot be sent: {error}"))
                .hint("see OTEL_EXPORTER_OTLP_ENDPOINT and the other variables that begin with OTEL_EXPORTER_OTLP")
        })?;
        let mut resource =
            Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        let names_itself =
            variable("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|attributes| attributes.contains("service.name="));
        if variable("OTEL_SERVICE_NAME").is_none() && !names_itself {
            resource = resource.with_service_name("lakegate");
        }
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build();
        global::set_tracer_provider(provider.clone());
        Ok(Some(Traces(provider)))
    }

    /// What turns runs into spans.
    #[must_use]
    pub fn of_runs(&self) -> RunTraces {
        RunTraces::default()
    }

    /// Sends what has not been sent, but does not wait for long.
    pub async fn end(self) {
        // The provider waits for a thread of its own, which in turn waits for this runtime.
        let _ = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(LAST_SPANS)).await;
    }
}

/// A span of the wait for Postgres in what is being done here, where that is traced; it ends when it is dropped.
#[must_use]
pub fn part(name: &'static str) -> Option<BoxedSpan> {
    if !get_active_span(|span| span.is_recording()) {
        return None;
    }
    let tracer = global::tracer(SCOPE);
    let database = vec![KeyValue::new("db.system.name", "postgresql")];
    Some(tracer.build(tracer.span_builder(name).with_kind(SpanKind::Client).with_attributes(database)))
}

/// Where spans are sent.
#[derive(Debug)]
struct Collector {
    client: reqwest::Client,
    runtime: Handle,
    is_failing: AtomicBool,
}

impl Collector {
    fn new() -> Result<Self> {
        let client = reqwest::Client::builder().timeout(ANSWER).redirect(reqwest::redirect::Policy::none()).build();
        let client = client.map_err(|error| Error::internal("spans cannot be sent").because(error))?;
        Ok(Collector { client, runtime: Handle::current(), is_failing: AtomicBool::new(false) })
    }

    /// Tells once that it does not work, and once that it does.
    fn note(&self, result: &std::result::Result<Response<Bytes>, HttpError>) {
        let fault = match result {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("it answers {}", response.status().as_u16())),
            Err(error) => Some(error.to_string()),
        };
        match (self.is_failing.swap(fault.is_some(), Ordering::Relaxed), fault) {
            (false, Some(fault)) => tracing::warn!("spans are lost, the collector does not take them: {fault}"),
            (true, None) => tracing::info!("the collector takes spans again"),
            _ => {}
        }
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> std::result::Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        // Spans are sent by a thread outside of the runtime that the client needs.
        let sent = self.runtime.spawn(async move { send(&client, request).await });
        let result = sent.await.unwrap_or_else(|error| Err(error.into()));
        self.note(&result);
        result
    }
}

async fn send(client: &reqwest::Client, request: Request<Bytes>) -> std::result::Result<Response<Bytes>, HttpError> {
    let mut reply = client.execute(request.try_into()?).await.map_err(reqwest::Error::without_url)?;
    let mut answer = Response::builder().status(reply.status());
    if let Some(headers) = answer.headers_mut() {
        headers.clone_from(reply.headers());
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = reply.chunk().await.map_err(reqwest::Error::without_url)? {
        if bytes.len() + chunk.len() > MAX_ANSWER {
            return Err("it answers with too many bytes".into());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(answer.body(bytes.into())?)
}

/// Turns the events of runs into spans.
#[derive(Debug, Default)]
pub struct RunTraces(Mutex<HashMap<TableName, Run>>);

/// A run under way.
#[derive(Debug)]
struct Run {
    context: Context,
    stage: Option<BoxedSpan>,
}

impl Run {
    fn begin(pipeline: &TableName, run: i64) -> Run {
        let tracer = global::tracer(SCOPE);
        let attributes =
            vec![KeyValue::new("lakegate.pipeline", pipeline.to_string()), KeyValue::new("lakegate.run", run)];
        let span = tracer.build_with_context(tracer.span_builder("sync").with_attributes(attributes), &Context::new());
        Run { context: Context::new().with_span(span), stage: None }
    }

    /// What happens between its begin and its end.
    fn hear(&mut self, event: &Event<'_>) {
        match event {
            Event::Planned { mode, reason } => self.note([
                KeyValue::new("lakegate.mode", mode.as_str()),
                KeyValue::new("lakegate.reason", (*reason).to_owned()),
            ]),
            Event::Entered(stage) => {
                // The stage before it ends first.
                self.stage = None;
                self.stage = Some(global::tracer(SCOPE).start_with_context(stage.as_str(), &self.context));
            }
            Event::Waiting { blockers, .. } => self.tell("the publish waits for its lock", (*blockers).to_owned()),
            Event::Warning(text) => self.tell("warning", (*text).to_owned()),
            _ => {}
        }
    }

    fn note(&self, attributes: impl IntoIterator<Item = KeyValue>) {
        self.context.span().set_attributes(attributes);
    }

    fn tell(&self, what: &'static str, detail: String) {
        self.context.span().add_event(what, vec![KeyValue::new("detail", detail)]);
    }

    fn finish(mut self, outcome: &RunOutcome) {
        self.stage = None;
        self.note([
            KeyValue::new("lakegate.state", outcome.state.as_str()),
            KeyValue::new("lakegate.rows.inserted", outcome.rows.inserted as i64),
            KeyValue::new("lakegate.rows.updated", outcome.rows.updated as i64),
            KeyValue::new("lakegate.rows.deleted", outcome.rows.deleted as i64),
        ]);
    }

    fn fail(mut self, error: &Error) {
        let code = error.code().to_string();
        if let Some(mut stage) = self.stage.take() {
            stage.set_status(Status::error(code.clone()));
        }
        self.note([KeyValue::new("error.type", code)]);
        self.context.span().set_status(Status::error(error.to_string()));
    }
}

impl Observer for RunTraces {
    fn observe(&self, pipeline: &TableName, event: &Event<'_>) {
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::RunStarted { run } => _ = runs.insert(pipeline.clone(), Run::begin(pipeline, *run)),
            Event::Failed(error) | Event::Retrying { error, .. } => {
                _ = runs.remove(pipeline).map(|run| run.fail(error))
            }
            Event::Finished(outcome) => _ = runs.remove(pipeline).map(|run| run.finish(outcome)),
            _ => _ = runs.get_mut(pipeline).map(|run| run.hear(event)),
        }
    }
}
