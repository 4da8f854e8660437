//! The types of single settings: words, numbers, durations, sizes, names and lists of them.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveTime};
use serde_json::{Value as Json, json};
use url::Url;

use super::json_schema::{or_variable, text_schema};
use super::reader::{Reader, Setting, alternatives, did_you_mean};
use super::units;
use super::yaml::{Node, Value};
use crate::domain::{Code, TableName};

/// Milliseconds of a second.
pub(super) const SECOND: u64 = 1_000;
/// Milliseconds of a day.
pub(super) const DAY: u64 = 86_400_000;

/// A whole number within a range.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whole<const MIN: u64, const MAX: u64>(pub u64);

/// A share: a number from 0 to 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share(pub f64);

/// A duration within a range of milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Period<const MIN: u64, const MAX: u64>(pub Duration);

/// A number of bytes, at least `MIN`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size<const MIN: u64>(pub u64);

/// Text that is not empty and has no NUL.
#[derive(Debug, Clone)]
pub(super) struct Words(pub String);

/// The name of a group of pipelines, under the rules of table names.
#[derive(Debug, Clone)]
pub(super) struct GroupName(pub TableName);

/// A list of names, none of them empty or repeated.
#[derive(Debug, Clone)]
pub(super) struct Names(pub Vec<String>);

/// One name, or a list of at least one, none of them empty or repeated.
#[derive(Debug, Clone)]
pub(super) struct KeyColumns(pub Vec<String>);

/// Lists of columns, none of them repeated.
#[derive(Debug, Clone)]
pub(super) struct Indexes(pub Vec<Vec<String>>);

/// An instant in milliseconds since 1970 UTC.
#[derive(Debug, Clone, Copy)]
pub(super) struct Instant(pub i64);

/// The URL of a page that anybody may read, of ASCII alone.
#[derive(Debug, Clone)]
pub(super) struct PageUrl(pub String);

/// Origins of web pages, or `*`.
#[derive(Debug, Clone)]
pub(super) struct Origins(pub Vec<String>);

/// Values by free names.
#[derive(Debug, Clone)]
pub(super) struct MapOf<T>(pub BTreeMap<String, T>);

/// Reads one of `known`, refusing `later` by name; `other` is a further form that the caller reads.
pub(super) fn word<'w>(
    node: &Node,
    reader: &mut Reader<'_>,
    known: &[&'w str],
    later: &[&str],
    other: Option<&str>,
) -> Option<&'w str> {
    let choices = alternatives(&known.iter().copied().chain(other).collect::<Vec<_>>());
    let text = reader.scalar(node, &choices)?;
    if let Some(found) = known.iter().find(|word| **word == text.text) {
        return Some(found);
    }
    if later.contains(&text.text.as_str()) {
        return reader.not_built(&node.place, &text.shown(), &format!("use {choices}"));
    }
    let hint = did_you_mean(&text.text, known).filter(|_| !text.untyped).unwrap_or_else(|| format!("use {choices}"));
    reader.invalid(&node.place, &format!("{} is not {choices}", text.shown()), hint)
}

/// Reads text. Numbers, booleans and other words that YAML does not read as text must be quoted, so that every YAML
/// tool reads the same value.
pub(super) fn text(node: &Node, reader: &mut Reader<'_>, expected: &str) -> Option<String> {
    let text = reader.scalar(node, expected)?;
    let typed = ["true", "false", "True", "False", "TRUE", "FALSE"].contains(&text.text.as_str())
        || text.text.parse::<f64>().is_ok() && text.text.starts_with(|c: char| !c.is_alphabetic());
    if typed && text.is_unquoted() && !text.untyped {
        let detail = format!("expected {expected}, found {} without quotes", text.shown());
        return reader.invalid(&node.place, &detail, format!("write `\"{}\"`", text.text));
    }
    if text.text.is_empty() {
        return reader.invalid(&node.place, &format!("expected {expected}, found empty text"), "give a value");
    }
    if text.text.contains('\0') {
        return reader.invalid(&node.place, "the text contains the character NUL", "remove it");
    }
    Some(text.text)
}

/// Reads a list of texts that differ from each other.
fn names(items: &[Node], reader: &mut Reader<'_>) -> Option<Vec<String>> {
    let mut names: Vec<String> = Vec::with_capacity(items.len());
    let mut sound = true;
    for item in items {
        match text(item, reader, "a name") {
            Some(name) if names.contains(&name) => {
                sound = false;
                reader.invalid::<()>(&item.place, "this name is in the list already", "remove one of the two");
            }
            Some(name) => names.push(name),
            None => sound = false,
        }
    }
    sound.then_some(names)
}

impl Setting for bool {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.scalar(node, "`true` or `false`")?;
        match text.text.as_str() {
            "true" if text.is_unquoted() => Some(true),
            "false" if text.is_unquoted() => Some(false),
            _ => {
                let detail = format!("{} is neither `true` nor `false`", text.shown());
                reader.invalid(&node.place, &detail, "write `true` or `false`, without quotes")
            }
        }
    }

    fn schema() -> Json {
        or_variable(json!({"type": "boolean"}))
    }
}

impl<const MIN: u64, const MAX: u64> Setting for Whole<MIN, MAX> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.scalar(node, "a whole number")?;
        let digits = !text.text.is_empty() && text.text.bytes().all(|b| b.is_ascii_digit());
        let number = text.text.parse::<u64>().ok().filter(|_| digits && text.is_unquoted());
        let range = if MAX == u64::MAX { format!("{MIN} or more") } else { format!("{MIN} to {MAX}") };
        match number {
            Some(number) if (MIN..=MAX).contains(&number) => Some(Whole(number)),
            Some(_) => {
                reader.invalid(&node.place, &format!("{} is out of range", text.shown()), format!("use {range}"))
            }
            None => {
                let detail = format!("{} is not a whole number", text.shown());
                reader.invalid(&node.place, &detail, format!("write a whole number, {range}, without quotes"))
            }
        }
    }

    fn schema() -> Json {
        let mut schema = json!({"type": "integer", "minimum": MIN});
        if MAX != u64::MAX {
            schema["maximum"] = json!(MAX);
        }
        or_variable(schema)
    }
}

impl Setting for Share {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.scalar(node, "a number from 0 to 1")?;
        let plain = text.text.bytes().all(|b| b.is_ascii_digit() || b == b'.') && text.is_unquoted();
        let number = text.text.parse::<f64>().ok().filter(|number| plain && (0.0..=1.0).contains(number));
        number.map(Share).or_else(|| {
            let detail = format!("{} is not a number from 0 to 1", text.shown());
            reader.invalid(&node.place, &detail, "write a number like `0.01`, without quotes; 1 = all, 0 = none")
        })
    }

    fn schema() -> Json {
        or_variable(json!({"type": "number", "minimum": 0, "maximum": 1}))
    }
}

impl<const MIN: u64, const MAX: u64> Setting for Period<MIN, MAX> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.scalar(node, "a duration")?;
        let Some(duration) = units::duration(&text.text) else {
            let detail = format!("{} is not a duration", text.shown());
            return reader.invalid(
                &node.place,
                &detail,
                "write a whole number and a unit: `500ms`, `30s`, `5m`, `2h`, `1d`",
            );
        };
        if (Duration::from_millis(MIN)..=Duration::from_millis(MAX)).contains(&duration) {
            return Some(Period(duration));
        }
        let hint = format!("use {} to {}", units::spell_duration(MIN), units::spell_duration(MAX));
        reader.invalid(&node.place, &format!("{} is out of range", text.shown()), hint)
    }

    fn schema() -> Json {
        text_schema(units::DURATION_PATTERN)
    }
}

impl<const MIN: u64> Setting for Size<MIN> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.scalar(node, "a size")?;
        match units::size(&text.text) {
            Some(bytes) if bytes >= MIN => Some(Size(bytes)),
            Some(_) => {
                let hint = format!("use {} or more", units::spell_size(MIN));
                reader.invalid(&node.place, &format!("{} is too small", text.shown()), hint)
            }
            None => {
                let hint = "write a whole number and a unit: `64KiB`, `512MiB`, `1GiB`; without a unit it means bytes";
                reader.invalid(&node.place, &format!("{} is not a size", text.shown()), hint)
            }
        }
    }

    fn schema() -> Json {
        json!({"anyOf": [{"type": "integer", "minimum": MIN}, text_schema(units::SIZE_PATTERN)]})
    }
}

impl Setting for Words {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        text(node, reader, "text").map(Words)
    }

    fn schema() -> Json {
        json!({"type": "string", "minLength": 1})
    }
}

impl Setting for Instant {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.scalar(node, "an instant")?;
        let instant = DateTime::parse_from_rfc3339(&text.text).map(|instant| instant.timestamp_millis());
        let date =
            || text.text.parse::<NaiveDate>().map(|date| date.and_time(NaiveTime::MIN).and_utc().timestamp_millis());
        match instant.or_else(|_| date()) {
            Ok(millis) => Some(Instant(millis)),
            Err(_) => {
                let detail = format!("{} is not an instant", text.shown());
                reader.invalid(
                    &node.place,
                    &detail,
                    "write `2024-02-29T12:00:00Z`, with `Z` or an offset, or `2024-02-29`",
                )
            }
        }
    }

    fn schema() -> Json {
        let instant = json!({"type": "string", "format": "date-time"});
        json!({"anyOf": [instant, or_variable(json!({"type": "string", "format": "date"}))]})
    }
}

impl Setting for PageUrl {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.scalar(node, "a URL")?;
        let url = Url::parse(&text.text).ok().filter(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.username().is_empty()
                && url.password().is_none()
        });
        match url {
            Some(url) => Some(PageUrl(url.into())),
            // What is wrong may be that a secret stands in it.
            None => reader.invalid(
                &node.place,
                "the value is not the URL of a page",
                "write `https://host/path`, without credentials",
            ),
        }
    }

    fn schema() -> Json {
        text_schema("^https?://")
    }
}

impl Setting for TableName {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let name = reader.scalar(node, "a table name")?;
        TableName::new(&name.text).map_or_else(
            |error| {
                let detail = format!("{} cannot name a table", name.shown());
                reader.refuse(error.code(), &node.place, &detail, error.advice().map(str::to_owned))
            },
            Some,
        )
    }

    fn schema() -> Json {
        text_schema("^[a-z][a-z0-9_]{0,47}$")
    }
}

impl Setting for GroupName {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let name = reader.scalar(node, "the name of a group")?;
        TableName::new(&name.text).map_or_else(
            |error| {
                let detail = format!("{} cannot name a group", name.shown());
                reader.refuse(Code::InvalidValue, &node.place, &detail, error.advice().map(str::to_owned))
            },
            |name| Some(GroupName(name)),
        )
    }

    fn schema() -> Json {
        TableName::schema()
    }
}

impl Setting for Names {
    const COLLECTION: bool = true;

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let items = reader.list(node, "a list of names")?;
        names(items, reader).map(Names)
    }

    fn schema() -> Json {
        json!({"type": "array", "items": {"type": "string", "minLength": 1}, "uniqueItems": true})
    }
}

impl Setting for KeyColumns {
    const COLLECTION: bool = true;

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Scalar(_) => Some(KeyColumns(vec![text(node, reader, "a column or a list of columns")?])),
            Value::List(items) if items.is_empty() => {
                reader.invalid(&node.place, "the list of columns is empty", "name at least one column")
            }
            _ => {
                let items = reader.list(node, "a column or a list of columns")?;
                names(items, reader).map(KeyColumns)
            }
        }
    }

    fn schema() -> Json {
        let mut list = Names::schema();
        list["minItems"] = json!(1);
        json!({"anyOf": [Words::schema(), list]})
    }
}

impl Setting for Indexes {
    const COLLECTION: bool = true;

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let items = reader.list(node, "a list of columns, or of lists of columns")?;
        let mut indexes: Vec<Vec<String>> = Vec::with_capacity(items.len());
        for item in items {
            match KeyColumns::read(item, reader) {
                Some(KeyColumns(columns)) if indexes.contains(&columns) => {
                    reader.invalid::<()>(&item.place, "this index is declared already", "remove one of the two");
                }
                Some(KeyColumns(columns)) => indexes.push(columns),
                None => {}
            }
        }
        Some(Indexes(indexes))
    }

    fn schema() -> Json {
        json!({"type": "array", "items": KeyColumns::schema(), "uniqueItems": true})
    }
}

impl<T: Setting> Setting for MapOf<T> {
    const COLLECTION: bool = true;

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut map = BTreeMap::new();
        for (key, value) in reader.map(node, "a mapping of names to values")? {
            if let Some(value) = reader.setting::<T>(&key.name, value) {
                map.insert(key.name.clone(), value.value);
            }
        }
        Some(MapOf(map))
    }

    fn schema() -> Json {
        json!({"type": "object", "additionalProperties": T::schema()})
    }
}

impl Setting for Origins {
    const COLLECTION: bool = true;

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let names = Names::read(node, reader)?.0;
        let is_origin =
            |text: &str| text == "*" || Url::parse(text).is_ok_and(|url| url.origin().ascii_serialization() == text);
        if names.iter().all(|name| is_origin(name)) {
            return Some(Origins(names));
        }
        let hint = "write them as browsers do: `https://app.example.com`, with a port where it is not the usual one, and nothing \
                    after it";
        reader.invalid(&node.place, "this is not a list of origins", hint)
    }

    fn schema() -> Json {
        let mut list = Names::schema();
        list["items"] = text_schema("^(\\*|[a-z][a-z0-9+.-]*://[^/]+)$");
        list
    }
}
