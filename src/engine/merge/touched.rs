//! Which of the changed rows are staged.
//!
//! Where writers rewrite files, most of the rows that went come again: all of them are read, and equal ones cancel out.
//! Where the log names single rows, by deletion vectors or by the identity of rows, they are few: of those that went the
//! keys alone are read, which spares reading nearly every page of every column for the sake of rows spread over all
//! files. Which of them came again as they were is then decided in Postgres, see `stage`.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use crate::domain::{Error, Pipeline, Result};
use crate::encode::Mapping;
use crate::source::{Pick, RowPlace};

use super::super::Engine;
use super::super::changed::Changed;

/// The rows that are staged.
pub(super) struct Touched {
    /// Those that went.
    pub(super) gone: Chosen,
    /// Those that came.
    pub(super) come: Chosen,
    /// Whether equal rows have cancelled out.
    pub(super) is_compared: bool,
    /// Rows read to compare them, on both sides.
    pub(super) rows_read: u64,
    /// Bytes read to compare rows.
    pub(super) bytes_read: u64,
    /// Pairs of equal rows that are left out.
    pub(super) unchanged: u64,
}

/// Rows that went, or rows that came.
pub(super) enum Chosen {
    /// All of them.
    All,
    /// Those at these places, ascending.
    At(Vec<RowPlace>),
}

impl Touched {
    fn named(gone: Chosen, come: Chosen, unchanged: u64) -> Touched {
        Touched { gone, come, is_compared: false, rows_read: 0, bytes_read: 0, unchanged }
    }

    /// Whether no row is left.
    pub(super) fn is_none(&self) -> bool {
        self.gone.is_none() && self.come.is_none()
    }
}

impl Chosen {
    const NONE: Chosen = Chosen::At(Vec::new());

    pub(super) fn is_none(&self) -> bool {
        matches!(self, Chosen::At(places) if places.is_empty())
    }

    /// How many they are, where that is known.
    pub(super) fn count(&self) -> Option<usize> {
        match self {
            Chosen::All => None,
            Chosen::At(places) => Some(places.len()),
        }
    }

    /// What to read, `all` being all rows of this side.
    pub(super) fn pick<'a>(&'a self, all: Pick<'a>) -> Pick<'a> {
        match self {
            Chosen::All => all,
            Chosen::At(places) => Pick::At(places),
        }
    }
}

impl Engine {
    /// Finds the rows to stage; `None` where more than `most` differ.
    ///
    /// # Errors
    /// As [`Engine::compare_changes`].
    pub(super) async fn touched(
        &self,
        pipeline: &Pipeline,
        changes: &Arc<Changed>,
        mapping: &Mapping,
        most: u64,
    ) -> Result<Option<Touched>> {
        if changes.only_added() {
            return Ok(Some(Touched::named(Chosen::NONE, Chosen::All, 0)));
        }
        // A row of the source must be the row of its key: a transform makes another of it, and older ones of a key
        // are not in the table.
        let is_row_of_table = !changes.may_leave_out() && pipeline.on_duplicate_key.latest_by().is_none();
        if is_row_of_table && changes.are_marked(most) {
            return Ok(Some(Touched::named(Chosen::All, Chosen::All, 0)));
        }
        let (budget, workers) = (self.run_budget(), self.streams(changes.size().bytes));
        let narrowing = Arc::clone(changes);
        let narrowed = spawn_blocking(move || narrowing.narrow(most, workers, budget / 2));
        let narrowed = narrowed.await.map_err(|error| Error::internal("a reader stopped").because(error))??;
        let (places, same) = narrowed.map_or((None, 0), |narrowed| (Some(narrowed.places), narrowed.same));
        let places = match places {
            Some(places) if is_row_of_table => {
                let (gone, come) = changes.split(places);
                return Ok(Some(Touched::named(Chosen::At(gone), Chosen::At(come), same)));
            }
            places => places,
        };
        let compared = self.compare_changes(pipeline, changes, mapping, places, most).await?;
        Ok(compared.map(|compared| Touched {
            gone: Chosen::At(compared.net.gone),
            come: Chosen::At(compared.net.come),
            is_compared: true,
            rows_read: compared.rows_read,
            bytes_read: compared.bytes_read,
            unchanged: compared.net.unchanged + same,
        }))
    }
}
