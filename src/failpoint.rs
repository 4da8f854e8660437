//! The places where tests make a process stop or die. Active only in test builds.

use std::sync::atomic::{AtomicBool, Ordering};

use fail::FailScenario;
use nix::sys::signal::{Signal, raise};

/// After the run's row and its generation number are written, before the table is made.
pub const AFTER_DRAW: &str = "after_draw";
/// In the middle of the copy, once rows have been sent.
pub const DURING_COPY: &str = "during_copy";
/// After the copy, before the verification.
pub const BEFORE_VERIFY: &str = "before_verify";
/// After the verification, before the indexes.
pub const BEFORE_INDEX: &str = "before_index";
/// After the indexes, before the load is recorded.
pub const BEFORE_RECORD: &str = "before_record";
/// After the load is recorded, before the publish transaction begins.
pub const BEFORE_PUBLISH: &str = "before_publish";
/// Inside the publish transaction, before its commit.
pub const BEFORE_PUBLISH_COMMIT: &str = "before_publish_commit";
/// While changed rows are compared.
pub const DURING_COMPARE: &str = "during_compare";
/// After the live generation has got further columns, before rows are compared and staged.
pub const AFTER_EXTEND: &str = "after_extend";
/// Inside the transaction of a merge, before any row is changed.
pub const BEFORE_MERGE: &str = "before_merge";
/// Inside the transaction of a merge, after its rows are changed.
pub const AFTER_MERGE: &str = "after_merge";
/// After the publish, before the lease is given back.
pub const AFTER_PUBLISH: &str = "after_publish";

/// Those that a snapshot passes, in their order.
pub const OF_SNAPSHOT: &[&str] = &[
    AFTER_DRAW,
    DURING_COPY,
    BEFORE_VERIFY,
    BEFORE_INDEX,
    BEFORE_RECORD,
    BEFORE_PUBLISH,
    BEFORE_PUBLISH_COMMIT,
    AFTER_PUBLISH,
];

/// Those that a merge passes, in their order.
pub const OF_MERGE: &[&str] =
    &[DURING_COMPARE, DURING_COPY, BEFORE_MERGE, AFTER_MERGE, BEFORE_PUBLISH_COMMIT, AFTER_PUBLISH];

/// The variable that names the failpoint at which the process stops itself, once, as a hung one would: by SIGSTOP. What
/// started it then looks around, kills it or lets it go on.
const STOP_AT: &str = "LAKEGATE_TEST_STOP_AT";

/// Arms the failpoints that the environment names until the result is dropped: `FAILPOINTS`, in the syntax of the crate
/// `fail`, and `LAKEGATE_TEST_STOP_AT`. Does nothing in builds without failpoints.
#[must_use]
pub fn arm() -> Option<FailScenario<'static>> {
    if !fail::has_failpoints() {
        return None;
    }
    let scenario = FailScenario::setup();
    if let Ok(name) = std::env::var(STOP_AT) {
        let stopped = AtomicBool::new(false);
        // Neither can fail: names are free, and a process may always stop itself.
        let _ = fail::cfg_callback(name, move || {
            if !stopped.swap(true, Ordering::Relaxed) {
                let _ = raise(Signal::SIGSTOP);
            }
        });
    }
    Some(scenario)
}
