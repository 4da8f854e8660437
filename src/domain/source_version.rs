//! Which state of a source a generation holds.

use serde::{Deserialize, Serialize};

/// A state of a source, comparable for equality only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceVersion {
    /// What a person sees and `Lakegate-Version` carries: the Delta version in decimal digits, or for Parquet a
    /// fingerprint of the files' paths, sizes and entity tags.
    pub version: String,
    /// The Delta table's own id (`metaData.id`); differs after the table is dropped and recreated at the same path.
    pub table_id: Option<String>,
}
