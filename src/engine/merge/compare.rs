//! Which of the changed rows really differ: all of them are read and equal ones cancel out.

use std::sync::Arc;

use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::task::spawn_blocking;
use twox_hash::XxHash3_128;

use crate::domain::{Code, Error, OnBadRow, Pipeline, Result};
use crate::encode::{BadRow, BadRows, Mapping, RowEncoder};
use crate::source::{RowPlace, ScanWorker};

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
    /// Reads all changed rows and finds those that differ; gives up beyond `most` of them.
    ///
    /// # Errors
    /// [`Code::NotIncremental`] where too many rows differ or one cannot be followed; that of a row that cannot be
    /// stored; those of the source.
    pub(super) async fn compare_changes(
        &self,
        pipeline: &Pipeline,
        changes: &Arc<Changed>,
        mapping: &Mapping,
        most: u64,
    ) -> Result<Compared> {
        let budget = self.run_budget();
        let workers = self.streams(changes.size().bytes);
        let (scan, mapping) = changes.scan(mapping, None, workers, budget / 2)?;
        let mapping = Arc::new(mapping);
        let ledger = Arc::new(Ledger::new(budget / 2));
        // Rows of the lake are not ours: nobody who writes them may know which of them hash alike.
        let seed: u64 = rand::random();
        let totals = scan.totals;
        let stop = scan.cancel.clone();
        let _stop = scan.cancel.drop_guard();
        let comparing = scan.workers.into_iter().map(|worker| {
            let (changes, mapping, ledger) = (Arc::clone(changes), Arc::clone(&mapping), Arc::clone(&ledger));
            let policy = pipeline.on_bad_row;
            spawn_blocking(move || enter(worker, &changes, &mapping, &ledger, policy, seed))
        });
        let stopped = |error| Error::internal("a reader stopped").because(error);
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
        let net = spawn_blocking(move || ledger.settle(workers, most)).await.map_err(stopped)??;
        Ok(Compared { net, rows_read: totals.rows_yielded(), bytes_read: totals.bytes_read() })
    }
}

/// Enters the rows of one worker into the ledger. Blocks.
fn enter(
    mut worker: ScanWorker,
    changes: &Changed,
    mapping: &Mapping,
    ledger: &Ledger,
    policy: OnBadRow,
    seed: u64,
) -> Result<()> {
    let mut encoder = RowEncoder::new(mapping);
    let mut writer = ledger.writer();
    while let Some((batch, place)) = worker.next_placed()? {
        let gone = changes.gone(place, &batch)?;
        let computed = changes.compute(batch)?;
        let prepared = mapping.prepare(&computed.batch)?;
        let mut bad = Unfollowed { policy, is_gone: |row| gone.is_gone(computed.origin(row)) };
        encoder.encode_each(&prepared, &mut bad, &mut |row, bytes| {
            let hash = XxHash3_128::oneshot_with_seed(seed, bytes);
            let origin = computed.origin(row);
            writer.add(hash, RowPlace::of(place, origin)?, gone.is_gone(origin))
        })?;
        fail::fail_point!(crate::failpoint::DURING_COMPARE);
    }
    writer.finish()
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
