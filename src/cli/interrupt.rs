//! Ctrl-C and SIGTERM: the first asks for an orderly end, the second does not wait for it.

use tokio_util::sync::CancellationToken;

use super::INTERRUPTED;

/// A token that the first signal cancels. A second signal ends the process at once.
///
/// To be asked for before anything is begun that a signal would leave half done: until then a signal ends the process.
pub(super) fn token() -> CancellationToken {
    let token = CancellationToken::new();
    let cancelled = token.clone();
    let mut signals = Signals::listen();
    tokio::spawn(async move {
        signals.next().await;
        cancelled.cancel();
        signals.next().await;
        std::process::exit(i32::from(INTERRUPTED));
    });
    token
}

/// The signals that ask for the end. None that comes after [`Signals::listen`] is missed.
#[cfg(unix)]
struct Signals {
    interrupt: Option<tokio::signal::unix::Signal>,
    terminate: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> Signals {
        use tokio::signal::unix::{SignalKind, signal};
        // One that cannot be listened to ends the process, as it does any other.
        Signals { interrupt: signal(SignalKind::interrupt()).ok(), terminate: signal(SignalKind::terminate()).ok() }
    }

    async fn next(&mut self) {
        tokio::select! {
            Some(()) = received(&mut self.interrupt) => {}
            Some(()) = received(&mut self.terminate) => {}
            else => std::future::pending().await,
        }
    }
}

#[cfg(unix)]
async fn received(signal: &mut Option<tokio::signal::unix::Signal>) -> Option<()> {
    signal.as_mut()?.recv().await
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> Signals {
        Signals
    }

    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
