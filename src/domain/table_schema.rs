//! The columns of one generation of a table.

use serde::{Deserialize, Serialize};

use super::ColumnType;

/// A column of a generation and of the published view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// The name in Postgres and in the API, exactly as the lake spells it unless renamed.
    pub name: String,
    /// The name in the source, or in the transform's result.
    pub source: String,
    /// The type in Postgres.
    pub ty: ColumnType,
    /// False only for key columns and for columns that the source declares never null.
    pub nullable: bool,
    /// The lake's description of the column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether it was added to a generation that was loaded without it. Null in such a column counts for nothing in the
    /// hash of a row, so that the sum over the rows that were there stays what it was.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub late: bool,
}

/// Columns in their order, and which of them make the primary key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSchema {
    /// All columns, in the order of the view.
    pub columns: Vec<Column>,
    /// Indexes into `columns`, in the order of the key.
    pub key: Vec<usize>,
}

impl TableSchema {
    /// The key's columns, in the order of the key.
    pub fn key_columns(&self) -> impl ExactSizeIterator<Item = &Column> {
        self.key.iter().map(|&index| &self.columns[index])
    }

    /// The positions of the key's columns in the order of the key, and behind them that of another column, unless it is
    /// one of them.
    #[must_use]
    pub fn key_and(&self, other: Option<usize>) -> Vec<usize> {
        let other = other.filter(|index| !self.key.contains(index));
        self.key.iter().copied().chain(other).collect()
    }

    /// The position of a column by its published name.
    #[must_use]
    pub fn position(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}
