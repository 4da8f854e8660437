//! The choice of a column's writer, by its type in Postgres and its type in Arrow.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Date64Type, DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType,
    DurationSecondType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    IntervalDayTimeType, IntervalMonthDayNanoType, IntervalYearMonthType, Time32MillisecondType, Time32SecondType,
    Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, Field, IntervalUnit, TimeUnit};

use super::array::{Arrays, ItemRanges};
use super::field::{Booleans, FieldWriter, Fixed, Staged, Verbatim};
use super::json::Jsonb;
use super::numeric::{Numerics, Numerics32, Numerics64, Numerics128, Numerics256};
use super::temporal;
use super::typed_array::unexpected;
use crate::domain::{ColumnType, Error, Result, ScalarType};

/// The items of lists, free of dictionaries and runs; writers of arrays borrow them.
pub(super) type Items = Option<(ArrayRef, ItemRanges)>;

/// Fixed-width values of one Arrow type, by an encoding that may refuse a value.
macro_rules! fixed {
    ($array:expr, $type:ty, $encode:expr) => {{
        let values = $array.as_primitive::<$type>();
        Box::new(Fixed::new(values.values(), values.nulls(), $encode))
    }};
}

/// The writer for a column.
pub(super) fn of<'a>(
    ty: ColumnType,
    field: &Field,
    array: &'a ArrayRef,
    items: &'a Items,
) -> Result<Box<dyn FieldWriter + 'a>> {
    match (ty, items) {
        (ColumnType::Scalar(scalar), _) => of_scalar(scalar, array),
        (ColumnType::Array(scalar), Some((items, ranges))) => {
            let writer = of_scalar(scalar, items)?;
            let arrays = Arrays::new(array, ranges.clone(), writer, items.nulls(), scalar.oid());
            Ok(Box::new(Staged::new(arrays)))
        }
        (ColumnType::Array(_), None) => Err(Error::internal("the items of a list were not taken out")),
        (ColumnType::Jsonb, _) => Ok(Box::new(Staged::new(Jsonb::new(array, field)?))),
    }
}

fn of_scalar(scalar: ScalarType, array: &ArrayRef) -> Result<Box<dyn FieldWriter + '_>> {
    let wanted = scalar.sql_name();
    Ok(match scalar {
        ScalarType::Boolean => match array.data_type() {
            DataType::Boolean => Box::new(Booleans(array.as_boolean())),
            _ => return Err(unexpected(array, wanted)),
        },
        ScalarType::Int16 => match array.data_type() {
            DataType::Int8 => fixed!(array, Int8Type, |v: i8| Ok(i16::from(v).to_be_bytes())),
            DataType::Int16 => fixed!(array, Int16Type, |v: i16| Ok(v.to_be_bytes())),
            DataType::UInt8 => fixed!(array, UInt8Type, |v: u8| Ok(i16::from(v).to_be_bytes())),
            _ => return Err(unexpected(array, wanted)),
        },
        ScalarType::Int32 => match array.data_type() {
            DataType::Int32 => fixed!(array, Int32Type, |v: i32| Ok(v.to_be_bytes())),
            DataType::UInt16 => fixed!(array, UInt16Type, |v: u16| Ok(i32::from(v).to_be_bytes())),
            _ => return Err(unexpected(array, wanted)),
        },
        ScalarType::Int64 => match array.data_type() {
            DataType::Int64 => fixed!(array, Int64Type, |v: i64| Ok(v.to_be_bytes())),
            DataType::UInt32 => fixed!(array, UInt32Type, |v: u32| Ok(i64::from(v).to_be_bytes())),
            _ => return Err(unexpected(array, wanted)),
        },
        ScalarType::Float32 => match array.data_type() {
            DataType::Float16 => fixed!(array, Float16Type, |v| Ok(f32::from(v).to_be_bytes())),
            DataType::Float32 => fixed!(array, Float32Type, |v: f32| Ok(v.to_be_bytes())),
            _ => return Err(unexpected(array, wanted)),
        },
        ScalarType::Float64 => match array.data_type() {
            DataType::Float64 => fixed!(array, Float64Type, |v: f64| Ok(v.to_be_bytes())),
            _ => return Err(unexpected(array, wanted)),
        },
        ScalarType::Numeric { .. } => of_numeric(array)?,
        ScalarType::Text => match array.data_type() {
            DataType::Utf8 => Box::new(Verbatim::new(array.as_string::<i32>(), true)),
            DataType::LargeUtf8 => Box::new(Verbatim::new(array.as_string::<i64>(), true)),
            DataType::Utf8View => Box::new(Verbatim::new(array.as_string_view(), true)),
            _ => return Err(unexpected(array, wanted)),
        },
        ScalarType::Bytea => match array.data_type() {
            DataType::Binary => Box::new(Verbatim::new(array.as_binary::<i32>(), false)),
            DataType::LargeBinary => Box::new(Verbatim::new(array.as_binary::<i64>(), false)),
            DataType::BinaryView => Box::new(Verbatim::new(array.as_binary_view(), false)),
            DataType::FixedSizeBinary(_) => Box::new(Verbatim::new(array.as_fixed_size_binary(), false)),
            _ => return Err(unexpected(array, wanted)),
        },
        ScalarType::Uuid => match array.data_type() {
            DataType::FixedSizeBinary(16) => Box::new(Verbatim::new(array.as_fixed_size_binary(), false)),
            _ => return Err(unexpected(array, wanted)),
        },
        ScalarType::Date => match array.data_type() {
            DataType::Date32 => fixed!(array, Date32Type, temporal::date),
            DataType::Date64 => fixed!(array, Date64Type, temporal::date_of_millis),
            _ => return Err(unexpected(array, wanted)),
        },
        ScalarType::Time => of_time(array)?,
        ScalarType::Timestamp | ScalarType::Timestamptz => of_timestamp(array)?,
        ScalarType::Interval => of_interval(array)?,
    })
}

fn of_numeric(array: &ArrayRef) -> Result<Box<dyn FieldWriter + '_>> {
    Ok(match array.data_type() {
        DataType::UInt64 => Box::new(Staged::new(Numerics::whole(array.as_primitive()))),
        DataType::Decimal32(_, _) => Box::new(Staged::new(Numerics32::new(array.as_primitive()))),
        DataType::Decimal64(_, _) => Box::new(Staged::new(Numerics64::new(array.as_primitive()))),
        DataType::Decimal128(_, _) => Box::new(Staged::new(Numerics128::new(array.as_primitive()))),
        DataType::Decimal256(_, _) => Box::new(Staged::new(Numerics256::new(array.as_primitive()))),
        _ => return Err(unexpected(array, "numeric")),
    })
}

fn of_time(array: &ArrayRef) -> Result<Box<dyn FieldWriter + '_>> {
    use TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
    Ok(match array.data_type() {
        DataType::Time32(Second) => {
            fixed!(array, Time32SecondType, |v: i32| temporal::time(Second, i64::from(v)))
        }
        DataType::Time32(Millisecond) => {
            fixed!(array, Time32MillisecondType, |v: i32| temporal::time(Millisecond, i64::from(v)))
        }
        DataType::Time64(Microsecond) => fixed!(array, Time64MicrosecondType, |v| temporal::time(Microsecond, v)),
        DataType::Time64(Nanosecond) => fixed!(array, Time64NanosecondType, |v| temporal::time(Nanosecond, v)),
        _ => return Err(unexpected(array, "time")),
    })
}

fn of_timestamp(array: &ArrayRef) -> Result<Box<dyn FieldWriter + '_>> {
    use TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
    Ok(match array.data_type() {
        DataType::Timestamp(Second, _) => fixed!(array, TimestampSecondType, |v| temporal::timestamp(Second, v)),
        DataType::Timestamp(Millisecond, _) => {
            fixed!(array, TimestampMillisecondType, |v| temporal::timestamp(Millisecond, v))
        }
        DataType::Timestamp(Microsecond, _) => {
            fixed!(array, TimestampMicrosecondType, |v| temporal::timestamp(Microsecond, v))
        }
        DataType::Timestamp(Nanosecond, _) => {
            fixed!(array, TimestampNanosecondType, |v| temporal::timestamp(Nanosecond, v))
        }
        _ => return Err(unexpected(array, "timestamps")),
    })
}

fn of_interval(array: &ArrayRef) -> Result<Box<dyn FieldWriter + '_>> {
    use TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
    Ok(match array.data_type() {
        DataType::Interval(IntervalUnit::YearMonth) => {
            fixed!(array, IntervalYearMonthType, temporal::interval_of_months)
        }
        DataType::Interval(IntervalUnit::DayTime) => fixed!(array, IntervalDayTimeType, temporal::interval_of_days),
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            fixed!(array, IntervalMonthDayNanoType, temporal::interval_of_parts)
        }
        DataType::Duration(Second) => fixed!(array, DurationSecondType, |v| temporal::duration(Second, v)),
        DataType::Duration(Millisecond) => {
            fixed!(array, DurationMillisecondType, |v| temporal::duration(Millisecond, v))
        }
        DataType::Duration(Microsecond) => {
            fixed!(array, DurationMicrosecondType, |v| temporal::duration(Microsecond, v))
        }
        DataType::Duration(Nanosecond) => {
            fixed!(array, DurationNanosecondType, |v| temporal::duration(Nanosecond, v))
        }
        _ => return Err(unexpected(array, "intervals")),
    })
}
