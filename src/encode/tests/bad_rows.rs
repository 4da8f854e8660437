//! Every rule about bad rows.

use super::*;

#[test]
fn text_with_nul() {
    let encoded = encode_column(StringArray::from(vec!["fine", "a\0b", "fine"]));
    assert_eq!(encoded.codes(), [(1, Code::NulInText)]);
    assert_eq!(encoded.rows.rows, 2);
    let views = StringViewArray::from(vec!["fine", "longer than twelve bytes\0"]);
    assert_eq!(encode_column(views).codes(), [(1, Code::NulInText)]);
    // A binary may contain it.
    assert_eq!(encode_column(BinaryArray::from(vec![&b"a\0b"[..]])).codes(), []);
}

#[test]
fn good_rows_around_bad_ones_are_what_they_would_be_without_them() {
    let texts = ["\0", "a", "b", "\0", "\0", "c", "\0"];
    let with = encode_column(StringArray::from(texts.to_vec()));
    assert_eq!(with.rows.rejected, [0, 3, 4, 6]);
    let good = batch(vec![
        ("id", Arc::new(Int64Array::from(vec![1, 2, 5]))),
        ("c", Arc::new(StringArray::from(vec!["a", "b", "c"]))),
    ]);
    assert_eq!(with.bytes(), encode(&good).bytes());
}

#[test]
fn nulls_where_the_source_declared_none() {
    let declared = Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("c", DataType::Int64, false)]);
    let mapping = plan_columns(&declared, &ColumnRules::default(), &key(&["id"])).unwrap();
    let found = batch(vec![("id", ids(2)), ("c", Arc::new(Int64Array::from(vec![Some(1), None])))]);
    let mut bad = Kept::default();
    let prepared = mapping.prepare(&found).unwrap();
    RowEncoder::new(&mapping).encode(&prepared, &mut bad, &mut |_| Ok(())).unwrap();
    assert_eq!(bad.0.iter().map(|bad| (bad.row, bad.code)).collect::<Vec<_>>(), [(1, Code::UnexpectedNull)]);
}

#[test]
fn nulls_in_the_key() {
    let batch = batch(vec![("id", Arc::new(Int64Array::from(vec![Some(1), None]))), ("c", ids(2))]);
    let encoded = encode(&batch);
    assert_eq!(encoded.codes(), [(1, Code::NullKey)]);
    assert_eq!(encoded.bad[0].key, [("id".to_owned(), None)]);
    assert_eq!(encoded.bad[0].column.as_deref(), Some("id"));
}

#[test]
fn keys_too_long_for_an_index() {
    let text = |length: usize| "k".repeat(length);
    let (half, rest) = (text(1_300), vec![text(1_300), text(1_301)]);
    let batch = batch(vec![
        ("a", Arc::new(StringArray::from(vec![half.as_str(), half.as_str()]))),
        ("b", Arc::new(StringArray::from(rest))),
    ]);
    let encoded = encode_with(&batch, &ColumnRules::default(), &["a", "b"]);
    assert_eq!(encoded.codes(), [(1, Code::KeyTooLong)]);
    assert_eq!(encoded.bad[0].column, None);
    let shown = encoded.bad[0].key[0].1.as_deref().unwrap();
    assert!(shown.len() < 250 && shown.ends_with("(1300 bytes)"), "{shown}");
}

#[test]
fn values_out_of_range_and_finer_than_a_microsecond() {
    assert_eq!(encode_column(Date32Array::from(vec![0, i32::MAX])).codes(), [(1, Code::OutOfRange)]);
    let instants = TimestampMicrosecondArray::from(vec![i64::MIN, 0]);
    assert_eq!(encode_column(instants).codes(), [(0, Code::OutOfRange)]);
    assert_eq!(encode_column(TimestampNanosecondArray::from(vec![1])).codes(), [(0, Code::LossyCast)]);
    assert_eq!(encode_column(Time64NanosecondArray::from(vec![1])).codes(), [(0, Code::LossyCast)]);
    assert_eq!(encode_column(Time32SecondArray::from(vec![-1])).codes(), [(0, Code::OutOfRange)]);
    assert_eq!(encode_column(Date64Array::from(vec![1])).codes(), [(0, Code::LossyCast)]);
    let lists = ListArray::from_iter_primitive::<arrow_array::types::Date32Type, _, _>(vec![
        Some(vec![Some(0)]),
        Some(vec![Some(0), Some(i32::MIN)]),
    ]);
    assert_eq!(encode_column(lists).codes(), [(1, Code::OutOfRange)]);
}

#[test]
fn casts_that_lose_something_show_the_value_before_the_cast() {
    let values = batch(vec![("id", ids(2)), ("c", Arc::new(StringArray::from(vec!["12", "12.5"])))]);
    let rules = ColumnRules { types: [("c".to_owned(), "bigint".to_owned())].into(), ..ColumnRules::default() };
    let encoded = encode_with(&values, &rules, &["id"]);
    assert_eq!(encoded.codes(), [(1, Code::LossyCast)]);
    assert!(encoded.bad[0].reason.ends_with(": 12.5"), "{}", encoded.bad[0].reason);
    // In the key, the cast is what is wrong, not the null that it left.
    let rules = ColumnRules { types: [("c".to_owned(), "bigint".to_owned())].into(), ..ColumnRules::default() };
    assert_eq!(encode_with(&values, &rules, &["c"]).codes(), [(1, Code::LossyCast)]);
}

#[test]
fn rows_that_fit_no_page() {
    let columns = |width: usize| {
        let names: Vec<String> = (0..1_000).map(|at| format!("c{at}")).collect();
        let text: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(width)]));
        let mut columns = vec![("id", ids(1))];
        columns.extend(names.iter().map(|name| (name.as_str(), Arc::clone(&text))));
        encode(&batch(columns)).codes()
    };
    assert_eq!(columns(6), []);
    assert_eq!(columns(8), [(0, Code::RowTooLarge)]);
    assert_eq!(columns(10_000), [(0, Code::RowTooLarge)]);
}

#[test]
fn the_policy_may_end_the_encoding() {
    let batch = batch(vec![("id", ids(2)), ("c", Arc::new(StringArray::from(vec!["a", "b\0"])))]);
    let mapping = plan_columns(batch.schema_ref(), &ColumnRules::default(), &key(&["id"])).unwrap();
    let prepared = mapping.prepare(&batch).unwrap();
    let error = RowEncoder::new(&mapping).encode(&prepared, &mut FailOnBadRow, &mut |_| Ok(())).unwrap_err();
    assert_eq!(error.code(), Code::NulInText);
    assert!(error.detail().starts_with("column `c` of the row with id = 1: "), "{}", error.detail());
}
