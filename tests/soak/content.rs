//! A table whose whole content is a function of its version, so that every answer that says its version can be checked.
//!
//! Version `w` changes all rows, or writes those of one group, or removes them; a row is what the last version made of it
//! that changed it.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringArray};

use crate::support::lake::LakeTable;

/// Rows have the ids up to this one.
pub(super) const ROWS: i64 = 4_000;
/// The key is part and id; a part has a row in so many.
pub(super) const PARTS: i64 = 4;
/// The columns, in order.
pub(super) const COLUMNS: [&str; 5] = ["part", "id", "name", "price", "big"];
/// A row in so many is changed by a version that changes some.
const GROUPS: i64 = 41;
/// One version in so many changes all rows.
const WHOLE: u64 = 10;
/// The greatest integer of which a double tells the next one.
const MAX_SAFE: u64 = (1 << 53) - 1;

/// What a version does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// It makes nothing but an empty table.
    Nothing,
    /// It writes all rows anew, and leaves some out.
    All,
    /// It removes the rows of a group.
    Remove(i64),
    /// It writes the rows of a group, new ones among them.
    Write(i64),
}

impl Change {
    fn of(version: u64) -> Change {
        let group = version as i64 % GROUPS;
        match version {
            0 => Change::Nothing,
            1 => Change::All,
            _ if version.is_multiple_of(WHOLE) => Change::All,
            _ if version.is_multiple_of(3) => Change::Remove(group),
            _ => Change::Write(group),
        }
    }

    fn row(self, id: i64, version: u64) -> Option<Row> {
        match self {
            Change::Nothing | Change::Remove(_) => None,
            Change::All if (id + version as i64) % 11 == 0 => None,
            Change::All | Change::Write(_) => Some(Row::written(id, version)),
        }
    }
}

/// How numbers are written in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Numbers {
    Exact,
    Strings,
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) part: i32,
    pub(super) id: i64,
    pub(super) name: Option<String>,
    /// In hundredths.
    pub(super) price: i128,
    pub(super) big: i64,
}

/// The row with this key in a version.
pub(super) fn row(id: i64, version: u64) -> Option<Row> {
    if !(0..ROWS).contains(&id) {
        return None;
    }
    let whole = if version < WHOLE { 1 } else { version - version % WHOLE };
    let touched = |at: &u64| match Change::of(*at) {
        Change::Remove(group) | Change::Write(group) => id % GROUPS == group,
        Change::Nothing | Change::All => false,
    };
    let last = (whole + 1..=version).rev().find(touched).unwrap_or(whole);
    Change::of(last).row(id, last)
}

/// The part of a row.
pub(super) fn part(id: i64) -> i64 {
    id % PARTS
}

/// The rows of a part after one of them, in the order of the key.
pub(super) fn rows_after(part: i64, after: Option<i64>, version: u64) -> impl Iterator<Item = Row> {
    let first = after.map_or(part, |after| after + PARTS);
    (first..ROWS).step_by(PARTS as usize).filter_map(move |id| row(id, version))
}

impl Row {
    fn written(id: i64, version: u64) -> Row {
        let seed = id + version as i64;
        let name = match seed % 5 {
            0 => None,
            1 => Some(String::new()),
            _ => Some(format!("say \"{version}\", näh {id}{}", "x".repeat((id * 7 + seed) as usize % 150))),
        };
        let big = if id % 3 == 0 { id - version as i64 } else { i64::MAX - id * 1_000_003 - version as i64 };
        let price = i128::from((id * 31 + version as i64 * 17) % 1_000_000 - 500_000);
        Row { part: part(id) as i32, id, name, price, big }
    }

    fn price_text(&self) -> String {
        let (sign, cents) = (if self.price < 0 { "-" } else { "" }, self.price.unsigned_abs());
        format!("{sign}{}.{:02}", cents / 100, cents % 100)
    }

    fn json_value(&self, column: &str, numbers: Numbers) -> String {
        let as_text = |text: String, is_exact: bool| {
            if numbers == Numbers::Strings && !is_exact { format!("\"{text}\"") } else { text }
        };
        match column {
            "part" => self.part.to_string(),
            "id" => self.id.to_string(),
            "name" => self.name.as_ref().map_or("null".to_owned(), |name| format!("\"{}\"", name.replace('"', "\\\""))),
            "price" => as_text(self.price_text(), false),
            "big" => as_text(self.big.to_string(), self.big.unsigned_abs() <= MAX_SAFE),
            other => panic!("no column {other}"),
        }
    }

    /// As an object of JSON, byte for byte.
    pub(super) fn json(&self, columns: &[&str], numbers: Numbers) -> String {
        let mut text = String::from("{");
        for column in columns {
            let comma = if text.len() > 1 { "," } else { "" };
            write!(text, "{comma}\"{column}\":{}", self.json_value(column, numbers)).unwrap();
        }
        text + "}"
    }

    /// As a line of CSV, byte for byte.
    pub(super) fn csv(&self, columns: &[&str]) -> String {
        let field = |column: &&str| match (*column, &self.name) {
            ("name", None) => String::new(),
            ("name", Some(name)) => format!("\"{}\"", name.replace('"', "\"\"")),
            _ => self.json_value(column, Numbers::Exact),
        };
        columns.iter().map(field).collect::<Vec<_>>().join(",") + "\r\n"
    }
}

fn batch(rows: &[Row]) -> RecordBatch {
    let prices: Decimal128Array = rows.iter().map(|row| Some(row.price)).collect();
    let columns: [(&str, ArrayRef, bool); 5] = [
        ("part", Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.part))), false),
        ("id", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.id))), false),
        ("name", Arc::new(rows.iter().map(|row| row.name.as_deref()).collect::<StringArray>()), true),
        ("price", Arc::new(prices.with_precision_and_scale(12, 2).unwrap()), true),
        ("big", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.big))), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

/// All rows of a version that are there.
fn all_rows(version: u64) -> Vec<Row> {
    (0..ROWS).filter_map(|id| row(id, version)).collect()
}

/// The table in a folder, at version 1.
pub(super) async fn create(dir: &Path) -> LakeTable {
    let first = batch(&all_rows(1));
    LakeTable::create(dir, &first.schema(), vec![first]).await
}

/// Makes the next version.
pub(super) async fn advance(lake: &mut LakeTable) {
    let version = lake.version() + 1;
    match Change::of(version) {
        Change::Nothing => unreachable!("the version before version 1"),
        Change::All => lake.overwrite(vec![batch(&all_rows(version))]).await,
        Change::Remove(group) => lake.delete(&format!("id % {GROUPS} = {group}")).await,
        Change::Write(group) => {
            let rows: Vec<Row> =
                (0..ROWS).filter(|id| id % GROUPS == group).map(|id| Row::written(id, version)).collect();
            lake.upsert(batch(&rows)).await;
        }
    }
    assert_eq!(lake.version(), version, "one commit a version");
}
