//! Which rows of a file belong to what is read: all but some, or only some, by their positions in the file.

use std::fmt;
use std::ops::Range;

use parquet::arrow::arrow_reader::RowSelection;

use crate::domain::{Error, Result};

use super::failure::corrupt;

/// Which rows of a file that has not been opened belong to what is read.
#[derive(Debug, Default)]
pub(super) enum Rows {
    /// All of them.
    #[default]
    All,
    /// All but those that a deletion vector marks.
    AllBut(Positions),
    /// Those alone that one deletion vector marks and another does not.
    Only(Positions),
}

/// Positions in a file, to be fetched when the file is opened.
pub(super) struct Positions {
    /// How many, where the log says.
    pub(super) count: Option<u64>,
    /// No more than that.
    pub(super) most: u64,
    /// Fetches them, ascending. Blocks.
    pub(super) fetch: Box<dyn Fn() -> Result<Vec<u64>> + Send + Sync>,
}

impl fmt::Debug for Positions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Positions").field("count", &self.count).finish_non_exhaustive()
    }
}

impl Rows {
    /// How many rows of a file of `total` rows these are, where the log says.
    pub(super) fn count_of(&self, total: Option<u64>) -> Option<u64> {
        match self {
            Rows::All => total,
            Rows::AllBut(positions) => Some(total?.saturating_sub(positions.count?)),
            Rows::Only(positions) => positions.count,
        }
    }

    /// How many rows of a file of `total` rows these are at most, where the log says.
    pub(super) fn most_of(&self, total: Option<u64>) -> Option<u64> {
        match self {
            Rows::Only(positions) => Some(positions.most),
            Rows::All | Rows::AllBut(_) => self.count_of(total).or(total),
        }
    }

    /// Fetches the positions and checks them against the file. Blocks.
    ///
    /// # Errors
    /// [`crate::domain::Code::FileGone`], [`crate::domain::Code::SourceCorrupt`] where the positions do not fit the
    /// file or the number that the log gives, and those of the store.
    pub(super) fn resolve(&self, total: u64, place: &str) -> Result<LiveRows> {
        let (positions, only) = match self {
            Rows::All => return Ok(LiveRows { positions: Vec::new(), only: false }),
            Rows::AllBut(positions) => (positions, false),
            Rows::Only(positions) => (positions, true),
        };
        let count = positions.count;
        let positions = (positions.fetch)().map_err(|error: Error| error.at(place))?;
        if let Some(count) = count.filter(|&count| positions.len() as u64 != count) {
            let why = format!("the deletion vector marks {} rows, the log says {count}", positions.len());
            return Err(corrupt(place, why));
        }
        match positions.last() {
            Some(last) if *last >= total => {
                Err(corrupt(place, format!("the deletion vector marks row {last} of a file of {total} rows")))
            }
            _ => Ok(LiveRows { positions, only }),
        }
    }
}

/// Which rows of an opened file belong to what is read.
#[derive(Debug)]
pub(super) struct LiveRows {
    /// Ascending.
    positions: Vec<u64>,
    /// Whether the positions are those that belong, and not those that do not.
    only: bool,
}

impl LiveRows {
    /// How many rows of a range of the file belong.
    pub(super) fn count(&self, rows: &Range<u64>) -> u64 {
        let listed = self.listed(rows).len() as u64;
        if self.only { listed } else { rows.end - rows.start - listed }
    }

    /// Which rows of a range of the file belong, counted from the range's beginning; `None` = all.
    pub(super) fn selection(&self, rows: &Range<u64>) -> Option<RowSelection> {
        let listed = self.listed(rows).iter().map(|position| (position - rows.start) as usize);
        let total = (rows.end - rows.start) as usize;
        if self.only {
            return Some(select(listed, total));
        }
        if listed.len() == 0 {
            return None;
        }
        let mut kept = Vec::with_capacity(listed.len() + 1);
        let mut next = 0;
        for position in listed {
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

    fn listed(&self, rows: &Range<u64>) -> &[u64] {
        let from = self.positions.partition_point(|&position| position < rows.start);
        let to = self.positions.partition_point(|&position| position < rows.end);
        self.positions.get(from..to).unwrap_or_default()
    }
}

/// The selection of single rows, ascending, among `total`.
pub(super) fn select(rows: impl Iterator<Item = usize>, total: usize) -> RowSelection {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for row in rows {
        match ranges.last_mut() {
            Some(last) if last.end == row => last.end += 1,
            _ => ranges.push(row..row + 1),
        }
    }
    RowSelection::from_consecutive_ranges(ranges.into_iter(), total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(rows: &LiveRows, range: Range<u64>) -> Vec<usize> {
        let Some(selection) = rows.selection(&range) else { return (0..(range.end - range.start) as usize).collect() };
        let mut at = 0;
        let mut chosen = Vec::new();
        for part in selection.iter() {
            if !part.skip {
                chosen.extend(at..at + part.row_count);
            }
            at += part.row_count;
        }
        chosen
    }

    #[test]
    fn deleted_rows_are_left_out_row_group_by_row_group() {
        let rows = LiveRows { positions: vec![0, 3, 4, 9], only: false };
        assert_eq!(chosen(&rows, 0..5), [1, 2]);
        assert_eq!(chosen(&rows, 5..10), [0, 1, 2, 3]);
        assert_eq!((rows.count(&(0..5)), rows.count(&(5..10)), rows.count(&(10..12))), (2, 4, 2));
        assert_eq!(chosen(&rows, 10..12), [0, 1]);
    }

    #[test]
    fn newly_deleted_rows_are_read_alone() {
        let rows = LiveRows { positions: vec![0, 3, 4, 9], only: true };
        assert_eq!(chosen(&rows, 0..5), [0, 3, 4]);
        assert_eq!(chosen(&rows, 5..10), [4]);
        assert_eq!(chosen(&rows, 10..12), Vec::<usize>::new());
        assert_eq!((rows.count(&(0..5)), rows.count(&(10..12))), (3, 0));
    }
}
