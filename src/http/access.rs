//! The access log: a line of JSON a request, of a share of them, on standard output.
//!
//! Lines name the route, the table and what was asked of it, never the path or the query: keys of rows stand there, which
//! may be personal data. Lines are written by a thread of their own, so that whoever reads them slowly holds up no request;
//! what does not fit into the queue before it is left out, and counted.

use std::convert::Infallible;
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use axum::body::HttpBody as _;
use axum::extract::Request;
use axum::http::Method;
use axum::response::Response;
use chrono::{SecondsFormat, Utc};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use rand::Rng as _;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tower::Service;

use super::gate::REQUEST_ID;
use super::listener::Peer;
use super::noted::{Noted, Subject};

/// Lines that wait to be written.
const QUEUE: usize = 4_096;

/// The longest method that is written out.
const MAX_METHOD: usize = 32;

/// How long the end waits until the last lines are written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// A line.
#[derive(Debug, Serialize)]
struct Line {
    time: String,
    request: String,
    method: String,
    route: &'static str,
    table: Option<String>,
    operation: Option<&'static str>,
    status: u16,
    bytes: Option<u64>,
    seconds: f64,
    caller: Option<String>,
    client: Option<IpAddr>,
}

/// How the path of a request is shown: by one of few texts of ours. `None` = the request is of no interest as long as it
/// is answered.
pub(crate) type Route = fn(&str) -> Option<&'static str>;

/// The log of one API.
#[derive(Debug)]
pub struct AccessLog {
    share: f64,
    route: Route,
    lines: SyncSender<Line>,
    left_out: Arc<AtomicU64>,
}

/// Tells when all lines have been written.
#[derive(Debug)]
pub struct LastLine(oneshot::Receiver<()>);

impl LastLine {
    /// Waits until all lines have been written after the log was dropped, but not for long.
    pub async fn written(self) {
        let _ = timeout(LAST_LINES, self.0).await;
    }
}

impl AccessLog {
    /// A log on standard output of this share of requests, and of all that fail by a fault of the server.
    ///
    /// # Errors
    /// When there cannot be a thread more.
    pub fn start(share: f64, route: Route) -> io::Result<(AccessLog, LastLine)> {
        AccessLog::start_on(share, route, io::stdout())
    }

    fn start_on(share: f64, route: Route, out: impl Write + Send + 'static) -> io::Result<(AccessLog, LastLine)> {
        let (lines, receiver) = sync_channel(QUEUE);
        let (ended, end) = oneshot::channel();
        let left_out = Arc::new(AtomicU64::new(0));
        let missing = Arc::clone(&left_out);
        thread::Builder::new().name("access log".to_owned()).spawn(move || {
            if let Err(error) = write_all(&receiver, out, &missing) {
                tracing::warn!(%error, "the access log has ended: nobody takes what stands on standard output");
            }
            let _ = ended.send(());
        })?;
        Ok((AccessLog { share, route, lines, left_out }, LastLine(end)))
    }

    /// Answers requests as `answers` does, and writes them down.
    pub fn over<S>(self, answers: S) -> Logged<S> {
        Logged { log: Arc::new(self), answers }
    }

    fn write(&self, line: Line) {
        if self.lines.try_send(line).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes lines as they come, until there will be no more.
fn write_all(lines: &Receiver<Line>, mut out: impl Write, left_out: &AtomicU64) -> io::Result<()> {
    while let Ok(first) = lines.recv() {
        // Whatever waits goes in one piece.
        let mut text = Vec::new();
        for line in std::iter::once(first).chain(lines.try_iter().take(QUEUE)) {
            serde_json::to_writer(&mut text, &line)?;
            text.push(b'\n');
        }
        out.write_all(&text)?;
        out.flush()?;
        match left_out.swap(0, Ordering::Relaxed) {
            0 => {}
            lines => tracing::warn!(lines, "the access log lacks lines: they came faster than they were taken"),
        }
    }
    Ok(())
}

/// Something that answers, and whose requests are written down.
#[derive(Debug, Clone)]
pub struct Logged<S> {
    log: Arc<AccessLog>,
    answers: S,
}

impl<S> Service<Request> for Logged<S>
where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send + 'static>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.answers.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let log = Arc::clone(&self.log);
        let begun = log.begin(&mut request);
        let answer = self.answers.call(request);
        async move {
            let response = answer.await?;
            log.end(begun, &response);
            Ok(response)
        }
        .boxed()
    }
}

/// What is known of a request when it comes.
struct Begun {
    at: Instant,
    method: Method,
    route: Option<&'static str>,
    is_sampled: bool,
    client: Option<IpAddr>,
    noted: Noted,
}

impl AccessLog {
    fn begin(&self, request: &mut Request) -> Begun {
        let noted = Noted::of(request.extensions_mut());
        Begun {
            at: Instant::now(),
            method: request.method().clone(),
            route: (self.route)(request.uri().path()),
            client: request.extensions().get::<Peer>().map(|Peer(address)| *address),
            is_sampled: self.share > 0.0 && rand::rng().random_bool(self.share.min(1.0)),
            noted,
        }
    }

    fn end(&self, begun: Begun, response: &Response) {
        let Begun { at, method, route, is_sampled, client, noted } = begun;
        let failed = response.status().is_server_error();
        let Some(route) = route.or(failed.then_some(OTHER)).filter(|_| failed || is_sampled) else { return };
        let Subject { table, operation, caller } = noted.subject();
        let id = response.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
        self.write(Line {
            time: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
            request: id.to_owned(),
            method: method.as_str().chars().take(MAX_METHOD).collect(),
            route,
            table,
            operation,
            status: response.status().as_u16(),
            bytes: response.body().size_hint().exact(),
            seconds: at.elapsed().as_secs_f64(),
            caller,
            client,
        });
    }
}

/// Any other path.
pub const OTHER: &str = "other";

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::routing::get;
    use axum::{Extension, Router};
    use serde_json::Value;
    use tower::ServiceExt as _;

    use super::*;

    /// Takes the lines.
    struct Taken(Arc<Mutex<Vec<u8>>>);

    impl Write for Taken {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn route(path: &str) -> Option<&'static str> {
        match path {
            "/quiet" => None,
            path if path.starts_with("/rows/") => Some("/rows/{key}"),
            _ => Some(OTHER),
        }
    }

    /// The lines of requests for these paths.
    async fn lines(share: f64, paths: &[&str]) -> Vec<Value> {
        let taken = Arc::default();
        let (log, last) = AccessLog::start_on(share, route, Taken(Arc::clone(&taken))).unwrap();
        let about = |noted: Option<Extension<Noted>>| async move {
            noted.unwrap().0.asks("orders", "row");
            "four"
        };
        let fails = || async { StatusCode::SERVICE_UNAVAILABLE };
        let routes = Router::new()
            .route("/rows/{key}", get(about))
            .route("/broken", get(fails))
            .route("/quiet", get(|| async { "" }));
        let routes = log.over(routes);
        for path in paths {
            let request = Request::get(*path).body(Body::empty()).unwrap();
            routes.clone().oneshot(request).await.unwrap();
        }
        drop(routes);
        last.written().await;
        let taken = taken.lock().unwrap().clone();
        let lines = String::from_utf8(taken).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[tokio::test]
    async fn a_line_says_what_was_asked_and_how_it_went_and_no_key() {
        let lines = lines(1.0, &["/rows/alice%40example.com?columns=secret"]).await;
        let [line] = lines.as_slice() else { panic!("{lines:?}") };
        assert_eq!(
            (&line["method"], &line["route"], &line["table"], &line["operation"], &line["status"], &line["bytes"]),
            (&"GET".into(), &"/rows/{key}".into(), &"orders".into(), &"row".into(), &200.into(), &4.into())
        );
        assert!(line["seconds"].as_f64().unwrap() < 60.0);
        let text = line.to_string();
        assert!(!text.contains("alice") && !text.contains("secret"), "{text}");
    }

    #[tokio::test]
    async fn faults_of_the_server_are_always_told_and_others_by_their_share() {
        let routes =
            |lines: Vec<Value>| -> Vec<u64> { lines.iter().map(|line| line["status"].as_u64().unwrap()).collect() };
        let asked = ["/rows/1", "/broken", "/nothing", "/quiet"];
        assert_eq!(routes(lines(0.0, &asked).await), [503]);
        assert_eq!(routes(lines(1.0, &asked).await), [200, 503, 404]);
        let many = vec!["/rows/1"; 1_000];
        let told = lines(0.5, &many).await.len();
        // 500 and eleven standard deviations.
        assert!((325..=675).contains(&told), "{told}");
    }

    #[tokio::test]
    async fn whoever_takes_nothing_holds_up_no_request() {
        struct Stuck(mpsc::Receiver<()>);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let _ = self.0.recv();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (go_on, waits) = mpsc::channel();
        let (log, last) = AccessLog::start_on(1.0, route, Stuck(waits)).unwrap();
        let left_out = Arc::clone(&log.left_out);
        let routes = log.over(Router::new().route("/rows/{key}", get(|| async { "" })));
        let ask = async || {
            let request = Request::get("/rows/1").body(Body::empty()).unwrap();
            routes.clone().oneshot(request).await.unwrap()
        };
        while left_out.load(Ordering::Relaxed) == 0 {
            assert_eq!(ask().await.status(), StatusCode::OK);
        }
        drop(routes);
        drop(go_on);
        last.written().await;
    }
}
