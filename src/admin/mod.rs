//! The admin API: what pipelines do, for programs and the console, over HTTP on an address of its own.
//!
//! ```text
//! router → gate (http) → guard ─┬─ look     what is so: tables, runs, generations, rejected rows, plans
//!                               ├─ act      pause, resume, cancel
//!                               ├─ keys     API keys, made and revoked
//!                               ├─ syncs    runs that are asked for: at the schedule's slots, beyond the request's end
//!                               └─ metrics  all that `lakegate serve` has of this API (replica)
//! ```
//!
//! Records are those of `--output json`; whatever changes something asks for a header that no foreign web page can send.

mod act;
mod asked;
mod guard;
mod keys;
mod look;
mod metrics;
mod replica;
mod reply;
mod request;
mod router;
mod syncs;

use std::fmt;
use std::sync::Arc;

use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::auth::Doorkeeper;
use crate::engine::{Engine, Live};
use crate::http::Listener;
use crate::schedule::Slots;

use syncs::Syncs;

pub use replica::serve_metrics;

/// What the admin API works with.
pub struct Admin {
    /// Of the project. Its engine's observer hears of the runs that are asked for here, too.
    pub live: Live,
    /// The process' own, which scheduled runs take their turn at.
    pub slots: Slots,
    /// What `/metrics` shows besides the state of the tables.
    pub registry: Registry,
    /// Tells who asks; somebody else keeps its credentials up.
    pub doorkeeper: Arc<Doorkeeper>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("slots", &self.slots).finish_non_exhaustive()
    }
}

/// What handlers share.
struct Shared {
    live: Live,
    slots: Slots,
    registry: Registry,
    syncs: Syncs,
}

impl Shared {
    /// The engine of the pipelines as they are declared now: to be taken once a request.
    fn engine(&self) -> Arc<Engine> {
        self.live.now()
    }
}

/// Answers requests until `shutdown`, then cancels the runs that were asked for here and returns when they have ended.
pub async fn serve(listener: Listener, admin: Admin, shutdown: CancellationToken) {
    let Admin { live, slots, registry, doorkeeper } = admin;
    let guard = guard::Guard::new(listener.addr(), doorkeeper);
    let syncs = Syncs::new(live.clone(), slots.clone(), shutdown.clone());
    let shared = Arc::new(Shared { live, slots, registry, syncs });
    let routes = router::router(Arc::clone(&shared), listener.gate(reply::refusal), guard);
    listener.run(routes, shutdown).await;
    shared.syncs.ended().await;
}
