//! The listener: HTTP/1 and HTTP/2, with TLS or without, bounded, and drained when it is told to end.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutWriter;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt as _};

use crate::domain::{ApiSettings, Auth, Code, Error, Result};

use super::Api;
use super::gate::Gate;
use super::streams::Streams;
use super::tls;
use super::workers::Workers;

/// Connections at a time; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 4096;

/// The most bytes of a request's head; more is answered 431, as are more than 100 headers over HTTP/1 (the HTTP library's
/// own bound). Leaves room for a URL of the longest kind.
const MAX_HEAD_BYTES: usize = 32 << 10;

/// How long a client may ask nothing, and take to send a request's head.
const IDLE: Duration = Duration::from_secs(30);

/// How long a client may take none of the bytes that are sent to it.
const STALL: Duration = Duration::from_secs(30);

/// How long requests under way may take once the server is told to end.
const DRAIN: Duration = Duration::from_secs(5);

/// Streams of one HTTP/2 connection at a time.
const MAX_STREAMS: u32 = 128;

/// Where a request comes from: among its extensions.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// An address that is listened on. Connections wait until [`Listener::run`].
#[derive(Debug)]
pub struct Listener {
    api: Api,
    settings: ApiSettings,
    listener: TcpListener,
    addr: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    idle: Duration,
    stall: Duration,
}

impl Listener {
    /// Takes the address of an API.
    ///
    /// # Errors
    /// [`Code::AuthRequired`] off loopback without credentials or `auth: none`; [`Code::PortTaken`]; [`Code::InvalidValue`]
    /// for an address that cannot be listened on; [`Code::ApiTls`].
    pub async fn bind(api: Api, settings: ApiSettings, auth: &Auth) -> Result<Listener> {
        let listen = settings.listen;
        if !listen.ip().is_loopback() && !may_be_reached(api, auth) {
            return Err(unguarded(api, listen));
        }
        let tls = settings.tls.clone().map(tls::config).transpose()?;
        let listener = TcpListener::bind(listen).await.map_err(|error| not_bound(api, listen, error))?;
        let addr = listener.local_addr().map_err(|error| not_bound(api, listen, error))?;
        Ok(Listener { api, settings, listener, addr, tls, idle: IDLE, stall: STALL })
    }

    /// The address, with the port that was taken where 0 was asked for.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What every request to this API has to pass; `refuse` makes the answer to one that does not.
    #[must_use]
    pub fn gate(&self, refuse: fn(&Error) -> Response) -> Arc<Gate> {
        Gate::new(self.api, &self.settings, self.addr, refuse)
    }

    /// Answers requests by a router, or what stands before one, until `shutdown`; then those under way are finished, within a few
    /// seconds.
    pub async fn run<S>(self, answers: S, shutdown: CancellationToken)
    where
        S: Service<Request<Body>, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static,
    {
        self.run_on(None, answers, shutdown).await;
    }

    /// The same, on threads that are there for it.
    pub async fn run_on<S>(self, workers: Option<&Workers>, answers: S, shutdown: CancellationToken)
    where
        S: Service<Request<Body>, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static,
    {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        let (http, here) = (http(), Handle::current());
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = accept(&self.listener, &places) => accepted,
                Some(_) = connections.join_next() => continue,
            };
            let Some((stream, peer, place)) = accepted else { continue };
            let (runtime, dealt) =
                workers.and_then(Workers::deal).map_or((&here, None), |(at, dealt)| (at, Some(dealt)));
            let streams = Arc::new(Streams::default());
            let service = service_fn({
                let (answers, streams) = (answers.clone(), Arc::clone(&streams));
                move |request| answer(answers.clone(), request, peer, &streams)
            });
            let (idle, stall) = (self.idle, self.stall);
            let (http, tls, watcher) = (http.clone(), self.tls.clone().map(TlsAcceptor::from), graceful.watcher());
            let served = async move {
                // It belongs to the runtime that drives it.
                let Ok(stream) = stream.and_then(TcpStream::from_std) else { return };
                let mut stream = Box::pin(TimeoutWriter::new(stream));
                stream.as_mut().set_timeout_pinned(Some(stall));
                let served = async {
                    // How a connection ends is its client's affair.
                    match tls {
                        None => _ = watcher.watch(http.serve_connection(TokioIo::new(stream), service)).await,
                        Some(tls) => {
                            let Ok(stream) = tls.accept(stream).await else { return };
                            _ = watcher.watch(http.serve_connection(TokioIo::new(stream), service)).await;
                        }
                    }
                };
                tokio::select! {
                    () = served => {}
                    () = streams.deserted(idle, stall) => {}
                }
                drop((place, dealt));
            };
            connections.spawn_on(served, runtime);
        }
        drop(self.listener);
        if timeout(DRAIN, graceful.shutdown()).await.is_err() {
            tracing::warn!("requests were still under way when the server ended");
        }
    }
}

/// Whether an API may be reached by other machines.
fn may_be_reached(api: Api, auth: &Auth) -> bool {
    match (auth, api) {
        (Auth::Unset, _) => false,
        (Auth::None, _) | (Auth::Required(_), Api::Read) => true,
        (Auth::Required(credentials), Api::Admin) => credentials.keys,
    }
}

fn unguarded(api: Api, listen: SocketAddr) -> Error {
    let section = api.section();
    let detail = format!("`{section}.listen` is {listen}, which other machines can reach, and no `auth` is declared");
    Error::new(Code::AuthRequired, detail).hint(match api {
        Api::Read => {
            "listen on 127.0.0.1, or declare `auth: {keys: true}` in lakegate.yaml, or write `auth: none` to let everybody \
             read"
        }
        Api::Admin => {
            "listen on 127.0.0.1, or declare `auth: {keys: true}` in lakegate.yaml, or write `auth: none` to let everybody \
             read every table and start, cancel and pause syncs"
        }
    })
}

fn not_bound(api: Api, listen: SocketAddr, error: io::Error) -> Error {
    let (section, variable) = (api.section(), api.listen_variable());
    if error.kind() == io::ErrorKind::AddrInUse {
        return Error::new(Code::PortTaken, format!("something else listens on {listen}"))
            .hint(format!("stop it, or choose another address with `{section}.listen` or {variable}"))
            .because(error);
    }
    Error::new(Code::InvalidValue, format!("`{section}.listen`: {listen} cannot be listened on: {error}"))
        .hint("choose an address of this machine and a port that this account may use")
        .because(error)
}

/// The next connection and its place among [`MAX_CONNECTIONS`].
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(io::Result<std::net::TcpStream>, Peer, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            // Answers are written whole; without this the last packet of one would wait for an acknowledgement.
            let _ = stream.set_nodelay(true);
            Some((stream.into_std(), Peer(peer.ip()), place))
        }
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            // Without a file descriptor to spare, the next try would fail at once.
            sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

fn http() -> Builder<TokioExecutor> {
    let mut http = Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(MAX_HEAD_BYTES);
    http.http2()
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(IDLE)
        .keep_alive_timeout(IDLE);
    http
}

/// Answers a request that comes from there, and watches that the answer is taken.
fn answer<S>(
    answers: S,
    request: Request<Incoming>,
    peer: Peer,
    streams: &Arc<Streams>,
) -> impl Future<Output = std::result::Result<Response, Infallible>> + Send + use<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible, Future: Send> + Send,
{
    let stream = streams.open(request.version());
    // Most have none, which takes no allocation.
    let mut request = request.map(|body| if body.is_end_stream() { Body::empty() } else { Body::new(body) });
    request.extensions_mut().insert(peer);
    let answer = answers.oneshot(request);
    async move {
        let response = answer.await?;
        Ok(match stream {
            Some(stream) => response.map(|body| stream.watch(body)),
            None => response,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::Router;
    use axum::body::Bytes;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    use super::*;

    /// More than the buffers of two sockets hold.
    const BYTES: usize = 64 << 20;

    struct Noticed(Vec<u8>, Option<oneshot::Sender<()>>);

    impl AsRef<[u8]> for Noticed {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    impl Drop for Noticed {
        fn drop(&mut self) {
            let _ = self.1.take().map(|gone| gone.send(()));
        }
    }

    /// A listener of little patience, and what ends it.
    async fn listening(idle: Duration, routes: Router) -> (SocketAddr, impl Future<Output = ()>) {
        let settings = ApiSettings {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            hosts: Vec::new(),
            tls: None,
            cors: Vec::new(),
            access_log: None,
        };
        let mut listener = Listener::bind(Api::Read, settings, &Auth::Unset).await.unwrap();
        (listener.idle, listener.stall) = (idle, Duration::from_millis(50));
        let (addr, shutdown) = (listener.addr(), CancellationToken::new());
        let running = tokio::spawn(listener.run(routes, shutdown.clone()));
        let end = async move {
            shutdown.cancel();
            running.await.unwrap();
        };
        (addr, end)
    }

    /// A route with a large answer, and what tells that it was let go.
    fn large() -> (Router, oneshot::Receiver<()>) {
        let (let_go, gone) = oneshot::channel();
        let answer = Body::from(Bytes::from_owner(Noticed(vec![0; BYTES], Some(let_go))));
        let answer = Arc::new(std::sync::Mutex::new(Some(answer)));
        (Router::new().route("/", get(async move || answer.lock().unwrap().take().unwrap())), gone)
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_cut_off() {
        let (routes, gone) = large();
        let (addr, end) = listening(IDLE, routes).await;
        let mut client = TcpStream::connect(addr).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        gone.await.unwrap();
        let mut taken = Vec::new();
        let _ = client.read_to_end(&mut taken).await;
        assert!(taken.len() < BYTES, "{} bytes came all the same", taken.len());
        end.await;
    }

    /// An HTTP/2 connection with windows of so many bytes, and what drives it.
    async fn http2(
        addr: SocketAddr,
        window: u32,
    ) -> (h2::client::SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>) {
        let stream = TcpStream::connect(addr).await.unwrap();
        let mut client = h2::client::Builder::new();
        let (asking, driving) = client.initial_window_size(window).handshake(stream).await.unwrap();
        (asking, tokio::spawn(driving))
    }

    fn request(addr: SocketAddr) -> Request<()> {
        Request::get(format!("http://{addr}/")).body(()).unwrap()
    }

    #[tokio::test]
    async fn a_client_that_closes_its_windows_is_cut_off_whatever_else_it_says() {
        for window in [0, 1000] {
            let (routes, gone) = large();
            let (addr, end) = listening(Duration::from_millis(50), routes).await;
            let (mut client, driving) = http2(addr, window).await;
            let (answer, _) = client.send_request(request(addr), true).unwrap();
            let _answer = answer.await.unwrap();
            gone.await.unwrap();
            let _ = driving.await.unwrap();
            end.await;
        }
    }

    #[tokio::test]
    async fn a_connection_over_which_nothing_more_is_asked_loses_its_place() {
        let routes = Router::new().route("/", get(async || "here"));
        let (addr, end) = listening(Duration::from_millis(50), routes).await;
        let (mut client, driving) = http2(addr, 1 << 20).await;
        let (answer, _) = client.send_request(request(addr), true).unwrap();
        let mut answer = answer.await.unwrap().into_body();
        assert_eq!(answer.data().await.unwrap().unwrap(), "here");
        // Its other end is still there: `client` is not dropped.
        let _ = driving.await.unwrap();
        drop(client);
        end.await;
    }
}
