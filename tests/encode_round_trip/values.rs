//! Values from random bits, and Arrow arrays of them.

use std::sync::Arc;

use arrow_array::builder::{FixedSizeBinaryBuilder, MapBuilder, StringBuilder};
use arrow_array::types::*;
use arrow_array::*;
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, Fields};

use super::columns::Raw;

pub(super) fn primitive<T: ArrowPrimitiveType>(values: &[Option<Raw>], native: fn(Raw) -> T::Native) -> ArrayRef {
    Arc::new(values.iter().map(|value| value.map(native)).collect::<PrimitiveArray<T>>())
}

/// A primitive array of a type with parameters.
pub(super) fn typed<T: ArrowPrimitiveType>(
    values: &[Option<Raw>],
    ty: DataType,
    native: fn(Raw) -> T::Native,
) -> ArrayRef {
    let array: PrimitiveArray<T> = values.iter().map(|value| value.map(native)).collect();
    Arc::new(array.with_data_type(ty))
}

/// A number of at most this many digits, of either sign.
pub(super) fn bounded(raw: Raw, digits: u32) -> i128 {
    (raw as i128) % 10_i128.pow(digits)
}

pub(super) fn wide_digits(raw: Raw, digits: usize) -> String {
    let sign = if (raw as i128) < 0 { "-" } else { "" };
    let once = raw.to_string();
    let twice: String = once.chars().chain(once.chars()).take(digits).collect();
    let digits = twice.trim_start_matches('0');
    if digits.is_empty() { "0".to_owned() } else { format!("{sign}{digits}") }
}

pub(super) fn decimal_text(unscaled: &str, scale: i32) -> String {
    let (sign, digits) = unscaled.strip_prefix('-').map_or(("", unscaled), |digits| ("-", digits));
    if scale <= 0 {
        let zeros = if digits == "0" { 0 } else { scale.unsigned_abs() as usize };
        return format!("{sign}{digits}{}", "0".repeat(zeros));
    }
    let padded = format!("{digits:0>width$}", width = scale as usize + 1);
    let (integer, fraction) = padded.split_at(padded.len() - scale as usize);
    format!("{sign}{integer}.{fraction}")
}

/// Texts of 0 to 40 characters, among them some that need an escape somewhere.
pub(super) fn text(raw: Raw) -> String {
    const CHARACTERS: [char; 16] =
        ['a', 'b', 'Z', '0', ' ', '"', '\\', '\'', '\n', '\t', '\u{1}', '\u{7f}', 'ä', '€', '😀', ','];
    (0..raw % 41).map(|at| CHARACTERS[(raw.rotate_right(at as u32 * 4 + 7) & 15) as usize]).collect()
}

pub(super) fn binary(raw: Raw) -> Vec<u8> {
    let length = (raw % 17) as usize;
    raw.to_be_bytes()[..length].to_vec()
}

pub(super) fn fixed_size_binary(values: &[Option<Raw>], width: i32, bytes: fn(Raw) -> Vec<u8>) -> ArrayRef {
    let mut builder = FixedSizeBinaryBuilder::new(width);
    for value in values {
        match value {
            Some(raw) => builder.append_value(bytes(*raw)).unwrap(),
            None => builder.append_null(),
        }
    }
    Arc::new(builder.finish())
}

/// Days since 1970 within the range of Postgres, its ends included.
pub(super) fn days(raw: Raw) -> i32 {
    (raw as i32).clamp(-2_440_588, 2_145_042_905)
}

/// Microseconds since 1970 within the range of Postgres that Arrow can count.
pub(super) fn micros(raw: Raw) -> i64 {
    (raw as i64).max(-210_866_803_200_000_000)
}

/// Up to four items, some of them null.
pub(super) fn items(raw: Raw) -> Vec<Option<Raw>> {
    (0..raw % 5).map(|at| raw.rotate_right(at as u32 * 9)).map(|item| (item & 7 != 5).then_some(item)).collect()
}

/// The items of all values in one, with the lengths; items of nulls are left in to be ignored.
pub(super) fn flattened(values: &[Option<Raw>]) -> (Vec<Option<Raw>>, Vec<usize>, NullBuffer) {
    let lists: Vec<Vec<Option<Raw>>> = values.iter().map(|raw| items(raw.unwrap_or(3))).collect();
    let lengths = lists.iter().map(Vec::len).collect();
    (lists.concat(), lengths, values.iter().map(Option::is_some).collect::<Vec<_>>().into())
}

pub(super) fn list(values: &[Option<Raw>], items: fn(&[Option<Raw>]) -> ArrayRef) -> ArrayRef {
    let (raws, lengths, nulls) = flattened(values);
    let items = items(&raws);
    let field = Arc::new(Field::new_list_field(items.data_type().clone(), true));
    Arc::new(ListArray::new(field, OffsetBuffer::from_lengths(lengths), items, Some(nulls)))
}

/// Views of lists that lie in reverse order.
pub(super) fn list_view(values: &[Option<Raw>]) -> ArrayRef {
    let (raws, lengths, nulls) = flattened(values);
    let reversed: Vec<Option<Raw>> = raws.iter().rev().copied().collect();
    let mut offset = 0;
    let mut items: Vec<Option<f64>> = Vec::new();
    let mut offsets = vec![0; lengths.len()];
    for (index, length) in lengths.iter().enumerate().rev() {
        offsets[index] = items.len() as i32;
        let mut list: Vec<_> =
            reversed[offset..offset + length].iter().map(|raw| raw.map(|raw| f64::from(raw as i32))).collect();
        list.reverse();
        items.extend(list);
        offset += length;
    }
    let sizes: Vec<i32> = lengths.iter().map(|&length| length as i32).collect();
    let field = Arc::new(Field::new_list_field(DataType::Float64, true));
    let items = Arc::new(Float64Array::from(items));
    Arc::new(ListViewArray::new(field, ScalarBuffer::from(offsets), ScalarBuffer::from(sizes), items, Some(nulls)))
}

pub(super) fn fixed_size_list(values: &[Option<Raw>]) -> ArrayRef {
    let items: Int64Array = values.iter().flat_map(|raw| [raw.map(|raw| raw as i64), None]).collect();
    let nulls: NullBuffer = values.iter().map(Option::is_some).collect::<Vec<_>>().into();
    let field = Arc::new(Field::new_list_field(DataType::Int64, true));
    Arc::new(FixedSizeListArray::new(field, 2, Arc::new(items), Some(nulls)))
}

pub(super) fn list_of_lists(values: &[Option<Raw>]) -> ArrayRef {
    let doubled: Vec<Option<Raw>> = values.iter().flat_map(|raw| [*raw, *raw]).collect();
    let inner = list(&doubled, |raws| primitive::<Int64Type>(raws, |raw| raw as i64));
    let nulls: NullBuffer = values.iter().map(Option::is_some).collect::<Vec<_>>().into();
    let field = Arc::new(Field::new_list_field(inner.data_type().clone(), true));
    Arc::new(LargeListArray::new(field, OffsetBuffer::from_lengths(vec![2; values.len()]), inner, Some(nulls)))
}

pub(super) fn map(values: &[Option<Raw>]) -> ArrayRef {
    let mut builder = MapBuilder::new(None, StringBuilder::new(), PrimitiveArray::<UInt64Type>::builder(0));
    for value in values {
        if let Some(raw) = value {
            builder.keys().append_value(text(*raw));
            builder.values().append_value(*raw as u64);
            builder.keys().append_value("n");
            builder.values().append_null();
        }
        builder.append(value.is_some()).unwrap();
    }
    Arc::new(builder.finish())
}

pub(super) fn structure(values: &[Option<Raw>]) -> ArrayRef {
    let names: StringViewArray = values.iter().map(|raw| raw.map(text)).collect();
    let members: Vec<(&str, ArrayRef)> = vec![
        ("name", Arc::new(names)),
        ("price", typed::<Decimal128Type>(values, DataType::Decimal128(38, 5), |raw| bounded(raw, 38))),
        ("float", primitive::<Float64Type>(values, |raw| f64::from_bits(raw as u64))),
        ("ok", Arc::new(values.iter().map(|raw| raw.map(|raw| raw & 1 == 1)).collect::<BooleanArray>())),
    ];
    let fields: Fields =
        members.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let nulls: NullBuffer = values.iter().map(Option::is_some).collect::<Vec<_>>().into();
    Arc::new(StructArray::new(fields, members.into_iter().map(|(_, array)| array).collect(), Some(nulls)))
}

/// JSON text in no canonical form.
pub(super) fn json_text(raw: Raw) -> String {
    let text = serde_json::Value::from(text(raw));
    let exponent = (raw >> 7) % 30;
    match raw % 6 {
        0 => format!(" [ {text} ,{{ }}, [ ] ,-0.00, {}E-{exponent}]", raw as i64),
        1 => format!("{{\"zz\":{text},\"a\" :{}.50e+{exponent},\"\":null}}", raw as i32),
        2 => "null".to_owned(),
        3 => format!("\"\\u00e4\\ud83d\\ude00\\/{}\"", raw as u16),
        4 => format!("{}", raw as u64),
        _ => format!("{{\"b\":[true,false,{{\"deep\":{text}}}],\"aa\":1e-{exponent}}}"),
    }
}
