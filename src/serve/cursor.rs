//! Where a page ended: what a client hands back to get the next one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::key::Key;
use super::table::PublishedTable;
use crate::domain::{Code, Error, Result};

/// A place between two rows.
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
