//! Which columns could be the key of a table.

use std::sync::Arc;

use arrow_schema::{DataType, Schema};

use crate::domain::{Code, Error, Result};
use crate::source::Source;
use crate::transform::{count_values, is_unique};

/// Bytes that looking may hold.
const BUDGET: u64 = 256 * 1024 * 1024;
/// Pairs of columns that are looked at when no single column is a key.
const PAIRS: usize = 15;
/// How far the approximate number of distinct values may be from the number of rows for an exact look to be worth it.
const APPROXIMATION: f64 = 0.9;

/// Columns whose type can be a key and whose name sounds like one, likely ones first.
pub(super) fn by_name(schema: &Schema) -> Vec<String> {
    let mut names: Vec<&String> =
        schema.fields().iter().filter(|field| can_be_key(field.data_type())).map(|field| field.name()).collect();
    names.retain(|name| rank(name) < 3);
    names.sort_by_key(|name| rank(name));
    names.into_iter().cloned().collect()
}

fn rank(name: &str) -> u8 {
    let name = name.to_lowercase();
    if name == "id" || name == "key" || name == "uuid" {
        0
    } else if name.ends_with("_id") || name.ends_with("_key") || name.ends_with("key") || name.ends_with("_uuid") {
        1
    } else if ["number", "code", "no", "nr", "id"].iter().any(|end| name.ends_with(end)) {
        2
    } else {
        3
    }
}

fn can_be_key(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => can_be_key(values),
        DataType::Boolean
        | DataType::Float16
        | DataType::Float32
        | DataType::Float64
        | DataType::Null
        | DataType::Interval(_)
        | DataType::Duration(_) => false,
        other => !other.is_nested(),
    }
}

/// The columns that tell all rows apart and are never null, looked up in the data: one column where there is one, else
/// two.
///
/// # Errors
/// [`Code::KeyColumnMissing`] when there is none.
pub(super) async fn find(source: &Arc<Source>) -> Result<Vec<String>> {
    let schema = source.schema();
    let mut names: Vec<&str> = schema
        .fields()
        .iter()
        .filter(|field| can_be_key(field.data_type()))
        .map(|field| field.name().as_str())
        .collect();
    names.sort_by_key(|name| rank(name));
    if names.is_empty() {
        return Err(none_found(source));
    }
    let (rows, counts) = count_values(source, &names, BUDGET).await?;
    let whole: Vec<(&str, f64)> = names
        .iter()
        .zip(&counts)
        .filter(|(_, counts)| counts.present == rows)
        .map(|(name, counts)| (*name, counts.distinct as f64 / (rows as f64).max(1.0)))
        .collect();
    for (name, share) in &whole {
        if *share > APPROXIMATION && is_unique(source, &[name], BUDGET).await? {
            return Ok(vec![(*name).to_owned()]);
        }
    }
    let pairs = whole
        .iter()
        .enumerate()
        .flat_map(|(index, first)| whole.iter().skip(index + 1).map(move |second| (first, second)));
    let plausible = pairs.filter(|(first, second)| first.1 * second.1 * rows as f64 > 1.0);
    for (first, second) in plausible.take(PAIRS) {
        if is_unique(source, &[first.0, second.0], BUDGET).await? {
            return Ok(vec![first.0.to_owned(), second.0.to_owned()]);
        }
    }
    Err(none_found(source))
}

fn none_found(source: &Source) -> Error {
    Error::new(
        Code::KeyColumnMissing,
        format!("no column and no pair of columns of {} is unique and never null", source.address()),
    )
    .hint("name the key yourself: --key a,b,c; or make one with `transform`")
}
