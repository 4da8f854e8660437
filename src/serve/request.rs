//! What a URL asks for.
//!
//! Paths are split at `/`, queries at `&` and `columns` at `,` before percent-decoding, so that an encoded separator is
//! data. In a query, `+` is a space, as in forms.

use std::borrow::Cow;
use std::time::Duration;

use axum::http::HeaderMap;
use percent_encoding::percent_decode_str;

use super::accept::Format;
use super::batch;
use super::metrics::Operation;
use super::table::PublishedTable;
use crate::domain::{Code, Error, Result, parse_duration};

/// One reading request: rows of a table by its key or the first parts of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Question {
    /// The table's published name.
    pub table: String,
    /// The parts of the key, decoded; at least one.
    pub key: Vec<Vec<u8>>,
    /// The columns to show, in this order; `None` = all that are not hidden.
    pub columns: Option<Vec<String>>,
    /// The most rows of a page; `None` = as many as the table's policy and the server allow.
    pub limit: Option<u32>,
    /// Where the page before ended.
    pub cursor: Option<String>,
    /// Whether to go on from the cursor whatever was published since; `None` = no.
    pub follow: Option<bool>,
    /// How long ago the source may have been looked at; `None` = any time.
    pub max_staleness: Option<Duration>,
    /// How the rows are written.
    pub format: Format,
}

/// A request for many rows of a table by their keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct BatchQuestion {
    pub(super) table: String,
    /// In the order in which they are answered.
    pub(super) keys: Vec<batch::Asked>,
    /// As in [`Question`].
    pub(super) columns: Option<Vec<String>>,
    /// As in [`Question`].
    pub(super) max_staleness: Option<Duration>,
    /// As in [`Question`].
    pub(super) format: Format,
}

impl BatchQuestion {
    /// Reads the table's name as it stands in the path and the query of a URL, both still percent-encoded. The keys
    /// stand in the body.
    ///
    /// # Errors
    /// [`Code::BadParameter`] for parameters that batches do not have.
    pub(super) fn from_url(table: &str, query: Option<&str>) -> Result<Self> {
        let mut question = Question::default();
        for (name, value) in parameters(query.unwrap_or_default()) {
            if &*name != b"columns" {
                return Err(Error::new(Code::BadParameter, format!("a batch has no parameter `{}`", echo(&name)))
                    .hint("the parameter of a batch is columns; its keys stand in the body"));
            }
            question.parameter(&name, value)?;
        }
        let table = text("the table's name", decode(table))?;
        Ok(BatchQuestion { table, columns: question.columns, ..BatchQuestion::default() })
    }
}

/// What a request asks for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked<'a> {
    /// A row, or a page.
    One(&'a Question),
    /// Many rows.
    Batch(&'a BatchQuestion),
}

impl<'a> Asked<'a> {
    /// The name of the table.
    pub(super) fn table(self) -> &'a str {
        match self {
            Asked::One(question) => &question.table,
            Asked::Batch(question) => &question.table,
        }
    }

    /// What it asks of this table.
    pub(super) fn operation(self, table: &PublishedTable) -> Operation {
        match self {
            Asked::One(question) if question.key.len() < table.key.len() => Operation::Page,
            Asked::One(_) => Operation::Row,
            Asked::Batch(_) => Operation::Batch,
        }
    }

    /// How long ago its source may have been looked at.
    pub(super) fn max_staleness(self) -> Option<Duration> {
        match self {
            Asked::One(question) => question.max_staleness,
            Asked::Batch(question) => question.max_staleness,
        }
    }
}

/// How long ago the source may have been looked at, by the header `Lakegate-Max-Staleness`.
///
/// # Errors
/// [`Code::BadParameter`] for anything but one duration.
pub(super) fn max_staleness(headers: &HeaderMap) -> Result<Option<Duration>> {
    let mut values = headers.get_all("lakegate-max-staleness").iter();
    let Some(value) = values.next() else { return Ok(None) };
    match value.to_str().ok().and_then(|text| parse_duration(text.trim())) {
        Some(duration) if values.next().is_none() => Ok(Some(duration)),
        _ => {
            Err(Error::new(Code::BadParameter, "`Lakegate-Max-Staleness` takes one duration like `30s`, `10m` or `2h`"))
        }
    }
}

impl Question {
    /// Reads the path after `/v1/` and the query of a URL, both still percent-encoded.
    ///
    /// # Errors
    /// [`Code::BadKey`] without any key, and for path parts that are empty, `.` or `..`; [`Code::BadParameter`] for
    /// parameters that are unknown, given twice or not of their form.
    pub fn from_url(path: &str, query: Option<&str>) -> Result<Self> {
        let mut parts = path.split('/');
        let mut question = Question {
            table: text("the table's name", decode(parts.next().unwrap_or_default()))?,
            ..Question::default()
        };
        for part in parts {
            let part = decode(part);
            if matches!(&*part, b"" | b"." | b"..") {
                return Err(
                    Error::new(Code::BadKey, "a part of the path is empty, `.` or `..`").hint(in_query(&question))
                );
            }
            question.key.push(part.into_owned());
        }
        let in_path = !question.key.is_empty();
        for (name, value) in parameters(query.unwrap_or_default()) {
            if &*name == b"key" && in_path {
                return Err(Error::new(Code::BadParameter, "the key stands in the path and in `key` parameters")
                    .hint("write all of its parts in one of them"));
            }
            question.parameter(&name, value)?;
        }
        if question.key.is_empty() {
            return Err(Error::new(Code::BadKey, "no key was given").hint(in_query(&question)));
        }
        Ok(question)
    }

    fn parameter(&mut self, name: &[u8], value: &str) -> Result<()> {
        match name {
            b"key" => self.key.push(decode_form(value).into_owned()),
            b"columns" => {
                let names = value.split(',').map(|name| text("`columns`", decode_form(name)));
                once("columns", &mut self.columns, names.collect::<Result<_>>()?)?;
            }
            b"limit" => {
                let limit = value
                    .parse()
                    .map_err(|_| Error::new(Code::BadParameter, "`limit` takes a whole number of rows, 1 or more"))?;
                once("limit", &mut self.limit, limit)?;
            }
            b"cursor" => once("cursor", &mut self.cursor, text("`cursor`", decode_form(value))?)?,
            b"follow" => {
                let follow =
                    value.parse().map_err(|_| Error::new(Code::BadParameter, "`follow` takes `true` or `false`"))?;
                once("follow", &mut self.follow, follow)?;
            }
            other => {
                return Err(Error::new(Code::BadParameter, format!("there is no parameter `{}`", echo(other)))
                    .hint("the parameters are columns, cursor, follow, key and limit"));
            }
        }
        Ok(())
    }
}

/// The beginning of what a client wrote, to be repeated in an error.
fn echo(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().take(40).flat_map(char::escape_debug).collect()
}

fn in_query(question: &Question) -> String {
    let table: String = question.table.chars().take(64).flat_map(char::escape_debug).collect();
    format!("write /v1/{table}/PART/PART, or /v1/{table}?key=PART&key=PART, which takes every value")
}

fn parameters(query: &str) -> impl Iterator<Item = (Cow<'_, [u8]>, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode_form(name), value)
    })
}

fn once<T>(name: &str, place: &mut Option<T>, value: T) -> Result<()> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::new(Code::BadParameter, format!("`{name}` is given twice"))),
    }
}

fn decode(part: &str) -> Cow<'_, [u8]> {
    percent_decode_str(part).into()
}

fn decode_form(part: &str) -> Cow<'_, [u8]> {
    if part.contains('+') {
        return Cow::Owned(percent_decode_str(&part.replace('+', " ")).collect());
    }
    decode(part)
}

fn text(what: &str, bytes: Cow<'_, [u8]>) -> Result<String> {
    String::from_utf8(bytes.into_owned())
        .map_err(|_| Error::new(Code::BadParameter, format!("{what} is not percent-encoded UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(path: &str, query: &str) -> Vec<Vec<u8>> {
        Question::from_url(path, Some(query)).unwrap().key
    }

    fn refusal(path: &str, query: &str) -> Code {
        Question::from_url(path, Some(query)).unwrap_err().code()
    }

    #[test]
    fn an_encoded_slash_is_data() {
        assert_eq!(key("t/a%2Fb/2", ""), [&b"a/b"[..], b"2"]);
        assert_eq!(key("t", "key=a%2Fb&key=2"), [&b"a/b"[..], b"2"]);
        assert_eq!(key("t", "key=a/b"), [b"a/b"]);
    }

    #[test]
    fn a_plus_is_a_space_in_queries_only() {
        assert_eq!(key("t/a+b", ""), [b"a+b"]);
        assert_eq!(key("t", "key=a+b%2B"), [b"a b+"]);
    }

    #[test]
    fn parts_that_clients_rewrite_stand_in_the_query_alone() {
        for path in ["t/", "t//a", "t/a/", "t/.", "t/..", "t/%2e%2E", "t/%2E"] {
            assert_eq!(refusal(path, ""), Code::BadKey, "{path}");
        }
        assert_eq!(key("t", "key=&key=.&key=.."), [&b""[..], b".", b".."]);
    }

    #[test]
    fn no_key_is_refused() {
        assert_eq!(refusal("t", ""), Code::BadKey);
        assert_eq!(refusal("t", "limit=1"), Code::BadKey);
    }

    #[test]
    fn parameters_are_known_and_given_once() {
        for query in [
            "x=1",
            "limit=1&limit=2",
            "limit=-1",
            "follow=1",
            "follow=true&follow=false",
            "cursor=%FF",
            "key=2",
            "columns=a&columns=b",
        ] {
            assert_eq!(refusal("t/1", query), Code::BadParameter, "{query}");
        }
        let question = Question::from_url("t/1", Some("columns=a,b%2Cc&limit=5&cursor=x&follow=true")).unwrap();
        assert_eq!(question.columns.unwrap(), ["a", "b,c"]);
        assert_eq!((question.limit, question.cursor.as_deref(), question.follow), (Some(5), Some("x"), Some(true)));
    }

    #[test]
    fn a_batch_has_columns_alone() {
        let question = BatchQuestion::from_url("a%62", Some("columns=a,b")).unwrap();
        assert_eq!((question.table.as_str(), question.columns.unwrap().len()), ("ab", 2));
        for query in ["key=1", "limit=1", "x=1", "columns=a&columns=b"] {
            assert_eq!(BatchQuestion::from_url("t", Some(query)).unwrap_err().code(), Code::BadParameter, "{query}");
        }
    }

    #[test]
    fn a_bound_on_staleness_is_one_duration() {
        let bound = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("Lakegate-Max-Staleness", value.parse().unwrap());
            }
            max_staleness(&headers)
        };
        assert_eq!(bound(&[]).unwrap(), None);
        assert_eq!(bound(&["10m"]).unwrap(), Some(Duration::from_secs(600)));
        assert_eq!(bound(&["0s"]).unwrap(), Some(Duration::ZERO));
        for refused in [&["10"][..], &["-1m"], &["1m", "1m"], &["1m, 2m"], &[""]] {
            assert_eq!(bound(refused).unwrap_err().code(), Code::BadParameter, "{refused:?}");
        }
    }

    proptest! {
        #[test]
        fn foreign_urls_never_panic(path in ".{0,60}", query in ".{0,60}") {
            let _ = Question::from_url(&path, Some(&query));
        }

        #[test]
        fn every_key_can_be_asked_for(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..4)) {
            let encoded = |part: &Vec<u8>| percent_encoding::percent_encode(part, percent_encoding::NON_ALPHANUMERIC).to_string();
            let query: Vec<String> = parts.iter().map(|part| format!("key={}", encoded(part))).collect();
            prop_assert_eq!(key("t", &query.join("&")), parts);
        }
    }
}
