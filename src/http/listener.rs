//! The listener: HTTP/1 and HTTP/2, with TLS or without, bounded, and drained when it is told to end.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
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
use super::tls;
use super::workers::Workers;

/// Connections at a time; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 4096;

/// The most bytes of a request's head; more is answered 431, as are more than 100 headers (the HTTP library's own
/// bound). Leaves room for a URL of the longest kind.
const MAX_HEAD_BYTES: usize = 32 << 10;

/// How long a client may take to send a request's head, and be idle between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

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
        Ok(Listener { api, settings, listener, addr, tls, stall: STALL })
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
            let spoken = Arc::new(AtomicBool::new(false));
            let service = TowerToHyperService::new(noting(answers.clone(), peer, Arc::clone(&spoken)));
            let stall = self.stall;
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
                    () = silent(&spoken) => {}
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
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD_BYTES);
    http.http2()
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(HEAD_TIMEOUT)
        .keep_alive_timeout(HEAD_TIMEOUT);
    http
}

/// What answers, noting that a request has come, and telling from where.
fn noting<S>(
    answers: S,
    peer: Peer,
    spoken: Arc<AtomicBool>,
) -> impl Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send> + Clone + Send
where
    S: Service<Request<Body>, Response = Response, Error = Infallible, Future: Send> + Clone + Send,
{
    answers.map_request(move |request: Request<Incoming>| {
        spoken.store(true, Ordering::Relaxed);
        // Most have none, which takes no allocation.
        let mut request = request.map(|body| if body.is_end_stream() { Body::empty() } else { Body::new(body) });
        request.extensions_mut().insert(peer);
        request
    })
}

/// Ends when a new connection has not brought a request in time. What comes before the first request's head (which of
/// the HTTP versions it is) has no timeout otherwise.
async fn silent(spoken: &AtomicBool) {
    sleep(HEAD_TIMEOUT).await;
    if spoken.load(Ordering::Relaxed) {
        std::future::pending().await
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

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_cut_off() {
        let settings = ApiSettings {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            hosts: Vec::new(),
            tls: None,
            cors: Vec::new(),
            access_log: None,
        };
        let mut listener = Listener::bind(Api::Read, settings, &Auth::Unset).await.unwrap();
        listener.stall = Duration::from_millis(50);
        let (addr, shutdown) = (listener.addr(), CancellationToken::new());
        let (let_go, gone) = oneshot::channel();
        let answer = Body::from(Bytes::from_owner(Noticed(vec![0; BYTES], Some(let_go))));
        let answer = Arc::new(std::sync::Mutex::new(Some(answer)));
        let routes = Router::new().route("/", get(async move || answer.lock().unwrap().take().unwrap()));
        let running = tokio::spawn(listener.run(routes, shutdown.clone()));
        let mut client = TcpStream::connect(addr).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        gone.await.unwrap();
        let mut taken = Vec::new();
        let _ = client.read_to_end(&mut taken).await;
        assert!(taken.len() < BYTES, "{} bytes came all the same", taken.len());
        shutdown.cancel();
        running.await.unwrap();
    }
}
