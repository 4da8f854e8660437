//! YAML text → a tree of nodes that know their places. The only file that knows the YAML parser.
//!
//! The parser stops at the first value that does not fit a Rust type. So everything is read into a tree that fits
//! any YAML, and what the values mean is decided afterwards, for all of them.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Location, Options, Spanned, UserMessageFormatter};

use super::problem::{Place, Problem, SourceFile};
use crate::domain::Code;

/// The most bytes of one file.
pub(super) const MAX_FILE_BYTES: usize = 1 << 20;
/// The deepest nesting.
const MAX_DEPTH: usize = 24;
/// The most values of one file, those that aliases repeat included.
const MAX_NODES: usize = 50_000;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub value: Value,
    /// The value itself if it is a scalar, else what it can be recognized by: its key or its first bracket.
    pub place: Place,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub name: String,
    pub place: Place,
}

/// A scalar, not yet filled in or interpreted.
#[derive(Clone)]
pub(super) struct Scalar {
    /// The text without quotes and escapes.
    pub text: String,
    /// How it is written.
    pub style: Style,
}

impl fmt::Debug for Scalar {
    /// Without the text, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scalar").field("style", &self.style).finish_non_exhaustive()
    }
}

/// How a scalar is written: what may be filled in and which types it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Without quotes: whatever YAML infers; variables are filled in.
    Plain,
    /// `"…"`: text; variables are filled in.
    DoubleQuoted,
    /// `'…'` or a block (`|`, `>`): text as it stands.
    Verbatim,
    /// From an environment variable: whatever the setting wants; nothing is filled in, and never shown.
    Variable,
}

/// Reads a file; an empty one is a null scalar.
///
/// # Errors
/// The one problem that ends the reading of this file.
pub(super) fn parse(file: &Arc<SourceFile>) -> Result<Node, Box<Problem>> {
    if file.text().len() > MAX_FILE_BYTES {
        let detail = format!("the file is larger than {} KiB", MAX_FILE_BYTES / 1024);
        return Err(Box::new(Problem::new(Code::ConfigSyntax, &Place::Path(file.name().to_owned()), detail)));
    }
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(file.text(), options()) {
        Ok(raw) => Ok(Node { place: Place::Text(Arc::clone(file), 0..0), ..node(raw, file, None) }),
        Err(error) => Err(Box::new(syntax_problem(&error, file))),
    }
}

fn options() -> Options {
    serde_saphyr::options! {
        // Both places of a duplicate key are reported with everything else.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_NODES, max_replay_stack_depth: 16 },
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 2 * MAX_NODES,
            max_recorded_anchor_events: 2 * MAX_NODES,
            max_recorded_anchor_bytes: MAX_FILE_BYTES,
        },
    }
}

fn syntax_problem(error: &serde_saphyr::Error, file: &Arc<SourceFile>) -> Problem {
    let message = error.without_snippet().render_with_formatter(&UserMessageFormatter);
    let message = message.split_once(" at line ").map_or(message.as_str(), |(message, _)| message);
    let Some(location) = error.location() else {
        return Problem::new(Code::ConfigSyntax, &Place::Path(file.name().to_owned()), message);
    };
    let start = file.offset(location.line() as usize, location.column() as usize);
    let length = file.text().get(start..).and_then(|rest| rest.chars().next()).filter(|&c| c != '\n');
    let end = start + length.map_or(0, char::len_utf8);
    let place = Place::Text(Arc::clone(file), start..end);
    Problem::new(Code::ConfigSyntax, &place, message).maybe_hint(syntax_hint(message, file.text(), start))
}

/// What the fault most likely is, judged by its line and what is open before it.
fn syntax_hint(message: &str, text: &str, at: usize) -> Option<String> {
    let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[line_start..].lines().next().unwrap_or_default();
    let value = line.split_once(": ").map_or("", |(_, value)| value.trim_start());
    if value.starts_with(['*', '@', '%', '`']) {
        let first = value.chars().next().unwrap_or_default();
        return Some(format!("`{first}` begins a special token in YAML: write the whole value in quotes"));
    }
    if line.contains("${") && line.contains(['{', '[']) {
        return Some("within { } and [ ], write values that contain ${…} in quotes".to_owned());
    }
    let open = |opening: char, closing: char| text[..at].matches(opening).count() > text[..at].matches(closing).count();
    if message.contains("':' indicator") && (open('[', ']') || open('{', '}')) {
        return Some("a `[` or `{` above may not be closed".to_owned());
    }
    line.starts_with('\t').then(|| "indent with spaces: YAML does not allow tabs there".to_owned())
}

/// A value as the parser hands it over.
enum Raw {
    /// The text, where the parser yields text; a number, boolean or null is taken from the source as it is spelled.
    Scalar(Option<String>),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar(None))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(None))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Raw, E> {
        Ok(Raw::Scalar(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Scalar(None))
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(None))
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar(Some(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}

/// `key` is the place of the key that leads to the value.
fn node(raw: Spanned<Raw>, file: &Arc<SourceFile>, key: Option<&Place>) -> Node {
    let own = place(raw.referenced, file);
    let by_key = || key.cloned().unwrap_or_else(|| own.clone());
    match raw.value {
        Raw::Scalar(text) => {
            let scalar = scalar(text, span(raw.defined), file.text());
            let place = if span(raw.referenced).is_empty() { by_key() } else { own };
            Node { value: Value::Scalar(scalar), place }
        }
        Raw::List(items) => {
            let items = items.into_iter().map(|item| node(item, file, None)).collect();
            Node { value: Value::List(items), place: by_key() }
        }
        Raw::Map(entries) => {
            let entries = entries.into_iter().map(|(name, value)| {
                let key = Key { name: name.value, place: place(name.referenced, file) };
                let value = node(value, file, Some(&key.place));
                (key, value)
            });
            Node { value: Value::Map(entries.collect()), place: by_key() }
        }
    }
}

/// Where the parser gives no position, the start of the file.
fn span(location: Location) -> Range<usize> {
    let span = location.span();
    let start = span.byte_offset().unwrap_or(0) as usize;
    start..start + span.byte_len().unwrap_or(0) as usize
}

fn place(location: Location, file: &Arc<SourceFile>) -> Place {
    Place::Text(Arc::clone(file), span(location))
}

/// The parser does not tell how a scalar is written: the source does.
fn scalar(text: Option<String>, span: Range<usize>, source: &str) -> Scalar {
    let raw = source.get(span.clone()).unwrap_or_default();
    let quote = [('"', Style::DoubleQuoted), ('\'', Style::Verbatim)]
        .into_iter()
        .find(|(quote, _)| raw.len() >= 2 && raw.starts_with(*quote) && raw.ends_with(*quote));
    let style = match quote {
        _ if follows_block_header(source.get(..span.start).unwrap_or_default()) => Style::Verbatim,
        Some((_, style)) => style,
        None => Style::Plain,
    };
    let text = text.unwrap_or_else(|| raw.trim_matches(['"', '\'']).to_owned());
    Scalar { text, style }
}

/// Whether what stands before a scalar ends in the header of a block: `|` or `>`, perhaps with `-`, `+` or a digit,
/// and a comment.
fn follows_block_header(before: &str) -> bool {
    let trimmed = before.trim_end();
    let on_new_line = before[trimmed.len()..].contains('\n');
    let line = trimmed.rsplit('\n').next().unwrap_or_default();
    let header = line.split(" #").next().unwrap_or_default().trim_end();
    on_new_line
        && header.trim_end_matches(['-', '+', '1', '2', '3', '4', '5', '6', '7', '8', '9']).ends_with(['|', '>'])
}
