//! Which versions of a table its log still holds.

use chrono::DateTime;
use delta_kernel::Version;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};

use crate::domain::{Code, Error, Result};

use crate::source::failure::{Wanted, store_error};
use crate::source::io::block_on;
use crate::source::object_store::Location;

/// The most commits that are looked at for one that is broken; checkpoints come more often as a rule.
const LOOKED_AT: usize = 100;

/// The newest commit file that is no JSON, if one of the newest is. Reads them; blocks.
pub(super) fn broken_commit(location: &Location) -> Option<String> {
    let (store, log) = (location.store.clone(), log(location));
    let find = async move {
        let mut names = names(&*store, &log).await.ok()?;
        names.retain(|name| name.strip_suffix(".json").and_then(parse).is_some());
        names.sort();
        for name in names.into_iter().rev().take(LOOKED_AT) {
            let commit = store.get(&log.clone().join(name.as_str())).await.ok()?.bytes().await.ok()?;
            let lines = commit.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
            let is_json = |line: &[u8]| serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok();
            if !lines.into_iter().all(is_json) {
                return Some(name);
            }
        }
        None
    };
    block_on(find).ok().flatten()
}

fn log(location: &Location) -> Path {
    location.path.clone().join("_delta_log")
}

/// The names of the log's files.
async fn names(store: &dyn ObjectStore, log: &Path) -> object_store::Result<Vec<String>> {
    let names = store.list(Some(log)).map_ok(|meta| meta.location.filename().unwrap_or_default().to_owned());
    names.try_collect().await
}

/// Checks that a version can be read. Lists the log; blocks.
///
/// # Errors
/// [`Code::VersionUnavailable`] says which versions are there; [`Code::SourceNotFound`] where there is no log.
pub(super) fn check(location: &Location, version: Version) -> Result<()> {
    let place = location.display();
    let (store, log) = (location.store.clone(), log(location));
    let names = block_on(async move { names(&*store, &log).await })?;
    let names = names.map_err(|error| store_error(error, Wanted::Source, &place))?;
    let commits = || names.iter().filter_map(|name| parse(name.strip_suffix(".json")?));
    let checkpoints = names.iter().filter_map(|name| parse(name.split_once(".checkpoint.")?.0));
    let Some(newest) = commits().chain(checkpoints.clone()).max() else {
        return Err(Error::new(Code::SourceNotFound, format!("{place}: there is no Delta log")));
    };
    // Only a checkpoint, or the first commit, is a point to begin from.
    let oldest = commits().filter(|&commit| commit == 0).chain(checkpoints).min();
    if oldest.is_some_and(|oldest| oldest <= version) && version <= newest {
        return Ok(());
    }
    let there = match oldest {
        Some(oldest) => format!("versions {oldest} to {newest} are there"),
        None => "no version of the table can be read any more".to_owned(),
    };
    Err(unavailable(format!("{place}: version {version} is not there; {there}")))
}

/// A commit's or checkpoint's version, twenty digits.
fn parse(digits: &str) -> Option<Version> {
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

/// No version is as old as the instant.
pub(super) fn no_such_instant(place: &str, millis: i64, error: &delta_kernel::Error) -> Error {
    let instant = DateTime::from_timestamp_millis(millis).map_or_else(|| millis.to_string(), |at| at.to_rfc3339());
    unavailable(format!("{place}: no version was committed at or before {instant}: {error}"))
}

fn unavailable(detail: String) -> Error {
    Error::new(Code::VersionUnavailable, detail)
        .hint("pin a version that is there, or keep more of them (delta.logRetentionDuration)")
}
