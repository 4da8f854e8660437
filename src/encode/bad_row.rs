//! Rows that Postgres could not hold as they are.

use arrow_array::Array;
use arrow_cast::display::{ArrayFormatter, FormatOptions};

use crate::domain::{Code, Error, Result};

/// A row that is kept out of Postgres, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// The row's position in its batch.
    pub row: usize,
    /// The published name of the column at fault; `None` where the row as a whole is.
    pub column: Option<String>,
    /// What is wrong.
    pub code: Code,
    /// What is wrong, with the value where there is one, for a person.
    pub reason: String,
    /// The key's columns by published name with their values as text, in the order of the key; `None` = null.
    pub key: Vec<(String, Option<String>)>,
}

impl BadRow {
    /// The error of a run that does not put up with bad rows.
    #[must_use]
    pub fn into_error(self) -> Error {
        let key: Vec<String> =
            self.key.iter().map(|(name, value)| format!("{name} = {}", value.as_deref().unwrap_or("null"))).collect();
        let place = match &self.column {
            Some(column) => format!("column `{column}` of the row with {}", key.join(", ")),
            None => format!("the row with {}", key.join(", ")),
        };
        let remedy = match self.code {
            Code::NullKey | Code::KeyTooLong => "choose another key",
            _ => "leave the column out with `columns.exclude`",
        };
        Error::new(self.code, format!("{place}: {}", self.reason)).hint(format!(
            "mend the row in the source, {remedy}, or let such rows be left out with \
             `on_bad_row: {{reject: {{max_rows: …}}}}`"
        ))
    }
}

/// Decides what becomes of bad rows.
pub trait BadRows {
    /// Takes a row that is left out.
    ///
    /// # Errors
    /// Any error ends the encoding: the policy allows no bad rows, or no more of them.
    fn reject(&mut self, row: BadRow) -> Result<()>;
}

/// Ends the encoding at the first bad row: `on_bad_row: fail`.
#[derive(Debug, Clone, Copy, Default)]
pub struct FailOnBadRow;

impl BadRows for FailOnBadRow {
    fn reject(&mut self, row: BadRow) -> Result<()> {
        Err(row.into_error())
    }
}

/// Why one value cannot be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) code: Code,
    pub(super) reason: &'static str,
}

impl Fault {
    pub(super) const NUL: Fault = Fault::new(Code::NulInText, "text in Postgres cannot contain the character NUL");
    pub(super) const TOO_LARGE: Fault =
        Fault::new(Code::RowTooLarge, "the value is larger than the 1 GiB that Postgres allows");

    pub(super) const fn new(code: Code, reason: &'static str) -> Self {
        Fault { code, reason }
    }
}

/// A fault with its place: a row of the batch and a column of the mapping.
#[derive(Debug, Clone, Copy)]
pub(super) struct CellFault {
    pub(super) row: usize,
    /// `None` where the row as a whole is at fault.
    pub(super) column: Option<usize>,
    pub(super) fault: Fault,
}

/// The faults of some rows, several to a row where several columns are at fault.
#[derive(Debug, Default)]
pub(super) struct Faults {
    cells: Vec<CellFault>,
    column: Option<usize>,
}

impl Faults {
    /// Sets the column of the faults that follow.
    pub(super) fn enter(&mut self, column: Option<usize>) {
        self.column = column;
    }

    pub(super) fn mark(&mut self, row: usize, fault: Fault) {
        self.cells.push(CellFault { row, column: self.column, fault });
    }

    pub(super) fn first(&self) -> Option<Fault> {
        self.cells.first().map(|cell| cell.fault)
    }

    /// Removes all faults and returns the first of each row, in the order of the rows.
    pub(super) fn take(&mut self) -> Vec<CellFault> {
        let mut cells = std::mem::take(&mut self.cells);
        cells.sort_by_key(|cell| cell.row);
        cells.dedup_by_key(|cell| cell.row);
        cells
    }
}

/// A value as text for messages: `None` for null, cut to some 200 bytes, control characters escaped, so that it can
/// neither drive a terminal nor, with a NUL, keep the message from being stored.
pub(super) fn display(array: &dyn Array, row: usize) -> Option<String> {
    const LIMIT: usize = 200;
    if array.is_null(row) {
        return None;
    }
    let options = FormatOptions::default().with_display_error(true);
    let text = ArrayFormatter::try_new(array, &options)
        .and_then(|formatter| formatter.value(row).try_to_string())
        .unwrap_or_else(|_| "(a value that cannot be shown)".to_owned());
    let text = escaped(text);
    if text.len() <= LIMIT {
        return Some(text);
    }
    let end = (0..=LIMIT).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    Some(format!("{}… ({} bytes)", text.get(..end).unwrap_or_default(), text.len()))
}

fn escaped(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}
