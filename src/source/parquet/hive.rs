//! Columns in the names of folders: `year=2024/month=5`.

use std::sync::Arc;

use arrow_array::{ArrayRef, Date32Array, Int64Array, StringArray};
use arrow_schema::{DataType, Field, FieldRef};
use chrono::NaiveDate;
use percent_encoding::percent_decode_str;

use crate::domain::{Code, Error, Result};

use super::listing::Listed;

/// What Hive writes for null.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// The partition columns, and of each file their values.
#[derive(Default)]
pub(super) struct Partitions {
    pub(super) fields: Vec<FieldRef>,
    /// By file; without partition columns an endless supply of none.
    pub(super) values: Values,
}

/// The values of each file in the order of the files.
#[derive(Default)]
pub(super) struct Values(std::vec::IntoIter<Box<[ArrayRef]>>);

impl Iterator for Values {
    type Item = Box<[ArrayRef]>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.0.next().unwrap_or_default())
    }
}

/// Finds the partition columns. Their type is whole number, date or text: the first that writes every value back as it
/// stands, so that `01` stays text.
///
/// # Errors
/// [`Code::SchemaMismatch`] where files have different partition columns, naming two.
pub(super) fn partitions(files: &[Listed], place: &str) -> Result<Partitions> {
    let paths: Vec<Vec<(String, Option<String>)>> = files.iter().map(|file| parse(&file.name)).collect();
    let (Some(first_path), Some(first)) = (paths.first(), files.first()) else { return Ok(Partitions::default()) };
    let names = |path: &[(String, Option<String>)]| path.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let expected = names(first_path);
    if let Some((_, other)) = paths.iter().zip(files).find(|(path, _)| names(path) != expected) {
        let detail = format!("{place}: `{}` and `{}` have different partition columns", first.name, other.name);
        return Err(
            Error::new(Code::SchemaMismatch, detail).hint("read one layout only, or set hive_partitioning: false")
        );
    }
    let mut fields = Vec::with_capacity(expected.len());
    let mut columns = Vec::with_capacity(expected.len());
    for (index, name) in expected.iter().enumerate() {
        let texts: Vec<Option<&str>> =
            paths.iter().map(|path| path.get(index).and_then(|(_, value)| value.as_deref())).collect();
        let data_type = infer(&texts);
        columns.push(texts.iter().map(|text| value(*text, &data_type)).collect::<Vec<ArrayRef>>());
        fields.push(Arc::new(Field::new(name, data_type, true)));
    }
    let of_file =
        |file: usize| columns.iter().filter_map(|column| column.get(file).cloned()).collect::<Box<[ArrayRef]>>();
    let values: Vec<Box<[ArrayRef]>> = (0..files.len()).map(of_file).collect();
    Ok(Partitions { fields, values: Values(values.into_iter()) })
}

/// The pairs in the folders of a path; the file's own name is none.
fn parse(path: &str) -> Vec<(String, Option<String>)> {
    let folders = path.rsplit_once('/').map_or("", |(folders, _)| folders);
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let pairs = folders.split('/').filter_map(|folder| folder.split_once('='));
    pairs.map(|(name, value)| (decode(name), (value != NULL).then(|| decode(value)))).collect()
}

fn infer(texts: &[Option<&str>]) -> DataType {
    let all = |reads_back: fn(&str) -> bool| {
        texts.iter().flatten().all(|text| reads_back(text)) && texts.iter().any(Option::is_some)
    };
    if all(|text| text.parse::<i64>().is_ok_and(|number| number.to_string() == text)) {
        DataType::Int64
    } else if all(|text| date(text).is_some_and(|date| date.to_string() == text)) {
        DataType::Date32
    } else {
        DataType::Utf8
    }
}

fn date(text: &str) -> Option<NaiveDate> {
    NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()
}

fn value(text: Option<&str>, data_type: &DataType) -> ArrayRef {
    match data_type {
        DataType::Int64 => Arc::new(Int64Array::from(vec![text.and_then(|text| text.parse().ok())])),
        DataType::Date32 => {
            let days = |date: NaiveDate| date.signed_duration_since(NaiveDate::default()).num_days() as i32;
            Arc::new(Date32Array::from(vec![text.and_then(date).map(days)]))
        }
        _ => Arc::new(StringArray::from(vec![text])),
    }
}
