//! Reads rows of one row group in batches of bounded size.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow_array::RecordBatch;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection};

use crate::domain::Result;

use super::column_chunks::Chunks;
use super::failure::corrupt;
use super::live_rows::select;
use super::part::Part;

/// Rows of the first batch, from which the width of a row is learned: files tell how wide rows are encoded, not how
/// wide they become when dictionaries are resolved.
const PROBE_ROWS: usize = 64;
/// How many times as many rows as have been seen since the last wide ones a batch may have at most: those may be the narrow ones.
const GROWTH: usize = 8;
/// Rows of the largest batch: more do not make decoding faster.
const MAX_ROWS: usize = 32 * 1024;

/// Where the rows of a batch stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchPlace {
    /// The file, counted among the files that are read.
    pub file: usize,
    /// The row group of the file.
    pub row_group: usize,
    /// The position in the file of the row group's first row.
    pub row_group_start: u64,
    /// The batch's first row, counted among the rows of the row group that belong to what is read.
    pub first_row: usize,
}

/// A batch and where it stands.
pub(super) type Placed = (RecordBatch, BatchPlace);

/// How many rows of this source make a batch of the wanted size.
#[derive(Debug)]
pub(super) struct BatchSize {
    /// Bytes a batch is meant to have.
    target: usize,
    /// Rows of the next batch.
    rows: usize,
    /// Rows that have been seen, none of them too wide for it.
    seen: usize,
}

impl BatchSize {
    /// For batches of about `target` bytes.
    pub(super) fn new(target: usize) -> Self {
        BatchSize { target, rows: PROBE_ROWS, seen: 0 }
    }

    /// The rows of the next batch from a row group whose rows are encoded in `width` bytes on average. Decoded they take
    /// about that much or more, whatever was learned from narrower rows before.
    fn rows(&self, width: usize) -> usize {
        self.rows.min(self.target / width.max(1)).max(1)
    }

    /// Notes how many bytes a batch takes that was to have `asked` rows, and has fewer at the end of a row group. The size doubles
    /// or halves at least before it changes at all, and grows only once it may grow to what fits: the reader has to be built anew
    /// for it, and decodes its dictionaries once more.
    fn learn(&mut self, asked: usize, rows: usize, bytes: usize) {
        self.seen = self.seen.saturating_add(rows);
        // There is room in it for all that were asked for: how wide its rows are is not known.
        if rows < asked && bytes <= self.target.saturating_mul(2) {
            return;
        }
        let width = (bytes / rows.max(1)).max(1);
        let fitting = (self.target / width).clamp(1, MAX_ROWS);
        if fitting <= self.rows / 2 {
            (self.rows, self.seen) = (fitting, 0);
        } else if fitting >= self.rows * 2 && fitting <= self.seen.saturating_mul(GROWTH) {
            self.rows = fitting;
        }
    }
}

/// Reads a part of the rows of one row group that belong to what is read.
pub(super) struct RowGroupReader {
    part: Arc<Part>,
    chunks: Chunks,
    reader: ParquetRecordBatchReader,
    /// Which rows of the row group are read; `None` = all.
    selection: Option<RowSelection>,
    /// Rows per batch of `reader`.
    batch_rows: usize,
}

impl RowGroupReader {
    /// Fetches what is needed to begin, unless another reader of the row group holds it. `picked` are the only rows to read,
    /// counted among those that belong to what is read; all unless given. At most `budget` compressed bytes are held, apart from
    /// single pages larger than that. Blocks.
    pub(super) fn open(part: Arc<Part>, picked: Option<&[u32]>, size: &BatchSize, budget: u64) -> Result<Self> {
        let (file, row_group) = (&part.file, part.row_group);
        let columns = file.column_chunks(row_group)?;
        let chunks = part.chunks(|| Chunks::open(Arc::clone(&file.object), columns, budget, file.whole.as_ref()))?;
        let mut selection = file.selection(row_group);
        if let Some(picked) = picked {
            let picks = select(picked.iter().map(|&row| row as usize), file.live_rows(row_group));
            selection = Some(selection.map_or(picks.clone(), |live| live.and_then(&picks)));
        }
        let batch_rows = size.rows(part.encoded_width);
        let reader = build(&part, &chunks, selection.as_ref(), batch_rows)?;
        Ok(RowGroupReader { part, chunks, reader, selection, batch_rows })
    }

    /// Where the next batch stands.
    pub(super) fn place(&self) -> BatchPlace {
        let (file, row_group) = (&self.part.file, self.part.row_group);
        BatchPlace {
            file: file.index,
            row_group,
            row_group_start: file.rows_of(row_group).start,
            first_row: self.part.left().start,
        }
    }

    /// The next batch, in the source's schema. Blocks.
    pub(super) fn next(&mut self, size: &mut BatchSize) -> Result<Option<RecordBatch>> {
        if self.part.left().is_empty() {
            return Ok(None);
        }
        let rows = size.rows(self.part.encoded_width);
        if self.batch_rows != rows {
            self.reader = build(&self.part, &self.chunks, self.selection.as_ref(), rows)?;
            self.batch_rows = rows;
        }
        let file = &self.part.file;
        let place = &file.object.place;
        // Damaged bytes can drive a decoder into a panic; for whoever owns the file that is damage, not our defect.
        let next = catch_unwind(AssertUnwindSafe(|| self.reader.next()))
            .map_err(|_| corrupt(place, "the file's bytes cannot be decoded"))?;
        let Some(batch) = next else {
            let left = self.part.left();
            let why = format!("row group {} ends after {} of {} rows", self.part.row_group, left.start, left.end);
            return Err(corrupt(place, why));
        };
        let batch = batch.map_err(|error| self.chunks.take_failure().unwrap_or_else(|| corrupt(place, error)))?;
        let batch = file.plan.apply(&batch).map_err(|why| corrupt(place, why))?;
        size.learn(rows, batch.num_rows(), batch.get_array_memory_size());
        // Others may have taken over the end meanwhile.
        let own = self.part.advance(batch.num_rows());
        Ok((own > 0).then(|| batch.slice(0, own)))
    }
}

fn build(
    part: &Part,
    chunks: &Chunks,
    selection: Option<&RowSelection>,
    rows: usize,
) -> Result<ParquetRecordBatchReader> {
    let file = &part.file;
    let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(chunks.clone(), file.metadata.clone())
        .with_row_groups(vec![part.row_group])
        .with_projection(file.plan.mask.clone())
        .with_batch_size(rows);
    if let Some(selection) = selection {
        builder = builder.with_row_selection(selection.clone());
    }
    let read = part.left().start;
    if read > 0 {
        builder = builder.with_offset(read);
    }
    builder.build().map_err(|error| chunks.take_failure().unwrap_or_else(|| corrupt(&file.object.place, error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sizes of batches of rows that are as wide as given, from the first on.
    fn sizes(size: &mut BatchSize, width: usize, batches: usize) -> Vec<usize> {
        let mut sizes = Vec::new();
        for _ in 0..batches {
            let rows = size.rows(1);
            sizes.push(rows);
            size.learn(rows, rows, rows * width);
        }
        sizes
    }

    #[test]
    fn batches_grow_once_and_only_when_enough_rows_have_been_seen() {
        let mut size = BatchSize::new(1 << 20);
        // 10,485 rows fit, of which an eighth are seen within 21 batches.
        assert_eq!(sizes(&mut size, 100, 23), [vec![64; 21], vec![10_485; 2]].concat());
        assert_eq!(sizes(&mut size, 1, 2), [10_485, 32_768]);
    }

    #[test]
    fn batches_shrink_at_once_and_not_for_little() {
        let mut size = BatchSize::new(1 << 20);
        assert_eq!(sizes(&mut size, 100 << 10, 3), [64, 10, 10]);
        assert_eq!(sizes(&mut size, 2 << 20, 2), [10, 1]);
        assert_eq!(sizes(&mut size, 150 << 10, 2), [1, 6]);
        assert_eq!(sizes(&mut size, 100 << 10, 2), [6, 6]);
    }

    #[test]
    fn after_wide_rows_batches_grow_only_when_enough_others_have_been_seen() {
        let mut size = BatchSize::new(1 << 20);
        sizes(&mut size, 100, 100);
        // As many rows as fit are too many all of a sudden, and soon are narrow again.
        assert_eq!(sizes(&mut size, 10 << 10, 2), [10_485, 102]);
        assert_eq!(sizes(&mut size, 100, 14), [vec![102; 12], vec![10_485; 2]].concat());
    }

    #[test]
    fn the_end_of_a_row_group_says_little_about_its_rows() {
        let mut size = BatchSize::new(1 << 20);
        sizes(&mut size, 100, 100);
        size.learn(10_485, 3, 1 << 20);
        assert_eq!(size.rows(1), 10_485);
        size.learn(10_485, 3, 9 << 20);
        assert_eq!(size.rows(1), 1);
    }
}
