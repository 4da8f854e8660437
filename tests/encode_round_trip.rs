//! What is encoded is what Postgres holds: value by value, and by the row hash, which no fault of an encoder escapes.

pub(crate) mod columns;
mod faults;
mod values;

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use bytes::Bytes;
use futures::SinkExt;
use lakegate::domain::{ColumnRules, TableSchema};
use lakegate::encode::{
    Checksum, ColumnHasher, Coverage, FailOnBadRow, Mapping, RowEncoder, RowHasher, column_hash_sql, copy_header,
    copy_trailer, plan_columns, verify_sql,
};
use lakegate::postgres::{Session, quote};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use self::columns::{Kind, Raw, kinds, raw};
use crate::support::postgres::TestDatabase;

/// How many random tables are tried; more with `LAKEGATE_TEST_CASES`.
fn cases() -> u32 {
    std::env::var("LAKEGATE_TEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(12)
}

/// A batch with a column of every kind, and a key of its own.
struct Sample {
    batch: RecordBatch,
    kinds: Vec<Kind>,
    values: Vec<Vec<Option<Raw>>>,
}

impl Sample {
    fn new(values: Vec<Vec<Option<Raw>>>) -> Sample {
        let kinds = kinds();
        let rows = values[0].len();
        let mut fields = vec![Field::new("id", DataType::Int64, false)];
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from_iter_values((0..rows as i64).map(|id| id - 7)))];
        for (kind, values) in kinds.iter().zip(&values) {
            let array = kind.array(values);
            fields.push(kind.field(array.data_type()));
            columns.push(array);
        }
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        Sample { batch, kinds, values }
    }

    fn mapping(&self) -> Mapping {
        plan_columns(self.batch.schema_ref(), &ColumnRules::default(), &["id".to_owned()]).unwrap()
    }
}

fn samples(rows: impl Strategy<Value = usize>) -> impl Strategy<Value = Sample> {
    let columns = kinds().len();
    rows.prop_flat_map(move |rows| {
        prop::collection::vec(prop::collection::vec(prop::option::weighted(0.85, raw()), rows), columns)
    })
    .prop_map(Sample::new)
}

impl std::fmt::Debug for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} rows: {:?}", self.batch.num_rows(), self.values)
    }
}

/// One sample that is always the same.
fn fixed_sample(rows: usize) -> Sample {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    samples(Just(rows)).new_tree(&mut runner).unwrap().current()
}

fn encode(mapping: &Mapping, batch: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut sink = |chunk: Bytes| {
        bytes.extend_from_slice(&chunk);
        Ok(())
    };
    let mut encoder = RowEncoder::new(mapping);
    encoder.encode(&mapping.prepare(batch).unwrap(), &mut FailOnBadRow, &mut sink).unwrap();
    encoder.finish(&mut sink).unwrap();
    bytes
}

fn hash(mapping: &Mapping, batch: &RecordBatch, coverage: Coverage) -> Checksum {
    let mut hasher = RowHasher::new(mapping, coverage);
    hasher.update(&mapping.prepare(batch).unwrap(), &[]).unwrap();
    hasher.finish()
}

async fn create(session: &Session, table: &str, schema: &TableSchema) {
    let columns: Vec<String> = schema
        .columns
        .iter()
        .map(|column| {
            let not_null = if column.nullable { "" } else { " NOT NULL" };
            format!("{} {}{not_null}", quote(&column.name), column.ty.sql_name())
        })
        .collect();
    session.batch_execute(&format!("CREATE TABLE {table} ({})", columns.join(", "))).await.unwrap();
}

/// Copies rows into a table; an error of the server is a text.
async fn copy(session: &Session, table: &str, rows: Vec<u8>) -> Result<u64, String> {
    let text = |error: tokio_postgres::Error| {
        error.as_db_error().map_or_else(|| error.to_string(), |error| format!("{error}, {:?}", error.where_()))
    };
    let sink = session.copy_in::<_, Bytes>(&format!("COPY {table} FROM STDIN (FORMAT binary)")).await.map_err(text)?;
    let mut sink = std::pin::pin!(sink);
    for chunk in [copy_header(), Bytes::from(rows), copy_trailer()] {
        sink.send(chunk).await.map_err(text)?;
    }
    sink.finish().await.map_err(text)
}

async fn verify(session: &Session, table: &str, schema: &TableSchema, coverage: Coverage) -> Result<Checksum, String> {
    let statement = verify_sql(schema, table, coverage, quote);
    let text = |error: tokio_postgres::Error| format!("{error:?}");
    let rows = session.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.map_err(text)?;
    let row = session.query_one(&statement, &[]).await.map_err(text)?;
    Ok(Checksum {
        rows: rows.get::<_, i64>(0) as u64,
        hashed: row.get::<_, i64>(0) as u64,
        sum: row.get::<_, String>(1).parse().unwrap(),
    })
}

/// Compares every value by what SQL says of it.
async fn compare(session: &Session, table: &str, sample: &Sample) {
    for (kind, values) in sample.kinds.iter().zip(&sample.values) {
        let expected: Vec<Option<String>> = values.iter().map(|value| value.map(|raw| kind.text(raw))).collect();
        let column = format!("t.{}", quote(kind.name));
        let statement = format!(
            "SELECT t.id, {actual}, {expected} FROM {table} t, unnest($1::text[]) WITH ORDINALITY AS e(e, n) \
             WHERE t.id = e.n - 8 AND {actual} IS DISTINCT FROM {expected} ORDER BY 1 LIMIT 3",
            actual = kind.read.replace("$c", &column),
            expected = kind.expect.replace("$e", "e.e"),
        );
        let rows =
            session.query(&statement, &[&expected]).await.unwrap_or_else(|error| panic!("{}: {error:?}", kind.name));
        let differing: Vec<_> = rows
            .iter()
            .map(|row| (row.get::<_, i64>(0), row.get::<_, Option<String>>(1), row.get::<_, Option<String>>(2)))
            .collect();
        assert!(differing.is_empty(), "{}: (id, in Postgres, expected) {differing:?}", kind.name);
    }
}

#[tokio::test]
async fn every_value_of_every_type_arrives() {
    let database = TestDatabase::new().await;
    let session = database.client().await;
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    for case in 0..cases() {
        let sample = samples(1..60_usize).new_tree(&mut runner).unwrap().current();
        let mapping = sample.mapping();
        let table = format!("t{case}");
        create(&session, &table, &mapping.schema).await;
        let copied = copy(&session, &table, encode(&mapping, &sample.batch)).await;
        assert_eq!(copied, Ok(sample.batch.num_rows() as u64), "{sample:?}");
        compare(&session, &table, &sample).await;
        if let Some(difference) = differing_columns(&session, &table, &mapping, &sample.batch).await {
            panic!("the hashes of these columns differ: {difference:?}");
        }
        let stored = verify(&session, &table, &mapping.schema, Coverage::Full).await;
        assert_eq!(stored, Ok(hash(&mapping, &sample.batch, Coverage::Full)), "case {case}");
    }
}

/// The columns whose hashes differ between Postgres and the source.
async fn differing_columns(
    session: &Session,
    table: &str,
    mapping: &Mapping,
    batch: &RecordBatch,
) -> Option<Vec<String>> {
    let mut hasher = ColumnHasher::new(mapping);
    hasher.update(&mapping.prepare(batch).unwrap(), &[]).unwrap();
    let expected: Vec<String> = hasher.finish().iter().map(ToString::to_string).collect();
    let statement = column_hash_sql(&mapping.schema, table, quote);
    let stored: Vec<String> = session.query_one(&statement, &[]).await.unwrap().get(0);
    let columns = mapping.schema.columns.iter().zip(stored.iter().zip(&expected));
    let differing: Vec<String> =
        columns.filter(|(_, (stored, expected))| stored != expected).map(|(column, _)| column.name.clone()).collect();
    (!differing.is_empty()).then_some(differing)
}

#[tokio::test]
async fn samples_are_the_same_rows_on_both_sides_and_together_all_rows() {
    let database = TestDatabase::new().await;
    let session = database.client().await;
    let sample = fixed_sample(300);
    let keys = ["id", "u32", "decimal_money", "utf8", "date32", "timestamp_us", "boolean", "uuid", "time_us"];
    let mut columns = Vec::new();
    let mut fields = Vec::new();
    for (field, column) in sample.batch.schema_ref().fields().iter().zip(sample.batch.columns()) {
        if keys.contains(&field.name().as_str()) {
            fields.push(field.clone());
            columns.push(column.clone());
        }
    }
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let has_no_null = |row: &usize| batch.columns().iter().all(|column| column.is_valid(*row));
    let whole: arrow_array::UInt32Array =
        (0..batch.num_rows()).filter(has_no_null).map(|row| row as u32).collect::<Vec<_>>().into();
    let batch = arrow_select::take::take_record_batch(&batch, &whole).unwrap();
    let primary_key: Vec<String> = keys.iter().map(|&name| name.to_owned()).collect();
    let mapping = plan_columns(batch.schema_ref(), &ColumnRules::default(), &primary_key).unwrap();
    create(&session, "t", &mapping.schema).await;
    copy(&session, "t", encode(&mapping, &batch)).await.unwrap();
    let mut all = Checksum::default();
    for residue in 0..16 {
        let coverage = Coverage::Sampled { residue };
        let expected = hash(&mapping, &batch, coverage);
        assert_eq!(verify(&session, "t", &mapping.schema, coverage).await, Ok(expected));
        assert_eq!(expected.rows, batch.num_rows() as u64);
        all.add(&expected);
    }
    let full = hash(&mapping, &batch, Coverage::Full);
    assert_eq!((all.hashed, all.sum), (full.hashed, full.sum));
}

#[tokio::test]
async fn columns_that_came_late_are_hashed_alike_on_both_sides_and_count_for_nothing_while_they_are_null() {
    let database = TestDatabase::new().await;
    let session = database.client().await;
    let sample = fixed_sample(60);
    let whole = sample.mapping();
    create(&session, "t", &whole.schema).await;
    copy(&session, "t", encode(&whole, &sample.batch)).await.unwrap();
    // The first half of the columns was there, the other half came.
    let columns = whole.schema.columns.len();
    let there = columns / 2;
    let mut late = whole.clone();
    late.schema.columns[there..].iter_mut().for_each(|column| column.late = true);
    let expected = hash(&late, &sample.batch, Coverage::Full);
    assert_eq!(verify(&session, "t", &late.schema, Coverage::Full).await, Ok(expected));
    assert_ne!(expected.sum, hash(&whole, &sample.batch, Coverage::Full).sum);

    let mut first = whole.clone();
    first.reorder(&(0..there).collect::<Vec<_>>());
    let before = hash(&first, &sample.batch, Coverage::Full);
    assert_ne!(expected.sum, before.sum, "values in late columns count");
    let fields = sample.batch.schema_ref().fields();
    let nulls = fields.iter().zip(sample.batch.columns()).enumerate().map(|(at, (field, values))| {
        if at < there { Arc::clone(values) } else { arrow_array::new_null_array(field.data_type(), values.len()) }
    });
    let batch = RecordBatch::try_new(Arc::clone(sample.batch.schema_ref()), nulls.collect()).unwrap();
    assert_eq!(hash(&late, &batch, Coverage::Full).sum, before.sum);
}

#[tokio::test]
async fn the_hash_does_not_depend_on_settings_of_the_session() {
    let database = TestDatabase::new().await;
    let session = database.client().await;
    let sample = fixed_sample(40);
    let mapping = sample.mapping();
    create(&session, "t", &mapping.schema).await;
    copy(&session, "t", encode(&mapping, &sample.batch)).await.unwrap();
    session
        .batch_execute(
            "SET TimeZone = 'Asia/Kathmandu'; SET DateStyle = 'SQL, DMY'; SET IntervalStyle = 'iso_8601'; \
             SET extra_float_digits = -5; SET bytea_output = 'escape'; SET lc_monetary = 'C'",
        )
        .await
        .unwrap();
    let stored = verify(&session, "t", &mapping.schema, Coverage::Full).await;
    assert_eq!(stored, Ok(hash(&mapping, &sample.batch, Coverage::Full)));
}

#[tokio::test]
async fn rows_as_wide_as_a_page_allows_are_taken() {
    let database = TestDatabase::new().await;
    let session = database.client().await;
    let text: ArrayRef = Arc::new(arrow_array::StringArray::from(vec!["seven b"]));
    let mut fields = vec![Field::new("id", DataType::Int64, false)];
    fields.extend((0..988).map(|at| Field::new(format!("c{at}"), DataType::Utf8, true)));
    let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![1]))];
    columns.extend((0..988).map(|_| Arc::clone(&text)));
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let mapping = plan_columns(batch.schema_ref(), &ColumnRules::default(), &["id".to_owned()]).unwrap();
    create(&session, "t", &mapping.schema).await;
    assert_eq!(copy(&session, "t", encode(&mapping, &batch)).await, Ok(1));
}
