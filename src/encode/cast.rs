//! Casts declared in `columns.types`: an explicit table of exact ones, each value checked.

use std::sync::Arc;

use arrow_array::builder::{FixedSizeBinaryBuilder, PrimitiveBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Decimal256Type, Float64Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use arrow_array::{Array, ArrayRef, BooleanArray};
use arrow_buffer::i256;
use arrow_schema::{DataType, Field};

use super::bad_row::{Fault, Faults};
use super::exact_decimal::{self, ExactDecimal};
use super::text_value;
use super::typed_array::{Bytes, Decimals, Instants};
use crate::domain::{Code, ColumnType, Error, Result, ScalarType};

/// What happens to a column's values before they are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conversion {
    /// Nothing: the encoder of the column's type takes them as they are.
    None,
    /// Variants become JSON text.
    Variant,
    /// A declared cast.
    Cast(Cast),
}

/// A cast between two types, possible for some values at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cast {
    from: ScalarType,
    to: ScalarType,
}

const INEXACT: Fault = Fault::new(Code::LossyCast, "the declared type cannot hold the value exactly");
const TOO_MANY_DIGITS: Fault = Fault::new(Code::OutOfRange, "the value has more digits than the declared type");
const OUT_OF_RANGE: Fault = Fault::new(Code::OutOfRange, "the declared type cannot hold a value of this size");
const NOT_UUID_SIZE: Fault = Fault::new(Code::LossyCast, "a UUID has 16 bytes");

/// A type as declared: `numeric` may leave its digits open.
enum Declared {
    Column(ColumnType),
    AnyNumeric,
}

/// The column type and the conversion for a declared type.
///
/// # Errors
/// [`Code::InvalidValue`] for a spelling that is no type, [`Code::UnsupportedCast`] where the table has no cast.
pub(super) fn plan(field: &Field, natural: ColumnType, spelling: &str) -> Result<(ColumnType, Conversion)> {
    let Some(declared) = parse_type(spelling) else {
        return Err(Error::new(Code::InvalidValue, format!("`{spelling}` is not a column type")).hint(
            "types are boolean, smallint, integer, bigint, real, double precision, numeric(p,s), text, bytea, \
                   date, time, timestamp, timestamptz, interval, uuid, jsonb",
        ));
    };
    let unsupported = || {
        let detail = format!("there is no exact cast from {} to {spelling}", field.data_type());
        Err(Error::new(Code::UnsupportedCast, detail)
            .hint(format!("leave the type out to store the column as {natural}, or cast it in the source")))
    };
    let to = match declared {
        Declared::Column(to) if to == natural => return Ok((natural, natural_conversion(field))),
        Declared::Column(ColumnType::Jsonb) => {
            return match natural {
                ColumnType::Scalar(ScalarType::Text) | ColumnType::Array(_) => {
                    Ok((ColumnType::Jsonb, Conversion::None))
                }
                _ => unsupported(),
            };
        }
        Declared::Column(to) => to.scalar(),
        Declared::AnyNumeric => match natural.scalar() {
            Some(ScalarType::Numeric { .. }) => return Ok((natural, Conversion::None)),
            Some(ScalarType::Int16 | ScalarType::Int32 | ScalarType::Int64) => {
                Some(ScalarType::Numeric { precision: 19, scale: 0 })
            }
            Some(ScalarType::Text) => {
                return Err(Error::new(Code::UnsupportedCast, "text becomes numeric only with a declared scale")
                    .hint("write numeric(p,s), for example numeric(18,2)"));
            }
            _ => return unsupported(),
        },
    };
    match (natural.scalar(), to) {
        (Some(from), Some(to)) if is_possible(from, to) => {
            Ok((ColumnType::Scalar(to), Conversion::Cast(Cast { from, to })))
        }
        _ => unsupported(),
    }
}

fn natural_conversion(field: &Field) -> Conversion {
    if super::column_type::is_variant(field) { Conversion::Variant } else { Conversion::None }
}

/// The table of casts.
fn is_possible(from: ScalarType, to: ScalarType) -> bool {
    use ScalarType as T;
    match from {
        T::Int16 | T::Int32 | T::Int64 => {
            matches!(to, T::Int16 | T::Int32 | T::Int64 | T::Float64 | T::Numeric { .. } | T::Text)
        }
        T::Numeric { .. } => matches!(to, T::Int16 | T::Int32 | T::Int64 | T::Numeric { .. } | T::Text),
        T::Float32 => matches!(to, T::Float64),
        T::Text => matches!(
            to,
            T::Boolean
                | T::Int16
                | T::Int32
                | T::Int64
                | T::Numeric { .. }
                | T::Date
                | T::Timestamp
                | T::Timestamptz
                | T::Uuid
        ),
        T::Bytea => matches!(to, T::Uuid),
        T::Uuid => matches!(to, T::Text),
        T::Date => matches!(to, T::Timestamp | T::Text),
        T::Timestamp => matches!(to, T::Timestamptz | T::Date),
        T::Timestamptz => matches!(to, T::Timestamp),
        T::Boolean | T::Float64 | T::Time | T::Interval => false,
    }
}

/// Reads `bigint`, `numeric(18,2)`, `jsonb` and so on, as [`ColumnType`] is shown.
fn parse_type(spelling: &str) -> Option<Declared> {
    if spelling.trim().eq_ignore_ascii_case("numeric") {
        return Some(Declared::AnyNumeric);
    }
    ColumnType::named(spelling).map(Declared::Column)
}

impl Cast {
    /// Converts all values; those that cannot be converted exactly become null and are marked.
    pub(super) fn apply(self, array: &ArrayRef, faults: &mut Faults) -> Result<ArrayRef> {
        let array = array.as_ref();
        match self.from {
            ScalarType::Text | ScalarType::Bytea => {
                let bytes = Bytes::of(array)?;
                match self.to {
                    ScalarType::Uuid if self.from == ScalarType::Bytea => {
                        uuids(array, faults, |row| bytes.value(row).try_into().map_err(|_| NOT_UUID_SIZE))
                    }
                    to => self.parse(array, &bytes, to, faults),
                }
            }
            ScalarType::Uuid => {
                let bytes = Bytes::of(array)?;
                strings(array, faults, |row, out| {
                    let id: [u8; 16] = bytes.value(row).try_into().map_err(|_| NOT_UUID_SIZE)?;
                    out.push_str(uuid::Uuid::from_bytes(id).hyphenated().encode_lower(&mut [0; 36]));
                    Ok(())
                })
            }
            ScalarType::Float32 => arrow_cast::cast(array, &DataType::Float64)
                .map_err(|error| Error::internal("float does not widen").because(error)),
            ScalarType::Date | ScalarType::Timestamp | ScalarType::Timestamptz => self.move_instants(array, faults),
            _ => self.scale_numbers(array, faults),
        }
    }

    fn scale_numbers(self, array: &dyn Array, faults: &mut Faults) -> Result<ArrayRef> {
        let decimals = Decimals::of(array)?;
        let value = |row: usize| ExactDecimal { unscaled: decimals.value(row), scale: decimals.scale() };
        let whole = |row: usize| -> Result<i64, Fault> {
            value(row).rescale(0).ok_or(INEXACT)?.to_i128().and_then(|v| v.try_into().ok()).ok_or(OUT_OF_RANGE)
        };
        match self.to {
            ScalarType::Int16 => {
                primitives::<Int16Type>(array, faults, |row| whole(row)?.try_into().map_err(|_| OUT_OF_RANGE))
            }
            ScalarType::Int32 => {
                primitives::<Int32Type>(array, faults, |row| whole(row)?.try_into().map_err(|_| OUT_OF_RANGE))
            }
            ScalarType::Int64 => primitives::<Int64Type>(array, faults, whole),
            ScalarType::Float64 => primitives::<Float64Type>(array, faults, |row| {
                let whole = whole(row)?;
                let float = whole as f64;
                if float as i128 == i128::from(whole) { Ok(float) } else { Err(INEXACT) }
            }),
            ScalarType::Numeric { precision, scale } => numerics(array, faults, precision, scale, value),
            _ => strings(array, faults, |row, out| {
                let ExactDecimal { unscaled, scale } = value(row);
                exact_decimal::write_plain(unscaled, scale, out);
                Ok(())
            }),
        }
    }

    fn move_instants(self, array: &dyn Array, faults: &mut Faults) -> Result<ArrayRef> {
        let instants = Instants::of(array)?;
        match self.to {
            ScalarType::Date => {
                const DAY: i64 = 86_400_000_000;
                primitives::<Date32Type>(array, faults, |row| {
                    let micros = instants.micros(row)?;
                    if micros % DAY != 0 {
                        return Err(INEXACT);
                    }
                    (micros / DAY).try_into().map_err(|_| OUT_OF_RANGE)
                })
            }
            ScalarType::Text => strings(array, faults, |row, out| {
                let days = instants.micros(row)?.div_euclid(86_400_000_000);
                text_value::write_date(days, out)
            }),
            to => timestamps(array, faults, to, |row| instants.micros(row)),
        }
    }

    fn parse(self, array: &dyn Array, bytes: &Bytes<'_>, to: ScalarType, faults: &mut Faults) -> Result<ArrayRef> {
        let text = |row: usize| std::str::from_utf8(bytes.value(row)).map_err(|_| text_value::INVALID);
        let whole = |row: usize| text_value::parse_integer(text(row)?);
        match to {
            ScalarType::Boolean => {
                let values: BooleanArray = (0..array.len())
                    .map(|row| convert(array, faults, row, |row| text_value::parse_boolean(text(row)?)))
                    .collect();
                Ok(Arc::new(values))
            }
            ScalarType::Int16 => {
                primitives::<Int16Type>(array, faults, |row| whole(row)?.try_into().map_err(|_| OUT_OF_RANGE))
            }
            ScalarType::Int32 => {
                primitives::<Int32Type>(array, faults, |row| whole(row)?.try_into().map_err(|_| OUT_OF_RANGE))
            }
            ScalarType::Int64 => primitives::<Int64Type>(array, faults, whole),
            ScalarType::Numeric { precision, scale } => {
                let parse = |row: usize| exact_decimal::parse(text(row)?);
                numerics_checked(array, faults, precision, scale, parse)
            }
            ScalarType::Date => primitives::<Date32Type>(array, faults, |row| text_value::parse_date(text(row)?)),
            ScalarType::Uuid => uuids(array, faults, |row| {
                uuid::Uuid::try_parse(text(row)?).map(uuid::Uuid::into_bytes).map_err(|_| text_value::INVALID)
            }),
            to => timestamps(array, faults, to, |row| {
                text_value::parse_timestamp(text(row)?, to == ScalarType::Timestamptz)
            }),
        }
    }
}

/// One value, or null with a mark where it cannot be converted.
fn convert<T>(
    array: &dyn Array,
    faults: &mut Faults,
    row: usize,
    value: impl Fn(usize) -> Result<T, Fault>,
) -> Option<T> {
    if array.is_null(row) {
        return None;
    }
    value(row).map_err(|fault| faults.mark(row, fault)).ok()
}

fn primitives<T: ArrowPrimitiveType>(
    array: &dyn Array,
    faults: &mut Faults,
    value: impl Fn(usize) -> Result<T::Native, Fault>,
) -> Result<ArrayRef> {
    let mut builder = PrimitiveBuilder::<T>::with_capacity(array.len());
    for row in 0..array.len() {
        builder.append_option(convert(array, faults, row, &value));
    }
    Ok(Arc::new(builder.finish()))
}

fn timestamps(
    array: &dyn Array,
    faults: &mut Faults,
    to: ScalarType,
    value: impl Fn(usize) -> Result<i64, Fault>,
) -> Result<ArrayRef> {
    let values = primitives::<TimestampMicrosecondType>(array, faults, value)?;
    if to != ScalarType::Timestamptz {
        return Ok(values);
    }
    Ok(Arc::new(values.as_primitive::<TimestampMicrosecondType>().clone().with_timezone("UTC")))
}

fn strings(
    array: &dyn Array,
    faults: &mut Faults,
    write: impl Fn(usize, &mut String) -> Result<(), Fault>,
) -> Result<ArrayRef> {
    let mut builder = StringBuilder::new();
    let mut text = String::new();
    for row in 0..array.len() {
        text.clear();
        let written = (!array.is_null(row)).then(|| write(row, &mut text));
        if let Some(Err(fault)) = written {
            faults.mark(row, fault);
        }
        builder.append_option(matches!(written, Some(Ok(()))).then_some(&text));
    }
    Ok(Arc::new(builder.finish()))
}

fn uuids(array: &dyn Array, faults: &mut Faults, value: impl Fn(usize) -> Result<[u8; 16], Fault>) -> Result<ArrayRef> {
    let mut builder = FixedSizeBinaryBuilder::with_capacity(array.len(), 16);
    for row in 0..array.len() {
        match convert(array, faults, row, &value) {
            Some(id) => builder
                .append_value(id)
                .map_err(|error| Error::internal("a UUID is not 16 bytes long").because(error))?,
            None => builder.append_null(),
        }
    }
    Ok(Arc::new(builder.finish()))
}

fn numerics(
    array: &dyn Array,
    faults: &mut Faults,
    precision: u8,
    scale: u8,
    value: impl Fn(usize) -> ExactDecimal,
) -> Result<ArrayRef> {
    numerics_checked(array, faults, precision, scale, |row| Ok(value(row)))
}

/// Decimals of the declared scale: 128 bits wide where that is enough.
fn numerics_checked(
    array: &dyn Array,
    faults: &mut Faults,
    precision: u8,
    scale: u8,
    value: impl Fn(usize) -> Result<ExactDecimal, Fault>,
) -> Result<ArrayRef> {
    let unscaled = |row: usize| -> Result<i256, Fault> {
        let unscaled = value(row)?.rescale(i32::from(scale)).ok_or(INEXACT)?;
        if exact_decimal::digits(unscaled) > u32::from(precision) { Err(TOO_MANY_DIGITS) } else { Ok(unscaled) }
    };
    let scale = scale as i8;
    let wrong = |error| Error::internal("a declared numeric type is not possible").because(error);
    if precision <= 38 {
        let values = primitives::<Decimal128Type>(array, faults, |row| unscaled(row)?.to_i128().ok_or(INEXACT))?;
        let values = values.as_primitive::<Decimal128Type>().clone();
        return Ok(Arc::new(values.with_precision_and_scale(precision, scale).map_err(wrong)?));
    }
    let values = primitives::<Decimal256Type>(array, faults, unscaled)?;
    let values = values.as_primitive::<Decimal256Type>().clone();
    Ok(Arc::new(values.with_precision_and_scale(precision, scale).map_err(wrong)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Date32Array, Decimal128Array, Int64Array, StringArray, TimestampMicrosecondArray};

    fn scalar(spelling: &str) -> ScalarType {
        match parse_type(spelling) {
            Some(Declared::Column(ColumnType::Scalar(scalar))) => scalar,
            _ => panic!("{spelling} is not a scalar"),
        }
    }

    /// The values as text, and the codes of the rows that could not be cast.
    fn cast(array: impl Array + 'static, to: &str) -> (Vec<String>, Vec<Code>) {
        let array: ArrayRef = Arc::new(array);
        let field = Field::new("c", array.data_type().clone(), true);
        let from = super::super::column_type::scalar_type(&field).unwrap();
        let to = scalar(to);
        assert!(is_possible(from, to), "{from:?} to {to:?}");
        let mut faults = Faults::default();
        let values = Cast { from, to }.apply(&array, &mut faults).unwrap();
        let shown = (0..values.len()).map(|row| super::super::bad_row::display(&values, row).unwrap_or_default());
        (shown.collect(), faults.take().into_iter().map(|cell| cell.fault.code).collect())
    }

    #[test]
    fn integers_narrow_only_where_they_fit() {
        let (values, faults) = cast(Int64Array::from(vec![Some(-32_768), Some(32_768), None]), "smallint");
        assert_eq!((values, faults), (vec!["-32768".into(), String::new(), String::new()], vec![Code::OutOfRange]));
    }

    #[test]
    fn integers_become_doubles_only_where_exact() {
        let (values, faults) = cast(Int64Array::from(vec![1 << 53, (1 << 53) + 1, i64::MAX]), "double precision");
        assert_eq!(values[0], "9007199254740992.0");
        assert_eq!(faults, [Code::LossyCast, Code::LossyCast]);
    }

    #[test]
    fn decimals_change_scale_only_where_exact() {
        let prices = Decimal128Array::from(vec![1250, 1255, -1250]).with_precision_and_scale(10, 2).unwrap();
        let (values, faults) = cast(prices.clone(), "numeric(4,1)");
        assert_eq!((values, faults), (vec!["12.5".into(), String::new(), "-12.5".into()], vec![Code::LossyCast]));
        assert_eq!(cast(prices.clone(), "numeric(2,1)").1, [Code::OutOfRange, Code::LossyCast, Code::OutOfRange]);
        assert_eq!(cast(prices.clone(), "bigint").1, [Code::LossyCast; 3]);
        assert_eq!(cast(prices, "text").0, ["12.50", "12.55", "-12.50"]);
    }

    #[test]
    fn text_is_read_strictly() {
        let (values, faults) = cast(StringArray::from(vec!["42", " 42", "4e1", "", "1.0"]), "bigint");
        assert_eq!(values, ["42", "", "", "", "1"]);
        assert_eq!(faults, [Code::InvalidText; 3]);
        let (values, faults) = cast(StringArray::from(vec!["1.50", "-0.5", "1.505", "123456"]), "numeric(5,2)");
        assert_eq!(values, ["1.50", "-0.50", "", ""]);
        assert_eq!(faults, [Code::LossyCast, Code::OutOfRange]);
        let (values, faults) = cast(StringArray::from(vec!["2024-02-29", "2023-02-29", "2024-2-29"]), "date");
        assert_eq!(values, ["2024-02-29", "", ""]);
        assert_eq!(faults, [Code::InvalidText, Code::InvalidText]);
        let (values, _) = cast(StringArray::from(vec!["true", "FALSE", "yes"]), "boolean");
        assert_eq!(values, ["true", "false", ""]);
        let id = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        let (values, faults) = cast(StringArray::from(vec![id, "67e5"]), "uuid");
        assert_eq!(values[0], id.replace('-', ""));
        assert_eq!(faults, [Code::InvalidText]);
    }

    #[test]
    fn timestamps_in_text_keep_their_instant_or_are_refused() {
        let texts = vec!["2024-02-29T12:00:00.5+02:00", "2024-02-29 12:00:00Z", "2024-02-29 12:00:00"];
        let (values, faults) = cast(StringArray::from(texts), "timestamptz");
        assert_eq!(values, ["2024-02-29T10:00:00.500Z", "2024-02-29T12:00:00Z", ""]);
        assert_eq!(faults, [Code::InvalidText]);
        let texts = vec!["2024-02-29 12:00", "2024-02-29 12:00:00.1234567", "2024-02-29 12:00:00Z"];
        let (values, faults) = cast(StringArray::from(texts), "timestamp");
        assert_eq!(values, ["2024-02-29T12:00:00", "", ""]);
        assert_eq!(faults, [Code::LossyCast, Code::InvalidText]);
    }

    #[test]
    fn dates_and_timestamps_turn_into_each_other_where_nothing_is_lost() {
        assert_eq!(cast(Date32Array::from(vec![19_782]), "timestamp").0, ["2024-02-29T00:00:00"]);
        assert_eq!(cast(Date32Array::from(vec![19_782]), "text").0, ["2024-02-29"]);
        let instants = TimestampMicrosecondArray::from(vec![86_400_000_000, 86_400_000_001]);
        assert_eq!(cast(instants, "date"), (vec!["1970-01-02".into(), String::new()], vec![Code::LossyCast]));
    }
}
