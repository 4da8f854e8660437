//! The command line: one file a command, all through the same context and printer.

mod add;
mod arguments;
mod cancel;
mod context;
mod doctor;
mod drop;
mod follow;
mod generations;
mod get;
mod init;
mod interrupt;
mod key_candidates;
mod keys;
mod pause;
mod pin;
mod plan;
mod preview;
mod printer;
mod progress;
mod rejected;
mod rollback;
mod runs;
mod sample;
mod schema;
mod serve;
mod status;
mod sync;
mod up;
mod validate;
mod verify;

use std::panic;
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use crate::domain::{Blame, Code, Error, Result};
use crate::failpoint;

use arguments::{Arguments, Command};
use context::Context;
use printer::Printer;

/// A run ended by Ctrl-C, as shells count it: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

/// Runs the command line of this process.
///
/// Exit codes: 0 done; 1 whatever a person can mend, wrong usage included; 2 a defect of Lakegate; 130 interrupted.
#[must_use]
pub fn main() -> ExitCode {
    let _failpoints = failpoint::arm();
    // The tree holds two cryptography providers; whoever asks for "the default" gets this one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(usage) if usage.use_stderr() => return misused(&usage),
        Err(asked) => {
            let _ = asked.print();
            return ExitCode::SUCCESS;
        }
    };
    let printer = Printer::new(arguments.output);
    let result = panic::catch_unwind(|| run(&arguments, &printer))
        .unwrap_or_else(|_| Err(Error::internal("a part of the program stopped unexpectedly (see above)").into()));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Ended::Shown) => ExitCode::from(1),
        Err(Ended::With(error)) => {
            printer.error(&error);
            exit_code(&error)
        }
    }
}

/// Says what is wrong with the command line: in clap's words for people, as a record where a program has asked for one.
fn misused(usage: &clap::Error) -> ExitCode {
    let words: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let wants = |form: &str| {
        words.contains(&format!("--output={form}")) || words.windows(2).any(|pair| pair == ["--output", form])
    };
    if !wants("json") && !wants("ndjson") {
        let _ = usage.print();
        return ExitCode::from(1);
    }
    let detail = if usage.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        "no command was given".to_owned()
    } else {
        let text = usage.render().to_string();
        let first = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
        first.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let error = Error::new(Code::InvalidUsage, detail).hint("see `lakegate --help` and `lakegate COMMAND --help`");
    Printer::new(arguments::Output::Json).error(&error);
    exit_code(&error)
}

/// How a command ends when not well.
#[derive(Debug)]
enum Ended {
    /// What went wrong has been printed already, as part of the command's own output.
    Shown,
    /// What went wrong.
    With(Error),
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Ended::With(error)
    }
}

fn exit_code(error: &Error) -> ExitCode {
    match error.code() {
        Code::Cancelled => ExitCode::from(INTERRUPTED),
        code if code.blame() == Blame::Defect => ExitCode::from(2),
        _ => ExitCode::from(1),
    }
}

fn run(arguments: &Arguments, printer: &Printer) -> Result<(), Ended> {
    if !matches!(arguments.command, Command::Up | Command::Serve) {
        use_small_pages();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("lakegate")
        .build()
        .map_err(|error| Error::internal("the asynchronous runtime does not start").because(error))?;
    let result = runtime.block_on(Box::pin(dispatch(arguments, printer)));
    // Blocking threads that wait for a slow store must not hold the process back once the command is done.
    runtime.shutdown_background();
    result
}

/// Has the system hand out memory in its usual small pages. The allocator asks for huge ones, which pay in a server that keeps rows;
/// a command that is over in a second would spend a good part of it on waiting until they are found and cleared. A Postgres that it
/// starts inherits this, and asks for no such pages by itself.
fn use_small_pages() {
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_thp_disable(true);
}

async fn dispatch(arguments: &Arguments, printer: &Printer) -> Result<(), Ended> {
    let context = Context::new(arguments, printer);
    match &arguments.command {
        Command::Init(args) => init::run(&context, args).await,
        Command::Sample(args) => sample::run(&context, args).await,
        Command::Preview(args) => preview::run(&context, args).await,
        Command::Add(args) => add::run(&context, args).await,
        Command::Validate => validate::run(&context),
        Command::Plan(args) => plan::run(&context, args).await,
        Command::Sync(args) => sync::run(&context, args).await,
        Command::Up => up::run(&context).await,
        Command::Serve => serve::run(&context).await,
        Command::Status => status::run(&context).await,
        Command::Runs(args) => runs::run(&context, args).await,
        Command::Generations(args) => generations::run(&context, args).await,
        Command::Rejected(args) => rejected::run(&context, args).await,
        Command::Get(args) => get::run(&context, args).await,
        Command::Rollback(args) => rollback::run(&context, args).await,
        Command::Pause(args) => pause::pause(&context, args).await,
        Command::Resume(args) => pause::resume(&context, args).await,
        Command::Cancel(args) => cancel::run(&context, args).await,
        Command::Verify(args) => verify::run(&context, args).await,
        Command::Pin(args) => pin::run(&context, args).await,
        Command::Drop(args) => drop::run(&context, args).await,
        Command::Keys(args) => keys::run(&context, args).await,
        Command::Schema(args) => schema::run(&context, args).await,
        Command::Doctor(args) => doctor::run(&context, args).await,
    }
}
