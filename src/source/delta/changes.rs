//! The way between two versions of a Delta table, from the commits that lie between them.
//!
//! Commits that only move rows between files (`dataChange` is false) count for nothing. Where a commit has a change
//! feed, that tells what changed; else the files that it removed and added do. A file that changes its deletion vector
//! is removed and added by the same path: then the rows that only one of the vectors marks are all that changed.

use std::collections::BTreeMap;

use delta_kernel::Version;
use delta_kernel::schema::StructField;

use crate::domain::{Code, Result, SourcePin, SourceVersion};

use crate::source::changes::{FollowedColumns, Found, FoundFiles, OTHER_HISTORY, Side};
use crate::source::data_file::DataFile;
use crate::source::io::block_on;
use crate::source::live_rows::Rows;
use crate::source::object_store::Location;
use crate::source::row_identity::{FileIdentity, RowIdentity};

use super::Table;
use super::commits::{self, Commit, LoggedFile};
use super::files::LoggedFiles;

/// More commits than that are not followed: a snapshot costs less than their history.
const COMMITS_MAX: u64 = 1_000;

/// What changed from the version that was loaded to that of the table. Blocks.
///
/// # Errors
/// [`crate::domain::Code::SourceCorrupt`] and those of the store.
pub(super) fn since(
    table: &Table,
    location: &Location,
    loaded: &SourceVersion,
    columns: Option<&FollowedColumns>,
) -> Result<Found> {
    let to = table.snapshot.version();
    let Ok(from) = loaded.version.parse::<Version>() else {
        return Ok(Found::Unknown("what is published is not a version of a Delta table".to_owned()));
    };
    if from > to {
        return Ok(Found::Unknown(format!("the source went back from version {from} to {to}")));
    }
    if to - from > COMMITS_MAX {
        return Ok(Found::Unknown(format!("{} commits lie behind, more than are followed", to - from)));
    }
    if let Some(commit) = &loaded.commit {
        let place = location.clone();
        let now = block_on(async move { commits::digest(&place, from).await })??;
        if now.is_some_and(|now| now != *commit) {
            return Ok(Found::Unknown(OTHER_HISTORY.to_owned()));
        }
    }
    let Some(commits) = commits::read(location, from + 1..=to)? else {
        return Ok(Found::Unknown(format!("the log no longer holds every commit since version {from}")));
    };
    let net = Net::of(commits);
    let takes_more = columns.is_some_and(|columns| !columns.added.is_empty());
    if (net.sets_metadata || takes_more) && !can_be_followed(table, location, from, columns)? {
        return Ok(Found::Unknown("the columns of the source have changed".to_owned()));
    }
    net.files(table, location)
}

/// Whether what the table has now in these columns can be told from what it had at an earlier version: those that were
/// loaded are found in its files in the same way, the others were not there. Without `columns`, all must be the same.
fn can_be_followed(
    table: &Table,
    location: &Location,
    from: Version,
    columns: Option<&FollowedColumns>,
) -> Result<bool> {
    let before = match Table::load(location, Some(&SourcePin::Version(from))) {
        Ok(before) => before,
        // Its columns are not to be known any more.
        Err(error) if error.code() == Code::VersionUnavailable => return Ok(false),
        Err(error) => return Err(error),
    };
    let (before, after) = (&before.snapshot, &table.snapshot);
    let (old, new) = (before.table_configuration(), after.table_configuration());
    if old.column_mapping_mode() != new.column_mapping_mode()
        || old.logical_partition_columns() != new.logical_partition_columns()
    {
        return Ok(false);
    }
    let (old, new) = (before.schema(), after.schema());
    let Some(FollowedColumns { kept, added }) = columns else { return Ok(old == new) };
    let same = |name: &String| {
        let (old, new) = (old.field(name), new.field(name));
        old.zip(new).is_some_and(|(old, new)| read_alike(old, new))
    };
    // Names of columns that differ in case alone are one name to Delta.
    let is_new = |name: &String| old.fields().all(|field| !field.name().eq_ignore_ascii_case(name));
    Ok(kept.iter().all(same) && added.iter().all(is_new))
}

/// Whether a column is found in files in the same way, and its values are of the same type, whatever is said about it.
fn read_alike(old: &StructField, new: &StructField) -> bool {
    let place = |field: &StructField| {
        let metadata = field.metadata().iter().filter(|(key, _)| key.starts_with("delta.columnMapping."));
        metadata.map(|(key, value)| (key.clone(), value.clone())).collect::<BTreeMap<_, _>>()
    };
    old.data_type() == new.data_type() && format!("{:?}", place(old)) == format!("{:?}", place(new))
}

/// What is left of the commits when those that undo each other are taken together.
#[derive(Default)]
struct Net {
    paths: BTreeMap<String, AtPath>,
    feed: Vec<LoggedFile>,
    /// Whether columns or properties of the table were set.
    sets_metadata: bool,
    /// Whether rows were moved between files without a change.
    moves_rows: bool,
}

/// What happened to one file: it may have been removed and added with another deletion vector.
#[derive(Default)]
struct AtPath {
    removed: Vec<LoggedFile>,
    added: Vec<LoggedFile>,
}

impl Net {
    fn of(commits: Vec<Commit>) -> Net {
        let mut net = Net::default();
        for commit in commits {
            net.sets_metadata |= commit.sets_metadata;
            if !commit.feed.is_empty() {
                net.feed.extend(commit.feed);
                continue;
            }
            net.moves_rows |= commit.removed.iter().chain(&commit.added).any(|file| !file.data_change);
            for file in commit.removed.into_iter().filter(|file| file.data_change) {
                let at = net.paths.entry(file.path.clone()).or_default();
                cancel_or_keep(&mut at.added, &mut at.removed, file);
            }
            for file in commit.added.into_iter().filter(|file| file.data_change) {
                let at = net.paths.entry(file.path.clone()).or_default();
                cancel_or_keep(&mut at.removed, &mut at.added, file);
            }
        }
        net.paths.retain(|_, at| !at.removed.is_empty() || !at.added.is_empty());
        net
    }

    fn files(self, table: &Table, location: &Location) -> Result<Found> {
        if self.paths.is_empty() && self.feed.is_empty() {
            return Ok(Found::None);
        }
        let place = location.display();
        let partitions = table.snapshot.table_configuration().logical_partition_columns().to_vec();
        let mut logged = LoggedFiles::new(table, location, &place, &partitions)?;
        let (summary, identity) = (self.summary(), self.identity(table));
        let mut files = Vec::new();
        for at in self.paths.into_values() {
            if !at.collect(&mut logged, !partitions.is_empty(), &mut files)? {
                return Ok(Found::Unknown("the log says too little of the files that it removed".to_owned()));
            }
        }
        for file in &self.feed {
            match read_file(&mut logged, file, Rows::All, !partitions.is_empty())? {
                Some(file) => files.push((file, Side::PerRow)),
                None => return Ok(Found::Unknown("the log says too little of its change feed".to_owned())),
            }
        }
        Ok(Found::Files(FoundFiles { files, identity, each_once: !self.moves_rows, summary }))
    }

    /// How rows are told apart, where the table has tracked them all the time, under the same names of columns, and all
    /// rows of all files count. The files are in the order in which [`Net::files`] lists them.
    fn identity(&self, table: &Table) -> Option<RowIdentity> {
        let properties = table.snapshot.table_configuration().metadata().configuration();
        let is_tracked = properties.get("delta.enableRowTracking").is_some_and(|enabled| enabled == "true");
        if !is_tracked || self.sets_metadata || !self.feed.is_empty() {
            return None;
        }
        let column = |which: &str| properties.get(&format!("delta.rowTracking.materialized{which}ColumnName")).cloned();
        let files = self.paths.values().flat_map(|at| at.removed.iter().chain(&at.added)).map(|file| {
            let identity = FileIdentity { first_id: file.base_row_id?, version: file.default_row_commit_version? };
            file.deletion_vector.is_none().then_some(identity)
        });
        let files = files.collect::<Option<Vec<_>>>()?;
        Some(RowIdentity { id_column: column("RowId")?, version_column: column("RowCommitVersion")?, files })
    }

    /// What happened, for a person.
    fn summary(&self) -> String {
        let count = |which: &dyn Fn(&AtPath) -> bool| self.paths.values().filter(|at| which(at)).count();
        let files = |count: usize| if count == 1 { "1 file".to_owned() } else { format!("{count} files") };
        let mut said = Vec::new();
        if !self.feed.is_empty() {
            said.push(format!("{} of the change feed", files(self.feed.len())));
        }
        for (count, what) in [
            (count(&|at| at.removed.is_empty()), "added"),
            (count(&|at| at.added.is_empty()), "removed"),
            (count(&|at| !at.removed.is_empty() && !at.added.is_empty()), "with other rows marked as deleted"),
        ] {
            if count > 0 {
                said.push(format!("{} {what}", files(count)));
            }
        }
        said.join(", ")
    }
}

/// A file removed takes one added before it along, with the same deletion vector, and the other way round. A file of
/// another size was written over.
fn cancel_or_keep(opposite: &mut Vec<LoggedFile>, own: &mut Vec<LoggedFile>, file: LoggedFile) {
    let same = |other: &LoggedFile| (&other.deletion_vector, other.size) == (&file.deletion_vector, file.size);
    match opposite.iter().position(same) {
        Some(index) => {
            opposite.swap_remove(index);
        }
        None => own.push(file),
    }
}

impl AtPath {
    /// The rows that went and came with a file. False where the log says too little of it.
    fn collect(
        &self,
        logged: &mut LoggedFiles<'_>,
        partitioned: bool,
        files: &mut Vec<(DataFile, Side)>,
    ) -> Result<bool> {
        if let ([before], [after]) = (self.removed.as_slice(), self.added.as_slice()) {
            if before.size != after.size {
                return Ok(false);
            }
            let (old, new) = (before.deletion_vector.as_ref(), after.deletion_vector.as_ref());
            for (marks, less, side) in [(new, old, Side::Before), (old, new, Side::After)] {
                let Some(marks) = marks else { continue };
                let live = Rows::Only(logged.newly_marked(marks, less)?);
                let Some(file) = read_file(logged, after, live, partitioned)? else { return Ok(false) };
                files.push((file, side));
            }
            return Ok(true);
        }
        for (list, side) in [(&self.removed, Side::Before), (&self.added, Side::After)] {
            for file in list {
                let live = match &file.deletion_vector {
                    Some(vector) => Rows::AllBut(logged.marked(vector)?),
                    None => Rows::All,
                };
                let Some(file) = read_file(logged, file, live, partitioned)? else { return Ok(false) };
                files.push((file, side));
            }
        }
        Ok(true)
    }
}

/// A file of the log to be read; `None` where the log says too little of it.
fn read_file(
    logged: &mut LoggedFiles<'_>,
    file: &LoggedFile,
    live: Rows,
    partitioned: bool,
) -> Result<Option<DataFile>> {
    let Some(size) = file.size else { return Ok(None) };
    let values = file.partition_values.as_ref();
    if partitioned && values.is_none() {
        return Ok(None);
    }
    let value_of = |name: &str| values.and_then(|values| values.get(name).cloned().flatten());
    logged.file(&file.path, size, file.rows, live, value_of).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, vector: Option<&str>) -> LoggedFile {
        let vector = vector.map(|name| {
            serde_json::from_value(serde_json::json!({
                "storageType": "u", "pathOrInlineDv": name, "offset": 1, "sizeInBytes": 1, "cardinality": 1
            }))
            .unwrap()
        });
        LoggedFile {
            path: path.to_owned(),
            size: Some(1),
            partition_values: None,
            data_change: true,
            deletion_vector: vector,
            base_row_id: None,
            default_row_commit_version: None,
            rows: None,
        }
    }

    fn commit(removed: &[LoggedFile], added: &[LoggedFile]) -> Commit {
        Commit { removed: removed.to_vec(), added: added.to_vec(), ..Commit::default() }
    }

    #[test]
    fn what_one_commit_adds_and_a_later_one_removes_cancels_out() {
        let net = Net::of(vec![commit(&[], &[file("a", None)]), commit(&[file("a", None)], &[file("b", None)])]);
        assert_eq!(net.summary(), "1 file added");
    }

    #[test]
    fn deletion_vectors_that_follow_each_other_make_one_step() {
        let net = Net::of(vec![
            commit(&[file("a", None)], &[file("a", Some("1"))]),
            commit(&[file("a", Some("1"))], &[file("a", Some("2"))]),
        ]);
        let at = &net.paths["a"];
        assert_eq!((at.removed.len(), at.added.len()), (1, 1));
        assert!(at.removed[0].deletion_vector.is_none() && at.added[0].deletion_vector.is_some());
        assert_eq!(net.summary(), "1 file with other rows marked as deleted");
    }

    #[test]
    fn a_file_whose_rows_are_marked_and_that_is_removed_then_counts_whole() {
        let net =
            Net::of(vec![commit(&[file("a", None)], &[file("a", Some("1"))]), commit(&[file("a", Some("1"))], &[])]);
        assert_eq!(net.summary(), "1 file removed");
        assert!(net.paths["a"].removed[0].deletion_vector.is_none());
    }

    #[test]
    fn moving_rows_between_files_changes_nothing() {
        let moved = |path: &str| LoggedFile { data_change: false, ..file(path, None) };
        let net = Net::of(vec![commit(&[moved("a"), moved("b")], &[moved("c")])]);
        assert!(net.paths.is_empty() && net.feed.is_empty() && net.moves_rows);
    }

    #[test]
    fn the_change_feed_of_a_commit_tells_alone() {
        let with_feed = Commit { feed: vec![file("f", None)], ..commit(&[file("a", None)], &[file("b", None)]) };
        assert_eq!(Net::of(vec![with_feed]).summary(), "1 file of the change feed");
    }
}
