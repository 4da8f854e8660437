//! From a question to an answer: finds the table, reads, and asks again when something else was published meanwhile.

mod whole;

pub(super) use whole::Known;

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout_at;

use super::cache::Cache;
use super::catalog::{Catalog, Found, Readiness};
use super::content::Content;
use super::cursor::Cursor;
use super::envelope::Next;
use super::key::Key;
use super::lookup::{Lookups, unavailable};
use super::metrics::{Presence, Present, ReadMetrics};
use super::openapi::{Bounds, Contract, Shown};
use super::page::{PageQuery, Pages};
use super::queue::Unanswered;
use super::rate::{Asker, Quota};
use super::request::{Asked, Question};
use super::rows::{Body, RowWriter};
use super::statement::Values;
use super::table::PublishedTable;
use super::unsent::Unsent;
use super::view::View;
use crate::auth::Doorkeeper;
use crate::domain::{Caller, Code, Error, Limits, Result, Schemas, spell_duration};
use crate::postgres::Connector;

/// How often a question is asked again when the published state has changed under it.
const REPEATS: usize = 3;

/// Batches at a time, from the first byte of their bodies to their answers.
const MAX_BATCHES: usize = 256;

/// How much longer than the statement timeout a question may take altogether.
const GRACE: Duration = Duration::from_secs(2);

/// How long a question may take while nothing is heard of Postgres: longer than what is kept waits for it.
const DEAF: Duration = Duration::from_secs(2);

/// Reads published tables. Its connections end when it is dropped.
pub(super) struct Reader {
    catalog: Catalog,
    cache: Arc<Cache>,
    lookups: Lookups,
    pages: Pages,
    contract: Contract,
    doorkeeper: Arc<Doorkeeper>,
    batches: Semaphore,
    unsent: Unsent,
    page_max: u32,
    batch_keys_max: u32,
    patience: Duration,
}

/// What became of a question.
pub(super) struct Answer {
    /// The state of the table that the answer is about.
    pub(super) table: Option<Arc<PublishedTable>>,
    /// The rows.
    pub(super) body: Result<Body>,
    /// Whether it comes from the cache while nobody can tell whether it still holds.
    pub(super) stale: bool,
    /// What is left of the caller's limit, where there is one.
    pub(super) quota: Quota,
}

impl Answer {
    /// A refusal, by the state of a table where that is known.
    pub(super) fn refusal(table: Option<Arc<PublishedTable>>, error: Error) -> Self {
        Answer { table, body: Err(error), stale: false, quota: Quota::default() }
    }
}

impl From<Error> for Answer {
    fn from(error: Error) -> Self {
        Answer::refusal(None, error)
    }
}

/// What a table says to a question.
struct Told {
    body: Result<Body>,
    stale: bool,
}

impl From<Body> for Told {
    fn from(body: Body) -> Self {
        Told { body: Ok(body), stale: false }
    }
}

impl Reader {
    /// Starts to follow the published tables; connections for reading are made when they are needed. Of
    /// `limits.connections`, a quarter (at least one) is for pages and large batches, the rest (at least one) for
    /// lookups; one more follows the control schema. Lookups come from tasks on these runtimes, those of the workers by their
    /// numbers.
    pub(super) fn start(
        connector: &Connector,
        schemas: &Schemas,
        limits: &Limits,
        metrics: &ReadMetrics,
        doorkeeper: Arc<Doorkeeper>,
        runtimes: &[Handle],
    ) -> Result<Arc<Self>> {
        let for_pages = page_connections(limits);
        let for_lookups = lookup_connections(limits);
        let cache = Arc::new(Cache::new(limits.cache_memory));
        let bounds = Bounds::of(limits, doorkeeper.asks());
        let reader = Arc::new(Reader {
            catalog: Catalog::start(
                connector.clone(),
                schemas.clone(),
                Arc::clone(&cache),
                metrics.clone(),
                Arc::clone(&doorkeeper),
            ),
            lookups: Lookups::start(connector, &cache, for_lookups, limits.statement_timeout, runtimes.iter()),
            pages: Pages::new(connector, schemas, &cache, for_pages, limits.statement_timeout)?,
            cache,
            contract: Contract::new(bounds),
            doorkeeper,
            batches: Semaphore::new(MAX_BATCHES),
            unsent: Unsent::default(),
            page_max: bounds.page_max,
            batch_keys_max: bounds.batch_keys_max,
            patience: limits.statement_timeout + GRACE,
        });
        let present: Weak<dyn Present> = Arc::downgrade(&reader) as Weak<dyn Present>;
        metrics.watch(present);
        Ok(reader)
    }

    /// Waits until the published tables have been read once, or could not be.
    pub(super) async fn settle(&self) {
        self.catalog.refresh().await;
    }

    /// Who sends a request with these headers.
    ///
    /// # Errors
    /// Those of [`Doorkeeper::admit`].
    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<Arc<Caller>> {
        self.doorkeeper.admit(headers)
    }

    /// Whether every published table can be read; strangers are not told which cannot.
    pub(super) fn readiness(&self, headers: &HeaderMap) -> Readiness {
        let may_know = || !self.doorkeeper.asks() || self.doorkeeper.is_admin(headers);
        match self.catalog.readiness() {
            Readiness::Unreadable(_) if !may_know() => Readiness::Unreadable(Vec::new()),
            readiness => readiness,
        }
    }

    /// What is promised somebody of the published tables, and whether it is told although nobody knows whether it still holds.
    ///
    /// # Errors
    /// [`Code::Unavailable`] before the published tables were read for the first time.
    pub(super) async fn contract(&self, caller: &Caller) -> Result<(Arc<Content>, bool)> {
        let deaf = self.catalog.is_deaf();
        let tables = self.catalog.served().ok_or_else(|| unavailable("what is published cannot be read"))?;
        let shown = tables.into_iter().filter_map(|table| Shown::to(table, caller));
        Ok((self.contract.about(shown.collect()).await?, deaf))
    }

    /// A place among the batches that are read and answered at a time.
    ///
    /// # Errors
    /// [`Code::Overloaded`].
    pub(super) fn admit_batch(&self) -> Result<SemaphorePermit<'_>> {
        self.batches.try_acquire().map_err(|_| {
            let detail = format!("{MAX_BATCHES} batches are being answered");
            Error::new(Code::Overloaded, detail).hint("try again in a moment")
        })
    }

    /// The room for answers that wait to be sent.
    pub(super) fn unsent(&self) -> &Unsent {
        &self.unsent
    }

    /// The most keys of one batch.
    pub(super) fn batch_keys_max(&self) -> u32 {
        self.batch_keys_max
    }

    /// The table of this name if it has been heard of and is for whoever asks, without asking.
    pub(super) fn known(&self, name: &str, caller: &Caller) -> Option<Arc<PublishedTable>> {
        match self.catalog.look_up(name, caller) {
            Found::Table(table) => Some(table),
            Found::Nothing | Found::Unknown => None,
        }
    }

    /// The answer to somebody who began to ask at this moment.
    pub(super) async fn answer(&self, asked: Asked<'_>, asker: Asker<'_>, began: Instant) -> Answer {
        match timeout_at(self.deadline(began), self.persist(asked, asker)).await {
            Ok(answer) => answer,
            Err(_) => Answer::refusal(self.known(asked.table(), asker.caller), unavailable(SILENT)),
        }
    }

    /// Until when a question is answered.
    fn deadline(&self, began: Instant) -> tokio::time::Instant {
        let patience = if self.catalog.is_deaf() { self.patience.min(DEAF) } else { self.patience };
        (began + patience).into()
    }

    async fn persist(&self, asked: Asked<'_>, asker: Asker<'_>) -> Answer {
        let caller = asker.caller;
        let (mut grant, mut before) = (None, None);
        for attempt in 0..=REPEATS {
            let no_table = || Error::new(Code::TableNotFound, "there is no table of this name");
            let table = match self.catalog.find(asked.table(), caller).await {
                Found::Table(table) => table,
                Found::Nothing => return no_table().into(),
                Found::Unknown => return unavailable("what is published cannot be read").into(),
            };
            let Some(view) = View::of(&table, caller) else { return no_table().into() };
            if attempt == 0 {
                match table.rates.grant(table.policy.rate_limit, asker) {
                    Ok(granted) => grant = granted,
                    Err((error, quota)) => return Answer { quota, ..Answer::refusal(Some(Arc::clone(&table)), error) },
                }
            }
            let Told { body, stale } = match self.ask(&table, &view, asked, attempt > 0).await {
                Ok(told) => told,
                Err(Unanswered::Failed(error)) => Told { body: Err(error), stale: false },
                Err(Unanswered::Moved) if self.catalog.refresh().await => {
                    let state = (table.publish_no, table.generation);
                    if before == Some(state) {
                        // Nothing has moved: what is published is not there.
                        tracing::error!(table = %table.name, generation = %table.generation, "a published table cannot be read");
                        return Answer::refusal(Some(table), unavailable("the table cannot be read"));
                    }
                    before = Some(state);
                    continue;
                }
                Err(Unanswered::Moved) => {
                    return Answer::refusal(Some(table), unavailable("what is published cannot be read"));
                }
            };
            let rows = body.as_ref().map_or(0, |body| body.rows);
            let quota = grant.map(|grant| grant.pay(rows)).unwrap_or_default();
            return Answer { table: Some(Arc::clone(&table)), body, stale, quota };
        }
        let error = unavailable("the table is being published again and again");
        Answer::refusal(self.known(asked.table(), caller), error)
    }

    /// `again` = something else was published while it was asked before.
    async fn ask(
        &self,
        table: &Arc<PublishedTable>,
        view: &View<'_>,
        asked: Asked<'_>,
        again: bool,
    ) -> Result<Told, Unanswered> {
        if let Some(most) = asked.max_staleness() {
            check_staleness(table, most)?;
        }
        let told = match asked {
            Asked::One(question) => self.one(table, view, question).await?,
            Asked::Batch(question) => Box::pin(self.batch(table, view, question, again)).await?,
        };
        if let Some(most) = asked.max_staleness().filter(|_| told.stale) {
            check_staleness(table, most)?;
        }
        Ok(told)
    }

    async fn one(&self, table: &Arc<PublishedTable>, view: &View<'_>, question: &Question) -> Result<Told, Unanswered> {
        let key = Key::parse(&table.key, &question.key)?;
        let columns = view.project(table, question.columns.as_deref())?;
        let columns = columns.as_deref();
        if question.key.len() < table.key.len() {
            // Boxed, so that lookups, which are many, do not move the states of what is rare.
            return Box::pin(self.page(table, view, question, &key, columns)).await;
        }
        if question.limit.is_some() || question.cursor.is_some() || question.follow.is_some() {
            let detail = "`limit`, `cursor` and `follow` are for pages: this is a whole key";
            return Err(Error::new(Code::BadParameter, detail).into());
        }
        if question.format.is_made_of_json() {
            let (row, stale) = self.row(table, view, key).await?;
            return Ok(Told { body: whole::told(table, view, row, columns, question.format), stale });
        }
        self.is_latest(table)?;
        let mut writer = RowWriter::new(table, columns, question.format)?;
        match Box::pin(self.pages.find(table, &[key], view)).await?.pop().flatten() {
            Some(row) => writer.row(Values::new(&row, table)?)?,
            None => return Err(Error::new(Code::RowNotFound, NO_ROW).into()),
        }
        Ok(writer.finish(Next::NoPage)?.into())
    }

    /// What is asked of Postgres would not be answered for a state of a table after which another one has been heard of.
    fn is_latest(&self, table: &PublishedTable) -> Result<(), Unanswered> {
        if self.cache.heard(table) > table.publish_no { Err(Unanswered::Moved) } else { Ok(()) }
    }

    async fn page(
        &self,
        table: &PublishedTable,
        view: &View<'_>,
        question: &Question,
        prefix: &Key,
        columns: Option<&[usize]>,
    ) -> Result<Told, Unanswered> {
        let most = table.policy.page_limit.clamp(1, self.page_max);
        let limit = question.limit.unwrap_or(most);
        if !(1..=most).contains(&limit) {
            let detail = format!("`limit` of table `{}` is 1 to {most}", table.name);
            return Err(Error::new(Code::BadParameter, detail).into());
        }
        let follow = question.follow.unwrap_or_default();
        let after = question.cursor.as_deref().map(|cursor| Cursor::resume(cursor, table, prefix, follow));
        let after = after.transpose()?;
        self.is_latest(table)?;
        let mut writer = RowWriter::new(table, columns, question.format)?;
        let query = PageQuery { prefix, limit, after: after.as_ref(), view };
        let last = self.pages.read(table, query, &mut writer).await?;
        let next = last.map_or(Next::None, |key| Next::At(Cursor::after(table, &key).encode()));
        Ok(writer.finish(next)?.into())
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

impl Present for Reader {
    fn presence(&self) -> Presence {
        Presence {
            lookups_waiting: self.lookups.waiting(),
            lookup_connections: self.lookups.connections(),
            unsent_bytes: self.unsent.bytes(),
            cache_bytes: self.cache.bytes(),
            is_heard: !self.catalog.is_deaf(),
        }
    }
}

const SILENT: &str = "Postgres did not answer in time";

const NO_ROW: &str = "the table has no row with this key";

/// How many of the connections are for pages and large batches.
fn page_connections(limits: &Limits) -> u32 {
    (limits.connections / 4).max(1)
}

/// How many of the connections are for lookups.
pub(super) fn lookup_connections(limits: &Limits) -> u32 {
    limits.connections.saturating_sub(page_connections(limits)).max(1)
}

/// # Errors
/// [`Code::TooStale`].
fn check_staleness(table: &PublishedTable, most: Duration) -> Result<()> {
    let age = table.checked.unchecked_for();
    if age <= most {
        return Ok(());
    }
    let age = spell_duration(Duration::from_secs(age.as_secs()));
    let detail = format!("the source of `{}` was last looked at {age} ago", table.name);
    Err(Error::new(Code::TooStale, detail).hint("ask again later, or allow more in `Lakegate-Max-Staleness`"))
}

impl From<Error> for Unanswered {
    fn from(error: Error) -> Self {
        Unanswered::Failed(error)
    }
}
