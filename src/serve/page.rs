//! What is read on connections of its own, so that it never holds up lookups: pages of the rows under the first parts
//! of a key, in the order of the key, and large batches.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, pin_mut};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_postgres::Row;

use super::cache::Cache;
use super::key::Key;
use super::lookup::{Failure, refused, unavailable};
use super::queue::Unanswered;
use super::rows::RowWriter;
use super::statement::{self, Binary, Query, Values};
use super::table::PublishedTable;
use super::view::View;
use crate::domain::{Code, Error, Result, Schemas};
use crate::observe::part;
use crate::postgres::{Connector, Pool, Purpose, explain};

/// A page ends early, with a cursor, once it holds this many bytes of rows.
const MAX_PAGE_BYTES: usize = 4 << 20;

/// The most bytes of rows that a batch may take from Postgres.
pub(super) const MAX_BATCH_BYTES: usize = 16 << 20;

/// Pages and large batches that may be under way or wait for a connection.
const MAX_PAGES: usize = 256;

/// How much longer than `statement_timeout` a page may take altogether.
const GRACE: Duration = Duration::from_secs(2);

/// The name of these sessions in `pg_stat_activity`.
const APPLICATION_NAME: &str = "lakegate page";

/// Reads pages and large batches.
pub(super) struct Pages {
    schemas: Schemas,
    cache: Arc<Cache>,
    pool: Pool,
    under_way: Semaphore,
    statement_timeout: Duration,
}

/// Which rows are wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageQuery<'a> {
    pub(super) prefix: &'a Key,
    pub(super) limit: u32,
    /// The last key of the page before.
    pub(super) after: Option<&'a Key>,
    /// Whose rows.
    pub(super) view: &'a View<'a>,
}

impl Pages {
    /// # Errors
    /// Only by a defect.
    pub(super) fn new(
        connector: &Connector,
        schemas: &Schemas,
        cache: &Arc<Cache>,
        connections: u32,
        statement_timeout: Duration,
    ) -> Result<Self> {
        let purpose = Purpose::Page { statement_timeout };
        let pool = Pool::new(connector.clone(), purpose, APPLICATION_NAME, connections as usize, statement_timeout)?;
        let under_way = Semaphore::new(MAX_PAGES);
        Ok(Pages { schemas: schemas.clone(), cache: Arc::clone(cache), pool, under_way, statement_timeout })
    }

    /// Writes one page; the key to go on from, if there are further rows.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub(super) async fn read(
        &self,
        table: &PublishedTable,
        query: PageQuery<'_>,
        page: &mut RowWriter<'_>,
    ) -> Result<Option<Key>, Unanswered> {
        if query.view.is_empty() {
            return Ok(None);
        }
        let (prefix, owner) = (query.prefix.parts().count(), query.view.owner());
        let statement = statement::page(&self.schemas, table, prefix, query.after.is_some(), owner.is_some());
        // One row more than asked for tells whether there are further ones.
        let mut parameters = vec![Binary::text(table.name.as_str()), Binary::int8(i64::from(query.limit) + 1)];
        parameters.extend(query.prefix.parts().map(Binary::value));
        parameters.extend(query.after.into_iter().flat_map(Key::parts).skip(prefix).map(Binary::value));
        parameters.extend(owner.into_iter().flat_map(Key::parts).map(Binary::value));
        let (mut count, mut last, mut next) = (0, None, None);
        self.each(table, &statement, parameters, |row, key| {
            if count == query.limit || page.len() >= MAX_PAGE_BYTES {
                next = last.take();
                return Ok(ControlFlow::Break(()));
            }
            page.row(Values::new(&row, table)?)?;
            count += 1;
            last = Some(key);
            Ok(ControlFlow::Continue(()))
        })
        .await?;
        Ok(next)
    }

    /// The rows with these keys, each of which stands once among them, by their places; all of one moment. Rows that are not
    /// for whoever asks are as ones that are not there; they count for nothing, either.
    ///
    /// # Errors
    /// [`Unanswered`]; [`Code::TooLarge`] where the rows have more than [`MAX_BATCH_BYTES`].
    pub(super) async fn find(
        &self,
        table: &PublishedTable,
        keys: &[Key],
        view: &View<'_>,
    ) -> Result<Vec<Option<Row>>, Unanswered> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let numbers: HashMap<&Key, usize> = keys.iter().enumerate().map(|(number, key)| (key, number)).collect();
        let parameters = [Binary::text(table.name.as_str())].into_iter().chain(Binary::arrays(table, keys.iter()));
        let parameters: Vec<Binary> = parameters.collect();
        let mut rows: Vec<Option<Row>> = (0..keys.len()).map(|_| None).collect();
        let mut bytes = 0;
        self.each(table, &table.lookup, parameters, |row, key| {
            if !view.admits_values(table, Values::new(&row, table)?)? {
                return Ok(ControlFlow::Continue(()));
            }
            bytes += row.raw_size_bytes();
            if bytes > MAX_BATCH_BYTES {
                return Err(too_many_bytes());
            }
            if let Some(place) = numbers.get(&key).and_then(|&number| rows.get_mut(number)) {
                *place = Some(row);
            }
            Ok(ControlFlow::Continue(()))
        })
        .await?;
        Ok(rows)
    }

    /// Hands over each row that a statement finds, with its key, until told to stop.
    async fn each(
        &self,
        table: &PublishedTable,
        statement: &Query,
        parameters: Vec<Binary>,
        take: impl FnMut(Row, Key) -> Result<ControlFlow<()>>,
    ) -> Result<(), Unanswered> {
        let Ok(_permit) = self.under_way.try_acquire() else {
            let detail = format!("{MAX_PAGES} pages are being read");
            return Err(Unanswered::Failed(Error::new(Code::Overloaded, detail).hint("try again in a moment")));
        };
        let _part = part("read rows");
        let answer = timeout(self.statement_timeout + GRACE, self.ask(table, statement, parameters, take)).await;
        match answer {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Failure::Moved)) => Err(Unanswered::Moved),
            Ok(Err(Failure::Own(error))) if error.code() == Code::Overloaded => {
                let busy = Error::new(Code::Overloaded, "all connections for pages are busy");
                Err(Unanswered::Failed(busy.hint("try again in a moment")))
            }
            Ok(Err(Failure::Own(error))) if matches!(error.code(), Code::TooLarge | Code::NotAcceptable) => {
                Err(Unanswered::Failed(error))
            }
            Ok(Err(Failure::Own(error))) => {
                tracing::warn!(%error, table = %table.name, "a page cannot be served");
                Err(Unanswered::Failed(unavailable("the table cannot be read")))
            }
            Ok(Err(Failure::Postgres(error))) => {
                let refusal = refused(&error);
                tracing::warn!(error = %explain(error), table = %table.name, "a page failed");
                Err(Unanswered::Failed(refusal))
            }
            Err(_) => Err(Unanswered::Failed(unavailable("Postgres did not answer in time"))),
        }
    }

    async fn ask(
        &self,
        table: &PublishedTable,
        statement: &Query,
        parameters: Vec<Binary>,
        mut take: impl FnMut(Row, Key) -> Result<ControlFlow<()>>,
    ) -> Result<(), Failure> {
        let session = self.pool.get().await?;
        let parameters = parameters.into_iter().zip(statement.types.iter().cloned());
        let results = session.query_typed_raw(&statement.sql, parameters).await?;
        pin_mut!(results);
        let mut published = false;
        while let Some(result) = results.next().await {
            let row = result?;
            let values = Values::new(&row, table)?;
            if !values.are_of(table, &self.cache) {
                return Err(Failure::Moved);
            }
            published = true;
            let Some(key) = table.key_of(values)? else { continue };
            if take(row, key)?.is_break() {
                break;
            }
        }
        if published { Ok(()) } else { Err(Failure::Moved) }
    }
}

/// What a batch is told whose rows are too many bytes.
pub(super) fn too_many_bytes() -> Error {
    let detail = format!("the rows of the batch are more than {} MiB", MAX_BATCH_BYTES >> 20);
    Error::new(Code::TooLarge, detail).hint("ask for fewer keys at a time, or for fewer columns")
}
