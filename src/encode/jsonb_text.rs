//! The text that Postgres gives for a `jsonb` value, from Arrow and from JSON text.
//!
//! `jsonb` keeps members by the length of their names and then by their bytes, and numbers in plain notation with the
//! digits that were written. Apart from the spelling of intervals and the reading of variants, which the encoder's JSON
//! writer has in common with it, nothing here is that writer's: an error in it must not be made twice.

use std::fmt::Write;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type, Float64Type, Int32Type};
use arrow_array::{Array, ArrayRef};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, Field, IntervalUnit, TimeUnit};
use base64::Engine;
use chrono::DateTime;

use super::bad_row::Faults;
use super::json_text::{self, Event};
use super::prepared::plain;
use super::{array, column_type, json_time, variant};
use crate::domain::{Error, Result};

/// A value as `jsonb` holds it.
enum Json {
    Null,
    Boolean(bool),
    /// In plain notation.
    Number(String),
    String(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// The text of one row's value; `None` where there is none.
pub(super) fn of(values: &ArrayRef, field: &Field, row: usize) -> Result<Option<String>> {
    if values.is_null(row) {
        return Ok(None);
    }
    let value = match values.data_type() {
        DataType::Utf8 => parse(values.as_string::<i32>().value(row))?,
        DataType::LargeUtf8 => parse(values.as_string::<i64>().value(row))?,
        DataType::Utf8View => parse(values.as_string_view().value(row))?,
        _ => from_arrow(values, field, row)?,
    };
    let mut text = String::new();
    value.write(&mut text);
    Ok(Some(text))
}

impl Json {
    fn write(&self, out: &mut String) {
        match self {
            Json::Null => out.push_str("null"),
            Json::Boolean(value) => out.push_str(if *value { "true" } else { "false" }),
            Json::Number(number) => out.push_str(number),
            Json::String(text) => write_string(text, out),
            Json::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index > 0 { ", " } else { "" });
                    item.write(out);
                }
                out.push(']');
            }
            Json::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                members.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.as_bytes().cmp(b.as_bytes())));
                out.push('{');
                for (index, (name, value)) in members.into_iter().enumerate() {
                    out.push_str(if index > 0 { ", " } else { "" });
                    write_string(name, out);
                    out.push_str(": ");
                    value.write(out);
                }
                out.push('}');
            }
        }
    }

    /// The name of a map's member.
    fn into_name(self) -> String {
        match self {
            Json::String(text) | Json::Number(text) => text,
            other => {
                let mut text = String::new();
                other.write(&mut text);
                text
            }
        }
    }
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if control < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

fn parse(text: &str) -> Result<Json> {
    /// An array or object that is not complete yet.
    enum Open {
        Array(Vec<Json>),
        Object(Vec<(String, Json)>, String),
    }
    let mut open: Vec<Open> = Vec::new();
    let mut whole = Json::Null;
    json_text::read(text.as_bytes(), &mut |event| {
        let value = match event {
            Event::BeginArray => return open.push(Open::Array(Vec::new())),
            Event::BeginObject => return open.push(Open::Object(Vec::new(), String::new())),
            Event::Name(name) => {
                if let Some(Open::Object(_, next)) = open.last_mut() {
                    *next = name.into_owned();
                }
                return;
            }
            Event::EndArray | Event::EndObject => match open.pop() {
                Some(Open::Array(items)) => Json::Array(items),
                Some(Open::Object(members, _)) => Json::Object(members),
                None => Json::Null,
            },
            Event::Null => Json::Null,
            Event::Boolean(value) => Json::Boolean(value),
            Event::Number(number) => Json::Number(plain_number(number)),
            Event::String(text) => Json::String(text.into_owned()),
        };
        match open.last_mut() {
            Some(Open::Array(items)) => items.push(value),
            Some(Open::Object(members, name)) => members.push((std::mem::take(name), value)),
            None => whole = value,
        }
    })
    .map_err(|fault| Error::internal(format!("a row that was encoded cannot be hashed: {}", fault.reason)))?;
    Ok(whole)
}

/// A JSON number as `numeric` spells it: without an exponent, with the digits after the point that it was given.
fn plain_number(number: &str) -> String {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let exponent: i64 = exponent.parse().unwrap_or(0);
    let magnitude = mantissa.trim_start_matches('-');
    let (integer, fraction) = magnitude.split_once('.').unwrap_or((magnitude, ""));
    let digits = format!("{integer}{fraction}");
    let point = integer.len() as i64 + exponent;
    let scale = (fraction.len() as i64 - exponent).max(0);
    let digit = |at: i64| usize::try_from(at).ok().and_then(|at| digits.as_bytes().get(at)).map_or('0', |&d| d.into());
    let whole: String = (0..point).map(digit).collect();
    let whole = whole.trim_start_matches('0');
    let rest: String = (point..point + scale).map(digit).collect();
    let is_zero = digits.bytes().all(|digit| digit == b'0');
    let sign = if mantissa.starts_with('-') && !is_zero { "-" } else { "" };
    let whole = if whole.is_empty() { "0" } else { whole };
    if rest.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{rest}") }
}

fn from_arrow(values: &ArrayRef, field: &Field, row: usize) -> Result<Json> {
    match values.data_type() {
        DataType::Null => return Ok(Json::Null),
        DataType::Dictionary(_, _) | DataType::RunEndEncoded(_, _) => {
            return from_arrow(&plain(&values.slice(row, 1))?, field, 0);
        }
        _ if values.is_null(row) => return Ok(Json::Null),
        _ => {}
    }
    if column_type::is_variant(field) {
        let text = variant::to_json(&values.slice(row, 1), &mut Faults::default())?;
        return parse(text.as_string::<i32>().value(0));
    }
    match values.data_type() {
        DataType::Struct(fields) => {
            let columns = fields.iter().zip(values.as_struct().columns());
            let members = columns.map(|(field, column)| Ok((field.name().clone(), from_arrow(column, field, row)?)));
            Ok(Json::Object(members.collect::<Result<_>>()?))
        }
        DataType::Map(_, _) => {
            let map = values.as_map();
            let (key, value) = map.entries_fields();
            let offsets = map.value_offsets();
            let entries = (offsets[row] as usize..offsets[row + 1] as usize).map(|entry| {
                let name = from_arrow(map.keys(), key, entry)?.into_name();
                Ok((name, from_arrow(map.values(), value, entry)?))
            });
            Ok(Json::Object(entries.collect::<Result<_>>()?))
        }
        data_type => match column_type::list_item(data_type) {
            Some(item) => {
                let (items, ranges) = array::items(values)?;
                let items = ranges.of(row).map(|index| from_arrow(&items, item, index));
                Ok(Json::Array(items.collect::<Result<_>>()?))
            }
            None => scalar(values, field, row),
        },
    }
}

fn scalar(values: &ArrayRef, field: &Field, row: usize) -> Result<Json> {
    let count = || json_time::counts(&values.slice(row, 1)).map(|counts| counts.value(0));
    Ok(match values.data_type() {
        DataType::Boolean => Json::Boolean(values.as_boolean().value(row)),
        DataType::Float16 => float(f32::from(values.as_primitive::<Float16Type>().value(row))),
        DataType::Float32 => float(values.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => float(values.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => Json::String(values.as_string::<i32>().value(row).to_owned()),
        DataType::LargeUtf8 => Json::String(values.as_string::<i64>().value(row).to_owned()),
        DataType::Utf8View => Json::String(values.as_string_view().value(row).to_owned()),
        DataType::Binary => binary(values.as_binary::<i32>().value(row), field),
        DataType::LargeBinary => binary(values.as_binary::<i64>().value(row), field),
        DataType::BinaryView => binary(values.as_binary_view().value(row), field),
        DataType::FixedSizeBinary(_) => binary(values.as_fixed_size_binary().value(row), field),
        DataType::Date32 => date_time(
            i64::from(values.as_primitive::<arrow_array::types::Date32Type>().value(row)) * 86_400,
            0,
            "%Y-%m-%d",
        ),
        DataType::Date64 => date_time(count()?.div_euclid(1_000), 0, "%Y-%m-%d"),
        DataType::Timestamp(unit, zone) => {
            let (seconds, nanos) = split(*unit, count()?);
            let mut text = trimmed(date_time(seconds, nanos, "%Y-%m-%dT%H:%M:%S%.9f"));
            text.push_str(if zone.is_some() { "Z" } else { "" });
            Json::String(text)
        }
        DataType::Time32(unit) | DataType::Time64(unit) => match split(*unit, count()?) {
            (86_400, 0) => Json::String("24:00:00".to_owned()),
            (seconds, nanos) => Json::String(trimmed(date_time(seconds, nanos, "%H:%M:%S%.9f"))),
        },
        DataType::Duration(unit) => {
            let (seconds, nanos) = split(*unit, count()?);
            span(0, 0, i128::from(seconds) * 1_000_000_000 + i128::from(nanos))
        }
        DataType::Interval(IntervalUnit::YearMonth) => {
            let months = arrow_cast::cast(&values.slice(row, 1), &DataType::Int32);
            let months = months.map_err(|error| Error::internal("an interval has no months").because(error))?;
            span(months.as_primitive::<Int32Type>().value(0), 0, 0)
        }
        DataType::Interval(IntervalUnit::DayTime) => {
            let value = values.as_primitive::<arrow_array::types::IntervalDayTimeType>().value(row);
            span(0, value.days, i128::from(value.milliseconds) * 1_000_000)
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let value = values.as_primitive::<arrow_array::types::IntervalMonthDayNanoType>().value(row);
            span(value.months, value.days, i128::from(value.nanoseconds))
        }
        _ => {
            let formatter = ArrayFormatter::try_new(values, &FormatOptions::default());
            let text = formatter.and_then(|formatter| formatter.value(row).try_to_string());
            Json::Number(text.map_err(|error| Error::internal("a number has no text").because(error))?)
        }
    })
}

fn float<F: Into<f64> + Copy + std::fmt::Display>(value: F) -> Json {
    let wide: f64 = value.into();
    if wide.is_nan() {
        Json::String("NaN".to_owned())
    } else if wide.is_infinite() {
        Json::String(if wide > 0.0 { "Infinity" } else { "-Infinity" }.to_owned())
    } else if wide == 0.0 {
        // Numbers in jsonb have no negative zero.
        Json::Number("0".to_owned())
    } else {
        Json::Number(value.to_string())
    }
}

fn binary(bytes: &[u8], field: &Field) -> Json {
    match uuid::Uuid::from_slice(bytes) {
        Ok(id) if column_type::is_uuid(field) => Json::String(id.to_string()),
        _ => Json::String(base64::prelude::BASE64_STANDARD.encode(bytes)),
    }
}

/// Whole seconds and the nanoseconds beyond them.
fn split(unit: TimeUnit, count: i64) -> (i64, u32) {
    let per_second = match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    (count.div_euclid(per_second), (count.rem_euclid(per_second) * (1_000_000_000 / per_second)) as u32)
}

fn date_time(seconds: i64, nanos: u32, format: &str) -> Json {
    let at = DateTime::from_timestamp(seconds, nanos);
    Json::String(at.map(|at| at.format(format).to_string()).unwrap_or_default())
}

/// Without the zeros that end a fraction.
fn trimmed(text: Json) -> String {
    text.into_name().trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn span(months: i32, days: i32, nanos: i128) -> Json {
    let mut text = Vec::new();
    let _ = json_time::interval(months, days, nanos, &mut text);
    Json::String(String::from_utf8_lossy(&text).trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        let mut out = String::new();
        parse(text).unwrap().write(&mut out);
        out
    }

    /// Texts and what PostgreSQL 15 gave for `text::jsonb::text`.
    #[test]
    fn text_is_spelled_as_postgres_spells_it() {
        for (text, expected) in [
            (r#"{"bb":1,"a":2,"":3,"ab":4}"#, r#"{"": 3, "a": 2, "ab": 4, "bb": 1}"#),
            (
                "[ 1e3 , 1.50e1, 1e-3, -0, -0.0, 0e5, 0e-3, 120e-1, -1.5E+2 ]",
                "[1000, 15.0, 0.001, 0, 0.0, 0, 0.000, 12.0, -150]",
            ),
            (r#""\u0001\u007f\u00e4\/\b\f\n\r\t\"\\""#, "\"\\u0001\u{7f}ä/\\b\\f\\n\\r\\t\\\"\\\\\""),
            ("{\"a\":{},\"b\":[]}", "{\"a\": {}, \"b\": []}"),
            ("0.10", "0.10"),
        ] {
            assert_eq!(canonical(text), expected);
        }
    }
}
