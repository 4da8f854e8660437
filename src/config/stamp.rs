//! How a project's files look from outside, to notice that they change.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::environment::Environment;
use super::{PROJECT_FILE, declared, pipeline_files};
use crate::domain::Contract;

/// Which files a project has, their sizes and when they were changed. Files that differ may have equal stamps, where they are
/// as long as before and the file system tells no finer times apart: read them now and then all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp(Vec<(PathBuf, Option<Look>)>);

/// What the file system says of one; `None` in its place where there is nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Look {
    bytes: u64,
    changed: Option<SystemTime>,
    /// Which file it is, where the system says so: a replaced one is another.
    inode: u64,
}

/// Looks at `lakegate.yaml`, the pipeline files and the contracts: cheap enough to be done again and again. Only the first of
/// them is read.
#[must_use]
pub fn stamp(dir: &Path, env: &Environment) -> Stamp {
    let (file, mut reader, _) = declared(dir, env);
    let mut paths = vec![dir.join(PROJECT_FILE)];
    paths.extend(pipeline_files(&file, &mut reader).into_iter().map(|file| dir.join(file)));
    let contracts = fs::read_dir(dir.join(Contract::FOLDER)).into_iter().flatten().flatten();
    let mut contracts: Vec<PathBuf> = contracts.map(|entry| entry.path()).collect();
    contracts.sort();
    paths.extend(contracts);
    let looked = paths.into_iter().map(|path| {
        let look = look(&path);
        (path, look)
    });
    Stamp(looked.collect())
}

fn look(path: &Path) -> Option<Look> {
    let metadata = fs::metadata(path).ok()?;
    Some(Look { bytes: metadata.len(), changed: metadata.modified().ok(), inode: inode(&metadata) })
}

#[cfg(unix)]
fn inode(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_: &fs::Metadata) -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_come_change_or_go_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let (env, write) = (Environment::default(), |name: &str, text: &str| fs::write(path(name), text).unwrap());
        for folder in ["pipelines", "elsewhere", "schemas/tables"] {
            fs::create_dir_all(path(folder)).unwrap();
        }
        let mut last = stamp(dir.path(), &env);
        let mut is_new = |what: &str, expected: bool| {
            let now = stamp(dir.path(), &env);
            assert_eq!(now != last, expected, "{what}");
            last = now;
        };
        is_new("nothing", false);
        write("pipelines/a.yaml", "source: a\n");
        is_new("a pipeline", true);
        write("pipelines/a.yaml", "source: ab\n");
        is_new("another text", true);
        write("new", "source: cd\n");
        fs::rename(path("new"), path("pipelines/a.yaml")).unwrap();
        is_new("another file of the same length", true);
        write("pipelines/notes.txt", "nothing to do with it");
        is_new("no file of the project", false);
        write("schemas/tables/a.yaml", "");
        is_new("a contract", true);
        fs::remove_file(path("pipelines/a.yaml")).unwrap();
        is_new("a pipeline that is gone", true);
        write("elsewhere/b.yaml", "");
        is_new("a pipeline elsewhere", false);
        write("lakegate.yaml", "pipelines: elsewhere\n");
        is_new("another folder of pipelines", true);
        write("elsewhere/c.yaml", "");
        is_new("a pipeline there", true);
    }
}
