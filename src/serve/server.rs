//! The start of the read API, and its end when it is told to.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::cors;
use super::front::Front;
use super::metrics::ReadMetrics;
use super::reader::{Reader, lookup_connections};
use super::reply;
use super::router::{route, router};
use crate::auth::Doorkeeper;
use crate::domain::{ApiSettings, Auth, Error, Limits, Result, Schemas};
use crate::http::{AccessLog, Api, LastLine, Listener, Traced, Workers};
use crate::postgres::Connector;

/// How long the start waits to hear of the published tables.
const SETTLE: Duration = Duration::from_secs(5);

/// What the read API needs to know.
#[derive(Debug, Clone)]
pub struct ServeSettings {
    /// The project's schemas.
    pub schemas: Schemas,
    /// Where to listen, and for which host names.
    pub api: ApiSettings,
    /// Who may read.
    pub auth: Auth,
    /// Connections, page size and the statement timeout, which must not be zero.
    pub limits: Limits,
    /// What counts the answers.
    pub metrics: ReadMetrics,
    /// Whether each request is to be a span.
    pub traced: bool,
}

/// A server that listens.
#[derive(Debug)]
pub struct BoundServer {
    /// The address, with the port that was taken where 0 was asked for.
    pub addr: SocketAddr,
    /// Tells who asks, by credentials that are kept up as long as the server runs.
    pub doorkeeper: Arc<Doorkeeper>,
    /// Ends when the server has ended, after it was told to.
    pub task: JoinHandle<()>,
}

/// Starts the read API and listens until `shutdown`; then requests under way are finished, within a few seconds.
///
/// Postgres need not be up: until it is, requests are answered 503 and `/readyz` says why.
///
/// # Errors
/// Those of [`Listener::bind`].
pub async fn serve(settings: ServeSettings, connector: &Connector, shutdown: CancellationToken) -> Result<BoundServer> {
    let ServeSettings { schemas, api, auth, limits, metrics, traced } = settings;
    let cors = cors::layer(&api.cors);
    let log = api.access_log.map(|share| AccessLog::start(share, route)).transpose();
    let log = log.map_err(|error| Error::internal("the access log cannot be started").because(error))?;
    let listener = Listener::bind(Api::Read, api, &auth).await?;
    let addr = listener.addr();
    let doorkeeper = Arc::new(Doorkeeper::new(&auth));
    // A worker without a connection for its lookups could answer nobody.
    let workers = Workers::start(lookup_connections(&limits) as usize)?;
    let runtimes: Vec<Handle> = workers.runtimes().cloned().collect();
    let reader = Reader::start(connector, &schemas, &limits, &metrics, Arc::clone(&doorkeeper), &runtimes)?;
    let (issuer, until) = (Arc::clone(&doorkeeper), shutdown.clone());
    tokio::spawn(async move { issuer.follow_issuer(&until).await });
    // Better to be late than to say of every table that it is not known; but not for ever.
    let _ = timeout(SETTLE, reader.settle()).await;
    let gate = listener.gate(reply::refusal);
    let has_cors = cors.is_some();
    let routes = router(Arc::clone(&reader), cors, Arc::clone(&gate));
    let task = tokio::spawn(async move {
        let server = Server { listener, workers, log, traced };
        if has_cors {
            // Whatever pages of other origins may read passes the layer that says so.
            server.answer(routes, shutdown).await;
        } else {
            server.answer(Front::new(Arc::clone(&reader), gate, routes), shutdown).await;
        }
        // The reader's connections live as long as the last request.
        drop(reader);
    });
    Ok(BoundServer { addr, doorkeeper, task })
}

/// What tells of requests stands before what answers them, where it is wanted.
struct Server {
    listener: Listener,
    workers: Workers,
    log: Option<(AccessLog, LastLine)>,
    traced: bool,
}

impl Server {
    async fn answer<S>(self, answers: S, shutdown: CancellationToken)
    where
        S: Service<Request, Response = Response, Error = Infallible, Future: Send + 'static> + Clone + Send + 'static,
    {
        if self.traced {
            self.answer_logged(Traced::over(answers, route), shutdown).await;
        } else {
            self.answer_logged(answers, shutdown).await;
        }
    }

    async fn answer_logged<S>(self, answers: S, shutdown: CancellationToken)
    where
        S: Service<Request, Response = Response, Error = Infallible, Future: Send + 'static> + Clone + Send + 'static,
    {
        let Server { listener, workers, log, .. } = self;
        match log {
            Some((log, last_line)) => {
                listener.run_on(Some(&workers), log.over(answers), shutdown).await;
                last_line.written().await;
            }
            None => listener.run_on(Some(&workers), answers, shutdown).await,
        }
    }
}
