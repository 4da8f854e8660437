//! Which of the changed rows really differ: they are read and equal ones cancel out.

use std::sync::Arc;

use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::task::spawn_blocking;
use twox_hash::XxHash3_128;

use crate::domain::{Code, Error, OnBadRow, Pipeline, Result};
use crate::encode::{BadRow, BadRows, Mapping, RowEncoder};
use crate::source::{Pick, RowPlace, ScanWorker};

use super::super::Engine;
use super::super::changed::Changed;
use super::net::{Ledger, Net};

/// What comparing the changed rows came to.
pub(super) struct Compared {
    pub(super) net: Net,
    /// Rows read on both sides.
    pub(super) rows_read: u64,
    pub(super) bytes_read: u64,
}

impl Engine {
    /// Reads the changed rows, or those at some places alone, and finds those that differ; `None` beyond `most` of them.
    ///
    /// # Errors
    /// [`Code::NotIncremental`] where a row cannot be followed; that of a row that cannot be stored; those of the source.
    pub(super) async fn compare_changes(
        &self,
        pipeline: &Pipeline,
        changes: &Arc<Changed>,
        mapping: &Mapping,
        places: Option<Vec<RowPlace>>,
        most: u64,
    ) -> Result<Option<Compared>> {
        let budget = self.run_budget();
        let workers = self.streams(changes.size().bytes);
        let stopped = |error| Error::internal("a reader stopped").because(error);
        let pick = places.as_deref().map_or(Pick::All, Pick::At);
        let (scan, mapping) = changes.scan(mapping, pick, workers, budget / 2)?;
        let places = places.map(Arc::new);
        let mapping = Arc::new(mapping);
        let ledger = Arc::new(Ledger::new(budget / 2));
        // Rows of the lake are not ours: nobody who writes them may know which of them hash alike.
        let seed: u64 = rand::random();
        let totals = scan.totals;
        let stop = scan.cancel.clone();
        let _stop = scan.cancel.drop_guard();
        let comparing = scan.workers.into_iter().map(|worker| {
            let (changes, mapping, ledger) = (Arc::clone(changes), Arc::clone(&mapping), Arc::clone(&ledger));
            let entering =
                Entering { changes, places: places.clone(), mapping, ledger, policy: pipeline.on_bad_row, seed };
            spawn_blocking(move || entering.enter(worker))
        });
        let mut comparing: FuturesUnordered<_> = comparing.collect();
        let mut failure = None;
        while let Some(entered) = comparing.next().await {
            if let Err(error) = entered.map_err(stopped).flatten() {
                // What stops one reader stops the others, which then say no more than that.
                stop.cancel();
                failure = failure.filter(|first: &Error| first.code() != Code::Cancelled).or(Some(error));
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
        let ledger = Arc::into_inner(ledger).ok_or_else(|| Error::internal("a reader outlives its scan"))?;
        let settled = spawn_blocking(move || ledger.settle(workers, most)).await.map_err(stopped)??;
        Ok(settled.map(|net| Compared { net, rows_read: totals.rows_yielded(), bytes_read: totals.bytes_read() }))
    }
}

/// What it takes to enter rows into the ledger.
struct Entering {
    changes: Arc<Changed>,
    /// The only rows that are read, where not all are.
    places: Option<Arc<Vec<RowPlace>>>,
    mapping: Arc<Mapping>,
    ledger: Arc<Ledger>,
    policy: OnBadRow,
    seed: u64,
}

impl Entering {
    /// Enters the rows of one worker. Blocks.
    fn enter(self, mut worker: ScanWorker) -> Result<()> {
        let Entering { changes, places, mapping, ledger, policy, seed } = self;
        let mut encoder = RowEncoder::new(&mapping);
        let mut writer = ledger.writer();
        while let Some((batch, place)) = worker.next_placed()? {
            let gone = changes.gone(place, &batch)?;
            let computed = changes.compute(batch)?;
            let prepared = mapping.prepare(&computed.batch)?;
            let mut bad = Unfollowed { policy, is_gone: |row| gone.is_gone(computed.origin(row)) };
            encoder.encode_each(&prepared, &mut bad, &mut |row, bytes| {
                let hash = XxHash3_128::oneshot_with_seed(seed, bytes);
                let origin = computed.origin(row);
                let place = match &places {
                    None => RowPlace::of(place, origin)?,
                    Some(places) => RowPlace::of_picked(places, place, origin)?,
                };
                writer.add(hash, place, gone.is_gone(origin))
            })?;
            fail::fail_point!(crate::failpoint::DURING_COMPARE);
        }
        writer.finish()
    }
}

/// Bad rows among changes. One that came fails the run, as it would fail a snapshot. Where bad rows are left out
/// instead, only a snapshot counts them rightly, and so where a row went that can never have been stored.
struct Unfollowed<G> {
    policy: OnBadRow,
    /// Whether a row of the batch went.
    is_gone: G,
}

impl<G: Fn(usize) -> bool> BadRows for Unfollowed<G> {
    fn reject(&mut self, row: BadRow) -> Result<()> {
        let is_gone = (self.is_gone)(row.row);
        let error = row.into_error();
        if self.policy == OnBadRow::Fail && !is_gone {
            return Err(error);
        }
        Err(Error::new(
            Code::NotIncremental,
            format!("rows that cannot be stored are among the changes: {}", error.detail()),
        ))
    }
}
