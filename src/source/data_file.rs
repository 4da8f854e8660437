//! One Parquet file of a source: its footer, what it has to agree with, and how its rows become the source's rows.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::ArrayRef;
use bytes::Bytes;
use object_store::path::Path;
use parquet::arrow::arrow_reader::RowSelection;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    ParquetMetaData, ParquetMetaDataOptions, ParquetMetaDataReader, ParquetStatisticsPolicy,
};

use crate::domain::{Code, Error, Result};

use super::columns::{FilePlan, Target};
use super::failure::corrupt;
use super::file_schema::file_schema;
use super::object::Object;

/// Files up to this size, in bytes, are fetched whole with one request.
pub(super) const SMALL_FILE: u64 = 1024 * 1024;
/// Bytes fetched from the end of larger files, where the footer is; a longer footer costs a second request.
const FOOTER_GUESS: u64 = 64 * 1024;

/// A file of the source's state, not opened yet.
#[derive(Debug)]
pub(super) struct DataFile {
    /// Where it is in the store.
    pub(super) path: Path,
    /// For messages: its path within the source.
    pub(super) name: String,
    /// Bytes.
    pub(super) size: u64,
    /// Rows in the file, deleted ones included, where the log says.
    pub(super) rows: Option<u64>,
    /// Rows marked as deleted.
    pub(super) deleted: Option<Deleted>,
    /// The values of constant columns, each an array of one.
    pub(super) constants: Box<[ArrayRef]>,
}

/// The rows of a file that are marked as deleted.
pub(super) struct Deleted {
    /// How many, as the log says.
    pub(super) count: u64,
    /// Fetches their positions, ascending. Blocks.
    pub(super) positions: Box<dyn Fn() -> Result<Vec<u64>> + Send + Sync>,
}

impl fmt::Debug for Deleted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deleted").field("count", &self.count).finish_non_exhaustive()
    }
}

/// A file whose footer has been read and found to agree with the source's state.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) object: Arc<Object>,
    pub(super) metadata: ArrowReaderMetadata,
    pub(super) plan: FilePlan,
    /// The file itself, where it is small.
    pub(super) whole: Option<Bytes>,
    /// Positions of deleted rows, ascending.
    deleted: Vec<u64>,
    /// Whether Spark wrote dates or timestamps of the old calendar into it unconverted.
    pub(super) legacy_calendar: bool,
}

impl OpenFile {
    /// Reads the footer. Blocks.
    ///
    /// # Errors
    /// [`Code::FileGone`], [`Code::SourceCorrupt`], [`Code::RowCountDisagrees`], [`Code::SchemaMismatch`] and those of
    /// the store, each naming the file.
    pub(super) fn open(object: Object, file: &DataFile, targets: &[Target]) -> Result<OpenFile> {
        let object = Arc::new(object);
        let place = &object.place;
        let (whole, footer) = read_footer(&object)?;
        let rows = total_rows(&footer).ok_or_else(|| corrupt(place, "the footer counts fewer than no rows"))?;
        if let Some(expected) = file.rows.filter(|&expected| expected != rows) {
            let detail = format!("{place}: the file has {rows} rows, the table's log says {expected}");
            return Err(Error::new(Code::RowCountDisagrees, detail)
                .hint("a file was replaced or its log entry is wrong: restore the file or write the table again"));
        }
        let schema = file_schema(&footer).map_err(|error| corrupt(place, error))?;
        let legacy_calendar = is_legacy_calendar(&footer);
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true).with_schema(Arc::new(schema));
        let metadata =
            ArrowReaderMetadata::try_new(Arc::new(footer), options).map_err(|error| corrupt(place, error))?;
        let plan = FilePlan::new(targets, &file.constants, metadata.schema(), metadata.parquet_schema())
            .map_err(|why| Error::new(Code::SchemaMismatch, format!("{place}: {why}")))?;
        let deleted = match &file.deleted {
            Some(deleted) => checked_positions(deleted, rows, place)?,
            None => Vec::new(),
        };
        object.totals.add_file(rows - deleted.len() as u64);
        Ok(OpenFile { object, metadata, plan, whole, deleted, legacy_calendar })
    }

    /// How many row groups the file has.
    pub(super) fn row_groups(&self) -> usize {
        self.metadata.metadata().num_row_groups()
    }

    /// How many rows of a row group are not deleted.
    pub(super) fn kept_rows(&self, row_group: usize) -> usize {
        let rows = self.rows_of(row_group);
        (rows.end - rows.start) as usize - self.deleted_in(&rows).len()
    }

    /// Which rows of a row group are not deleted; `None` = all.
    pub(super) fn selection(&self, row_group: usize) -> Option<RowSelection> {
        let rows = self.rows_of(row_group);
        let deleted = self.deleted_in(&rows);
        if deleted.is_empty() {
            return None;
        }
        let total = (rows.end - rows.start) as usize;
        let mut kept = Vec::with_capacity(deleted.len() + 1);
        let mut next = 0;
        for position in deleted {
            let position = (position - rows.start) as usize;
            if position > next {
                kept.push(next..position);
            }
            next = position + 1;
        }
        if next < total {
            kept.push(next..total);
        }
        Some(RowSelection::from_consecutive_ranges(kept.into_iter(), total))
    }

    fn deleted_in(&self, rows: &Range<u64>) -> &[u64] {
        let from = self.deleted.partition_point(|&position| position < rows.start);
        let to = self.deleted.partition_point(|&position| position < rows.end);
        self.deleted.get(from..to).unwrap_or_default()
    }

    /// The rows of a row group, counted from the beginning of the file.
    fn rows_of(&self, row_group: usize) -> Range<u64> {
        let count = |group: &parquet::file::metadata::RowGroupMetaData| group.num_rows().max(0) as u64;
        let groups = self.metadata.metadata().row_groups();
        let start: u64 = groups.iter().take(row_group).map(count).sum();
        start..start + groups.get(row_group).map_or(0, count)
    }
}

/// Deleted positions, checked against the file and against the number that the log gives.
fn checked_positions(deleted: &Deleted, rows: u64, place: &str) -> Result<Vec<u64>> {
    let positions = (deleted.positions)().map_err(|error| error.at(place))?;
    if positions.len() as u64 != deleted.count {
        let why = format!("the deletion vector marks {} rows, the log says {}", positions.len(), deleted.count);
        return Err(corrupt(place, why));
    }
    match positions.last() {
        Some(last) if *last >= rows => {
            Err(corrupt(place, format!("the deletion vector marks row {last} of a file of {rows} rows")))
        }
        _ => Ok(positions),
    }
}

/// Rows by the footer; `None` where its numbers make no sense.
fn total_rows(footer: &ParquetMetaData) -> Option<u64> {
    let counts = footer.row_groups().iter().map(|group| u64::try_from(group.num_rows()).ok());
    counts.sum::<Option<u64>>().filter(|&sum| i64::try_from(sum) == Ok(footer.file_metadata().num_rows()))
}

/// Spark marks files whose dates before 1582-10-15 follow the Julian calendar, as it wrote them before version 3.
fn is_legacy_calendar(footer: &ParquetMetaData) -> bool {
    let keys = ["org.apache.spark.legacyDateTime", "org.apache.spark.legacyINT96"];
    footer.file_metadata().key_value_metadata().is_some_and(|pairs| pairs.iter().any(|pair| keys.contains(&&*pair.key)))
}

/// Reads the footer, and the whole file with it where that is small.
pub(super) fn read_footer(object: &Object) -> Result<(Option<Bytes>, ParquetMetaData)> {
    let place = &object.place;
    let guess = if object.size <= SMALL_FILE { object.size } else { FOOTER_GUESS };
    let mut tail = fetch_tail(object, guess)?;
    let options = ParquetMetaDataOptions::new()
        .with_column_stats_policy(ParquetStatisticsPolicy::SkipAll)
        .with_encoding_stats_policy(ParquetStatisticsPolicy::SkipAll)
        .with_size_stats_policy(ParquetStatisticsPolicy::SkipAll);
    let mut reader = ParquetMetaDataReader::new().with_metadata_options(Some(options));
    loop {
        match reader.try_parse_sized(&tail, object.size) {
            Ok(()) => break,
            Err(ParquetError::NeedMoreData(needed)) if needed as u64 <= object.size && needed > tail.len() => {
                tail = fetch_tail(object, needed as u64)?;
            }
            Err(error) => return Err(corrupt(place, error)),
        }
    }
    let footer = reader.finish().map_err(|error| corrupt(place, error))?;
    Ok(((guess == object.size).then_some(tail), footer))
}

fn fetch_tail(object: &Object, bytes: u64) -> Result<Bytes> {
    let range = object.size.saturating_sub(bytes)..object.size;
    if range.is_empty() {
        return Err(corrupt(&object.place, "the file is empty"));
    }
    let fetched = object.fetch(vec![range])?;
    fetched.into_iter().next().ok_or_else(|| Error::internal("a fetch of one range returned none"))
}
