//! Making the data directory, once per project.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::Stdio;

use rand::distr::{Alphanumeric, SampleString};
use secrecy::SecretString;

use super::account::{Account, Entrance};
use super::binaries::Binaries;
use super::folder::{Folder, unusable, write_new};
use super::{USER, settings};
use crate::domain::{Code, Error, Result};

/// Character types to try. The order of text is by bytes with both; the first knows the case of all letters.
const CTYPES: &[&str] = &["C.UTF-8", "C"];

/// Makes the data directory under another name and renames it once it is complete, so that whatever dies meanwhile
/// leaves nothing half made behind. The caller holds the start lock.
pub(super) fn create(folder: &Folder, binaries: &Binaries, account: Option<Account>) -> Result<()> {
    remove_leftovers(folder);
    let password = Alphanumeric.sample_string(&mut rand::rng(), 32);
    write_new(&folder.password_file(), 0o600, &password)?;
    if let Some(account) = account {
        account.own(&folder.password_file())?;
    }
    // A name of its own: an initdb whose parent was killed may still be writing to the last one.
    let unfinished = folder.path().join(format!("data.new.{}", std::process::id()));
    let mut refusal = Error::internal("there is no character type to try");
    for ctype in CTYPES {
        match initdb(folder, &unfinished, binaries, account, ctype) {
            Ok(()) => {
                include_settings(&unfinished)?;
                fs::rename(&unfinished, folder.data()).map_err(|error| unusable(&folder.data(), error))?;
                return File::open(folder.path())
                    .and_then(|parent| parent.sync_all())
                    .map_err(|error| unusable(folder.path(), error));
            }
            Err(error) => refusal = error,
        }
        let _ = fs::remove_dir_all(&unfinished);
    }
    Err(refusal)
}

/// Reads the password that [`create`] made up.
pub(super) fn password(folder: &Folder) -> Result<SecretString> {
    let path = folder.password_file();
    let text = fs::read_to_string(&path).map_err(|error| {
        unusable(&path, error).hint(format!("restore it, or move {} away and sync again", folder.path().display()))
    })?;
    Ok(SecretString::from(text.trim()))
}

fn remove_leftovers(folder: &Folder) {
    let Ok(entries) = fs::read_dir(folder.path()) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with("data.new.") {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn initdb(folder: &Folder, data: &Path, binaries: &Binaries, account: Option<Account>, ctype: &str) -> Result<()> {
    fs::DirBuilder::new().mode(0o700).create(data).map_err(|error| unusable(data, error))?;
    if let Some(account) = account {
        account.own(data)?;
    }
    let password_file = folder.password_file();
    let password = File::open(&password_file).map_err(|error| unusable(&password_file, error))?;
    let entrance = Entrance::open(data, account)?;
    let program = binaries.program("initdb");
    let output = entrance
        .command(&program, account)
        .args(["--encoding=UTF8", "--locale=C", "--auth-local=trust", "--auth-host=scram-sha-256"])
        .args([format!("--lc-ctype={ctype}"), format!("--username={USER}")])
        // Standard input, since the account may not be able to walk to the file.
        .args(["--pwfile=/dev/stdin"])
        .stdin(Stdio::from(password))
        .output()
        .map_err(|error| {
            Error::new(Code::EmbeddedServer, format!("{} cannot be run: {error}", program.display()))
                .hint("check that the account that the server runs under may run it")
                .because(error)
        })?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::new(Code::EmbeddedServer, format!("initdb failed ({}): {complaint}", output.status))
        .hint(format!("check free disk space and the owner of {}", folder.path().display())))
}

fn include_settings(data: &Path) -> Result<()> {
    let path = data.join("postgresql.conf");
    let appended = OpenOptions::new()
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(format!("\ninclude_if_exists = '{}'\n", settings::FILE).as_bytes()));
    appended.map_err(|error| unusable(&path, error))
}
