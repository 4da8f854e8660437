//! Reads a tree of nodes into typed settings and collects everything that is wrong.
//!
//! [`section!`](super::section) declares a mapping once: from that come the known keys, the reading, the defaults,
//! the names of the overriding variables and the JSON Schema.

use std::path::Path;

use serde_json::Value as Json;

use super::environment::Environment;
use super::fill::{self, FillError};
use super::problem::{Place, Problem};
use super::yaml::{Key, Node, Scalar, Style, Value};
use crate::domain::Code;

/// A type that a setting can have.
pub(super) trait Setting: Sized {
    /// Whether it may be a list or a mapping, so that an overriding variable may hold one.
    const COLLECTION: bool = false;

    /// Reads a value; `None` after reporting what is wrong with it.
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self>;

    /// The JSON Schema of the value.
    fn schema() -> Json;

    /// This value where a default `base` is declared too: mappings of settings are merged key by key, else the
    /// value stands alone.
    fn over(self, _base: Self) -> Self {
        self
    }

    /// The value where the setting is not declared and has no default of its own: an empty section.
    fn absent() -> Option<Self> {
        None
    }

    /// Fills in the defaults of what is within.
    #[must_use]
    fn preset(self, _reader: &mut Reader<'_>) -> Self {
        self
    }

    /// This setting and all settings within it that an environment variable can override.
    fn paths() -> Vec<SettingPath> {
        let takes = if Self::COLLECTION { Takes::Collection } else { Takes::Scalar };
        vec![SettingPath { keys: Vec::new(), takes }]
    }
}

/// The keys that lead to a setting from the top of `lakegate.yaml`.
#[derive(Debug, Clone)]
pub(super) struct SettingPath {
    pub keys: Vec<&'static str>,
    pub takes: Takes,
}

/// What a variable for a setting may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// Text as it is.
    Scalar,
    /// A list or a mapping in YAML, or text as it is.
    Collection,
    /// Nothing: the setting is not built yet, nor is any within it.
    Nothing,
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub value: T,
    pub place: Place,
}

impl<T: Setting> At<T> {
    /// [`Setting::over`] for values that may be absent.
    pub(super) fn over(own: Option<Self>, base: Option<Self>) -> Option<Self> {
        match (own, base) {
            (Some(own), Some(base)) => Some(At { value: own.value.over(base.value), place: own.place }),
            (own, base) => own.or(base),
        }
    }
}

/// The keys of a section.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    /// What the section is called in messages, with its article.
    pub noun: &'static str,
    pub known: Vec<&'static str>,
    pub required: Vec<&'static str>,
    /// Keys of the contract that this version does not have yet.
    pub later: Vec<&'static str>,
    /// Keys that stand elsewhere, and why.
    pub misplaced: Vec<(&'static str, &'static str)>,
}

/// A scalar with its variables filled in.
pub(super) struct Text {
    pub text: String,
    /// See [`fill::Filling::visible`]; empty for an overriding variable.
    pub visible: String,
    /// The scalar may have any type, because its text comes from a variable.
    pub untyped: bool,
    style: Style,
    raw: String,
}

impl Text {
    /// The value in a message: as the file spells it, so that no variable's value is shown.
    pub(super) fn shown(&self) -> String {
        match self.style {
            Style::Variable => "its value".to_owned(),
            _ if self.raw.chars().count() > 60 => "this text".to_owned(),
            _ => format!("`{}`", self.raw),
        }
    }

    /// Whether all of it stands in the file.
    pub(super) fn is_literal(&self) -> bool {
        self.style != Style::Variable && !self.visible.is_empty() && !self.visible.contains(fill::UNSEEN)
    }

    /// Whether a number or a boolean may be read from it.
    pub(super) fn is_unquoted(&self) -> bool {
        self.style == Style::Plain || self.untyped
    }
}

/// Collects problems while settings are read.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub env: &'a Environment,
    /// The project's folder.
    pub dir: &'a Path,
    pub problems: Vec<Problem>,
    path: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(env: &'a Environment, dir: &'a Path) -> Self {
        Reader { env, dir, problems: Vec::new(), path: Vec::new() }
    }

    /// Reads the value of `key`.
    pub(super) fn setting<T: Setting>(&mut self, key: &str, node: &Node) -> Option<At<T>> {
        self.path.push(key.to_owned());
        let value = T::read(node, self);
        self.path.pop();
        value.map(|value| At { value, place: node.place.clone() })
    }

    /// A setting as declared, else its default as a file would spell it, with the defaults of what is within.
    pub(super) fn preset<T: Setting>(&mut self, own: Option<At<T>>, default: Option<String>) -> Option<At<T>> {
        let place = own.as_ref().map_or(Place::Project, |own| own.place.clone());
        let value = match (own, default) {
            (Some(own), _) => Some(own.value),
            (None, Some(text)) => {
                let value = Value::Scalar(Scalar { text, style: Style::Plain });
                T::read(&Node { value, place: place.clone() }, self)
            }
            (None, None) => T::absent(),
        };
        value.map(|value| At { value: value.preset(self), place })
    }

    /// Reports what is wrong with the current setting. A detail about a variable needs no path: its name says it.
    pub(super) fn refuse<T>(&mut self, code: Code, place: &Place, detail: &str, hint: Option<String>) -> Option<T> {
        let detail = match place {
            Place::Text(..) if !self.path.is_empty() => format!("`{}`: {detail}", self.path.join(".")),
            _ => detail.to_owned(),
        };
        self.problems.push(Problem::new(code, place, detail).maybe_hint(hint));
        None
    }

    /// [`Self::refuse`] as an invalid value.
    pub(super) fn invalid<T>(&mut self, place: &Place, detail: &str, hint: impl Into<String>) -> Option<T> {
        self.refuse(Code::InvalidValue, place, detail, Some(hint.into()))
    }

    /// The keys and values of a section; unknown, repeated, missing and later keys are reported and left out.
    pub(super) fn entries<'n>(&mut self, node: &'n Node, keys: &Keys) -> Option<Vec<(&'n str, &'n Node)>> {
        let entries: &[(Key, Node)] = match &node.value {
            Value::Map(entries) => entries,
            // An empty file declares nothing, which is a fault only where something is required.
            Value::Scalar(scalar) if self.path.is_empty() && scalar.text.is_empty() => &[],
            _ => return self.invalid(&node.place, &format!("expected keys of {}", keys.noun), key_list(keys)),
        };
        let mut found: Vec<(&'n str, &'n Node)> = Vec::new();
        for (index, (key, value)) in entries.iter().enumerate() {
            let name = key.name.as_str();
            if let Some((first, _)) = entries[..index].iter().find(|(earlier, _)| earlier.name == key.name) {
                self.repeated(key, &first.place);
            } else if keys.known.contains(&name) {
                found.push((name, value));
            } else if keys.later.contains(&name) {
                let what = self.full_name(name);
                self.not_built::<()>(&key.place, &what, "remove the key");
            } else if let Some((_, reason)) = keys.misplaced.iter().find(|(known, _)| *known == name) {
                let detail = format!("{} cannot stand here: {reason}", self.full_name(name));
                self.problems.push(Problem::new(Code::InvalidValue, &key.place, detail).hint("remove the key"));
            } else {
                let hint = did_you_mean(name, &keys.known).unwrap_or_else(|| key_list(keys));
                let detail = format!("`{name}` is not a key of {}", keys.noun);
                self.problems.push(Problem::new(Code::UnknownKey, &key.place, detail).hint(hint));
            }
        }
        for name in &keys.required {
            if !entries.iter().any(|(key, _)| key.name == *name) {
                let detail = format!("{} has no default", self.full_name(name));
                self.problems.push(Problem::new(Code::MissingKey, &node.place, detail).hint(format!("add `{name}:`")));
            }
        }
        Some(found)
    }

    /// A key of the current setting with the keys that lead to it.
    fn full_name(&self, key: &str) -> String {
        let path: Vec<&str> = self.path.iter().map(String::as_str).chain([key]).collect();
        format!("`{}`", path.join("."))
    }

    fn repeated(&mut self, key: &Key, first: &Place) {
        let detail = format!("{} is declared twice, first at {first}", self.full_name(&key.name));
        self.problems.push(Problem::new(Code::InvalidValue, &key.place, detail).hint("remove one of the two"));
    }

    /// Reports a part of the contract that this version does not have.
    pub(super) fn not_built<T>(&mut self, place: &Place, what: &str, remedy: &str) -> Option<T> {
        let hint = format!("{remedy} until a later version has it");
        self.problems.push(Problem::new(Code::NotBuiltYet, place, format!("{what} is not built yet")).hint(hint));
        None
    }

    /// A scalar with its variables filled in; `expected` names what is wanted, with its article.
    pub(super) fn scalar(&mut self, node: &Node, expected: &str) -> Option<Text> {
        let found = match &node.value {
            Value::Scalar(scalar) if is_null(scalar) => "nothing",
            Value::Scalar(scalar) => return self.fill(scalar, &node.place),
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        };
        let hint = if found == "nothing" { "give a value, or remove the key" } else { "give a single value" };
        self.invalid(&node.place, &format!("expected {expected}, found {found}"), hint)
    }

    fn fill(&mut self, scalar: &Scalar, place: &Place) -> Option<Text> {
        let Scalar { text, style } = scalar;
        let (raw, style) = (text.clone(), *style);
        match style {
            Style::Verbatim => {
                return Some(Text { text: raw.clone(), visible: raw.clone(), untyped: false, style, raw });
            }
            Style::Variable => {
                return Some(Text { text: raw, visible: String::new(), untyped: true, style, raw: String::new() });
            }
            Style::Plain | Style::DoubleQuoted => {}
        }
        match fill::fill(text, |name| self.env.get(name)) {
            Ok(filling) => {
                let fill::Filling { text, visible, filled: untyped } = filling;
                Some(Text { text, visible, untyped, style, raw })
            }
            Err(FillError::Unset(name)) => {
                let hint = format!("set the variable, or give a default: `${{{name}:-…}}`");
                self.refuse(
                    Code::UnsetVariable,
                    place,
                    &format!("`{name}` has neither a value nor a default"),
                    Some(hint),
                )
            }
            Err(FillError::Malformed) => self.invalid(
                place,
                "`${` begins a variable, but no name and `}` follow",
                "write `$$` for a dollar sign",
            ),
        }
    }

    /// The items of a list.
    pub(super) fn list<'n>(&mut self, node: &'n Node, expected: &str) -> Option<&'n [Node]> {
        match &node.value {
            Value::List(items) => Some(items),
            _ => self.invalid(&node.place, &format!("expected {expected}"), "write a list: `[a, b]`"),
        }
    }

    /// The entries of a mapping with free keys; a repeated key is reported and left out.
    pub(super) fn map<'n>(&mut self, node: &'n Node, expected: &str) -> Option<Vec<&'n (Key, Node)>> {
        let Value::Map(entries) = &node.value else {
            return self.invalid(&node.place, &format!("expected {expected}"), "write a mapping: `{a: b}`");
        };
        let mut found: Vec<&(Key, Node)> = Vec::new();
        for entry in entries {
            if let Some((first, _)) = found.iter().find(|(key, _)| key.name == entry.0.name) {
                self.repeated(&entry.0, &first.place);
            } else {
                found.push(entry);
            }
        }
        Some(found)
    }
}

fn is_null(scalar: &Scalar) -> bool {
    scalar.style == Style::Plain && matches!(scalar.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
}

fn key_list(keys: &Keys) -> String {
    format!("the keys of {} are {}", keys.noun, join(&keys.known, "and"))
}

/// `` `a`, `b` or `c` ``.
pub(super) fn alternatives(names: &[&str]) -> String {
    join(names, "or")
}

fn join(names: &[&str], conjunction: &str) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.as_slice() {
        [rest @ .., last] if !rest.is_empty() => format!("{} {conjunction} {last}", rest.join(", ")),
        other => other.concat(),
    }
}

/// The hint for a name that is a slip of one of `known`.
pub(super) fn did_you_mean(name: &str, known: &[&str]) -> Option<String> {
    let name = name.to_lowercase();
    let closest = known.iter().min_by_key(|candidate| strsim::damerau_levenshtein(&name, &candidate.to_lowercase()))?;
    let distance = strsim::damerau_levenshtein(&name, &closest.to_lowercase());
    (distance <= 1 + closest.len() / 5).then(|| format!("did you mean `{closest}`?"))
}
