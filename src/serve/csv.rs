//! Rows as CSV by RFC 4180.
//!
//! A null is an empty field, an empty text `""`. Values are spelled as in JSON without the quotes; arrays and `jsonb`
//! are JSON.

use super::json::{Numbers, write_value};
use crate::domain::{ColumnType, ScalarType};

/// A value that is there and has no bytes.
const EMPTY: [u8; 2] = [b'"', b'"'];

/// Ends a line.
pub(super) const LINE_END: &[u8] = b"\r\n";

/// Appends the names of columns as the first line.
pub(super) fn write_names<'a>(out: &mut Vec<u8>, names: impl Iterator<Item = &'a str>) {
    for (position, name) in names.enumerate() {
        if position > 0 {
            out.push(b',');
        }
        write_text(out, name.as_bytes());
    }
    out.extend_from_slice(LINE_END);
}

/// Appends a field: a binary value, `None` for null. `scratch` is emptied. `None` when the value is not of the type.
pub(super) fn write_field(
    out: &mut Vec<u8>,
    scratch: &mut Vec<u8>,
    ty: ColumnType,
    value: Option<&[u8]>,
) -> Option<()> {
    let Some(raw) = value else { return Some(()) };
    if ty == ColumnType::Scalar(ScalarType::Text) {
        write_text(out, raw);
        return Some(());
    }
    scratch.clear();
    write_value(scratch, ty, Some(raw), Numbers::Exact)?;
    match ty {
        ColumnType::Scalar(_) => {
            // Strings of other types than text hold nothing that is escaped in JSON or quoted in CSV.
            let plain = scratch.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(scratch);
            out.extend_from_slice(if plain.is_empty() { &EMPTY } else { plain });
        }
        ColumnType::Array(_) | ColumnType::Jsonb => write_text(out, scratch),
    }
    Some(())
}

/// Appends text, in quotes where it is empty or holds what ends a field.
fn write_text(out: &mut Vec<u8>, text: &[u8]) {
    if !text.is_empty() && !text.iter().any(|byte| matches!(byte, b',' | b'"' | b'\r' | b'\n')) {
        out.extend_from_slice(text);
        return;
    }
    out.push(b'"');
    for part in text.split_inclusive(|byte| *byte == b'"') {
        out.extend_from_slice(part);
        if part.ends_with(b"\"") {
            out.push(b'"');
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(ty: ColumnType, value: Option<&[u8]>) -> String {
        let mut out = Vec::new();
        write_field(&mut out, &mut Vec::new(), ty, value).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_is_quoted_where_it_must_be() {
        let text = |text: &str| field(ColumnType::Scalar(ScalarType::Text), Some(text.as_bytes()));
        for (value, written) in [
            ("a b", "a b"),
            ("", "\"\""),
            ("a,b", "\"a,b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("\"", "\"\"\"\""),
            ("a\r\nb", "\"a\r\nb\""),
        ] {
            assert_eq!(text(value), written);
        }
        assert_eq!(field(ColumnType::Scalar(ScalarType::Text), None), "");
    }

    #[test]
    fn other_values_are_spelled_as_in_json_without_quotes() {
        assert_eq!(field(ColumnType::Scalar(ScalarType::Int64), Some(&i64::MIN.to_be_bytes())), "-9223372036854775808");
        assert_eq!(field(ColumnType::Scalar(ScalarType::Date), Some(&0_i32.to_be_bytes())), "2000-01-01");
        assert_eq!(field(ColumnType::Scalar(ScalarType::Bytea), Some(b"")), "\"\"");
        assert_eq!(field(ColumnType::Scalar(ScalarType::Float64), Some(&f64::NAN.to_be_bytes())), "NaN");
        assert_eq!(
            field(ColumnType::Jsonb, Some(b"\x01{\"a\": 1, \"b\": null}")),
            "\"{\"\"a\"\": 1, \"\"b\"\": null}\""
        );
    }

    #[test]
    fn names_are_text() {
        let mut out = Vec::new();
        write_names(&mut out, ["id", "a,b"].into_iter());
        assert_eq!(out, b"id,\"a,b\"\r\n");
    }
}
