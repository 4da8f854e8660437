//! One schema for files whose schemas differ.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, Schema};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use crate::source::cast::common_type;
use crate::source::columns::is_variant;

/// A column so far: its field, and the file that it is known from.
struct Known<'a> {
    field: Field,
    file: &'a str,
    /// In how many files it is.
    files: usize,
}

/// The columns of all files: those of the first in its order, then what others add. A column is never null only where
/// every file has it and says so.
///
/// # Errors
/// Which column of which two files cannot be made one.
pub(super) fn merge<'a>(files: impl Iterator<Item = (&'a str, &'a Schema)>) -> Result<Vec<FieldRef>, String> {
    let mut columns: Vec<Known<'a>> = Vec::new();
    let mut positions: HashMap<String, usize> = HashMap::new();
    let mut count = 0;
    for (file, schema) in files {
        count += 1;
        for field in schema.fields() {
            let field = plain(field);
            let known = positions.get(field.name()).and_then(|&position| columns.get_mut(position));
            let Some(known) = known else {
                positions.insert(field.name().clone(), columns.len());
                columns.push(Known { field, file, files: 1 });
                continue;
            };
            let (a, b) = (known.field.data_type(), field.data_type());
            let common = if is_variant(&known.field) == is_variant(&field) { common_type(a, b) } else { None };
            let common = common
                .ok_or_else(|| format!("column `{}` is {a} in `{}` and {b} in `{file}`", field.name(), known.file))?;
            let nullable = known.field.is_nullable() || field.is_nullable();
            known.field = known.field.clone().with_data_type(common).with_nullable(nullable);
            known.files += 1;
        }
    }
    let fields = columns.into_iter().map(|known| {
        let nullable = known.field.is_nullable() || known.files < count;
        Arc::new(known.field.with_nullable(nullable))
    });
    Ok(fields.collect())
}

/// A field without what only one file knows, such as field ids; a variant as it comes out of the scan.
fn plain(field: &Field) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.remove(PARQUET_FIELD_ID_META_KEY);
    let data_type = if is_variant(field) {
        let binary = |name| Field::new(name, DataType::Binary, true);
        DataType::Struct(Fields::from(vec![binary("metadata"), binary("value")]))
    } else {
        match field.data_type() {
            DataType::Struct(fields) => DataType::Struct(fields.iter().map(|field| Arc::new(plain(field))).collect()),
            DataType::List(element) => DataType::List(Arc::new(plain(element))),
            DataType::Map(entries, sorted) => DataType::Map(Arc::new(plain(entries)), *sorted),
            other => other.clone(),
        }
    };
    field.clone().with_data_type(data_type).with_metadata(metadata)
}
