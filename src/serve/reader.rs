//! From a question to an answer: finds the table, reads, and asks again when something else was published meanwhile.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::catalog::{Catalog, Found, Readiness};
use super::envelope;
use super::key::Key;
use super::lookup::{Lookups, unavailable};
use super::page::{Cursor, PageQuery, Pages};
use super::queue::Unanswered;
use super::request::Question;
use super::table::PublishedTable;
use crate::domain::{Code, Error, Limits, Result, Schemas};
use crate::postgres::Connector;

/// How often a question is asked again when the published state has changed under it.
const REPEATS: usize = 3;

/// How much longer than the statement timeout a question may take altogether.
const GRACE: Duration = Duration::from_secs(2);

/// Reads published tables. Its connections end when it is dropped.
pub(super) struct Reader {
    catalog: Catalog,
    lookups: Lookups,
    pages: Pages,
    page_max: u32,
    deadline: Duration,
}

/// What became of a question.
pub(super) struct Answer {
    /// The state of the table that the answer is about.
    pub(super) table: Option<Arc<PublishedTable>>,
    /// The body: the envelope with the rows.
    pub(super) body: Result<Vec<u8>>,
}

impl From<Error> for Answer {
    fn from(error: Error) -> Self {
        Answer { table: None, body: Err(error) }
    }
}

impl Reader {
    /// Starts to follow the published tables; connections for reading are made when they are needed. Of
    /// `limits.connections`, a quarter (at least one) is for pages, the rest (at least one) for lookups; one more
    /// follows the control schema.
    pub(super) fn start(connector: &Connector, schemas: &Schemas, limits: &Limits) -> Result<Self> {
        let for_pages = (limits.connections / 4).max(1);
        let for_lookups = limits.connections.saturating_sub(for_pages).max(1);
        Ok(Reader {
            catalog: Catalog::start(connector.clone(), schemas.clone()),
            lookups: Lookups::start(connector, for_lookups, limits.statement_timeout),
            pages: Pages::new(connector, schemas, for_pages, limits.statement_timeout)?,
            page_max: limits.page_max.max(1),
            deadline: limits.statement_timeout + GRACE,
        })
    }

    /// Waits until the published tables have been read once, or could not be.
    pub(super) async fn settle(&self) {
        self.catalog.refresh().await;
    }

    pub(super) fn readiness(&self) -> Readiness {
        self.catalog.readiness()
    }

    /// The table of this name if it has been heard of, without asking.
    pub(super) fn known(&self, name: &str) -> Option<Arc<PublishedTable>> {
        match self.catalog.look_up(name) {
            Found::Table(table) => Some(table),
            Found::Nothing | Found::Unknown => None,
        }
    }

    pub(super) async fn answer(&self, question: &Question) -> Answer {
        match timeout(self.deadline, self.persist(question)).await {
            Ok(answer) => answer,
            Err(_) => unavailable("Postgres did not answer in time").into(),
        }
    }

    async fn persist(&self, question: &Question) -> Answer {
        for _ in 0..=REPEATS {
            let table = match self.catalog.find(&question.table).await {
                Found::Table(table) => table,
                Found::Nothing => return Error::new(Code::TableNotFound, "there is no table of this name").into(),
                Found::Unknown => return unavailable("what is published cannot be read").into(),
            };
            match self.ask(&table, question).await {
                Ok(body) => return Answer { table: Some(table), body: Ok(body) },
                Err(Unanswered::Failed(error)) => return Answer { table: Some(table), body: Err(error) },
                Err(Unanswered::Moved) => {
                    if !self.catalog.refresh().await {
                        return unavailable("what is published cannot be read").into();
                    }
                }
            }
        }
        unavailable("the table is being published again and again").into()
    }

    async fn ask(&self, table: &Arc<PublishedTable>, question: &Question) -> Result<Vec<u8>, Unanswered> {
        let key = Key::parse(&table.key, &question.key)?;
        let columns = question.columns.as_deref().map(|names| table.project(names)).transpose()?;
        let columns = columns.as_deref();
        if question.key.len() < table.key.len() {
            return self.page(table, question, &key, columns).await;
        }
        if question.limit.is_some() || question.cursor.is_some() || question.follow {
            let detail = "`limit`, `cursor` and `follow` are for pages: this is a whole key";
            return Err(Error::new(Code::BadParameter, detail).into());
        }
        match self.lookups.ask(table, key).await? {
            Some(row) => Ok(envelope::row(&row, columns)),
            None => Err(Error::new(Code::RowNotFound, "the table has no row with this key").into()),
        }
    }

    async fn page(
        &self,
        table: &PublishedTable,
        question: &Question,
        prefix: &Key,
        columns: Option<&[usize]>,
    ) -> Result<Vec<u8>, Unanswered> {
        let most = table.policy.page_limit.clamp(1, self.page_max);
        let limit = question.limit.unwrap_or(most);
        if !(1..=most).contains(&limit) {
            let detail = format!("`limit` of table `{}` is 1 to {most}", table.name);
            return Err(Error::new(Code::BadParameter, detail).into());
        }
        let after = question.cursor.as_deref().map(|cursor| Cursor::resume(cursor, table, prefix, question.follow));
        let after = after.transpose()?;
        let page = self.pages.read(table, PageQuery { prefix, limit, after: after.as_ref(), columns }).await?;
        let next = page.next.map(|key| Cursor::after(table, &key).encode());
        Ok(envelope::page(&page.rows, next.as_deref()))
    }
}

impl From<Error> for Unanswered {
    fn from(error: Error) -> Self {
        Unanswered::Failed(error)
    }
}
