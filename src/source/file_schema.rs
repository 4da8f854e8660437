//! The Arrow schema that a Parquet file is read with.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, TimeUnit};
use parquet::arrow::parquet_to_arrow_schema;
use parquet::basic::{ConvertedType, LogicalType, Type as PhysicalType};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::schema::types::SchemaDescriptor;

use super::columns::VARIANT;

/// Arrow's field metadata key for the name of an extension type.
const EXTENSION: &str = "ARROW:extension:name";

/// The schema by the Parquet types, with these departures:
///
/// INT96 is read in microseconds, since in nanoseconds every year outside 1677 to 2262 would wrap round. Enumerations
/// are text. Durations and intervals have no Parquet type and follow the Arrow schema that Arrow's writers embed; of
/// that nothing else is taken, so that files by different writers look alike. Columns that Parquet marks as variant,
/// UUID or JSON say so in their metadata.
pub(super) fn file_schema(footer: &ParquetMetaData) -> Result<Schema, ParquetError> {
    let file = footer.file_metadata();
    let plain = parquet_to_arrow_schema(file.schema_descr(), None)?;
    // An embedded schema that cannot be read is as good as none.
    let embedded = parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata()).ok();
    let mut leaves = Leaves { descriptor: file.schema_descr(), next: 0 };
    let roots = file.schema_descr().root_schema().get_fields();
    let fields = plain.fields().iter().enumerate().map(|(index, field)| {
        let hint = embedded.as_ref().and_then(|schema| schema.fields().get(index));
        let field = leaves.read(field, hint.map(Arc::as_ref));
        match roots.get(index).and_then(|root| root.get_basic_info().logical_type_ref()) {
            Some(LogicalType::Variant(_)) => marked(&field, VARIANT, "true"),
            Some(LogicalType::Uuid) => marked(&field, EXTENSION, "arrow.uuid"),
            Some(LogicalType::Json) => marked(&field, EXTENSION, "arrow.json"),
            _ => field,
        }
    });
    Ok(Schema::new(fields.collect::<Fields>()))
}

fn marked(field: &FieldRef, key: &str, value: &str) -> FieldRef {
    let mut metadata: HashMap<String, String> = field.metadata().clone();
    metadata.insert(key.to_owned(), value.to_owned());
    Arc::new(field.as_ref().clone().with_metadata(metadata))
}

/// Walks the leaves of both schemas in step: Arrow keeps Parquet's order.
struct Leaves<'a> {
    descriptor: &'a SchemaDescriptor,
    next: usize,
}

impl Leaves<'_> {
    fn read(&mut self, field: &FieldRef, hint: Option<&Field>) -> FieldRef {
        let hint = hint.map(Field::data_type);
        let data_type = match field.data_type() {
            DataType::Struct(fields) => {
                let hints = match hint {
                    Some(DataType::Struct(hints)) => Some(hints),
                    _ => None,
                };
                let read = |(index, field)| self.read(field, hints.and_then(|hints| hints.get(index)).map(Arc::as_ref));
                DataType::Struct(fields.iter().enumerate().map(read).collect())
            }
            DataType::List(element) => {
                let hint = match hint {
                    Some(
                        DataType::List(hint)
                        | DataType::LargeList(hint)
                        | DataType::FixedSizeList(hint, _)
                        | DataType::ListView(hint)
                        | DataType::LargeListView(hint),
                    ) => Some(hint.as_ref()),
                    _ => None,
                };
                DataType::List(self.read(element, hint))
            }
            DataType::Map(entries, sorted) => {
                let hint = match hint {
                    Some(DataType::Map(hint, _)) => Some(hint.as_ref()),
                    _ => None,
                };
                DataType::Map(self.read(entries, hint), *sorted)
            }
            leaf => self.leaf(leaf, hint),
        };
        Arc::new(field.as_ref().clone().with_data_type(data_type))
    }

    fn leaf(&mut self, plain: &DataType, hint: Option<&DataType>) -> DataType {
        let index = self.next;
        self.next += 1;
        let column = (index < self.descriptor.num_columns()).then(|| self.descriptor.column(index));
        let int96 = column.as_ref().is_some_and(|column| column.physical_type() == PhysicalType::INT96);
        let is_enum = column.as_ref().is_some_and(|column| column.converted_type() == ConvertedType::ENUM);
        match (plain, hint) {
            // By the format, whoever has no enumerations reads them as text.
            (DataType::Binary, _) if is_enum => DataType::Utf8,
            // Whoever writes INT96 writes instants.
            _ if int96 => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            (DataType::Int64, Some(hint @ DataType::Duration(_)))
            | (DataType::Interval(_), Some(hint @ DataType::Interval(_))) => hint.clone(),
            _ => plain.clone(),
        }
    }
}
