//! What the APIs share of HTTP: an address that is listened on, bounds on what a client may send and for how long, the
//! check of `Host`, request ids, the threads that answer, the access log, traces, and an end that lets requests under way finish.

mod access;
mod gate;
mod listener;
mod noted;
mod streams;
mod tls;
mod traced;
mod workers;

pub use access::{AccessLog, LastLine, Logged, OTHER};
pub use gate::{Gate, Passed, pass};
pub use listener::{Listener, Peer};
pub use noted::Noted;
pub use traced::Traced;
pub use workers::Workers;

/// An API, each of which has an address and a section in `lakegate.yaml` of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// Rows by key.
    Read,
    /// Pipelines and their runs.
    Admin,
}

impl Api {
    /// Its section in `lakegate.yaml`.
    #[must_use]
    pub const fn section(self) -> &'static str {
        match self {
            Api::Read => "api",
            Api::Admin => "admin",
        }
    }

    /// The variable that sets its address.
    pub(crate) const fn listen_variable(self) -> &'static str {
        match self {
            Api::Read => "LAKEGATE_API_LISTEN",
            Api::Admin => "LAKEGATE_ADMIN_LISTEN",
        }
    }
}
