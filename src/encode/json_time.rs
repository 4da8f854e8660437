//! Dates, times and intervals within JSON: RFC 3339 and ISO 8601, with as many digits of the second as are needed.

use arrow_array::ArrayRef;
use arrow_array::types::Int64Type;
use arrow_schema::{DataType, TimeUnit};

use super::bad_row::Fault;
use super::text_value;
use crate::domain::{Code, Error, Result};

const SECOND: i128 = 1_000_000_000;
const DAY: i128 = 86_400 * SECOND;
const TIME_RANGE: Fault = Fault::new(Code::OutOfRange, "the time of day is not between 00:00 and 24:00");

/// The bare counts of an array of times, timestamps or durations.
pub(super) fn counts(array: &ArrayRef) -> Result<arrow_array::PrimitiveArray<Int64Type>> {
    use arrow_array::cast::AsArray;
    let wrong = |error| Error::internal(format!("cannot read the counts of {}", array.data_type())).because(error);
    let narrow = matches!(array.data_type(), DataType::Time32(_));
    let numbers = if narrow { arrow_cast::cast(array, &DataType::Int32).map_err(wrong)? } else { array.clone() };
    let numbers = arrow_cast::cast(&numbers, &DataType::Int64).map_err(wrong)?;
    Ok(numbers.as_primitive::<Int64Type>().clone())
}

/// A count of some unit in nanoseconds.
pub(super) fn nanos(unit: TimeUnit, count: i64) -> i128 {
    let count = i128::from(count);
    match unit {
        TimeUnit::Second => count * SECOND,
        TimeUnit::Millisecond => count * 1_000_000,
        TimeUnit::Microsecond => count * 1_000,
        TimeUnit::Nanosecond => count,
    }
}

/// `"2024-02-29"`, from microseconds since 1970.
pub(super) fn date(micros: i64, out: &mut Vec<u8>) -> Result<(), Fault> {
    const DAY_MICROS: i64 = 86_400_000_000;
    if micros % DAY_MICROS != 0 {
        return Err(Fault::new(Code::LossyCast, "the date has a time of day"));
    }
    let mut text = String::from("\"");
    text_value::write_date(micros / DAY_MICROS, &mut text)?;
    text.push('"');
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// `"2024-02-29T12:00:00.5Z"`, without the `Z` where there is no zone.
pub(super) fn timestamp(unit: TimeUnit, count: i64, zoned: bool, out: &mut Vec<u8>) -> Result<(), Fault> {
    let nanos = nanos(unit, count);
    let mut text = String::from("\"");
    let days = i64::try_from(nanos.div_euclid(DAY)).unwrap_or(i64::MAX);
    text_value::write_date(days, &mut text)?;
    text.push('T');
    write_time(nanos.rem_euclid(DAY), &mut text);
    text.push_str(if zoned { "Z\"" } else { "\"" });
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// `"12:00:00.5"`.
pub(super) fn time(unit: TimeUnit, count: i64, out: &mut Vec<u8>) -> Result<(), Fault> {
    let nanos = nanos(unit, count);
    if !(0..=DAY).contains(&nanos) {
        return Err(TIME_RANGE);
    }
    let mut text = String::from("\"");
    write_time(nanos, &mut text);
    text.push('"');
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// `"P14M3DT3600.5S"`: months, days and seconds, each with a sign of its own; `"PT0S"` for nothing.
pub(super) fn interval(months: i32, days: i32, nanos: i128, out: &mut Vec<u8>) -> Result<(), Fault> {
    let mut text = String::from("\"P");
    if months != 0 {
        text.push_str(&format!("{months}M"));
    }
    if days != 0 {
        text.push_str(&format!("{days}D"));
    }
    if nanos != 0 || (months == 0 && days == 0) {
        let sign = if nanos < 0 { "-" } else { "" };
        let (seconds, fraction) = (nanos.abs() / SECOND, nanos.abs() % SECOND);
        text.push_str(&format!("T{sign}{seconds}"));
        write_fraction(fraction, &mut text);
        text.push('S');
    }
    text.push('"');
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn write_time(nanos: i128, out: &mut String) {
    let seconds = nanos / SECOND;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    out.push_str(&format!("{hours:02}:{minutes:02}:{:02}", seconds % 60));
    write_fraction(nanos % SECOND, out);
}

fn write_fraction(nanos: i128, out: &mut String) {
    if nanos != 0 {
        let digits = format!(".{nanos:09}");
        out.push_str(digits.trim_end_matches('0'));
    }
}
