//! The files of one version of a Delta table.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef, MapArray, RecordBatch, StructArray};
use delta_kernel::Engine;
use delta_kernel::actions::deletion_vector::DeletionVectorDescriptor;
use delta_kernel::engine::arrow_data::EngineDataArrowExt;
use delta_kernel::schema::{DataType, PrimitiveType};
use object_store::path::Path;
use serde::Deserialize;
use url::Url;

use crate::domain::{Code, Error, Result};

use crate::source::cast::cast;
use crate::source::data_file::{DataFile, Deleted};
use crate::source::failure::{corrupt, without_query};
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
    let mut listing = Listing {
        table,
        location,
        place: &place,
        partition_columns: partition_types(table, partition_columns, &place)?,
        values: HashMap::new(),
        files: Vec::new(),
    };
    for metadata in scan.scan_metadata(table.engine.as_ref()).map_err(failed)? {
        let rows = metadata.and_then(|metadata| metadata.scan_files.apply_selection_vector());
        let rows = rows.and_then(EngineDataArrowExt::try_into_record_batch).map_err(failed)?;
        listing.add(&rows)?;
    }
    Ok(listing.files)
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

/// Collects the files from the batches of the log.
struct Listing<'a> {
    table: &'a Table,
    location: &'a Location,
    place: &'a str,
    partition_columns: Vec<PartitionColumn>,
    /// Partition values by column and text: few values serve many files.
    values: HashMap<(usize, Option<String>), ArrayRef>,
    files: Vec<DataFile>,
}

impl Listing<'_> {
    fn add(&mut self, rows: &RecordBatch) -> Result<()> {
        let rows = StructArray::from(rows.clone());
        let paths = column(&rows, "path")?.as_string::<i32>();
        let sizes = column(&rows, "size")?.as_primitive::<Int64Type>();
        let statistics = column(&rows, "stats")?.as_string::<i32>();
        let vectors = column(&rows, "deletionVector")?.as_struct();
        let constants = column(&rows, "fileConstantValues")?.as_struct();
        let partitions = column(constants, "partitionValues")?.as_map();
        for row in (0..rows.len()).filter(|&row| paths.is_valid(row)) {
            let name = paths.value(row);
            let size = u64::try_from(sizes.value(row));
            let size = size.map_err(|_| corrupt(self.place, format!("the log gives `{name}` a negative size")))?;
            let recorded = statistics.is_valid(row).then(|| serde_json::from_str::<Statistics>(statistics.value(row)));
            let deleted = vectors.is_valid(row).then(|| self.deleted(vectors, row)).transpose()?;
            let (path, name) = self.resolve(name)?;
            let constants = self.partition_values(partitions, row)?;
            self.files.push(DataFile {
                path,
                name,
                size,
                // Statistics that cannot be read are as good as none: they are optional.
                rows: recorded.and_then(|statistics| statistics.ok()?.num_records),
                deleted,
                constants,
            });
        }
        Ok(())
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

    fn deleted(&self, vectors: &StructArray, row: usize) -> Result<Deleted> {
        let kind = column(vectors, "storageType")?.as_string::<i32>().value(row);
        let vector = column(vectors, "pathOrInlineDv")?.as_string::<i32>().value(row);
        let offset = column(vectors, "offset")?.as_primitive::<Int32Type>();
        let offset = offset.is_valid(row).then(|| offset.value(row));
        let size = column(vectors, "sizeInBytes")?.as_primitive::<Int32Type>().value(row);
        let count = column(vectors, "cardinality")?.as_primitive::<Int64Type>().value(row);
        if kind == "i" && vector.len() < INLINE_MIN {
            return Err(corrupt(self.place, "an inline deletion vector is too short"));
        }
        let kind = kind.parse().map_err(|error| kernel_error(error, self.place))?;
        let descriptor = DeletionVectorDescriptor::try_new(kind, vector, offset, size, count)
            .map_err(|error| kernel_error(error, self.place))?;
        let (engine, root) = (Arc::clone(&self.table.engine), self.table.root.clone());
        let positions = move || read_deleted(&descriptor, engine.as_ref(), &root);
        // The descriptor has just been found to count no fewer than no rows.
        Ok(Deleted { count: count.unsigned_abs(), positions: Box::new(positions) })
    }

    fn partition_values(&mut self, partitions: &MapArray, row: usize) -> Result<Box<[ArrayRef]>> {
        let entries = if partitions.is_valid(row) { Some(partitions.value(row)) } else { None };
        let mut values = Vec::with_capacity(self.partition_columns.len());
        for (index, column) in self.partition_columns.iter().enumerate() {
            let text = entries.as_ref().and_then(|entries| lookup(entries, &column.name));
            let key = (index, text);
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

fn read_deleted(descriptor: &DeletionVectorDescriptor, engine: &dyn Engine, root: &Url) -> Result<Vec<u64>> {
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
