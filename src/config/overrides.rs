//! `LAKEGATE_…`: settings from environment variables, put over those of `lakegate.yaml`.

use super::environment::Environment;
use super::problem::{Place, Problem, SourceFile};
use super::reader::{SettingPath, Takes, did_you_mean};
use super::yaml::{self, Key, Node, Scalar, Style, Value};
use crate::domain::Code;

/// What the name of every variable of ours begins with.
const PREFIX: &str = "LAKEGATE_";
/// Variables that are no settings, without the prefix: the project's folder, the log filter and the folder of the
/// embedded server's binaries, all of the command line.
const OTHERS: [&str; 3] = ["DIR", "LOG", "POSTGRES_BIN"];
/// Variables of tests, without the prefix.
const TESTS: &str = "TEST_";

/// The paths of a section: its own, those of its keys, and the keys that are not built yet.
pub(super) fn section_paths<const N: usize>(
    keys: [(&'static str, Vec<SettingPath>); N],
    later: &[&'static str],
) -> Vec<SettingPath> {
    let mut paths = vec![SettingPath { keys: Vec::new(), takes: Takes::Collection }];
    for (key, within) in keys {
        paths.extend(within.into_iter().map(|mut path| {
            path.keys.insert(0, key);
            path
        }));
    }
    paths.extend(later.iter().map(|key| SettingPath { keys: vec![key], takes: Takes::Nothing }));
    paths
}

/// Whether any variable declares a setting.
pub(super) fn any(env: &Environment, paths: &[SettingPath]) -> bool {
    env.with_prefix(PREFIX).any(|(name, value)| !value.is_empty() && find(name, paths).is_some())
}

/// Puts the variables over the tree of `lakegate.yaml`. An empty variable counts as not set. Returns the problems of
/// variables that hold broken YAML, and warnings about variables that mean nothing.
pub(super) fn apply(root: &mut Node, env: &Environment, paths: &[SettingPath]) -> (Vec<Problem>, Vec<Problem>) {
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    for (name, value) in env.with_prefix(PREFIX).filter(|(_, value)| !value.is_empty()) {
        let place = Place::Variable(format!("{PREFIX}{name}"));
        match find(name, paths) {
            Some(path) => match node(value, path, &place) {
                Ok(node) => put(root, &path.keys, node, &place),
                Err(problem) => problems.push(*problem),
            },
            None if OTHERS.contains(&name) || name.starts_with(TESTS) => {}
            None => warnings.push(unknown(name, paths, &place)),
        }
    }
    (problems, warnings)
}

/// The setting that a variable names. A key that is not built yet
/// answers for all that would be below it.
fn find<'p>(name: &str, paths: &'p [SettingPath]) -> Option<&'p SettingPath> {
    let exact = paths.iter().find(|path| !path.keys.is_empty() && variable(path) == name);
    let below = |path: &&SettingPath| {
        path.takes == Takes::Nothing && name.strip_prefix(&variable(path)).is_some_and(|rest| rest.starts_with('_'))
    };
    exact.or_else(|| paths.iter().find(below))
}

fn variable(path: &SettingPath) -> String {
    path.keys.join("_").to_ascii_uppercase()
}

/// A list or a mapping is written as in YAML; anything else is taken as it is.
fn node(value: &str, path: &SettingPath, place: &Place) -> Result<Node, Box<Problem>> {
    if !(path.takes == Takes::Collection && value.starts_with(['[', '{'])) {
        let scalar = Scalar { text: value.to_owned(), style: Style::Variable };
        return Ok(Node { value: Value::Scalar(scalar), place: place.clone() });
    }
    match yaml::parse(&SourceFile::new("", value)) {
        Ok(node) => Ok(at(node, place)),
        Err(_) => {
            let problem = Problem::new(Code::InvalidValue, place, "its value is not a list or a mapping in YAML");
            Err(Box::new(problem.hint("write a list as `[a, b]`, a mapping as `{a: b}`")))
        }
    }
}

/// The same tree with every place replaced by the variable's.
fn at(node: Node, place: &Place) -> Node {
    let value = match node.value {
        Value::Scalar(scalar) => Value::Scalar(Scalar { style: Style::Variable, ..scalar }),
        Value::List(items) => Value::List(items.into_iter().map(|item| at(item, place)).collect()),
        Value::Map(entries) => {
            let moved = |(key, value): (Key, Node)| (Key { place: place.clone(), ..key }, at(value, place));
            Value::Map(entries.into_iter().map(moved).collect())
        }
    };
    Node { value, place: place.clone() }
}

/// Replaces the value at a path. Where the file has no mapping on the way, one is made; where it has something else,
/// that stays and is reported.
fn put(root: &mut Node, keys: &[&str], node: Node, place: &Place) {
    let Some((first, rest)) = keys.split_first() else {
        *root = node;
        return;
    };
    if matches!(&root.value, Value::Scalar(scalar) if scalar.text.is_empty()) {
        root.value = Value::Map(Vec::new());
    }
    let Value::Map(entries) = &mut root.value else { return };
    if let Some((_, value)) = entries.iter_mut().find(|(key, _)| key.name == *first) {
        return put(value, rest, node, place);
    }
    let mut value = Node { value: Value::Map(Vec::new()), place: place.clone() };
    put(&mut value, rest, node, place);
    entries.push((Key { name: (*first).to_owned(), place: place.clone() }, value));
}

fn unknown(name: &str, paths: &[SettingPath], place: &Place) -> Problem {
    let known: Vec<String> = paths.iter().map(variable).chain(OTHERS.map(str::to_owned)).collect();
    let known: Vec<String> =
        known.iter().filter(|name| !name.is_empty()).map(|name| format!("{PREFIX}{name}")).collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let hint = did_you_mean(&format!("{PREFIX}{name}"), &known);
    Problem::new(Code::UnknownKey, place, "no setting has this name; the variable is ignored")
        .maybe_hint(
            hint.or_else(|| {
                Some("settings are named after their path: `LAKEGATE_API_LISTEN` is `api.listen`".to_owned())
            }),
        )
        .warning()
}
