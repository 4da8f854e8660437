//! Made-up rows, always the same: a table for each kind of value, and one like TPC-H `lineitem`.

use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float64Array, Int32Array,
    Int64Array, ListArray, RecordBatch, StringArray, StringViewArray, StructArray, TimestampMicrosecondArray,
};
use arrow_schema::{Field, Schema};
use bytes::Bytes;
use lakegate::domain::ColumnRules;
use lakegate::encode::{Mapping, plan_columns};
use parquet::arrow::ArrowWriter;

/// As many as a reader hands on at a time.
const ROWS: i64 = 8_192;

const DAYS: i64 = 2_500;
const WORDS: [&str; 7] = ["carefully", "express", "furiously", "ironic", "packages", "quickly", "requests"];

/// A batch of a table, whose key is the first column.
pub(crate) struct Table {
    pub(crate) batch: RecordBatch,
    pub(crate) mapping: Mapping,
}

impl Table {
    /// `lineitem`, and tables of a key and a column of this kind.
    pub(crate) const NAMES: [&'static str; 15] = [
        "boolean",
        "int64",
        "int64_half_null",
        "float64",
        "decimal_15_2",
        "decimal_38_10",
        "date",
        "timestamp",
        "text",
        "text_view",
        "text_dictionary",
        "bytes",
        "list",
        "struct",
        "lineitem",
    ];

    /// One of [`Table::NAMES`].
    pub(crate) fn named(name: &str) -> Table {
        let key = || ("k", Arc::new(Int64Array::from_iter_values(0..ROWS)) as ArrayRef);
        let columns = if name == "lineitem" { lineitem() } else { vec![key(), ("v", values(name))] };
        let field = |(name, values): &(&str, ArrayRef)| Field::new(*name, values.data_type().clone(), true);
        let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
        let key = vec![columns[0].0.to_owned()];
        let mapping = plan_columns(&schema, &ColumnRules::default(), &key).expect("a table");
        let columns = columns.into_iter().map(|(_, values)| values).collect();
        Table { batch: RecordBatch::try_new(Arc::new(schema), columns).expect("columns of one length"), mapping }
    }

    /// Its rows as a Parquet file.
    pub(crate) fn parquet(&self) -> Bytes {
        let mut file = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut file, self.batch.schema(), None).expect("a schema");
        writer.write(&self.batch).expect("rows");
        writer.close().expect("a file");
        file.into()
    }
}

fn values(kind: &str) -> ArrayRef {
    match kind {
        "boolean" => Arc::new(each(|row| Some(row % 3 == 0)).collect::<BooleanArray>()),
        "int64" => integers(i64::MAX),
        "int64_half_null" => Arc::new(each(|row| (row % 2 == 0).then_some(row)).collect::<Int64Array>()),
        "float64" => Arc::new(Float64Array::from_iter_values(each(|row| scattered(row) as f64 / 1e3))),
        "decimal_15_2" => decimals(15, 2, 10_000_000),
        "decimal_38_10" => decimals(38, 10, i64::MAX),
        "date" => dates(),
        "timestamp" => {
            let values =
                TimestampMicrosecondArray::from_iter_values(each(|row| 1_700_000_000_000_000 + scattered(row)));
            Arc::new(values.with_timezone("UTC"))
        }
        "text" => Arc::new(StringArray::from_iter_values(each(text))),
        "text_view" => texts(),
        "text_dictionary" => flags(),
        "bytes" => Arc::new(BinaryArray::from_iter_values(each(|row| text(row).into_bytes()))),
        "list" => {
            let list = |row: i64| Some((0..row % 5).map(|item| Some(item as i32)).collect::<Vec<_>>());
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(each(list)))
        }
        "struct" => structs(),
        other => panic!("no table is called {other}"),
    }
}

fn lineitem() -> Vec<(&'static str, ArrayRef)> {
    vec![
        ("l_orderkey", Arc::new(Int64Array::from_iter_values(each(|row| row / 4)))),
        ("l_partkey", integers(200_000)),
        ("l_suppkey", integers(10_000)),
        ("l_linenumber", Arc::new(Int32Array::from_iter_values(each(|row| (row % 4) as i32)))),
        ("l_quantity", decimals(15, 2, 5_000)),
        ("l_extendedprice", decimals(15, 2, 10_000_000)),
        ("l_discount", decimals(15, 2, 11)),
        ("l_tax", decimals(15, 2, 9)),
        ("l_returnflag", flags()),
        ("l_linestatus", flags()),
        ("l_shipdate", dates()),
        ("l_commitdate", dates()),
        ("l_receiptdate", dates()),
        ("l_shipinstruct", flags()),
        ("l_shipmode", flags()),
        ("l_comment", texts()),
    ]
}

/// A number that looks random and is always the same.
fn scattered(row: i64) -> i64 {
    // The multiplier of Knuth's MMIX, and the upper bits, which are the better ones.
    (row.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407) >> 33).abs()
}

fn each<T>(value: impl Fn(i64) -> T) -> impl Iterator<Item = T> {
    (0..ROWS).map(value)
}

fn text(row: i64) -> String {
    let words = scattered(row) % 5 + 1;
    (0..words).map(|word| WORDS[(scattered(row + word) % 7) as usize]).collect::<Vec<_>>().join(" ")
}

fn texts() -> ArrayRef {
    Arc::new(StringViewArray::from_iter_values(each(text)))
}

fn integers(below: i64) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(each(|row| scattered(row) % below)))
}

fn decimals(precision: u8, scale: i8, below: i64) -> ArrayRef {
    let values = Decimal128Array::from_iter_values(each(|row| i128::from(scattered(row) % below)));
    Arc::new(values.with_precision_and_scale(precision, scale).expect("a decimal type"))
}

fn flags() -> ArrayRef {
    Arc::new(each(|row| Some(["A", "N", "R"][(scattered(row) % 3) as usize])).collect::<DictionaryArray<Int32Type>>())
}

fn dates() -> ArrayRef {
    Arc::new(Date32Array::from_iter_values(each(|row| 8_000 + (scattered(row) % DAYS) as i32)))
}

fn structs() -> ArrayRef {
    let field = |name: &str, values: &ArrayRef| Arc::new(Field::new(name, values.data_type().clone(), true));
    let (city, number): (ArrayRef, ArrayRef) = (Arc::new(StringArray::from_iter_values(each(text))), integers(1_000));
    Arc::new(StructArray::from(vec![(field("city", &city), city), (field("number", &number), number)]))
}
