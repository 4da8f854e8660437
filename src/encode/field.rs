//! How one column is written: a pass that measures its fields, and a pass that writes them.
//!
//! A field of a COPY row is a length word and that many bytes, or the length -1 for null.

use std::ops::Range;

use arrow_array::{Array, BooleanArray};
use arrow_buffer::NullBuffer;

use super::bad_row::{Fault, Faults};

/// The length word of a field.
pub(super) const LENGTH_BYTES: usize = 4;
/// The largest value that Postgres can take: 1 GiB less the headers of a value in memory.
const MAX_VALUE_BYTES: usize = (1 << 30) - 64;
/// How much a column that has to render its values keeps of them at a time.
const STAGE_BYTES: usize = 1 << 20;
const NULL_FIELD: [u8; 4] = (-1_i32).to_be_bytes();

/// Writes the fields of one column, for the rows of one batch.
pub(super) trait FieldWriter {
    /// Adds the bytes of each row's field, length word included, to `sizes` (one for each row of `rows`) and marks the
    /// rows whose value cannot be stored. Returns the end of the rows measured, beyond `rows.start` but perhaps short
    /// of `rows.end` to keep memory bounded.
    fn measure(&mut self, rows: Range<usize>, sizes: &mut [usize], faults: &mut Faults) -> usize;

    /// Writes each row's field at its cursor and moves the cursor behind it. The rows are among those measured last,
    /// and none of them is marked.
    fn write(&self, rows: Range<usize>, out: &mut [u8], cursors: &mut [usize]);
}

/// Values of a fixed width, from a slice of numbers.
pub(super) struct Fixed<'a, T, F, const N: usize> {
    values: &'a [T],
    nulls: Option<&'a NullBuffer>,
    encode: F,
}

impl<'a, T: Copy, F: Fn(T) -> Result<[u8; N], Fault>, const N: usize> Fixed<'a, T, F, N> {
    pub(super) fn new(values: &'a [T], nulls: Option<&'a NullBuffer>, encode: F) -> Self {
        Fixed { values, nulls: nulls.filter(|nulls| nulls.null_count() > 0), encode }
    }
}

impl<T: Copy, F: Fn(T) -> Result<[u8; N], Fault>, const N: usize> FieldWriter for Fixed<'_, T, F, N> {
    fn measure(&mut self, rows: Range<usize>, sizes: &mut [usize], faults: &mut Faults) -> usize {
        let values = &self.values[rows.clone()];
        for (offset, (value, size)) in values.iter().zip(sizes).enumerate() {
            let row = rows.start + offset;
            if self.nulls.is_some_and(|nulls| nulls.is_null(row)) {
                *size += LENGTH_BYTES;
                continue;
            }
            *size += LENGTH_BYTES + N;
            if let Err(fault) = (self.encode)(*value) {
                faults.mark(row, fault);
            }
        }
        rows.end
    }

    fn write(&self, rows: Range<usize>, out: &mut [u8], cursors: &mut [usize]) {
        let values = &self.values[rows.clone()];
        match self.nulls {
            None => {
                for (value, cursor) in values.iter().zip(cursors) {
                    put_fixed(out, cursor, (self.encode)(*value));
                }
            }
            Some(nulls) => {
                for ((value, cursor), row) in values.iter().zip(cursors).zip(rows) {
                    if nulls.is_null(row) {
                        put_null(out, cursor);
                    } else {
                        put_fixed(out, cursor, (self.encode)(*value));
                    }
                }
            }
        }
    }
}

/// Booleans, which Arrow packs into bits.
pub(super) struct Booleans<'a>(pub(super) &'a BooleanArray);

impl FieldWriter for Booleans<'_> {
    fn measure(&mut self, rows: Range<usize>, sizes: &mut [usize], _: &mut Faults) -> usize {
        for (row, size) in rows.clone().zip(sizes) {
            *size += if self.0.is_null(row) { LENGTH_BYTES } else { LENGTH_BYTES + 1 };
        }
        rows.end
    }

    fn write(&self, rows: Range<usize>, out: &mut [u8], cursors: &mut [usize]) {
        for (row, cursor) in rows.zip(cursors) {
            if self.0.is_null(row) {
                put_null(out, cursor);
            } else {
                put_fixed(out, cursor, Ok([u8::from(self.0.value(row))]));
            }
        }
    }
}

/// Values that are written as they lie in Arrow: text and binaries.
pub(super) struct Verbatim<'a, V> {
    values: &'a V,
    nulls: Option<&'a NullBuffer>,
    is_text: bool,
}

/// An array whose values are bytes.
pub(super) trait ByteValues {
    /// The bytes of a value that is not null.
    fn bytes(&self, row: usize) -> &[u8];

    /// The bytes of neighbouring values in one piece, where the array has them so.
    fn run(&self, _rows: Range<usize>) -> Option<&[u8]> {
        None
    }
}

impl<T: arrow_array::types::ByteArrayType> ByteValues for arrow_array::GenericByteArray<T> {
    fn bytes(&self, row: usize) -> &[u8] {
        self.value(row).as_ref()
    }

    fn run(&self, rows: Range<usize>) -> Option<&[u8]> {
        use arrow_buffer::ArrowNativeType;
        let offsets = self.value_offsets();
        let (start, end) = (offsets.get(rows.start)?.as_usize(), offsets.get(rows.end)?.as_usize());
        self.value_data().get(start..end)
    }
}

impl<T: arrow_array::types::ByteViewType> ByteValues for arrow_array::GenericByteViewArray<T> {
    fn bytes(&self, row: usize) -> &[u8] {
        self.value(row).as_ref()
    }
}

impl ByteValues for arrow_array::FixedSizeBinaryArray {
    fn bytes(&self, row: usize) -> &[u8] {
        self.value(row)
    }
}

impl<'a, V: ByteValues + Array> Verbatim<'a, V> {
    pub(super) fn new(values: &'a V, is_text: bool) -> Self {
        Verbatim { values, nulls: values.nulls().filter(|nulls| nulls.null_count() > 0), is_text }
    }
}

impl<V: ByteValues> FieldWriter for Verbatim<'_, V> {
    fn measure(&mut self, rows: Range<usize>, sizes: &mut [usize], faults: &mut Faults) -> usize {
        let may_contain_nul = self.is_text && self.values.run(rows.clone()).is_none_or(|run| run.contains(&0));
        for (row, size) in rows.clone().zip(sizes) {
            *size += LENGTH_BYTES;
            if self.nulls.is_some_and(|nulls| nulls.is_null(row)) {
                continue;
            }
            let bytes = self.values.bytes(row);
            *size += bytes.len();
            if bytes.len() > MAX_VALUE_BYTES {
                faults.mark(row, Fault::TOO_LARGE);
            } else if may_contain_nul && bytes.contains(&0) {
                faults.mark(row, Fault::NUL);
            }
        }
        rows.end
    }

    fn write(&self, rows: Range<usize>, out: &mut [u8], cursors: &mut [usize]) {
        for (row, cursor) in rows.zip(cursors) {
            if self.nulls.is_some_and(|nulls| nulls.is_null(row)) {
                put_null(out, cursor);
            } else {
                put_bytes(out, cursor, self.values.bytes(row));
            }
        }
    }
}

/// Renders one value after another.
pub(super) trait Render {
    /// Whether the row has no value.
    fn is_null(&self, row: usize) -> bool;

    /// Appends the value of a row that is not null. What is appended before a fault does not matter.
    fn render(&mut self, row: usize, out: &mut Vec<u8>) -> Result<(), Fault>;
}

/// Values whose length is known only once they are rendered: kept from the measuring to the writing.
pub(super) struct Staged<R> {
    renderer: R,
    first: usize,
    /// Where each row's value ends in `bytes`; `None` for null.
    ends: Vec<Option<usize>>,
    bytes: Vec<u8>,
}

impl<R: Render> Staged<R> {
    pub(super) fn new(renderer: R) -> Self {
        Staged { renderer, first: 0, ends: Vec::new(), bytes: Vec::new() }
    }
}

impl<R: Render> FieldWriter for Staged<R> {
    fn measure(&mut self, rows: Range<usize>, sizes: &mut [usize], faults: &mut Faults) -> usize {
        self.first = rows.start;
        self.ends.clear();
        self.bytes.clear();
        for (row, size) in rows.clone().zip(sizes) {
            if self.bytes.len() >= STAGE_BYTES {
                return row;
            }
            *size += LENGTH_BYTES;
            if self.renderer.is_null(row) {
                self.ends.push(None);
                continue;
            }
            let start = self.bytes.len();
            let rendered = self.renderer.render(row, &mut self.bytes);
            let fault = rendered.err().or((self.bytes.len() - start > MAX_VALUE_BYTES).then_some(Fault::TOO_LARGE));
            if let Some(fault) = fault {
                faults.mark(row, fault);
                self.bytes.truncate(start);
            }
            *size += self.bytes.len() - start;
            self.ends.push(Some(self.bytes.len()));
        }
        rows.end
    }

    fn write(&self, rows: Range<usize>, out: &mut [u8], cursors: &mut [usize]) {
        let (from, to) = (rows.start - self.first, rows.end - self.first);
        let mut start = self.ends[..from].iter().rev().flatten().next().copied().unwrap_or(0);
        for (end, cursor) in self.ends[from..to].iter().zip(cursors) {
            match *end {
                None => put_null(out, cursor),
                Some(end) => {
                    put_bytes(out, cursor, &self.bytes[start..end]);
                    start = end;
                }
            }
        }
    }
}

#[inline]
fn put_null(out: &mut [u8], cursor: &mut usize) {
    put(out, cursor, &NULL_FIELD);
}

#[inline]
fn put_fixed<const N: usize>(out: &mut [u8], cursor: &mut usize, value: Result<[u8; N], Fault>) {
    // Rows with faults are not written.
    if let Ok(bytes) = value {
        put(out, cursor, &(N as i32).to_be_bytes());
        put(out, cursor, &bytes);
    }
}

#[inline]
fn put_bytes(out: &mut [u8], cursor: &mut usize, bytes: &[u8]) {
    put(out, cursor, &(bytes.len() as i32).to_be_bytes());
    put(out, cursor, bytes);
}

#[inline]
fn put(out: &mut [u8], cursor: &mut usize, bytes: &[u8]) {
    out[*cursor..*cursor + bytes.len()].copy_from_slice(bytes);
    *cursor += bytes.len();
}
