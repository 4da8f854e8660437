//! The columns of a Delta table: as the source yields them, and how they are found in the files.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_schema::{DataType as ArrowType, Field, FieldRef, Fields, IntervalUnit, TimeUnit};
use delta_kernel::engine::arrow_conversion::TryIntoArrow;
use delta_kernel::schema::{ColumnMetadataKey, DataType, MetadataValue, PrimitiveType, StructField};
use delta_kernel::snapshot::Snapshot;
use delta_kernel::table_features::ColumnMappingMode;

use crate::domain::{Code, Error, Result};

use crate::source::columns::{COMMENT, FileColumn, Origin, Target, VARIANT};

/// All columns of the table in its order. Constants are numbered by the order of the partition columns.
///
/// # Errors
/// [`Code::UnsupportedType`], naming the column.
pub(super) fn targets(snapshot: &Snapshot, place: &str) -> Result<Vec<Target>> {
    let configuration = snapshot.table_configuration();
    let mode = configuration.column_mapping_mode();
    let partition_columns = configuration.logical_partition_columns();
    let schema = snapshot.schema();
    let columns = schema.fields().map(|column| {
        let unsupported = |why| {
            Error::new(Code::UnsupportedType, format!("{place}: column `{}`: {why}", column.name()))
                .hint("leave the column out with `columns: {exclude: [...]}`")
        };
        let (field, file) = convert(column, mode).map_err(unsupported)?;
        let field = Arc::new(field.as_ref().clone().with_nullable(column.is_nullable()));
        let origin = match partition_columns.iter().position(|name| name == column.name()) {
            Some(index) => Origin::Constant(index),
            None => Origin::File(file),
        };
        Ok(Target { field, origin })
    });
    columns.collect()
}

/// A column or nested field, and how it is found. Nested fields count as nullable, whatever is declared: nothing hangs
/// on it, and writers do not agree on it.
fn convert(column: &StructField, mode: ColumnMappingMode) -> Result<(FieldRef, FileColumn), String> {
    let (data_type, children) = convert_type(column.data_type(), mode)?;
    let mut metadata = HashMap::new();
    if let Some(MetadataValue::String(comment)) = column.metadata().get(COMMENT) {
        metadata.insert(COMMENT.to_owned(), comment.clone());
    }
    if matches!(column.data_type(), DataType::Variant(_)) {
        metadata.insert(VARIANT.to_owned(), "true".to_owned());
    }
    let id = match column.get_config_value(&ColumnMetadataKey::ColumnMappingId) {
        Some(MetadataValue::Number(id)) if mode == ColumnMappingMode::Id => i32::try_from(*id).ok(),
        _ => None,
    };
    let field = Field::new(column.name(), data_type, true).with_metadata(metadata);
    Ok((Arc::new(field), FileColumn { name: column.physical_name(mode).to_owned(), id, children }))
}

fn convert_type(data_type: &DataType, mode: ColumnMappingMode) -> Result<(ArrowType, Vec<FileColumn>), String> {
    // Elements of lists, keys and values of maps are found by their place, not by name.
    let inner = |name: &str, data_type: &DataType, nullable: bool| -> Result<(FieldRef, FileColumn), String> {
        let (field, column) = convert(&StructField::new(name, data_type.clone(), true), mode)?;
        Ok((Arc::new(field.as_ref().clone().with_nullable(nullable)), column))
    };
    Ok(match data_type {
        DataType::Struct(fields) => {
            let converted: Vec<_> = fields.fields().map(|field| convert(field, mode)).collect::<Result<_, _>>()?;
            let (fields, columns): (Vec<FieldRef>, Vec<FileColumn>) = converted.into_iter().unzip();
            (ArrowType::Struct(fields.into()), columns)
        }
        DataType::Array(array) => {
            let (element, column) = inner("element", array.element_type(), true)?;
            (ArrowType::List(element), vec![column])
        }
        DataType::Map(map) => {
            let (key, key_column) = inner("key", map.key_type(), false)?;
            let (value, value_column) = inner("value", map.value_type(), true)?;
            let entries = Field::new("key_value", ArrowType::Struct(Fields::from(vec![key, value])), false);
            (ArrowType::Map(Arc::new(entries), false), vec![key_column, value_column])
        }
        DataType::Variant(_) => {
            let binary = |name| Arc::new(Field::new(name, ArrowType::Binary, true));
            (ArrowType::Struct(Fields::from(vec![binary("metadata"), binary("value")])), Vec::new())
        }
        // The kernel yields intervals as bare numbers of months and microseconds.
        DataType::Primitive(PrimitiveType::IntervalYearMonth) => {
            (ArrowType::Interval(IntervalUnit::YearMonth), Vec::new())
        }
        DataType::Primitive(PrimitiveType::IntervalDayTime) => (ArrowType::Duration(TimeUnit::Microsecond), Vec::new()),
        DataType::Primitive(_) => {
            let arrow: Result<ArrowType, _> = data_type.try_into_arrow();
            (arrow.map_err(|error| error.to_string())?, Vec::new())
        }
    })
}
