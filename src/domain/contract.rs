//! What a table promises its readers.

use std::path::{Path, PathBuf};

use super::{ColumnType, TableName};

/// The promised columns and key of a table: `schemas/tables/<name>.yaml`. What of a source fits is published, further
/// columns are left out, and what no longer fits is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contract {
    /// The file that states it, relative to the project.
    pub file: PathBuf,
    /// The columns, in their order, those of the key among them.
    pub columns: Vec<PinnedColumn>,
}

/// A promised column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedColumn {
    /// The published name.
    pub name: String,
    /// The type, with the digits of a `numeric`.
    pub ty: ColumnType,
    /// Whether it may be null.
    pub nullable: bool,
}

impl Contract {
    /// Where the contract of a table stands, relative to the project.
    #[must_use]
    pub fn file_of(table: &TableName) -> PathBuf {
        Path::new(Contract::FOLDER).join(format!("{table}.yaml"))
    }

    /// Where contracts stand, relative to the project.
    pub const FOLDER: &str = "schemas/tables";

    /// The promised column of this name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&PinnedColumn> {
        self.columns.iter().find(|column| column.name == name)
    }
}
