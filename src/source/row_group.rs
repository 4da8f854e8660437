//! Reads one row group in batches of bounded size.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow_array::RecordBatch;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection};

use crate::domain::{Error, Result};

use super::data_file::OpenFile;
use super::failure::corrupt;
use super::live_rows::select;
use super::object::Chunks;
use super::scan::BatchPlace;

/// Rows of the first batch, from which the width of a row is learned: files tell how wide rows are encoded, not how
/// wide they become when dictionaries are resolved.
const PROBE_ROWS: usize = 64;
/// How many times as many rows the next batch may have at most: the rows so far may have been the narrow ones.
const GROWTH: usize = 8;
/// Rows of the largest batch: more do not make decoding faster.
const MAX_ROWS: usize = 32 * 1024;

/// How many rows of this source make a batch of the wanted size.
#[derive(Debug)]
pub(super) struct BatchSize {
    /// Bytes a batch is meant to have.
    target: usize,
    /// Rows of the next batch.
    rows: usize,
}

impl BatchSize {
    /// For batches of about `target` bytes.
    pub(super) fn new(target: usize) -> Self {
        BatchSize { target, rows: PROBE_ROWS }
    }

    /// The rows of the next batch from a row group whose rows are encoded in `width` bytes on average. Decoded they take
    /// about that much or more, whatever was learned from narrower rows before.
    fn rows(&self, width: usize) -> usize {
        self.rows.min(self.target / width.max(1)).max(1)
    }

    /// Notes how large a batch has become. The size doubles or halves at least before it changes at all, since the
    /// reader has to be built anew for it.
    fn learn(&mut self, batch: &RecordBatch) {
        let width = (batch.get_array_memory_size() / batch.num_rows().max(1)).max(1);
        let fitting = (self.target / width).clamp(1, MAX_ROWS.min(self.rows * GROWTH));
        if fitting >= self.rows * 2 || fitting <= self.rows / 2 {
            self.rows = fitting;
        }
    }
}

/// Reads the rows of one row group that belong to what is read.
pub(super) struct RowGroupReader {
    file: Arc<OpenFile>,
    row_group: usize,
    chunks: Chunks,
    reader: ParquetRecordBatchReader,
    /// Which rows are read; `None` = all.
    selection: Option<RowSelection>,
    /// Rows per batch of `reader`.
    batch_rows: usize,
    /// Bytes of a row on average, as it is encoded.
    encoded_width: usize,
    /// Rows that have to come out.
    expected: usize,
    /// Rows that have come out.
    yielded: usize,
}

impl RowGroupReader {
    /// Fetches what is needed to begin. `picked` are the only rows to read, counted among those that belong to what is
    /// read; all unless given. At most `budget` compressed bytes are held, apart from single pages larger than that.
    /// Blocks.
    pub(super) fn open(
        file: Arc<OpenFile>,
        row_group: usize,
        picked: Option<&[u32]>,
        size: &BatchSize,
        budget: u64,
    ) -> Result<Self> {
        let (ranges, encoded_width) = column_chunks(&file, row_group)?;
        let chunks = Chunks::open(Arc::clone(&file.object), ranges, budget, file.whole.as_ref())?;
        let mut selection = file.selection(row_group);
        let mut expected = file.live_rows(row_group);
        if let Some(picked) = picked {
            let picks = select(picked.iter().map(|&row| row as usize), expected);
            selection = Some(selection.map_or(picks.clone(), |live| live.and_then(&picks)));
            expected = picked.len();
        }
        let batch_rows = size.rows(encoded_width);
        let reader = build(&file, row_group, &chunks, selection.as_ref(), 0, batch_rows)?;
        Ok(RowGroupReader {
            file,
            row_group,
            chunks,
            reader,
            selection,
            batch_rows,
            encoded_width,
            expected,
            yielded: 0,
        })
    }

    /// Where the next batch stands.
    pub(super) fn place(&self) -> BatchPlace {
        BatchPlace {
            file: self.file.index,
            row_group: self.row_group,
            row_group_start: self.file.rows_of(self.row_group).start,
            first_row: self.yielded,
        }
    }

    /// The next batch, in the source's schema. Blocks.
    pub(super) fn next(&mut self, size: &mut BatchSize) -> Result<Option<RecordBatch>> {
        if self.yielded == self.expected {
            return Ok(None);
        }
        let rows = size.rows(self.encoded_width);
        if self.batch_rows != rows {
            let selection = self.selection.as_ref();
            self.reader = build(&self.file, self.row_group, &self.chunks, selection, self.yielded, rows)?;
            self.batch_rows = rows;
        }
        let place = &self.file.object.place;
        // Damaged bytes can drive a decoder into a panic; for whoever owns the file that is damage, not our defect.
        let next = catch_unwind(AssertUnwindSafe(|| self.reader.next()))
            .map_err(|_| corrupt(place, "the file's bytes cannot be decoded"))?;
        let Some(batch) = next else {
            let why = format!("row group {} ends after {} of {} rows", self.row_group, self.yielded, self.expected);
            return Err(corrupt(place, why));
        };
        let batch = batch.map_err(|error| self.chunks.take_failure().unwrap_or_else(|| corrupt(place, error)))?;
        let batch = self.file.plan.apply(&batch).map_err(|why| corrupt(place, why))?;
        self.yielded += batch.num_rows();
        size.learn(&batch);
        Ok(Some(batch))
    }
}

/// The projected column chunks, as ranges of the file, and the bytes of a row in them on average, not compressed.
fn column_chunks(file: &OpenFile, row_group: usize) -> Result<(Vec<Range<u64>>, usize)> {
    let group = file.metadata.metadata().row_groups().get(row_group);
    let group = group.ok_or_else(|| Error::internal("a row group beyond the last"))?;
    let mut ranges = Vec::with_capacity(group.num_columns());
    let mut bytes = 0;
    for (leaf, column) in group.columns().iter().enumerate() {
        if !file.plan.mask.leaf_included(leaf) {
            continue;
        }
        let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
        let range = u64::try_from(start).ok().zip(u64::try_from(column.compressed_size()).ok());
        let (start, length) = range.ok_or_else(|| {
            corrupt(&file.object.place, format!("column {} begins before the file", column.column_path()))
        })?;
        ranges.push(start..start.saturating_add(length));
        bytes += usize::try_from(column.uncompressed_size()).unwrap_or(0);
    }
    let rows = usize::try_from(group.num_rows()).unwrap_or(0);
    Ok((ranges, bytes / rows.max(1)))
}

fn build(
    file: &OpenFile,
    row_group: usize,
    chunks: &Chunks,
    selection: Option<&RowSelection>,
    offset: usize,
    rows: usize,
) -> Result<ParquetRecordBatchReader> {
    let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(chunks.clone(), file.metadata.clone())
        .with_row_groups(vec![row_group])
        .with_projection(file.plan.mask.clone())
        .with_batch_size(rows);
    if let Some(selection) = selection {
        builder = builder.with_row_selection(selection.clone());
    }
    if offset > 0 {
        builder = builder.with_offset(offset);
    }
    builder.build().map_err(|error| chunks.take_failure().unwrap_or_else(|| corrupt(&file.object.place, error)))
}
