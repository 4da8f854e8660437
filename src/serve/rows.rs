//! The body of an answer while its rows come, in whichever format was asked for.

use super::accept::Format;
use super::arrow_rows::ArrowRows;
use super::csv;
use super::envelope::{Envelope, Next};
use super::json::{Numbers, RowJson};
use super::statement::Values;
use super::table::PublishedTable;
use crate::domain::{ColumnType, Error, Result};

/// An answer with rows.
#[derive(Debug, Default)]
pub(super) struct Body {
    pub(super) bytes: Vec<u8>,
    pub(super) format: Format,
    /// The cursor of the next page, where the format has no place for it.
    pub(super) next: Option<String>,
    /// How many keys of a batch have no row, where the format has no place for that.
    pub(super) missing: usize,
    /// Rows and misses that it tells of.
    pub(super) rows: u32,
}

impl Body {
    /// An envelope with one row from the cache or the queue.
    pub(super) fn of_row(row: &RowJson, columns: Option<&[usize]>) -> Self {
        Body { bytes: super::envelope::row(row, columns), rows: 1, ..Body::default() }
    }
}

/// Writes rows one after the other.
pub(super) struct RowWriter<'t> {
    table: &'t PublishedTable,
    /// Indexes of the shown columns that are written, in this order; `None` = all.
    columns: Option<&'t [usize]>,
    format: Format,
    form: Form,
    missing: usize,
    rows: u32,
}

enum Form {
    Envelope(Envelope),
    Lines(Vec<u8>),
    Csv { out: Vec<u8>, scratch: Vec<u8> },
    Arrow { rows: Box<ArrowRows>, bytes: usize },
}

impl<'t> RowWriter<'t> {
    pub(super) fn new(table: &'t PublishedTable, columns: Option<&'t [usize]>, format: Format) -> Result<Self> {
        let form = match format {
            Format::Json | Format::JsonStrings => Form::Envelope(Envelope::default()),
            Format::Ndjson => Form::Lines(Vec::new()),
            Format::Csv => {
                let mut out = Vec::new();
                csv::write_names(&mut out, shown(table, columns).map(|(_, (name, _))| name.as_str()));
                Form::Csv { out, scratch: Vec::new() }
            }
            Format::Arrow => {
                let rows = ArrowRows::new(shown(table, columns).map(|(_, column)| column))?;
                Form::Arrow { rows: Box::new(rows), bytes: 0 }
            }
        };
        Ok(RowWriter { table, columns, format, form, missing: 0, rows: 0 })
    }

    /// Adds a row as Postgres sends it.
    ///
    /// # Errors
    /// When a value is not of its column's type, or the format has no form for it.
    pub(super) fn row(&mut self, values: Values<'_>) -> Result<()> {
        let (table, columns) = (self.table, self.columns);
        self.rows += 1;
        match &mut self.form {
            Form::Envelope(envelope) => {
                let numbers = if self.format == Format::JsonStrings { Numbers::Strings } else { Numbers::Exact };
                table.shape.append(envelope.entry(), columns, numbers, |at| values.get(at))
            }
            Form::Lines(out) => {
                table.shape.append(out, columns, Numbers::Exact, |at| values.get(at))?;
                out.push(b'\n');
                Ok(())
            }
            Form::Csv { out, scratch } => {
                for (position, (at, (name, ty))) in shown(table, columns).enumerate() {
                    if position > 0 {
                        out.push(b',');
                    }
                    csv::write_field(out, scratch, *ty, values.get(at))
                        .ok_or_else(|| Error::internal(format!("`{name}` holds a value of another type")))?;
                }
                out.extend_from_slice(csv::LINE_END);
                Ok(())
            }
            Form::Arrow { rows, bytes } => {
                let places =
                    |number: usize| columns.map_or(number, |columns| columns.get(number).copied().unwrap_or(number));
                *bytes += shown(table, columns).map(|(at, _)| values.get(at).map_or(1, <[u8]>::len)).sum::<usize>();
                rows.push(|number| values.get(places(number)))
            }
        }
    }

    /// Adds a row that has been written as JSON.
    pub(super) fn json_row(&mut self, row: &RowJson) {
        self.rows += 1;
        match &mut self.form {
            Form::Envelope(envelope) => row.append_to(envelope.entry(), self.columns),
            Form::Lines(out) => {
                row.append_to(out, self.columns);
                out.push(b'\n');
            }
            Form::Csv { .. } | Form::Arrow { .. } => {}
        }
    }

    /// The next key of a batch has no row.
    pub(super) fn miss(&mut self, detail: &str) {
        self.rows += 1;
        match &mut self.form {
            Form::Envelope(envelope) => envelope.miss(detail),
            Form::Lines(out) => {
                out.extend_from_slice(b"null\n");
                self.missing += 1;
            }
            Form::Csv { .. } | Form::Arrow { .. } => self.missing += 1,
        }
    }

    /// About how many bytes the rows have so far.
    pub(super) fn len(&self) -> usize {
        match &self.form {
            Form::Envelope(envelope) => envelope.len(),
            Form::Lines(out) | Form::Csv { out, .. } => out.len(),
            Form::Arrow { bytes, .. } => *bytes,
        }
    }

    /// The body.
    pub(super) fn finish(self, next: Next) -> Result<Body> {
        let (format, missing, rows) = (self.format, self.missing, self.rows);
        let bytes = match self.form {
            Form::Envelope(envelope) => {
                let bytes = envelope.finish(&next);
                return Ok(Body { bytes, format, rows, ..Body::default() });
            }
            Form::Lines(out) | Form::Csv { out, .. } => out,
            Form::Arrow { rows, .. } => rows.finish()?,
        };
        let next = if let Next::At(cursor) = next { Some(cursor) } else { None };
        Ok(Body { bytes, format, next, missing, rows })
    }
}

/// The columns that are written, with their places among those that are read.
fn shown<'t>(
    table: &'t PublishedTable,
    columns: Option<&'t [usize]>,
) -> impl Iterator<Item = (usize, &'t (String, ColumnType))> {
    let count = columns.map_or(table.shown, <[usize]>::len);
    (0..count).filter_map(move |number| {
        let at = columns.map_or(Some(number), |columns| columns.get(number).copied())?;
        Some((at, table.read.get(at)?))
    })
}
