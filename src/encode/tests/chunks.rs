//! The bounds of chunks and of memory.

use super::*;

const KIB: usize = 1 << 10;

#[test]
fn narrow_rows_fill_chunks_across_batches() {
    let batch = batch(vec![("id", ids(10_000))]);
    let mapping = plan_columns(batch.schema_ref(), &ColumnRules::default(), &key(&["id"])).unwrap();
    let mut encoder = RowEncoder::new(&mapping);
    let mut sizes = Vec::new();
    let mut sink = |chunk: Bytes| {
        sizes.push(chunk.len());
        Ok(())
    };
    for _ in 0..10 {
        encoder.encode(&mapping.prepare(&batch).unwrap(), &mut FailOnBadRow, &mut sink).unwrap();
    }
    encoder.finish(&mut sink).unwrap();
    assert_eq!(sizes.iter().sum::<usize>(), 100_000 * 14);
    let (last, full) = sizes.split_last().unwrap();
    assert!(full.iter().all(|size| (256 * KIB..=1024 * KIB).contains(size)), "{sizes:?}");
    assert!(*last <= 1024 * KIB);
}

#[test]
fn no_chunk_is_larger_than_a_mebibyte_whatever_the_row() {
    let lengths = [10, 3_000_000, 0, 900_000, 900_000, 20, 1 << 20, 5];
    let texts: Vec<String> = lengths.iter().map(|&length| "x".repeat(length)).collect();
    let encoded = encode_column(StringArray::from(texts));
    assert!(encoded.chunks.iter().all(|chunk| chunk.len() <= 1024 * KIB));
    assert_eq!(encoded.bytes().len(), lengths.iter().sum::<usize>() + lengths.len() * 18);
}

#[test]
fn rendered_columns_are_staged_in_bounds_and_lose_nothing() {
    let texts: Vec<String> = (0..40).map(|row| format!("{row}").repeat(100_000)).collect();
    let structs = StructArray::from(batch(vec![("a", Arc::new(StringArray::from(texts.clone())))]));
    let numbers = Decimal128Array::from_iter_values(0..40).with_precision_and_scale(10, 2).unwrap();
    let encoded = encode(&batch(vec![("id", ids(40)), ("n", Arc::new(numbers)), ("c", Arc::new(structs))]));
    assert_eq!(encoded.rows.rows, 40);
    let bytes = encoded.bytes();
    let mut rest = bytes.as_slice();
    for (row, text) in texts.iter().enumerate() {
        let needle = format!("{{\"a\":\"{text}\"}}");
        let at = rest.windows(6).position(|window| window == b"{\"a\":\"").unwrap();
        assert!(rest[at..].starts_with(needle.as_bytes()), "row {row}");
        rest = &rest[at + needle.len()..];
    }
}

#[test]
fn an_error_of_the_sink_ends_the_encoding() {
    let batch = batch(vec![("id", ids(100_000))]);
    let mapping = plan_columns(batch.schema_ref(), &ColumnRules::default(), &key(&["id"])).unwrap();
    let prepared = mapping.prepare(&batch).unwrap();
    let mut sink = |_| Err(Error::new(Code::ConnectionLost, "gone"));
    let error = RowEncoder::new(&mapping).encode(&prepared, &mut FailOnBadRow, &mut sink).unwrap_err();
    assert_eq!(error.code(), Code::ConnectionLost);
}

#[test]
fn a_batch_of_another_mapping_is_refused() {
    let one = batch(vec![("id", ids(1))]);
    let two = batch(vec![("other", ids(1))]);
    let mapping = plan_columns(one.schema_ref(), &ColumnRules::default(), &key(&["id"])).unwrap();
    assert_eq!(mapping.prepare(&two).unwrap_err().code(), Code::Internal);
}
