//! Threads that answer requests.
//!
//! Each has a runtime of its own. A connection is dealt to one of them and stays there, as does all that it waits for: no thread
//! wakes another to answer a request, which would cost more than most answers do.

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::domain::{Error, Result};

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(0) };
}

/// Threads that answer requests, until this is dropped.
#[derive(Debug)]
pub struct Workers {
    workers: Vec<Worker>,
    _end: DropGuard,
}

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    /// Held by this, and by each connection that was dealt to it.
    load: Place,
}

/// A place among the connections of a worker, given back when it is dropped.
#[derive(Debug, Clone)]
pub(super) struct Place(Arc<()>);

impl Workers {
    /// One for every two processors, but not more than `most`: the others are for the kernel's part of each answer, for syncs,
    /// and for Postgres and clients where those are on the same machine. With more, all wait for their turns.
    ///
    /// # Errors
    /// When there cannot be a thread more.
    pub fn start(most: usize) -> Result<Self> {
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let end = CancellationToken::new();
        let workers = (0..(processors / 2).min(most).max(1)).map(|number| Worker::start(number, end.clone()));
        Ok(Workers { workers: workers.collect::<Result<_>>()?, _end: end.drop_guard() })
    }

    /// Their runtimes, by their numbers.
    pub fn runtimes(&self) -> impl Iterator<Item = &Handle> {
        self.workers.iter().map(|worker| &worker.runtime)
    }

    /// The number of the one that this thread is; 0 for every other thread.
    #[must_use]
    pub fn here() -> usize {
        NUMBER.get()
    }

    /// The one that has the fewest connections, and a place there.
    pub(super) fn deal(&self) -> Option<(&Handle, Place)> {
        let idlest = self.workers.iter().min_by_key(|worker| worker.connections())?;
        Some((&idlest.runtime, idlest.load.clone()))
    }
}

impl Worker {
    fn connections(&self) -> usize {
        Arc::strong_count(&self.load.0) - 1
    }

    fn start(number: usize, end: CancellationToken) -> Result<Self> {
        let failed = |error| Error::internal("a thread that answers requests cannot be started").because(error);
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let handle = runtime.handle().clone();
        let name = format!("lakegate http {number}");
        let work = move || {
            NUMBER.set(number);
            runtime.block_on(end.cancelled());
            // What still waits for a blocking thread has nobody any more who would read it.
            runtime.shutdown_background();
        };
        thread::Builder::new().name(name).spawn(work).map_err(failed)?;
        Ok(Worker { runtime: handle, load: Place(Arc::new(())) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_dealt_to_whoever_has_the_fewest() {
        let workers = Workers { workers: (0..2).map(worker).collect(), _end: end() };
        let count = |number: usize| workers.workers[number].connections();
        let mut places: Vec<Place> = (0..5).map(|_| workers.deal().unwrap().1).collect();
        assert_eq!((count(0), count(1)), (3, 2));
        places.retain(|place| !Arc::ptr_eq(&place.0, &workers.workers[0].load.0));
        let _next = [workers.deal().unwrap(), workers.deal().unwrap()];
        assert_eq!((count(0), count(1)), (2, 2));
    }

    fn end() -> DropGuard {
        CancellationToken::new().drop_guard()
    }

    fn worker(number: usize) -> Worker {
        Worker::start(number, CancellationToken::new()).unwrap()
    }

    #[test]
    fn work_runs_on_the_thread_that_it_was_given_to() {
        let workers = Workers { workers: (0..3).map(worker).collect(), _end: end() };
        for (number, runtime) in workers.runtimes().enumerate() {
            let (tell, told) = std::sync::mpsc::channel();
            runtime.spawn(async move { tell.send(Workers::here()).unwrap() });
            assert_eq!(told.recv().unwrap(), number);
        }
        assert_eq!(Workers::here(), 0);
    }
}
