//! Finding a PostgreSQL server that is installed on the machine.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::domain::{Code, Error, Result};

/// The oldest major version that is supported.
const OLDEST: u32 = 15;

/// Where distributions put the server.
const USUAL_FOLDERS: &[&str] = &[
    "/usr/lib/postgresql/*/bin",
    "/usr/lib64/postgresql*/bin",
    "/usr/pgsql-*/bin",
    "/usr/libexec/postgresql*",
    "/usr/local/pgsql*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
    "/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
];

/// Where to look for binaries.
#[derive(Debug, Clone, Default)]
pub struct BinarySearch {
    /// A folder with `postgres` and `initdb` that the person names (`LAKEGATE_POSTGRES_BIN`): then no other is looked
    /// at. `None` = `PATH`, `pg_config --bindir` and the usual folders, newest version first.
    pub folder: Option<PathBuf>,
}

/// A PostgreSQL server that can be run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binaries {
    /// The major version.
    pub major: u32,
    /// The minor version.
    pub minor: u32,
    /// The folder that holds `postgres` and `initdb`, free of symbolic links.
    pub folder: PathBuf,
}

impl BinarySearch {
    /// The newest server that fits: of the major version that existing data needs, else of any supported one.
    ///
    /// # Errors
    /// [`Code::BinariesMissing`] when nothing fits.
    pub fn find(&self, data_version: Option<u32>) -> Result<Binaries> {
        let folders = match &self.folder {
            Some(folder) => vec![folder.clone()],
            None => candidates(),
        };
        let found: BTreeSet<Binaries> = folders.iter().filter_map(|folder| Binaries::in_folder(folder)).collect();
        let fits = |binaries: &&Binaries| match data_version {
            Some(version) => binaries.major == version,
            None => binaries.major >= OLDEST,
        };
        found.iter().rev().find(fits).cloned().ok_or_else(|| self.nothing_fits(&found, data_version))
    }

    fn nothing_fits(&self, found: &BTreeSet<Binaries>, data_version: Option<u32>) -> Error {
        let needed = match data_version {
            Some(version) => format!("PostgreSQL {version}, which the project's data in .lakegate/postgres belongs to"),
            None => format!("PostgreSQL {OLDEST} or newer"),
        };
        let place = match &self.folder {
            Some(folder) => format!("in {}", folder.display()),
            None => "in PATH, from pg_config and in the usual folders".to_owned(),
        };
        let others: Vec<String> = found.iter().map(|other| format!("{}.{}", other.major, other.minor)).collect();
        let others = if others.is_empty() { String::new() } else { format!("; found only {}", others.join(", ")) };
        let version = data_version.map(|version| format!("-{version}")).unwrap_or_default();
        let brew = data_version.unwrap_or(17);
        Error::new(Code::BinariesMissing, format!("no server of {needed} {place}{others}")).hint(format!(
            "install one: `apt-get install postgresql{version}` (Debian, Ubuntu), `dnf install postgresql-server` \
             (Fedora), `brew install postgresql@{brew}` (macOS); or set LAKEGATE_POSTGRES_BIN to the folder with \
             `postgres` and `initdb`; or set `postgres` to the URL of a running server"
        ))
    }
}

/// All folders that may hold a server. `PATH` often holds links to one of them.
fn candidates() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
    folders.extend(output(Path::new("pg_config"), "--bindir").map(PathBuf::from));
    for pattern in USUAL_FOLDERS {
        folders.extend(glob::glob(pattern).into_iter().flatten().flatten());
    }
    folders
}

impl Binaries {
    /// The server in a folder, if there is one that runs.
    fn in_folder(folder: &Path) -> Option<Binaries> {
        let server = fs::canonicalize(folder.join("postgres")).ok()?;
        let folder = server.parent()?;
        if !folder.join("initdb").exists() {
            return None;
        }
        let (major, minor) = parse_version(&output(&server, "--version")?)?;
        Some(Binaries { major, minor, folder: folder.to_owned() })
    }

    /// The path of one of the programs.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// The first line that a program prints, if it succeeds.
fn output(program: &Path, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.lines().next().unwrap_or_default().to_owned())
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`; development versions have no minor.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let version = text.split_once("(PostgreSQL) ")?.1;
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next().and_then(Result::ok).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_distributions_write_them() {
        assert_eq!(parse_version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some((15, 18)));
        assert_eq!(parse_version("postgres (PostgreSQL) 17.2"), Some((17, 2)));
        assert_eq!(parse_version("postgres (PostgreSQL) 19devel"), Some((19, 0)));
        assert_eq!(parse_version("sh: not found"), None);
    }

    /// A folder with a `postgres` that only tells its version.
    fn pretend(version: &str) -> tempfile::TempDir {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        for program in ["postgres", "initdb"] {
            let path = folder.path().join(program);
            fs::write(&path, format!("#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        folder
    }

    #[test]
    fn a_named_folder_must_fit_and_the_error_says_what_is_there_and_what_to_install() {
        let old = pretend("14.9");
        let search = BinarySearch { folder: Some(old.path().to_owned()) };
        let error = search.find(None).unwrap_err();
        assert_eq!(error.code(), Code::BinariesMissing);
        assert!(error.detail().contains("PostgreSQL 15 or newer") && error.detail().contains("14.9"), "{error}");
        assert!(error.advice().unwrap().contains("apt-get install postgresql`"), "{:?}", error.advice());

        let new = pretend("17.2");
        let search = BinarySearch { folder: Some(new.path().to_owned()) };
        assert_eq!(search.find(None).unwrap().major, 17);
        let error = search.find(Some(16)).unwrap_err();
        assert!(error.detail().contains("PostgreSQL 16, which the project's data"), "{error}");
        assert!(error.advice().unwrap().contains("postgresql-16"), "{:?}", error.advice());
    }

    #[test]
    fn newer_versions_come_last_in_order_so_that_they_are_taken_first() {
        let binaries = |major, minor| Binaries { major, minor, folder: PathBuf::from("/x") };
        assert!(binaries(17, 1) > binaries(16, 12) && binaries(16, 12) > binaries(16, 9));
    }
}
