//! What the values of columns are like: in an answer, as a part of a key in a URL, and in the body of a batch.
//!
//! For answers the schemas take exactly what the writers of JSON give. For keys they take the spellings that clients
//! should send, which are fewer than those that are understood.

use serde_json::{Value, json};

use crate::domain::{Column, ColumnType, ScalarType};
use crate::serve::json::Numbers;

const TIME: &str = "([01][0-9]|2[0-4]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?";
const DAY: &str = "[+-]?[0-9]{4,7}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])";
const INTERVAL: &str = "^(P(-?[0-9]+Y)?(-?[0-9]+M)?(-?[0-9]+D)?(T(-?[0-9]+H)?(-?[0-9]+M)?(-?[0-9]+(\\.[0-9]{1,6})?S)?)?\
                        |-?infinity)$";
const BASE64: &str = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$";
const UUID: &str = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$";

/// What is no finite number is one of these strings.
const NOT_FINITE: &str = "^(NaN|-?Infinity)$";

/// A decimal as it is written.
const DECIMAL: &str = "^-?[0-9]{1,76}(\\.[0-9]{1,76})?$";

/// A decimal as it is read, in any spelling.
const DECIMAL_KEY: &str = "^[+-]?([0-9]{1,76}(\\.[0-9]{0,76})?|\\.[0-9]{1,76})([eE][+-]?[0-9]{1,2})?$";

const INTEGER: &str = "^-?[0-9]{1,19}$";

/// Postgres' text has no NUL.
const NO_NUL: &str = "^[^\\u0000]*$";

/// base64url, with or without padding, whose last letter holds no bits beyond the last byte.
const BASE64URL: &str = "^([A-Za-z0-9_-]{4})*([A-Za-z0-9_-][AQgw](==)?|[A-Za-z0-9_-]{2}[AEIMQUYcgkosw048]=?)?$";

/// The values of a column in an answer.
pub(super) fn shown(column: &Column, numbers: Numbers) -> Value {
    let mut schema = match column.ty {
        ColumnType::Scalar(ty) => scalar(ty, numbers, column.nullable),
        ColumnType::Array(ty) => {
            json!({"type": types(&["array"], column.nullable), "items": scalar(ty, numbers, true)})
        }
        ColumnType::Jsonb => json!({}),
    };
    let comment = column.comment.as_deref().map(str::trim).filter(|comment| !comment.is_empty());
    let description: Vec<String> = comment.map(str::to_owned).into_iter().chain(note(column.ty, numbers)).collect();
    if !description.is_empty() {
        schema["description"] = json!(description.join("\n\n"));
    }
    schema
}

/// Whether a column is shown otherwise where numbers are asked for as strings.
pub(super) fn has_long_numbers(ty: ColumnType) -> bool {
    match ty {
        ColumnType::Scalar(ty) | ColumnType::Array(ty) => matches!(ty, ScalarType::Int64 | ScalarType::Numeric { .. }),
        ColumnType::Jsonb => false,
    }
}

/// `type` of a schema.
fn types(names: &[&str], nullable: bool) -> Value {
    let names: Vec<&str> = names.iter().copied().chain(nullable.then_some("null")).collect();
    if let [name] = names.as_slice() { json!(name) } else { json!(names) }
}

/// A value; what is null is written so whatever the type.
fn scalar(ty: ScalarType, numbers: Numbers, nullable: bool) -> Value {
    let ty_of = |names: &[&str]| types(names, nullable);
    let text = || ty_of(&["string"]);
    match ty {
        ScalarType::Boolean => json!({"type": ty_of(&["boolean"])}),
        ScalarType::Int64 if numbers == Numbers::Strings => {
            let mut schema = integer(ty, &ty_of(&["integer", "string"]));
            schema["pattern"] = json!(INTEGER);
            schema
        }
        ScalarType::Int16 | ScalarType::Int32 | ScalarType::Int64 => integer(ty, &ty_of(&["integer"])),
        ScalarType::Float32 | ScalarType::Float64 => {
            let format = if ty == ScalarType::Float32 { "float" } else { "double" };
            json!({"type": ty_of(&["number", "string"]), "format": format, "pattern": NOT_FINITE})
        }
        ScalarType::Numeric { .. } if numbers == Numbers::Strings => {
            json!({"type": text(), "format": "decimal", "pattern": DECIMAL})
        }
        ScalarType::Numeric { .. } => json!({"type": ty_of(&["number"]), "format": "decimal"}),
        ScalarType::Text => json!({"type": text()}),
        ScalarType::Bytea => json!({"type": text(), "contentEncoding": "base64", "pattern": BASE64}),
        ScalarType::Date => json!({"type": text(), "format": "date", "pattern": format!("^({DAY}|-?infinity)$")}),
        ScalarType::Time => json!({"type": text(), "format": "time-local", "pattern": format!("^{TIME}$")}),
        ScalarType::Timestamp => {
            json!({"type": text(), "format": "date-time-local", "pattern": format!("^({DAY}T{TIME}|-?infinity)$")})
        }
        ScalarType::Timestamptz => {
            json!({"type": text(), "format": "date-time", "pattern": format!("^({DAY}T{TIME}Z|-?infinity)$")})
        }
        ScalarType::Interval => json!({"type": text(), "pattern": INTERVAL}),
        ScalarType::Uuid => json!({"type": text(), "format": "uuid", "pattern": UUID}),
    }
}

fn integer(ty: ScalarType, types: &Value) -> Value {
    let (format, least, most) = match ty {
        ScalarType::Int16 => ("int16", i64::from(i16::MIN), i64::from(i16::MAX)),
        ScalarType::Int32 => ("int32", i64::from(i32::MIN), i64::from(i32::MAX)),
        _ => ("int64", i64::MIN, i64::MAX),
    };
    json!({"type": types, "format": format, "minimum": least, "maximum": most})
}

/// What a schema does not say of a type.
fn note(ty: ColumnType, numbers: Numbers) -> Option<String> {
    let (ty, whose) = match ty {
        ColumnType::Scalar(ty) => (ty, ""),
        ColumnType::Array(ty) => (ty, "Elements: "),
        ColumnType::Jsonb => return Some("Any JSON; its numbers keep all their digits.".to_owned()),
    };
    let note = match ty {
        ScalarType::Int64 if numbers == Numbers::Strings => {
            "64 bits. A string beyond ±(2^53 - 1), where a double would lose digits.".to_owned()
        }
        ScalarType::Int64 => "64 bits. Not exact beyond ±(2^53 - 1) where numbers are doubles, as in JavaScript: \
                              `Accept: application/json; numbers=string` gives such values as strings."
            .to_owned(),
        ScalarType::Numeric { precision, scale } => {
            let digits = format!("numeric({precision},{scale}): {precision} digits at most, {scale} after the point");
            let exact = "Where numbers are doubles, as in JavaScript, digits may be lost: `Accept: application/json; \
                         numbers=string` gives strings.";
            if numbers == Numbers::Strings { format!("{digits}.") } else { format!("{digits}. {exact}") }
        }
        ScalarType::Float32 | ScalarType::Float64 => {
            "The shortest digits that read back; NaN and infinities are strings.".to_owned()
        }
        ScalarType::Bytea => "base64.".to_owned(),
        ScalarType::Date | ScalarType::Timestamp | ScalarType::Timestamptz => {
            "Years beyond 9999 and before 0 bear a sign: `+12024-02-29`.".to_owned()
        }
        ScalarType::Interval => "ISO 8601; each part bears its own sign.".to_owned(),
        _ => return None,
    };
    Some(format!("{whose}{note}"))
}

/// Where a part of a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Between slashes: never empty, `.` or `..`, which clients rewrite.
    Path,
    /// In a `key` parameter.
    Query,
    /// In the body of a batch, where numbers and booleans have types of their own.
    Body,
}

/// A part of a key.
pub(super) fn key_part(ty: ScalarType, place: Place) -> Value {
    let day = "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])";
    let time = "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?";
    let offset = "(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])";
    match ty {
        ScalarType::Boolean => json!({"type": "boolean"}),
        ScalarType::Int64 if place == Place::Body => {
            let mut schema = integer(ty, &json!(["integer", "string"]));
            schema["pattern"] = json!(int64_pattern());
            schema
        }
        ScalarType::Int16 | ScalarType::Int32 | ScalarType::Int64 => integer(ty, &json!("integer")),
        ScalarType::Numeric { .. } => {
            let types = if place == Place::Body { json!(["number", "string"]) } else { json!("string") };
            json!({"type": types, "format": "decimal", "pattern": DECIMAL_KEY})
        }
        ScalarType::Text if place == Place::Path => {
            json!({"type": "string", "minLength": 1, "pattern": NO_NUL, "not": {"enum": [".", ".."]}})
        }
        ScalarType::Text => json!({"type": "string", "pattern": NO_NUL}),
        ScalarType::Bytea => {
            let mut schema = json!({"type": "string", "contentEncoding": "base64url", "pattern": BASE64URL});
            if place == Place::Path {
                schema["minLength"] = json!(1);
            }
            schema
        }
        ScalarType::Date => json!({"type": "string", "format": "date", "pattern": format!("^{day}$")}),
        ScalarType::Time => json!({"type": "string", "format": "time-local", "pattern": format!("^{time}$")}),
        ScalarType::Timestamp => {
            json!({"type": "string", "format": "date-time-local", "pattern": format!("^{day}T{time}$")})
        }
        ScalarType::Timestamptz => {
            json!({"type": "string", "format": "date-time", "pattern": format!("^{day}T{time}{offset}$")})
        }
        ScalarType::Uuid => json!({"type": "string", "format": "uuid"}),
        // No table has such a key.
        ScalarType::Float32 | ScalarType::Float64 | ScalarType::Interval => json!(false),
    }
}

/// Whole numbers of 64 bits in digits: `maximum` is for numbers alone.
fn int64_pattern() -> String {
    let most = i64::MAX.to_string();
    let mut ranges = vec!["[0-9]{1,18}".to_owned()];
    // As many digits, of which the first that differs is less.
    for (at, digit) in most.char_indices().filter(|(_, digit)| *digit != '0') {
        let left = most.len() - at - 1;
        let (less, rest) = match left {
            0 => (digit, String::new()),
            _ => (char::from(digit as u8 - 1), format!("[0-9]{{{left}}}")),
        };
        ranges.push(format!("{}[0-{less}]{rest}", &most[..at]));
    }
    format!("^(-?({})|{})$", ranges.join("|"), i64::MIN)
}

/// A value of a column as an answer may hold it.
pub(super) fn example(ty: ColumnType, numbers: Numbers) -> Value {
    match ty {
        ColumnType::Scalar(ty) => scalar_example(ty, numbers),
        ColumnType::Array(ty) => json!([scalar_example(ty, numbers)]),
        ColumnType::Jsonb => json!({"a": 1}),
    }
}

fn scalar_example(ty: ScalarType, numbers: Numbers) -> Value {
    match ty {
        ScalarType::Boolean => json!(true),
        ScalarType::Int32 | ScalarType::Int64 => json!(42),
        ScalarType::Float32 | ScalarType::Float64 => json!(0.25),
        ScalarType::Numeric { scale, .. } if numbers == Numbers::Strings => json!(decimal_example(scale)),
        ScalarType::Int16 | ScalarType::Numeric { scale: 0, .. } => json!(7),
        ScalarType::Numeric { .. } => json!(0.5),
        ScalarType::Text => json!("abc"),
        ScalarType::Bytea => json!("AP8="),
        ScalarType::Date => json!("2024-02-29"),
        ScalarType::Time => json!("12:34:56.789"),
        ScalarType::Timestamp => json!("2024-02-29T12:34:56.789"),
        ScalarType::Timestamptz => json!("2024-02-29T12:34:56.789Z"),
        ScalarType::Interval => json!("P1DT2H"),
        ScalarType::Uuid => json!("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    }
}

/// A part of a key as it may stand there.
pub(super) fn key_example(ty: ScalarType, place: Place) -> Value {
    match ty {
        ScalarType::Numeric { scale, .. } if place != Place::Body => json!(decimal_example(scale)),
        ScalarType::Bytea => json!("AP8"),
        _ => scalar_example(ty, Numbers::Exact),
    }
}

/// A decimal with so many digits after the point, of which no more are needed than any precision has.
fn decimal_example(scale: u8) -> String {
    if scale == 0 { "7".to_owned() } else { format!("0.{:0<1$}", 5, usize::from(scale)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_decimals_keep_their_scale() {
        assert_eq!([0, 1, 3].map(decimal_example), ["7", "0.5", "0.500"]);
    }

    #[test]
    fn null_is_a_type_among_others() {
        assert_eq!(types(&["string"], false), json!("string"));
        assert_eq!(types(&["number", "string"], true), json!(["number", "string", "null"]));
    }

    #[test]
    fn digits_of_64_bits_are_told_from_more() {
        let pattern = regex::Regex::new(&int64_pattern()).unwrap();
        for number in ["0", "-1", "007", "999999999999999999", "1000000000000000000", "9223372036854775807"] {
            assert!(pattern.is_match(number) && number.parse::<i64>().is_ok(), "{number}");
        }
        assert!(pattern.is_match(&i64::MIN.to_string()));
        for number in
            ["", "-", "9223372036854775808", "-9223372036854775809", "9727660949241938490", "9999999999999999999"]
        {
            assert!(!pattern.is_match(number) && number.parse::<i64>().is_err(), "{number}");
        }
        for tenth in 0..=1_000 {
            let number = (i64::MAX / 1_000 * tenth).to_string();
            assert!(pattern.is_match(&number), "{number}");
        }
    }
}
