//! Small Delta tables for tests, written by delta-rs, which shares no reading code with us.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use datafusion::prelude::{SessionContext, col};
use deltalake::DeltaTable;
use deltalake::kernel::StructType;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::operations::write::SchemaMode;
use deltalake::protocol::SaveMode;
use url::Url;

/// A Delta table in a local folder. Every call makes one commit.
pub(crate) struct LakeTable {
    table: DeltaTable,
}

impl LakeTable {
    /// Creates the folder and the table, and writes the batches, if there are any, as version 1.
    pub(crate) async fn create(dir: &Path, schema: &SchemaRef, batches: Vec<RecordBatch>) -> LakeTable {
        LakeTable::create_with(dir, schema, batches, &[], &[]).await
    }

    /// The table that is in a folder.
    pub(crate) async fn open(dir: &Path) -> LakeTable {
        LakeTable { table: deltalake::open_table(Url::from_directory_path(dir).unwrap()).await.unwrap() }
    }

    /// As [`LakeTable::create`], with partition columns and table properties (`delta.enableDeletionVectors`, …).
    pub(crate) async fn create_with(
        dir: &Path,
        schema: &SchemaRef,
        batches: Vec<RecordBatch>,
        partition_columns: &[&str],
        properties: &[(&str, &str)],
    ) -> LakeTable {
        std::fs::create_dir_all(dir).unwrap();
        let table = DeltaTable::try_from_url(Url::from_directory_path(dir).unwrap()).await.unwrap();
        let columns: StructType = schema.as_ref().try_into_kernel().unwrap();
        let properties: HashMap<String, Option<String>> =
            properties.iter().map(|(key, value)| ((*key).to_owned(), Some((*value).to_owned()))).collect();
        let table = table
            .create()
            .with_columns(columns.fields().cloned())
            .with_partition_columns(partition_columns.iter().copied())
            .with_configuration(properties)
            .await
            .unwrap();
        let mut table = LakeTable { table };
        if !batches.is_empty() {
            table.append(batches).await;
        }
        table
    }

    /// Adds rows.
    pub(crate) async fn append(&mut self, batches: Vec<RecordBatch>) {
        self.table = self.table.clone().write(batches).with_save_mode(SaveMode::Append).await.unwrap();
    }

    /// Replaces all rows.
    pub(crate) async fn overwrite(&mut self, batches: Vec<RecordBatch>) {
        self.table = self.table.clone().write(batches).with_save_mode(SaveMode::Overwrite).await.unwrap();
    }

    /// Replaces all rows and the columns.
    pub(crate) async fn replace(&mut self, batches: Vec<RecordBatch>) {
        let write = self.table.clone().write(batches).with_save_mode(SaveMode::Overwrite);
        self.table = write.with_schema_mode(SchemaMode::Overwrite).await.unwrap();
    }

    /// Sets a column to the value of an SQL expression in the rows where the SQL condition holds.
    pub(crate) async fn update(&mut self, column: &str, value: &str, condition: &str) {
        let update = self.table.clone().update().with_predicate(condition).with_update(column, value);
        self.table = update.await.unwrap().0;
    }

    /// Deletes the rows where the SQL condition holds.
    pub(crate) async fn delete(&mut self, condition: &str) {
        self.table = self.table.clone().delete().with_predicate(condition).await.unwrap().0;
    }

    /// Updates the rows whose `id` the batch has, and adds its other rows.
    pub(crate) async fn upsert(&mut self, batch: RecordBatch) {
        let columns: Vec<String> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
        let source = SessionContext::new().read_batch(batch).unwrap();
        let merge = self.table.clone().merge(source, col("t.id").eq(col("s.id")));
        let merge = merge.with_source_alias("s").with_target_alias("t");
        let from_source = |column: &String| format!("s.{column}");
        let merge = merge
            .when_matched_update(|update| {
                columns.iter().fold(update, |update, column| update.update(column.as_str(), from_source(column)))
            })
            .unwrap();
        let merge = merge
            .when_not_matched_insert(|insert| {
                columns.iter().fold(insert, |insert, column| insert.set(column.as_str(), from_source(column)))
            })
            .unwrap();
        self.table = merge.await.unwrap().0;
    }

    /// Puts the rows of small files into few.
    pub(crate) async fn optimize(&mut self) {
        self.table = self.table.clone().optimize().await.unwrap().0;
    }

    /// Brings the rows of an earlier version back.
    pub(crate) async fn restore(&mut self, version: u64) {
        self.table = self.table.clone().restore().with_version_to_restore(version).await.unwrap().0;
    }

    /// Adds rows with further columns.
    pub(crate) async fn append_columns(&mut self, batches: Vec<RecordBatch>) {
        let write = self.table.clone().write(batches).with_save_mode(SaveMode::Append);
        self.table = write.with_schema_mode(SchemaMode::Merge).await.unwrap();
    }

    /// Writes a checkpoint of the newest version.
    pub(crate) async fn checkpoint(&self) {
        deltalake::checkpoints::create_checkpoint(&self.table, None).await.unwrap();
    }

    /// Learns of commits that were made by other means.
    pub(crate) async fn reload(&mut self) {
        self.table.load().await.unwrap();
    }

    /// The newest version.
    pub(crate) fn version(&self) -> u64 {
        self.table.version().unwrap()
    }

    /// One row group of integers `0..rows` in column `id`, and its text in column `name`.
    pub(crate) fn numbered(rows: std::ops::Range<i64>) -> (SchemaRef, RecordBatch) {
        let ids: arrow_array::ArrayRef = Arc::new(arrow_array::Int64Array::from_iter_values(rows.clone()));
        let names = rows.map(|row| format!("row {row}"));
        let names: arrow_array::ArrayRef = Arc::new(arrow_array::StringArray::from_iter_values(names));
        let batch = RecordBatch::try_from_iter([("id", ids), ("name", names)]).unwrap();
        (batch.schema(), batch)
    }
}
