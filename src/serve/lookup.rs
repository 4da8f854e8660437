//! Lookups by whole keys: the queue's batches, asked on connections of their own.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::{StreamExt as _, pin_mut};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_postgres::Statement;
use tokio_postgres::error::SqlState;

use super::cache::Cache;
use super::json::RowJson;
use super::key::Key;
use super::queue::{Answer, Batch, Queue, Unanswered};
use super::statement::{Binary, Query, Values};
use super::table::PublishedTable;
use crate::domain::{Code, Error, Result};
use crate::http::Workers;
use crate::postgres::{Connector, Purpose, Session, explain};

/// Prepared statements kept by one connection; beyond, it begins anew.
const MAX_STATEMENTS: usize = 512;

/// How long a connection waits after it could not be made.
const BACKOFF: Duration = Duration::from_millis(250);

/// How much longer than `statement_timeout` a silent connection is waited for before it is given up.
const SILENCE: Duration = Duration::from_secs(2);

/// The name of these sessions in `pg_stat_activity`.
const APPLICATION_NAME: &str = "lakegate lookup";

/// Answers lookups; ends its connections when dropped.
///
/// Each worker has lines and connections of its own: what one asks for comes back to it alone.
#[derive(Debug)]
pub(super) struct Lookups {
    lines: Vec<Lines>,
    _connections: JoinSet<()>,
}

/// The lines of a worker.
#[derive(Debug)]
struct Lines {
    queue: Arc<Queue>,
    /// How many connections take from them.
    standing: Arc<AtomicUsize>,
}

impl Lookups {
    /// Starts so many connections, at least one a runtime; each is made when there is work for it. The runtimes are those of the
    /// workers, by their numbers, or that of whoever asks.
    pub(super) fn start<'r>(
        connector: &Connector,
        cache: &Arc<Cache>,
        connections: u32,
        statement_timeout: Duration,
        runtimes: impl ExactSizeIterator<Item = &'r Handle>,
    ) -> Self {
        let (workers, mut tasks) = (runtimes.len(), JoinSet::new());
        let start = |(number, runtime)| {
            let lines = Lines { queue: Arc::default(), standing: Arc::default() };
            let further = usize::from(number < connections as usize % workers);
            for _ in 0..(connections as usize / workers + further).max(1) {
                let connection = LookupConnection {
                    connector: connector.clone(),
                    cache: Arc::clone(cache),
                    statement_timeout,
                    queue: Arc::clone(&lines.queue),
                    standing: Arc::clone(&lines.standing),
                    session: None,
                };
                tasks.spawn_on(connection.run(), runtime);
            }
            lines
        };
        Lookups { lines: runtimes.enumerate().map(start).collect(), _connections: tasks }
    }

    /// How many wait for a connection.
    pub(super) fn waiting(&self) -> u64 {
        self.lines.iter().map(|lines| lines.queue.waiting()).sum()
    }

    /// How many connections stand.
    pub(super) fn connections(&self) -> u64 {
        self.lines.iter().map(|lines| lines.standing.load(Ordering::Relaxed) as u64).sum()
    }

    /// The row with this key, `None` where there is none, of the state of the table that is asked for.
    ///
    /// # Errors
    /// [`Unanswered`]. It says nothing about how long the answer may take: that is the affair of whoever asks.
    pub(super) async fn ask(&self, table: &Arc<PublishedTable>, key: Key) -> Answer {
        self.join(table, key)?.answer().await
    }

    /// Begins to ask; whoever drops what is returned is not waited for.
    ///
    /// # Errors
    /// [`Code::Overloaded`].
    pub(super) fn join(&self, table: &Arc<PublishedTable>, key: Key) -> Result<Waiting> {
        let lines = self.lines.get(Workers::here()).or(self.lines.first());
        let lines = lines.ok_or_else(|| Error::internal("lookups without a thread"))?;
        lines.queue.join(table, key).map(Waiting)
    }
}

/// Somebody who waits for a row.
#[derive(Debug)]
pub(super) struct Waiting(oneshot::Receiver<Answer>);

impl Waiting {
    /// See [`Lookups::ask`].
    pub(super) async fn answer(self) -> Answer {
        self.0.await.unwrap_or_else(|_| Err(Unanswered::Failed(unavailable("the server is shutting down"))))
    }
}

/// An error that says no more to a client than that it may try again.
pub(super) fn unavailable(detail: &str) -> Error {
    Error::new(Code::Unavailable, detail).hint("try again in a moment")
}

/// One connection and its loop.
struct LookupConnection {
    connector: Connector,
    cache: Arc<Cache>,
    statement_timeout: Duration,
    queue: Arc<Queue>,
    /// How many connections of the queue stand.
    standing: Arc<AtomicUsize>,
    session: Option<Prepared>,
}

/// A session and the statements prepared on it, by their SQL.
struct Prepared {
    session: Session,
    statements: HashMap<String, Statement>,
    standing: Arc<AtomicUsize>,
}

impl Drop for Prepared {
    fn drop(&mut self) {
        self.standing.fetch_sub(1, Ordering::Relaxed);
    }
}

impl LookupConnection {
    async fn run(mut self) {
        loop {
            let batch = self.queue.next().await;
            self.serve(batch).await;
        }
    }

    async fn serve(&mut self, batch: Batch) {
        // The second try is for a connection that broke while nobody used it: a lookup changes nothing.
        let patience = self.statement_timeout + SILENCE;
        let cache = Arc::clone(&self.cache);
        for _ in 0..2 {
            let prepared = match self.connect().await {
                Ok(prepared) => prepared,
                Err(error) => {
                    tracing::warn!(%error, "no connection to Postgres for lookups");
                    batch.refuse(|| Unanswered::Failed(unavailable("Postgres cannot be reached")));
                    if self.standing.load(Ordering::Relaxed) == 0 {
                        self.queue.refuse_all(|| unavailable("Postgres cannot be reached"));
                    }
                    sleep(BACKOFF).await;
                    return;
                }
            };
            match timeout(patience, prepared.ask(&batch, &cache)).await {
                Ok(Ok(rows)) => return batch.answer(&rows),
                Ok(Err(Failure::Moved)) => return batch.refuse(|| Unanswered::Moved),
                Ok(Err(Failure::Own(error))) => {
                    tracing::error!(%error, table = %batch.table.name, "a row cannot be served");
                    return batch.refuse(|| Unanswered::Failed(unavailable("the table cannot be read")));
                }
                Ok(Err(Failure::Postgres(error))) => {
                    let lost = prepared.session.is_closed() || error.code().is_none_or(ends_session);
                    let refusal = refused(&error);
                    tracing::warn!(error = %explain(error), table = %batch.table.name, lost, "a lookup failed");
                    if !lost {
                        return batch.refuse(|| Unanswered::Failed(refusal.repeat()));
                    }
                    self.session = None;
                }
                Err(_) => {
                    tracing::warn!(table = %batch.table.name, "a connection for lookups fell silent");
                    self.session = None;
                    return batch.refuse(|| Unanswered::Failed(unavailable("Postgres did not answer in time")));
                }
            }
        }
        batch.refuse(|| Unanswered::Failed(unavailable("the connection to Postgres was lost")));
    }

    async fn connect(&mut self) -> Result<&mut Prepared> {
        if self.session.as_ref().is_some_and(|prepared| prepared.session.is_closed()) {
            self.session = None;
        }
        if self.session.is_none() {
            let purpose = Purpose::Lookup { statement_timeout: self.statement_timeout };
            let session = self.connector.connect(purpose, APPLICATION_NAME).await?;
            self.standing.fetch_add(1, Ordering::Relaxed);
            let standing = Arc::clone(&self.standing);
            self.session = Some(Prepared { session, statements: HashMap::new(), standing });
        }
        self.session.as_mut().ok_or_else(|| Error::internal("a connection is gone as soon as it was made"))
    }
}

/// Why a statement gave no rows.
pub(super) enum Failure {
    /// Something else is published than what was asked.
    Moved,
    /// There is no connection, or a row is not what its table's description says.
    Own(Error),
    /// Postgres refused, or the connection broke.
    Postgres(tokio_postgres::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Own(error)
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.code() {
            Some(&SqlState::UNDEFINED_TABLE | &SqlState::UNDEFINED_COLUMN) => Failure::Moved,
            _ => Failure::Postgres(error),
        }
    }
}

/// Whether a session that got this is on its way out: the server is shutting down or was told to end it.
fn ends_session(state: &SqlState) -> bool {
    ["57P", "08"].iter().any(|class| state.code().starts_with(class))
}

/// What a client is told of a statement that Postgres refused.
pub(super) fn refused(error: &tokio_postgres::Error) -> Error {
    match error.code() {
        Some(&SqlState::QUERY_CANCELED) => unavailable("Postgres did not answer in time"),
        _ => unavailable("the table cannot be read"),
    }
}

impl Prepared {
    /// The rows of a batch, by the numbers of its keys. They are kept.
    async fn ask(&mut self, batch: &Batch, cache: &Cache) -> Result<Vec<Option<Arc<RowJson>>>, Failure> {
        let table = &batch.table;
        let statement = self.statement(&table.lookup).await?;
        let parameters =
            [Binary::text(table.name.as_str())].into_iter().chain(Binary::arrays(table, batch.keys.keys()));
        let results = self.session.query_raw(&statement, parameters.collect::<Vec<_>>()).await?;
        pin_mut!(results);
        let mut rows = vec![None; batch.keys.len()];
        let mut published = false;
        while let Some(result) = results.next().await {
            let result = result?;
            let values = Values::new(&result, table)?;
            if !values.are_of(table, cache) {
                return Err(Failure::Moved);
            }
            published = true;
            let Some(&number) = table.key_of(values)?.and_then(|key| batch.keys.get(&key)) else { continue };
            let row = table.row(values)?;
            table.row_bytes.note(row.len());
            if let Some(place) = rows.get_mut(number) {
                *place = Some(Arc::new(row));
            }
        }
        if !published {
            return Err(Failure::Moved);
        }
        cache.keep(table, batch.keys.iter().map(|(key, &number)| (key, rows.get(number).cloned().flatten())));
        Ok(rows)
    }

    async fn statement(&mut self, query: &Query) -> Result<Statement, tokio_postgres::Error> {
        if let Some(statement) = self.statements.get(&query.sql) {
            return Ok(statement.clone());
        }
        if self.statements.len() >= MAX_STATEMENTS {
            self.statements.clear();
        }
        let statement = self.session.prepare_typed(&query.sql, &query.types).await?;
        self.statements.insert(query.sql.clone(), statement.clone());
        Ok(statement)
    }
}
