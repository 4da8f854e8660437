//! Nested values as JSON, the payload of `jsonb`.
//!
//! Numbers keep all their digits; what JSON has no form for becomes a string: NaN and infinities, dates, times,
//! intervals, UUIDs, binaries in base64. Members that are null are written.

use std::collections::HashSet;
use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Float16Type, Float32Type, Float64Type, IntervalDayTimeType, IntervalMonthDayNanoType,
    IntervalYearMonthType,
};
use arrow_array::{Array, ArrayRef, MapArray, StructArray};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field, IntervalUnit};
use base64::Engine;

use super::bad_row::{Fault, Faults};
use super::field::Render;
use super::json_text;
use super::prepared::plain;
use super::typed_array::{Bytes, Decimals, Instants, unexpected};
use super::{array, column_type, exact_decimal, json_time, variant};
use crate::domain::{Code, Result};

/// The version that stands before the text of a `jsonb` in binary form.
const JSONB_VERSION: u8 = 1;
const DUPLICATE_KEY: Fault = Fault::new(Code::LossyCast, "a map has two keys that are the same as text");

/// Writes the value of one row, or `null`.
type WriteJson<'a> = Box<dyn Fn(usize, &mut Vec<u8>) -> Result<(), Fault> + 'a>;

/// Renders a column as `jsonb`.
pub(super) struct Jsonb {
    nulls: Option<NullBuffer>,
    write: WriteJson<'static>,
}

impl Jsonb {
    /// A column of nested values, or of JSON text.
    pub(super) fn new(array: &ArrayRef, field: &Field) -> Result<Self> {
        let is_text = matches!(array.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        let write = if is_text { json_text_writer(array)? } else { writer(array, field)? };
        Ok(Jsonb { nulls: array.logical_nulls(), write })
    }
}

impl Render for Jsonb {
    fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    fn render(&mut self, row: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
        out.push(JSONB_VERSION);
        let start = out.len();
        (self.write)(row, out)?;
        if out.len() - start > json_text::MAX_BYTES { Err(json_text::TOO_LARGE) } else { Ok(()) }
    }
}

/// JSON text goes in as it is, once it is known that Postgres can read it without losing anything.
fn json_text_writer(array: &ArrayRef) -> Result<WriteJson<'static>> {
    let array = ArrayRef::clone(array);
    Bytes::of(&array)?;
    Ok(Box::new(move |row, out| {
        let bytes = Bytes::of(&array).map(|bytes| bytes.value(row)).map_err(|_| json_text::INVALID)?;
        json_text::check(bytes)?;
        out.extend_from_slice(bytes);
        Ok(())
    }))
}

/// The writer of an array, nulls included.
fn writer(array: &ArrayRef, field: &Field) -> Result<WriteJson<'static>> {
    let array = plain(array)?;
    if array.data_type() == &DataType::Null {
        return Ok(Box::new(|_, out| text(out, "null")));
    }
    let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0).cloned();
    let value = value_writer(&array, field)?;
    Ok(match nulls {
        None => value,
        Some(nulls) => Box::new(move |row, out| if nulls.is_null(row) { text(out, "null") } else { value(row, out) }),
    })
}

fn value_writer(array: &ArrayRef, field: &Field) -> Result<WriteJson<'static>> {
    if column_type::is_variant(field) {
        let mut faults = Faults::default();
        let json = variant::to_json(array, &mut faults)?;
        let bad: std::collections::HashMap<usize, Fault> =
            faults.take().into_iter().map(|cell| (cell.row, cell.fault)).collect();
        return Ok(Box::new(move |row, out| match bad.get(&row) {
            Some(fault) => Err(*fault),
            None => text(out, json.as_string::<i32>().value(row)),
        }));
    }
    match array.data_type() {
        DataType::Struct(_) => struct_writer(array.as_struct()),
        DataType::Map(_, _) => map_writer(array.as_map()),
        data_type if column_type::list_item(data_type).is_some() => list_writer(array),
        _ => scalar_writer(array, field),
    }
}

fn struct_writer(array: &StructArray) -> Result<WriteJson<'static>> {
    let mut members = Vec::with_capacity(array.num_columns());
    for (field, column) in array.fields().iter().zip(array.columns()) {
        let mut name = Vec::new();
        // A name with NUL is refused when the columns are planned.
        let _ = string(&mut name, field.name());
        name.push(b':');
        members.push((name, writer(column, field)?));
    }
    Ok(Box::new(move |row, out| {
        for (index, (name, value)) in members.iter().enumerate() {
            out.push(if index == 0 { b'{' } else { b',' });
            out.extend_from_slice(name);
            value(row, out)?;
        }
        text(out, if members.is_empty() { "{}" } else { "}" })
    }))
}

fn map_writer(array: &MapArray) -> Result<WriteJson<'static>> {
    let (key_field, value_field) = array.entries_fields();
    let key = writer(array.keys(), key_field)?;
    let value = writer(array.values(), value_field)?;
    let offsets = array.offsets().clone();
    Ok(Box::new(move |row, out| {
        let entries = range(offsets.get(row).copied(), offsets.get(row + 1).copied());
        let mut seen = HashSet::with_capacity(entries.len());
        let mut name = Vec::new();
        out.push(b'{');
        for entry in entries.clone() {
            if entry > entries.start {
                out.push(b',');
            }
            name.clear();
            key(entry, &mut name)?;
            if name.first() != Some(&b'"') {
                name.insert(0, b'"');
                name.push(b'"');
            }
            out.extend_from_slice(&name);
            out.push(b':');
            value(entry, out)?;
            if !seen.insert(std::mem::take(&mut name)) {
                return Err(DUPLICATE_KEY);
            }
        }
        text(out, "}")
    }))
}

fn list_writer(list: &ArrayRef) -> Result<WriteJson<'static>> {
    let (items, ranges) = array::items(list)?;
    let field = column_type::list_item(list.data_type()).ok_or_else(|| unexpected(list, "lists"))?;
    let item = writer(&items, field)?;
    Ok(Box::new(move |row, out| {
        let range = ranges.of(row);
        out.push(b'[');
        for index in range.clone() {
            if index > range.start {
                out.push(b',');
            }
            item(index, out)?;
        }
        text(out, "]")
    }))
}

fn scalar_writer(array: &ArrayRef, field: &Field) -> Result<WriteJson<'static>> {
    let array = ArrayRef::clone(array);
    Ok(match array.data_type() {
        DataType::Boolean => {
            let array = array.as_boolean().clone();
            Box::new(move |row, out| text(out, if array.value(row) { "true" } else { "false" }))
        }
        DataType::Float16 => primitive::<Float16Type>(&array, |value, out| float(f32::from(value), out)),
        DataType::Float32 => primitive::<Float32Type>(&array, float),
        DataType::Float64 => primitive::<Float64Type>(&array, float),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            Bytes::of(&array)?;
            Box::new(move |row, out| {
                let bytes = Bytes::of(&array).map(|bytes| bytes.value(row)).unwrap_or_default();
                string(out, std::str::from_utf8(bytes).map_err(|_| json_text::INVALID)?)
            })
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            Bytes::of(&array)?;
            let is_uuid = column_type::is_uuid(field);
            Box::new(move |row, out| {
                let bytes = Bytes::of(&array).map(|bytes| bytes.value(row)).unwrap_or_default();
                binary(out, bytes, is_uuid)
            })
        }
        DataType::Date32 | DataType::Date64 => {
            Instants::of(&array)?;
            Box::new(move |row, out| {
                json_time::date(Instants::of(&array).map_err(|_| json_text::INVALID)?.micros(row)?, out)
            })
        }
        DataType::Timestamp(unit, zone) => {
            let (unit, zoned) = (*unit, zone.is_some());
            let counts = json_time::counts(&array)?;
            Box::new(move |row, out| json_time::timestamp(unit, counts.value(row), zoned, out))
        }
        DataType::Time32(unit) | DataType::Time64(unit) => {
            let unit = *unit;
            let counts = json_time::counts(&array)?;
            Box::new(move |row, out| json_time::time(unit, counts.value(row), out))
        }
        DataType::Duration(unit) => {
            let unit = *unit;
            let counts = json_time::counts(&array)?;
            Box::new(move |row, out| json_time::interval(0, 0, json_time::nanos(unit, counts.value(row)), out))
        }
        DataType::Interval(IntervalUnit::YearMonth) => {
            primitive::<IntervalYearMonthType>(&array, |months, out| json_time::interval(months, 0, 0, out))
        }
        DataType::Interval(IntervalUnit::DayTime) => primitive::<IntervalDayTimeType>(&array, |value, out| {
            json_time::interval(0, value.days, i128::from(value.milliseconds) * 1_000_000, out)
        }),
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            primitive::<IntervalMonthDayNanoType>(&array, |value, out| {
                json_time::interval(value.months, value.days, i128::from(value.nanoseconds), out)
            })
        }
        _ => {
            Decimals::of(&array)?;
            Box::new(move |row, out| {
                let decimals = Decimals::of(&array).map_err(|_| json_text::INVALID)?;
                let mut number = String::new();
                exact_decimal::write_plain(decimals.value(row), decimals.scale(), &mut number);
                text(out, &number)
            })
        }
    })
}

fn primitive<T: ArrowPrimitiveType>(
    array: &ArrayRef,
    write: impl Fn(T::Native, &mut Vec<u8>) -> Result<(), Fault> + 'static,
) -> WriteJson<'static> {
    let array = array.as_primitive::<T>().clone();
    Box::new(move |row, out| write(array.value(row), out))
}

fn range(start: Option<i32>, end: Option<i32>) -> Range<usize> {
    let index = |offset: Option<i32>| offset.and_then(|offset| usize::try_from(offset).ok()).unwrap_or(0);
    index(start)..index(end)
}

pub(super) fn text(out: &mut Vec<u8>, text: &str) -> Result<(), Fault> {
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// The shortest digits that read back as the same float, without a point where the number is whole.
pub(super) fn float<F: zmij::Float + Into<f64> + Copy>(value: F, out: &mut Vec<u8>) -> Result<(), Fault> {
    let wide: f64 = value.into();
    if wide.is_finite() {
        let mut buffer = zmij::Buffer::new();
        let digits = buffer.format_finite(value);
        text(out, digits.strip_suffix(".0").unwrap_or(digits))
    } else if wide.is_nan() {
        text(out, "\"NaN\"")
    } else {
        text(out, if wide > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" })
    }
}

/// Binaries in base64, UUIDs as they are usually spelled.
pub(super) fn binary(out: &mut Vec<u8>, bytes: &[u8], is_uuid: bool) -> Result<(), Fault> {
    out.push(b'"');
    match uuid::Uuid::from_slice(bytes) {
        Ok(id) if is_uuid => text(out, id.hyphenated().encode_lower(&mut [0; 36]))?,
        _ => text(out, &base64::engine::general_purpose::STANDARD.encode(bytes))?,
    }
    text(out, "\"")
}

/// A string in quotes, with what JSON requires escaped.
pub(super) fn string(out: &mut Vec<u8>, value: &str) -> Result<(), Fault> {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let mut copied = 0;
    let bytes = value.as_bytes();
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= b' ' && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[copied..at]);
        copied = at + 1;
        match byte {
            0 => return Err(Fault::NUL),
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
        }
    }
    out.extend_from_slice(&bytes[copied..]);
    out.push(b'"');
    Ok(())
}
