//! The commits of a Delta log, one file each, by what they say of data.
//!
//! The kernel replays a log into a state; the way between two states has to be read from the commits themselves. Their
//! form is that of the Delta protocol, section "Actions".

use std::collections::HashMap;

use delta_kernel::Version;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::ObjectStoreExt as _;
use serde::Deserialize;
use twox_hash::XxHash3_128;

use crate::domain::{Error, Result};

use crate::source::failure::{Wanted, corrupt, store_error};
use crate::source::io::block_on;
use crate::source::object_store::Location;

use super::files::{LoggedVector, recorded_rows};

/// Commits that are fetched at a time.
const AT_ONCE: usize = 8;
/// Bytes that the digest of a commit covers, from its beginning. Names of files and times stand there that no other
/// commit has, and a commit of many files costs no more than a small one.
const DIGESTED: usize = 64 * 1024;

/// What one commit says of data.
#[derive(Debug, Default)]
pub(super) struct Commit {
    pub(super) added: Vec<LoggedFile>,
    pub(super) removed: Vec<LoggedFile>,
    /// Files of the change feed: where there are any, they alone tell what the commit changed.
    pub(super) feed: Vec<LoggedFile>,
    /// Whether it sets the table's columns or properties.
    pub(super) sets_metadata: bool,
}

/// A file as a commit describes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LoggedFile {
    pub(super) path: String,
    pub(super) size: Option<i64>,
    pub(super) partition_values: Option<HashMap<String, Option<String>>>,
    /// Whether rows of the table come or go with it; a mere reorganisation says no.
    #[serde(default = "yes")]
    pub(super) data_change: bool,
    pub(super) deletion_vector: Option<LoggedVector>,
    /// The id of the first row, and the version that wrote the file, where the table tracks rows.
    pub(super) base_row_id: Option<i64>,
    pub(super) default_row_commit_version: Option<i64>,
    /// Rows by the file's statistics, of which nothing else is kept.
    #[serde(rename = "stats", default, deserialize_with = "rows_of_statistics")]
    pub(super) rows: Option<u64>,
}

fn rows_of_statistics<'de, D: serde::Deserializer<'de>>(statistics: D) -> Result<Option<u64>, D::Error> {
    Ok(Option::<String>::deserialize(statistics)?.and_then(|text| recorded_rows(&text)))
}

const fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Action {
    add: Option<LoggedFile>,
    remove: Option<LoggedFile>,
    cdc: Option<LoggedFile>,
    meta_data: Option<serde::de::IgnoredAny>,
}

/// The file of a commit in the log.
pub(super) fn file_name(version: Version) -> String {
    format!("{version:020}.json")
}

/// Reads the commits of these versions in their order. `None` where the log no longer holds all of them. Blocks.
///
/// # Errors
/// [`crate::domain::Code::SourceCorrupt`] and those of the store.
pub(super) fn read(location: &Location, versions: std::ops::RangeInclusive<Version>) -> Result<Option<Vec<Commit>>> {
    let log = location.path.clone().join("_delta_log");
    let store = location.store.clone();
    // Parsed as they arrive: of a commit of many files, their statistics are most, and are not kept.
    let fetched = block_on(async move {
        let fetch = |version| {
            let (store, path) = (store.clone(), log.clone().join(file_name(version)));
            async move { store.get(&path).await?.bytes().await.map(|bytes| (version, parse(&bytes))) }
        };
        let commits = futures::stream::iter(versions.map(fetch)).buffered(AT_ONCE);
        commits.try_collect::<Vec<_>>().await
    })?;
    let place = location.display();
    let fetched = match fetched {
        Ok(fetched) => fetched,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(store_error(error, Wanted::Source, format!("the log of {place}"))),
    };
    let commits = fetched.into_iter().map(|(version, commit)| {
        commit.map_err(|error| corrupt(format!("{} in the log of {place}", file_name(version)), error))
    });
    commits.collect::<Result<_, Error>>().map(Some)
}

/// A digest of the commit of a version: of its length and its beginning. `None` where the log no longer holds it. Reads
/// that one file.
///
/// # Errors
/// Those of the store.
pub(in crate::source) async fn digest(location: &Location, version: Version) -> Result<Option<String>> {
    let path = location.path.clone().join("_delta_log").join(file_name(version));
    let read = async {
        let found = location.store.get(&path).await?;
        let mut digested = found.meta.size.to_le_bytes().to_vec();
        let end = digested.len() + DIGESTED;
        let mut chunks = found.into_stream();
        while digested.len() < end
            && let Some(chunk) = chunks.try_next().await?
        {
            digested.extend_from_slice(&chunk);
        }
        // Where a chunk ends, differs from store to store.
        digested.truncate(end);
        Ok(format!("{:032x}", XxHash3_128::oneshot(&digested)))
    };
    match read.await {
        Ok(digest) => Ok(Some(digest)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(store_error(error, Wanted::Source, format!("the log of {}", location.display()))),
    }
}

fn parse(bytes: &[u8]) -> serde_json::Result<Commit> {
    let mut commit = Commit::default();
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        let action: Action = serde_json::from_slice(line)?;
        commit.added.extend(action.add);
        commit.removed.extend(action.remove);
        commit.feed.extend(action.cdc);
        commit.sets_metadata |= action.meta_data.is_some();
    }
    Ok(commit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_read_whatever_else_it_holds() {
        let commit = br#"
{"commitInfo":{"operation":"MERGE"}}
{"add":{"path":"a%20b","size":7,"partitionValues":{"p":null},"modificationTime":1,"dataChange":false,"stats":"{}"}}
{"remove":{"path":"c","deletionTimestamp":1,"deletionVector":{"storageType":"u","pathOrInlineDv":"x","offset":4,"sizeInBytes":3,"cardinality":2}}}
{"cdc":{"path":"_change_data/d","size":1,"partitionValues":{},"dataChange":false}}
"#;
        let commit = parse(commit).unwrap();
        assert!(!commit.added[0].data_change && commit.removed[0].data_change);
        assert_eq!(commit.added[0].partition_values.as_ref().unwrap()["p"], None);
        assert!(commit.removed[0].deletion_vector.is_some() && commit.removed[0].size.is_none());
        assert_eq!(commit.feed.len(), 1);
        assert!(!commit.sets_metadata);
    }

    #[test]
    fn a_line_that_is_no_json_is_an_error() {
        assert!(parse(b"{\"add\":{}}\nnot json").is_err());
    }
}
