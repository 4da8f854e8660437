//! What becomes of values on their way from a Parquet file to the published table, as the pipeline's rules have it.

mod bad_rows;
mod columns;
mod duplicates;
mod logical_types;
mod round_trip;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;

use crate::support::project::TestProject;

/// Writes a batch to a Parquet file; the folder is made.
fn write_parquet(path: &Path, batch: &RecordBatch) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

/// A project with a pipeline `items` over these columns, in one Parquet file; `rules` are added to the pipeline.
async fn items(columns: Vec<(&str, ArrayRef)>, rules: &str) -> TestProject {
    let project = TestProject::new().await;
    declare(&project, "items", columns, rules);
    project
}

/// Gives a pipeline these columns and rules, in the place of what it had.
fn declare(project: &TestProject, name: &str, columns: Vec<(&str, ArrayRef)>, rules: &str) {
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    write_parquet(&project.path(&format!("lake/{name}/rows.parquet")), &batch);
    project.pipeline(name, &format!("source: lake/{name}\n{rules}"));
}

fn longs(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

fn texts<'a>(values: impl IntoIterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

/// The first column of a query's rows.
async fn column(project: &TestProject, sql: &str) -> Vec<Option<String>> {
    let rows = project.sql().await.query(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    rows.iter().map(|row| row.get(0)).collect()
}

/// The same, of rows without nulls.
async fn texts_of(project: &TestProject, sql: &str) -> Vec<String> {
    column(project, sql).await.into_iter().map(Option::unwrap).collect()
}
