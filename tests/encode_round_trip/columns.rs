//! Columns of every kind, from random bits, with what Postgres must say of each value.
//!
//! The expected text is made from the random bits directly, never by way of Arrow or the encoder.

use std::sync::Arc;

use arrow_array::types::*;
use arrow_array::*;
use arrow_buffer::{IntervalDayTime, IntervalMonthDayNano, i256};
use arrow_schema::{DataType, Field};
use proptest::prelude::*;

use super::values::*;

/// The random bits of one value.
pub(crate) type Raw = u128;

type F16 = <Float16Type as ArrowPrimitiveType>::Native;

/// Bits with many that stand at the edge of something.
pub(crate) fn raw() -> impl Strategy<Value = Raw> {
    prop_oneof![
        4 => any::<u128>(),
        2 => any::<u16>().prop_map(u128::from),
        1 => any::<u64>().prop_map(u128::from),
        1 => (0..128_u32, any::<bool>()).prop_map(|(bit, minus)| (1_u128 << bit).wrapping_sub(u128::from(minus))),
        1 => (0..38_u32, any::<bool>()).prop_map(|(digits, minus)| {
            let power = 10_u128.pow(digits);
            if minus { power.wrapping_neg() } else { power }
        }),
        1 => Just(0), 1 => Just(u128::MAX), 1 => Just(1 << 127), 1 => Just(u128::MAX >> 1), 1 => Just(1 << 63),
        1 => Just(u128::from(u64::MAX)), 1 => Just(u128::MAX << 63),
    ]
}

/// A kind of column.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// What SQL says of a column `$c`, as text.
    pub(crate) read: &'static str,
    /// The same of the expected text `$e`.
    pub(crate) expect: &'static str,
    array: fn(&[Option<Raw>]) -> ArrayRef,
    text: fn(Raw) -> String,
    extension: Option<&'static str>,
}

impl Kind {
    pub(crate) fn array(&self, values: &[Option<Raw>]) -> ArrayRef {
        (self.array)(values)
    }

    pub(crate) fn text(&self, raw: Raw) -> String {
        (self.text)(raw)
    }

    pub(crate) fn field(&self, data_type: &DataType) -> Field {
        let field = Field::new(self.name, data_type.clone(), true);
        match self.extension {
            Some(name) => field.with_metadata([("ARROW:extension:name".to_owned(), name.to_owned())].into()),
            None => field,
        }
    }
}

const PLAIN: (&str, &str) = ("$c::text", "$e");
const FLOAT4: (&str, &str) = ("encode(float4send($c), 'hex')", "$e");
const FLOAT8: (&str, &str) = ("encode(float8send($c), 'hex')", "$e");
const BYTEA: (&str, &str) = ("encode($c, 'hex')", "$e");
const DATE: (&str, &str) = ("($c - date '1970-01-01')::text", "$e");
const TIME: (&str, &str) = ("trim_scale(extract(epoch from $c) * 1000000)::text", "$e");
const INTERVAL: (&str, &str) = ("encode(interval_send($c), 'hex')", "$e");
const JSON: (&str, &str) = ("$c::text", "$e::jsonb::text");
const ARRAY: (&str, &str) = ("to_jsonb($c)::text", "$e::jsonb::text");

fn kind(
    name: &'static str,
    (read, expect): (&'static str, &'static str),
    array: fn(&[Option<Raw>]) -> ArrayRef,
    text: fn(Raw) -> String,
) -> Kind {
    Kind { name, read, expect, array, text, extension: None }
}

macro_rules! integer {
    ($name:literal, $arrow:ty, $native:ty) => {
        kind($name, PLAIN, |v| primitive::<$arrow>(v, |raw| raw as $native), |raw| (raw as $native).to_string())
    };
}

/// Decimals of this many digits.
macro_rules! decimal {
    ($name:literal, $arrow:ty, $variant:ident, $native:ty, $precision:literal, $scale:literal) => {
        kind(
            $name,
            PLAIN,
            |v| typed::<$arrow>(v, DataType::$variant($precision, $scale), |raw| bounded(raw, $precision) as $native),
            |raw| decimal_text(&bounded(raw, $precision).to_string(), $scale),
        )
    };
}

/// Wide decimals: the number twice, end to end, as far as there is room.
macro_rules! wide {
    ($name:literal, $precision:literal, $scale:literal) => {
        kind(
            $name,
            PLAIN,
            |v| {
                typed::<Decimal256Type>(v, DataType::Decimal256($precision, $scale), |raw| {
                    i256::from_string(&wide_digits(raw, $precision)).unwrap()
                })
            },
            |raw| decimal_text(&wide_digits(raw, $precision), $scale),
        )
    };
}

/// Timestamps; `$per` is the count of a second and `$micros` how a count is written in microseconds.
macro_rules! timestamp {
    ($name:literal, $arrow:ty, $zone:expr, $count:expr, $micros:expr) => {
        kind(
            $name,
            TIME,
            |v| {
                let array: PrimitiveArray<$arrow> = v.iter().map(|raw| raw.map($count)).collect();
                Arc::new(array.with_timezone_opt($zone))
            },
            |raw| $micros($count(raw)).to_string(),
        )
    };
}

pub(crate) fn kinds() -> Vec<Kind> {
    let mut kinds = numbers();
    kinds.extend(texts());
    kinds.extend(times());
    kinds.extend(nested());
    kinds
}

fn numbers() -> Vec<Kind> {
    vec![
        kind(
            "boolean",
            PLAIN,
            |v| Arc::new(v.iter().map(|raw| raw.map(|raw| raw & 1 == 1)).collect::<BooleanArray>()),
            |raw| (raw & 1 == 1).to_string(),
        ),
        integer!("i8", Int8Type, i8),
        integer!("i16", Int16Type, i16),
        integer!("i32", Int32Type, i32),
        integer!("i64", Int64Type, i64),
        integer!("u8", UInt8Type, u8),
        integer!("u16", UInt16Type, u16),
        integer!("u32", UInt32Type, u32),
        integer!("u64", UInt64Type, u64),
        kind(
            "f16",
            FLOAT4,
            |v| primitive::<Float16Type>(v, |raw| F16::from_bits(raw as u16)),
            |raw| format!("{:08x}", F16::from_bits(raw as u16).to_f32().to_bits()),
        ),
        kind(
            "f32",
            FLOAT4,
            |v| primitive::<Float32Type>(v, |raw| f32::from_bits(raw as u32)),
            |raw| format!("{:08x}", raw as u32),
        ),
        kind(
            "f64",
            FLOAT8,
            |v| primitive::<Float64Type>(v, |raw| f64::from_bits(raw as u64)),
            |raw| format!("{:016x}", raw as u64),
        ),
        decimal!("decimal32", Decimal32Type, Decimal32, i32, 9, 4),
        decimal!("decimal64", Decimal64Type, Decimal64, i64, 18, 7),
        decimal!("decimal_money", Decimal128Type, Decimal128, i128, 15, 2),
        decimal!("decimal_whole", Decimal128Type, Decimal128, i128, 38, 0),
        decimal!("decimal_middle", Decimal128Type, Decimal128, i128, 38, 18),
        decimal!("decimal_fraction", Decimal128Type, Decimal128, i128, 38, 37),
        decimal!("decimal_negative_scale", Decimal128Type, Decimal128, i128, 5, -3),
        decimal!("decimal_large_scale", Decimal128Type, Decimal128, i128, 3, 9),
        wide!("wide_whole", 76, 0),
        wide!("wide_middle", 76, 38),
        wide!("wide_fraction", 50, 49),
    ]
}

fn texts() -> Vec<Kind> {
    fn array<A: Array + FromIterator<Option<String>> + 'static>(values: &[Option<Raw>]) -> ArrayRef {
        Arc::new(values.iter().map(|raw| raw.map(text)).collect::<A>())
    }
    fn hex(raw: Raw) -> String {
        binary(raw).iter().map(|byte| format!("{byte:02x}")).collect()
    }
    let mut uuid = kind(
        "uuid",
        PLAIN,
        |v| fixed_size_binary(v, 16, |raw| raw.to_be_bytes().to_vec()),
        |raw| uuid::Uuid::from_u128(raw).to_string(),
    );
    uuid.extension = Some("arrow.uuid");
    vec![
        kind("utf8", PLAIN, array::<StringArray>, text),
        kind("large_utf8", PLAIN, array::<LargeStringArray>, text),
        kind("utf8_view", PLAIN, array::<StringViewArray>, text),
        kind(
            "dictionary",
            PLAIN,
            |v| {
                let texts: Vec<Option<String>> = v.iter().map(|raw| raw.map(|raw| text(raw & 3))).collect();
                Arc::new(texts.iter().map(Option::as_deref).collect::<DictionaryArray<UInt16Type>>())
            },
            |raw| text(raw & 3),
        ),
        kind(
            "dictionary_of_numbers",
            PLAIN,
            |v| {
                let keys: Int32Array = v.iter().map(|raw| raw.map(|raw| (raw & 1) as i32)).collect();
                Arc::new(DictionaryArray::new(keys, Arc::new(Int64Array::from(vec![-1, i64::MAX]))))
            },
            |raw| if raw & 1 == 0 { "-1".to_owned() } else { i64::MAX.to_string() },
        ),
        kind("binary", BYTEA, |v| Arc::new(v.iter().map(|raw| raw.map(binary)).collect::<BinaryArray>()), hex),
        kind(
            "large_binary",
            BYTEA,
            |v| Arc::new(v.iter().map(|raw| raw.map(binary)).collect::<LargeBinaryArray>()),
            hex,
        ),
        kind("binary_view", BYTEA, |v| Arc::new(v.iter().map(|raw| raw.map(binary)).collect::<BinaryViewArray>()), hex),
        kind(
            "fixed_size_binary",
            BYTEA,
            |v| fixed_size_binary(v, 5, |raw| raw.to_be_bytes()[11..].to_vec()),
            |raw| format!("{:010x}", raw & 0xff_ffff_ffff),
        ),
        uuid,
    ]
}

fn times() -> Vec<Kind> {
    const DAY: i64 = 86_400_000_000;
    fn day_part(raw: Raw) -> i64 {
        (raw % (DAY as u128 + 1)) as i64
    }
    fn millis(raw: Raw) -> i64 {
        micros(raw) / 1_000
    }
    fn nanos(raw: Raw) -> i64 {
        (raw as i64) / 1_000 * 1_000
    }
    fn interval(months: i32, days: i32, micros: i64) -> String {
        format!("{micros:016x}{days:08x}{months:08x}")
    }
    vec![
        kind("date32", DATE, |v| primitive::<Date32Type>(v, days), |raw| days(raw).to_string()),
        kind(
            "date64",
            DATE,
            |v| primitive::<Date64Type>(v, |raw| i64::from(days(raw)) * 86_400_000),
            |raw| days(raw).to_string(),
        ),
        kind(
            "time_s",
            TIME,
            |v| primitive::<Time32SecondType>(v, |raw| (raw % 86_401) as i32),
            |raw| (raw % 86_401 * 1_000_000).to_string(),
        ),
        kind(
            "time_ms",
            TIME,
            |v| primitive::<Time32MillisecondType>(v, |raw| (raw % 86_400_001) as i32),
            |raw| (raw % 86_400_001 * 1_000).to_string(),
        ),
        kind("time_us", TIME, |v| primitive::<Time64MicrosecondType>(v, day_part), |raw| day_part(raw).to_string()),
        kind(
            "time_ns",
            TIME,
            |v| primitive::<Time64NanosecondType>(v, |raw| day_part(raw) * 1_000),
            |raw| day_part(raw).to_string(),
        ),
        timestamp!("timestamp_s", TimestampSecondType, None::<&str>, |raw| micros(raw) / 1_000_000, |s: i64| s
            * 1_000_000),
        timestamp!("timestamp_ms", TimestampMillisecondType, Some("UTC"), millis, |ms: i64| ms * 1_000),
        timestamp!("timestamp_us", TimestampMicrosecondType, None::<&str>, micros, |us: i64| us),
        timestamp!("timestamptz_us", TimestampMicrosecondType, Some("+05:45"), micros, |us: i64| us),
        timestamp!("timestamp_ns", TimestampNanosecondType, Some("UTC"), nanos, |ns: i64| ns / 1_000),
        kind(
            "interval_months",
            INTERVAL,
            |v| primitive::<IntervalYearMonthType>(v, |raw| raw as i32),
            |raw| interval(raw as i32, 0, 0),
        ),
        kind(
            "interval_days",
            INTERVAL,
            |v| primitive::<IntervalDayTimeType>(v, |raw| IntervalDayTime::new(raw as i32, (raw >> 32) as i32)),
            |raw| interval(0, raw as i32, i64::from((raw >> 32) as i32) * 1_000),
        ),
        kind(
            "interval_parts",
            INTERVAL,
            |v| {
                primitive::<IntervalMonthDayNanoType>(v, |raw| {
                    IntervalMonthDayNano::new(raw as i32, (raw >> 32) as i32, (raw >> 64) as i64 / 1_000 * 1_000)
                })
            },
            |raw| interval(raw as i32, (raw >> 32) as i32, (raw >> 64) as i64 / 1_000),
        ),
        kind(
            "duration_ms",
            INTERVAL,
            |v| primitive::<DurationMillisecondType>(v, |raw| raw as i64 / 1_000),
            |raw| interval(0, 0, raw as i64 / 1_000 * 1_000),
        ),
        kind(
            "duration_us",
            INTERVAL,
            |v| primitive::<DurationMicrosecondType>(v, |raw| raw as i64),
            |raw| interval(0, 0, raw as i64),
        ),
    ]
}

fn nested() -> Vec<Kind> {
    fn array_text(raw: Raw, item: fn(Raw) -> String) -> String {
        let items: Vec<String> =
            items(raw).into_iter().map(|raw| raw.map_or_else(|| "null".to_owned(), item)).collect();
        format!("[{}]", items.join(","))
    }
    fn quoted(text: &str) -> String {
        serde_json::Value::from(text).to_string()
    }
    let mut json =
        kind("json", JSON, |v| Arc::new(v.iter().map(|raw| raw.map(json_text)).collect::<StringArray>()), json_text);
    json.extension = Some("arrow.json");
    vec![
        kind(
            "list_i32",
            ARRAY,
            |v| list(v, |raws| primitive::<Int32Type>(raws, |raw| raw as i32)),
            |raw| array_text(raw, |raw| (raw as i32).to_string()),
        ),
        kind(
            "list_decimal",
            ARRAY,
            |v| list(v, |raws| typed::<Decimal128Type>(raws, DataType::Decimal128(20, 3), |raw| bounded(raw, 20))),
            |raw| array_text(raw, |raw| decimal_text(&bounded(raw, 20).to_string(), 3)),
        ),
        kind(
            "list_text",
            ARRAY,
            |v| {
                list(v, |raws| {
                    let texts: Vec<Option<String>> = raws.iter().map(|raw| raw.map(text)).collect();
                    Arc::new(texts.iter().map(Option::as_deref).collect::<DictionaryArray<Int32Type>>())
                })
            },
            |raw| array_text(raw, |raw| quoted(&text(raw))),
        ),
        kind("list_view_f64", ARRAY, list_view, |raw| array_text(raw, |raw| f64::from(raw as i32).to_string())),
        kind("fixed_size_list", ARRAY, fixed_size_list, |raw| format!("[{},null]", raw as i64)),
        kind("list_of_lists", JSON, list_of_lists, |raw| {
            let inner = array_text(raw, |raw| (raw as i64).to_string());
            format!("[{inner},{inner}]")
        }),
        kind("map", JSON, map, |raw| {
            let key = quoted(&text(raw));
            format!("{{{key}:{},\"n\":null}}", raw as u64)
        }),
        kind("structure", JSON, structure, |raw| {
            let name = quoted(&text(raw));
            let float = f64::from_bits(raw as u64);
            let float = match float {
                value if value.is_nan() => "\"NaN\"".to_owned(),
                value if value.is_infinite() => quoted(if value > 0.0 { "Infinity" } else { "-Infinity" }),
                value => value.to_string(),
            };
            let price = decimal_text(&bounded(raw, 38).to_string(), 5);
            format!("{{\"name\":{name},\"price\":{price},\"float\":{float},\"ok\":{}}}", raw & 1 == 1)
        }),
        json,
    ]
}
