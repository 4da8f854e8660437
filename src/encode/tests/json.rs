//! Nested values as JSON.

use super::*;

/// The JSON of the first row's second column.
fn json(values: impl Array + 'static) -> String {
    let encoded = encode_column(values);
    assert!(encoded.bad.is_empty(), "{:?}", encoded.bad);
    // The row's count of columns, the key, the length word, the version of jsonb.
    let payload = encoded.bytes().split_off(2 + 12 + 4);
    assert_eq!(payload.first(), Some(&1));
    String::from_utf8(payload[1..].to_vec()).unwrap()
}

fn structure(members: Vec<(&str, ArrayRef)>) -> StructArray {
    StructArray::from(batch(members))
}

#[test]
fn numbers_keep_their_digits_and_what_is_no_number_is_a_string() {
    let json = json(structure(vec![
        ("long", Arc::new(Int64Array::from(vec![i64::MAX]))),
        ("unsigned", Arc::new(UInt64Array::from(vec![u64::MAX]))),
        ("price", Arc::new(decimal(-1_250, 38, 2))),
        ("wide", Arc::new(wide_decimal("1", 76, 40))),
        ("negative_scale", Arc::new(decimal(12, 5, -2))),
        ("float", Arc::new(Float32Array::from(vec![0.1]))),
        ("whole", Arc::new(Float64Array::from(vec![3.0]))),
        ("nan", Arc::new(Float64Array::from(vec![f64::NAN]))),
        ("infinite", Arc::new(Float32Array::from(vec![f32::NEG_INFINITY]))),
        ("null", Arc::new(Int8Array::from(vec![None]))),
    ]));
    let expected = "{\"long\":9223372036854775807,\"unsigned\":18446744073709551615,\"price\":-12.50,\
         \"wide\":0.0000000000000000000000000000000000000001,\"negative_scale\":1200,\"float\":0.1,\"whole\":3,\
         \"nan\":\"NaN\",\"infinite\":\"-Infinity\",\"null\":null}";
    assert_eq!(json, expected);
}

#[test]
fn times_are_iso_8601_and_binaries_base64() {
    let json = json(structure(vec![
        ("date", Arc::new(Date32Array::from(vec![19_782]))),
        ("utc", Arc::new(TimestampMicrosecondArray::from(vec![1_500_000]).with_timezone("UTC"))),
        ("local", Arc::new(TimestampNanosecondArray::from(vec![-1]))),
        ("time", Arc::new(Time64MicrosecondArray::from(vec![3_600_000_000]))),
        ("span", Arc::new(IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(14, 0, -1_500_000_000)]))),
        ("nothing", Arc::new(DurationSecondArray::from(vec![0]))),
        ("bytes", Arc::new(BinaryArray::from(vec![&b"\x00\xff"[..]]))),
    ]));
    let expected = "{\"date\":\"2024-02-29\",\"utc\":\"1970-01-01T00:00:01.5Z\",\
         \"local\":\"1969-12-31T23:59:59.999999999\",\"time\":\"01:00:00\",\"span\":\"P14MT-1.5S\",\
         \"nothing\":\"PT0S\",\"bytes\":\"AP8=\"}";
    assert_eq!(json, expected);
}

#[test]
fn text_is_escaped() {
    let json = json(structure(vec![("a\"b", Arc::new(StringArray::from(vec!["\u{1}\n\\\"é\u{7f}"])))]));
    assert_eq!(json, "{\"a\\\"b\":\"\\u0001\\n\\\\\\\"é\u{7f}\"}");
}

fn map(keys: ArrayRef, values: ArrayRef) -> MapArray {
    let length = keys.len();
    let fields = Fields::from(vec![
        Field::new("keys", keys.data_type().clone(), false),
        Field::new("values", values.data_type().clone(), true),
    ]);
    let entries = StructArray::new(fields.clone(), vec![keys, values], None);
    let field = Arc::new(Field::new("entries", DataType::Struct(fields), false));
    MapArray::new(field, OffsetBuffer::from_lengths([length]), entries, None, false)
}

#[test]
fn keys_of_maps_are_text() {
    let values: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), None]));
    let numbers = map(Arc::new(Int32Array::from(vec![2, -1])), Arc::clone(&values));
    assert_eq!(json(numbers), "{\"2\":true,\"-1\":null}");
    let dates = map(Arc::new(Date32Array::from(vec![0, 1])), values);
    assert_eq!(json(dates), "{\"1970-01-01\":true,\"1970-01-02\":null}");
}

#[test]
fn maps_with_the_same_key_twice_are_bad_rows() {
    let twice = map(Arc::new(StringArray::from(vec!["a", "a"])), Arc::new(Int32Array::from(vec![1, 2])));
    assert_eq!(encode_column(twice).codes(), [(0, Code::LossyCast)]);
}

#[test]
fn nul_and_far_years_are_bad_rows() {
    let nul = structure(vec![("a", Arc::new(StringArray::from(vec!["x\0"])))]);
    assert_eq!(encode_column(nul).codes(), [(0, Code::NulInText)]);
    let far = structure(vec![("a", Arc::new(TimestampSecondArray::from(vec![253_402_300_800])))]);
    assert_eq!(encode_column(far).codes(), [(0, Code::OutOfRange)]);
}

#[test]
fn json_text_goes_in_as_it_is_or_not_at_all() {
    let texts = StringArray::from(vec![Some("{\"a\": 1.0}"), Some("{\"a\":1,\"a\":2}"), Some("{a:1}"), None]);
    let batch = batch(vec![("id", ids(4)), ("c", Arc::new(texts))]);
    let rules = ColumnRules { types: [("c".to_owned(), "jsonb".to_owned())].into(), ..ColumnRules::default() };
    let encoded = encode_with(&batch, &rules, &["id"]);
    assert_eq!(encoded.codes(), [(1, Code::LossyCast), (2, Code::InvalidText)]);
    assert!(String::from_utf8_lossy(&encoded.bytes()).contains("\u{1}{\"a\": 1.0}"));
}
