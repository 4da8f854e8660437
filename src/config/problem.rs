//! What is wrong with a project's files, with the place of each fault.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, Severity, SourceCode};
use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::redact;
use crate::domain::{Code, Error};

/// A file's name and text, shared by all places in it.
pub(super) struct SourceFile {
    /// The path relative to the project, with `/`.
    name: String,
    text: String,
    /// The text as excerpts show it: secrets are starred out.
    shown: NamedSource<String>,
}

impl SourceFile {
    /// Takes a text; a byte-order mark in front is dropped.
    pub(super) fn new(name: impl Into<String>, text: &str) -> Arc<Self> {
        let (name, text) = (name.into(), text.strip_prefix('\u{feff}').unwrap_or(text));
        let shown = NamedSource::new(&name, redact::star_out(text));
        Arc::new(SourceFile { name, text: text.to_owned(), shown })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Line and column, both from 1; the column counts characters.
    fn line_and_column(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// The byte offset of a line and column as [`Self::line_and_column`] counts them, at most the text's length.
    pub(super) fn offset(&self, line: usize, column: usize) -> usize {
        let lines = self.text.split_inclusive('\n');
        let start: usize = lines.take(line.saturating_sub(1)).map(str::len).sum();
        let rest = self.text.get(start..).unwrap_or_default();
        start + rest.chars().take(column.saturating_sub(1)).map(char::len_utf8).sum::<usize>()
    }
}

impl fmt::Debug for SourceFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceFile").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Where a value or a fault stands.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// In the project as a whole.
    Project,
    /// In a file or folder whose text is unknown; its path relative to the project.
    Path(String),
    /// At these bytes of a file.
    Text(Arc<SourceFile>, Range<usize>),
    /// In an environment variable.
    Variable(String),
}

impl Place {
    fn file(&self) -> Option<&str> {
        match self {
            Place::Path(path) => Some(path),
            Place::Text(file, _) => Some(&file.name),
            Place::Project | Place::Variable(_) => None,
        }
    }

    /// Whether it is more than the project as a whole.
    pub(super) fn is_known(&self) -> bool {
        !matches!(self, Place::Project)
    }

    fn line_and_column(&self) -> Option<(usize, usize)> {
        match self {
            Place::Text(file, span) => Some(file.line_and_column(span.start)),
            _ => None,
        }
    }
}

impl fmt::Display for Place {
    /// `file:line:column`, the path or the variable's name; nothing for the project as a whole.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Project => Ok(()),
            Place::Path(name) | Place::Variable(name) => f.write_str(name),
            Place::Text(file, span) => {
                let (line, column) = file.line_and_column(span.start);
                write!(f, "{}:{line}:{column}", file.name)
            }
        }
    }
}

/// One fault in a project's files or variables, or one warning about them.
///
/// Serializes as `{code, title, file, line, column, detail, hint}`, `null` where there is none.
#[derive(Debug, Clone)]
pub struct Problem {
    code: Code,
    detail: String,
    hint: Option<String>,
    place: Place,
    severity: Severity,
}

impl Problem {
    pub(super) fn new(code: Code, place: &Place, detail: impl Into<String>) -> Self {
        Problem { code, detail: detail.into(), hint: None, place: place.clone(), severity: Severity::Error }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    pub(super) fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// What is wrong; begins with the place where that is not a position in a file.
    #[must_use]
    pub fn detail(&self) -> String {
        match &self.place {
            Place::Project | Place::Text(..) => self.detail.clone(),
            place @ (Place::Path(_) | Place::Variable(_)) => format!("{place}: {}", self.detail),
        }
    }

    /// What to do about it, where we know.
    #[must_use]
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The file, relative to the project's folder and with `/`; none for variables and the project as a whole.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        self.place.file()
    }

    /// Line and column in the file, both from 1; the column counts characters.
    #[must_use]
    pub fn line_and_column(&self) -> Option<(usize, usize)> {
        self.place.line_and_column()
    }

    /// For a terminal: what, where with the lines of the file, and what to do. Ends in a newline.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let mut text = String::new();
        let handler = GraphicalReportHandler::new_themed(theme).with_links(false).with_wrap_lines(false);
        match handler.render_report(&mut text, self) {
            Ok(()) => text,
            Err(fmt::Error) => format!("{self}\n"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.title(), self.detail())
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }

    fn severity(&self) -> Option<Severity> {
        Some(self.severity)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.hint.as_ref().map(|hint| Box::new(hint) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        match &self.place {
            Place::Text(file, _) => Some(&file.shown),
            _ => None,
        }
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        match &self.place {
            Place::Text(_, span) => Some(Box::new(std::iter::once(LabeledSpan::underline(span.clone())))),
            _ => None,
        }
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (line, column) = self.line_and_column().unzip();
        let mut fields = serializer.serialize_struct("Problem", 7)?;
        fields.serialize_field("code", &self.code.to_string())?;
        fields.serialize_field("title", self.code.title())?;
        fields.serialize_field("file", &self.file())?;
        fields.serialize_field("line", &line)?;
        fields.serialize_field("column", &column)?;
        fields.serialize_field("detail", &self.detail())?;
        fields.serialize_field("hint", &self.hint)?;
        fields.end()
    }
}

/// Everything that is wrong with a project; at least one problem. Serializes as a list of [`Problem`]s.
#[derive(Debug, Clone)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Orders problems by place: the project and its variables first, then file by file from top to bottom.
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| {
            let order = |problem: &Problem| (problem.file().map(str::to_owned), problem.line_and_column());
            order(a).cmp(&order(b))
        });
        Problems(problems)
    }

    /// Each problem.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }

    /// For a terminal: every problem as [`Problem::render`] shows it.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        self.0.iter().map(|problem| problem.render(colour)).collect::<Vec<_>>().join("\n")
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}

impl Serialize for Problems {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.0)
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl From<Problems> for Error {
    /// The first problem, with its place and the number of the others.
    fn from(problems: Problems) -> Error {
        let Some(first) = problems.0.first() else { return Error::internal("a refused project has no problem") };
        let others = match problems.0.len() - 1 {
            0 => String::new(),
            1 => " (and 1 further problem)".to_owned(),
            count => format!(" (and {count} further problems)"),
        };
        let mut error = Error::new(first.code, format!("{}{others}", first.detail()));
        if let Place::Text(..) = first.place {
            error = error.at(&first.place);
        }
        match &first.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}
