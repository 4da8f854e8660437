//! Which Postgres type holds the values of an Arrow type.

use std::collections::HashSet;

use arrow_schema::{DataType, Field, Fields};

use crate::domain::{ColumnType, ScalarType};

/// The key of a field's metadata by which a source marks a struct of `metadata` and `value` (and perhaps
/// `typed_value`) as a variant; its value is `true`.
pub const VARIANT_METADATA_KEY: &str = "lakegate.variant";

const EXTENSION_NAME: &str = "ARROW:extension:name";

/// What becomes of a column of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mapped {
    /// It is stored as this type.
    Stored(ColumnType),
    /// It holds nothing but nulls, and has no type of its own.
    Void,
    /// Postgres has no counterpart.
    Unsupported,
}

/// The column type for an Arrow field, by the table of types in the documentation.
pub(super) fn column_type(field: &Field) -> Mapped {
    if is_foreign_extension(field) {
        return Mapped::Unsupported;
    }
    if is_variant(field) || is_json(field) {
        return Mapped::Stored(ColumnType::Jsonb);
    }
    let data_type = plain_type(field.data_type());
    if data_type == &DataType::Null {
        return Mapped::Void;
    }
    if let Some(scalar) = scalar_type(field) {
        return Mapped::Stored(ColumnType::Scalar(scalar));
    }
    if let Some(item) = list_item(data_type) {
        if let Some(scalar) = scalar_type(item).filter(|_| !is_variant(item) && !is_json(item)) {
            return Mapped::Stored(ColumnType::Array(scalar));
        }
    }
    if is_representable_in_json(field) { Mapped::Stored(ColumnType::Jsonb) } else { Mapped::Unsupported }
}

/// The type of the values themselves, without dictionary or run-end encoding.
pub(super) fn plain_type(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, values) => plain_type(values),
        DataType::RunEndEncoded(_, values) => plain_type(values.data_type()),
        other => other,
    }
}

/// The field of a list's items, for lists of every kind.
pub(super) fn list_item(data_type: &DataType) -> Option<&Field> {
    match data_type {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => Some(item),
        _ => None,
    }
}

/// The scalar type for a field that holds one value a row.
pub(super) fn scalar_type(field: &Field) -> Option<ScalarType> {
    Some(match plain_type(field.data_type()) {
        DataType::Boolean => ScalarType::Boolean,
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => ScalarType::Int16,
        DataType::Int32 | DataType::UInt16 => ScalarType::Int32,
        DataType::Int64 | DataType::UInt32 => ScalarType::Int64,
        DataType::UInt64 => ScalarType::Numeric { precision: 20, scale: 0 },
        DataType::Float16 | DataType::Float32 => ScalarType::Float32,
        DataType::Float64 => ScalarType::Float64,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => numeric(*precision, *scale),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => ScalarType::Text,
        DataType::FixedSizeBinary(16) if extension(field) == Some("arrow.uuid") => ScalarType::Uuid,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            ScalarType::Bytea
        }
        DataType::Date32 | DataType::Date64 => ScalarType::Date,
        DataType::Time32(_) | DataType::Time64(_) => ScalarType::Time,
        DataType::Timestamp(_, None) => ScalarType::Timestamp,
        DataType::Timestamp(_, Some(_)) => ScalarType::Timestamptz,
        DataType::Interval(_) | DataType::Duration(_) => ScalarType::Interval,
        _ => return None,
    })
}

/// Whether a field is a variant: by Arrow's extension name, or by the mark of our own sources.
pub(super) fn is_variant(field: &Field) -> bool {
    matches!(field.data_type(), DataType::Struct(_))
        && (extension(field) == Some("arrow.parquet.variant")
            || field.metadata().get(VARIANT_METADATA_KEY).is_some_and(|value| value == "true"))
}

/// Whether a field's text is JSON.
pub(super) fn is_json(field: &Field) -> bool {
    extension(field) == Some("arrow.json")
        && matches!(plain_type(field.data_type()), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Whether a field is a 16-byte UUID.
pub(super) fn is_uuid(field: &Field) -> bool {
    extension(field) == Some("arrow.uuid") && plain_type(field.data_type()) == &DataType::FixedSizeBinary(16)
}

fn extension(field: &Field) -> Option<&str> {
    field.metadata().get(EXTENSION_NAME).map(String::as_str)
}

/// Geometries look like binaries or structs, and would be stored as something that no reader expects.
fn is_foreign_extension(field: &Field) -> bool {
    extension(field).is_some_and(|name| name.starts_with("geoarrow.") || name.starts_with("ogc."))
}

fn numeric(precision: u8, scale: i8) -> ScalarType {
    match u8::try_from(scale) {
        Ok(scale) => ScalarType::Numeric { precision, scale },
        Err(_) => ScalarType::Numeric { precision: precision.saturating_add(scale.unsigned_abs()), scale: 0 },
    }
}

fn is_representable_in_json(field: &Field) -> bool {
    if is_foreign_extension(field) {
        return false;
    }
    if is_variant(field) || scalar_type(field).is_some() {
        return true;
    }
    let data_type = plain_type(field.data_type());
    match data_type {
        DataType::Null => true,
        DataType::Struct(fields) => names_differ(fields) && fields.iter().all(|field| is_representable_in_json(field)),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => match fields.as_ref() {
                [key, value] => scalar_type(key).is_some() && is_representable_in_json(value),
                _ => false,
            },
            _ => false,
        },
        _ => list_item(data_type).is_some_and(is_representable_in_json),
    }
}

/// Of two members with the same name, jsonb keeps only one.
fn names_differ(fields: &Fields) -> bool {
    let mut names = HashSet::new();
    fields.iter().all(|field| names.insert(field.name()) && !field.name().contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::sync::Arc;

    fn mapped(data_type: DataType) -> Mapped {
        column_type(&Field::new("c", data_type, true))
    }

    fn extended(data_type: DataType, name: &str) -> Field {
        Field::new("c", data_type, true).with_metadata(HashMap::from([(EXTENSION_NAME.to_owned(), name.to_owned())]))
    }

    #[test]
    fn encodings_do_not_matter() {
        let dictionary = DataType::Dictionary(Box::new(DataType::UInt16), Box::new(DataType::Utf8View));
        assert_eq!(mapped(dictionary), Mapped::Stored(ColumnType::Scalar(ScalarType::Text)));
        let runs = DataType::RunEndEncoded(
            Arc::new(Field::new("run_ends", DataType::Int32, false)),
            Arc::new(Field::new("values", DataType::UInt32, true)),
        );
        assert_eq!(mapped(runs), Mapped::Stored(ColumnType::Scalar(ScalarType::Int64)));
    }

    #[test]
    fn negative_scales_become_whole_numbers() {
        let expected = ScalarType::Numeric { precision: 7, scale: 0 };
        assert_eq!(mapped(DataType::Decimal128(5, -2)), Mapped::Stored(ColumnType::Scalar(expected)));
    }

    #[test]
    fn lists_of_scalars_are_arrays_and_all_other_nesting_is_jsonb() {
        let list = DataType::new_list(DataType::Int32, true);
        assert_eq!(mapped(list.clone()), Mapped::Stored(ColumnType::Array(ScalarType::Int32)));
        assert_eq!(mapped(DataType::new_list(list, true)), Mapped::Stored(ColumnType::Jsonb));
        let pair = DataType::Struct(Fields::from(vec![Field::new("a", DataType::Int8, true)]));
        assert_eq!(mapped(pair.clone()), Mapped::Stored(ColumnType::Jsonb));
        assert_eq!(mapped(DataType::new_list(pair, true)), Mapped::Stored(ColumnType::Jsonb));
    }

    #[test]
    fn extension_names_decide() {
        let uuid = extended(DataType::FixedSizeBinary(16), "arrow.uuid");
        assert_eq!(column_type(&uuid), Mapped::Stored(ColumnType::Scalar(ScalarType::Uuid)));
        assert_eq!(column_type(&extended(DataType::Utf8, "arrow.json")), Mapped::Stored(ColumnType::Jsonb));
        assert_eq!(column_type(&extended(DataType::Binary, "geoarrow.wkb")), Mapped::Unsupported);
    }

    #[test]
    fn void_and_unions_have_no_counterpart() {
        assert_eq!(mapped(DataType::Null), Mapped::Void);
        let union = DataType::Union(arrow_schema::UnionFields::empty(), arrow_schema::UnionMode::Dense);
        assert_eq!(mapped(union), Mapped::Unsupported);
        let twins = Fields::from(vec![Field::new("a", DataType::Int8, true), Field::new("a", DataType::Int8, true)]);
        assert_eq!(mapped(DataType::Struct(twins)), Mapped::Unsupported);
    }
}
