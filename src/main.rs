//! The `lakegate` command. All of it is in the library; this turns an outcome into an exit code.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Rows and answers are many small pieces of memory with short lives: this takes half of the time for them that the C library's
/// takes.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    lakegate::cli::main()
}
