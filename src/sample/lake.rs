//! The folder that the tables are written into.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;
use deltalake::{DeltaTable, DeltaTableError};
use url::Url;

use crate::domain::{Code, Error, Result};

use super::SampleTable;

/// Marks a folder as one that holds a sample, so that it may be written again.
const MARKER: &str = ".lakegate-sample";

/// Where tables grow until all of them are complete.
const UNFINISHED: &str = ".unfinished";

/// A lake being written. Dropped before [`Lake::finish`], it leaves the folder as it was.
pub(super) struct Lake {
    dir: PathBuf,
    /// Whether the folder, and its marker, were made for this lake.
    dir_is_new: bool,
    marker_is_new: bool,
    finished: bool,
    /// Holds the lock on the marker that keeps other writers out.
    _marker: File,
}

impl Lake {
    /// Takes the folder, which must be absent, empty or an earlier sample.
    pub(super) fn begin(dir: &Path) -> Result<Self> {
        let dir = std::path::absolute(dir).map_err(|error| unwritable(dir, error))?;
        let marker_path = dir.join(MARKER);
        let dir_is_new = !dir.exists();
        let marker_is_new = !marker_path.exists();
        if !dir_is_new && marker_is_new && fs::read_dir(&dir).map_err(|error| unwritable(&dir, error))?.next().is_some()
        {
            return Err(Error::new(Code::WouldOverwrite, format!("{} is not empty", dir.display()))
                .hint("name a folder that does not exist yet, or one that `lakegate sample` has written"));
        }
        fs::create_dir_all(&dir).map_err(|error| unwritable(&dir, error))?;
        let marker = File::create(&marker_path).map_err(|error| unwritable(&marker_path, error))?;
        marker.try_lock().map_err(|error| {
            Error::new(Code::WouldOverwrite, format!("another process is writing a sample to {}", dir.display()))
                .hint("wait until it is done")
                .because(error)
        })?;
        let lake = Lake { dir, dir_is_new, marker_is_new, finished: false, _marker: marker };
        // What a killed process has left.
        lake.remove_unfinished().map_err(|error| unwritable(&lake.unfinished(), error))?;
        fs::create_dir(lake.unfinished()).map_err(|error| unwritable(&lake.unfinished(), error))?;
        Ok(lake)
    }

    /// The folder in which a table is written.
    pub(super) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.unfinished().join(name);
        fs::create_dir(&folder).map_err(|error| unwritable(&folder, error))?;
        Ok(folder)
    }

    /// A Delta table without any version yet.
    pub(super) async fn delta_table(&self, name: &str) -> Result<DeltaTable> {
        let folder = self.folder(name)?;
        let url = Url::from_directory_path(&folder)
            .map_err(|()| Error::new(Code::InvalidUsage, format!("{} is not a path to write to", folder.display())))?;
        DeltaTable::try_from_url(url).await.map_err(|error| delta_failed(name, error))
    }

    /// Moves the complete tables to their places.
    pub(super) fn finish<const N: usize>(mut self, tables: [Written; N]) -> Result<Vec<SampleTable>> {
        let mut placed = Vec::with_capacity(N);
        for table in tables {
            let path = self.dir.join(table.name);
            if path.exists() {
                fs::remove_dir_all(&path).map_err(|error| unwritable(&path, error))?;
            }
            fs::rename(self.unfinished().join(table.name), &path).map_err(|error| unwritable(&path, error))?;
            // From the first table on the folder is a sample, whatever becomes of the others.
            self.finished = true;
            placed.push(SampleTable { name: table.name, path, rows: table.rows, version: table.version });
        }
        Ok(placed)
    }

    fn unfinished(&self) -> PathBuf {
        self.dir.join(UNFINISHED)
    }

    fn remove_unfinished(&self) -> io::Result<()> {
        match fs::remove_dir_all(self.unfinished()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}

impl Drop for Lake {
    /// Leaves no trace of an unfinished lake. What cannot be removed is removed by the next one.
    fn drop(&mut self) {
        let _ = self.remove_unfinished();
        if !self.finished && self.marker_is_new {
            let _ = fs::remove_file(self.dir.join(MARKER));
        }
        if !self.finished && self.dir_is_new {
            let _ = fs::remove_dir(&self.dir);
        }
    }
}

/// A table that is complete but not in its place yet.
pub(super) struct Written {
    name: &'static str,
    rows: u64,
    version: Option<u64>,
}

impl Written {
    pub(super) fn delta(name: &'static str, table: &DeltaTable, rows: u64) -> Self {
        Written { name, rows, version: table.version() }
    }

    pub(super) fn parquet(name: &'static str, rows: u64) -> Self {
        Written { name, rows, version: None }
    }
}

/// A batch of columns that were built to fit their schema.
pub(super) fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    RecordBatch::try_new(Arc::clone(schema), columns)
        .map_err(|error| Error::internal("columns of the sample do not fit their schema").because(error))
}

/// The writer of a Delta table failed: its files cannot be written, as far as a valid input is concerned.
pub(super) fn delta_failed(table: &str, error: DeltaTableError) -> Error {
    Error::new(Code::UnreadableFile, format!("the table {table} of the sample cannot be written: {error}"))
        .hint("check that the disk has room and that the folder may be written to")
        .because(error)
}

/// A file or folder of the lake cannot be written.
pub(super) fn unwritable(path: &Path, error: io::Error) -> Error {
    Error::new(Code::UnreadableFile, format!("{}: {error}", path.display()))
        .hint("check that the disk has room and that the folder may be written to")
        .because(error)
}
