//! Which rows of rewritten files are the same as before, by the identity that writers keep for each row.
//!
//! With row tracking (Delta protocol, section "Row Tracking") a row has an id that it keeps, and the version of the table
//! that last changed it. Both stand in columns of the file where the row was written anew, else they follow from the
//! file's entry in the log: its first id, counted up by the row's position, and its version. Rows that have both in
//! common are the same row, unchanged: a writer that copies rows need not be believed by values, which spares reading
//! them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{Array as _, RecordBatch};
use arrow_schema::{DataType, Field};
use roaring::RoaringTreemap;

use crate::domain::{Error, Result};

use super::changes::{RowPlace, Side};
use super::columns::{FileColumn, Origin, Target};
use super::row_group::BatchPlace;
use super::scan::{Scan, ScanWorker};

/// How the rows of all changed files are told apart. All rows of each file belong to what is read.
#[derive(Debug, Clone)]
pub(super) struct RowIdentity {
    /// The column of ids, in files that have it.
    pub(super) id_column: String,
    /// The column of versions, in files that have it.
    pub(super) version_column: String,
    /// For each file, what rows without these columns have.
    pub(super) files: Vec<FileIdentity>,
}

/// What the log says of the rows of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct FileIdentity {
    /// The id of its first row.
    pub(super) first_id: i64,
    /// The version of the table that wrote it.
    pub(super) version: i64,
}

/// What is left of changed rows when those that are the same on both sides are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Narrowed {
    /// The rows that may differ, ascending.
    pub places: Vec<RowPlace>,
    /// How many rows are the same before and after.
    pub same: u64,
}

/// Ids by version.
type Ids = BTreeMap<i64, RoaringTreemap>;

impl RowIdentity {
    /// The columns to scan.
    pub(super) fn targets(&self) -> Vec<Target> {
        let target = |name: &String| {
            let field = Arc::new(Field::new(name, DataType::Int64, true));
            let origin = Origin::File(FileColumn::by_name(&field));
            Target { field, origin }
        };
        vec![target(&self.id_column), target(&self.version_column)]
    }

    /// Finds the rows that are on one side alone; `None` where they are more than `most`, or where identities are not
    /// unique and so cannot be relied on. `scan` begins to read the columns of all files. Blocks.
    pub(super) fn narrow(
        &self,
        sides: &[Side],
        scan: impl Fn() -> Result<Scan>,
        most: usize,
    ) -> Result<Option<Narrowed>> {
        let each = |worker| self.collect(worker, sides);
        let [mut before, mut after] = [Ids::new(), Ids::new()];
        for (gone, come) in on_threads(scan()?, each)? {
            add_all(&mut before, gone);
            add_all(&mut after, come);
        }
        let same: Ids =
            before.into_iter().filter_map(|(version, ids)| Some((version, ids & after.remove(&version)?))).collect();
        let parts = on_threads(scan()?, |worker| self.others(worker, sides, &same, most))?;
        let count: u64 = same.values().map(RoaringTreemap::len).sum();
        let (mut places, mut copies) = (Vec::new(), [0, 0]);
        for part in parts {
            places.extend(part.places);
            copies = [copies[0] + part.copies[0], copies[1] + part.copies[1]];
        }
        if places.len() > most || copies != [count, count] {
            return Ok(None);
        }
        places.sort_unstable();
        Ok(Some(Narrowed { places, same: count }))
    }

    /// The identities of the rows that one worker reads: of those that went and of those that came.
    fn collect(&self, mut worker: ScanWorker, sides: &[Side]) -> Result<(Ids, Ids)> {
        let (mut gone, mut come) = (Ids::new(), Ids::new());
        while let Some((batch, place)) = worker.next_placed()? {
            let ids = if sides.get(place.file) == Some(&Side::Before) { &mut gone } else { &mut come };
            self.each(&batch, place, |_, id, version| {
                ids.entry(version).or_default().insert(id);
                Ok(())
            })?;
        }
        Ok((gone, come))
    }

    /// The places of the rows that are not the same on both sides.
    fn others(&self, mut worker: ScanWorker, sides: &[Side], same: &Ids, most: usize) -> Result<Others> {
        let mut others = Others::default();
        while let Some((batch, place)) = worker.next_placed()? {
            let side = usize::from(sides.get(place.file) != Some(&Side::Before));
            self.each(&batch, place, |row, id, version| {
                if same.get(&version).is_some_and(|ids| ids.contains(id)) {
                    others.copies[side] += 1;
                } else if others.places.len() <= most {
                    others.places.push(RowPlace::of(place, row)?);
                }
                Ok(())
            })?;
        }
        Ok(others)
    }

    /// Calls with the offset, id and version of each row of a batch.
    fn each(
        &self,
        batch: &RecordBatch,
        place: BatchPlace,
        mut row: impl FnMut(usize, u64, i64) -> Result<()>,
    ) -> Result<()> {
        let file = self.files.get(place.file).ok_or_else(|| Error::internal("a batch of a file beyond the last"))?;
        let [ids, versions] = [0, 1].map(|index| batch.column(index).as_primitive::<Int64Type>());
        let first = file.first_id.wrapping_add_unsigned(place.row_group_start + place.first_row as u64);
        for offset in 0..batch.num_rows() {
            let id = if ids.is_valid(offset) { ids.value(offset) } else { first.wrapping_add(offset as i64) };
            let version = if versions.is_valid(offset) { versions.value(offset) } else { file.version };
            row(offset, id as u64, version)?;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Others {
    places: Vec<RowPlace>,
    /// Rows that are the same on both sides, as they were met before and after.
    copies: [u64; 2],
}

fn add_all(all: &mut Ids, part: Ids) {
    for (version, ids) in part {
        *all.entry(version).or_default() |= ids;
    }
}

/// Drives each worker of a scan on a thread of its own.
fn on_threads<T: Send>(scan: Scan, work: impl Fn(ScanWorker) -> Result<T> + Sync) -> Result<Vec<T>> {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = scan.workers.into_iter().map(|worker| scope.spawn(move || work(worker))).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined
            .map(|part| part.unwrap_or_else(|_| Err(Error::internal("reading the identity of rows panicked"))))
            .collect()
    })
}
