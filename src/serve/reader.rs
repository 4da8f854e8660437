//! From a question to an answer: finds the table, reads, and asks again when something else was published meanwhile.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::http::HeaderMap;
use futures::future::try_join_all;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::accept::Format;
use super::batch::Keys;
use super::cache::{Cache, Kept, Look};
use super::catalog::{Catalog, Found, Readiness};
use super::content::Content;
use super::cursor::Cursor;
use super::envelope::Next;
use super::key::Key;
use super::lookup::{Lookups, unavailable};
use super::metrics::{Presence, Present, ReadMetrics};
use super::openapi::{Bounds, Contract, Shown};
use super::page::{PageQuery, Pages, too_many_bytes};
use super::queue::{self, Unanswered};
use super::request::{Asked, BatchQuestion, Question};
use super::rows::{Body, RowWriter};
use super::statement::Values;
use super::table::PublishedTable;
use super::unsent::Unsent;
use super::view::View;
use crate::auth::Doorkeeper;
use crate::domain::{ADMIN_ROLE, Caller, Code, Error, Limits, Result, Schemas, spell_duration};
use crate::postgres::Connector;

/// How often a question is asked again when the published state has changed under it.
const REPEATS: usize = 3;

/// Batches at a time, from the first byte of their bodies to their answers.
const MAX_BATCHES: usize = 256;

/// How much longer than the statement timeout a question may take altogether.
const GRACE: Duration = Duration::from_secs(2);

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
    deadline: Duration,
}

/// What became of a question.
pub(super) struct Answer {
    /// The state of the table that the answer is about.
    pub(super) table: Option<Arc<PublishedTable>>,
    /// The rows.
    pub(super) body: Result<Body>,
    /// Whether it comes from the cache while nobody can tell whether it still holds.
    pub(super) stale: bool,
}

impl From<Error> for Answer {
    fn from(error: Error) -> Self {
        Answer { table: None, body: Err(error), stale: false }
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
    /// lookups; one more follows the control schema.
    pub(super) fn start(
        connector: &Connector,
        schemas: &Schemas,
        limits: &Limits,
        metrics: &ReadMetrics,
        doorkeeper: Arc<Doorkeeper>,
    ) -> Result<Arc<Self>> {
        let for_pages = (limits.connections / 4).max(1);
        let for_lookups = limits.connections.saturating_sub(for_pages).max(1);
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
            lookups: Lookups::start(connector, &cache, for_lookups, limits.statement_timeout),
            pages: Pages::new(connector, schemas, &cache, for_pages, limits.statement_timeout)?,
            cache,
            contract: Contract::new(bounds),
            doorkeeper,
            batches: Semaphore::new(MAX_BATCHES),
            unsent: Unsent::default(),
            page_max: bounds.page_max,
            batch_keys_max: bounds.batch_keys_max,
            deadline: limits.statement_timeout + GRACE,
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
        let may_know =
            || !self.doorkeeper.asks() || self.admit(headers).is_ok_and(|caller| caller.has_role(ADMIN_ROLE));
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

    pub(super) async fn answer(&self, asked: Asked<'_>, caller: &Caller) -> Answer {
        match timeout(self.deadline, self.persist(asked, caller)).await {
            Ok(answer) => answer,
            Err(_) => unavailable(SILENT).into(),
        }
    }

    async fn persist(&self, asked: Asked<'_>, caller: &Caller) -> Answer {
        for attempt in 0..=REPEATS {
            let no_table = || Error::new(Code::TableNotFound, "there is no table of this name");
            let table = match self.catalog.find(asked.table(), caller).await {
                Found::Table(table) => table,
                Found::Nothing => return no_table().into(),
                Found::Unknown => return unavailable("what is published cannot be read").into(),
            };
            let Some(view) = View::of(&table, caller) else { return no_table().into() };
            match self.ask(&table, &view, asked, attempt > 0).await {
                Ok(Told { body, stale }) => return Answer { table: Some(Arc::clone(&table)), body, stale },
                Err(Unanswered::Failed(error)) => {
                    return Answer { table: Some(Arc::clone(&table)), body: Err(error), stale: false };
                }
                Err(Unanswered::Moved) => {
                    if !self.catalog.refresh().await {
                        return unavailable("what is published cannot be read").into();
                    }
                }
            }
        }
        unavailable("the table is being published again and again").into()
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
            Asked::Batch(question) => self.batch(table, view, question, again).await?,
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
            return self.page(table, view, question, &key, columns).await;
        }
        if question.limit.is_some() || question.cursor.is_some() || question.follow {
            let detail = "`limit`, `cursor` and `follow` are for pages: this is a whole key";
            return Err(Error::new(Code::BadParameter, detail).into());
        }
        if question.format.is_made_of_json() {
            let (row, stale) = self.row(table, view, key).await?;
            let body = match row.filter(|row| view.admits(row)) {
                None => Err(Error::new(Code::RowNotFound, NO_ROW)),
                Some(row) if question.format == Format::Json => Ok(Body::of_row(&row, columns)),
                Some(row) => {
                    let mut writer = RowWriter::new(table, columns, question.format)?;
                    writer.json_row(&row);
                    writer.finish(Next::NoPage)
                }
            };
            return Ok(Told { body, stale });
        }
        self.is_latest(table)?;
        let mut writer = RowWriter::new(table, columns, question.format)?;
        match self.pages.find(table, &[key], view).await?.pop().flatten() {
            Some(row) => writer.row(Values::new(&row, table)?)?,
            None => return Err(Error::new(Code::RowNotFound, NO_ROW).into()),
        }
        Ok(writer.finish(Next::NoPage)?.into())
    }

    /// What is kept of a key and may be told whoever asks.
    fn look(&self, table: &PublishedTable, view: &View<'_>, key: &Key) -> Look {
        match self.cache.look(table, key) {
            Look::Kept(row) if !view.tells(&row) => Look::Ask { heard: table.publish_no },
            look => look,
        }
    }

    /// A row, from the cache where it is known to hold; whether it is told although nobody knows. It may be somebody else's.
    async fn row(&self, table: &Arc<PublishedTable>, view: &View<'_>, key: Key) -> Result<(Kept, bool), Unanswered> {
        let deaf = self.catalog.is_deaf();
        let look = self.look(table, view, &key);
        let hit = u64::from(matches!(look, Look::Kept(_)));
        table.metrics.looked(hit, 1 - hit);
        match look {
            Look::Kept(row) if !deaf => return Ok((row, false)),
            Look::Ask { heard } if heard > table.publish_no => return Err(Unanswered::Moved),
            Look::Kept(_) if deaf => {}
            _ => return Ok((self.lookups.ask(table, key).await?, false)),
        }
        // What is kept may be old, and is better than nothing.
        let error = match timeout(PATIENCE, self.lookups.ask(table, key.clone())).await {
            Ok(Ok(row)) => return Ok((row, false)),
            Ok(Err(Unanswered::Failed(error))) => Unanswered::Failed(error),
            Ok(Err(Unanswered::Moved)) => return Err(Unanswered::Moved),
            Err(_) => Unanswered::Failed(unavailable(SILENT)),
        };
        match self.look(table, view, &key) {
            Look::Kept(row) => Ok((row, true)),
            Look::Ask { .. } => Err(error),
        }
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
        let after = question.cursor.as_deref().map(|cursor| Cursor::resume(cursor, table, prefix, question.follow));
        let after = after.transpose()?;
        self.is_latest(table)?;
        let mut writer = RowWriter::new(table, columns, question.format)?;
        let query = PageQuery { prefix, limit, after: after.as_ref(), view };
        let last = self.pages.read(table, query, &mut writer).await?;
        let next = last.map_or(Next::None, |key| Next::At(Cursor::after(table, &key).encode()));
        Ok(writer.finish(next)?.into())
    }

    /// All rows are of the table's state at hand: whatever reads another one gives [`Unanswered::Moved`]. What was
    /// asked in parts and moved is asked again in one statement.
    async fn batch(
        &self,
        table: &Arc<PublishedTable>,
        view: &View<'_>,
        question: &BatchQuestion,
        again: bool,
    ) -> Result<Told, Unanswered> {
        let columns = view.project(table, question.columns.as_deref())?;
        let keys = Keys::of(question, table)?;
        let mut writer = RowWriter::new(table, columns.as_deref(), question.format)?;
        self.is_latest(table)?;
        if !question.format.is_made_of_json() {
            let rows = self.pages.find(table, &keys.distinct, view).await?;
            write_batch(&keys, &rows, &mut writer, |writer, row| writer.row(Values::new(row, table)?))?;
            return Ok(writer.finish(Next::NoPage)?.into());
        }
        let (mut rows, stale) = self.rows(table, view, &keys.distinct, again).await?;
        for row in &mut rows {
            row.take_if(|row| !view.admits(row));
        }
        write_batch(&keys, &rows, &mut writer, |writer, row| {
            writer.json_row(row);
            Ok(())
        })?;
        Ok(Told { body: writer.finish(Next::NoPage), stale })
    }

    /// The rows with these keys, as [`Reader::row`].
    async fn rows(
        &self,
        table: &Arc<PublishedTable>,
        view: &View<'_>,
        keys: &[Key],
        again: bool,
    ) -> Result<(Vec<Kept>, bool), Unanswered> {
        let kept = |looks: Vec<Look>| -> Vec<Option<Kept>> {
            let row = |look| if let Look::Kept(row) = look { Some(row).filter(|row| view.tells(row)) } else { None };
            looks.into_iter().map(row).collect()
        };
        if again {
            return Ok((self.read_rows(table, view, keys, again).await?, false));
        }
        let known = kept(self.cache.look_all(table, keys));
        let hits = known.iter().flatten().count();
        table.metrics.looked(hits as u64, (known.len() - hits) as u64);
        if self.catalog.is_deaf() {
            let whole = known.iter().all(Option::is_some);
            let asked = self.read_rows(table, view, keys, again);
            let asked = if whole { timeout(PATIENCE, asked).await } else { Ok(asked.await) };
            return match asked {
                Ok(Err(Unanswered::Failed(_))) | Err(_) if whole => {
                    let known: Option<Vec<Kept>> = kept(self.cache.look_all(table, keys)).into_iter().collect();
                    known.map(|known| (known, true)).ok_or_else(|| unavailable(SILENT).into())
                }
                Ok(answer) => Ok((answer?, false)),
                Err(_) => Err(unavailable(SILENT).into()),
            };
        }
        let unknown = keys.iter().zip(&known).filter(|(_, known)| known.is_none()).map(|(key, _)| key.clone());
        let unknown: Vec<Key> = unknown.collect();
        let mut read = self.read_rows(table, view, &unknown, again).await?.into_iter();
        Ok((known.into_iter().map(|known| known.unwrap_or_else(|| read.next().flatten())).collect(), false))
    }

    /// Reads rows from Postgres: few as other lookups do, many or those asked `again` in one statement.
    async fn read_rows(
        &self,
        table: &Arc<PublishedTable>,
        view: &View<'_>,
        keys: &[Key],
        again: bool,
    ) -> Result<Vec<Kept>, Unanswered> {
        if keys.len() <= queue::MAX_KEYS && !again {
            return try_join_all(keys.iter().map(|key| self.lookups.ask(table, key.clone()))).await;
        }
        let found = self.pages.find(table, keys, view).await?;
        let write = |row: Option<_>| {
            let values = row.as_ref().map(|row| Values::new(row, table)).transpose()?;
            values.map(|values| table.row(values).map(Arc::new)).transpose()
        };
        let rows = found.into_iter().map(write).collect::<Result<Vec<Kept>>>()?;
        // What was not found may be somebody else's.
        let known = keys.iter().zip(rows.iter().cloned()).filter(|(_, row)| row.is_some() || !view.is_filtered());
        self.cache.keep(table, known);
        Ok(rows)
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

/// Writes the rows of a batch in the order asked.
fn write_batch<'t, R>(
    keys: &Keys,
    rows: &[Option<R>],
    writer: &mut RowWriter<'t>,
    write: impl Fn(&mut RowWriter<'t>, &R) -> Result<()>,
) -> Result<()> {
    for &number in &keys.places {
        match rows.get(number).and_then(Option::as_ref) {
            Some(row) => write(writer, row)?,
            None => writer.miss(NO_ROW),
        }
        if writer.len() > MAX_ANSWER_BYTES {
            return Err(too_many_bytes());
        }
    }
    Ok(())
}

/// How long a lookup may take while Postgres is silent before what is kept is told instead.
const PATIENCE: Duration = Duration::from_secs(1);

const SILENT: &str = "Postgres did not answer in time";

const NO_ROW: &str = "the table has no row with this key";

/// The most bytes of a batch's answer: as JSON, and with rows that are asked for twice, it is more than what Postgres
/// sends.
const MAX_ANSWER_BYTES: usize = 2 * super::page::MAX_BATCH_BYTES;

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
