//! How many runs go on at a time, and who is next: whoever is due for longest.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use tokio::sync::oneshot;

use crate::domain::Project;

/// The slots of one process, for all that starts runs in it; cheap to clone.
#[derive(Debug, Clone)]
pub struct Slots(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    number: u32,
    free: u32,
    /// In the order in which they are served: by when they were due, then as they came.
    waiting: BTreeMap<(DateTime<Utc>, u64), oneshot::Sender<Slot>>,
    came: u64,
}

/// The right to one run; given on when dropped.
#[derive(Debug)]
pub struct Slot {
    slots: Slots,
    /// Whether it had to be waited for, so that what was true before need not be true any more.
    pub(super) waited: bool,
}

/// What the slots of a process are used for at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotUse {
    /// How many there are.
    pub number: u32,
    /// How many a run has.
    pub taken: u32,
    /// How many runs are due and wait for one.
    pub waiting: u32,
}

impl Slots {
    /// As many as the project lets run at a time.
    #[must_use]
    pub fn of(project: &Project) -> Slots {
        Slots::new(project.limits.concurrent_runs)
    }

    fn new(number: u32) -> Slots {
        let number = number.max(1);
        Slots(Arc::new(Mutex::new(State { number, free: number, waiting: BTreeMap::new(), came: 0 })))
    }

    /// What they are used for now.
    #[must_use]
    pub fn in_use(&self) -> SlotUse {
        let state = self.lock();
        let waiting = state.waiting.values().filter(|waiting| !waiting.is_closed()).count();
        SlotUse {
            number: state.number,
            taken: state.number - state.free,
            waiting: u32::try_from(waiting).unwrap_or(u32::MAX),
        }
    }

    /// A slot for a run that is due since then, once there is one.
    pub async fn acquire(&self, due: DateTime<Utc>) -> Slot {
        let receiver = {
            let mut state = self.lock();
            if state.free > 0 {
                state.free -= 1;
                return Slot { slots: self.clone(), waited: false };
            }
            let (sender, receiver) = oneshot::channel();
            state.came += 1;
            let place = (due, state.came);
            state.waiting.insert(place, sender);
            receiver
        };
        match receiver.await {
            Ok(slot) => slot,
            // The sender lives in the queue until it sends.
            Err(_) => std::future::pending().await,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release(&self) {
        let mut state = self.lock();
        while let Some((_, next)) = state.waiting.pop_first() {
            if next.is_closed() {
                continue;
            }
            // One that gives up at this moment drops the slot, which takes the lock.
            drop(state);
            let _ = next.send(Slot { slots: self.clone(), waited: true });
            return;
        }
        state.free += 1;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.release();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn whoever_is_due_for_longest_is_next() {
        let slots = Slots::new(1);
        let first = slots.acquire(at(9)).now_or_never().unwrap();
        assert!(!first.waited);
        let mut waiting = [at(3), at(1), at(2), at(1)].map(|due| Box::pin(slots.acquire(due)));
        for one in &mut waiting {
            assert!(one.as_mut().now_or_never().is_none());
        }
        let mut held = first;
        for expected in [1, 3, 2, 0] {
            drop(held);
            let ready: Vec<usize> = (0..4).filter(|at| *at != expected).collect();
            held = waiting[expected].as_mut().now_or_never().unwrap();
            assert!(held.waited);
            // A future that has ended is not asked again.
            waiting[expected] = Box::pin(slots.acquire(at(100)));
            for other in ready {
                assert!(waiting[other].as_mut().now_or_never().is_none(), "{other} before {expected}");
            }
        }
    }

    #[test]
    fn as_many_run_at_a_time_as_there_are_slots() {
        let slots = Slots::new(2);
        let held = [slots.acquire(at(1)).now_or_never().unwrap(), slots.acquire(at(1)).now_or_never().unwrap()];
        assert_eq!(slots.in_use(), SlotUse { number: 2, taken: 2, waiting: 0 });
        {
            let mut third = Box::pin(slots.acquire(at(1)));
            assert!(third.as_mut().now_or_never().is_none());
            assert_eq!(slots.in_use().waiting, 1);
        }
        assert_eq!(slots.in_use().waiting, 0, "it no longer waits");
        drop(held);
        assert!(slots.acquire(at(1)).now_or_never().is_some());
    }

    #[test]
    fn who_no_longer_waits_is_passed_over() {
        let slots = Slots::new(1);
        let held = slots.acquire(at(1)).now_or_never().unwrap();
        {
            let mut gone = Box::pin(slots.acquire(at(1)));
            assert!(gone.as_mut().now_or_never().is_none());
        }
        let mut late = Box::pin(slots.acquire(at(2)));
        assert!(late.as_mut().now_or_never().is_none());
        drop(held);
        assert!(late.as_mut().now_or_never().is_some());
    }
}
