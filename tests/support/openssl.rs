//! Certificates and keys, by the `openssl` program.

use std::path::Path;
use std::process::Command;

/// Runs `openssl` in a folder, with arguments that have no spaces of their own.
pub(crate) fn openssl(folder: &Path, arguments: &str) {
    let mut command = Command::new("openssl");
    let output = command.args(arguments.split_whitespace()).current_dir(folder).output();
    let output = output.expect("tests of TLS need the program `openssl`: install the package of that name");
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}
