//! What other writers do to a Delta table and delta-rs does not: rows marked as deleted by deletion vectors. The log is
//! written by hand, after the Delta protocol.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use roaring::RoaringTreemap;
use serde_json::{Value, json};

/// The number that a serialised deletion vector begins with.
const MAGIC: u32 = 1_681_511_377;

/// A Delta table in a local folder, seen as its log. It must not have a checkpoint.
pub(crate) struct DeltaLog {
    dir: PathBuf,
    /// The column, a `bigint`, by which rows are chosen.
    column: &'static str,
}

impl DeltaLog {
    pub(crate) fn of(dir: &Path) -> DeltaLog {
        DeltaLog { dir: dir.to_owned(), column: "id" }
    }

    /// Chooses rows by this column instead of `id`.
    pub(crate) fn by(self, column: &'static str) -> DeltaLog {
        DeltaLog { column, ..self }
    }

    fn commit_file(&self, version: u64) -> PathBuf {
        self.dir.join("_delta_log").join(format!("{version:020}.json"))
    }

    /// The newest version.
    pub(crate) fn version(&self) -> u64 {
        (0..).take_while(|version| self.commit_file(*version).exists()).last().unwrap()
    }

    /// The actions of one commit.
    pub(crate) fn actions(&self, version: u64) -> Vec<Value> {
        let commit = std::fs::read_to_string(self.commit_file(version)).unwrap();
        commit.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Writes the next commit.
    pub(crate) fn commit(&self, actions: &[Value]) {
        self.replace(self.version() + 1, actions);
    }

    /// Changes what a commit says.
    pub(crate) fn amend(&self, version: u64, change: impl Fn(&mut Value)) {
        let mut actions = self.actions(version);
        actions.iter_mut().for_each(change);
        self.replace(version, &actions);
    }

    /// Writes a commit anew.
    pub(crate) fn replace(&self, version: u64, actions: &[Value]) {
        let lines: Vec<String> = actions.iter().map(Value::to_string).collect();
        std::fs::write(self.commit_file(version), lines.join("\n")).unwrap();
    }

    /// The files of the newest version, as they were added.
    pub(crate) fn files(&self) -> BTreeMap<String, Value> {
        let mut files = BTreeMap::new();
        for version in 0..=self.version() {
            let actions = self.actions(version);
            for action in &actions {
                if let Some(path) = action["remove"]["path"].as_str() {
                    files.remove(path);
                }
            }
            for action in &actions {
                if let Some(path) = action["add"]["path"].as_str() {
                    files.insert(path.to_owned(), action["add"].clone());
                }
            }
        }
        files
    }

    /// In one commit: marks the rows whose number in the column is wanted as deleted, and adds a file of new rows if there are any, to
    /// the partition of these values.
    pub(crate) fn mark_and_add(&self, gone: impl Fn(i64) -> bool, new: Option<&RecordBatch>) {
        self.mark_add_and_tell(gone, new, None);
    }

    /// The same with a file of changes: what happened to each row stands in the column `_change_type`.
    pub(crate) fn mark_add_and_tell(
        &self,
        gone: impl Fn(i64) -> bool,
        new: Option<&RecordBatch>,
        changes: Option<&RecordBatch>,
    ) {
        let mut actions = vec![json!({"commitInfo": {"operation": "MERGE", "timestamp": 1_700_000_000_000_i64}})];
        for (path, add) in self.files() {
            let mut marked = marks(&add);
            let before = marked.len();
            let ids = self.ids(&path);
            marked.extend((0_u64..).zip(&ids).filter(|(_, id)| gone(**id)).map(|(position, _)| position));
            if marked.len() == before {
                continue;
            }
            let mut removed = json!({
                "path": path, "deletionTimestamp": 1_700_000_000_000_i64, "dataChange": true,
                "extendedFileMetadata": true, "partitionValues": add["partitionValues"], "size": add["size"],
            });
            if !add["deletionVector"].is_null() {
                removed["deletionVector"] = add["deletionVector"].clone();
            }
            actions.push(json!({"remove": removed}));
            if marked.len() < ids.len() as u64 {
                let mut added = add.clone();
                added["deletionVector"] = vector(&marked);
                added["dataChange"] = json!(true);
                added["stats"] = json!(json!({"numRecords": ids.len(), "tightBounds": false}).to_string());
                actions.push(json!({"add": added}));
            }
        }
        if let Some(batch) = new.filter(|batch| batch.num_rows() > 0) {
            actions.push(json!({"add": self.write(batch)}));
        }
        if let Some(batch) = changes {
            actions.push(json!({"cdc": self.change_file(batch)}));
        }
        self.commit(&actions);
    }

    /// Writes a file of rows; returns how a commit adds it.
    pub(crate) fn write(&self, batch: &RecordBatch) -> Value {
        let mut file = self.file("", batch);
        file["modificationTime"] = json!(1_700_000_000_000_i64);
        file["stats"] = json!(json!({"numRecords": batch.num_rows()}).to_string());
        file["dataChange"] = json!(true);
        file
    }

    /// Writes a file of changes, with the column `_change_type`: returns how a commit names it (`cdc`).
    pub(crate) fn change_file(&self, batch: &RecordBatch) -> Value {
        std::fs::create_dir_all(self.dir.join("_change_data")).unwrap();
        let mut file = self.file("_change_data/", batch);
        file["dataChange"] = json!(false);
        file
    }

    fn file(&self, folder: &str, batch: &RecordBatch) -> Value {
        let path = format!("{folder}part-{}.parquet", uuid::Uuid::new_v4());
        let file = std::fs::File::create(self.dir.join(&path)).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(batch).unwrap();
        writer.close().unwrap();
        let size = std::fs::metadata(self.dir.join(&path)).unwrap().len();
        json!({"path": path, "partitionValues": {}, "size": size})
    }

    /// The column of every row of a file, marked ones included.
    fn ids(&self, path: &str) -> Vec<i64> {
        let file = std::fs::File::open(self.dir.join(path)).unwrap();
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let only = ProjectionMask::columns(builder.parquet_schema(), [self.column]);
        builder
            .with_projection(only)
            .build()
            .unwrap()
            .flat_map(|batch| {
                let batch = batch.unwrap();
                batch.column_by_name(self.column).unwrap().as_primitive::<Int64Type>().values().to_vec()
            })
            .collect()
    }
}

/// The rows that a file's deletion vector marks.
fn marks(add: &Value) -> RoaringTreemap {
    let Some(encoded) = add["deletionVector"]["pathOrInlineDv"].as_str() else { return RoaringTreemap::new() };
    let bytes = z85::decode(encoded).unwrap();
    RoaringTreemap::deserialize_from(&bytes[4..]).unwrap()
}

/// A deletion vector that stands in the log itself.
fn vector(marked: &RoaringTreemap) -> Value {
    let mut bytes = MAGIC.to_le_bytes().to_vec();
    marked.serialize_into(&mut bytes).unwrap();
    let size = bytes.len();
    bytes.resize(size.next_multiple_of(4), 0);
    json!({
        "storageType": "i", "pathOrInlineDv": z85::encode(&bytes), "sizeInBytes": size, "cardinality": marked.len(),
    })
}
