//! The `lakegate` command. All of it is in the library; this turns an outcome into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    lakegate::cli::main()
}
