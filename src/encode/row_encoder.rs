//! Batches as the binary form of COPY.
//!
//! Rows are handled in slices. Every column first measures its fields, which gives each row's place in the output, and
//! then writes them there: one tight loop per column, and nothing allocated per value.

use std::ops::Range;

use bytes::Bytes;

use super::array;
use super::bad_row::{BadRow, BadRows, CellFault, Fault, Faults, display};
use super::field::{FieldWriter, LENGTH_BYTES};
use super::mapping::Mapping;
use super::page_size::PageSize;
use super::prepared::{PreparedBatch, plain};
use super::writer::{self, Items};
use crate::domain::{Code, ColumnType, Error, Result};

/// What a chunk is meant to have.
const CHUNK_BYTES: usize = 256 << 10;
/// Bytes from which a chunk is handed on: a slice that is aimed at one chunk often falls a little short of it.
const CHUNK_FULL: usize = CHUNK_BYTES / 4 * 3;
/// No chunk is larger; a row that is larger goes out in several.
const MAX_CHUNK_BYTES: usize = 1 << 20;
/// The most that all key columns of a row may hold. An index entry in Postgres ends at 2,704 bytes.
const MAX_KEY_BYTES: usize = 2_600;
/// Postgres lays out a row in one piece of memory, which ends at 1 GiB.
const MAX_ROW_BYTES: usize = (1 << 30) - (1 << 16);
/// Rows of a slice before the width of the rows is known.
const FIRST_SLICE_ROWS: usize = 256;
const COLUMN_COUNT_BYTES: usize = 2;

const NULL_KEY: Fault = Fault::new(Code::NullKey, "the value is null");
const UNEXPECTED_NULL: Fault = Fault::new(Code::UnexpectedNull, "the value is null");
const KEY_TOO_LONG: Fault = Fault::new(Code::KeyTooLong, "the key's values have more than 2,600 bytes");
const ROW_TOO_LARGE: Fault = Fault::new(Code::RowTooLarge, "the row is larger than 1 GiB");
const ROW_TOO_WIDE: Fault =
    Fault::new(Code::RowTooLarge, "the row does not fit on a page of 8 KiB even with its long values moved out");

/// What a COPY in binary form begins with.
#[must_use]
pub fn copy_header() -> Bytes {
    Bytes::from_static(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0")
}

/// What a COPY in binary form ends with.
#[must_use]
pub fn copy_trailer() -> Bytes {
    Bytes::from_static(&[0xff, 0xff])
}

/// What became of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EncodedRows {
    /// Rows encoded.
    pub rows: u64,
    /// Bytes of these rows, wherever they stand now: handed on, or still in the encoder.
    pub bytes: u64,
    /// The rows left out, by their position in the batch, ascending.
    pub rejected: Vec<usize>,
}

/// Turns batches into rows of a COPY in binary form, without its header and trailer.
#[derive(Debug)]
pub struct RowEncoder<'m> {
    mapping: &'m Mapping,
    key: Vec<bool>,
    page_size: Option<PageSize>,
    /// Rows encoded and not handed on yet.
    pending: Vec<u8>,
    /// The rows that make about one chunk, by the width of those seen last.
    slice_rows: usize,
    scratch: Scratch,
}

/// Per row of the slice at hand; kept for its memory alone.
#[derive(Debug, Default)]
struct Scratch {
    sizes: Vec<usize>,
    field: Vec<usize>,
    key_bytes: Vec<usize>,
    page_bytes: Vec<usize>,
    cursors: Vec<usize>,
}

/// Writes a run of good rows: the encoder, its writers, the beginning of the slice, the rows, the counts to add to.
type WriteRun<'w, 'm> = dyn FnMut(&mut RowEncoder<'m>, &[Box<dyn FieldWriter + '_>], usize, Range<usize>, &mut EncodedRows) -> Result<()>
    + 'w;

impl<'m> RowEncoder<'m> {
    /// An encoder for one COPY.
    #[must_use]
    pub fn new(mapping: &'m Mapping) -> Self {
        let columns = &mapping.schema.columns;
        let key = (0..columns.len()).map(|index| mapping.schema.key.contains(&index)).collect();
        RowEncoder {
            mapping,
            key,
            page_size: PageSize::of(columns),
            pending: Vec::new(),
            slice_rows: FIRST_SLICE_ROWS,
            scratch: Scratch::default(),
        }
    }

    /// Encodes a batch. Full chunks, mostly of 192 KiB to 1 MiB, go to `sink`; what is left stays here until the next batch
    /// or [`RowEncoder::finish`].
    ///
    /// # Errors
    /// Those of `bad` and `sink`; [`Code::Internal`] where the batch is not of this encoder's mapping.
    pub fn encode(
        &mut self,
        batch: &PreparedBatch,
        bad: &mut dyn BadRows,
        sink: &mut dyn FnMut(Bytes) -> Result<()>,
    ) -> Result<EncodedRows> {
        self.encode_runs(batch, bad, &mut |encoder, writers, slice_start, rows, encoded| {
            encoder.write(writers, slice_start, rows, encoded, sink)
        })
    }

    /// Encodes a batch and hands on each good row by itself, with its position in the batch. Rows whose bytes are the
    /// same are stored as the same values. Not to be mixed with [`RowEncoder::encode`].
    ///
    /// # Errors
    /// Those of `bad` and `sink`; [`Code::Internal`] where the batch is not of this encoder's mapping.
    pub fn encode_each(
        &mut self,
        batch: &PreparedBatch,
        bad: &mut dyn BadRows,
        sink: &mut dyn FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<EncodedRows> {
        self.encode_runs(batch, bad, &mut |encoder, writers, slice_start, rows, encoded| {
            encoder.pending.clear();
            encoder.lay_out(writers, slice_start, rows.clone(), encoded);
            let mut rest = encoder.pending.as_slice();
            for row in rows {
                let (bytes, after) = rest.split_at(encoder.scratch.sizes[row - slice_start]);
                sink(row, bytes)?;
                rest = after;
            }
            Ok(())
        })
    }

    /// Goes through a batch slice by slice: measures its rows, gives the bad ones to `bad` and each run of good ones
    /// between them, with the beginning of its slice, to `write`.
    fn encode_runs(
        &mut self,
        batch: &PreparedBatch,
        bad: &mut dyn BadRows,
        write: &mut WriteRun<'_, 'm>,
    ) -> Result<EncodedRows> {
        let items = self.items(batch)?;
        let mut writers = self.writers(batch, &items)?;
        let mut encoded = EncodedRows::default();
        let mut start = 0;
        while start < batch.rows {
            let mut faults = Faults::default();
            let end = self.measure(&mut writers, batch, start..batch.rows, &mut faults);
            let bad_rows = self.faults_of(batch, start..end, &mut faults);
            let before = encoded.bytes;
            let mut run_start = start;
            for cell in &bad_rows {
                write(self, &writers, start, run_start..cell.row, &mut encoded)?;
                run_start = cell.row + 1;
                encoded.rejected.push(cell.row);
                bad.reject(self.describe(batch, cell))?;
            }
            write(self, &writers, start, run_start..end, &mut encoded)?;
            self.adapt(end - start, (encoded.bytes - before) as usize);
            start = end;
        }
        Ok(encoded)
    }

    /// Hands on what is left.
    ///
    /// # Errors
    /// Those of `sink`.
    pub fn finish(&mut self, sink: &mut dyn FnMut(Bytes) -> Result<()>) -> Result<()> {
        self.hand_on(sink)
    }

    fn items(&self, batch: &PreparedBatch) -> Result<Vec<Items>> {
        if batch.columns.len() != self.mapping.schema.columns.len() {
            return Err(Error::internal("a batch was prepared by another mapping"));
        }
        let columns = self.mapping.schema.columns.iter().zip(&batch.columns);
        columns
            .map(|(column, values)| match column.ty {
                ColumnType::Array(_) => {
                    let (items, ranges) = array::items(values)?;
                    Ok(Some((plain(&items)?, ranges)))
                }
                _ => Ok(None),
            })
            .collect()
    }

    fn writers<'a>(&self, batch: &'a PreparedBatch, items: &'a [Items]) -> Result<Vec<Box<dyn FieldWriter + 'a>>> {
        let columns = self.mapping.schema.columns.iter().zip(&self.mapping.columns);
        columns
            .zip(batch.columns.iter().zip(items))
            .map(|((column, mapped), (values, items))| {
                writer::of(column.ty, &mapped.field, values, items)
                    .map_err(|error| error.at(format!("column `{}`", column.name)))
            })
            .collect()
    }

    /// Measures a slice of the rows and marks the bad ones. Returns the slice's end.
    fn measure(
        &mut self,
        writers: &mut [Box<dyn FieldWriter + '_>],
        batch: &PreparedBatch,
        rows: Range<usize>,
        faults: &mut Faults,
    ) -> usize {
        let Scratch { sizes, field, key_bytes, page_bytes, .. } = &mut self.scratch;
        let start = rows.start;
        let mut end = rows.end.min(start + self.slice_rows);
        reset(sizes, end - start, COLUMN_COUNT_BYTES);
        reset(key_bytes, end - start, 0);
        reset(page_bytes, end - start, self.page_size.as_ref().map_or(0, PageSize::fixed));
        for (index, (writer, column)) in writers.iter_mut().zip(&self.mapping.schema.columns).enumerate() {
            faults.enter(Some(index));
            let is_key = self.key[index];
            if !is_key && self.page_size.is_none() {
                end = writer.measure(start..end, &mut sizes[..end - start], faults);
            } else {
                reset(field, end - start, 0);
                end = writer.measure(start..end, field, faults);
                for (offset, &bytes) in field[..end - start].iter().enumerate() {
                    sizes[offset] += bytes;
                    if is_key {
                        key_bytes[offset] += bytes - LENGTH_BYTES;
                    }
                    if let Some(page_size) = &self.page_size {
                        page_bytes[offset] += page_size.of_field(index, bytes - LENGTH_BYTES);
                    }
                }
            }
            if !column.nullable && batch.columns[index].logical_null_count() > 0 {
                let nulls = batch.columns[index].logical_nulls();
                let is_null = |row: &usize| nulls.as_ref().is_some_and(|nulls| nulls.is_null(*row));
                let fault = if is_key { NULL_KEY } else { UNEXPECTED_NULL };
                (start..end).filter(is_null).for_each(|row| faults.mark(row, fault));
            }
        }
        faults.enter(None);
        for row in start..end {
            let offset = row - start;
            if key_bytes[offset] > MAX_KEY_BYTES {
                faults.mark(row, KEY_TOO_LONG);
            }
            if sizes[offset] > MAX_ROW_BYTES {
                faults.mark(row, ROW_TOO_LARGE);
            }
            if page_bytes[offset] > PageSize::MAX {
                faults.mark(row, ROW_TOO_WIDE);
            }
        }
        end
    }

    /// The first fault of each bad row of the slice; faults of the casts, which left nulls behind, go before others.
    fn faults_of(&self, batch: &PreparedBatch, rows: Range<usize>, faults: &mut Faults) -> Vec<CellFault> {
        let from = batch.faults.partition_point(|cell| cell.row < rows.start);
        let to = batch.faults.partition_point(|cell| cell.row < rows.end);
        let mut found = batch.faults[from..to].to_vec();
        // Columns may have measured rows beyond the end that another column set.
        found.extend(faults.take().into_iter().filter(|cell| rows.contains(&cell.row)));
        found.sort_by_key(|cell| cell.row);
        found.dedup_by_key(|cell| cell.row);
        found
    }

    /// Writes good rows of the slice that begins at `slice_start` and hands full chunks on.
    fn write(
        &mut self,
        writers: &[Box<dyn FieldWriter + '_>],
        slice_start: usize,
        rows: Range<usize>,
        encoded: &mut EncodedRows,
        sink: &mut dyn FnMut(Bytes) -> Result<()>,
    ) -> Result<()> {
        let mut start = rows.start;
        while start < rows.end {
            let mut total = self.pending.len();
            let sizes = &self.scratch.sizes[start - slice_start..rows.end - slice_start];
            let fits = |size: &&usize| {
                let fits = total == 0 || total + **size <= MAX_CHUNK_BYTES;
                total += **size;
                fits
            };
            let end = start + sizes.iter().take_while(fits).count();
            self.lay_out(writers, slice_start, start..end, encoded);
            if self.pending.len() >= CHUNK_FULL || end < rows.end {
                self.hand_on(sink)?;
            }
            start = end;
        }
        Ok(())
    }

    /// Puts good rows of the slice that begins at `slice_start` behind what is pending.
    fn lay_out(
        &mut self,
        writers: &[Box<dyn FieldWriter + '_>],
        slice_start: usize,
        rows: Range<usize>,
        encoded: &mut EncodedRows,
    ) {
        let column_count = (writers.len() as u16).to_be_bytes();
        let mut total = self.pending.len();
        let cursors = &mut self.scratch.cursors;
        cursors.clear();
        for size in &self.scratch.sizes[rows.start - slice_start..rows.end - slice_start] {
            cursors.push(total);
            total += size;
        }
        encoded.rows += rows.len() as u64;
        encoded.bytes += (total - self.pending.len()) as u64;
        self.pending.resize(total, 0);
        for cursor in cursors.iter_mut() {
            self.pending[*cursor..*cursor + COLUMN_COUNT_BYTES].copy_from_slice(&column_count);
            *cursor += COLUMN_COUNT_BYTES;
        }
        for writer in writers {
            writer.write(rows.clone(), &mut self.pending, cursors);
        }
    }

    fn hand_on(&mut self, sink: &mut dyn FnMut(Bytes) -> Result<()>) -> Result<()> {
        // The next chunk is about as large.
        let capacity = (self.pending.len() + self.pending.len() / 8).min(MAX_CHUNK_BYTES);
        let mut chunk = Bytes::from(std::mem::replace(&mut self.pending, Vec::with_capacity(capacity)));
        while chunk.len() > MAX_CHUNK_BYTES {
            sink(chunk.split_to(MAX_CHUNK_BYTES))?;
        }
        if chunk.is_empty() { Ok(()) } else { sink(chunk) }
    }

    /// Aims the next slice at one chunk.
    fn adapt(&mut self, rows: usize, bytes: usize) {
        let width = (bytes / rows.max(1)).max(1);
        self.slice_rows = (CHUNK_BYTES / width).clamp(1, 4 * self.slice_rows.max(FIRST_SLICE_ROWS)).min(1 << 16);
    }

    fn describe(&self, batch: &PreparedBatch, cell: &CellFault) -> BadRow {
        let schema = &self.mapping.schema;
        let value = |index: usize| batch.originals.get(index).and_then(|values| display(values, cell.row));
        let key = schema.key.iter().map(|&index| (schema.columns[index].name.clone(), value(index))).collect();
        let reason = match cell.column.and_then(value) {
            Some(value) => format!("{}: {value}", cell.fault.reason),
            None => cell.fault.reason.to_owned(),
        };
        let column = cell.column.and_then(|index| schema.columns.get(index)).map(|column| column.name.clone());
        BadRow { row: cell.row, column, code: cell.fault.code, reason, key }
    }
}

fn reset(values: &mut Vec<usize>, length: usize, to: usize) {
    values.clear();
    values.resize(length, to);
}
