//! Writes a small real lake to try Lakegate on: the Delta tables and Parquet files of a web shop.
//!
//! The tables are written by delta-rs as any job would write them, with a history: created, appended to, updated,
//! merged into, deleted from. Rows depend on the options alone; names of files and times of commits do not, since the
//! writer draws them.

mod customers;
mod events;
mod lake;
mod order_lines;
mod orders;
mod random;
mod shop;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::domain::{Code, Error, Result};

use lake::Lake;
use shop::Shop;

/// How large a lake to write, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleOptions {
    /// The number of customers, 1 to 100,000. Each has about ten orders of one to five lines, and five events.
    pub customers: u32,
    /// Equal seeds give equal rows.
    pub seed: u64,
}

impl Default for SampleOptions {
    /// About 1,000 customers, 10,000 orders and 30,000 order lines: a few seconds of writing.
    fn default() -> Self {
        SampleOptions { customers: 1_000, seed: 1 }
    }
}

/// A table as it stands at the end of its history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SampleTable {
    /// The name, which is also that of the folder.
    pub name: &'static str,
    /// The table's folder.
    pub path: PathBuf,
    /// The rows in the newest version.
    pub rows: u64,
    /// The newest version of the Delta table; `None` = Parquet files without a log.
    pub version: Option<u64>,
}

/// Writes the lake into `dir`, which is made if it does not exist.
///
/// A folder that holds an earlier sample gets a new one in its place. The tables appear when all of them are complete:
/// dropping the future leaves the folder as it was.
///
/// # Errors
/// [`Code::WouldOverwrite`] if the folder holds anything that no earlier call has put there, or another process writes
/// to it; [`Code::InvalidUsage`] if the number of customers is out of range; [`Code::UnreadableFile`] if a file cannot
/// be written.
pub async fn write(dir: &Path, options: SampleOptions) -> Result<Vec<SampleTable>> {
    if !(1..=100_000).contains(&options.customers) {
        return Err(Error::new(Code::InvalidUsage, format!("{} customers", options.customers))
            .hint("choose a number from 1 to 100000"));
    }
    let shop = Shop::new(options);
    let lake = Lake::begin(dir)?;
    let written = [
        customers::write(&lake, shop).await?,
        orders::write(&lake, shop).await?,
        order_lines::write(&lake, shop).await?,
        events::write(&lake, shop)?,
    ];
    lake.finish(written)
}
