//! What clients ask, and what the answers must be.

use std::io::Read as _;

use arrow::ipc::reader::StreamReader;
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Decimal128Type, Int32Type, Int64Type};
use arrow_array::{Array as _, RecordBatch};
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use serde_json::Value;

use super::content::{self, COLUMNS, Numbers, PARTS, ROWS, Row};
use crate::support::http::Reply;

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json(Numbers),
    Ndjson,
    Csv,
    Arrow,
}

const FORMS: [(Form, &str); 5] = [
    (Form::Json(Numbers::Exact), "application/json"),
    (Form::Json(Numbers::Strings), "application/json; numbers=string"),
    (Form::Ndjson, "application/x-ndjson"),
    (Form::Csv, "text/csv"),
    (Form::Arrow, "application/vnd.apache.arrow.stream"),
];

/// Which rows are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    One(i64),
    /// In JSON.
    Batch(Vec<i64>),
    /// Rows of a part after one of them, with the cursor that leads there.
    Page {
        part: i64,
        limit: usize,
        after: Option<(i64, String)>,
        follow: bool,
    },
}

/// A question.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) wanted: Wanted,
    form: (Form, &'static str),
    columns: &'static [&'static str],
    is_head: bool,
    gzip: bool,
    /// The tag of an answer to the same question, and the rows that it showed.
    known: Option<(String, Vec<Row>)>,
}

/// What a client takes from its last answer to the next question.
#[derive(Debug, Default)]
pub(super) enum Memory {
    #[default]
    Nothing,
    /// A page had another one after it.
    Next(Question),
    /// It may ask whether an answer still holds.
    Tag(Question),
}

impl Question {
    fn of(wanted: Wanted) -> Question {
        Question { wanted, form: FORMS[0], columns: &COLUMNS, is_head: false, gzip: false, known: None }
    }

    /// A question of some kind; most are for one row.
    pub(super) fn draw(random: &mut StdRng, memory: Memory) -> Question {
        match memory {
            Memory::Next(question) => return question,
            Memory::Tag(question) if random.random_bool(0.5) => return question,
            Memory::Tag(_) | Memory::Nothing => {}
        }
        let mut id = || random.random_range(0..ROWS + ROWS / 50);
        let mut question = match id() % 20 {
            0..13 => Question::of(Wanted::One(id())),
            13..16 => Question::of(Wanted::Batch((0..9).map(|_| id()).collect())),
            // More than lookups answer at once.
            16 => Question::of(Wanted::Batch((0..100).map(|_| id()).collect())),
            _ => {
                let limit = [1, 20, 100][id() as usize % 3];
                Question::of(Wanted::Page { part: id() % PARTS, limit, after: None, follow: id() % 2 == 0 })
            }
        };
        if !matches!(question.wanted, Wanted::Batch(_)) {
            question.form = if random.random_bool(0.2) { *FORMS.choose(random).unwrap() } else { FORMS[0] };
            question.is_head = matches!(question.wanted, Wanted::One(_)) && random.random_bool(0.05);
        }
        if random.random_bool(0.1) {
            question.columns = &["big", "name"];
        }
        question.gzip = random.random_bool(0.1);
        question
    }

    /// For all rows of a part.
    pub(super) fn whole_part(part: i64) -> Question {
        Question::of(Wanted::Page { part, limit: (ROWS / PARTS) as usize, after: None, follow: false })
    }

    pub(super) fn method(&self) -> &'static str {
        match self.wanted {
            Wanted::Batch(_) => "POST",
            _ if self.is_head => "HEAD",
            _ => "GET",
        }
    }

    pub(super) fn url(&self) -> String {
        let columns = if self.columns.len() == COLUMNS.len() { "" } else { "columns=big,name" };
        let mark = |mark| if columns.is_empty() { "" } else { mark };
        match &self.wanted {
            Wanted::One(id) => format!("/v1/items/{}/{id}{}{columns}", content::part(*id), mark("?")),
            Wanted::Batch(_) => format!("/v1/items/_batch{}{columns}", mark("?")),
            Wanted::Page { part, limit, after, follow } => {
                let cursor = after.as_ref().map(|(_, cursor)| format!("&cursor={cursor}&follow={follow}"));
                format!("/v1/items/{part}?limit={limit}{}{columns}{}", mark("&"), cursor.unwrap_or_default())
            }
        }
    }

    pub(super) fn headers(&self) -> Vec<(&str, &str)> {
        let mut headers = vec![("Accept", self.form.1)];
        if self.gzip {
            headers.push(("Accept-Encoding", "gzip"));
        }
        if let Some((tag, _)) = &self.known {
            headers.push(("If-None-Match", tag));
        }
        if matches!(self.wanted, Wanted::Batch(_)) {
            headers.push(("Content-Type", "application/json"));
        }
        headers
    }

    pub(super) fn body(&self) -> String {
        let Wanted::Batch(ids) = &self.wanted else { return String::new() };
        let keys: Vec<String> = ids.iter().map(|id| format!("[{},{id}]", content::part(*id))).collect();
        format!("{{\"keys\":[{}]}}", keys.join(","))
    }

    /// Whether the rows go on from those of an earlier publish or not at all.
    pub(super) fn may_be_stale(&self) -> bool {
        matches!(self.wanted, Wanted::Page { after: Some(_), follow: false, .. })
    }

    /// Checks an answer of 200, 304 or 404 that says it is of this version; what is to be asked next.
    pub(super) fn check(self, reply: &Reply, version: u64) -> Memory {
        let wanted = match &self.wanted {
            Wanted::One(id) => content::row(*id, version).into_iter().collect(),
            Wanted::Batch(ids) => {
                self.check_batch(ids, reply, version);
                return Memory::Nothing;
            }
            Wanted::Page { part, limit, after, .. } => {
                let after = after.as_ref().map(|(id, _)| *id);
                content::rows_after(*part, after, version).take(*limit).collect::<Vec<Row>>()
            }
        };
        let is_missing = matches!(self.wanted, Wanted::One(_)) && wanted.is_empty();
        if is_missing {
            assert_eq!(reply.status, 404, "no such row in version {version}: {reply:?}");
            return Memory::Nothing;
        }
        if let Some((tag, rows)) = &self.known {
            let status = if *rows == wanted && !self.goes_on(&wanted, version) { 304 } else { 200 };
            assert_eq!(reply.status, status, "{tag} of {rows:?} in version {version}: {reply:?}");
        }
        if reply.status == 304 {
            return Memory::Nothing;
        }
        assert_eq!(reply.status, 200, "{self:?}: {reply:?}");
        if self.is_head {
            return Memory::Nothing;
        }
        let next = self.check_rows(&wanted, reply, version);
        self.then(&wanted, reply, version, next)
    }

    /// Whether there is a page after these rows.
    fn goes_on(&self, rows: &[Row], version: u64) -> bool {
        let Wanted::Page { part, limit, .. } = self.wanted else { return false };
        let last = rows.last().map(|row| row.id);
        rows.len() == limit && content::rows_after(part, last, version).next().is_some()
    }

    /// The next page if there must be one, else whether the answer still holds.
    fn then(self, wanted: &[Row], reply: &Reply, version: u64, next: Option<String>) -> Memory {
        let last = wanted.last().map(|row| row.id);
        let goes_on = self.goes_on(wanted, version);
        assert_eq!(next.is_some(), goes_on, "the page after {last:?} in version {version}: {reply:?}");
        if let Wanted::Page { part, limit, follow, .. } = self.wanted {
            if let (Some(next), Some(last)) = (next, last) {
                let wanted = Wanted::Page { part, limit, after: Some((last, next)), follow };
                return Memory::Next(Question { wanted, known: None, ..self });
            }
        }
        let tag = reply.header("ETag").unwrap_or_else(|| panic!("no tag: {reply:?}")).to_owned();
        Memory::Tag(Question { known: Some((tag, wanted.to_vec())), ..self })
    }

    /// That the body is these rows, byte for byte; the cursor of the next page.
    fn check_rows(&self, wanted: &[Row], reply: &Reply, version: u64) -> Option<String> {
        let body = self.decoded(reply);
        let text = || String::from_utf8(body.clone()).unwrap();
        let in_header = || reply.header("Lakegate-Next").map(str::to_owned);
        let said = |text: &str, expected: &str| {
            assert!(text == expected, "{self:?} in version {version}: {text}\ninstead of {expected}");
        };
        match self.form.0 {
            Form::Json(numbers) => {
                let text = text();
                let rows: Vec<String> = wanted.iter().map(|row| row.json(self.columns, numbers)).collect();
                let expected = format!("{{\"data\":[{}],\"error\":[]", rows.join(","));
                said(text.get(..expected.len()).unwrap_or(&text), &expected);
                match &text[expected.len()..] {
                    "}" => None,
                    rest => {
                        let rest: Value = serde_json::from_str(&rest.replacen(',', "{", 1)).unwrap();
                        rest["next"].as_str().map(str::to_owned)
                    }
                }
            }
            Form::Ndjson => {
                let lines = wanted.iter().map(|row| row.json(self.columns, Numbers::Exact) + "\n");
                said(&text(), &lines.collect::<String>());
                in_header()
            }
            Form::Csv => {
                let lines = wanted.iter().map(|row| row.csv(self.columns));
                said(&text(), &format!("{}\r\n{}", self.columns.join(","), lines.collect::<String>()));
                in_header()
            }
            Form::Arrow => {
                let batches = StreamReader::try_new(body.as_slice(), None).unwrap();
                let rows: usize = batches.map(|batch| self.check_arrow(&batch.unwrap(), wanted, version)).sum();
                assert_eq!(rows, wanted.len(), "rows of version {version}");
                in_header()
            }
        }
    }

    fn check_arrow(&self, batch: &RecordBatch, wanted: &[Row], version: u64) -> usize {
        assert_eq!(batch.num_columns(), self.columns.len());
        for (at, row) in wanted.iter().enumerate() {
            for column in self.columns {
                let values = batch.column_by_name(column).unwrap();
                let is_same = match *column {
                    "part" => values.as_primitive::<Int32Type>().value(at) == row.part,
                    "id" => values.as_primitive::<Int64Type>().value(at) == row.id,
                    "name" if values.is_null(at) => row.name.is_none(),
                    "name" => Some(values.as_string::<i32>().value(at)) == row.name.as_deref(),
                    "price" => values.as_primitive::<Decimal128Type>().value(at) == row.price,
                    _ => values.as_primitive::<Int64Type>().value(at) == row.big,
                };
                assert!(is_same, "`{column}` of {row:?} in version {version}: {values:?}");
            }
        }
        batch.num_rows()
    }

    fn check_batch(&self, ids: &[i64], reply: &Reply, version: u64) {
        assert_eq!(reply.status, 200, "{reply:?}");
        let rows: Vec<Option<Row>> = ids.iter().map(|id| content::row(*id, version)).collect();
        let json =
            |row: &Option<Row>| row.as_ref().map_or("null".to_owned(), |row| row.json(self.columns, Numbers::Exact));
        let expected = format!("{{\"data\":[{}],\"error\":[", rows.iter().map(json).collect::<Vec<_>>().join(","));
        let text = String::from_utf8(self.decoded(reply)).unwrap();
        assert!(text.starts_with(&expected), "{ids:?} in version {version}: {text}\ninstead of {expected}");
        let missing: Vec<usize> = (0..).zip(&rows).filter(|(_, row)| row.is_none()).map(|(index, _)| index).collect();
        let told: Value = serde_json::from_str(&text).unwrap();
        let told: Vec<usize> =
            told["error"].as_array().unwrap().iter().map(|miss| miss["index"].as_u64().unwrap() as usize).collect();
        assert_eq!(told, missing, "{ids:?} in version {version}: {text}");
    }

    fn decoded(&self, reply: &Reply) -> Vec<u8> {
        match reply.header("Content-Encoding") {
            None => reply.bytes.clone(),
            Some("gzip") if self.gzip => {
                let mut body = Vec::new();
                flate2::read::GzDecoder::new(reply.bytes.as_slice()).read_to_end(&mut body).unwrap();
                body
            }
            Some(other) => panic!("{other} was not asked for: {reply:?}"),
        }
    }
}
