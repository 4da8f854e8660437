//! Rows as a stream of Arrow IPC, with the types that the published columns have: decimals with their precision and
//! scale, instants in microseconds, arrays as lists, UUIDs and JSON under their canonical extension names.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::ipc::writer::StreamWriter;
use arrow_array::builder::{
    ArrayBuilder, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Decimal256Builder,
    FixedSizeBinaryBuilder, Float32Builder, Float64Builder, Int16Builder, Int32Builder, Int64Builder,
    IntervalMonthDayNanoBuilder, StringBuilder, Time64MicrosecondBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::types::IntervalMonthDayNano;
use arrow_array::{ArrayRef, ListArray, RecordBatch, RecordBatchOptions};
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer, i256};
use arrow_schema::{DataType, Field, FieldRef, IntervalUnit, Schema, TimeUnit};

use super::json::array_elements;
use super::numeric;
use crate::domain::{Code, ColumnType, Error, Result, ScalarType};

/// Days and microseconds from 1970, where Arrow begins to count, to 2000, where Postgres does.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// The most digits of a decimal of 128 bits.
const DECIMAL128_DIGITS: u8 = 38;

const UTC: &str = "UTC";

/// Rows while they are collected.
pub(super) struct ArrowRows {
    fields: Vec<FieldRef>,
    columns: Vec<Values>,
    rows: usize,
}

/// The values of one column.
enum Values {
    Boolean(BooleanBuilder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal128(Decimal128Builder, Digits),
    Decimal256(Decimal256Builder, Digits),
    Text(StringBuilder),
    Json(StringBuilder),
    Bytes(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    Interval(IntervalMonthDayNanoBuilder),
    Uuid(FixedSizeBinaryBuilder),
    List(Box<List>),
}

/// How a decimal is spelled on its way.
struct Digits {
    precision: u8,
    scale: u8,
    scratch: Vec<u8>,
}

impl Digits {
    fn of(precision: u8, scale: u8) -> Self {
        Digits { precision, scale, scratch: Vec::new() }
    }

    fn spell(&mut self, raw: &[u8]) -> Option<&str> {
        numeric::write_scaled(&mut self.scratch, raw, self.precision, self.scale)
    }
}

struct List {
    item: FieldRef,
    values: Values,
    offsets: Vec<i32>,
    valid: Vec<bool>,
}

impl ArrowRows {
    pub(super) fn new<'a>(columns: impl Iterator<Item = &'a (String, ColumnType)>) -> Result<Self> {
        let (mut fields, mut values) = (Vec::new(), Vec::new());
        for (name, ty) in columns {
            let (field, column) = match *ty {
                ColumnType::Scalar(ty) => (scalar_field(name, ty), Values::scalar(ty)?),
                ColumnType::Array(ty) => {
                    let item: FieldRef = Arc::new(scalar_field("item", ty));
                    let list =
                        List { item: item.clone(), values: Values::scalar(ty)?, offsets: vec![0], valid: vec![] };
                    (Field::new(name, DataType::List(item), true), Values::List(Box::new(list)))
                }
                ColumnType::Jsonb => (
                    extension(Field::new(name, DataType::Utf8, true), "arrow.json"),
                    Values::Json(StringBuilder::new()),
                ),
            };
            fields.push(Arc::new(field));
            values.push(column);
        }
        Ok(ArrowRows { fields, columns: values, rows: 0 })
    }

    /// Adds a row: its binary values, `None` for null.
    ///
    /// # Errors
    /// [`Code::NotAcceptable`] for a value that Arrow's type does not hold, such as an infinite date.
    pub(super) fn push<'v>(&mut self, mut value: impl FnMut(usize) -> Option<&'v [u8]>) -> Result<()> {
        for (at, (column, field)) in self.columns.iter_mut().zip(&self.fields).enumerate() {
            column.push(value(at)).ok_or_else(|| {
                let detail = format!("a value of column `{}` cannot be told in Arrow", field.name());
                Error::new(Code::NotAcceptable, detail).hint("ask for JSON, or leave the column out with `columns`")
            })?;
        }
        self.rows += 1;
        Ok(())
    }

    /// The stream, of one batch.
    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        let broken = |error: arrow_schema::ArrowError| Error::internal("rows make no Arrow stream").because(error);
        let schema = Arc::new(Schema::new(self.fields));
        let columns = self.columns.iter_mut().map(Values::finish).collect::<Result<Vec<_>, _>>().map_err(broken)?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options).map_err(broken)?;
        let mut writer = StreamWriter::try_new(Vec::new(), &schema).map_err(broken)?;
        writer.write(&batch).map_err(broken)?;
        writer.into_inner().map_err(broken)
    }
}

fn scalar_field(name: &str, ty: ScalarType) -> Field {
    let arrow = match ty {
        ScalarType::Boolean => DataType::Boolean,
        ScalarType::Int16 => DataType::Int16,
        ScalarType::Int32 => DataType::Int32,
        ScalarType::Int64 => DataType::Int64,
        ScalarType::Float32 => DataType::Float32,
        ScalarType::Float64 => DataType::Float64,
        ScalarType::Numeric { precision, scale } if precision <= DECIMAL128_DIGITS => {
            DataType::Decimal128(precision, scale as i8)
        }
        ScalarType::Numeric { precision, scale } => DataType::Decimal256(precision, scale as i8),
        ScalarType::Text => DataType::Utf8,
        ScalarType::Bytea => DataType::Binary,
        ScalarType::Date => DataType::Date32,
        ScalarType::Time => DataType::Time64(TimeUnit::Microsecond),
        ScalarType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        ScalarType::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        ScalarType::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
        ScalarType::Uuid => DataType::FixedSizeBinary(16),
    };
    let field = Field::new(name, arrow, true);
    if ty == ScalarType::Uuid { extension(field, "arrow.uuid") } else { field }
}

fn extension(field: Field, name: &str) -> Field {
    field.with_metadata(HashMap::from([("ARROW:extension:name".to_owned(), name.to_owned())]))
}

impl Values {
    fn scalar(ty: ScalarType) -> Result<Self> {
        let broken = |error: arrow_schema::ArrowError| Error::internal("a decimal of no precision").because(error);
        Ok(match ty {
            ScalarType::Boolean => Values::Boolean(BooleanBuilder::new()),
            ScalarType::Int16 => Values::Int16(Int16Builder::new()),
            ScalarType::Int32 => Values::Int32(Int32Builder::new()),
            ScalarType::Int64 => Values::Int64(Int64Builder::new()),
            ScalarType::Float32 => Values::Float32(Float32Builder::new()),
            ScalarType::Float64 => Values::Float64(Float64Builder::new()),
            ScalarType::Numeric { precision, scale } if precision <= DECIMAL128_DIGITS => {
                let values = Decimal128Builder::new().with_precision_and_scale(precision, scale as i8);
                Values::Decimal128(values.map_err(broken)?, Digits::of(precision, scale))
            }
            ScalarType::Numeric { precision, scale } => {
                let values = Decimal256Builder::new().with_precision_and_scale(precision, scale as i8);
                Values::Decimal256(values.map_err(broken)?, Digits::of(precision, scale))
            }
            ScalarType::Text => Values::Text(StringBuilder::new()),
            ScalarType::Bytea => Values::Bytes(BinaryBuilder::new()),
            ScalarType::Date => Values::Date(Date32Builder::new()),
            ScalarType::Time => Values::Time(Time64MicrosecondBuilder::new()),
            ScalarType::Timestamp => Values::Timestamp(TimestampMicrosecondBuilder::new()),
            ScalarType::Timestamptz => Values::Timestamp(TimestampMicrosecondBuilder::new().with_timezone(UTC)),
            ScalarType::Interval => Values::Interval(IntervalMonthDayNanoBuilder::new()),
            ScalarType::Uuid => Values::Uuid(FixedSizeBinaryBuilder::new(16)),
        })
    }

    /// Adds a value; `None` when it is not of the type, or beyond it.
    fn push(&mut self, value: Option<&[u8]>) -> Option<()> {
        let Some(raw) = value else {
            self.push_null();
            return Some(());
        };
        match self {
            Values::Boolean(values) => values.append_value(*raw.first()? != 0),
            Values::Int16(values) => values.append_value(i16::from_be_bytes(raw.try_into().ok()?)),
            Values::Int32(values) => values.append_value(i32::from_be_bytes(raw.try_into().ok()?)),
            Values::Int64(values) => values.append_value(i64::from_be_bytes(raw.try_into().ok()?)),
            Values::Float32(values) => values.append_value(f32::from_be_bytes(raw.try_into().ok()?)),
            Values::Float64(values) => values.append_value(f64::from_be_bytes(raw.try_into().ok()?)),
            Values::Decimal128(values, digits) => values.append_value(digits.spell(raw)?.parse().ok()?),
            Values::Decimal256(values, digits) => values.append_value(i256::from_string(digits.spell(raw)?)?),
            Values::Text(values) => values.append_value(std::str::from_utf8(raw).ok()?),
            Values::Json(values) => {
                let (version, text) = raw.split_first()?;
                values.append_value(std::str::from_utf8(text).ok()?);
                return (*version == 1).then_some(());
            }
            Values::Bytes(values) => values.append_value(raw),
            Values::Date(values) => {
                let days = i32::from_be_bytes(raw.try_into().ok()?);
                let finite = days != i32::MAX && days != i32::MIN;
                values.append_value(days.checked_add(EPOCH_DAYS).filter(|_| finite)?);
            }
            Values::Time(values) => values.append_value(i64::from_be_bytes(raw.try_into().ok()?)),
            Values::Timestamp(values) => {
                let micros = i64::from_be_bytes(raw.try_into().ok()?);
                let finite = micros != i64::MAX && micros != i64::MIN;
                values.append_value(micros.checked_add(EPOCH_MICROS).filter(|_| finite)?);
            }
            Values::Interval(values) => {
                let (micros, rest) = raw.split_first_chunk::<8>()?;
                let (days, months) = rest.split_first_chunk::<4>()?;
                let nanos = i64::from_be_bytes(*micros).checked_mul(1000)?;
                let months = i32::from_be_bytes(months.try_into().ok()?);
                values.append_value(IntervalMonthDayNano::new(months, i32::from_be_bytes(*days), nanos));
            }
            Values::Uuid(values) => values.append_value(raw).ok()?,
            Values::List(list) => {
                for element in array_elements(raw)? {
                    list.values.push(element?)?;
                }
                list.offsets.push(i32::try_from(list.values.len()).ok()?);
                list.valid.push(true);
            }
        }
        Some(())
    }

    fn push_null(&mut self) {
        match self {
            Values::Boolean(values) => values.append_null(),
            Values::Int16(values) => values.append_null(),
            Values::Int32(values) => values.append_null(),
            Values::Int64(values) => values.append_null(),
            Values::Float32(values) => values.append_null(),
            Values::Float64(values) => values.append_null(),
            Values::Decimal128(values, _) => values.append_null(),
            Values::Decimal256(values, _) => values.append_null(),
            Values::Text(values) | Values::Json(values) => values.append_null(),
            Values::Bytes(values) => values.append_null(),
            Values::Date(values) => values.append_null(),
            Values::Time(values) => values.append_null(),
            Values::Timestamp(values) => values.append_null(),
            Values::Interval(values) => values.append_null(),
            Values::Uuid(values) => values.append_null(),
            Values::List(list) => {
                list.offsets.extend(list.offsets.last().copied());
                list.valid.push(false);
            }
        }
    }

    fn builder(&mut self) -> Option<&mut dyn ArrayBuilder> {
        Some(match self {
            Values::Boolean(values) => values,
            Values::Int16(values) => values,
            Values::Int32(values) => values,
            Values::Int64(values) => values,
            Values::Float32(values) => values,
            Values::Float64(values) => values,
            Values::Decimal128(values, _) => values,
            Values::Decimal256(values, _) => values,
            Values::Text(values) | Values::Json(values) => values,
            Values::Bytes(values) => values,
            Values::Date(values) => values,
            Values::Time(values) => values,
            Values::Timestamp(values) => values,
            Values::Interval(values) => values,
            Values::Uuid(values) => values,
            Values::List(_) => return None,
        })
    }

    fn len(&mut self) -> usize {
        self.builder().map_or(0, |values| values.len())
    }

    fn finish(&mut self) -> Result<ArrayRef, arrow_schema::ArrowError> {
        if let Values::List(list) = self {
            let offsets = OffsetBuffer::new(ScalarBuffer::from(std::mem::take(&mut list.offsets)));
            let valid = NullBuffer::from(std::mem::take(&mut list.valid));
            let values = list.values.finish()?;
            return Ok(Arc::new(ListArray::try_new(list.item.clone(), offsets, values, Some(valid))?));
        }
        let none = || arrow_schema::ArrowError::ComputeError("a column without values".to_owned());
        Ok(self.builder().ok_or_else(none)?.finish())
    }
}
