//! Changed rows of a source, as a pipeline sees them: through its transform, where it has one.

use arrow_array::RecordBatch;

use crate::domain::Result;
use crate::encode::Mapping;
use crate::source::{BatchPlace, ChangedRows, Gone, Narrowed, Pick, RowPlace, Scan, SourceSize};
use crate::transform::{Computed, RowWise};

/// What changed in a source since it was loaded.
#[derive(Debug)]
pub(super) struct Changed {
    rows: ChangedRows,
    transform: Option<RowWise>,
}

impl Changed {
    pub(super) fn new(rows: ChangedRows, transform: Option<RowWise>) -> Changed {
        Changed { rows, transform }
    }

    /// What tells of the changes, for a person.
    pub(super) fn summary(&self) -> &str {
        self.rows.summary()
    }

    /// The files that are read to find the rows.
    pub(super) fn size(&self) -> SourceSize {
        self.rows.size()
    }

    /// Whether rows only came.
    pub(super) fn only_added(&self) -> bool {
        self.rows.only_added()
    }

    /// Whether a row of the source may be none of the table: then rows are counted as they come.
    pub(super) fn may_leave_out(&self) -> bool {
        self.transform.is_some()
    }

    /// Which rows may differ, where writers keep track of rows; see [`ChangedRows::narrow`]. Blocks.
    pub(super) fn narrow(&self, most: u64, workers: usize, budget: u64) -> Result<Option<Narrowed>> {
        self.rows.narrow(most, workers, budget)
    }

    /// Whether the log names the rows one by one, see [`ChangedRows::are_marked`].
    pub(super) fn are_marked(&self, most: u64) -> bool {
        self.rows.are_marked(most)
    }

    /// Places of rows that went and of rows that came, see [`ChangedRows::split`].
    pub(super) fn split(&self, places: Vec<RowPlace>) -> (Vec<RowPlace>, Vec<RowPlace>) {
        self.rows.split(places)
    }

    /// Begins to read what `mapping` needs of these rows. Returns the mapping for what
    /// [`Changed::compute`] makes of the batches.
    pub(super) fn scan(
        &self,
        mapping: &Mapping,
        pick: Pick<'_>,
        workers: usize,
        budget: u64,
    ) -> Result<(Scan, Mapping)> {
        if let Some(transform) = &self.transform {
            return Ok((self.rows.scan(transform.columns(), pick, workers, budget)?, mapping.clone()));
        }
        let columns: Vec<String> = mapping.schema.columns.iter().map(|column| column.source.clone()).collect();
        let scan = self.rows.scan(&columns, pick, workers, budget)?;
        let mapping = mapping.bound_to(&scan.schema)?;
        Ok((scan, mapping))
    }

    /// Which rows of a batch went.
    pub(super) fn gone(&self, place: BatchPlace, batch: &RecordBatch) -> Result<Gone> {
        self.rows.gone(place, batch)
    }

    /// The rows of the table that a batch of changed rows stands for.
    pub(super) fn compute(&self, batch: RecordBatch) -> Result<Computed> {
        match &self.transform {
            Some(transform) => transform.apply(&batch),
            None => Ok(Computed { batch, made_of: None }),
        }
    }
}
