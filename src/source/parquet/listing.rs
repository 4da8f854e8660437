//! Which files an address of Parquet files means.

use std::path::Path as FilePath;

use futures::TryStreamExt;
use glob::{MatchOptions, Pattern};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use crate::domain::{Code, Error, Result};

use crate::source::failure::{Wanted, store_error};
use crate::source::io::block_on;
use crate::source::object_store::Location;

/// A file of the source.
#[derive(Debug)]
pub(super) struct Listed {
    /// Its path below the address.
    pub(super) name: String,
    pub(super) meta: ObjectMeta,
}

impl Listed {
    /// What tells its states apart: its size, and the store's tag or, where it gives none, the time of change in
    /// microseconds. The tag of a local file is made of its inode, size and time of change.
    pub(super) fn state(&self) -> Vec<u8> {
        let mut state = self.meta.size.to_le_bytes().to_vec();
        match &self.meta.e_tag {
            Some(tag) => state.extend_from_slice(tag.as_bytes()),
            None => state.extend_from_slice(&self.meta.last_modified.timestamp_micros().to_le_bytes()),
        }
        state
    }
}

/// Splits an address into the folder to list and the pattern below it, if it has one. A local path that exists as it
/// is written is no pattern.
pub(in crate::source) fn split_pattern(address: &str, project_dir: &FilePath) -> (String, Option<String>) {
    let is_local = !address.contains("://");
    let Some(wildcard) = address.find(['*', '?', '[']) else { return (address.to_owned(), None) };
    if is_local && project_dir.join(address).exists() {
        return (address.to_owned(), None);
    }
    match address.get(..wildcard).and_then(|before| before.rfind('/')) {
        Some(slash) => {
            let (base, pattern) = address.split_at(slash + 1);
            (base.to_owned(), Some(pattern.to_owned()))
        }
        None => (".".to_owned(), Some(address.to_owned())),
    }
}

/// Lists the files in the order of their paths. Blocks.
///
/// # Errors
/// [`Code::SourceNotFound`] where there are none, [`Code::UnsupportedUri`] for a bad pattern.
pub(super) fn list(location: &Location, pattern: Option<&str>) -> Result<Vec<Listed>> {
    let place = location.display();
    let files = match pattern {
        Some(pattern) => {
            let invalid = |error| Error::new(Code::UnsupportedUri, format!("`{pattern}`: {error}"));
            let pattern = Pattern::new(pattern).map_err(invalid)?;
            let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
            let mut files = walk(location)?;
            files.retain(|file| pattern.matches_with(&file.name, options));
            files
        }
        None => folder_or_file(location)?,
    };
    if files.is_empty() {
        return Err(Error::new(Code::SourceNotFound, format!("{place}: there is no Delta log and no Parquet file"))
            .hint("check the address, and that the files have been written there"));
    }
    Ok(files)
}

/// What is below the address, or where nothing is, the address itself.
fn folder_or_file(location: &Location) -> Result<Vec<Listed>> {
    if !location.url.to_file_path().is_ok_and(|path| path.is_file()) {
        let files = walk(location)?;
        if !files.is_empty() {
            return Ok(files);
        }
    }
    let (store, path) = (location.store.clone(), location.path.clone());
    match block_on(async move { store.head(&path).await })? {
        Ok(meta) => Ok(vec![Listed { name: meta.location.filename().unwrap_or_default().to_owned(), meta }]),
        Err(object_store::Error::NotFound { .. }) => Ok(Vec::new()),
        Err(error) => Err(store_error(error, Wanted::Source, location.display())),
    }
}

/// All files below the address, save those that writers hide: names that begin with `_` or `.`, in whatever folder,
/// and the empty objects that stand for folders.
fn walk(location: &Location) -> Result<Vec<Listed>> {
    let (store, base) = (location.store.clone(), location.path.clone());
    let found = block_on(async move { store.list(Some(&base)).try_collect::<Vec<ObjectMeta>>().await })?;
    let found = found.map_err(|error| store_error(error, Wanted::Source, location.display()))?;
    let mut files: Vec<Listed> = found
        .into_iter()
        .filter_map(|meta| {
            let below: Vec<_> = meta.location.prefix_match(&location.path)?.collect();
            let parts: Vec<&str> = below.iter().map(AsRef::as_ref).collect();
            let hidden = |part: &&str| part.starts_with('.') || (part.starts_with('_') && !part.contains('='));
            let name = parts.join("/");
            let is_folder = meta.size == 0 && !name.ends_with(".parquet");
            (!is_folder && !parts.iter().any(hidden)).then_some(Listed { name, meta })
        })
        .collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// Whether a file is gone or another one since it was listed. Asks the store; what it cannot say counts as no. Blocks.
pub(super) fn has_changed(location: &Location, file: &Listed) -> bool {
    let (store, path) = (location.store.clone(), file.meta.location.clone());
    match block_on(async move { store.head(&path).await }) {
        Ok(Ok(now)) => {
            // Some stores quote tags in one of their answers and not in the other, or leave them out there.
            let tags = now.e_tag.as_ref().zip(file.meta.e_tag.as_ref());
            now.size != file.meta.size
                || tags.is_some_and(|(now, then)| now.trim_matches('"') != then.trim_matches('"'))
        }
        Ok(Err(object_store::Error::NotFound { .. })) => true,
        Ok(Err(_)) | Err(_) => false,
    }
}

/// The error of a file that is not the one that was listed.
pub(super) fn moved(name: &str, location: &Location) -> Error {
    let detail = format!("{}: `{name}` was removed or replaced while it was read", location.display());
    Error::new(Code::FileGone, detail)
        .hint("the run is tried again; write files under a name that begins with `_` or `.`, and rename them when they are whole")
}

/// Sixteen hexadecimal digits that differ where a file's path, size, or `ETag` (else time of change) differs.
pub(super) fn fingerprint(files: &[Listed]) -> String {
    // FNV-1a: written out, since the fingerprint is stored and compared across versions of Lakegate.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    for Listed { name, meta } in files {
        add(name.as_bytes());
        add(&[0]);
        add(&meta.size.to_le_bytes());
        match &meta.e_tag {
            Some(tag) => add(tag.as_bytes()),
            None => add(&meta.last_modified.timestamp_micros().to_le_bytes()),
        }
        add(&[0]);
    }
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_begins_at_the_folder_before_the_first_wildcard() {
        let none = FilePath::new("/none");
        assert_eq!(split_pattern("s3://b/x/y*/z.parquet", none), ("s3://b/x/".into(), Some("y*/z.parquet".into())));
        assert_eq!(split_pattern("*.parquet", none), (".".into(), Some("*.parquet".into())));
        assert_eq!(split_pattern("s3://b/x", none), ("s3://b/x".into(), None));
    }
}
