//! The files of one version of a Delta table.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef, RecordBatch, StructArray};
use delta_kernel::Engine;
use delta_kernel::actions::deletion_vector::DeletionVectorDescriptor;
use delta_kernel::engine::arrow_data::EngineDataArrowExt;
use delta_kernel::schema::{DataType, PrimitiveType};
use object_store::path::Path;
use serde::Deserialize;
use url::Url;

use crate::domain::{Code, Error, Result};

use crate::source::cast::cast;
use crate::source::data_file::DataFile;
use crate::source::failure::{corrupt, without_query};
use crate::source::live_rows::{Positions, Rows};
use crate::source::object_store::Location;

use super::Table;
use super::failure::{kernel_error, log_error, unsupported};
use super::schema;

/// The shortest inline deletion vector, in characters: four bytes, which say its format, and a terminator.
const INLINE_MIN: usize = 5;

/// What of a file's statistics is of use here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statistics {
    num_records: Option<u64>,
}

/// A partition column: its name in the log, its type there, and the type that the source yields.
struct PartitionColumn {
    name: String,
    kernel: PrimitiveType,
    arrow: arrow_schema::DataType,
}

/// Lists the files. Blocks.
pub(super) fn list(table: &Table, location: &Location, partition_columns: &[String]) -> Result<Vec<DataFile>> {
    let place = location.display();
    let failed = |error| log_error(error, location);
    // Rows become logical in our own scan: the kernel need not work out how.
    let scan = table.snapshot.clone().scan_builder().without_row_transforms().build().map_err(failed)?;
    let mut logged = LoggedFiles::new(table, location, &place, partition_columns)?;
    let mut files = Vec::new();
    for metadata in scan.scan_metadata(table.engine.as_ref()).map_err(failed)? {
        let rows = metadata.and_then(|metadata| metadata.scan_files.apply_selection_vector());
        let rows = rows.and_then(EngineDataArrowExt::try_into_record_batch).map_err(failed)?;
        logged.list(&rows, &mut files)?;
    }
    Ok(files)
}

/// Rows in a file by its statistics. Those that cannot be read are as good as none: they are optional.
pub(super) fn recorded_rows(statistics: &str) -> Option<u64> {
    serde_json::from_str::<Statistics>(statistics).ok()?.num_records
}

/// A deletion vector as the log describes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LoggedVector {
    storage_type: String,
    path_or_inline_dv: String,
    offset: Option<i32>,
    size_in_bytes: i32,
    cardinality: i64,
}

fn partition_types(table: &Table, names: &[String], place: &str) -> Result<Vec<PartitionColumn>> {
    let mode = table.snapshot.table_configuration().column_mapping_mode();
    let schema = table.snapshot.schema();
    let targets = schema::targets(&table.snapshot, place)?;
    let columns = names.iter().map(|name| {
        let field = schema.field(name);
        let target = targets.iter().find(|target| target.field.name() == name);
        match (field.map(|field| (field, field.data_type())), target) {
            (Some((field, DataType::Primitive(kernel))), Some(target)) => Ok(PartitionColumn {
                name: field.physical_name(mode).to_owned(),
                kernel: kernel.clone(),
                arrow: target.field.data_type().clone(),
            }),
            _ => Err(corrupt(place, format!("partition column `{name}` is not a column of a simple type"))),
        }
    });
    columns.collect()
}

/// Turns what the log says of files into files that can be read.
pub(super) struct LoggedFiles<'a> {
    table: &'a Table,
    location: &'a Location,
    place: &'a str,
    partition_columns: Vec<PartitionColumn>,
    /// Partition values by column and text: few values serve many files.
    values: HashMap<(usize, Option<String>), ArrayRef>,
}

impl<'a> LoggedFiles<'a> {
    /// For files of this table, which has these partition columns.
    pub(super) fn new(table: &'a Table, location: &'a Location, place: &'a str, partitions: &[String]) -> Result<Self> {
        let partition_columns = partition_types(table, partitions, place)?;
        Ok(LoggedFiles { table, location, place, partition_columns, values: HashMap::new() })
    }

    /// The files in a batch of the kernel's list.
    fn list(&mut self, rows: &RecordBatch, files: &mut Vec<DataFile>) -> Result<()> {
        let rows = StructArray::from(rows.clone());
        let paths = column(&rows, "path")?.as_string::<i32>();
        let sizes = column(&rows, "size")?.as_primitive::<Int64Type>();
        let statistics = column(&rows, "stats")?.as_string::<i32>();
        let vectors = column(&rows, "deletionVector")?.as_struct();
        let constants = column(&rows, "fileConstantValues")?.as_struct();
        let partitions = column(constants, "partitionValues")?.as_map();
        for row in (0..rows.len()).filter(|&row| paths.is_valid(row)) {
            let live =
                if vectors.is_valid(row) { Rows::AllBut(self.marked(&vector(vectors, row)?)?) } else { Rows::All };
            let entries = if partitions.is_valid(row) { Some(partitions.value(row)) } else { None };
            let value_of = |name: &str| entries.as_ref().and_then(|entries| lookup(entries, name));
            let recorded = statistics.is_valid(row).then(|| recorded_rows(statistics.value(row))).flatten();
            files.push(self.file(paths.value(row), sizes.value(row), recorded, live, value_of)?);
        }
        Ok(())
    }

    /// A file by its path, size, recorded rows and partition values in the log.
    pub(super) fn file(
        &mut self,
        logged: &str,
        size: i64,
        rows: Option<u64>,
        live: Rows,
        partition_value: impl Fn(&str) -> Option<String>,
    ) -> Result<DataFile> {
        let size = u64::try_from(size);
        let size = size.map_err(|_| corrupt(self.place, format!("the log gives `{logged}` a negative size")))?;
        let (path, name) = self.resolve(logged)?;
        let constants = self.partition_values(partition_value)?;
        Ok(DataFile { path, name, size, rows, live, constants })
    }

    /// A path of the log: relative to the table, percent-encoded; or an address in full, in the same store.
    fn resolve(&self, logged: &str) -> Result<(Path, String)> {
        let invalid = |why: String| corrupt(self.place, format!("the log's path `{logged}`: {why}"));
        let url = self.table.root.join(logged).map_err(|error| invalid(error.to_string()))?;
        let same_scheme = url.scheme().trim_end_matches('a') == self.table.root.scheme().trim_end_matches('a');
        if !same_scheme || url.authority() != self.table.root.authority() {
            return Err(unsupported(self.place, &format!("the data file {url} is in another store than the table")));
        }
        let path = Path::from_url_path(url.path()).map_err(|error| invalid(error.to_string()))?;
        let root = format!("{}/", self.location.path);
        let name = path.as_ref().strip_prefix(&root).unwrap_or(path.as_ref()).to_owned();
        Ok((path, name))
    }

    /// The positions that a deletion vector marks.
    pub(super) fn marked(&self, vector: &LoggedVector) -> Result<Positions> {
        let count = u64::try_from(vector.cardinality).ok();
        let descriptor = self.descriptor(vector)?;
        let (engine, root) = (Arc::clone(&self.table.engine), self.table.root.clone());
        let most = count.unwrap_or(u64::MAX);
        Ok(Positions { count, most, fetch: Box::new(move || read_marked(&descriptor, engine.as_ref(), &root)) })
    }

    /// The positions that one deletion vector marks and another, if there is one, does not.
    pub(super) fn newly_marked(&self, after: &LoggedVector, before: Option<&LoggedVector>) -> Result<Positions> {
        let Some(before) = before else { return self.marked(after) };
        let most = u64::try_from(after.cardinality).unwrap_or(u64::MAX);
        let (after, before) = (self.descriptor(after)?, self.descriptor(before)?);
        let (engine, root) = (Arc::clone(&self.table.engine), self.table.root.clone());
        let fetch = move || {
            let before = read_marked(&before, engine.as_ref(), &root)?;
            let mut after = read_marked(&after, engine.as_ref(), &root)?;
            after.retain(|position| before.binary_search(position).is_err());
            Ok(after)
        };
        Ok(Positions { count: None, most, fetch: Box::new(fetch) })
    }

    fn descriptor(&self, vector: &LoggedVector) -> Result<DeletionVectorDescriptor> {
        let LoggedVector { storage_type, path_or_inline_dv, offset, size_in_bytes, cardinality } = vector;
        if storage_type == "i" && path_or_inline_dv.len() < INLINE_MIN {
            return Err(corrupt(self.place, "an inline deletion vector is too short"));
        }
        let kind = storage_type.parse().map_err(|error| kernel_error(error, self.place))?;
        DeletionVectorDescriptor::try_new(kind, path_or_inline_dv, *offset, *size_in_bytes, *cardinality)
            .map_err(|error| kernel_error(error, self.place))
    }

    fn partition_values(&mut self, value_of: impl Fn(&str) -> Option<String>) -> Result<Box<[ArrayRef]>> {
        let mut values = Vec::with_capacity(self.partition_columns.len());
        for (index, column) in self.partition_columns.iter().enumerate() {
            let key = (index, value_of(&column.name));
            let value = match self.values.get(&key) {
                Some(value) => Arc::clone(value),
                None => {
                    let value = column
                        .parse(key.1.as_deref())
                        .map_err(|why| corrupt(self.place, format!("partition column `{}`: {why}", column.name)))?;
                    self.values.insert(key, Arc::clone(&value));
                    value
                }
            };
            values.push(value);
        }
        Ok(values.into())
    }
}

/// A deletion vector from the kernel's list of files.
fn vector(vectors: &StructArray, row: usize) -> Result<LoggedVector> {
    let offset = column(vectors, "offset")?.as_primitive::<Int32Type>();
    Ok(LoggedVector {
        storage_type: column(vectors, "storageType")?.as_string::<i32>().value(row).to_owned(),
        path_or_inline_dv: column(vectors, "pathOrInlineDv")?.as_string::<i32>().value(row).to_owned(),
        offset: offset.is_valid(row).then(|| offset.value(row)),
        size_in_bytes: column(vectors, "sizeInBytes")?.as_primitive::<Int32Type>().value(row),
        cardinality: column(vectors, "cardinality")?.as_primitive::<Int64Type>().value(row),
    })
}

impl PartitionColumn {
    /// An array of one value; no text is null, and so is empty text.
    fn parse(&self, text: Option<&str>) -> Result<ArrayRef, String> {
        let scalar = self.kernel.parse_scalar(text.unwrap_or_default()).map_err(|error| error.to_string())?;
        if scalar.is_null() {
            return Ok(arrow_array::new_null_array(&self.arrow, 1));
        }
        cast(&scalar.to_array(1).map_err(|error| error.to_string())?, &self.arrow)
    }
}

fn lookup(entries: &StructArray, name: &str) -> Option<String> {
    let keys = entries.columns().first()?.as_string::<i32>();
    let values = entries.columns().get(1)?.as_string::<i32>();
    let index = (0..entries.len()).find(|&index| keys.value(index) == name)?;
    values.is_valid(index).then(|| values.value(index).to_owned())
}

fn read_marked(descriptor: &DeletionVectorDescriptor, engine: &dyn Engine, root: &Url) -> Result<Vec<u64>> {
    descriptor.row_indexes(engine.storage_handler(), root).map_err(|error| match error {
        delta_kernel::Error::FileNotFound(path) => {
            Error::new(Code::FileGone, format!("its deletion vector `{}` is gone", without_query(&path)))
                .hint("a newer version has replaced the file (VACUUM or an overwrite): the next run reads that version")
        }
        other => kernel_error(other, "the deletion vector"),
    })
}

fn column<'a>(rows: &'a StructArray, name: &str) -> Result<&'a ArrayRef> {
    rows.column_by_name(name).ok_or_else(|| Error::internal(format!("the kernel's list of files lacks `{name}`")))
}
