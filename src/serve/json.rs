//! Rows as JSON, written straight from Postgres' binary values.
//!
//! Numbers keep all their digits, `numeric` its scale; NaN and infinities are strings; timestamps are RFC 3339 with the
//! fraction as needed; `bytea` is base64; `jsonb` is passed on as Postgres prints it. Years beyond 9999 and before 0
//! bear a sign, as the calendar module says.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use uuid::Uuid;

use super::key::Key;
use super::{calendar, numeric};
use crate::domain::{ColumnType, Error, Result, ScalarType};

/// The columns that a row shows, in order.
#[derive(Debug, Default)]
pub(super) struct RowShape {
    columns: Vec<ShownColumn>,
}

#[derive(Debug)]
struct ShownColumn {
    /// `"name":`
    label: Box<[u8]>,
    ty: ColumnType,
}

/// How numbers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Numbers {
    /// As numbers with all their digits.
    Exact,
    /// Decimals, and integers beyond those that a double tells apart, as strings.
    Strings,
}

/// The greatest integer of which a double tells the next one.
const MAX_SAFE: u64 = (1 << 53) - 1;

/// A row as JSON, and where its columns lie in it, so that showing some of them is slicing.
#[derive(Debug, Clone)]
pub(super) struct RowJson {
    bytes: Bytes,
    offsets: Box<[u32]>,
    /// Whose the row is, where the table has a row filter.
    owner: Option<Box<Key>>,
}

impl RowShape {
    pub(super) fn new<'a>(columns: impl IntoIterator<Item = (&'a str, ColumnType)>) -> Self {
        let columns = columns.into_iter().map(|(name, ty)| {
            let mut label = Vec::with_capacity(name.len() + 3);
            write_string(&mut label, name.as_bytes());
            label.push(b':');
            ShownColumn { label: label.into(), ty }
        });
        RowShape { columns: columns.collect() }
    }

    /// Writes one row: its binary values, in the order of the shape, `None` for null.
    ///
    /// # Errors
    /// When a value is not of its column's type: the table is not what its description says.
    pub(super) fn write<'a>(&self, mut values: impl Iterator<Item = Option<&'a [u8]>>) -> Result<RowJson> {
        let mut out = Vec::with_capacity(self.columns.len() * 24);
        let mut offsets = Vec::with_capacity(self.columns.len() + 1);
        out.push(b'{');
        for column in &self.columns {
            if offsets.is_empty() {
                offsets.push(1);
            } else {
                out.push(b',');
                offsets.push(offset(&out)?);
            }
            out.extend_from_slice(&column.label);
            let value = values.next().ok_or_else(|| Error::internal("a row has fewer values than columns"))?;
            write_value(&mut out, column.ty, value, Numbers::Exact).ok_or_else(|| column.mismatch())?;
        }
        out.push(b'}');
        // The end of the last column is one before the brace, as the others end before a comma.
        offsets.push(offset(&out)?);
        // Rows are kept: not a byte more than they have.
        Ok(RowJson { bytes: out.into_boxed_slice().into(), offsets: offsets.into(), owner: None })
    }

    /// Appends one row with all its columns, or with these in this order; `value` gives the binary value of a column.
    ///
    /// # Errors
    /// When a value is not of its column's type.
    pub(super) fn append<'a>(
        &self,
        out: &mut Vec<u8>,
        columns: Option<&[usize]>,
        numbers: Numbers,
        value: impl Fn(usize) -> Option<&'a [u8]>,
    ) -> Result<()> {
        out.push(b'{');
        for position in 0..columns.map_or(self.columns.len(), <[usize]>::len) {
            let at = columns.map_or(Some(position), |columns| columns.get(position).copied());
            let Some((at, column)) = at.and_then(|at| Some((at, self.columns.get(at)?))) else { continue };
            if position > 0 {
                out.push(b',');
            }
            out.extend_from_slice(&column.label);
            write_value(out, column.ty, value(at), numbers).ok_or_else(|| column.mismatch())?;
        }
        out.push(b'}');
        Ok(())
    }
}

impl ShownColumn {
    fn mismatch(&self) -> Error {
        Error::internal(format!("{} holds a value of another type", String::from_utf8_lossy(&self.label)))
    }
}

fn offset(out: &[u8]) -> Result<u32> {
    u32::try_from(out.len()).map_err(|_| Error::internal("a row is larger than 4 GiB"))
}

impl RowJson {
    /// The same, of which is known whose it is.
    pub(super) fn owned_by(mut self, owner: Option<Key>) -> Self {
        self.owner = owner.map(Box::new);
        self
    }

    /// Whose it is.
    pub(super) fn owner(&self) -> Option<&Key> {
        self.owner.as_deref()
    }

    /// Appends the row with all its columns, or with these (indexes into its shape) in this order.
    pub(super) fn append_to(&self, out: &mut Vec<u8>, columns: Option<&[usize]>) {
        let Some(columns) = columns else {
            out.extend_from_slice(&self.bytes);
            return;
        };
        out.push(b'{');
        for (position, &column) in columns.iter().enumerate() {
            if position > 0 {
                out.push(b',');
            }
            out.extend_from_slice(self.column(column));
        }
        out.push(b'}');
    }

    /// `"name":value` of one column; nothing where there is no such column.
    fn column(&self, index: usize) -> &[u8] {
        let bounds = self.offsets.get(index).zip(self.offsets.get(index + 1));
        bounds.and_then(|(&start, &end)| self.bytes.get(start as usize..end as usize - 1)).unwrap_or_default()
    }

    /// Bytes that the row takes in memory.
    pub(super) fn held_bytes(&self) -> usize {
        let owner = self.owner.as_ref().map_or(0, |owner| size_of::<Key>() + owner.as_bytes().len());
        self.bytes.len() + size_of_val(&*self.offsets) + owner
    }

    /// Bytes of the whole row.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Appends a binary value, `None` for null. `None` when it is not of the type.
pub(super) fn write_value(out: &mut Vec<u8>, ty: ColumnType, value: Option<&[u8]>, numbers: Numbers) -> Option<()> {
    let Some(raw) = value else {
        out.extend_from_slice(b"null");
        return Some(());
    };
    match ty {
        ColumnType::Scalar(ty) => write_scalar(out, ty, raw, numbers),
        ColumnType::Array(ty) => {
            out.push(b'[');
            for (position, element) in array_elements(raw)?.enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                match element? {
                    Some(raw) => write_scalar(out, ty, raw, numbers)?,
                    None => out.extend_from_slice(b"null"),
                }
            }
            out.push(b']');
            Some(())
        }
        ColumnType::Jsonb => {
            let (version, text) = raw.split_first()?;
            out.extend_from_slice(text);
            (*version == 1).then_some(())
        }
    }
}

fn write_scalar(out: &mut Vec<u8>, ty: ScalarType, raw: &[u8], numbers: Numbers) -> Option<()> {
    match ty {
        ScalarType::Boolean => out.extend_from_slice(if *raw.first()? == 0 { b"false" } else { b"true" }),
        ScalarType::Int16 => write_integer(out, i16::from_be_bytes(raw.try_into().ok()?)),
        ScalarType::Int32 => write_integer(out, i32::from_be_bytes(raw.try_into().ok()?)),
        ScalarType::Int64 => {
            let value = i64::from_be_bytes(raw.try_into().ok()?);
            if numbers == Numbers::Strings && value.unsigned_abs() > MAX_SAFE {
                quoted(out, |out| write_integer(out, value));
            } else {
                write_integer(out, value);
            }
        }
        ScalarType::Float32 => write_float(out, f32::from_be_bytes(raw.try_into().ok()?)),
        ScalarType::Float64 => write_float(out, f64::from_be_bytes(raw.try_into().ok()?)),
        ScalarType::Numeric { .. } if numbers == Numbers::Strings => {
            let start = out.len();
            out.push(b'"');
            numeric::write(out, raw)?;
            // What is no number is a string already.
            if out.get(start + 1) == Some(&b'"') {
                out.remove(start);
            } else {
                out.push(b'"');
            }
        }
        ScalarType::Numeric { .. } => numeric::write(out, raw)?,
        ScalarType::Text => write_string(out, raw),
        ScalarType::Bytea => write_base64(out, raw)?,
        ScalarType::Date => {
            let days = i32::from_be_bytes(raw.try_into().ok()?);
            quoted(out, |out| calendar::write_date(out, days));
        }
        ScalarType::Time => {
            let micros = i64::from_be_bytes(raw.try_into().ok()?);
            quoted(out, |out| calendar::write_time(out, micros));
        }
        ScalarType::Timestamp | ScalarType::Timestamptz => {
            let micros = i64::from_be_bytes(raw.try_into().ok()?);
            quoted(out, |out| calendar::write_timestamp(out, micros, ty == ScalarType::Timestamptz));
        }
        ScalarType::Interval => {
            let (micros, rest) = raw.split_first_chunk::<8>()?;
            let (days, months) = rest.split_first_chunk::<4>()?;
            let (micros, days) = (i64::from_be_bytes(*micros), i32::from_be_bytes(*days));
            let months = i32::from_be_bytes(months.try_into().ok()?);
            quoted(out, |out| calendar::write_interval(out, months, days, micros));
        }
        ScalarType::Uuid => {
            let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
            let text = Uuid::from_slice(raw).ok()?.hyphenated().encode_lower(&mut text);
            write_string(out, text.as_bytes());
        }
    }
    Some(())
}

/// The elements of a one-dimensional array; `None` where the bytes are no such array, or end before an element does.
///
/// On the wire: dimensions, whether it has nulls, the element's OID, then for each dimension its length and lower bound,
/// then the elements, each with its length (-1 = null).
pub(super) fn array_elements(raw: &[u8]) -> Option<impl Iterator<Item = Option<Option<&[u8]>>>> {
    let (head, rest) = raw.split_first_chunk::<12>()?;
    let dimensions = i32::from_be_bytes(head[..4].try_into().ok()?);
    let (count, mut rest) = match dimensions {
        0 => (0, rest),
        1 => {
            let (bounds, rest) = rest.split_first_chunk::<8>()?;
            (i32::from_be_bytes(bounds[..4].try_into().ok()?), rest)
        }
        _ => return None,
    };
    let mut broken = false;
    let mut next = move || {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            rest = after;
            return Some(None);
        };
        let (element, after) = after.split_at_checked(length)?;
        rest = after;
        Some(Some(element))
    };
    Some((0..count).map_while(move |_| {
        let element = if broken { return None } else { next() };
        broken = element.is_none();
        Some(element)
    }))
}

fn quoted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    write(out);
    out.push(b'"');
}

fn write_integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// The shortest text that reads back as the same value of the same width.
fn write_float<F: zmij::Float + Into<f64> + Copy>(out: &mut Vec<u8>, value: F) {
    let wide: f64 = value.into();
    if wide.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else if wide.is_nan() {
        out.extend_from_slice(b"\"NaN\"");
    } else if wide > 0.0 {
        out.extend_from_slice(b"\"Infinity\"");
    } else {
        out.extend_from_slice(b"\"-Infinity\"");
    }
}

fn write_base64(out: &mut Vec<u8>, raw: &[u8]) -> Option<()> {
    out.push(b'"');
    let start = out.len();
    out.resize(start + base64::encoded_len(raw.len(), true)?, 0);
    BASE64.encode_slice(raw, &mut out[start..]).ok()?;
    out.push(b'"');
    Some(())
}

/// Appends a JSON string of UTF-8 bytes, escaping what JSON demands and nothing else.
pub(super) fn write_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    let mut written = 0;
    for (at, &byte) in text.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&text[written..at]);
        written = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                let hex = |digit: u8| b"0123456789abcdef"[usize::from(digit)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]);
            }
        }
    }
    out.extend_from_slice(&text[written..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(columns: &[(&str, ColumnType)], values: &[Option<&[u8]>]) -> RowJson {
        RowShape::new(columns.iter().copied()).write(values.iter().copied()).unwrap()
    }

    fn shown(row: &RowJson, columns: Option<&[usize]>) -> String {
        let mut out = Vec::new();
        row.append_to(&mut out, columns);
        String::from_utf8(out).unwrap()
    }

    fn float(value: f64) -> String {
        let row = row(&[("f", ColumnType::Scalar(ScalarType::Float64))], &[Some(&value.to_be_bytes())]);
        shown(&row, None)
    }

    #[test]
    fn some_columns_are_written_as_slices_of_the_whole_row_are() {
        let columns = [("a", ColumnType::Scalar(ScalarType::Int32)), ("b", ColumnType::Scalar(ScalarType::Text))];
        let values: [Option<&[u8]>; 2] = [Some(&[0, 0, 0, 7]), None];
        let shape = RowShape::new(columns);
        let whole = shape.write(values.into_iter()).unwrap();
        for columns in [None, Some(&[1_usize, 0][..]), Some(&[1])] {
            let mut out = Vec::new();
            shape.append(&mut out, columns, Numbers::Exact, |at| values[at]).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), shown(&whole, columns));
        }
    }

    #[test]
    fn some_columns_are_slices_of_the_row() {
        let columns = [
            ("a", ColumnType::Scalar(ScalarType::Int32)),
            ("b \"x\"", ColumnType::Scalar(ScalarType::Text)),
            ("c", ColumnType::Scalar(ScalarType::Boolean)),
        ];
        let row = row(&columns, &[Some(&7_i32.to_be_bytes()), Some(b"x,y}"), None]);
        assert_eq!(shown(&row, None), r#"{"a":7,"b \"x\"":"x,y}","c":null}"#);
        assert_eq!(shown(&row, Some(&[2, 0])), r#"{"c":null,"a":7}"#);
        assert_eq!(shown(&row, Some(&[1])), r#"{"b \"x\"":"x,y}"}"#);
    }

    #[test]
    fn numbers_that_a_double_does_not_hold_may_be_strings() {
        let int8 = |value: i64| {
            let mut out = Vec::new();
            let ty = ColumnType::Scalar(ScalarType::Int64);
            write_value(&mut out, ty, Some(&value.to_be_bytes()), Numbers::Strings).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(int8(9_007_199_254_740_991), "9007199254740991");
        assert_eq!(int8(9_007_199_254_740_992), "\"9007199254740992\"");
        assert_eq!(int8(i64::MIN), "\"-9223372036854775808\"");
        let numeric = |words: &[u16]| {
            let mut out = Vec::new();
            let raw: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            let ty = ColumnType::Scalar(ScalarType::Numeric { precision: 9, scale: 2 });
            write_value(&mut out, ty, Some(&raw), Numbers::Strings).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(numeric(&[1, 0, 0, 2, 7]), "\"7.00\"");
        assert_eq!(numeric(&[0, 0, 0xC000, 0]), "\"NaN\"");
    }

    #[test]
    fn floats_are_shortest_and_never_invalid_json() {
        assert_eq!(float(1.0), r#"{"f":1.0}"#);
        assert_eq!(float(-0.0), r#"{"f":-0.0}"#);
        assert_eq!(float(0.1), r#"{"f":0.1}"#);
        assert_eq!(float(f64::NAN), r#"{"f":"NaN"}"#);
        assert_eq!(float(f64::NEG_INFINITY), r#"{"f":"-Infinity"}"#);
    }

    #[test]
    fn a_row_without_shown_columns_is_an_empty_object() {
        assert_eq!(shown(&row(&[], &[]), None), "{}");
    }

    #[test]
    fn values_of_another_type_are_refused() {
        for (ty, raw) in [
            (ColumnType::Scalar(ScalarType::Int64), &b"\0\0"[..]),
            (ColumnType::Scalar(ScalarType::Uuid), b"short"),
            (ColumnType::Jsonb, b"\x02{}"),
            (ColumnType::Array(ScalarType::Int32), b"\0\0\0\x02\0\0\0\0\0\0\0\x17\0\0\0\x01\0\0\0\x01"),
        ] {
            assert!(RowShape::new([("c", ty)]).write([Some(raw)].into_iter()).is_err(), "{ty}");
        }
    }

    proptest! {
        #[test]
        fn strings_read_back(text: String) {
            let mut out = Vec::new();
            write_string(&mut out, text.as_bytes());
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn floats_read_back(bits: u64, bits32: u32) {
            let (wide, narrow) = (f64::from_bits(bits), f32::from_bits(bits32));
            prop_assume!(wide.is_finite() && narrow.is_finite());
            let (mut out, mut out32) = (Vec::new(), Vec::new());
            write_float(&mut out, wide);
            write_float(&mut out32, narrow);
            prop_assert_eq!(std::str::from_utf8(&out).unwrap().parse::<f64>().unwrap().to_bits(), bits);
            prop_assert_eq!(std::str::from_utf8(&out32).unwrap().parse::<f32>().unwrap().to_bits(), bits32);
            prop_assert!(serde_json::from_slice::<f64>(&out).is_ok());
        }

        #[test]
        fn foreign_bytes_never_panic(raw: Vec<u8>) {
            for ty in [ScalarType::Numeric { precision: 9, scale: 2 }, ScalarType::Interval, ScalarType::Timestamptz] {
                for numbers in [Numbers::Exact, Numbers::Strings] {
                    let _ = write_value(&mut Vec::new(), ColumnType::Scalar(ty), Some(&raw), numbers);
                    let _ = write_value(&mut Vec::new(), ColumnType::Array(ty), Some(&raw), numbers);
                }
            }
        }
    }
}
