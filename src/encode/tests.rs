//! The bytes of every type, every rule about bad rows, and the bounds of chunks.

mod bad_rows;
mod chunks;
mod golden;
mod json;

use std::sync::Arc;

use arrow_array::types::{ArrowPrimitiveType, Int32Type, Int64Type};
use arrow_array::*;
use arrow_buffer::{IntervalDayTime, IntervalMonthDayNano, OffsetBuffer, i256};
use arrow_schema::{DataType, Field, Fields, Schema};
use bytes::Bytes;

use super::*;
use crate::domain::{Code, ColumnRules, Error, Result};

/// Keeps bad rows.
#[derive(Default)]
struct Kept(Vec<BadRow>);

impl BadRows for Kept {
    fn reject(&mut self, row: BadRow) -> Result<()> {
        self.0.push(row);
        Ok(())
    }
}

struct Encoded {
    chunks: Vec<Bytes>,
    rows: EncodedRows,
    bad: Vec<BadRow>,
}

impl Encoded {
    fn bytes(&self) -> Vec<u8> {
        self.chunks.concat()
    }

    fn codes(&self) -> Vec<(usize, Code)> {
        self.bad.iter().map(|bad| (bad.row, bad.code)).collect()
    }
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, array)| array).collect()).unwrap()
}

fn key(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn encode_with(batch: &RecordBatch, rules: &ColumnRules, primary_key: &[&str]) -> Encoded {
    let mapping = plan_columns(batch.schema_ref(), rules, &key(primary_key)).unwrap();
    let mut encoder = RowEncoder::new(&mapping);
    let mut chunks = Vec::new();
    let mut sink = |chunk: Bytes| {
        chunks.push(chunk);
        Ok(())
    };
    let mut bad = Kept::default();
    let rows = encoder.encode(&mapping.prepare(batch).unwrap(), &mut bad, &mut sink).unwrap();
    encoder.finish(&mut sink).unwrap();
    assert_eq!(chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>(), rows.bytes);
    assert_eq!(rows.rows as usize + rows.rejected.len(), batch.num_rows());
    assert_eq!(rows.rejected, bad.0.iter().map(|bad| bad.row).collect::<Vec<_>>());
    Encoded { chunks, rows, bad: bad.0 }
}

fn encode(batch: &RecordBatch) -> Encoded {
    encode_with(batch, &ColumnRules::default(), &["id"])
}

fn ids(count: i64) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(0..count))
}

/// Encodes rows with this second column besides an `id`.
fn encode_column(values: impl Array + 'static) -> Encoded {
    encode(&batch(vec![("id", ids(values.len() as i64)), ("c", Arc::new(values))]))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn decimal(unscaled: i128, precision: u8, scale: i8) -> Decimal128Array {
    // Unlike `with_precision_and_scale`, this allows a scale above the precision, which files may have.
    Decimal128Array::from(vec![unscaled]).with_data_type(DataType::Decimal128(precision, scale))
}

fn wide_decimal(unscaled: &str, precision: u8, scale: i8) -> Decimal256Array {
    let values = vec![i256::from_string(unscaled).unwrap()];
    Decimal256Array::from(values).with_precision_and_scale(precision, scale).unwrap()
}

fn list<T: ArrowPrimitiveType>(items: Vec<Option<T::Native>>) -> ListArray {
    ListArray::from_iter_primitive::<T, _, _>(vec![Some(items)])
}
