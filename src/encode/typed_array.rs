//! Arrow arrays of one family of types, read alike whatever their width.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Int8Type, Int16Type,
    Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, PrimitiveArray};
use arrow_buffer::i256;
use arrow_schema::{DataType, TimeUnit};

use super::bad_row::Fault;
use super::temporal;
use crate::domain::{Error, Result};

/// Strings and binaries of every kind, as bytes.
pub(super) enum Bytes<'a> {
    Utf8(&'a arrow_array::StringArray),
    LargeUtf8(&'a arrow_array::LargeStringArray),
    Utf8View(&'a arrow_array::StringViewArray),
    Binary(&'a arrow_array::BinaryArray),
    LargeBinary(&'a arrow_array::LargeBinaryArray),
    BinaryView(&'a arrow_array::BinaryViewArray),
    FixedSizeBinary(&'a arrow_array::FixedSizeBinaryArray),
}

impl<'a> Bytes<'a> {
    pub(super) fn of(array: &'a dyn Array) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::Utf8 => Bytes::Utf8(array.as_string()),
            DataType::LargeUtf8 => Bytes::LargeUtf8(array.as_string()),
            DataType::Utf8View => Bytes::Utf8View(array.as_string_view()),
            DataType::Binary => Bytes::Binary(array.as_binary()),
            DataType::LargeBinary => Bytes::LargeBinary(array.as_binary()),
            DataType::BinaryView => Bytes::BinaryView(array.as_binary_view()),
            DataType::FixedSizeBinary(_) => Bytes::FixedSizeBinary(array.as_fixed_size_binary()),
            _ => return Err(unexpected(array, "strings or binaries")),
        })
    }

    pub(super) fn value(&self, row: usize) -> &'a [u8] {
        match self {
            Bytes::Utf8(array) => array.value(row).as_bytes(),
            Bytes::LargeUtf8(array) => array.value(row).as_bytes(),
            Bytes::Utf8View(array) => array.value(row).as_bytes(),
            Bytes::Binary(array) => array.value(row),
            Bytes::LargeBinary(array) => array.value(row),
            Bytes::BinaryView(array) => array.value(row),
            Bytes::FixedSizeBinary(array) => array.value(row),
        }
    }
}

/// Integers and decimals of every kind, as an unscaled number and a scale.
pub(super) enum Decimals<'a> {
    Int8(&'a PrimitiveArray<Int8Type>),
    Int16(&'a PrimitiveArray<Int16Type>),
    Int32(&'a PrimitiveArray<Int32Type>),
    Int64(&'a PrimitiveArray<Int64Type>),
    UInt8(&'a PrimitiveArray<UInt8Type>),
    UInt16(&'a PrimitiveArray<UInt16Type>),
    UInt32(&'a PrimitiveArray<UInt32Type>),
    UInt64(&'a PrimitiveArray<UInt64Type>),
    Decimal32(&'a PrimitiveArray<Decimal32Type>),
    Decimal64(&'a PrimitiveArray<Decimal64Type>),
    Decimal128(&'a PrimitiveArray<Decimal128Type>),
    Decimal256(&'a PrimitiveArray<Decimal256Type>),
}

impl<'a> Decimals<'a> {
    pub(super) fn of(array: &'a dyn Array) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::Int8 => Decimals::Int8(array.as_primitive()),
            DataType::Int16 => Decimals::Int16(array.as_primitive()),
            DataType::Int32 => Decimals::Int32(array.as_primitive()),
            DataType::Int64 => Decimals::Int64(array.as_primitive()),
            DataType::UInt8 => Decimals::UInt8(array.as_primitive()),
            DataType::UInt16 => Decimals::UInt16(array.as_primitive()),
            DataType::UInt32 => Decimals::UInt32(array.as_primitive()),
            DataType::UInt64 => Decimals::UInt64(array.as_primitive()),
            DataType::Decimal32(_, _) => Decimals::Decimal32(array.as_primitive()),
            DataType::Decimal64(_, _) => Decimals::Decimal64(array.as_primitive()),
            DataType::Decimal128(_, _) => Decimals::Decimal128(array.as_primitive()),
            DataType::Decimal256(_, _) => Decimals::Decimal256(array.as_primitive()),
            _ => return Err(unexpected(array, "integers or decimals")),
        })
    }

    pub(super) fn scale(&self) -> i32 {
        match self {
            Decimals::Decimal32(array) => i32::from(array.scale()),
            Decimals::Decimal64(array) => i32::from(array.scale()),
            Decimals::Decimal128(array) => i32::from(array.scale()),
            Decimals::Decimal256(array) => i32::from(array.scale()),
            _ => 0,
        }
    }

    pub(super) fn value(&self, row: usize) -> i256 {
        i256::from_i128(match self {
            Decimals::Int8(array) => i128::from(array.value(row)),
            Decimals::Int16(array) => i128::from(array.value(row)),
            Decimals::Int32(array) => i128::from(array.value(row)),
            Decimals::Int64(array) => i128::from(array.value(row)),
            Decimals::UInt8(array) => i128::from(array.value(row)),
            Decimals::UInt16(array) => i128::from(array.value(row)),
            Decimals::UInt32(array) => i128::from(array.value(row)),
            Decimals::UInt64(array) => i128::from(array.value(row)),
            Decimals::Decimal32(array) => i128::from(array.value(row)),
            Decimals::Decimal64(array) => i128::from(array.value(row)),
            Decimals::Decimal128(array) => array.value(row),
            Decimals::Decimal256(array) => return array.value(row),
        })
    }
}

/// Dates and timestamps of every kind, as microseconds since 1970.
pub(super) enum Instants<'a> {
    Date32(&'a PrimitiveArray<Date32Type>),
    Date64(&'a PrimitiveArray<Date64Type>),
    Second(&'a PrimitiveArray<TimestampSecondType>),
    Millisecond(&'a PrimitiveArray<TimestampMillisecondType>),
    Microsecond(&'a PrimitiveArray<TimestampMicrosecondType>),
    Nanosecond(&'a PrimitiveArray<TimestampNanosecondType>),
}

impl<'a> Instants<'a> {
    pub(super) fn of(array: &'a dyn Array) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::Date32 => Instants::Date32(array.as_primitive()),
            DataType::Date64 => Instants::Date64(array.as_primitive()),
            DataType::Timestamp(TimeUnit::Second, _) => Instants::Second(array.as_primitive()),
            DataType::Timestamp(TimeUnit::Millisecond, _) => Instants::Millisecond(array.as_primitive()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => Instants::Microsecond(array.as_primitive()),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => Instants::Nanosecond(array.as_primitive()),
            _ => return Err(unexpected(array, "dates or timestamps")),
        })
    }

    pub(super) fn micros(&self, row: usize) -> Result<i64, Fault> {
        match self {
            Instants::Date32(array) => temporal::micros(TimeUnit::Second, i64::from(array.value(row)) * 86_400),
            Instants::Date64(array) => temporal::micros(TimeUnit::Millisecond, array.value(row)),
            Instants::Second(array) => temporal::micros(TimeUnit::Second, array.value(row)),
            Instants::Millisecond(array) => temporal::micros(TimeUnit::Millisecond, array.value(row)),
            Instants::Microsecond(array) => Ok(array.value(row)),
            Instants::Nanosecond(array) => temporal::micros(TimeUnit::Nanosecond, array.value(row)),
        }
    }
}

/// An array of a type that the mapping did not plan for.
pub(super) fn unexpected(array: &dyn Array, wanted: &str) -> Error {
    Error::internal(format!("a batch holds {} where {wanted} were planned", array.data_type()))
}
