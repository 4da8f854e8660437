//! `<project>/.lakegate/postgres` and its lock files.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::domain::{Code, Error, Result};

/// How much of the end of the log is shown when the server does not start, in bytes.
const TAIL: u64 = 2048;

/// The log begins anew, keeping one older file, beyond this many bytes.
const LOG_LIMIT: u64 = 16 << 20;

/// Everything of the embedded server, by absolute path.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    root: PathBuf,
}

impl Folder {
    /// Opens the folder of a project, made if need be.
    pub(super) fn create(project_dir: &Path) -> Result<Folder> {
        let root = project_dir.join(".lakegate").join("postgres");
        fs::create_dir_all(&root).map_err(|error| unusable(&root, error))?;
        let root = fs::canonicalize(&root).map_err(|error| unusable(&root, error))?;
        Ok(Folder { root })
    }

    pub(super) fn path(&self) -> &Path {
        &self.root
    }

    /// The data directory. It exists only once it is complete.
    pub(super) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    pub(super) fn password_file(&self) -> PathBuf {
        self.root.join("password")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.root.join("server.log")
    }

    /// The major version that the data belongs to; `None` where there is none yet.
    pub(super) fn data_version(&self) -> Result<Option<u32>> {
        let path = self.data().join("PG_VERSION");
        match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map(Some).map_err(|_| {
                Error::new(Code::EmbeddedServer, format!("{}: not a version of PostgreSQL", path.display()))
                    .hint(format!("the data is damaged: move {} away and sync again", self.data().display()))
            }),
            Err(_) if !self.data().exists() => Ok(None),
            Err(error) => Err(unusable(&path, error)),
        }
    }

    /// Waits until nobody else starts or stops the server; holds until dropped.
    pub(super) fn lock_start(&self) -> Result<File> {
        let file = self.lock_file("start.lock")?;
        file.lock().map_err(|error| unusable(&self.root.join("start.lock"), error))?;
        Ok(file)
    }

    /// As [`Folder::lock_start`], but `None` at once if somebody does.
    pub(super) fn try_lock_start(&self) -> Option<File> {
        let file = self.lock_file("start.lock").ok()?;
        file.try_lock().is_ok().then_some(file)
    }

    /// Counts as a user until dropped. Nobody holds this lock exclusively without holding the start lock.
    pub(super) fn lock_users(&self) -> Result<File> {
        let file = self.lock_file("users.lock")?;
        file.lock_shared().map_err(|error| unusable(&self.root.join("users.lock"), error))?;
        Ok(file)
    }

    fn lock_file(&self, name: &str) -> Result<File> {
        let path = self.root.join(name);
        let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        opened.map_err(|error| unusable(&path, error))
    }

    /// The port that the server had when it last ran.
    pub(super) fn saved_port(&self) -> Option<u16> {
        fs::read_to_string(self.root.join("port")).ok()?.trim().parse().ok()
    }

    pub(super) fn save_port(&self, port: u16) -> Result<()> {
        if self.saved_port() == Some(port) {
            return Ok(());
        }
        let path = self.root.join("port");
        fs::write(&path, format!("{port}\n")).map_err(|error| unusable(&path, error))
    }

    /// The log, opened for appending, and where its end is now.
    pub(super) fn open_log(&self) -> Result<(File, u64)> {
        let path = self.log();
        if fs::metadata(&path).is_ok_and(|log| log.len() > LOG_LIMIT) {
            fs::rename(&path, self.root.join("server.log.1")).map_err(|error| unusable(&path, error))?;
        }
        let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let file = opened.map_err(|error| unusable(&path, error))?;
        let end = file.metadata().map_err(|error| unusable(&path, error))?.len();
        Ok((file, end))
    }

    /// What the log says since `start`, at most its last lines.
    pub(super) fn log_since(&self, start: u64) -> String {
        let Ok(mut file) = File::open(self.log()) else { return String::new() };
        let end = file.metadata().map_or(0, |log| log.len());
        let mut tail = Vec::new();
        let from = start.max(end.saturating_sub(TAIL));
        if file.seek(SeekFrom::Start(from)).and_then(|_| file.take(TAIL).read_to_end(&mut tail)).is_err() {
            return String::new();
        }
        String::from_utf8_lossy(&tail).trim().to_owned()
    }
}

/// Writes a file that did not exist, or replaces one whole; never through a symbolic link.
pub(super) fn write_new(path: &Path, mode: u32, content: &str) -> Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let _ = fs::remove_file(&temporary);
    let written = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(mode)
        .open(&temporary)
        .and_then(|mut file| file.write_all(content.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| unusable(path, error))
}

/// A file or folder that cannot be read or written.
pub(super) fn unusable(path: &Path, error: std::io::Error) -> Error {
    Error::new(Code::UnreadableFile, format!("{}: {error}", path.display()))
        .hint("check who owns the project's folder and `.lakegate` in it; use one account for one project")
        .because(error)
}
