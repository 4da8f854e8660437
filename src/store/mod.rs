//! The control state, in Postgres: who we are, what ran, what is published, who holds which pipeline.
//!
//! Every function takes the connection it works on, so that callers decide what shares a transaction. All SQL names
//! come from one [`Control`], which knows the schema's quoted name.

mod alerts;
mod api_keys;
mod cancel;
mod generations;
mod lease;
mod migrate;
mod pipelines;
mod published;
mod rejected;
mod runs;
mod served;
mod sync_state;

pub use alerts::{AlertMessage, Change, Told};
pub use api_keys::{KeyRecord, StoredKey};
pub use cancel::cancelled_by;
pub use generations::{LoadedGeneration, LoadedRow, MergedRow};
pub use lease::{Ending, Heartbeat, Lease, LeaseAttempt};
pub use migrate::Identity;
pub use pipelines::PipelineState;
pub use published::{PublishRow, Published};
pub use rejected::RejectedRow;
pub use runs::{RunFilter, RunRecord};
pub use served::{PublishedState, ServedTable};
pub use sync_state::{CancelledRun, FailedRun, PublishedSource, SyncState};

use crate::postgres::quote;

/// The control schema of one project.
#[derive(Debug, Clone)]
pub struct Control {
    name: String,
    quoted: String,
}

impl Control {
    /// The schema of this (unquoted) name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Control { name: name.to_owned(), quoted: quote(name) }
    }

    /// The unquoted name, which is also the name of the NOTIFY channel.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A statement with every `{control}` replaced by the quoted schema.
    pub(crate) fn sql(&self, template: &str) -> String {
        template.replace("{control}", &self.quoted)
    }
}
