//! Real Delta tables by Spark, Databricks and others, where the environment says they are, and what is known of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use lakegate::domain::Code;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};

const VARIABLE: &str = "LAKEGATE_TEST_LAKE_TABLES";

/// Tables that are broken on purpose or need what is not supported, and how they are refused.
pub(crate) const REFUSED: &[(&str, Code)] = &[
    ("golden/deltalog-commit-info/delta", Code::SourceCorrupt),
    ("golden/deltalog-invalid-protocol-version/delta", Code::UnsupportedFeature),
    ("golden/deltalog-state-reconstruction-without-protocol/delta", Code::SourceCorrupt),
    ("golden/versions-not-contiguous/delta", Code::SourceCorrupt),
    ("features/table-with-geo", Code::UnsupportedFeature),
];

/// Tables whose log lists data files that are not in the folder: their state is read, their rows cannot be.
pub(crate) const WITHOUT_DATA: &[&str] = &[
    "features/300k-add-files-100-col-partitioned",
    "features/app-txn-with-last-updated",
    "features/with_checkpoint_no_last_checkpoint",
];

/// Columns whose expected values nobody can know from the table: its partition values are timestamps in the local time
/// of whoever wrote them, which the log does not name. They count as UTC, as in the kernel.
pub(crate) const LOCAL_TIME: &[(&str, &str)] = &[("golden/data-reader-partition-values/delta", "as_timestamp")];

/// One of the tables.
pub(crate) struct RealTable {
    /// Its folder below the root.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

/// All tables, in order; `None`, with a line that says so, where the environment names no folder of them.
pub(crate) fn find() -> Option<Vec<RealTable>> {
    let Some(root) = std::env::var_os(VARIABLE).map(PathBuf::from) else {
        println!("not run: {VARIABLE} does not name a folder of Delta tables");
        return None;
    };
    let paths = tables_below(&root);
    assert!(!paths.is_empty(), "no table below {}", root.display());
    let name = |path: &Path| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
    Some(paths.into_iter().map(|path| RealTable { name: name(&path), path }).collect())
}

/// Folders with a `_delta_log`.
fn tables_below(root: &Path) -> Vec<PathBuf> {
    if root.join("_delta_log").is_dir() {
        return vec![root.to_owned()];
    }
    let mut folders: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    folders.iter().flat_map(|folder| tables_below(folder)).collect()
}

impl RealTable {
    /// How the table is refused, if it is.
    pub(crate) fn refusal(&self) -> Option<Code> {
        REFUSED.iter().find(|(name, _)| *name == self.name).map(|(_, code)| *code)
    }

    /// Whether the table's data files are absent.
    pub(crate) fn is_without_data(&self) -> bool {
        WITHOUT_DATA.contains(&self.name.as_str())
    }

    /// Columns whose expected values count for nothing.
    pub(crate) fn unknown_columns(&self) -> Vec<&'static str> {
        LOCAL_TIME.iter().filter(|(name, _)| *name == self.name).map(|(_, column)| *column).collect()
    }

    /// The expected rows, where there are any, read without any code of ours.
    pub(crate) fn expected(&self) -> Option<Vec<RecordBatch>> {
        let folder = self.path.parent().unwrap().join("expected");
        if !folder.is_dir() {
            return None;
        }
        let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "parquet"));
        Some(files.iter().flat_map(|file| read_parquet(file)).collect())
    }
}

fn read_parquet(path: &Path) -> Vec<RecordBatch> {
    let file = fs::File::open(path).unwrap();
    let plain = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).unwrap();
    // Spark writes timestamps as INT96, which Arrow reads in nanoseconds unless told otherwise.
    let micros = plain.schema().fields().iter().map(|field| match field.data_type() {
        DataType::Timestamp(TimeUnit::Nanosecond, None) => {
            Field::new(field.name(), DataType::Timestamp(TimeUnit::Microsecond, None), field.is_nullable())
        }
        _ => field.as_ref().clone(),
    });
    let schema = Arc::new(Schema::new(micros.collect::<Vec<_>>()));
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true).with_schema(schema);
    let reader = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options).unwrap().build().unwrap();
    reader.map(|batch| batch.unwrap()).collect()
}
