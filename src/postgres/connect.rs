//! Sessions: connecting, what each kind of session sets, and notifications.

use std::fmt::Write;
use std::future::poll_fn;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls, Notification, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::embedded::Cluster;
use super::error::{Failure, explain, failure};
use super::local_socket::{LocalSocket, ShortWay};
use super::{tls, url};
use crate::domain::{Code, Error, Result};

/// The oldest server that is supported.
const OLDEST_MAJOR: u32 = 15;

/// Notifications that may wait before further ones are dropped.
const NOTIFICATIONS_WAITING: usize = 1024;

/// What a session is for: decides its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Control tables, leases, LISTEN, publishing.
    Control,
    /// Loading and indexing: statements of any length, ended within a second or so when this process dies.
    Sync,
    /// Lookups by key: one plan per statement, always by index, nothing that starts workers, read-only.
    Lookup {
        /// The longest a statement may take; zero = no bound.
        statement_timeout: Duration,
    },
    /// Pages and large batches: as lookups, but planned for the values at hand.
    Page {
        /// The longest a statement may take; zero = no bound.
        statement_timeout: Duration,
    },
}

/// What every session sets, so that neither the meaning of our statements nor the text forms of values depend on the
/// server, the database or the role: names that are not qualified are those of the server itself.
const PLAIN_VALUES: &str = "SET search_path = pg_catalog, pg_temp; SET default_transaction_isolation = 'read committed'; \
     SET idle_session_timeout = 0; SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'iso_8601'; SET extra_float_digits = 1; ";

/// What sessions of short transactions set: a process that hangs in the midst of one gives its locks up as soon as it would
/// lose a lease. Without that, no other process could even start.
const CONTROL_HANGS: &str = "SET idle_in_transaction_session_timeout = '15s'; ";

/// What sessions that read by key set: a stale or missing statistic must never turn a lookup into a scan.
const BY_INDEX: &str = "SET jit = off; SET enable_seqscan = off; SET max_parallel_workers_per_gather = 0; \
     SET default_transaction_read_only = on; ";

/// What sessions of syncs set on a server of this machine: no more processes sort for an index than there are processors, or two.
/// Each one more, which Postgres would start where there are two, is one more run for the one process that merges them.
fn sort_by_processors() -> String {
    let helpers = available_parallelism().map_or(1, |processors| processors.get().saturating_sub(1).max(1));
    format!(
        "SELECT set_config(name, least(current_setting(name)::integer, {helpers})::text, false) \
         FROM (VALUES ('max_parallel_maintenance_workers')) AS setting(name)"
    )
}

impl Purpose {
    /// The statements that a session of this kind begins with, all of which a role without privileges may run.
    fn settings(self) -> String {
        let mut settings = PLAIN_VALUES.to_owned();
        match self {
            Purpose::Control => settings.push_str(CONTROL_HANGS),
            Purpose::Sync => settings.push_str(
                "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET lock_timeout = 0; SET jit = off; ",
            ),
            Purpose::Lookup { statement_timeout } | Purpose::Page { statement_timeout } => {
                settings.push_str(BY_INDEX);
                let _ = write!(settings, "SET statement_timeout = {}; ", statement_timeout.as_millis());
            }
        }
        if matches!(self, Purpose::Lookup { .. }) {
            settings.push_str("SET plan_cache_mode = force_generic_plan; ");
        }
        settings
    }
}

/// Makes sessions on one server; cheap to clone.
#[derive(Clone)]
pub struct Connector(Arc<Endpoint>);

enum Endpoint {
    Url { config: Config, tls: MakeRustlsConnect, timeout: Duration },
    Embedded { cluster: Arc<Cluster>, tls: MakeRustlsConnect },
}

/// Generous: the login on the same machine takes milliseconds, also while a load keeps all cores busy.
const EMBEDDED_TIMEOUT: Duration = Duration::from_secs(30);

impl Connector {
    /// A connector to the server of a connection string: `postgres://user:password@host:port/database?sslmode=…` or
    /// `key=value` pairs, with libpq's keys and their meaning. `sslmode` is `prefer` where it is left out; `require`
    /// encrypts without checking who answers, `verify-ca` and `verify-full` check. Does not connect yet.
    ///
    /// # Errors
    /// [`Code::InvalidUrl`], which repeats nothing of the string; [`Code::PostgresTls`] when a certificate file cannot
    /// be used.
    pub fn from_url(url: &SecretString) -> Result<Connector> {
        let target = url::parse(url)?;
        let tls = tls::connector(&target.tls)?;
        Ok(Connector(Arc::new(Endpoint::Url { config: target.config, tls, timeout: target.timeout })))
    }

    /// A connector to the embedded server, which it starts again when it has died.
    pub(super) fn embedded(cluster: Arc<Cluster>) -> Result<Connector> {
        let never = tls::TlsOptions { mode: tls::SslMode::Disable, roots: tls::Roots::System, client: None };
        Ok(Connector(Arc::new(Endpoint::Embedded { cluster, tls: tls::connector(&never)? })))
    }

    /// Where this connects, for people: host, port and database, without the login.
    pub fn place(&self) -> String {
        match &*self.0 {
            Endpoint::Url { config, .. } => place(config),
            Endpoint::Embedded { .. } => "the embedded Postgres".to_owned(),
        }
    }

    /// A new session.
    ///
    /// # Errors
    /// [`Code::PostgresUnreachable`], [`Code::PostgresAuth`], [`Code::PostgresTls`], [`Code::DatabaseMissing`];
    /// [`Code::PostgresVersion`] and [`Code::ServerEncoding`] when the server is not one that is supported.
    pub async fn connect(&self, purpose: Purpose, application_name: &str) -> Result<Session> {
        self.open(purpose, application_name, None).await
    }

    /// A new session for LISTEN, and what arrives on it. The receiver ends when the connection does. It holds a
    /// bounded number of notifications; when it is full, further ones are dropped, so that a slow listener cannot stop
    /// its own session: whoever listens also polls.
    ///
    /// # Errors
    /// As [`Connector::connect`].
    pub async fn connect_listening(&self, application_name: &str) -> Result<(Session, Notifications)> {
        let (sender, receiver) = mpsc::channel(NOTIFICATIONS_WAITING);
        Ok((self.open(Purpose::Control, application_name, Some(sender)).await?, receiver))
    }

    async fn open(&self, purpose: Purpose, name: &str, notify: Option<mpsc::Sender<Notification>>) -> Result<Session> {
        match &*self.0 {
            Endpoint::Url { config, tls, timeout } => {
                let dial = Dial { config, tls, timeout: *timeout, name };
                let opened = dial.open(purpose, notify).await;
                opened.map_err(|error| error.at(place(config)))
            }
            Endpoint::Embedded { cluster, tls } => {
                let config = cluster.config();
                let dial = Dial { config: &config, tls, timeout: EMBEDDED_TIMEOUT, name };
                match dial.open(purpose, notify.clone()).await {
                    Err(error) if error.code() == Code::PostgresUnreachable => {}
                    other => return other,
                }
                // It has died, or is on its way up or down.
                cluster.revive().await?;
                let config = cluster.config();
                Dial { config: &config, ..dial }.open(purpose, notify).await
            }
        }
    }
}

/// `host:port/database`, for people.
fn place(config: &Config) -> String {
    let mut text = String::from("Postgres at ");
    for (index, host) in config.get_hosts().iter().enumerate() {
        let port = config.get_ports().get(index).or(config.get_ports().first()).copied().unwrap_or(5432);
        let comma = if index == 0 { "" } else { "," };
        let _ = match host {
            Host::Tcp(name) if name.contains(':') => write!(text, "{comma}[{name}]:{port}"),
            Host::Tcp(name) => write!(text, "{comma}{name}:{port}"),
            Host::Unix(path) => write!(text, "{comma}{}:{port}", path.display()),
        };
    }
    if let Some(database) = config.get_dbname() {
        let _ = write!(text, "/{database}");
    }
    text
}

/// One attempt to connect.
struct Dial<'a> {
    config: &'a Config,
    tls: &'a MakeRustlsConnect,
    timeout: Duration,
    name: &'a str,
}

impl Dial<'_> {
    async fn open(&self, purpose: Purpose, notify: Option<mpsc::Sender<Notification>>) -> Result<Session> {
        let hosts = u32::try_from(self.config.get_hosts().len()).unwrap_or(1).max(1);
        let bound = self.timeout.saturating_mul(hosts);
        timeout(bound, self.login(purpose, notify)).await.unwrap_or_else(|_| {
            Err(Error::new(Code::PostgresUnreachable, format!("no login within {} s", bound.as_secs())).hint(
                "check that the server and the network are up; connect_timeout in the URL sets the bound in seconds",
            ))
        })
    }

    async fn login(&self, purpose: Purpose, notify: Option<mpsc::Sender<Notification>>) -> Result<Session> {
        let mut config = self.config.clone();
        config.application_name(self.name);
        let local = LocalSocket::of(&config).filter(|_| purpose == Purpose::Sync);
        // What cannot be reached is left to the driver, which says why.
        if let Some(local) = local
            && let Ok((stream, way)) = local.connect().await
        {
            let connected = config.connect_raw(stream, NoTls).await;
            let (client, connection) = connected.map_err(|error| not_connected(explain(error)))?;
            return begin(client, connection, Some(way), purpose, notify).await;
        }
        let (client, connection) = match config.connect(self.tls.clone()).await {
            // As libpq does: `prefer` would rather have an open connection than none.
            Err(error) if config.get_ssl_mode() == SslMode::Prefer && failure(&error) == Failure::Tls => {
                config.ssl_mode(SslMode::Disable);
                config.connect(self.tls.clone()).await
            }
            other => other,
        }
        .map_err(|error| not_connected(explain(error)))?;
        begin(client, connection, None, purpose, notify).await
    }
}

/// Makes a session of a connection to a server that is supported.
async fn begin<S, T>(
    client: Client,
    connection: Connection<S, T>,
    short_way: Option<ShortWay>,
    purpose: Purpose,
    notify: Option<mpsc::Sender<Notification>>,
) -> Result<Session>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    check_version(connection.parameter("server_version"))?;
    check_encoding(connection.parameter("server_encoding"))?;
    let way = short_way.clone();
    let connection = tokio::spawn(async move {
        drive(connection, notify).await;
        // Else it would keep the socket open after the driver.
        way.iter().for_each(ShortWay::hang_up);
    });
    let backend_pid = prepare(&client, purpose, short_way.is_some()).await.map_err(explain)?;
    Ok(Session { client, connection, backend_pid, short_way })
}

/// While connecting, a broken connection means that the server cannot be reached.
fn not_connected(error: Error) -> Error {
    if error.code() != Code::ConnectionLost {
        return error;
    }
    Error::new(Code::PostgresUnreachable, error.detail().to_owned())
        .hint("something answers there, but not as a Postgres server that is up: check host and port, and its log")
        .because(error)
}

fn check_version(version: Option<&str>) -> Result<()> {
    let version = version.unwrap_or("unknown");
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    let major: u32 = version.get(..digits).and_then(|major| major.parse().ok()).unwrap_or(0);
    if major >= OLDEST_MAJOR {
        return Ok(());
    }
    Err(Error::new(
        Code::PostgresVersion,
        format!("the server is PostgreSQL {version}; PostgreSQL {OLDEST_MAJOR} or newer is needed"),
    )
    .hint(format!("upgrade the server, or name one of version {OLDEST_MAJOR} or newer in the URL")))
}

/// Poolers may not report the encoding; then it is left to `plan`.
fn check_encoding(encoding: Option<&str>) -> Result<()> {
    match encoding {
        None | Some("UTF8") => Ok(()),
        Some(other) => {
            Err(Error::new(Code::ServerEncoding, format!("the database is encoded in {other}; UTF8 is needed"))
                .hint("create one with CREATE DATABASE … TEMPLATE template0 ENCODING 'UTF8' and name it in the URL"))
        }
    }
}

/// Applies the settings of the purpose and returns the backend's process id, in one round trip.
async fn prepare(client: &Client, purpose: Purpose, has_short_way: bool) -> Result<i32, tokio_postgres::Error> {
    let further = if has_short_way { sort_by_processors() } else { String::new() };
    let messages = client.simple_query(&format!("{}SELECT pg_backend_pid(); {further}", purpose.settings())).await?;
    if purpose == Purpose::Sync {
        // Refused where the server's system cannot do it; then a dead client's statement runs to its end.
        let checked = client.batch_execute("SET client_connection_check_interval = '500ms'").await;
        if let Err(error) = checked
            && error.as_db_error().is_none()
        {
            return Err(error);
        }
    }
    let pid = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).and_then(|pid| pid.parse().ok()),
        _ => None,
    });
    Ok(pid.unwrap_or_default())
}

/// Runs a connection until it ends. Errors reach whoever waits for an answer, so they are not reported twice.
async fn drive<S, T>(mut connection: Connection<S, T>, notify: Option<mpsc::Sender<Notification>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
        match message {
            Ok(AsyncMessage::Notice(notice)) => {
                tracing::debug!(severity = notice.severity(), message = notice.message(), "notice from Postgres");
            }
            Ok(AsyncMessage::Notification(notification)) => {
                if let Some(notify) = &notify
                    && notify.try_send(notification).is_err()
                {
                    tracing::debug!("a notification was dropped: the listener is behind or gone");
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "a connection to Postgres ended");
                return;
            }
        }
    }
}

/// What arrives by NOTIFY.
pub type Notifications = mpsc::Receiver<Notification>;

/// A connection to Postgres. Everything that the driver's client can do is done through [`Deref`]; its errors are
/// turned into ours by [`explain`]. Dropping it ends the session.
pub struct Session {
    client: Client,
    connection: JoinHandle<()>,
    backend_pid: i32,
    short_way: Option<ShortWay>,
}

impl Session {
    /// The way for the data of a COPY past the driver, where there is one.
    pub fn short_way(&self) -> Option<&ShortWay> {
        self.short_way.as_ref()
    }

    /// The process id of the server's side, as in `pg_stat_activity`.
    pub fn backend_pid(&self) -> i32 {
        self.backend_pid
    }

    /// Ends the session and waits until all that was sent has left and the server knows.
    pub async fn close(self) {
        drop(self.client);
        let _ = self.connection.await;
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_from_15_on_are_supported() {
        for good in ["15.0", "15.18 (Debian 15.18-0+deb12u1)", "16devel", "18beta2", "18.1"] {
            assert!(check_version(Some(good)).is_ok(), "{good}");
        }
        for bad in [Some("14.12"), Some("9.6.24"), Some("8.0.2"), Some("devel"), None] {
            let error = check_version(bad).unwrap_err();
            assert_eq!(error.code(), Code::PostgresVersion);
            assert!(error.detail().contains("15"), "{error}");
        }
        assert!(check_version(Some("14.12")).unwrap_err().detail().contains("14.12"));
    }

    #[test]
    fn only_utf8_databases_are_supported() {
        assert!(check_encoding(Some("UTF8")).is_ok());
        let error = check_encoding(Some("LATIN1")).unwrap_err();
        assert_eq!(error.code(), Code::ServerEncoding);
        assert!(error.detail().contains("LATIN1"), "{error}");
    }

    #[test]
    fn a_place_names_hosts_and_database_but_not_the_login() {
        let place = |url: &str| Connector::from_url(&SecretString::from(url)).unwrap().place();
        assert_eq!(place("postgres://ann:pw@db:6432/lake"), "Postgres at db:6432/lake");
        assert_eq!(place("postgres://ann:pw@a:1,b:2/lake"), "Postgres at a:1,b:2/lake");
        assert_eq!(place("postgres://ann:pw@[::1]/lake"), "Postgres at [::1]:5432/lake");
        assert_eq!(place("host=/run/pg user=ann password=pw"), "Postgres at /run/pg:5432");
    }
}
