//! One loaded copy of a table.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::TableName;

/// The number of a generation: from one sequence a project, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub i64);

impl Generation {
    /// The table in the data schema that holds this generation: `<name>__g<number>`.
    #[must_use]
    pub fn table(self, name: &TableName) -> String {
        format!("{name}__g{}", self.0)
    }

    /// The table in the control schema that holds rows on their way into this generation.
    #[must_use]
    pub fn coming_rows(self) -> String {
        format!("g{}_coming", self.0)
    }

    /// The table in the control schema that holds keys of rows on their way out of this generation.
    #[must_use]
    pub fn going_keys(self) -> String {
        format!("g{}_going", self.0)
    }

    /// The unique index on the key.
    #[must_use]
    pub fn key_index(self) -> String {
        format!("g{}_pk", self.0)
    }

    /// The `number`th (from 1) declared index.
    #[must_use]
    pub fn further_index(self, number: usize) -> String {
        format!("g{}_i{number}", self.0)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
