//! A span a request, as the semantic conventions of OpenTelemetry for HTTP servers name things.
//!
//! A trace that a client has begun (`traceparent`, W3C Trace Context) is continued. Spans name the route and the table, never the
//! path or the query: keys of rows stand there.

use std::convert::Infallible;
use std::task::{Context as Poller, Poll};

use axum::extract::Request;
use axum::response::Response;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{FutureExt as _, SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue, global};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tower::Service;

use super::access::Route;
use super::gate::REQUEST_ID;
use super::noted::Noted;

/// Who makes these spans.
const SCOPE: &str = "lakegate.http";

/// Something that answers, and whose requests are traced.
#[derive(Debug, Clone)]
pub struct Traced<S> {
    route: Route,
    answers: S,
}

impl<S> Traced<S> {
    /// Answers as `answers` does. Requests without a route are of no interest.
    pub(crate) fn over(answers: S, route: Route) -> Self {
        Traced { route, answers }
    }
}

impl<S> Service<Request> for Traced<S>
where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send + 'static>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Poller<'_>) -> Poll<Result<(), Infallible>> {
        self.answers.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let span = (self.route)(request.uri().path()).map(|route| begin(&request, route));
        // What is not sampled costs no more than that.
        let Some(context) = span.filter(|context| context.span().is_recording()) else {
            return self.answers.call(request).boxed();
        };
        let noted = Noted::of(request.extensions_mut());
        // What is at hand is answered here, the rest while the future is polled.
        let attached = context.clone().attach();
        let answer = self.answers.call(request);
        drop(attached);
        async move {
            let response = answer.with_context(context.clone()).await?;
            end(&context, &noted, &response);
            Ok(response)
        }
        .boxed()
    }
}

fn begin(request: &Request, route: &'static str) -> Context {
    let parent = TraceContextPropagator::new().extract(&HeaderExtractor(request.headers()));
    let method = match request.method().as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "OPTIONS" | "PATCH") => known.to_owned(),
        // A method may be any text.
        _ => "_OTHER".to_owned(),
    };
    let tracer = global::tracer(SCOPE);
    let attributes = vec![KeyValue::new("http.request.method", method.clone()), KeyValue::new("http.route", route)];
    let span = tracer.span_builder(format!("{method} {route}")).with_kind(SpanKind::Server).with_attributes(attributes);
    let span = tracer.build_with_context(span, &parent);
    parent.with_span(span)
}

fn end(context: &Context, noted: &Noted, response: &Response) {
    let (span, subject, status) = (context.span(), noted.subject(), response.status());
    span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
    let id = response.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let operation = subject.operation.map(str::to_owned);
    let known = [
        ("lakegate.request", id.map(str::to_owned)),
        ("lakegate.table", subject.table),
        ("lakegate.operation", operation),
        ("user.id", subject.caller),
    ];
    span.set_attributes(known.into_iter().filter_map(|(name, value)| Some(KeyValue::new(name, value?))));
    if status.is_server_error() {
        span.set_attribute(KeyValue::new("error.type", status.as_str().to_owned()));
        span.set_status(Status::error(""));
    }
    span.end();
}
