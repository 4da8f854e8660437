//! `checks`: what must hold of a new state before it is published.

use serde_json::{Value as Json, json};

use super::json_schema::or_variable;
use super::reader::{Reader, Setting};
use super::section::section;
use super::settings::{self, KeyColumns, MapOf, Names, Whole, Words};
use super::yaml::{Node, Value};
use crate::domain::{Checks, RowCountCheck, SqlCheck};

section! {
    /// What must hold of a new state before it is published. Columns go by their published names.
    CheckKeys, "`checks`" {
        /// How many rows there may be.
        row_count: RowCountKeys,
        /// Columns that are never null.
        not_null: Names,
        /// Columns, or lists of columns, whose values no two rows share; a row with a null among them shares nothing.
        unique: ColumnSets,
        /// Lists of values by column: the only ones it may have besides null.
        accepted_values: MapOf<AcceptedValues>,
        /// Queries that must return no row, each as text or with a `name`. The table's published name stands for its new
        /// state.
        sql: SqlChecks,
    }
    required []
    later []
}

section! {
    /// How many rows there may be.
    RowCountKeys, "`row_count`" {
        /// The fewest rows.
        min: Whole<0, { u64::MAX }>,
        /// The most rows.
        max: Whole<0, { u64::MAX }>,
        /// By how many percent of the published rows their number may change, up or down; does not hold for a first load.
        max_change_percent: Percent,
    }
    required []
    later []
}

section! {
    /// A query that must return no row.
    SqlCheckKeys, "a check by `sql`" {
        /// What it is called in messages.
        name: Words,
        /// One SELECT.
        query: Words,
    }
    required [query]
    later []
}

/// The checks of a pipeline; `None` after reporting bounds that contradict each other.
pub(super) fn checks(keys: CheckKeys, reader: &mut Reader<'_>) -> Option<Checks> {
    let bounds = keys.row_count.map(|row_count| row_count.value).unwrap_or_default();
    if let (Some(min), Some(max)) = (&bounds.min, &bounds.max)
        && min.value.0 > max.value.0
    {
        let detail = format!("`checks.row_count`: `min` is {}, `max` is {}: no table fits", min.value.0, max.value.0);
        return reader.invalid(&max.place, &detail, "raise `max` or lower `min`; one of them may stand in `defaults`");
    }
    let accepted = keys.accepted_values.map(|accepted| accepted.value.0).unwrap_or_default();
    Some(Checks {
        row_count: RowCountCheck {
            min: bounds.min.map(|min| min.value.0),
            max: bounds.max.map(|max| max.value.0),
            max_change_percent: bounds.max_change_percent.map(|percent| percent.value.0),
        },
        not_null: keys.not_null.map(|columns| columns.value.0).unwrap_or_default(),
        unique: keys.unique.map(|sets| sets.value.0).unwrap_or_default(),
        accepted_values: accepted.into_iter().map(|(column, AcceptedValues(values))| (column, values)).collect(),
        sql: keys.sql.map(|checks| checks.value.0).unwrap_or_default(),
    })
}

/// A share in percent, 0 or more, whole or with decimals.
#[derive(Debug, Clone, Copy)]
pub(super) struct Percent(f64);

impl Setting for Percent {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.scalar(node, "a number of percent")?;
        // Digits and at most one point: no sign, no exponent, no infinity.
        let digits = text.text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        match text.text.parse::<f64>().ok().filter(|percent| digits && percent.is_finite() && text.is_unquoted()) {
            Some(percent) => Some(Percent(percent)),
            None => {
                let detail = format!("{} is not a number of percent", text.shown());
                reader.invalid(
                    &node.place,
                    &detail,
                    "write a number, 0 or more, without quotes and sign: `10` or `0.5`",
                )
            }
        }
    }

    fn schema() -> Json {
        or_variable(json!({"type": "number", "minimum": 0}))
    }
}

/// Columns or lists of columns, none of them repeated.
#[derive(Debug, Clone)]
pub(super) struct ColumnSets(Vec<Vec<String>>);

impl Setting for ColumnSets {
    const COLLECTION: bool = true;

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let items = reader.list(node, "a list of columns, or of lists of columns")?;
        let mut sets: Vec<Vec<String>> = Vec::with_capacity(items.len());
        for item in items {
            match KeyColumns::read(item, reader) {
                Some(KeyColumns(columns)) if sets.contains(&columns) => {
                    reader.invalid::<()>(&item.place, "these columns are in the list already", "remove one of the two");
                }
                Some(KeyColumns(columns)) => sets.push(columns),
                None => {}
            }
        }
        Some(ColumnSets(sets))
    }

    fn schema() -> Json {
        json!({"type": "array", "items": KeyColumns::schema(), "uniqueItems": true})
    }
}

/// The values that a column may have, at least one, as the file spells them: the column's type says what they are.
#[derive(Debug, Clone)]
pub(super) struct AcceptedValues(Vec<String>);

impl Setting for AcceptedValues {
    const COLLECTION: bool = true;

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let items = reader.list(node, "a list of values")?;
        if items.is_empty() {
            return reader.invalid(&node.place, "the list of values is empty", "list at least one value");
        }
        let mut values: Vec<String> = Vec::with_capacity(items.len());
        for item in items {
            match reader.scalar(item, "a value that is not null") {
                Some(text) if text.text.contains('\0') => {
                    reader.invalid::<()>(&item.place, "the value contains the character NUL", "remove it");
                }
                Some(text) if values.contains(&text.text) => {
                    reader.invalid::<()>(&item.place, "this value is in the list already", "remove one of the two");
                }
                Some(text) => values.push(text.text),
                None => {}
            }
        }
        Some(AcceptedValues(values))
    }

    fn schema() -> Json {
        json!({"type": "array", "items": {"type": ["string", "number", "boolean"]}, "minItems": 1, "uniqueItems": true})
    }
}

/// Queries, each as text or with a name.
#[derive(Debug, Clone)]
pub(super) struct SqlChecks(Vec<SqlCheck>);

impl Setting for SqlChecks {
    const COLLECTION: bool = true;

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let items = reader.list(node, "a list of queries")?;
        let mut checks: Vec<SqlCheck> = Vec::with_capacity(items.len());
        for item in items {
            let check = match &item.value {
                Value::Map(_) => SqlCheckKeys::read(item, reader).and_then(|keys| {
                    let (name, Words(query)) = (keys.name.map(|name| name.value.0), keys.query?.value);
                    Some(SqlCheck { name, query })
                }),
                _ => settings::text(item, reader, "a query, or `{name: …, query: …}`")
                    .map(|query| SqlCheck { name: None, query }),
            };
            match check {
                Some(check) if check.name.is_some() && checks.iter().any(|known| known.name == check.name) => {
                    let detail = "another check by `sql` has this name";
                    reader.invalid::<()>(&item.place, detail, "give each a name of its own");
                }
                Some(check) => checks.push(check),
                None => {}
            }
        }
        Some(SqlChecks(checks))
    }

    fn schema() -> Json {
        json!({"type": "array", "items": {"anyOf": [Words::schema(), SqlCheckKeys::schema()]}})
    }
}
