//! What changed between two listings of files.
//!
//! Files that were added bring their rows, and nothing else happened: that is all that can be told. Of a file that was
//! removed or replaced, the rows that it had are gone with it, and what the store no longer holds cannot be compared
//! with what is published.

use std::sync::Arc;

use arrow_schema::Schema;

use crate::domain::{Code, Result, SourceVersion};

use crate::source::changes::{FollowedColumns, Found, FoundFiles, Side};
use crate::source::object_store::Location;

use super::KnownFile;
use super::listing::{self, Listed};
use super::record::{Difference, Record};

/// How to come from the state of a record to a later one.
pub(super) struct Way {
    /// The version that it begins at; `None` without a record.
    from: Option<String>,
    step: Step,
}

enum Step {
    /// By the rows of these files.
    Added(Vec<usize>),
    /// It cannot be told, for this reason.
    Unknown(String),
}

impl Way {
    /// The way from a record, if there is one, to these files with their columns. `can_be_kept` says whether a record can
    /// be made of them.
    pub(super) fn new(before: Option<&Record>, schema: &Schema, files: &[KnownFile], can_be_kept: bool) -> Way {
        let Some(before) = before else {
            let why = if can_be_kept { NOT_KEPT } else { "its files are too many or too different to be kept in mind" };
            return Way { from: None, step: Step::Unknown(why.to_owned()) };
        };
        let difference = before.difference(files);
        let step = if let Some(why) = rows_gone(&difference, files) {
            Step::Unknown(why)
        } else if *before.schema != *schema {
            // Other files make other columns of the same bytes: those that were loaded would read differently now.
            Step::Unknown("the columns of the source have changed".to_owned())
        } else {
            Step::Added(difference.added)
        };
        Way { from: Some(before.version.clone()), step }
    }

    /// What changed since a version.
    pub(super) fn since(
        &self,
        version: &SourceVersion,
        columns: Option<&FollowedColumns>,
        files: &Arc<[KnownFile]>,
    ) -> Found {
        if self.from.as_ref().is_some_and(|from| *from != version.version) {
            return Found::Unknown(NOT_KEPT.to_owned());
        }
        let added = match &self.step {
            Step::Unknown(why) => return Found::Unknown(why.clone()),
            // The files have the columns that they had: one that was not taken has values.
            Step::Added(_) if columns.is_some_and(|columns| !columns.added.is_empty()) => {
                return Found::Unknown("columns are taken that were not taken before".to_owned());
            }
            Step::Added(added) => added.iter().filter_map(|&index| files.get(index)),
        };
        let files: Vec<_> = added.map(|file| (file.data_file(), Side::After)).collect();
        let summary = format!("{} added", count(files.len()));
        if files.iter().all(|(file, _)| file.rows == Some(0)) {
            return Found::None;
        }
        Found::Files(FoundFiles { files, identity: None, each_once: true, summary })
    }
}

const NOT_KEPT: &str = "which files were loaded was not written down";

/// Why the rows that went cannot be told, if any went.
fn rows_gone(difference: &Difference, files: &[KnownFile]) -> Option<String> {
    let mut said = Vec::new();
    if difference.removed > 0 {
        said.push(format!("{} removed", count(difference.removed)));
    }
    match difference.replaced.as_slice() {
        [] => {}
        [one] => said.push(format!("`{}` was replaced", files.get(*one).map_or("", |file| &file.listed.name))),
        many => said.push(format!("{} replaced", count(many.len()))),
    }
    let what = said.join(" and ");
    (!what.is_empty()).then(|| format!("{what}, whose earlier rows only a full load can tell"))
}

fn count(files: usize) -> String {
    if files == 1 { "1 file was".to_owned() } else { format!("{files} files were") }
}

/// Makes sure that files are still those that were opened. Lists them; blocks.
///
/// # Errors
/// [`Code::FileGone`] and those of the store.
pub(super) fn check_files(location: &Location, pattern: Option<&str>, opened: &[KnownFile]) -> Result<()> {
    let now = match listing::list(location, pattern) {
        Err(error) if error.code() == Code::SourceNotFound => Vec::new(),
        listed => listed?,
    };
    let stands = |file: &Listed| {
        let found = now.binary_search_by(|other| other.name.cmp(&file.name)).ok().and_then(|index| now.get(index));
        found.is_some_and(|found| found.state() == file.state())
    };
    match opened.iter().find(|file| !stands(&file.listed)) {
        Some(file) => Err(listing::moved(&file.listed.name, location)),
        None => Ok(()),
    }
}
