//! Under whom the server runs, and how it gets to its data directory.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::unistd::{Uid, User, dup};

use super::folder::unusable;
use crate::domain::{Code, Error, Result};

/// Accounts tried in this order when we are root: those of the system's own Postgres, then nobody.
const CANDIDATES: &[&str] = &["postgres", "_postgres", "nobody"];

/// An unprivileged account that root runs the server under.
#[derive(Debug, Clone, Copy)]
pub(super) struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// `None` unless we are root: then the server runs as we do. Whoever owns an existing data directory keeps it.
    pub(super) fn choose(data: &Path) -> Result<Option<Account>> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        if let Ok(owner) = fs::metadata(data) {
            let account = Account { uid: owner.uid(), gid: owner.gid() };
            return if account.uid == 0 { Err(owned_by_root(data)) } else { Ok(Some(account)) };
        }
        let found = CANDIDATES.iter().find_map(|name| User::from_name(name).ok().flatten());
        let found = found.filter(|user| !user.uid.is_root()).ok_or_else(|| {
            Error::new(Code::EmbeddedServer, "PostgreSQL does not run as root, and no other account was found")
                .hint("make an account, for example with `useradd --system postgres`, or run Lakegate as another user")
        })?;
        Ok(Some(Account { uid: found.uid.as_raw(), gid: found.gid.as_raw() }))
    }

    /// Makes the account the owner of a file or directory.
    pub(super) fn own(self, path: &Path) -> Result<()> {
        chown(path, Some(self.uid), Some(self.gid)).map_err(|error| unusable(path, error))
    }
}

fn owned_by_root(data: &Path) -> Error {
    Error::new(Code::EmbeddedServer, format!("{} belongs to root, under whom PostgreSQL does not run", data.display()))
        .hint(format!("give it to an account of its own, for example `chown -R postgres: {}`", data.display()))
}

/// A way into the data directory for a program that runs under the account: by path, or, where we are root and the
/// account may not be able to walk there, through the open directory that the program inherits.
pub(super) struct Entrance {
    argument: OsString,
    /// Open across exec, which is why this lives only while the program is started.
    _inherited: Option<OwnedFd>,
}

impl Entrance {
    pub(super) fn open(data: &Path, account: Option<Account>) -> Result<Entrance> {
        if account.is_none() || !cfg!(target_os = "linux") {
            return Ok(Entrance { argument: data.into(), _inherited: None });
        }
        let directory = File::open(data).map_err(|error| unusable(data, error))?;
        let inherited = dup(&directory).map_err(|error| unusable(data, error.into()))?;
        let argument = format!("/proc/self/fd/{}", inherited.as_raw_fd()).into();
        Ok(Entrance { argument, _inherited: Some(inherited) })
    }

    /// A command that runs a program of Postgres on the data directory, under the account, detached from our terminal
    /// and deaf to our environment.
    pub(super) fn command(&self, program: &Path, account: Option<Account>) -> Command {
        let mut command = Command::new(program);
        command.arg("-D").arg(&self.argument);
        // The current directory may be closed to the account, and must not be kept busy for as long as the server runs.
        command.current_dir("/");
        // A group of its own: Ctrl-C in the terminal goes to our group only.
        command.process_group(0);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        // The log is read by us when the server does not start.
        command.env("LC_ALL", "C");
        if let Some(account) = account {
            // Drops root's supplementary groups as well.
            command.gid(account.gid).uid(account.uid);
        }
        command
    }
}
