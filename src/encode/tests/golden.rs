//! What PostgreSQL 15 sends for the same values: `COPY (SELECT …) TO STDOUT (FORMAT binary)`, a field each.

use super::*;

/// Checks the field by itself, between nulls, and as a value of a column without nulls.
fn check(values: impl Array + 'static, sql: &str, field: &str) {
    const ROW: &str = "0002";
    let id = |id: i64| format!("00000008{id:016x}");
    let values: ArrayRef = Arc::new(values);
    let alone = encode(&batch(vec![("id", ids(1)), ("c", Arc::clone(&values))]));
    assert_eq!(hex(&alone.bytes()), format!("{ROW}{}{field}", id(0)), "{sql}");
    let nulls = new_null_array(values.data_type(), 1);
    let among_nulls = arrow_select::concat::concat(&[&nulls, &values, &nulls, &values]).unwrap();
    let among_nulls = encode(&batch(vec![("id", ids(4)), ("c", among_nulls)]));
    let fields = ["ffffffff", field, "ffffffff", field];
    let rows: String = (0..).zip(fields).map(|(row, field)| format!("{ROW}{}{field}", id(row))).collect();
    assert_eq!(hex(&among_nulls.bytes()), rows, "{sql} among nulls");
}

#[test]
fn scalars() {
    check(BooleanArray::from(vec![true]), "true", "0000000101");
    check(BooleanArray::from(vec![false]), "false", "0000000100");
    check(Int8Array::from(vec![-128]), "(-128)::smallint", "00000002ff80");
    check(Int16Array::from(vec![i16::MIN]), "(-32768)::smallint", "000000028000");
    check(UInt8Array::from(vec![255]), "255::smallint", "0000000200ff");
    check(Int32Array::from(vec![i32::MIN]), "(-2147483648)::integer", "0000000480000000");
    check(UInt16Array::from(vec![65_535]), "65535::integer", "000000040000ffff");
    check(Int64Array::from(vec![i64::MIN]), "(-9223372036854775808)::bigint", "000000088000000000000000");
    check(UInt32Array::from(vec![u32::MAX]), "4294967295::bigint", "0000000800000000ffffffff");
    check(Float32Array::from(vec![1.5]), "1.5::real", "000000043fc00000");
    check(Float32Array::from(vec![-0.0]), "'-0'::real", "0000000480000000");
    check(Float64Array::from(vec![f64::NAN]), "'NaN'::double precision", "000000087ff8000000000000");
    check(Float64Array::from(vec![f64::NEG_INFINITY]), "'-Infinity'::double precision", "00000008fff0000000000000");
    check(
        Float64Array::from(vec![f64::MIN_POSITIVE]),
        "2.2250738585072014e-308::double precision",
        "000000080010000000000000",
    );
}

#[test]
fn decimals() {
    check(
        UInt64Array::from(vec![u64::MAX]),
        "18446744073709551615::numeric",
        "00000012000500040000000007341a5802e103bb064f",
    );
    check(UInt64Array::from(vec![0]), "0::numeric", "000000080000000000000000");
    check(decimal(0, 10, 0), "'0'::numeric", "000000080000000000000000");
    check(decimal(0, 10, 2), "'0.00'::numeric", "000000080000000000000002");
    check(decimal(0, 38, 37), "'0.0000000000000000000000000000000000000'::numeric", "000000080000000000000025");
    check(decimal(1, 10, 0), "'1'::numeric", "0000000a00010000000000000001");
    check(decimal(-1, 10, 0), "'-1'::numeric", "0000000a00010000400000000001");
    check(decimal(44_123_456, 10, 6), "'44.123456'::numeric", "0000000e0003000000000006002c04d215e0");
    check(decimal(-44_123_456, 10, 6), "'-44.123456'::numeric", "0000000e0003000040000006002c04d215e0");
    check(decimal(1_000_000_000, 12, 0), "'1000000000'::numeric", "0000000a0001000200000000000a");
    check(decimal(-3_000_000_000, 12, 0), "'-3000000000'::numeric", "0000000a0001000240000000001e");
    check(decimal(7_000_000_000_123, 15, 3), "'7000000000.123'::numeric", "00000010000400020000000300460000000004ce");
    check(decimal(10000, 5, 0), "'10000'::numeric", "0000000a00010001000000000001");
    check(decimal(100_000_000, 9, 0), "'100000000'::numeric", "0000000a00010002000000000001");
    check(decimal(10000, 5, 4), "'1.0000'::numeric", "0000000a00010000000000040001");
    check(decimal(100_000_000, 12, 8), "'1.00000000'::numeric", "0000000a00010000000000080001");
    check(decimal(99_999_999, 8, 4), "'9999.9999'::numeric", "0000000c0002000000000004270f270f");
    check(decimal(12345, 5, 1), "'1234.5'::numeric", "0000000c000200000000000104d21388");
    check(decimal(12345, 5, 2), "'123.45'::numeric", "0000000c0002000000000002007b1194");
    check(decimal(12345, 5, 3), "'12.345'::numeric", "0000000c0002000000000003000c0d7a");
    check(decimal(12345, 5, 5), "'0.12345'::numeric", "0000000c0002ffff0000000504d21388");
    check(decimal(1, 38, 37), "'0.0000000000000000000000000000000000001'::numeric", "0000000a0001fff60000002503e8");
    check(decimal(-1, 5, 1), "'-0.1'::numeric", "0000000a0001ffff4000000103e8");
    check(
        decimal(99_999_999_999_999_999_999_999_999_999_999_999_999, 38, 0),
        "'99999999999999999999999999999999999999'::numeric",
        "0000001c000a0009000000000063270f270f270f270f270f270f270f270f270f",
    );
    check(
        decimal(-99_999_999_999_999_999_999_999_999_999_999_999_999, 38, 37),
        "'-9.9999999999999999999999999999999999999'::numeric",
        "0000001e000b0000400000250009270f270f270f270f270f270f270f270f270f2328",
    );
    check(
        decimal(99_999_999_999_999_999_999_999_999_999_999_999_999, 38, 18),
        "'99999999999999999999.999999999999999999'::numeric",
        "0000001c000a000400000012270f270f270f270f270f270f270f270f270f26ac",
    );
    check(
        decimal(18_446_744_073_709_551_616, 38, 2),
        "'184467440737095516.16'::numeric",
        "0000001400060004000000020012117311370e7d158c0640",
    );
    check(
        decimal(18_446_744_073_709_551_615, 38, 2),
        "'184467440737095516.15'::numeric",
        "0000001400060004000000020012117311370e7d158c05dc",
    );
    check(decimal(12, 2, -2), "'1200'::numeric", "0000000a000100000000000004b0");
    check(decimal(12, 2, -3), "'12000'::numeric", "0000000c0002000100000000000107d0");
    check(decimal(5, 1, -8), "'500000000'::numeric", "0000000a00010002000000000005");
    check(decimal(1, 2, 4), "'0.0001'::numeric", "0000000a0001ffff000000040001");
    check(decimal(123, 3, 7), "'0.0000123'::numeric", "0000000a0001fffe0000000704ce");
    check(decimal(600, 4, 2), "'6.00'::numeric", "0000000a00010000000000020006");
    check(decimal(250, 38, 18), "'0.000000000000000250'::numeric", "0000000c0002fffc0000001200021388");
    check(
        Decimal32Array::from(vec![-123_456_789]).with_precision_and_scale(9, 2).unwrap(),
        "'-1234567.89'::numeric",
        "0000000e0003000140000002007b11d722c4",
    );
    check(
        Decimal64Array::from(vec![999_999_999_999_999_999]).with_precision_and_scale(18, 5).unwrap(),
        "'9999999999999.99999'::numeric",
        "0000001400060003000000050009270f270f270f270f2328",
    );
    check(
        wide_decimal("9999999999999999999999999999999999999999999999999999999999999999999999999999", 76, 0),
        "'9999999999999999999999999999999999999999999999999999999999999999999999999999'::numeric",
        "0000002e0013001200000000270f270f270f270f270f270f270f270f270f270f270f270f270f270f270f270f270f270f270f",
    );
    check(
        wide_decimal("-9999999999999999999999999999999999999999999999999999999999999999999999999999", 76, 38),
        "'-99999999999999999999999999999999999999.99999999999999999999999999999999999999'::numeric",
        "0000003000140009400000260063270f270f270f270f270f270f270f270f270f270f270f270f270f270f270f270f270f270f26ac",
    );
    check(
        wide_decimal("1000000000000000000000000000000000000000000000", 76, 3),
        "'1000000000000000000000000000000000000000000.000'::numeric",
        "0000000a0001000a000000030064",
    );
    check(
        wide_decimal("-7", 50, 50),
        "'-0.00000000000000000000000000000000000000000000000007'::numeric",
        "0000000a0001fff34000003202bc",
    );
}

#[test]
fn text_and_binaries() {
    check(StringArray::from(vec!["naïve"]), "'naïve'::text", "000000066e61c3af7665");
    check(StringArray::from(vec![""]), "''::text", "00000000");
    check(LargeStringArray::from(vec!["x"]), "'x'::text", "0000000178");
    check(
        StringViewArray::from(vec!["longer than twelve bytes"]),
        "'longer than twelve bytes'::text",
        "000000186c6f6e676572207468616e207477656c7665206279746573",
    );
    check(BinaryArray::from(vec![&b"\0\xff"[..]]), "'\\x00ff'::bytea", "0000000200ff");
    check(BinaryViewArray::from(vec![&b""[..]]), "''::bytea", "00000000");
}

#[test]
fn dates_and_times() {
    check(Date32Array::from(vec![0]), "date '1970-01-01'", "00000004ffffd533");
    check(Date32Array::from(vec![-719_162]), "date '0001-01-01'", "00000004fff4dbf9");
    check(Date64Array::from(vec![253_402_214_400_000]), "date '9999-12-31'", "00000004002c95d3");
    check(Time64MicrosecondArray::from(vec![86_399_999_999]), "time '23:59:59.999999'", "00000008000000141dd75fff");
    check(Time32SecondArray::from(vec![60]), "time '00:01:00'", "000000080000000003938700");
    check(
        TimestampMicrosecondArray::from(vec![-1]),
        "timestamp '1969-12-31 23:59:59.999999'",
        "00000008fffca2fec4c81fff",
    );
    check(
        TimestampSecondArray::from(vec![253_402_300_799]).with_timezone("UTC"),
        "timestamptz '9999-12-31 23:59:59Z'",
        "000000080380e70b912c3dc0",
    );
    check(
        TimestampMillisecondArray::from(vec![-62_135_596_800_000]),
        "timestamp '0001-01-01'",
        "00000008ff1fe2ffc59c6000",
    );
    check(
        TimestampNanosecondArray::from(vec![1_000]).with_timezone("+02:00"),
        "timestamptz '1970-01-01 00:00:00.000001Z'",
        "00000008fffca2fec4c82001",
    );
    check(IntervalYearMonthArray::from(vec![-14]), "interval '-14 months'", "00000010000000000000000000000000fffffff2");
    check(
        IntervalDayTimeArray::from(vec![IntervalDayTime::new(3, -1_500)]),
        "interval '3 days -1.5 seconds'",
        "00000010ffffffffffe91ca00000000300000000",
    );
    check(
        IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(1, -2, 3_000)]),
        "interval '1 month -2 days 3 microseconds'",
        "000000100000000000000003fffffffe00000001",
    );
    check(
        DurationMillisecondArray::from(vec![-1]),
        "interval '-1 millisecond'",
        "00000010fffffffffffffc180000000000000000",
    );
}

#[test]
fn arrays() {
    check(
        list::<Int32Type>(vec![Some(1), None, Some(-3)]),
        "array[1,null,-3]",
        "0000002800000001000000010000001700000003000000010000000400000001ffffffff00000004fffffffd",
    );
    check(list::<Int32Type>(vec![]), "array[]::integer[]", "0000000c000000000000000000000017");
    check(
        list::<Int64Type>(vec![Some(5)]),
        "array[5]::bigint[]",
        "000000200000000100000000000000140000000100000001000000080000000000000005",
    );
}

#[test]
fn uuids() {
    let id = FixedSizeBinaryArray::try_from_iter([[0xab_u8; 16]].iter()).unwrap();
    let uuid = Field::new("c", id.data_type().clone(), true)
        .with_metadata([("ARROW:extension:name".to_owned(), "arrow.uuid".to_owned())].into());
    let schema = Schema::new(vec![Field::new("id", DataType::Int64, false), uuid]);
    let batch = RecordBatch::try_new(Arc::new(schema), vec![ids(1), Arc::new(id)]).unwrap();
    assert!(hex(&encode(&batch).bytes()).ends_with(&format!("00000010{}", "ab".repeat(16))));
}

#[test]
fn header_and_trailer() {
    assert_eq!(hex(&copy_header()), "5047434f50590aff0d0a000000000000000000");
    assert_eq!(hex(&copy_trailer()), "ffff");
}

#[test]
fn encodings_make_no_difference() {
    let texts = ["a", "a", "longer than twelve bytes", "a"];
    let expected = encode_column(StringArray::from(texts.to_vec())).bytes();
    let dictionary: DictionaryArray<arrow_array::types::UInt16Type> = texts.into_iter().collect();
    assert_eq!(encode_column(dictionary).bytes(), expected);
    let runs = RunArray::try_new(
        &Int32Array::from(vec![2, 3, 4]),
        &StringArray::from(vec!["a", "longer than twelve bytes", "a"]),
    );
    assert_eq!(encode_column(runs.unwrap()).bytes(), expected);
    let sliced = StringArray::from(vec!["x", "a", "a", "longer than twelve bytes", "a", "y"]).slice(1, 4);
    assert_eq!(encode_column(sliced).bytes(), expected);
    let lists = vec![Some(vec![Some(1), None]), None, Some(vec![]), Some(vec![Some(2)])];
    let expected = encode_column(ListArray::from_iter_primitive::<Int32Type, _, _>(lists.clone())).bytes();
    assert_eq!(encode_column(LargeListArray::from_iter_primitive::<Int32Type, _, _>(lists.clone())).bytes(), expected);
    assert_eq!(encode_column(ListViewArray::from_iter_primitive::<Int32Type, _, _>(lists)).bytes(), expected);
}
