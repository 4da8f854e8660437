//! Keys: from the parts of a path to the bytes that Postgres compares.
//!
//! One value is one key, however it is spelled: `1.5`, `1.50` and `15e-1` are equal, and so is one instant in any zone.
//! Two keys of a table are equal exactly if their bytes are.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use sha2::{Digest as _, Sha256};
use smallvec::{SmallVec, smallvec};
use uuid::Uuid;

use super::{calendar, numeric};
use crate::domain::{Code, Error, Result, ScalarType};

/// base64url, its padding optional.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How much of a refused key an error repeats, in characters.
const MAX_ECHO: usize = 40;

/// The longest binary `numeric` that a key can be, in bytes.
const MAX_NUMERIC_BYTES: usize = 1024;

/// A column of a table's primary key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyColumn {
    /// The published name.
    pub(super) name: String,
    /// The type in Postgres.
    pub(super) ty: ScalarType,
}

/// A part of a key that has a type of its own, as in JSON.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part<'a> {
    /// A number's digits.
    Number(&'a str),
    /// A string.
    Text(&'a str),
    /// A boolean.
    Boolean(bool),
}

impl Part<'_> {
    /// What stands for it in a path, where a value of this type may be written so.
    ///
    /// Whole numbers of 64 bits and decimals may be strings too: there are clients that have no such numbers, which
    /// get them as strings when they ask for it.
    fn text_of(&self, ty: ScalarType) -> Option<Cow<'_, str>> {
        Some(match (*self, ty) {
            (Part::Number(text), ScalarType::Int16 | ScalarType::Int32 | ScalarType::Int64) => {
                if text.contains(['.', 'e', 'E']) { numeric::whole(text)?.into() } else { text.into() }
            }
            (Part::Number(text) | Part::Text(text), ScalarType::Int64 | ScalarType::Numeric { .. }) => text.into(),
            (Part::Boolean(value), ScalarType::Boolean) => (if value { "true" } else { "false" }).into(),
            (Part::Number(_), _)
            | (Part::Boolean(_), _)
            | (Part::Text(_), ScalarType::Boolean | ScalarType::Int16 | ScalarType::Int32) => return None,
            (Part::Text(text), _) => text.into(),
        })
    }

    fn as_written(&self) -> &str {
        match *self {
            Part::Number(text) | Part::Text(text) => text,
            Part::Boolean(true) => "true",
            Part::Boolean(false) => "false",
        }
    }
}

/// A key or the first parts of one: each part as its length (big-endian `u32`) and its canonical Postgres binary value,
/// which is also how the elements of a binary array stand on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Key(KeyBytes);

/// Bytes that need no memory of their own as long as they are those of a usual key: two numbers, or a UUID.
type KeyBytes = SmallVec<[u8; 24]>;

impl Key {
    /// Reads the parts of a path (percent-decoded) or of `key=` parameters; fewer parts than columns make a prefix.
    ///
    /// # Errors
    /// [`Code::BadKey`] naming the column and the expected form.
    pub(super) fn parse<P: AsRef<[u8]>>(columns: &[KeyColumn], parts: &[P]) -> Result<Self> {
        if parts.len() > columns.len() {
            let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
            let detail = format!("the key has {} part(s), {} were given", columns.len(), parts.len());
            return Err(Error::new(Code::BadKey, detail).hint(format!("the key is {}", names.join("/"))));
        }
        let mut key = Key::default();
        for (column, part) in columns.iter().zip(parts) {
            let value = parse_part(column.ty, part.as_ref()).ok_or_else(|| refusal(column, part.as_ref()))?;
            key.push(&value);
        }
        Ok(key)
    }

    /// Reads a whole key whose parts have types of their own; there are as many as columns.
    ///
    /// # Errors
    /// [`Code::BadKey`] naming the column and the expected form.
    pub(super) fn parse_typed(columns: &[KeyColumn], parts: &[Part<'_>]) -> Result<Self> {
        let mut key = Key::default();
        for (column, part) in columns.iter().zip(parts) {
            let value = part.text_of(column.ty).and_then(|text| parse_part(column.ty, text.as_bytes()));
            let value = value.ok_or_else(|| {
                let (form, echo) = (expected_in_json(column.ty), echo(part.as_written().as_bytes()));
                Error::new(Code::BadKey, format!("the key column `{}` takes {form}; `{echo}` is not one", column.name))
            })?;
            key.push(&value);
        }
        Ok(key)
    }

    /// Takes over bytes that [`Key::as_bytes`] gave earlier and a client kept, for exactly these columns. `None` when
    /// they are not a key of them.
    pub(super) fn from_bytes(columns: &[KeyColumn], bytes: &[u8]) -> Option<Self> {
        let key = Key(KeyBytes::from_slice(bytes));
        let mut left = bytes.len();
        let mut columns = columns.iter();
        for part in key.parts() {
            left -= 4 + part.len();
            if !is_canonical(columns.next()?.ty, part) {
                return None;
            }
        }
        (left == 0 && columns.next().is_none()).then_some(key)
    }

    /// Appends the binary value of a key column as it stands in a row. `None` when it is not a value of that type.
    pub(super) fn push_row_value(&mut self, ty: ScalarType, raw: &[u8]) -> Option<()> {
        match ty {
            ScalarType::Numeric { .. } => self.push(&numeric::canonical(raw)?),
            _ => self.push(raw),
        }
        Some(())
    }

    fn push(&mut self, value: &[u8]) {
        self.0.extend_from_slice(&(value.len() as u32).to_be_bytes());
        self.0.extend_from_slice(value);
    }

    /// The canonical bytes.
    #[must_use]
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What lists of changed keys call a key: the first eight bytes of the SHA-256 of its bytes. Syncs compute the same
    /// in SQL.
    pub(super) fn hash(&self) -> i64 {
        let digest = <[u8; 32]>::from(Sha256::digest(&self.0));
        digest.first_chunk().map_or(0, |first| i64::from_be_bytes(*first))
    }

    /// The binary values, in the order of the key.
    pub(super) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let (part, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
            rest = after;
            Some(part)
        })
    }
}

fn parse_part(ty: ScalarType, part: &[u8]) -> Option<KeyBytes> {
    let text = || std::str::from_utf8(part).ok();
    Some(match ty {
        ScalarType::Boolean => match part {
            b"true" => smallvec![1],
            b"false" => smallvec![0],
            _ => return None,
        },
        ScalarType::Int16 => KeyBytes::from_slice(&text()?.parse::<i16>().ok()?.to_be_bytes()),
        ScalarType::Int32 => KeyBytes::from_slice(&text()?.parse::<i32>().ok()?.to_be_bytes()),
        ScalarType::Int64 => KeyBytes::from_slice(&text()?.parse::<i64>().ok()?.to_be_bytes()),
        ScalarType::Numeric { .. } => numeric::parse(text()?)?.into(),
        ScalarType::Text => KeyBytes::from_slice(text().filter(|text| !text.contains('\0'))?.as_bytes()),
        ScalarType::Bytea => BASE64URL.decode(part).ok()?.into(),
        ScalarType::Date => KeyBytes::from_slice(&calendar::parse_date(text()?)?.to_be_bytes()),
        ScalarType::Time => KeyBytes::from_slice(&calendar::parse_time(text()?)?.to_be_bytes()),
        ScalarType::Timestamp => KeyBytes::from_slice(&calendar::parse_timestamp(text()?)?.to_be_bytes()),
        ScalarType::Timestamptz => KeyBytes::from_slice(&calendar::parse_timestamptz(text()?)?.to_be_bytes()),
        ScalarType::Uuid => KeyBytes::from_slice(&Uuid::try_parse(text()?).ok()?.into_bytes()),
        ScalarType::Float32 | ScalarType::Float64 | ScalarType::Interval => return None,
    })
}

/// Whether these bytes are what [`parse_part`] gives for some text.
fn is_canonical(ty: ScalarType, raw: &[u8]) -> bool {
    match ty {
        ScalarType::Boolean => matches!(raw, [0 | 1]),
        ScalarType::Int16 => raw.len() == 2,
        ScalarType::Int32 => raw.len() == 4,
        ScalarType::Int64 => raw.len() == 8,
        ScalarType::Numeric { .. } => {
            raw.len() <= MAX_NUMERIC_BYTES && numeric::canonical(raw).is_some_and(|same| same == raw)
        }
        ScalarType::Text => std::str::from_utf8(raw).is_ok_and(|text| !text.contains('\0')),
        ScalarType::Bytea => true,
        ScalarType::Date => raw.try_into().is_ok_and(|raw| calendar::is_date(i32::from_be_bytes(raw))),
        ScalarType::Time => raw.try_into().is_ok_and(|raw| calendar::is_time(i64::from_be_bytes(raw))),
        ScalarType::Timestamp | ScalarType::Timestamptz => {
            raw.try_into().is_ok_and(|raw| calendar::is_timestamp(i64::from_be_bytes(raw)))
        }
        ScalarType::Uuid => raw.len() == 16,
        ScalarType::Float32 | ScalarType::Float64 | ScalarType::Interval => false,
    }
}

fn refusal(column: &KeyColumn, part: &[u8]) -> Error {
    let (form, echo) = (expected_form(column.ty), echo(part));
    Error::new(Code::BadKey, format!("the key column `{}` takes {form}; `{echo}` is not one", column.name))
}

/// The beginning of a part, to be repeated in an error.
fn echo(part: &[u8]) -> String {
    let text = String::from_utf8_lossy(part);
    let mut echo: String = text.chars().take(MAX_ECHO).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_ECHO).is_some() {
        echo.push('…');
    }
    echo
}

/// What a person has to write in JSON, for one value of this type.
fn expected_in_json(ty: ScalarType) -> String {
    match ty {
        ScalarType::Boolean | ScalarType::Int16 | ScalarType::Int32 => expected_form(ty).to_owned(),
        ScalarType::Int64 | ScalarType::Numeric { .. } => format!("{}, or a string of one", expected_form(ty)),
        ScalarType::Text => "a string without the character NUL".to_owned(),
        ScalarType::Timestamptz => "a string with an RFC 3339 timestamp with its offset like `2024-02-29T12:34:56Z`, \
                                    to the microsecond at most"
            .to_owned(),
        _ => format!("a string with {}", expected_form(ty)),
    }
}

/// What a person has to write, for one value of this type.
fn expected_form(ty: ScalarType) -> &'static str {
    match ty {
        ScalarType::Boolean => "`true` or `false`",
        ScalarType::Int16 => "a whole number from -32768 to 32767",
        ScalarType::Int32 => "a whole number of 32 bits",
        ScalarType::Int64 => "a whole number of 64 bits",
        ScalarType::Numeric { .. } => "a decimal number like `1.5`",
        ScalarType::Text => "percent-encoded UTF-8 without the character NUL",
        ScalarType::Bytea => "base64url",
        ScalarType::Date => "a date like `2024-02-29`",
        ScalarType::Time => "a time like `12:34:56.789`, to the microsecond at most",
        ScalarType::Timestamp => "a timestamp without zone like `2024-02-29T12:34:56`, to the microsecond at most",
        ScalarType::Timestamptz => {
            "an RFC 3339 timestamp with its offset like `2024-02-29T12:34:56Z`, to the microsecond at most (`+` is \
             `%2B` in a query)"
        }
        ScalarType::Uuid => "a UUID",
        ScalarType::Float32 | ScalarType::Float64 | ScalarType::Interval => "no value: this type cannot be a key",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NUMERIC: ScalarType = ScalarType::Numeric { precision: 38, scale: 2 };
    const KEY_TYPES: [ScalarType; 12] = [
        ScalarType::Boolean,
        ScalarType::Int16,
        ScalarType::Int32,
        ScalarType::Int64,
        NUMERIC,
        ScalarType::Text,
        ScalarType::Bytea,
        ScalarType::Date,
        ScalarType::Time,
        ScalarType::Timestamp,
        ScalarType::Timestamptz,
        ScalarType::Uuid,
    ];

    fn column(ty: ScalarType) -> Vec<KeyColumn> {
        vec![KeyColumn { name: "id".to_owned(), ty }]
    }

    fn key(ty: ScalarType, text: &str) -> Result<Key> {
        Key::parse(&column(ty), &[text])
    }

    #[test]
    fn equal_values_are_one_key() {
        for (ty, spellings) in [
            (ScalarType::Int32, &["7", "+7", "007"][..]),
            (ScalarType::Int64, &["0", "-0"]),
            (NUMERIC, &["1.5", "1.50", "15e-1"]),
            (ScalarType::Bytea, &["_-8=", "_-8"]),
            (ScalarType::Timestamptz, &["2024-02-29T12:00:00Z", "2024-02-29T13:00:00+01:00"]),
            (ScalarType::Uuid, &["a0EEbc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc999c0b4ef8bb6d6bb9bd380a11"]),
        ] {
            let first = key(ty, spellings[0]).unwrap();
            for text in spellings {
                assert_eq!(key(ty, text).unwrap(), first, "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_value_of_the_type_is_refused() {
        for (ty, text) in [
            (ScalarType::Boolean, "TRUE"),
            (ScalarType::Int16, "32768"),
            (ScalarType::Int32, "1.0"),
            (ScalarType::Int64, ""),
            (NUMERIC, "NaN"),
            (ScalarType::Text, "a\0b"),
            (ScalarType::Bytea, "a+b/"),
            (ScalarType::Bytea, "_-9"),
            (ScalarType::Date, "2023-02-29"),
            (ScalarType::Time, "25:00:00"),
            (ScalarType::Timestamp, "2024-02-29T12:00:00Z"),
            (ScalarType::Timestamptz, "2024-02-29T12:00:00"),
            (ScalarType::Uuid, "a0eebc99"),
            (ScalarType::Float64, "1"),
        ] {
            let error = key(ty, text).unwrap_err();
            assert_eq!(error.code(), Code::BadKey, "{text}");
            assert!(error.detail().contains("`id`"), "{error}");
        }
        assert_eq!(Key::parse(&column(ScalarType::Text), &[b"\xff"]).unwrap_err().code(), Code::BadKey);
    }

    #[test]
    fn a_refusal_repeats_a_bounded_piece_without_control_characters() {
        let detail = key(ScalarType::Int32, &"\n".repeat(5000)).unwrap_err().detail().to_owned();
        assert!(detail.len() < 300 && !detail.contains('\n'), "{detail}");
    }

    #[test]
    fn too_many_parts_are_refused_and_fewer_are_a_prefix() {
        let columns = [column(ScalarType::Int32), column(ScalarType::Text)].concat();
        assert_eq!(Key::parse(&columns, &["1", "a", "b"]).unwrap_err().code(), Code::BadKey);
        let prefix = Key::parse(&columns, &["1"]).unwrap();
        let whole = Key::parse(&columns, &["1", ""]).unwrap();
        assert_eq!(prefix.parts().count(), 1);
        assert!(whole.as_bytes().starts_with(prefix.as_bytes()));
    }

    #[test]
    fn a_numeric_key_matches_its_row_whatever_the_scale() {
        let stored = [0, 2, 0, 0, 0, 0, 0, 3, 0, 1, 0x13, 0x88]; // 1.500
        let mut of_row = Key::default();
        of_row.push_row_value(NUMERIC, &stored).unwrap();
        assert_eq!(of_row, key(NUMERIC, "1.5").unwrap());
    }

    #[test]
    fn bytes_that_a_client_kept_are_checked() {
        let columns = [column(ScalarType::Int32), column(ScalarType::Text)].concat();
        let whole = Key::parse(&columns, &["1", "ä"]).unwrap();
        assert_eq!(Key::from_bytes(&columns, whole.as_bytes()), Some(whole.clone()));
        assert_eq!(Key::from_bytes(&columns[..1], whole.as_bytes()), None);
        assert_eq!(Key::from_bytes(&columns, &whole.as_bytes()[..whole.as_bytes().len() - 1]), None);
        assert_eq!(Key::from_bytes(&columns, b""), None);
        let mut changed = whole.as_bytes().to_vec();
        *changed.last_mut().unwrap() = 0xFF;
        assert_eq!(Key::from_bytes(&columns, &changed), None);
    }

    proptest! {
        #[test]
        fn foreign_parts_never_panic_and_are_canonical_when_taken(part: Vec<u8>, text in ".{0,30}") {
            for ty in KEY_TYPES {
                for part in [part.as_slice(), text.as_bytes()] {
                    if let Ok(key) = Key::parse(&column(ty), &[part]) {
                        prop_assert_eq!(Key::from_bytes(&column(ty), key.as_bytes()), Some(key));
                    }
                }
            }
        }

        #[test]
        fn foreign_bytes_never_panic(bytes: Vec<u8>) {
            for ty in KEY_TYPES {
                let _ = Key::from_bytes(&column(ty), &bytes);
            }
        }
    }
}
