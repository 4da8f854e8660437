//! Pages: the rows under the first parts of a composite key, in the order of the key.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::{StreamExt as _, pin_mut};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::key::Key;
use super::lookup::{Failure, refused, unavailable};
use super::queue::Unanswered;
use super::statement::{self, Binary, Values};
use super::table::PublishedTable;
use crate::domain::{Code, Error, Result, Schemas};
use crate::postgres::{Connector, Pool, Purpose};

/// A page ends early, with a cursor, once it holds this many bytes of rows.
const MAX_PAGE_BYTES: usize = 4 << 20;

/// Pages that may be under way or wait for a connection.
const MAX_PAGES: usize = 256;

/// How much longer than `statement_timeout` a page may take altogether.
const GRACE: Duration = Duration::from_secs(2);

/// The name of these sessions in `pg_stat_activity`.
const APPLICATION_NAME: &str = "lakegate page";

/// Reads pages on connections of their own, so that they never hold up lookups.
pub(super) struct Pages {
    schemas: Schemas,
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
    /// Indexes of shown columns; `None` = all.
    pub(super) columns: Option<&'a [usize]>,
}

/// One page.
#[derive(Debug)]
pub(super) struct Page {
    /// The rows as JSON, with commas between them.
    pub(super) rows: Vec<u8>,
    /// The key to go on from, if there are further rows.
    pub(super) next: Option<Key>,
}

impl Pages {
    /// # Errors
    /// Only by a defect.
    pub(super) fn new(
        connector: &Connector,
        schemas: &Schemas,
        connections: u32,
        statement_timeout: Duration,
    ) -> Result<Self> {
        let purpose = Purpose::Page { statement_timeout };
        let pool = Pool::new(connector.clone(), purpose, APPLICATION_NAME, connections as usize, statement_timeout)?;
        Ok(Pages { schemas: schemas.clone(), pool, under_way: Semaphore::new(MAX_PAGES), statement_timeout })
    }

    /// # Errors
    /// [`Unanswered`].
    pub(super) async fn read(&self, table: &PublishedTable, query: PageQuery<'_>) -> Result<Page, Unanswered> {
        let Ok(_permit) = self.under_way.try_acquire() else {
            let detail = format!("{MAX_PAGES} pages are being read");
            return Err(Unanswered::Failed(Error::new(Code::Overloaded, detail).hint("try again in a moment")));
        };
        let answer = timeout(self.statement_timeout + GRACE, self.ask(table, query)).await;
        match answer {
            Ok(Ok(page)) => Ok(page),
            Ok(Err(Failure::Moved)) => Err(Unanswered::Moved),
            Ok(Err(Failure::Own(error))) if error.code() == Code::Overloaded => {
                let busy = Error::new(Code::Overloaded, "all connections for pages are busy");
                Err(Unanswered::Failed(busy.hint("try again in a moment")))
            }
            Ok(Err(Failure::Own(error))) => {
                tracing::warn!(%error, table = %table.name, "a page cannot be served");
                Err(Unanswered::Failed(unavailable("the table cannot be read")))
            }
            Ok(Err(Failure::Postgres(error))) => {
                tracing::warn!(%error, table = %table.name, "a page failed");
                Err(Unanswered::Failed(refused(&error)))
            }
            Err(_) => Err(Unanswered::Failed(unavailable("Postgres did not answer in time"))),
        }
    }

    async fn ask(&self, table: &PublishedTable, query: PageQuery<'_>) -> Result<Page, Failure> {
        let session = self.pool.get().await?;
        let prefix = query.prefix.parts().count();
        let statement = statement::page(&self.schemas, table, prefix, query.after.is_some());
        // One row more than asked for tells whether there are further ones.
        let mut parameters = vec![Binary::text(table.name.as_str()), Binary::int8(i64::from(query.limit) + 1)];
        parameters.extend(query.prefix.parts().map(Binary::value));
        parameters.extend(query.after.into_iter().flat_map(Key::parts).skip(prefix).map(Binary::value));
        let results = session.query_typed_raw(&statement.sql, parameters.into_iter().zip(statement.types)).await?;
        pin_mut!(results);

        let mut page = Page { rows: Vec::new(), next: None };
        let (mut count, mut last, mut published) = (0, None, false);
        while let Some(result) = results.next().await {
            let result = result?;
            let values = Values::new(&result, table)?;
            if !values.are_of(table) {
                return Err(Failure::Moved);
            }
            published = true;
            let Some(key) = table.key_of(values)? else { continue };
            if count == query.limit || page.rows.len() >= MAX_PAGE_BYTES {
                page.next = last;
                break;
            }
            if count > 0 {
                page.rows.push(b',');
            }
            table.shape.write(values.shown(table))?.append_to(&mut page.rows, query.columns);
            count += 1;
            last = Some(key);
        }
        if published { Ok(page) } else { Err(Failure::Moved) }
    }
}

/// Where a page ended: what a client hands back to get the next one.
///
/// It is bound to the publish that its page was read at; its text is opaque, and whatever a client makes of it is
/// checked before use.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cursor {
    pub(super) publish_no: i64,
    pub(super) table: String,
    /// The canonical bytes of the last key.
    pub(super) key: Vec<u8>,
}

/// The form of a cursor; another one is another number.
const CURSOR_FORM: u8 = 1;

impl Cursor {
    pub(super) fn after(table: &PublishedTable, key: &Key) -> Self {
        Cursor { publish_no: table.publish_no, table: table.name.to_string(), key: key.as_bytes().to_vec() }
    }

    pub(super) fn encode(&self) -> String {
        let mut raw = vec![CURSOR_FORM];
        raw.extend_from_slice(&self.publish_no.to_be_bytes());
        raw.push(self.table.len() as u8);
        raw.extend_from_slice(self.table.as_bytes());
        raw.extend_from_slice(&self.key);
        URL_SAFE_NO_PAD.encode(raw)
    }

    fn decode(text: &str) -> Option<Self> {
        let raw = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (&form, rest) = raw.split_first()?;
        let (publish_no, rest) = rest.split_first_chunk::<8>()?;
        let (&length, rest) = rest.split_first()?;
        let (table, key) = rest.split_at_checked(usize::from(length))?;
        let table = String::from_utf8(table.to_vec()).ok()?;
        (form == CURSOR_FORM).then(|| Cursor { publish_no: i64::from_be_bytes(*publish_no), table, key: key.to_vec() })
    }

    /// The key that a client's cursor goes on from, for this table and prefix. `follow` = whatever was published since.
    ///
    /// # Errors
    /// [`Code::BadParameter`] when it is no cursor of these rows; [`Code::StaleCursor`] when something was published
    /// since, or the key's columns are not what they were.
    pub(super) fn resume(text: &str, table: &PublishedTable, prefix: &Key, follow: bool) -> Result<Key> {
        let foreign = || {
            Error::new(Code::BadParameter, "`cursor` does not belong to these rows")
                .hint("pass on the `next` of the page before, unchanged, with the same path")
        };
        let cursor = Cursor::decode(text).filter(|cursor| cursor.table == table.name.as_str()).ok_or_else(foreign)?;
        let stale = |detail: &str| {
            Error::new(Code::StaleCursor, detail)
                .hint("begin again without `cursor`, or go on across publishes with `follow=true`")
        };
        if cursor.publish_no != table.publish_no && !follow {
            return Err(stale("the table was published anew since the page before"));
        }
        match Key::from_bytes(&table.key, &cursor.key) {
            Some(key) if cursor.key.starts_with(prefix.as_bytes()) => Ok(key),
            None if cursor.publish_no != table.publish_no => {
                Err(stale("the table's key has changed since the page before"))
            }
            _ => Err(foreign()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::table::tests::table;
    use proptest::prelude::*;

    fn cursor(table: &PublishedTable, id: &str) -> (Key, String) {
        let key = Key::parse(&table.key, &[id]).unwrap();
        let text = Cursor::after(table, &key).encode();
        (key, text)
    }

    #[test]
    fn a_cursor_goes_on_from_its_key() {
        let table = table(1, "orders");
        let (key, text) = cursor(&table, "42");
        assert_eq!(Cursor::resume(&text, &table, &Key::default(), false).unwrap(), key);
    }

    #[test]
    fn a_cursor_is_stale_after_a_publish_unless_followed() {
        let mut table = table(1, "orders");
        let (key, text) = cursor(&table, "42");
        table.publish_no += 1;
        let refused = Cursor::resume(&text, &table, &Key::default(), false).unwrap_err();
        assert_eq!(refused.code(), Code::StaleCursor);
        assert_eq!(Cursor::resume(&text, &table, &Key::default(), true).unwrap(), key);
    }

    #[test]
    fn a_cursor_of_another_table_or_prefix_is_refused() {
        let orders = table(1, "orders");
        let (_, text) = cursor(&orders, "42");
        let other_prefix = Key::parse(&orders.key, &["7"]).unwrap();
        for refused in [
            Cursor::resume(&text, &table(2, "others"), &Key::default(), false),
            Cursor::resume(&text, &orders, &other_prefix, false),
            Cursor::resume("", &orders, &Key::default(), false),
            Cursor::resume("%%%", &orders, &Key::default(), true),
        ] {
            assert_eq!(refused.unwrap_err().code(), Code::BadParameter);
        }
    }

    proptest! {
        #[test]
        fn foreign_cursors_never_panic(raw: Vec<u8>, text in ".{0,60}") {
            let table = table(1, "orders");
            let _ = Cursor::resume(&URL_SAFE_NO_PAD.encode(raw), &table, &Key::default(), true);
            let _ = Cursor::resume(&text, &table, &Key::default(), false);
        }
    }
}
