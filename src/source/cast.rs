//! Which differences between files are mere widths of the same values, and how such values are widened exactly.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampNanosecondType;
use arrow_array::{Array, ArrayRef};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType, Field, Fields, IntervalUnit, TimeUnit};

/// Nanoseconds in a microsecond.
const NANOS_PER_MICRO: i64 = 1_000;

/// Whether every value of `from` is exactly a value of `to`, up to overflow at the ends of time, which [`cast`] finds.
pub(super) fn widens(from: &DataType, to: &DataType) -> bool {
    use DataType as T;
    if from == to || *from == T::Null {
        return true;
    }
    match (from, to) {
        (T::Int8, T::Int16 | T::Int32 | T::Int64 | T::Float32 | T::Float64)
        | (T::Int16, T::Int32 | T::Int64 | T::Float32 | T::Float64)
        | (T::Int32, T::Int64 | T::Float64)
        | (T::UInt8, T::UInt16 | T::UInt32 | T::UInt64 | T::Int16 | T::Int32 | T::Int64 | T::Float32 | T::Float64)
        | (T::UInt16, T::UInt32 | T::UInt64 | T::Int32 | T::Int64 | T::Float32 | T::Float64)
        | (T::UInt32, T::UInt64 | T::Int64 | T::Float64)
        | (T::Float16, T::Float32 | T::Float64)
        | (T::Float32, T::Float64)
        | (T::Date32, T::Timestamp(_, None))
        | (T::Binary, T::Utf8)
        | (T::Int32, T::Interval(IntervalUnit::YearMonth))
        | (T::Int64, T::Duration(TimeUnit::Microsecond))
        | (T::Timestamp(_, _), T::Timestamp(_, _))
        | (T::Time32(_), T::Time32(_) | T::Time64(_)) => true,
        (T::Time64(from), T::Time64(to)) => from <= to,
        (_, T::Decimal128(_, _) | T::Decimal256(_, _)) => match (decimal_digits(from), decimal_digits(to)) {
            (Some((whole, scale)), Some((to_whole, to_scale))) => whole <= to_whole && scale <= to_scale,
            _ => false,
        },
        _ => false,
    }
}

/// The narrowest type that holds the values of both exactly.
pub(super) fn common_type(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType as T;
    match (a, b) {
        (T::Timestamp(a_unit, a_zone), T::Timestamp(b_unit, b_zone)) => {
            // The finer unit, but never nanoseconds, which do not reach far: those must be whole microseconds then.
            let finer = if a_unit == b_unit { *a_unit } else { (*a_unit).max(*b_unit).min(TimeUnit::Microsecond) };
            (a_zone == b_zone).then(|| T::Timestamp(finer, a_zone.clone()))
        }
        (T::Date32, T::Timestamp(..)) | (T::Timestamp(..), T::Date32) | (T::Binary, T::Utf8) | (T::Utf8, T::Binary) => {
            None
        }
        _ if widens(a, b) => Some(b.clone()),
        _ if widens(b, a) => Some(a.clone()),
        (T::Struct(a), T::Struct(b)) => Some(T::Struct(common_fields(a, b)?)),
        (T::List(a), T::List(b)) => Some(T::List(Arc::new(common_field(a, b)?))),
        (T::Map(a, sorted), T::Map(b, _)) => Some(T::Map(Arc::new(common_field(a, b)?), *sorted)),
        _ => common_number(a, b),
    }
}

fn common_number(a: &DataType, b: &DataType) -> Option<DataType> {
    let mixes_float = a.is_floating() != b.is_floating();
    if mixes_float {
        return (widens(a, &DataType::Float64) && widens(b, &DataType::Float64)).then_some(DataType::Float64);
    }
    if a.is_integer() && b.is_integer() {
        let signed = [DataType::Int16, DataType::Int32, DataType::Int64];
        if let Some(common) = signed.into_iter().find(|signed| widens(a, signed) && widens(b, signed)) {
            return Some(common);
        }
    }
    let ((a_whole, a_scale), (b_whole, b_scale)) = (decimal_digits(a)?, decimal_digits(b)?);
    let (whole, scale) = (a_whole.max(b_whole), a_scale.max(b_scale));
    let precision = u8::try_from(whole + scale).ok()?;
    let scale = i8::try_from(scale).ok()?;
    match precision {
        1..=38 => Some(DataType::Decimal128(precision, scale)),
        39..=76 => Some(DataType::Decimal256(precision, scale)),
        _ => None,
    }
}

/// The fields of both, those of `a` first, each nullable where either is or where the other lacks it.
fn common_fields(a: &Fields, b: &Fields) -> Option<Fields> {
    let mut fields = Vec::with_capacity(a.len());
    for field in a {
        fields.push(Arc::new(match b.find(field.name()) {
            Some((_, other)) => common_field(field, other)?,
            None => field.as_ref().clone().with_nullable(true),
        }));
    }
    let added = b.iter().filter(|field| a.find(field.name()).is_none());
    fields.extend(added.map(|field| Arc::new(field.as_ref().clone().with_nullable(true))));
    Some(fields.into())
}

fn common_field(a: &Field, b: &Field) -> Option<Field> {
    let data_type = common_type(a.data_type(), b.data_type())?;
    Some(a.clone().with_data_type(data_type).with_nullable(a.is_nullable() || b.is_nullable()))
}

/// Digits before and after the point that values of an integer or decimal type have at most.
fn decimal_digits(data_type: &DataType) -> Option<(i16, i16)> {
    Some(match data_type {
        DataType::Int8 | DataType::UInt8 => (3, 0),
        DataType::Int16 | DataType::UInt16 => (5, 0),
        DataType::Int32 | DataType::UInt32 => (10, 0),
        DataType::Int64 => (19, 0),
        DataType::UInt64 => (20, 0),
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            (i16::from(*precision) - i16::from(*scale), i16::from(*scale))
        }
        _ => return None,
    })
}

/// Widens values, exactly.
///
/// # Errors
/// What stands in the way: a value that the wider type cannot hold exactly.
pub(super) fn cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, String> {
    if let (DataType::Timestamp(TimeUnit::Nanosecond, _), DataType::Timestamp(TimeUnit::Microsecond, _)) =
        (array.data_type(), to)
    {
        let nanos = array.as_primitive::<TimestampNanosecondType>();
        if let Some(value) = nanos.iter().flatten().find(|value| value % NANOS_PER_MICRO != 0) {
            return Err(format!("{value} nanoseconds are not whole microseconds"));
        }
    }
    let exact = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(array, to, &exact).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use arrow_array::{Int64Array, TimestampMillisecondArray, TimestampNanosecondArray};

    use super::*;

    #[test]
    fn numbers_meet_in_the_narrowest_type_that_holds_both() {
        let cases = [
            (DataType::Int32, DataType::Int64, Some(DataType::Int64)),
            (DataType::Int32, DataType::UInt32, Some(DataType::Int64)),
            (DataType::Int64, DataType::UInt64, Some(DataType::Decimal128(20, 0))),
            (DataType::Int32, DataType::Float32, Some(DataType::Float64)),
            (DataType::Int64, DataType::Float64, None),
            (DataType::Decimal128(10, 2), DataType::Decimal128(9, 4), Some(DataType::Decimal128(12, 4))),
            (DataType::Decimal128(38, 0), DataType::Decimal128(38, 10), Some(DataType::Decimal256(48, 10))),
            (DataType::Utf8, DataType::Int32, None),
            (DataType::Null, DataType::Utf8, Some(DataType::Utf8)),
        ];
        for (a, b, expected) in cases {
            assert_eq!(common_type(&a, &b), expected, "{a} and {b}");
            assert_eq!(common_type(&b, &a), expected, "{b} and {a}");
        }
    }

    #[test]
    fn a_timestamp_that_would_lose_something_is_an_error() {
        let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
        let whole: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![Some(5_000), None]));
        assert_eq!(cast(&whole, &micros).unwrap().data_type(), &micros);
        let part: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![5_001]));
        assert!(cast(&part, &micros).is_err());
        let far: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![i64::MAX]));
        assert!(cast(&far, &micros).is_err());
    }

    #[test]
    fn a_value_beyond_the_precision_is_an_error() {
        let wide: ArrayRef = Arc::new(Int64Array::from(vec![1_000_000]));
        assert!(cast(&wide, &DataType::Decimal128(5, 0)).is_err());
    }
}
