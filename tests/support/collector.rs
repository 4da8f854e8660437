//! A collector of spans: a real HTTP server that takes OTLP and keeps what it was sent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message as _;
use tokio::task::JoinHandle;

/// A span, in words.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    /// The `service.name` of who sent it.
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) attributes: HashMap<String, String>,
    pub(crate) failed: bool,
    pub(crate) nanoseconds: u64,
}

/// A running collector; it ends when dropped.
pub(crate) struct Collector {
    /// For `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub(crate) endpoint: String,
    inbox: Arc<Mutex<Inbox>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Inbox {
    spans: Vec<Span>,
    /// All that was sent, as bytes.
    bytes: Vec<u8>,
}

impl Collector {
    pub(crate) async fn start() -> Collector {
        Collector::answering(StatusCode::OK).await
    }

    /// One that answers all it is sent with this status.
    pub(crate) async fn answering(status: StatusCode) -> Collector {
        let inbox = Arc::new(Mutex::new(Inbox::default()));
        let state = (Arc::clone(&inbox), status);
        let router = Router::new().route("/v1/traces", post(take)).with_state(state);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Collector { endpoint, inbox, task }
    }

    /// All spans so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.inbox.lock().unwrap().spans.clone()
    }

    /// The one span of this name.
    pub(crate) fn span(&self, name: &str) -> Span {
        let (mut named, all): (Vec<Span>, _) = (self.spans(), self.spans());
        named.retain(|span| span.name == name);
        let [span] = named.as_slice() else { panic!("not one span `{name}`: {all:?}") };
        span.clone()
    }

    /// Whether this text was sent, in whatever place.
    pub(crate) fn was_told(&self, text: &str) -> bool {
        self.inbox.lock().unwrap().bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn words(attributes: &[KeyValue]) -> HashMap<String, String> {
    let word = |attribute: &KeyValue| {
        let value = match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(Value::StringValue(text)) => text.clone(),
            Some(Value::IntValue(number)) => number.to_string(),
            other => format!("{other:?}"),
        };
        (attribute.key.clone(), value)
    };
    attributes.iter().map(word).collect()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn take(
    State((inbox, status)): State<(Arc<Mutex<Inbox>>, StatusCode)>,
    headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let request = ExportTraceServiceRequest::decode(body.clone()).unwrap();
    let mut inbox = inbox.lock().unwrap();
    inbox.bytes.extend_from_slice(&body);
    for sent in request.resource_spans {
        let service = words(&sent.resource.unwrap().attributes)["service.name"].clone();
        for span in sent.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            inbox.spans.push(Span {
                service: service.clone(),
                trace: hexadecimal(&span.trace_id),
                id: hexadecimal(&span.span_id),
                parent: hexadecimal(&span.parent_span_id),
                attributes: words(&span.attributes),
                // 2 is an error.
                failed: span.status.is_some_and(|status| status.code == 2),
                nanoseconds: span.end_time_unix_nano - span.start_time_unix_nano,
                name: span.name,
            });
        }
    }
    let answer = ExportTraceServiceResponse::default().encode_to_vec();
    (status, [(header::CONTENT_TYPE, "application/x-protobuf")], answer)
}
