//! What must hold of a table before a new state of it is published.

use std::collections::BTreeMap;

/// The checks of one pipeline; columns go by their published names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Checks {
    /// How many rows there may be.
    pub row_count: RowCountCheck,
    /// Columns that are never null.
    pub not_null: Vec<String>,
    /// Lists of columns whose values no two rows share. A row with a null among them shares nothing.
    pub unique: Vec<Vec<String>>,
    /// The only values of a column besides null, each as Postgres spells a value of the column's type.
    pub accepted_values: BTreeMap<String, Vec<String>>,
    /// Queries that return no row.
    pub sql: Vec<SqlCheck>,
}

impl Checks {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Checks::default()
    }
}

/// Bounds on the number of rows, each inclusive.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RowCountCheck {
    /// The fewest rows.
    pub min: Option<u64>,
    /// The most rows.
    pub max: Option<u64>,
    /// By how many percent of the published rows their number may change, up or down.
    pub max_change_percent: Option<f64>,
}

/// A query that returns the rows that should not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlCheck {
    /// What it is called in messages.
    pub name: Option<String>,
    /// One SELECT, in which the table's published name stands for its new state.
    pub query: String,
}
