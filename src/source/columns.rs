//! From the columns of one file to the columns of the source.
//!
//! A file may lack columns, hold them under other names, in another order or in narrower types; partition columns are
//! not in it at all. [`FilePlan`] is worked out once a file and applied to each of its batches.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::new_null_array;
use arrow_array::{Array, ArrayRef, ListArray, MapArray, RecordBatch, RecordBatchOptions, StructArray, UInt32Array};
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow_select::take::take;
use parquet::arrow::{PARQUET_FIELD_ID_META_KEY, ProjectionMask};
use parquet::schema::types::SchemaDescriptor;
use parquet_variant_compute::{VariantArray, unshred_variant};

use super::cast::{cast, widens};

/// Field metadata key, value `"true"`, of columns and nested fields of type variant: structs of `metadata` and
/// `value`, both binary, to be read with the Parquet variant encoding.
pub const VARIANT: &str = "lakegate.variant";
/// Field metadata key of the lake's description of a column.
pub const COMMENT: &str = "comment";

/// One column of the source.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// Name, type, nullability and metadata as the source yields them.
    pub(super) field: FieldRef,
    /// Where its values are.
    pub(super) origin: Origin,
}

/// Where the values of a column are.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// In the files.
    File(FileColumn),
    /// In the file's path or in the log: one value a file, by its index among the constants of a file.
    Constant(usize),
}

/// How a column, or a field inside one, is found in a file.
#[derive(Debug, Clone)]
pub(super) struct FileColumn {
    /// Its name in files.
    pub(super) name: String,
    /// Its Parquet field id, where ids and not names decide.
    pub(super) id: Option<i32>,
    /// Of a struct its fields; of a list its element; of a map its key and value.
    pub(super) children: Vec<FileColumn>,
}

impl FileColumn {
    /// A column whose names in files are those of the source, at every level.
    pub(super) fn by_name(field: &Field) -> FileColumn {
        let children = match field.data_type() {
            DataType::Struct(fields) => fields.iter().map(|field| FileColumn::by_name(field)).collect(),
            DataType::List(element) => vec![FileColumn::by_name(element)],
            DataType::Map(entries, _) => FileColumn::by_name(entries).children,
            _ => Vec::new(),
        };
        FileColumn { name: field.name().clone(), id: None, children }
    }

    /// The position of this column among the fields of a file: by id where the field bears one, else by name.
    fn find(&self, fields: &Fields) -> Option<usize> {
        let Some(id) = self.id else {
            return fields.iter().position(|field| *field.name() == self.name);
        };
        fields.iter().position(|field| field_id(field) == Some(id)).or_else(|| {
            // Files added to the table from elsewhere may bear no ids; physical names are as unique.
            fields.iter().position(|field| field_id(field).is_none() && *field.name() == self.name)
        })
    }
}

fn field_id(field: &Field) -> Option<i32> {
    field.metadata().get(PARQUET_FIELD_ID_META_KEY)?.parse().ok()
}

/// Whether a field is marked as a variant.
pub(super) fn is_variant(field: &Field) -> bool {
    field.metadata().get(VARIANT).is_some_and(|value| value == "true")
}

/// What has to be done to each batch of one file.
#[derive(Debug)]
pub(super) struct FilePlan {
    /// The file's columns that are read.
    pub(super) mask: ProjectionMask,
    schema: SchemaRef,
    columns: Vec<(Field, ColumnPlan)>,
}

#[derive(Debug)]
enum ColumnPlan {
    /// The file's column at this position among those read.
    Read(usize, Step),
    /// Not in the file: null in every row.
    Missing,
    /// The same value, an array of one, in every row.
    Constant(ArrayRef),
}

/// What has to be done to one array.
#[derive(Debug)]
enum Step {
    Keep,
    Cast(DataType),
    /// For each field of the result: its position in the file's struct, if it is there.
    Struct(Fields, Vec<Option<(usize, Step)>>),
    List(FieldRef, Box<Step>),
    Map(FieldRef, bool, Box<Step>, Box<Step>),
    /// Shredded or not, to `metadata` and `value`.
    Variant(DataType),
}

impl FilePlan {
    /// Works out how to read the targets from a file of the given Arrow and Parquet schemas. `constants` are the file's
    /// constant values.
    ///
    /// # Errors
    /// What does not fit, with the column.
    pub(super) fn new(
        targets: &[Target],
        constants: &[ArrayRef],
        file: &Schema,
        descriptor: &SchemaDescriptor,
    ) -> Result<FilePlan, String> {
        let found: Vec<Option<usize>> = targets
            .iter()
            .map(|target| match &target.origin {
                Origin::File(_) if *target.field.data_type() == DataType::Null => None,
                Origin::File(column) => column.find(file.fields()),
                Origin::Constant(_) => None,
            })
            .collect();
        let mut roots: Vec<usize> = found.iter().flatten().copied().collect();
        roots.sort_unstable();
        roots.dedup();
        let mut columns = Vec::with_capacity(targets.len());
        for (target, found) in targets.iter().zip(found) {
            let plan = match (&target.origin, found) {
                (Origin::Constant(index), _) => ColumnPlan::Constant(
                    constants
                        .get(*index)
                        .cloned()
                        .ok_or_else(|| format!("column `{}` has no value", target.field.name()))?,
                ),
                (Origin::File(column), Some(root)) => {
                    let step = Step::new(&target.field, file.field(root), column)?;
                    ColumnPlan::Read(roots.partition_point(|&other| other < root), step)
                }
                (Origin::File(_), None) if !target.field.is_nullable() => {
                    return Err(format!(
                        "column `{}` is declared never null but is not in the file",
                        target.field.name()
                    ));
                }
                (Origin::File(_), None) => ColumnPlan::Missing,
            };
            columns.push((target.field.as_ref().clone(), plan));
        }
        let fields: Fields = targets.iter().map(|target| Arc::clone(&target.field)).collect();
        let schema = Arc::new(Schema::new(fields));
        Ok(FilePlan { mask: ProjectionMask::roots(descriptor, roots), schema, columns })
    }

    /// Turns a batch of the file's columns into one of the source's.
    ///
    /// # Errors
    /// What is wrong with the values, with the column.
    pub(super) fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch, String> {
        let rows = batch.num_rows();
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (field, plan) in &self.columns {
            let array = match plan {
                ColumnPlan::Read(index, step) => {
                    step.apply(batch.column(*index)).map_err(|why| format!("column `{}`: {why}", field.name()))?
                }
                ColumnPlan::Missing => new_null_array(field.data_type(), rows),
                ColumnPlan::Constant(value) => repeat(value, rows)?,
            };
            if !field.is_nullable() && array.null_count() > 0 {
                return Err(format!("column `{}` is declared never null but holds null", field.name()));
            }
            arrays.push(array);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options).map_err(|error| error.to_string())
    }
}

fn repeat(value: &ArrayRef, rows: usize) -> Result<ArrayRef, String> {
    let first = UInt32Array::from(vec![0; rows]);
    take(value.as_ref(), &first, None).map_err(|error| error.to_string())
}

impl Step {
    fn new(target: &Field, file: &Field, column: &FileColumn) -> Result<Step, String> {
        use DataType as T;
        if is_variant(target) {
            return match file.data_type() {
                T::Struct(_) => Ok(Step::Variant(target.data_type().clone())),
                other => Err(format!("column `{}` is {other} in the file, not a variant", target.name())),
            };
        }
        if target.data_type() == file.data_type() {
            return Ok(Step::Keep);
        }
        match (target.data_type(), file.data_type(), column.children.as_slice()) {
            (T::Struct(fields), T::Struct(in_file), children) => {
                let steps = fields.iter().zip(children).map(|(field, child)| {
                    let Some(index) = child.find(in_file) else { return Ok(None) };
                    let in_file = in_file.get(index).ok_or("a field of a struct is out of place")?;
                    Ok(Some((index, Step::new(field, in_file, child)?)))
                });
                Ok(Step::Struct(fields.clone(), steps.collect::<Result<_, String>>()?))
            }
            (T::List(element), T::List(in_file), [child]) => {
                Ok(Step::List(Arc::clone(element), Box::new(Step::new(element, in_file, child)?)))
            }
            (T::Map(entries, sorted), T::Map(in_file, _), [key, value]) => {
                let (T::Struct(pair), T::Struct(in_file)) = (entries.data_type(), in_file.data_type()) else {
                    return Err(format!("column `{}` is a map without entries", target.name()));
                };
                let ([key_field, value_field], [key_in_file, value_in_file]) = (pair.as_ref(), in_file.as_ref()) else {
                    return Err(format!("column `{}` is a map without keys and values", target.name()));
                };
                let key = Box::new(Step::new(key_field, key_in_file, key)?);
                let value = Box::new(Step::new(value_field, value_in_file, value)?);
                Ok(Step::Map(Arc::clone(entries), *sorted, key, value))
            }
            (to, from, _) if widens(from, to) => Ok(Step::Cast(to.clone())),
            (to, from, _) => {
                Err(format!("column `{}` is {from} in the file, which cannot be read as {to}", target.name()))
            }
        }
    }

    fn apply(&self, array: &ArrayRef) -> Result<ArrayRef, String> {
        let arrow = |error: arrow_schema::ArrowError| error.to_string();
        Ok(match self {
            Step::Keep => Arc::clone(array),
            Step::Cast(to) => cast(array, to)?,
            Step::Struct(fields, steps) => {
                let array = array.as_struct();
                let mut columns = Vec::with_capacity(fields.len());
                for (field, step) in fields.iter().zip(steps) {
                    columns.push(match step {
                        Some((index, step)) => step.apply(array.column(*index))?,
                        None => new_null_array(field.data_type(), array.len()),
                    });
                }
                if columns.is_empty() {
                    return Ok(Arc::new(StructArray::new_empty_fields(array.len(), array.nulls().cloned())));
                }
                Arc::new(StructArray::try_new(fields.clone(), columns, array.nulls().cloned()).map_err(arrow)?)
            }
            Step::List(element, step) => {
                let list = array.as_list::<i32>();
                let values = step.apply(list.values())?;
                let offsets = list.offsets().clone();
                Arc::new(
                    ListArray::try_new(Arc::clone(element), offsets, values, list.nulls().cloned()).map_err(arrow)?,
                )
            }
            Step::Map(entries, sorted, key, value) => {
                let map = array.as_map();
                let pair = vec![key.apply(map.keys())?, value.apply(map.values())?];
                let DataType::Struct(fields) = entries.data_type() else {
                    return Err("a map without entries".to_owned());
                };
                let pairs = StructArray::try_new(fields.clone(), pair, None).map_err(arrow)?;
                let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
                Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, nulls, *sorted).map_err(arrow)?)
            }
            Step::Variant(to) => unshred(array, to).map_err(arrow)?,
        })
    }
}

/// Puts a variant, shredded or not, into a struct of binary `metadata` and `value`.
fn unshred(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, arrow_schema::ArrowError> {
    let variant = unshred_variant(&VariantArray::try_new(array)?)?;
    let DataType::Struct(fields) = to else {
        return Err(arrow_schema::ArrowError::SchemaError(format!("{to} is no variant")));
    };
    let mut columns = Vec::with_capacity(fields.len());
    for field in fields {
        let column = if field.name() == "metadata" { variant.metadata_column() } else { variant.value_column() };
        columns.push(arrow_cast::cast(column, field.data_type())?);
    }
    Ok(Arc::new(StructArray::try_new(fields.clone(), columns, array.nulls().cloned())?))
}

#[cfg(test)]
mod tests;
