//! The start of the read API, and its end when it is told to.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::cors;
use super::front::Front;
use super::metrics::ReadMetrics;
use super::reader::Reader;
use super::reply;
use super::router::{route, router};
use crate::auth::Doorkeeper;
use crate::domain::{ApiSettings, Auth, Error, Limits, Result, Schemas};
use crate::http::{AccessLog, Api, LastLine, Listener};
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
    let ServeSettings { schemas, api, auth, limits, metrics } = settings;
    let cors = cors::layer(&api.cors);
    let log = api.access_log.map(|share| AccessLog::start(share, route)).transpose();
    let log = log.map_err(|error| Error::internal("the access log cannot be started").because(error))?;
    let listener = Listener::bind(Api::Read, api, &auth).await?;
    let addr = listener.addr();
    let doorkeeper = Arc::new(Doorkeeper::new(&auth));
    let reader = Reader::start(connector, &schemas, &limits, &metrics, Arc::clone(&doorkeeper))?;
    let (issuer, until) = (Arc::clone(&doorkeeper), shutdown.clone());
    tokio::spawn(async move { issuer.follow_issuer(&until).await });
    // Better to be late than to say of every table that it is not known; but not for ever.
    let _ = timeout(SETTLE, reader.settle()).await;
    let gate = listener.gate(reply::refusal);
    let has_cors = cors.is_some();
    let routes = router(Arc::clone(&reader), cors, Arc::clone(&gate));
    let task = tokio::spawn(async move {
        if has_cors {
            // Whatever pages of other origins may read passes the layer that says so.
            answer(listener, routes, log, shutdown).await;
        } else {
            answer(listener, Front::new(Arc::clone(&reader), gate, routes), log, shutdown).await;
        }
        // The reader's connections live as long as the last request.
        drop(reader);
    });
    Ok(BoundServer { addr, doorkeeper, task })
}

/// Listens until `shutdown`, and writes down what is asked where there is a log.
async fn answer<S>(listener: Listener, answers: S, log: Option<(AccessLog, LastLine)>, shutdown: CancellationToken)
where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send + 'static> + Clone + Send + 'static,
{
    match log {
        Some((log, last_line)) => {
            listener.run(log.over(answers), shutdown).await;
            last_line.written().await;
        }
        None => listener.run(answers, shutdown).await,
    }
}
