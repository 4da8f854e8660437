//! Answers on their way to clients: what they hold of memory is bounded, however slowly they are taken.
//!
//! An answer is made whole before it is sent. Until the connection has taken its last byte it counts; a client that takes
//! none for long is cut off by the listener.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::{Code, Error, Result};

/// The most bytes of all answers that wait to be sent.
const MAX_BYTES: usize = 256 << 20;

/// Bytes are counted in so many, begun ones whole.
const UNIT: usize = 1 << 10;

/// The room for answers that wait to be sent.
#[derive(Debug, Clone)]
pub(super) struct Unsent {
    room: Arc<Semaphore>,
    most: usize,
}

impl Default for Unsent {
    fn default() -> Self {
        Unsent::of(MAX_BYTES)
    }
}

impl Unsent {
    fn of(bytes: usize) -> Self {
        Unsent { room: Arc::new(Semaphore::new(bytes / UNIT)), most: bytes }
    }

    /// How many bytes wait to be sent.
    pub(super) fn bytes(&self) -> u64 {
        self.most.saturating_sub(self.room.available_permits() * UNIT) as u64
    }

    /// Counts these bytes until the last of them is let go.
    ///
    /// # Errors
    /// [`Code::Overloaded`] where too many wait already.
    pub(super) fn hold(&self, bytes: Vec<u8>) -> Result<Bytes> {
        let units = u32::try_from(bytes.len().div_ceil(UNIT)).unwrap_or(u32::MAX);
        match Arc::clone(&self.room).try_acquire_many_owned(units) {
            Ok(permit) => Ok(Bytes::from_owner(Held { bytes, _permit: permit })),
            Err(_) => Err(Error::new(Code::Overloaded, "too many answers wait for clients that take them slowly")
                .hint("try again in a moment")),
        }
    }
}

struct Held {
    bytes: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_count_until_their_last_part_is_let_go() {
        let unsent = Unsent::of(4 * UNIT);
        let first = unsent.hold(vec![1; 3 * UNIT]).unwrap();
        assert_eq!(unsent.hold(vec![2; UNIT + 1]).unwrap_err().code(), Code::Overloaded);
        let rest = first.slice(10..);
        drop(first);
        assert!(unsent.hold(vec![2; UNIT + 1]).is_err());
        assert_eq!(unsent.hold(vec![2; UNIT]).unwrap(), vec![2; UNIT]);
        drop(rest);
        unsent.hold(vec![2; 4 * UNIT]).unwrap();
    }
}
