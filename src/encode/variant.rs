//! Variants as JSON text, with exact numbers.

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::builder::StringBuilder;
use chrono::{DateTime, NaiveTime, Timelike, Utc};
use parquet_variant::Variant;
use parquet_variant_compute::{VariantArray, unshred_variant};

use super::bad_row::{Fault, Faults};
use super::{exact_decimal, json, json_time};
use crate::domain::{Code, Error, Result};
use arrow_buffer::i256;
use arrow_schema::TimeUnit;

const CORRUPT: Fault = Fault::new(Code::InvalidText, "the variant is damaged");

/// The JSON text of each variant; those that JSON in Postgres cannot hold become null and are marked.
pub(super) fn to_json(array: &ArrayRef, faults: &mut Faults) -> Result<ArrayRef> {
    let corrupt = |error| Error::new(Code::SourceCorrupt, "a variant column cannot be read").because(error);
    let variants = VariantArray::try_new(array).map_err(corrupt)?;
    let variants = unshred_variant(&variants).map_err(corrupt)?;
    let mut builder = StringBuilder::new();
    let mut text = Vec::new();
    for row in 0..variants.len() {
        if variants.is_null(row) {
            builder.append_null();
            continue;
        }
        text.clear();
        let written = variants.try_value(row).map_err(|_| CORRUPT).and_then(|value| write(&value, &mut text));
        match written.and_then(|()| std::str::from_utf8(&text).map_err(|_| CORRUPT)) {
            Ok(json) => builder.append_value(json),
            Err(fault) => {
                faults.mark(row, fault);
                builder.append_null();
            }
        }
    }
    Ok(Arc::new(builder.finish()))
}

fn write(variant: &Variant<'_, '_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    match variant {
        Variant::Null => json::text(out, "null"),
        Variant::BooleanTrue => json::text(out, "true"),
        Variant::BooleanFalse => json::text(out, "false"),
        Variant::Int8(value) => decimal(i128::from(*value), 0, out),
        Variant::Int16(value) => decimal(i128::from(*value), 0, out),
        Variant::Int32(value) => decimal(i128::from(*value), 0, out),
        Variant::Int64(value) => decimal(i128::from(*value), 0, out),
        Variant::Decimal4(value) => decimal(i128::from(value.integer()), value.scale(), out),
        Variant::Decimal8(value) => decimal(i128::from(value.integer()), value.scale(), out),
        Variant::Decimal16(value) => decimal(value.integer(), value.scale(), out),
        Variant::Float(value) => json::float(*value, out),
        Variant::Double(value) => json::float(*value, out),
        Variant::Date(date) => json_time::date(i64::from(date.to_epoch_days()) * 86_400_000_000, out),
        Variant::TimestampMicros(at) | Variant::TimestampNanos(at) => instant(*at, true, out),
        Variant::TimestampNtzMicros(at) | Variant::TimestampNtzNanos(at) => instant(at.and_utc(), false, out),
        Variant::Time(time) => time_of_day(*time, out),
        Variant::Binary(bytes) => json::binary(out, bytes, false),
        Variant::Uuid(id) => json::binary(out, id.as_bytes(), true),
        Variant::String(text) => json::string(out, text),
        Variant::ShortString(text) => json::string(out, text),
        Variant::List(list) => {
            out.push(b'[');
            for (index, item) in list.iter_try().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(&item.map_err(|_| CORRUPT)?, out)?;
            }
            json::text(out, "]")
        }
        Variant::Object(object) => {
            out.push(b'{');
            for (index, member) in object.iter_try().enumerate() {
                let (name, value) = member.map_err(|_| CORRUPT)?;
                if index > 0 {
                    out.push(b',');
                }
                json::string(out, name)?;
                out.push(b':');
                write(&value, out)?;
            }
            json::text(out, "}")
        }
    }
}

fn decimal(unscaled: i128, scale: u8, out: &mut Vec<u8>) -> Result<(), Fault> {
    let mut text = String::new();
    exact_decimal::write_plain(i256::from_i128(unscaled), i32::from(scale), &mut text);
    json::text(out, &text)
}

fn instant(at: DateTime<Utc>, zoned: bool, out: &mut Vec<u8>) -> Result<(), Fault> {
    match at.timestamp_nanos_opt() {
        Some(nanos) => json_time::timestamp(TimeUnit::Nanosecond, nanos, zoned, out),
        None => json_time::timestamp(TimeUnit::Microsecond, at.timestamp_micros(), zoned, out),
    }
}

fn time_of_day(time: NaiveTime, out: &mut Vec<u8>) -> Result<(), Fault> {
    let nanos = i64::from(time.num_seconds_from_midnight()) * 1_000_000_000 + i64::from(time.nanosecond());
    json_time::time(TimeUnit::Nanosecond, nanos, out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::cast::AsArray;
    use arrow_array::{Array, StringArray};
    use chrono::NaiveDateTime;
    use parquet_variant::{VariantDecimal4, VariantDecimal16};
    use parquet_variant_compute::{VariantArrayBuilder, json_to_variant, shred_variant};

    fn written(variant: Variant<'_, '_>) -> String {
        let mut out = Vec::new();
        write(&variant, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_keep_every_digit() {
        assert_eq!(written(Variant::from(VariantDecimal4::try_new(12300, 2).unwrap())), "123.00");
        let long = VariantDecimal16::try_new(-12_345_678_901_234_567_890_123_456_789_012_345_678, 38).unwrap();
        assert_eq!(written(Variant::from(long)), "-0.12345678901234567890123456789012345678");
        assert_eq!(written(Variant::from(i64::MIN)), "-9223372036854775808");
        assert_eq!(written(Variant::from(0.1_f64)), "0.1");
        assert_eq!(written(Variant::from(0.1_f32)), "0.1");
        assert_eq!(written(Variant::from(f64::NAN)), "\"NaN\"");
        assert_eq!(written(Variant::from(f32::NEG_INFINITY)), "\"-Infinity\"");
    }

    #[test]
    fn instants_are_rfc_3339() {
        let at: NaiveDateTime = "2024-02-29T12:00:00.123456789".parse().unwrap();
        assert_eq!(written(Variant::TimestampNtzNanos(at)), "\"2024-02-29T12:00:00.123456789\"");
        let far: DateTime<Utc> = "9999-12-31T23:59:59.999999Z".parse().unwrap();
        assert_eq!(written(Variant::TimestampMicros(far)), "\"9999-12-31T23:59:59.999999Z\"");
    }

    #[test]
    fn shredded_and_unshredded_variants_are_the_same_text() {
        let texts = [r#"{"a":1,"b":"x"}"#, r#"{"a":"no number"}"#, "[1,2,null]", "null"];
        let input: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
        let plain = json_to_variant(&input).unwrap();
        let member = arrow_schema::Field::new("a", arrow_schema::DataType::Int64, true);
        let layout = arrow_schema::DataType::Struct(vec![member].into());
        let shredded = shred_variant(&plain, &layout).unwrap();
        assert!(shredded.typed_value_column().is_some());
        for variants in [plain, shredded] {
            let array: ArrayRef = Arc::new(variants.into_inner());
            let json = to_json(&array, &mut Faults::default()).unwrap();
            let json: Vec<&str> = json.as_string::<i32>().iter().flatten().collect();
            assert_eq!(json, texts);
        }
    }

    #[test]
    fn text_with_nul_marks_the_row() {
        let mut builder = VariantArrayBuilder::new(1);
        builder.append_variant(Variant::from("a\0b"));
        let array: ArrayRef = Arc::new(builder.build().into_inner());
        let mut faults = Faults::default();
        assert!(to_json(&array, &mut faults).unwrap().is_null(0));
        assert_eq!(faults.first(), Some(Fault::NUL));
    }
}
