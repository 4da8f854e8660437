//! The hashes of a column's values, from Arrow, as [`super::hash_sql`] has Postgres compute them.
//!
//! Nothing here uses the encoder's conversions to the types of Postgres: an error in one of them must not be made twice.
//! What comes before, [`super::PreparedBatch`] with its declared casts and the bounds of lists, is shared.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType, Float16Type,
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, IntervalDayTimeType, IntervalMonthDayNanoType,
    IntervalYearMonthType, Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, Field, IntervalUnit, TimeUnit};

use super::hash_sql::{LATE_INSTANT_MICROS, LATE_TIME_MICROS};
use super::prepared::plain;
use super::row_hash::Seeds;
use super::typed_array::unexpected;
use super::{array, jsonb_text, postgres_hash as hash};
use crate::domain::{ColumnType, Result, ScalarType};

/// Microseconds from 1970 to 2000.
const MICROS_TO_2000: i64 = 946_684_800_000_000;
const DAYS_TO_2000: i64 = 10_957;

/// XORs the hash of each of these rows' values into its place in `out`.
pub(super) fn xor(
    ty: ColumnType,
    field: &Field,
    values: &ArrayRef,
    seeds: Seeds,
    rows: &[u32],
    out: &mut [u64],
) -> Result<()> {
    match ty {
        ColumnType::Scalar(scalar) => xor_scalar(scalar, values, seeds, rows, out),
        ColumnType::Array(scalar) => xor_array(scalar, values, seeds, rows, out),
        ColumnType::Jsonb => {
            for (&row, out) in rows.iter().zip(out) {
                *out ^= match jsonb_text::of(values, field, row as usize)? {
                    Some(text) => hash::bytes(text.as_bytes(), seeds.value),
                    None => seeds.null,
                };
            }
            Ok(())
        }
    }
}

/// An array's bounds, and each item with its place.
fn xor_array(scalar: ScalarType, list: &ArrayRef, seeds: Seeds, rows: &[u32], out: &mut [u64]) -> Result<()> {
    let (items, ranges) = array::items(list)?;
    let items = plain(&items)?;
    for (&row, out) in rows.iter().zip(out) {
        if list.is_null(row as usize) {
            *out ^= seeds.null;
            continue;
        }
        let indexes: Vec<u32> = ranges.of(row as usize).map(|index| index as u32).collect();
        let mut hashes = vec![0; indexes.len()];
        xor_scalar(scalar, &items, Seeds { null: seeds.null_item, ..seeds }, &indexes, &mut hashes)?;
        let bounds = if hashes.is_empty() { String::new() } else { format!("[1:{}]", hashes.len()) };
        *out ^= hash::bytes(bounds.as_bytes(), seeds.other);
        for (place, item) in (1..).zip(hashes) {
            *out ^= hash::int8(place, item);
        }
    }
    Ok(())
}

/// Hashes the values of one Arrow type.
macro_rules! primitive {
    ($values:ident, $type:ty, $seeds:ident, $rows:ident, $out:ident, $hash:expr) => {{
        let values = $values.as_primitive::<$type>();
        each($values, $seeds, $rows, $out, |row| $hash(values.value(row)));
    }};
}

fn each(values: &ArrayRef, seeds: Seeds, rows: &[u32], out: &mut [u64], mut hash: impl FnMut(usize) -> u64) {
    match values.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => rows.iter().zip(out).for_each(|(&row, out)| *out ^= hash(row as usize)),
        Some(nulls) => rows.iter().zip(out).for_each(|(&row, out)| {
            *out ^= if nulls.is_null(row as usize) { seeds.null } else { hash(row as usize) };
        }),
    }
}

fn xor_scalar(scalar: ScalarType, v: &ArrayRef, s: Seeds, rows: &[u32], out: &mut [u64]) -> Result<()> {
    if can_be_linked(ColumnType::Scalar(scalar)) {
        return seeded(scalar, v, &How::Xor(s), rows, out);
    }
    match (scalar, v.data_type()) {
        (ScalarType::Boolean, DataType::Boolean) => {
            let values = v.as_boolean();
            each(v, s, rows, out, |row| if values.value(row) { s.value } else { s.other });
        }
        (ScalarType::Float32, DataType::Float16) => {
            primitive!(v, Float16Type, s, rows, out, |x| float(f32::from(x).into(), s));
        }
        (ScalarType::Float32, DataType::Float32) => {
            primitive!(v, Float32Type, s, rows, out, |x: f32| float(x.into(), s))
        }
        (ScalarType::Float64, DataType::Float64) => primitive!(v, Float64Type, s, rows, out, |x| float(x, s)),
        (ScalarType::Bytea, DataType::Binary) => {
            let values = v.as_binary::<i32>();
            each(v, s, rows, out, |row| bytea(values.value(row), s));
        }
        (ScalarType::Bytea, DataType::LargeBinary) => {
            let values = v.as_binary::<i64>();
            each(v, s, rows, out, |row| bytea(values.value(row), s));
        }
        (ScalarType::Bytea, DataType::BinaryView) => {
            let values = v.as_binary_view();
            each(v, s, rows, out, |row| bytea(values.value(row), s));
        }
        (ScalarType::Bytea, DataType::FixedSizeBinary(_)) => {
            let values = v.as_fixed_size_binary();
            each(v, s, rows, out, |row| bytea(values.value(row), s));
        }
        (ScalarType::Uuid, DataType::FixedSizeBinary(16)) => {
            let values = v.as_fixed_size_binary();
            each(v, s, rows, out, |row| hash::bytes(values.value(row), s.value));
        }
        (ScalarType::Time, _) => xor_time(v, s, rows, out)?,
        (ScalarType::Timestamp | ScalarType::Timestamptz, DataType::Timestamp(unit, _)) => match unit {
            TimeUnit::Second => primitive!(v, TimestampSecondType, s, rows, out, |x| instant(x, 1_000_000, 1, s)),
            TimeUnit::Millisecond => primitive!(v, TimestampMillisecondType, s, rows, out, |x| instant(x, 1_000, 1, s)),
            TimeUnit::Microsecond => primitive!(v, TimestampMicrosecondType, s, rows, out, |x| instant(x, 1, 1, s)),
            TimeUnit::Nanosecond => primitive!(v, TimestampNanosecondType, s, rows, out, |x| instant(x, 1, 1_000, s)),
        },
        (ScalarType::Interval, _) => xor_interval(v, s, rows, out)?,
        _ => return Err(unexpected(v, scalar.sql_name())),
    }
    Ok(())
}

/// Whether the hash of a type's values takes one seed and no more, so that it can go on from another column's.
pub(super) const fn can_be_linked(ty: ColumnType) -> bool {
    use ScalarType::{Date, Int16, Int32, Int64, Numeric, Text};
    matches!(ty, ColumnType::Scalar(Int16 | Int32 | Int64 | Numeric { .. } | Text | Date))
}

/// Goes on from each hash in `chain` with the hash of its row's value, as [`super::hash_sql`] does. `null` is what
/// stands for null.
pub(super) fn link(
    scalar: ScalarType,
    values: &ArrayRef,
    null: &NullLink,
    rows: &[u32],
    chain: &mut [u64],
) -> Result<()> {
    seeded(scalar, values, &How::Link(null), rows, chain)
}

/// What stands for null in a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NullLink {
    /// An `integer`.
    Int4(i32),
    /// A `bigint`.
    Int8(i64),
    /// Text.
    Text(String),
}

impl NullLink {
    fn hash(&self, seed: u64) -> u64 {
        match self {
            NullLink::Int4(value) => hash::int4(*value, seed),
            NullLink::Int8(value) => bigint(*value, seed),
            NullLink::Text(text) => hash::bytes(text.as_bytes(), seed),
        }
    }
}

/// What becomes of a value's hash.
enum How<'a> {
    /// Combined with the output by XOR, with these seeds.
    Xor(Seeds),
    /// It replaces the output, by which it is seeded.
    Link(&'a NullLink),
}

/// Hashes the values of one Arrow type with one seed each.
macro_rules! with_seed {
    ($values:ident, $type:ty, $how:ident, $rows:ident, $out:ident, $hash:expr) => {{
        let values = $values.as_primitive::<$type>();
        each_seeded($values, $how, $rows, $out, |row, seed| $hash(values.value(row), seed));
    }};
}

fn each_seeded(
    values: &ArrayRef,
    how: &How<'_>,
    rows: &[u32],
    out: &mut [u64],
    mut hash: impl FnMut(usize, u64) -> u64,
) {
    match how {
        How::Xor(seeds) => each(values, *seeds, rows, out, |row| hash(row, seeds.value)),
        How::Link(null) => match values.nulls().filter(|nulls| nulls.null_count() > 0) {
            None => rows.iter().zip(out).for_each(|(&row, out)| *out = hash(row as usize, *out)),
            Some(nulls) => rows.iter().zip(out).for_each(|(&row, out)| {
                *out = if nulls.is_null(row as usize) { null.hash(*out) } else { hash(row as usize, *out) };
            }),
        },
    }
}

fn seeded(scalar: ScalarType, v: &ArrayRef, how: &How<'_>, rows: &[u32], out: &mut [u64]) -> Result<()> {
    match (scalar, v.data_type()) {
        (ScalarType::Int16, DataType::Int8) => {
            with_seed!(v, Int8Type, how, rows, out, |x: i8, seed| hash::int4(x.into(), seed));
        }
        (ScalarType::Int16, DataType::Int16) => {
            with_seed!(v, Int16Type, how, rows, out, |x: i16, seed| hash::int4(x.into(), seed));
        }
        (ScalarType::Int16, DataType::UInt8) => {
            with_seed!(v, UInt8Type, how, rows, out, |x: u8, seed| hash::int4(x.into(), seed));
        }
        (ScalarType::Int32, DataType::Int32) => with_seed!(v, Int32Type, how, rows, out, hash::int4),
        (ScalarType::Int32, DataType::UInt16) => {
            with_seed!(v, UInt16Type, how, rows, out, |x: u16, seed| hash::int4(x.into(), seed));
        }
        (ScalarType::Int64, DataType::Int64) => with_seed!(v, Int64Type, how, rows, out, bigint),
        (ScalarType::Int64, DataType::UInt32) => {
            with_seed!(v, UInt32Type, how, rows, out, |x: u32, seed| bigint(x.into(), seed));
        }
        (ScalarType::Numeric { .. }, _) => numeric(v, how, rows, out)?,
        (ScalarType::Text, DataType::Utf8) => {
            let values = v.as_string::<i32>();
            each_seeded(v, how, rows, out, |row, seed| hash::bytes(values.value(row).as_bytes(), seed));
        }
        (ScalarType::Text, DataType::LargeUtf8) => {
            let values = v.as_string::<i64>();
            each_seeded(v, how, rows, out, |row, seed| hash::bytes(values.value(row).as_bytes(), seed));
        }
        (ScalarType::Text, DataType::Utf8View) => {
            let values = v.as_string_view();
            each_seeded(v, how, rows, out, |row, seed| hash::bytes(values.value(row).as_bytes(), seed));
        }
        (ScalarType::Date, DataType::Date32) => {
            with_seed!(v, Date32Type, how, rows, out, |x: i32, seed| date(x.into(), seed));
        }
        (ScalarType::Date, DataType::Date64) => {
            with_seed!(v, Date64Type, how, rows, out, |x: i64, seed| date(x.div_euclid(86_400_000), seed));
        }
        _ => return Err(unexpected(v, scalar.sql_name())),
    }
    Ok(())
}

fn numeric(v: &ArrayRef, how: &How<'_>, rows: &[u32], out: &mut [u64]) -> Result<()> {
    let mut text = Vec::new();
    let mut short = |negative: bool, magnitude: u128, scale: i8, seed: u64| {
        let mut digits = itoa::Buffer::new();
        // Dividing 128 bits takes several times as long.
        let digits = match u64::try_from(magnitude) {
            Ok(magnitude) => digits.format(magnitude),
            Err(_) => digits.format(magnitude),
        };
        text.clear();
        plain_notation(negative, digits.as_bytes(), scale, &mut text);
        hash::bytes(&text, seed)
    };
    match *v.data_type() {
        DataType::UInt64 => with_seed!(v, UInt64Type, how, rows, out, |x: u64, seed| short(false, x.into(), 0, seed)),
        DataType::Decimal32(_, scale) => {
            let mut hash = |x: i32, seed| short(x < 0, x.unsigned_abs().into(), scale, seed);
            with_seed!(v, Decimal32Type, how, rows, out, hash);
        }
        DataType::Decimal64(_, scale) => {
            let mut hash = |x: i64, seed| short(x < 0, x.unsigned_abs().into(), scale, seed);
            with_seed!(v, Decimal64Type, how, rows, out, hash);
        }
        DataType::Decimal128(_, scale) => {
            let mut hash = |x: i128, seed| short(x < 0, x.unsigned_abs(), scale, seed);
            with_seed!(v, Decimal128Type, how, rows, out, hash);
        }
        DataType::Decimal256(_, scale) => {
            let hash = |x: arrow_buffer::i256, seed| {
                let digits = x.to_string();
                let mut text = Vec::new();
                plain_notation(x.is_negative(), digits.trim_start_matches('-').as_bytes(), scale, &mut text);
                hash::bytes(&text, seed)
            };
            with_seed!(v, Decimal256Type, how, rows, out, hash);
        }
        _ => return Err(unexpected(v, "numeric")),
    }
    Ok(())
}

/// The text that Postgres gives for a numeric: `-0.05`, or `1200` for 12 with the scale -2.
fn plain_notation(negative: bool, digits: &[u8], scale: i8, out: &mut Vec<u8>) {
    if negative {
        out.push(b'-');
    }
    let fraction = usize::try_from(scale).unwrap_or(0);
    if digits.len() > fraction {
        out.extend_from_slice(&digits[..digits.len() - fraction]);
        if scale < 0 && digits != b"0" {
            out.resize(out.len() + usize::from(scale.unsigned_abs()), b'0');
        }
    } else {
        out.push(b'0');
    }
    if fraction > 0 {
        out.push(b'.');
        out.resize(out.len() + fraction.saturating_sub(digits.len()), b'0');
        out.extend_from_slice(&digits[digits.len().saturating_sub(fraction)..]);
    }
}

fn xor_time(v: &ArrayRef, s: Seeds, rows: &[u32], out: &mut [u64]) -> Result<()> {
    let time = |micros: i64| hash::int8(micros, s.value) ^ hash::int8(LATE_TIME_MICROS - micros, s.other);
    match v.data_type() {
        DataType::Time32(TimeUnit::Second) => {
            primitive!(v, Time32SecondType, s, rows, out, |x: i32| time(i64::from(x) * 1_000_000));
        }
        DataType::Time32(TimeUnit::Millisecond) => {
            primitive!(v, Time32MillisecondType, s, rows, out, |x: i32| time(i64::from(x) * 1_000));
        }
        DataType::Time64(TimeUnit::Microsecond) => primitive!(v, Time64MicrosecondType, s, rows, out, time),
        DataType::Time64(TimeUnit::Nanosecond) => {
            primitive!(v, Time64NanosecondType, s, rows, out, |x: i64| time(x / 1_000));
        }
        _ => return Err(unexpected(v, "time")),
    }
    Ok(())
}

fn xor_interval(v: &ArrayRef, s: Seeds, rows: &[u32], out: &mut [u64]) -> Result<()> {
    match v.data_type() {
        DataType::Interval(IntervalUnit::YearMonth) => {
            primitive!(v, IntervalYearMonthType, s, rows, out, |months| interval(months, 0, 0, s));
        }
        DataType::Interval(IntervalUnit::DayTime) => {
            let hash = |x: <IntervalDayTimeType as ArrowPrimitiveType>::Native| {
                interval(0, x.days, i64::from(x.milliseconds) * 1_000, s)
            };
            primitive!(v, IntervalDayTimeType, s, rows, out, hash);
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let hash = |x: <IntervalMonthDayNanoType as ArrowPrimitiveType>::Native| {
                interval(x.months, x.days, x.nanoseconds / 1_000, s)
            };
            primitive!(v, IntervalMonthDayNanoType, s, rows, out, hash);
        }
        DataType::Duration(TimeUnit::Second) => {
            primitive!(v, DurationSecondType, s, rows, out, |x: i64| interval(0, 0, x.wrapping_mul(1_000_000), s));
        }
        DataType::Duration(TimeUnit::Millisecond) => {
            primitive!(v, DurationMillisecondType, s, rows, out, |x: i64| interval(0, 0, x.wrapping_mul(1_000), s));
        }
        DataType::Duration(TimeUnit::Microsecond) => {
            primitive!(v, DurationMicrosecondType, s, rows, out, |x| interval(0, 0, x, s));
        }
        DataType::Duration(TimeUnit::Nanosecond) => {
            primitive!(v, DurationNanosecondType, s, rows, out, |x: i64| interval(0, 0, x / 1_000, s));
        }
        _ => return Err(unexpected(v, "interval")),
    }
    Ok(())
}

fn bigint(value: i64, seed: u64) -> u64 {
    hash::int8(value, seed) ^ value as u64
}

fn bytea(value: &[u8], seeds: Seeds) -> u64 {
    hash::array_of_one(hash::bytes(value, seeds.value))
}

fn float(value: f64, seeds: Seeds) -> u64 {
    if value != 0.0 {
        hash::float8(value, seeds.value)
    } else if value.is_sign_positive() {
        seeds.other
    } else {
        seeds.third
    }
}

fn date(days_since_1970: i64, seed: u64) -> u64 {
    hash::int4((days_since_1970 - DAYS_TO_2000) as i32, seed)
}

fn instant(count: i64, times: i64, divided_by: i64, seeds: Seeds) -> u64 {
    let micros = (count / divided_by).wrapping_mul(times).wrapping_sub(MICROS_TO_2000);
    hash::int8(micros, seeds.value) ^ hash::int8(LATE_INSTANT_MICROS.wrapping_sub(micros), seeds.other)
}

/// Months, days, whole minutes, and microseconds of the last minute: each is exact as a double.
fn interval(months: i32, days: i32, micros: i64, seeds: Seeds) -> u64 {
    const MINUTE: i64 = 60_000_000;
    hash::float8(f64::from(months), seeds.value)
        ^ hash::float8(f64::from(days), seeds.other)
        ^ hash::float8((micros / MINUTE) as f64, seeds.third)
        ^ hash::float8((micros % MINUTE) as f64, seeds.fourth)
}
