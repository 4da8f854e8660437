//! Rows as text, for comparing what two readers make of the same data.

use std::collections::BTreeMap;
use std::path::Path;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use lakegate::domain::{DeltaSource, Error, Result, SourceSpec, StorageOptions};
use lakegate::source::{Scan, Source, SourceContext};

/// How often each row occurs.
pub(crate) type RowCounts = BTreeMap<String, u64>;

/// Bytes that scans in tests may use.
pub(crate) const BUDGET: u64 = 64 * 1024 * 1024;

/// A context without project and environment.
pub(crate) fn context() -> SourceContext {
    SourceContext { project_dir: "/".into(), env: BTreeMap::new() }
}

/// The source at a local path.
pub(crate) fn local(path: &Path) -> SourceSpec {
    SourceSpec::Auto(path.to_str().unwrap().to_owned())
}

/// The Delta table at a local path, whatever is there.
pub(crate) fn local_delta(path: &Path) -> SourceSpec {
    let uri = path.to_str().unwrap().to_owned();
    SourceSpec::Delta(DeltaSource { uri, pin: None, options: StorageOptions::new() })
}

/// Drives all workers of a scan, each on its own thread, and checks what the totals promise.
pub(crate) fn drain(scan: Scan) -> Result<Vec<RecordBatch>> {
    let Scan { workers, totals, schema, .. } = scan;
    let results: Vec<Result<Vec<RecordBatch>>> = std::thread::scope(|scope| {
        let drive = |mut worker: lakegate::source::ScanWorker| {
            scope.spawn(move || {
                let mut batches = Vec::new();
                while let Some(batch) = worker.next()? {
                    batches.push(batch);
                }
                Ok(batches)
            })
        };
        let threads: Vec<_> = workers.into_iter().map(drive).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let cause = |error: &Error| error.code() != lakegate::domain::Code::Cancelled;
    let (done, failed): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    if let Some(error) = failed.into_iter().filter_map(Result::err).find(cause) {
        return Err(error);
    }
    let batches: Vec<RecordBatch> = done.into_iter().flatten().flatten().collect();
    let rows: u64 = batches.iter().map(|batch| batch.num_rows() as u64).sum();
    assert_eq!(totals.rows(), rows, "the footers' count is the number of rows");
    assert_eq!(totals.rows_yielded(), rows);
    assert!(batches.iter().all(|batch| batch.schema() == schema), "every batch has the scan's schema");
    Ok(batches)
}

/// Opens and reads a source with three workers.
pub(crate) async fn read(spec: &SourceSpec) -> Result<(Source, Vec<RecordBatch>)> {
    let source = Source::open(spec, &context()).await?;
    let scan = source.scan(None, 3, BUDGET)?;
    let batches = tokio::task::spawn_blocking(move || drain(scan)).await.unwrap()?;
    Ok((source, batches))
}

/// The rows as text, in the columns and types of `schema`.
pub(crate) fn count(batches: &[RecordBatch], schema: &SchemaRef) -> RowCounts {
    let mut counts = RowCounts::new();
    for batch in batches {
        let columns: Vec<ArrayRef> = schema.fields().iter().map(|field| column(batch, field)).collect();
        let options = FormatOptions::default().with_null("NULL");
        let formatters: Vec<_> =
            columns.iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            let values: Vec<String> = formatters.iter().map(|formatter| formatter.value(row).to_string()).collect();
            *counts.entry(values.join(" | ")).or_default() += 1;
        }
    }
    counts
}

fn column(batch: &RecordBatch, field: &Field) -> ArrayRef {
    let column = batch.column_by_name(field.name()).unwrap_or_else(|| panic!("no column {}", field.name()));
    if column.data_type() == field.data_type() || matches!(column.data_type(), DataType::Map(..)) {
        return column.clone();
    }
    arrow_cast::cast(column, field.data_type())
        .unwrap_or_else(|error| panic!("{}: {} to {}: {error}", field.name(), column.data_type(), field.data_type()))
}

/// The first differences, for messages.
pub(crate) fn difference(actual: &RowCounts, expected: &RowCounts) -> String {
    let lines = |from: &RowCounts, other: &RowCounts, sign: &str| {
        let missing = from.iter().filter(|(row, count)| other.get(*row) != Some(*count)).take(3);
        missing.map(|(row, count)| format!("\n  {sign} {count} x {row}")).collect::<String>()
    };
    format!("{}{}", lines(actual, expected, "+"), lines(expected, actual, "-"))
}

/// A schema of bare names and types, for comparing with readers that know no metadata.
pub(crate) fn bare(schema: &Schema) -> SchemaRef {
    let fields: Vec<Field> =
        schema.fields().iter().map(|field| Field::new(field.name(), field.data_type().clone(), true)).collect();
    Schema::new(fields).into()
}
