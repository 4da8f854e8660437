//! One Parquet file of a source: its footer, what it has to agree with, and how its rows become the source's rows.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::ArrayRef;
use bytes::Bytes;
use object_store::path::Path;
use parquet::arrow::arrow_reader::RowSelection;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::basic::Encoding;
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataOptions, ParquetMetaDataReader, ParquetStatisticsPolicy,
};

use crate::domain::{Code, Error, Result};

use super::columns::{FilePlan, Target};
use super::failure::corrupt;
use super::file_schema::file_schema;
use super::live_rows::{LiveRows, Rows};
use super::object::Object;

/// Files up to this size, in bytes, are fetched whole with one request.
pub(super) const SMALL_FILE: u64 = 1024 * 1024;
/// The encodings of what refers to a dictionary: by today's name and by that of the first version of the format.
const DICTIONARIES: [Encoding; 2] = [Encoding::RLE_DICTIONARY, Encoding::PLAIN_DICTIONARY];
/// Bytes at which most writers give a dictionary up.
const DICTIONARY_MAX: u64 = 1024 * 1024;
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
    /// Which of them belong to what is read.
    pub(super) live: Rows,
    /// The values of constant columns, each an array of one.
    pub(super) constants: Box<[ArrayRef]>,
}

/// A file whose footer has been read and found to agree with the source's state.
#[derive(Debug)]
pub(super) struct OpenFile {
    /// Which of the files that are read it is.
    pub(super) index: usize,
    pub(super) object: Arc<Object>,
    pub(super) metadata: ArrowReaderMetadata,
    pub(super) plan: FilePlan,
    /// The file itself, where it is small.
    pub(super) whole: Option<Bytes>,
    live: LiveRows,
    /// Whether Spark wrote dates or timestamps of the old calendar into it unconverted.
    pub(super) legacy_calendar: bool,
}

impl OpenFile {
    /// Reads the footer. Blocks.
    ///
    /// # Errors
    /// [`Code::FileGone`], [`Code::SourceCorrupt`], [`Code::RowCountDisagrees`], [`Code::SchemaMismatch`] and those of
    /// the store, each naming the file.
    pub(super) fn open(index: usize, object: Object, file: &DataFile, targets: &[Target]) -> Result<OpenFile> {
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
        let live = file.live.resolve(rows, place)?;
        object.totals.add_file(live.count(&(0..rows)));
        Ok(OpenFile { index, object, metadata, plan, whole, live, legacy_calendar })
    }

    /// How many row groups the file has.
    pub(super) fn row_groups(&self) -> usize {
        self.metadata.metadata().num_row_groups()
    }

    /// How many rows of a row group belong to what is read.
    pub(super) fn live_rows(&self, row_group: usize) -> usize {
        self.live.count(&self.rows_of(row_group)) as usize
    }

    /// Which rows of a row group belong to what is read; `None` = all.
    pub(super) fn selection(&self, row_group: usize) -> Option<RowSelection> {
        self.live.selection(&self.rows_of(row_group))
    }

    /// The projected column chunks of a row group, as ranges of the file.
    ///
    /// # Errors
    /// [`Code::SourceCorrupt`].
    pub(super) fn column_chunks(&self, row_group: usize) -> Result<Vec<Range<u64>>> {
        let chunk = |column: &ColumnChunkMetaData| {
            let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
            let range = u64::try_from(start).ok().zip(u64::try_from(column.compressed_size()).ok());
            let (start, length) = range.ok_or_else(|| {
                corrupt(&self.object.place, format!("column {} begins before the file", column.column_path()))
            })?;
            Ok(start..start.saturating_add(length))
        };
        self.projected(row_group).map(chunk).collect()
    }

    /// The bytes of the projected column chunks of a row group.
    pub(super) fn compressed_bytes(&self, row_group: usize) -> u64 {
        self.projected(row_group).map(|column| column.compressed_size().max(0) as u64).fold(0, u64::saturating_add)
    }

    /// The bytes of a row of a row group on average, as it is encoded, not compressed.
    pub(super) fn encoded_width(&self, row_group: usize) -> usize {
        let bytes: i64 = self.projected(row_group).map(|column| column.uncompressed_size().max(0)).sum();
        let rows = self.rows_of(row_group);
        usize::try_from(bytes.max(0) as u64 / (rows.end - rows.start).max(1)).unwrap_or(usize::MAX)
    }

    /// About how many bytes the dictionaries of a row group take, decoded: each reader holds them all.
    pub(super) fn dictionary_bytes(&self, row_group: usize) -> u64 {
        self.projected(row_group).map(dictionary_bytes).fold(0, u64::saturating_add)
    }

    /// Whether lists or maps are among what is read of a row group.
    pub(super) fn has_lists(&self, row_group: usize) -> bool {
        self.projected(row_group).any(|column| column.column_descr().max_rep_level() > 0)
    }

    /// The column chunks of a row group that are read.
    fn projected(&self, row_group: usize) -> impl Iterator<Item = &ColumnChunkMetaData> {
        let columns = self.metadata.metadata().row_groups().get(row_group).map_or(&[][..], |group| group.columns());
        columns.iter().enumerate().filter(|(leaf, _)| self.plan.mask.leaf_included(*leaf)).map(|(_, column)| column)
    }

    /// The rows of a row group, counted from the beginning of the file.
    pub(super) fn rows_of(&self, row_group: usize) -> Range<u64> {
        let count = |group: &parquet::file::metadata::RowGroupMetaData| group.num_rows().max(0) as u64;
        let groups = self.metadata.metadata().row_groups();
        let start: u64 = groups.iter().take(row_group).map(count).sum();
        start..start + groups.get(row_group).map_or(0, count)
    }
}

/// About how many bytes the dictionary of a column chunk takes, decoded; 0 where it has none. Footers say where it stands, and of
/// whole chunks alone how far they are compressed: the dictionary is taken to be compressed as far. Those of parquet-mr before 1.12
/// do not say where (PARQUET-1850): it is taken to be as large as writers let it become.
fn dictionary_bytes(column: &ColumnChunkMetaData) -> u64 {
    let [compressed, whole] = [column.compressed_size(), column.uncompressed_size()].map(|size| size.max(1) as u64);
    let stored = column.dictionary_page_offset().and_then(|start| column.data_page_offset().checked_sub(start));
    match stored.and_then(|stored| u64::try_from(stored).ok()).filter(|&stored| stored > 0) {
        Some(stored) => stored.min(compressed).saturating_mul(whole) / compressed,
        None if column.encodings().any(|encoding| DICTIONARIES.contains(&encoding)) => whole.min(DICTIONARY_MAX),
        None => 0,
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
    object.fetch(range)
}

#[cfg(test)]
mod tests {
    use parquet::schema::parser::parse_message_type;
    use parquet::schema::types::SchemaDescriptor;

    use super::*;

    /// A chunk whose dictionary, if any, begins at byte 4, compressed to half of its size.
    fn chunk(dictionary_at: Option<i64>, data_at: i64, encoding: Encoding) -> u64 {
        let schema = parse_message_type("message t { required int64 id; }").unwrap();
        let column = SchemaDescriptor::new(Arc::new(schema)).column(0);
        let chunk = ColumnChunkMetaData::builder(column)
            .set_encodings(vec![Encoding::PLAIN, encoding])
            .set_total_compressed_size(4_000_000)
            .set_total_uncompressed_size(8_000_000)
            .set_dictionary_page_offset(dictionary_at)
            .set_data_page_offset(data_at);
        dictionary_bytes(&chunk.build().unwrap())
    }

    #[test]
    fn dictionaries_are_as_large_as_their_place_says() {
        assert_eq!(chunk(Some(4), 300_004, Encoding::RLE_DICTIONARY), 600_000);
        assert_eq!(chunk(None, 4, Encoding::PLAIN), 0);
    }

    #[test]
    fn dictionaries_whose_place_is_not_told_or_cannot_be_are_taken_to_be_large() {
        assert_eq!(chunk(None, 4, Encoding::PLAIN_DICTIONARY), 1 << 20);
        assert_eq!(chunk(Some(300_004), 4, Encoding::RLE_DICTIONARY), 1 << 20);
        assert_eq!(chunk(Some(i64::MIN), 4, Encoding::RLE_DICTIONARY), 1 << 20);
        assert_eq!(chunk(Some(4), i64::MAX, Encoding::RLE_DICTIONARY), 8_000_000);
    }
}
