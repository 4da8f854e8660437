//! What changed between two states of a source, as rows that went and rows that came.
//!
//! The later state is the earlier one less the rows of [`Side::Before`] plus those of [`Side::After`], each counted as
//! often as it occurs. Rows may be among both: writers rewrite whole files for the sake of a few rows, and a row that
//! came with one commit may have gone with the next. Which rows really differ is found by cancelling equal ones.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Field};
use object_store::ObjectStore;

use crate::domain::{Code, Error, Result};

use super::SourceSize;
use super::columns::{FileColumn, Origin, Target};
use super::data_file::DataFile;
use super::failure::corrupt;
use super::live_rows::Rows;
use super::row_group::BatchPlace;
use super::row_identity::{Narrowed, RowIdentity};
use super::scan::{self, Scan, Wanted, Work};

/// Why a source whose commits are not those that were loaded cannot be followed.
pub const OTHER_HISTORY: &str = "the history of the source is another one than was loaded";

/// The column of a change feed that says what happened to the row.
const CHANGE_TYPE: &str = "_change_type";

/// Which of its columns a source is followed by, by their names there.
#[derive(Debug, Clone, Default)]
pub struct FollowedColumns {
    /// Those that were loaded: both states must have them, found in their files in the same way.
    pub kept: Vec<String>,
    /// Those that were not: the earlier state must not have them, so that they are null in all of its rows.
    pub added: Vec<String>,
}

/// The way from one state of a source to another.
#[derive(Debug)]
pub enum Changes {
    /// No row differs.
    None,
    /// Rows went or came.
    Rows(ChangedRows),
    /// It cannot be told from what the source keeps. The text says why.
    Unknown(String),
}

/// Which state the rows of a file belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The earlier one: they went.
    Before,
    /// The later one: they came.
    After,
    /// Each row says so itself: the file is of a change feed.
    PerRow,
}

/// The rows that went and those that came.
pub struct ChangedRows {
    store: Arc<dyn ObjectStore>,
    address: Arc<str>,
    targets: Vec<Target>,
    files: Arc<[DataFile]>,
    sides: Vec<Side>,
    /// How the rows of all files are told apart, where writers keep track of them.
    identity: Option<RowIdentity>,
    each_once: bool,
    summary: String,
}

impl fmt::Debug for ChangedRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangedRows")
            .field("address", &self.address)
            .field("summary", &self.summary)
            .finish_non_exhaustive()
    }
}

/// Which changed rows are read.
#[derive(Debug, Clone, Copy)]
pub enum Pick<'a> {
    /// Those that went and those that came.
    All,
    /// Those that went, where no change feed is among the files.
    Went,
    /// Those that came, where no change feed is among the files.
    Came,
    /// Those at these places, ascending.
    At(&'a [RowPlace]),
}

/// What a format finds out about the way from one state to another.
pub(super) enum Found {
    None,
    /// Files with the side of their rows.
    Files(FoundFiles),
    Unknown(String),
}

/// The files that tell what changed.
pub(super) struct FoundFiles {
    /// With the side of their rows.
    pub(super) files: Vec<(DataFile, Side)>,
    /// How the rows of all of them are told apart, where writers keep track of them.
    pub(super) identity: Option<RowIdentity>,
    /// Whether no row is among those of several files of one side. It is where rows were moved without a change: one that
    /// came, was moved, and went again stands in the file where it came and in another where it went.
    pub(super) each_once: bool,
    /// What they are, for a person.
    pub(super) summary: String,
}

/// Where a changed row stands: its file, the row group, and its place among the rows of the row group that belong to
/// what is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowPlace(u64);

impl RowPlace {
    const ROW_BITS: u32 = 28;
    const GROUP_BITS: u32 = 14;
    const FILE_BITS: u32 = 21;

    /// The place of the `offset`th row of a batch.
    ///
    /// # Errors
    /// [`Code::NotIncremental`] beyond 2 million files, 16,000 row groups or 268 million rows of one.
    pub fn of(batch: BatchPlace, offset: usize) -> Result<RowPlace> {
        let row = batch.first_row + offset;
        if batch.file >> Self::FILE_BITS != 0 || batch.row_group >> Self::GROUP_BITS != 0 || row >> Self::ROW_BITS != 0
        {
            let detail = "the changes have more files, row groups or rows than can be numbered";
            return Err(Error::new(Code::NotIncremental, detail));
        }
        let group = (batch.file as u64) << Self::GROUP_BITS | batch.row_group as u64;
        Ok(RowPlace(group << Self::ROW_BITS | row as u64))
    }

    /// The place of the `offset`th row of a batch of a scan that reads these places alone.
    ///
    /// # Errors
    /// As [`RowPlace::of`].
    pub fn of_picked(picks: &[RowPlace], batch: BatchPlace, offset: usize) -> Result<RowPlace> {
        let first = RowPlace::of(BatchPlace { first_row: 0, ..batch }, 0)?;
        let before = picks.partition_point(|place| *place < first);
        let picked =
            picks.get(before + batch.first_row + offset).filter(|place| place.row_group() == first.row_group());
        picked.copied().ok_or_else(|| Error::internal("a scan yields rows that were not picked"))
    }

    /// The place as a number below 2⁶³, from which it can be made again.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The place of this number.
    #[must_use]
    pub const fn from_bits(bits: u64) -> RowPlace {
        RowPlace(bits)
    }

    fn row_group(self) -> (usize, usize) {
        let group = self.0 >> Self::ROW_BITS;
        ((group >> Self::GROUP_BITS) as usize, (group & ((1 << Self::GROUP_BITS) - 1)) as usize)
    }

    fn row(self) -> u32 {
        (self.0 & ((1 << Self::ROW_BITS) - 1)) as u32
    }
}

impl ChangedRows {
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        address: Arc<str>,
        targets: Vec<Target>,
        found: FoundFiles,
    ) -> ChangedRows {
        let FoundFiles { files, identity, each_once, summary } = found;
        let (files, sides): (Vec<_>, Vec<_>) = files.into_iter().unzip();
        ChangedRows { store, address, targets, files: files.into(), sides, identity, each_once, summary }
    }

    /// What tells of the changes, for a person: `2 files were added`.
    pub fn summary(&self) -> &str {
        &self.summary
    }

    /// The files that are read to find the rows.
    pub fn size(&self) -> SourceSize {
        SourceSize::of(&self.files)
    }

    /// Whether rows only came.
    pub fn only_added(&self) -> bool {
        self.sides.iter().all(|side| *side == Side::After)
    }

    /// Whether the log names the rows that went one by one, as deletion vectors do, and those that went and came are
    /// `most` at most: then they are told without reading values.
    pub fn are_marked(&self, most: u64) -> bool {
        let rows = self.files.iter().zip(&self.sides).map(|(file, side)| match (side, &file.live) {
            (Side::Before, Rows::Only(_)) | (Side::After, _) => file.live.most_of(file.rows),
            (Side::Before | Side::PerRow, _) => None,
        });
        let rows: Option<Vec<u64>> = rows.collect();
        self.each_once && rows.is_some_and(|rows| rows.into_iter().fold(0, u64::saturating_add) <= most)
    }

    /// Splits places into those of rows that went and those of rows that came, where no change feed is among the files.
    pub fn split(&self, places: Vec<RowPlace>) -> (Vec<RowPlace>, Vec<RowPlace>) {
        places.into_iter().partition(|place| self.sides.get(place.row_group().0) == Some(&Side::Before))
    }

    /// Which rows may differ, where writers keep track of rows and those are at most `most`; else `None`. Reads what
    /// tells rows apart, and no values. Blocks.
    ///
    /// # Errors
    /// Those of the files.
    pub fn narrow(&self, most: u64, workers: usize, budget: u64) -> Result<Option<Narrowed>> {
        let Some(identity) = &self.identity else { return Ok(None) };
        let scan = || {
            let (store, address, files) = (Arc::clone(&self.store), Arc::clone(&self.address), Arc::clone(&self.files));
            Ok(scan::start(
                Work { store, address, files, targets: identity.targets(), wanted: Wanted::All },
                workers,
                budget,
            ))
        };
        identity.narrow(&self.sides, scan, usize::try_from(most).unwrap_or(usize::MAX))
    }

    /// Begins to read the rows of the named columns, in that order, and behind them, where a change feed is among the
    /// files, what it says of each row.
    ///
    /// # Errors
    /// [`crate::domain::Code::ColumnMissing`].
    pub fn scan(&self, projection: &[String], pick: Pick<'_>, workers: usize, budget: u64) -> Result<Scan> {
        let mut targets: Vec<Target> =
            projection.iter().map(|name| super::target(&self.targets, name, &self.address)).collect::<Result<_>>()?;
        if self.sides.contains(&Side::PerRow) {
            let field = Arc::new(Field::new(CHANGE_TYPE, DataType::Utf8, true));
            let origin = Origin::File(FileColumn::by_name(&field));
            targets.push(Target { field, origin });
        }
        let wanted = match pick {
            Pick::All => Wanted::All,
            Pick::Went => self.files_of(Side::Before),
            Pick::Came => self.files_of(Side::After),
            Pick::At(places) => {
                let mut rows: HashMap<(usize, usize), Vec<u32>> = HashMap::new();
                for place in places {
                    rows.entry(place.row_group()).or_default().push(place.row());
                }
                Wanted::Rows(rows)
            }
        };
        let (store, address, files) = (Arc::clone(&self.store), Arc::clone(&self.address), Arc::clone(&self.files));
        Ok(scan::start(Work { store, address, files, targets, wanted }, workers, budget))
    }

    fn files_of(&self, side: Side) -> Wanted {
        let files = self.sides.iter().enumerate().filter(|(_, of)| **of == side).map(|(index, _)| index);
        Wanted::Files(files.collect())
    }

    /// Which rows of a batch went: all of them or none, or each as the batch says.
    ///
    /// # Errors
    /// [`crate::domain::Code::SourceCorrupt`] where a change feed does not say.
    pub fn gone(&self, place: BatchPlace, batch: &RecordBatch) -> Result<Gone> {
        match self.sides.get(place.file) {
            Some(Side::Before) => return Ok(Gone::All),
            Some(Side::After) => return Ok(Gone::None),
            Some(Side::PerRow) => {}
            None => return Err(Error::internal("a batch of a file beyond the last")),
        }
        let file = || {
            let name = self.files.get(place.file).map_or("", |file| file.name.as_str());
            format!("{name} of {}", self.address)
        };
        let said = batch.columns().last().and_then(|said| said.as_string_opt::<i32>());
        let said = said.ok_or_else(|| Error::internal("a batch of a change feed without its last column"))?;
        let gone = (0..said.len()).map(|row| {
            let said = if said.is_valid(row) { said.value(row) } else { "nothing" };
            match said {
                "delete" | "update_preimage" => Ok(true),
                "insert" | "update_postimage" => Ok(false),
                other => Err(corrupt(file(), format!("the change feed says `{other}` of a row"))),
            }
        });
        Ok(Gone::Each(gone.collect::<Result<_>>()?))
    }
}

/// Which rows of a batch went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gone {
    /// All.
    All,
    /// None: all came.
    None,
    /// Those that are marked.
    Each(Vec<bool>),
}

impl Gone {
    /// Whether a row of the batch went.
    #[must_use]
    pub fn is_gone(&self, row: usize) -> bool {
        match self {
            Gone::All => true,
            Gone::None => false,
            Gone::Each(gone) => gone.get(row).copied().unwrap_or(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_keeps_file_row_group_and_row_and_sorts_by_them() {
        let place = |file, row_group, first_row| {
            RowPlace::of(BatchPlace { file, row_group, row_group_start: 0, first_row }, 5).unwrap()
        };
        let far = place((1 << 21) - 1, (1 << 14) - 1, (1 << 28) - 6);
        assert_eq!((far.row_group(), far.row()), (((1 << 21) - 1, (1 << 14) - 1), (1 << 28) - 1));
        assert_eq!(RowPlace::from_bits(far.to_bits()), far);
        assert!(far.to_bits() < 1 << 63);
        assert!(place(1, 0, 0) > place(0, 7, 9) && place(0, 7, 9) > place(0, 7, 8));
        assert!(RowPlace::of(BatchPlace { file: 1 << 21, row_group: 0, row_group_start: 0, first_row: 0 }, 0).is_err());
    }
}
