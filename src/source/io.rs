//! The runtime that all object-store I/O of this module runs on.
//!
//! Reading is done by blocking threads: the kernel's interface is blocking, and decoding is CPU work. Their I/O runs on
//! two threads of its own, so that no caller's runtime, whatever its kind or load, can starve or deadlock it.

use std::future::Future;
use std::sync::OnceLock;
use std::sync::mpsc::sync_channel;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::CancellationToken;

use crate::domain::{Code, Error, Result};

/// Threads that drive sockets; decoding never runs on them.
const IO_THREADS: usize = 2;

/// The runtime's handle; the runtime starts with the first call and lives as long as the process.
pub(super) fn handle() -> Result<&'static Handle> {
    static RUNTIME: OnceLock<std::io::Result<Runtime>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        Builder::new_multi_thread().worker_threads(IO_THREADS).thread_name("lake-io").enable_all().build()
    });
    match runtime {
        Ok(runtime) => Ok(runtime.handle()),
        Err(error) => Err(Error::internal(format!("the I/O runtime cannot be started: {error}"))),
    }
}

/// Runs blocking work away from the caller's runtime and waits for it without blocking a thread of the caller.
pub(super) async fn run_blocking<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    match handle()?.spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::internal(format!("reading the source panicked: {error}"))),
    }
}

/// Waits for a future on the I/O runtime. Must be called from a thread that may block.
pub(super) fn block_on<F>(future: F) -> Result<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let (sender, receiver) = sync_channel(1);
    handle()?.spawn(async move {
        // A receiver that is gone means that the waiting thread has ended: nobody needs the output.
        let _ = sender.send(future.await);
    });
    receiver.recv().map_err(|_| Error::internal("an I/O task ended without a result"))
}

/// As [`block_on`], and gives up at once when the token is cancelled.
///
/// # Errors
/// [`Code::Cancelled`].
pub(super) fn block_on_unless<F>(cancel: &CancellationToken, future: F) -> Result<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let cancel = cancel.clone();
    block_on(async move { cancel.run_until_cancelled(future).await })?.ok_or_else(cancelled)
}

/// The error of a scan that was cancelled.
pub(super) fn cancelled() -> Error {
    Error::new(Code::Cancelled, "reading the source was cancelled")
}
