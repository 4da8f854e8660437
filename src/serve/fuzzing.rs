//! What holds of bytes that anybody may send, for fuzzing and for the tests of what fuzzing has found. Every function takes
//! any bytes, the first of which chooses the types.

use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::DateTime;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::batch::{Keys, read_body};
use super::cursor::Cursor;
use super::json::{Numbers, write_value};
use super::key::{Key, Part};
use super::metrics::ReadMetrics;
use super::request::{BatchQuestion, Question};
use super::table::{PublishedTable, RowBytes};
use crate::domain::{Code, Column, ColumnType, Generation, ScalarType, Schemas, TableName, TableSchema};
use crate::store::ServedTable;

/// The most keys of a batch here.
const MOST_KEYS: u32 = 8;

/// The most parts of a key in a batch.
const MOST_PARTS: usize = 32;

/// The longest decimal that is read as a key, in characters.
const LONGEST_NUMERIC: usize = 256;

/// The keys of the tables: each type that a key may have, and some together.
const KEYS: [&[ScalarType]; 14] = [
    &[ScalarType::Boolean],
    &[ScalarType::Int16],
    &[ScalarType::Int32],
    &[ScalarType::Int64],
    &[ScalarType::Numeric { precision: 38, scale: 2 }],
    &[ScalarType::Text],
    &[ScalarType::Bytea],
    &[ScalarType::Date],
    &[ScalarType::Time],
    &[ScalarType::Timestamp],
    &[ScalarType::Timestamptz],
    &[ScalarType::Uuid],
    &[ScalarType::Int32, ScalarType::Text],
    &[ScalarType::Boolean, ScalarType::Numeric { precision: 76, scale: 10 }, ScalarType::Date],
];

static TABLES: LazyLock<Vec<PublishedTable>> = LazyLock::new(|| {
    let tables: Vec<PublishedTable> = KEYS.iter().filter_map(|key| table(key)).collect();
    assert_eq!(tables.len(), KEYS.len(), "every table is well described");
    tables
});

/// A table `orders` whose columns are its key.
fn table(key: &[ScalarType]) -> Option<PublishedTable> {
    let column = |(number, ty): (usize, &ScalarType)| {
        let (name, ty) = (format!("k{number}"), ColumnType::Scalar(*ty));
        Column { source: name.clone(), name, ty, nullable: false, comment: None, late: false }
    };
    let served = ServedTable {
        name: TableName::new("orders").ok()?,
        generation: Generation(7),
        publish_no: 3,
        source_version: "12".to_owned(),
        published_at: DateTime::UNIX_EPOCH,
        schema: TableSchema { columns: key.iter().enumerate().map(column).collect(), key: (0..key.len()).collect() },
        policy: serde_json::from_str(r#"{"enabled": true, "page_limit": 100}"#).ok()?,
    };
    let name = str::to_owned;
    let schemas = Schemas { published: name("lake"), data: name("lakegate_data"), control: name("lakegate") };
    PublishedTable::new(
        1,
        &schemas,
        served,
        (RowBytes::default(), Arc::default()),
        ReadMetrics::default().of_table("orders"),
    )
    .ok()
}

/// The table that the first byte chooses, and the other bytes.
fn choose(data: &[u8]) -> Option<(&'static PublishedTable, &[u8])> {
    let (choice, rest) = data.split_first()?;
    Some((TABLES.get(usize::from(*choice) % KEYS.len())?, rest))
}

/// Parts of a key in a URL, with `/` between them: they are taken from it as they are; what is a key reads back from what
/// the API writes of it, as a path and in a batch, and is what its own bytes say.
///
/// # Panics
/// Where something of this does not hold.
pub fn key(data: &[u8]) {
    let Some((table, rest)) = choose(data) else { return };
    let parts: Vec<&[u8]> = rest.split(|byte| *byte == b'/').collect();
    taken_from_urls(&parts);
    let Ok(key) = Key::parse(&table.key, &parts) else { return };
    assert_eq!(key.parts().count(), parts.len());
    if parts.len() < table.key.len() {
        return;
    }
    assert_eq!(Key::from_bytes(&table.key, key.as_bytes()).as_ref(), Some(&key), "its own bytes");
    let written: Vec<Value> = table.key.iter().zip(key.parts()).map(|(column, raw)| written(column.ty, raw)).collect();
    let texts: Vec<String> = written.iter().map(as_text).collect();
    let is_number =
        |number: usize| matches!(table.key.get(number).map(|column| column.ty), Some(ScalarType::Numeric { .. }));
    if texts.iter().enumerate().any(|(number, text)| is_number(number) && text.len() > LONGEST_NUMERIC) {
        // 1e256 is a key of which there is no row.
        return;
    }
    assert_eq!(Key::parse(&table.key, &texts).ok().as_ref(), Some(&key), "as a path: {texts:?}");
    let typed: Vec<Part<'_>> = written
        .iter()
        .zip(&texts)
        .map(|(value, text)| match value {
            Value::Bool(value) => Part::Boolean(*value),
            Value::Number(_) => Part::Number(text),
            _ => Part::Text(text),
        })
        .collect();
    assert_eq!(Key::parse_typed(&table.key, &typed).ok().as_ref(), Some(&key), "in a batch: {texts:?}");
}

/// Whatever a part is, a URL carries it: in its query always, in its path unless it would be lost there.
fn taken_from_urls(parts: &[&[u8]]) {
    let encoded: Vec<String> = parts.iter().map(|part| percent_encode(part, NON_ALPHANUMERIC).to_string()).collect();
    let query: Vec<String> = encoded.iter().map(|part| format!("key={part}")).collect();
    let asked = Question::from_url("orders", Some(&query.join("&"))).map(|question| question.key);
    assert_eq!(asked.ok().as_deref(), Some(&parts.iter().map(|part| part.to_vec()).collect::<Vec<_>>()[..]));
    let asked = Question::from_url(&format!("orders/{}", encoded.join("/")), None).map(|question| question.key);
    let is_lost = parts.iter().any(|part| matches!(*part, b"" | b"." | b".."));
    assert_eq!(asked.is_err(), is_lost);
    assert!(asked.is_err() || asked.is_ok_and(|key| key == parts));
    // And a URL that somebody made up is refused or taken, whatever it is.
    if let Some(text) = parts.first().and_then(|part| std::str::from_utf8(part).ok()) {
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let _ = Question::from_url(path, Some(query));
        let _ = BatchQuestion::from_url(path, Some(query));
    }
}

/// A value of a key as the API writes it in JSON, with all its digits.
fn written(ty: ScalarType, raw: &[u8]) -> Value {
    let mut json = Vec::new();
    let is_of_type = write_value(&mut json, ColumnType::Scalar(ty), Some(raw), Numbers::Exact).is_some();
    assert!(is_of_type, "a key of {ty:?} that cannot be written");
    match ty {
        // A number of JSON would lose digits here.
        ScalarType::Numeric { .. } => Value::String(String::from_utf8_lossy(&json).into_owned()),
        // In keys it is base64url.
        ScalarType::Bytea => {
            let text = String::from_utf8_lossy(&json).replace('+', "-").replace('/', "_");
            Value::String(text.trim_matches('"').to_owned())
        }
        _ => serde_json::from_slice(&json).unwrap_or_default(),
    }
}

/// The same in a path, before it is percent-encoded.
fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A cursor: what is taken for one is one that we have made, of a key of this table; and those that we make are taken.
///
/// # Panics
/// Where something of this does not hold.
pub fn cursor(data: &[u8]) {
    let Some((table, rest)) = choose(data) else { return };
    let whole = Key::default();
    let texts = [URL_SAFE_NO_PAD.encode(rest), String::from_utf8_lossy(rest).into_owned()];
    for text in texts {
        for follow in [false, true] {
            let Ok(key) = Cursor::resume(&text, table, &whole, follow) else { continue };
            assert_eq!(Key::from_bytes(&table.key, key.as_bytes()).as_ref(), Some(&key), "a key of the table");
            let raw = URL_SAFE_NO_PAD.decode(&text).unwrap_or_default();
            let publish_no =
                raw.get(1..).and_then(|raw| raw.first_chunk::<8>()).map_or(0, |raw| i64::from_be_bytes(*raw));
            assert!(follow || publish_no == table.publish_no, "of another publish");
            let made = Cursor { publish_no, table: table.name.to_string(), key: key.as_bytes().to_vec() };
            assert_eq!(made.encode(), text, "not as it was made");
        }
    }
    let parts: Vec<&[u8]> = rest.split(|byte| *byte == b'/').collect();
    if parts.len() == table.key.len()
        && let Ok(key) = Key::parse(&table.key, &parts)
    {
        let text = Cursor::after(table, &key).encode();
        assert_eq!(Cursor::resume(&text, table, &whole, false).ok(), Some(key));
    }
}

/// The body of a batch: what is taken is JSON with so many keys and no more than are allowed, and JSON of that form is
/// taken; each key is one of the table, and each place of the answer has one.
///
/// # Panics
/// Where something of this does not hold.
pub fn batch(data: &[u8]) {
    let Some((table, body)) = choose(data) else { return };
    let read = read_body(body, MOST_KEYS);
    let by_others = keys_by_serde(body);
    let keys = match read {
        Ok(keys) => keys,
        Err(error) => {
            assert!(matches!(error.code(), Code::BadBody | Code::TooLarge));
            let (fits, is_too_large) =
                (by_others.map(|keys| keys <= MOST_KEYS as usize), error.code() == Code::TooLarge);
            assert!(fits != Some(true), "a good body is refused: {error}");
            assert!(fits.is_none() || is_too_large, "a large body is refused as: {error}");
            return;
        }
    };
    assert!(serde_json::from_slice::<IgnoredAny>(body).is_ok(), "no JSON is taken");
    assert!(keys.len() <= MOST_KEYS as usize && by_others.is_none_or(|others| others == keys.len()));
    let question = BatchQuestion { keys, ..BatchQuestion::default() };
    match Keys::of(&question, table) {
        Ok(keys) => {
            assert_eq!(keys.places.len(), question.keys.len());
            assert!(keys.places.iter().all(|place| *place < keys.distinct.len()));
            for (number, key) in keys.distinct.iter().enumerate() {
                assert_eq!(Key::from_bytes(&table.key, key.as_bytes()).as_ref(), Some(key));
                assert!(keys.places.contains(&number) && !keys.distinct[..number].contains(key));
            }
        }
        Err(error) => assert_eq!(error.code(), Code::BadKey),
    }
}

/// How many keys a body has by another reader of JSON; `None` where that says it is of another form. It refuses some that
/// are good, for numbers that it cannot hold.
fn keys_by_serde(body: &[u8]) -> Option<usize> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        keys: Vec<Entry>,
    }
    #[derive(Deserialize)]
    #[serde(try_from = "Value")]
    struct Entry {
        parts: usize,
    }
    impl TryFrom<Value> for Entry {
        type Error = &'static str;

        fn try_from(entry: Value) -> Result<Self, Self::Error> {
            let is_part = |value: &Value| value.is_boolean() || value.is_number() || value.is_string();
            match &entry {
                Value::Array(parts) if parts.iter().all(is_part) => Ok(Entry { parts: parts.len() }),
                part if is_part(part) => Ok(Entry { parts: 1 }),
                _ => Err("another form"),
            }
        }
    }
    // A struct may be a list to that reader.
    let is_object = body.trim_ascii_start().starts_with(b"{");
    let body: Body = serde_json::from_slice(body).ok().filter(|_| is_object)?;
    body.keys.iter().all(|entry| entry.parts <= MOST_PARTS).then_some(body.keys.len())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn what_fuzzing_begins_with_and_has_found_holds() {
        let targets: [(&str, fn(&[u8])); 3] = [("key", super::key), ("cursor", super::cursor), ("batch", super::batch)];
        for (name, target) in targets {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
            let seeds: Vec<_> = std::fs::read_dir(folder).unwrap().collect();
            assert!(!seeds.is_empty(), "{name} has seeds");
            for seed in seeds {
                target(&std::fs::read(seed.unwrap().path()).unwrap());
            }
        }
    }
}
