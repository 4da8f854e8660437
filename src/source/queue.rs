//! Which worker of a scan reads what.
//!
//! Work is one queue of files, the largest first, that every worker takes from. Who takes a file reads its footer and
//! puts its row groups at the front of the queue: so the row groups of one large file are read by all workers, and few
//! files are open at a time. Who finds the queue empty takes over half of what another one has left of its row group: so
//! all end at the same time, whatever the size of row groups that are held or stand in files of this machine; of others only so much
//! is taken over that little is fetched again. Whoever reads holds the dictionaries of its row group: where there is no room for
//! more of them, the others read the rest. Who then has nothing to read ends, or is willing to wait
//! ([`super::ScanWorker::sharing`]). Whoever waits, for that or for a footer, is given batches that others have decoded.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::domain::Result;

use super::io::cancelled;
use super::part::Part;
use super::row_group::Placed;

/// How often a worker that waits looks for what nobody tells it: that the scan was cancelled, that another worker is gone, that
/// there is room.
const POLL: Duration = Duration::from_millis(50);

/// What a worker does next.
pub(super) enum Step<'a> {
    /// Read the footer of this file.
    File(usize, Opening<'a>),
    /// Read these rows.
    Rows(Arc<Part>),
    /// Yield this batch, which another worker has decoded.
    Batch(Placed),
}

/// What there is to read.
pub(super) struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    /// Files not opened yet, the largest last.
    files: Vec<usize>,
    row_groups: VecDeque<Part>,
    /// What the workers read.
    parts: Vec<Weak<Part>>,
    /// Bytes that the dictionaries of all these may take; those of one always may.
    room: u64,
    /// Whether it has been told that somebody had no room.
    told: bool,
    /// Files whose footers are being read: they may yet bring row groups.
    opening: usize,
    /// How many workers wait.
    waiting: usize,
    /// What has been decoded for those who wait; never more than one batch for each of them.
    handed_over: VecDeque<Placed>,
}

impl Queue {
    /// Files by their index, the largest last, of whose row groups as many are read at a time as have dictionaries of `room` bytes,
    /// one at least.
    pub(super) fn new(files: Vec<usize>, room: u64) -> Queue {
        let state = QueueState { files, room, ..QueueState::default() };
        Queue { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a batch to a worker that waits; returns it where none does.
    pub(super) fn hand_over(&self, batch: Placed) -> Option<Placed> {
        let mut state = self.lock();
        if state.waiting <= state.handed_over.len() {
            return Some(batch);
        }
        state.handed_over.push_back(batch);
        drop(state);
        self.changed.notify_one();
        None
    }

    /// The next piece of work; `None` when there is none and none can come. Who shares waits for what others decode.
    pub(super) fn take(&self, shares: bool, cancel: &CancellationToken) -> Result<Option<Step<'_>>> {
        let mut state = self.lock();
        loop {
            if cancel.is_cancelled() {
                return Err(cancelled());
            }
            if let Some(batch) = state.handed_over.pop_front() {
                return Ok(Some(Step::Batch(batch)));
            }
            if !state.row_groups.is_empty() {
                if let Some(part) = state.first_that_fits() {
                    return Ok(Some(state.begin(part)));
                }
            } else if let Some(file) = state.files.pop() {
                state.opening += 1;
                return Ok(Some(Step::File(file, Opening { queue: self })));
            } else if state.opening == 0
                && let Some(half) = state.half_of_the_largest()
            {
                return Ok(Some(state.begin(half)));
            }
            let work_may_come = state.opening > 0 && state.row_groups.is_empty();
            // Row groups that did not fit fit as soon as nobody reads, which may be so by now.
            let batches_may_come = shares && (!state.row_groups.is_empty() || state.is_read());
            if !work_may_come && !batches_may_come {
                // Those who wait look whether there is anybody left for whom they wait.
                self.changed.notify_all();
                return Ok(None);
            }
            state.waiting += 1;
            state = self.changed.wait_timeout(state, POLL).unwrap_or_else(PoisonError::into_inner).0;
            state.waiting -= 1;
        }
    }
}

impl QueueState {
    /// Lets a worker read a part, of which others may take over the end.
    fn begin<'a>(&mut self, part: Part) -> Step<'a> {
        let part = Arc::new(part);
        self.parts.retain(|part| part.strong_count() > 0);
        self.parts.push(Arc::downgrade(&part));
        Step::Rows(part)
    }

    /// Whether anybody reads a row group.
    fn is_read(&self) -> bool {
        self.parts.iter().any(|part| part.strong_count() > 0)
    }

    /// The bytes that more dictionaries may take; `None` where nobody reads and anything fits.
    fn room_left(&self) -> Option<u64> {
        let taken =
            self.parts.iter().filter_map(Weak::upgrade).map(|part| part.dictionaries).reduce(u64::saturating_add);
        taken.map(|taken| self.room.saturating_sub(taken))
    }

    /// The first row group of the queue for whose dictionaries there is room.
    fn first_that_fits(&mut self) -> Option<Part> {
        let room = self.room_left().unwrap_or(u64::MAX);
        let fits = self.row_groups.iter().position(|part| part.dictionaries <= room);
        if fits.is_none() {
            self.tell_of_room();
        }
        self.row_groups.remove(fits?)
    }

    /// Half of what is left where most is left of those of which it is worth it.
    fn half_of_the_largest(&mut self) -> Option<Part> {
        let room = self.room_left()?;
        let mut parts: Vec<_> = self.parts.iter().filter_map(Weak::upgrade).collect();
        let all = parts.len();
        parts.retain(|part| part.dictionaries <= room);
        if parts.len() < all {
            self.tell_of_room();
        }
        parts.sort_by_key(|part| Reverse(part.bytes_left()));
        parts.iter().find_map(|part| part.split())
    }

    /// Tells once that the budget keeps workers from reading.
    fn tell_of_room(&mut self) {
        if !std::mem::replace(&mut self.told, true) {
            tracing::info!("fewer workers read: `limits.memory` has no room for the dictionaries of more row groups");
        }
    }
}

/// A file whose footer is being read. Dropping it, done or not, lets waiting workers go on.
pub(super) struct Opening<'a> {
    queue: &'a Queue,
}

impl Opening<'_> {
    /// Adds the file's row groups that are to be read to the queue.
    pub(super) fn done(self, row_groups: impl Iterator<Item = Part>) {
        self.queue.lock().row_groups.extend(row_groups);
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.queue.lock().opening -= 1;
        self.queue.changed.notify_all();
    }
}
