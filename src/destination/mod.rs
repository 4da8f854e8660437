//! Generations and published views in Postgres: everything that makes, fills, checks, publishes or drops one.
//!
//! A generation is a table of its own in the data schema, `<name>__g<number>`. Readers see it through a view in the
//! published schema, on which grants hang. This module knows no run, no source and no Arrow: it is told what to do by
//! `engine` and says what Postgres answered.

mod changed_keys;
mod checks;
mod copy;
mod duplicates;
mod extend;
mod generation_table;
mod index;
mod merge;
mod merge_latest;
mod preflight;
mod retire;
mod roles;
mod server;
mod staging;
mod verify;
mod view;
mod view_definition;

pub use changed_keys::changed_key_sql;
pub use checks::{BrokenRow, CheckedRows, CheckedTable, ReturnedRows, RowRule, SharedValues};
pub use copy::{CopyInput, CopyStream, CopyTarget};
pub use duplicates::Deduplicated;
pub use merge::{Merged, Written};
pub use merge_latest::MergedLatest;
pub use preflight::{Dependent, Facts};
pub use retire::Retired;
pub use verify::StoredChecksum;
pub use view::{Repoint, Shown, ViewChange};

use crate::domain::{Generation, Schemas, TableName, TableSchema};
use crate::postgres::{qualified, quote};

/// The three schemas of one project, quoted.
#[derive(Debug, Clone)]
pub struct Destination {
    schemas: Schemas,
}

impl Destination {
    /// The destination in these schemas.
    #[must_use]
    pub fn new(schemas: Schemas) -> Self {
        Destination { schemas }
    }

    /// The schemas.
    #[must_use]
    pub fn schemas(&self) -> &Schemas {
        &self.schemas
    }

    /// The quoted name of a generation's table.
    fn table(&self, name: &TableName, generation: Generation) -> String {
        qualified(&self.schemas.data, &generation.table(name))
    }

    /// The quoted name of a published view.
    fn view(&self, name: &TableName) -> String {
        qualified(&self.schemas.published, name.as_str())
    }

    /// A quoted object of the control schema.
    fn control(&self, object: &str) -> String {
        qualified(&self.schemas.control, object)
    }
}

/// A quoted name like `name` that no column of the schema has, for an alias that must not be taken for a column.
fn unused(name: &str, schema: &TableSchema) -> String {
    let mut alias = name.to_owned();
    while schema.position(&alias).is_some() {
        alias.push('_');
    }
    quote(&alias)
}

/// Quoted column names, separated by commas.
fn column_list<'a>(columns: impl IntoIterator<Item = &'a str>) -> String {
    columns.into_iter().map(quote).collect::<Vec<_>>().join(", ")
}
