//! The name of a published table.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Code, Error, Result};

/// A published table's name and its path in the read API: `[a-z][a-z0-9_]{0,47}`, which leaves room for the suffixes
/// of generations within the 63 bytes that Postgres keeps of a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TableName(String);

impl TableName {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 48;

    /// Checks a name.
    ///
    /// # Errors
    /// [`Code::InvalidName`] when the name does not have the form above.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let starts = name.starts_with(|c: char| c.is_ascii_lowercase());
        let rest = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if starts && rest && name.len() <= Self::MAX_BYTES {
            return Ok(TableName(name));
        }
        Err(Error::new(Code::InvalidName, format!("`{name}` cannot name a table"))
            .hint("use 1 to 48 lower-case letters, digits and underscores, beginning with a letter"))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TableName {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        TableName::new(name)
    }
}

impl From<TableName> for String {
    fn from(name: TableName) -> String {
        name.0
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
