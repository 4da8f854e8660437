//! Lists of scalars as one-dimensional arrays.

use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_buffer::{ArrowNativeType, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::DataType;

use super::bad_row::{Fault, Faults};
use super::field::{FieldWriter, LENGTH_BYTES, Render};
use super::typed_array::unexpected;
use crate::domain::{Code, Result};

/// Where each list's items lie among all items.
#[derive(Clone)]
pub(super) enum ItemRanges {
    Offsets(OffsetBuffer<i32>),
    LargeOffsets(OffsetBuffer<i64>),
    Fixed(usize),
    Views(ScalarBuffer<i32>, ScalarBuffer<i32>),
    LargeViews(ScalarBuffer<i64>, ScalarBuffer<i64>),
}

impl ItemRanges {
    pub(super) fn of(&self, row: usize) -> Range<usize> {
        match self {
            ItemRanges::Offsets(offsets) => offsets[row].as_usize()..offsets[row + 1].as_usize(),
            ItemRanges::LargeOffsets(offsets) => offsets[row].as_usize()..offsets[row + 1].as_usize(),
            ItemRanges::Fixed(length) => row * length..(row + 1) * length,
            ItemRanges::Views(offsets, sizes) => view(offsets, sizes, row),
            ItemRanges::LargeViews(offsets, sizes) => view(offsets, sizes, row),
        }
    }
}

fn view<O: ArrowNativeType>(offsets: &ScalarBuffer<O>, sizes: &ScalarBuffer<O>, row: usize) -> Range<usize> {
    offsets[row].as_usize()..offsets[row].as_usize() + sizes[row].as_usize()
}

/// The items of all lists, and where each list's lie.
pub(super) fn items(list: &dyn Array) -> Result<(ArrayRef, ItemRanges)> {
    Ok(match list.data_type() {
        DataType::List(_) => {
            let list = list.as_list::<i32>();
            (ArrayRef::clone(list.values()), ItemRanges::Offsets(list.offsets().clone()))
        }
        DataType::LargeList(_) => {
            let list = list.as_list::<i64>();
            (ArrayRef::clone(list.values()), ItemRanges::LargeOffsets(list.offsets().clone()))
        }
        DataType::FixedSizeList(_, length) => {
            let list = list.as_fixed_size_list();
            (ArrayRef::clone(list.values()), ItemRanges::Fixed(length.as_usize()))
        }
        DataType::ListView(_) => {
            let list = list.as_list_view::<i32>();
            (ArrayRef::clone(list.values()), ItemRanges::Views(list.offsets().clone(), list.sizes().clone()))
        }
        DataType::LargeListView(_) => {
            let list = list.as_list_view::<i64>();
            (ArrayRef::clone(list.values()), ItemRanges::LargeViews(list.offsets().clone(), list.sizes().clone()))
        }
        _ => return Err(unexpected(list, "lists")),
    })
}

/// Renders arrays; the items by the writer of their own type.
pub(super) struct Arrays<'a> {
    nulls: Option<&'a NullBuffer>,
    ranges: ItemRanges,
    items: Box<dyn FieldWriter + 'a>,
    item_nulls: Option<&'a NullBuffer>,
    item_oid: u32,
    sizes: Vec<usize>,
}

impl<'a> Arrays<'a> {
    pub(super) fn new(
        list: &'a dyn Array,
        ranges: ItemRanges,
        items: Box<dyn FieldWriter + 'a>,
        item_nulls: Option<&'a NullBuffer>,
        item_oid: u32,
    ) -> Self {
        Arrays { nulls: list.nulls(), ranges, items, item_nulls, item_oid, sizes: Vec::new() }
    }

    /// Writes items, which may be more than their writer measures at a time.
    fn render_items(&mut self, mut range: Range<usize>, out: &mut Vec<u8>) -> Result<(), Fault> {
        while !range.is_empty() {
            let mut faults = Faults::default();
            self.sizes.clear();
            self.sizes.resize(range.len(), 0);
            let end = self.items.measure(range.clone(), &mut self.sizes, &mut faults);
            if let Some(fault) = faults.first() {
                return Err(fault);
            }
            self.sizes.truncate(end - range.start);
            let mut cursor = out.len();
            for size in &mut self.sizes {
                cursor += std::mem::replace(size, cursor);
            }
            out.resize(cursor, 0);
            self.items.write(range.start..end, out, &mut self.sizes);
            range.start = end;
        }
        Ok(())
    }
}

impl Render for Arrays<'_> {
    fn is_null(&self, row: usize) -> bool {
        self.nulls.is_some_and(|nulls| nulls.is_null(row))
    }

    fn render(&mut self, row: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
        const TOO_MANY_ITEMS: Fault = Fault::new(Code::RowTooLarge, "the list has more items than an array can hold");
        /// `MaxArraySize` of Postgres: what fits 1 GiB with eight bytes each.
        const MAX_ITEMS: usize = ((1 << 30) - 1) / 8;
        let range = self.ranges.of(row);
        if range.len() > MAX_ITEMS {
            return Err(TOO_MANY_ITEMS);
        }
        let has_null = self.item_nulls.is_some_and(|nulls| range.clone().any(|item| nulls.is_null(item)));
        let dimensions = u32::from(!range.is_empty());
        out.reserve(5 * LENGTH_BYTES);
        for word in [dimensions, u32::from(has_null), self.item_oid] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        if range.is_empty() {
            return Ok(());
        }
        out.extend_from_slice(&(range.len() as u32).to_be_bytes());
        out.extend_from_slice(&1_u32.to_be_bytes());
        self.render_items(range, out)
    }
}
