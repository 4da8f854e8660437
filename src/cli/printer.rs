//! Data to standard output, everything else to standard error.

use std::io::{IsTerminal as _, Write as _};

use comfy_table::{ContentArrangement, Table, presets};
use owo_colors::OwoColorize as _;
use serde::Serialize;

use crate::domain::Error;
use crate::engine::ErrorRecord;

use super::arguments::Output;

/// Prints in the form that was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Printer {
    output: Output,
}

impl Printer {
    pub(super) fn new(output: Output) -> Self {
        Printer { output }
    }

    /// The form that was asked for.
    pub(super) fn output(self) -> Output {
        self.output
    }

    /// Whether a program reads the output.
    pub(super) fn is_json(self) -> bool {
        self.output != Output::Text
    }

    /// Whether people watch standard error as it goes.
    pub(super) fn is_interactive() -> bool {
        std::io::stderr().is_terminal()
    }

    /// One line of JSON.
    pub(super) fn json(self, value: &impl Serialize) {
        match serde_json::to_string(value) {
            Ok(text) => self.line(&text),
            Err(error) => self.error(&Error::internal("output does not serialise").because(error)),
        }
    }

    /// A line of data. A reader that has gone away (`| head`) is no error.
    pub(super) fn line(self, text: &str) {
        let _ = writeln!(anstream::stdout().lock(), "{text}");
    }

    /// Raw bytes of data, followed by a line break.
    pub(super) fn bytes(self, bytes: &[u8]) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(bytes);
        let _ = out.write_all(b"\n");
    }

    /// A line for people, on standard error.
    pub(super) fn note(self, text: &str) {
        let _ = writeln!(anstream::stderr().lock(), "{text}");
    }

    /// A table for people; nothing when there are no rows.
    pub(super) fn table(self, header: &[&str], rows: Vec<Vec<String>>) {
        if rows.is_empty() {
            return;
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(header.iter().map(|title| title.to_uppercase()));
        table.add_rows(rows);
        let text: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        self.line(&text.join("\n"));
    }

    /// An error: on standard error for people, as a record on standard output for programs.
    pub(super) fn error(self, error: &Error) {
        if self.is_json() {
            self.json(&serde_json::json!({ "error": ErrorRecord::from(error) }));
            return;
        }
        self.note(&render(error));
    }
}

/// An error as people read it.
pub(super) fn render(error: &Error) -> String {
    let mut text = format!(
        "{} {}\n  {}",
        format!("error[{}]:", error.code()).red().bold(),
        error.code().title().bold(),
        error.detail().trim_end().replace('\n', "\n  ")
    );
    if let Some(hint) = error.advice() {
        text.push_str(&format!("\n  {} {hint}", "hint:".cyan()));
    }
    text
}

/// Bytes as people read them: `12.3 MiB`.
pub(super) fn bytes(count: u64) -> String {
    indicatif::HumanBytes(count).to_string()
}

/// A number with its thousands apart: `6,001,215`.
pub(super) fn count(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

/// A number of things: `1 file`, `6,001,215 rows`.
pub(super) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number))
}

/// Seconds as people read them.
pub(super) fn seconds(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1e3) } else { format!("{seconds:.1} s") }
}

/// How long it is until then: `in 20 seconds`, `now`.
pub(super) fn ahead(then: chrono::DateTime<chrono::Utc>) -> String {
    match (then - chrono::Utc::now()).to_std() {
        Ok(left) if left.as_secs() > 0 => format!("in {}", indicatif::HumanDuration(left)),
        _ => "now".to_owned(),
    }
}

/// How long ago something was.
pub(super) fn ago(then: chrono::DateTime<chrono::Utc>) -> String {
    let age = (chrono::Utc::now() - then).to_std().unwrap_or_default();
    format!("{} ago", indicatif::HumanDuration(age))
}
