//! What a run did, counted in rows.

use serde::{Deserialize, Serialize};

/// Rows of one run. `read = inserted + rejected + deduplicated` holds for every snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowCounts {
    /// Rows the source yielded.
    #[serde(rename = "rows_read")]
    pub read: u64,
    /// Rows that are new in the published table; for a snapshot, all of them.
    #[serde(rename = "rows_inserted")]
    pub inserted: u64,
    /// Rows replaced by a merge.
    #[serde(rename = "rows_updated")]
    pub updated: u64,
    /// Rows removed by a merge.
    #[serde(rename = "rows_deleted")]
    pub deleted: u64,
    /// Rows that a refresh in place read and found as they are published.
    #[serde(rename = "rows_unchanged")]
    pub unchanged: u64,
    /// Rows left out under `on_bad_row: {reject: …}`.
    #[serde(rename = "rows_rejected")]
    pub rejected: u64,
    /// Older rows of a key left out under `on_duplicate_key: {latest_by: …}`.
    #[serde(rename = "rows_deduplicated")]
    pub deduplicated: u64,
}
