//! Which module may use which.

use super::tokens::{Kind, Token, group_end};

/// Each module and those it may use; every one may use `domain` as well. Listed from the top down.
const LAYERS: &[(&str, &[&str])] = &[
    (
        "cli",
        &[
            "console",
            "admin",
            "schedule",
            "engine",
            "serve",
            "auth",
            "http",
            "observe",
            "destination",
            "store",
            "source",
            "encode",
            "postgres",
            "config",
            "sample",
            "transform",
            "failpoint",
        ],
    ),
    ("console", &["admin"]),
    ("admin", &["engine", "schedule", "auth", "http", "store", "observe"]),
    ("schedule", &["engine", "store"]),
    ("engine", &["transform", "source", "encode", "destination", "store", "observe", "postgres", "failpoint"]),
    ("transform", &["source"]),
    ("serve", &["auth", "http", "store", "postgres", "observe"]),
    ("auth", &["store"]),
    ("http", &[]),
    ("destination", &["postgres"]),
    ("store", &["postgres"]),
    ("source", &[]),
    ("encode", &[]),
    ("postgres", &[]),
    ("observe", &[]),
    ("config", &[]),
    ("sample", &[]),
    ("failpoint", &[]),
    ("domain", &[]),
];

/// The module of a file under `src`, by the file's path from there: `store` for `store/mod.rs` and `store.rs`.
pub(super) fn layer(path: &str) -> &str {
    path.split('/').next().unwrap_or(path).trim_end_matches(".rs")
}

/// Why a file's imports break the rules.
pub(super) fn violations(path: &str, tokens: &[Token]) -> Vec<String> {
    let own = layer(path);
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == own) else {
        return vec![format!("src/{path}: `{own}` has no place among the layers")];
    };
    imports(path, tokens)
        .into_iter()
        .filter(|(used, _)| LAYERS.iter().any(|(name, _)| name == used))
        .filter(|(used, _)| used != own && used != "domain" && !allowed.contains(&used.as_str()))
        .map(|(used, line)| format!("src/{path}:{line}: `{own}` may not use `{used}`"))
        .collect()
}

/// Every module of the crate that a file names, with the line: `crate::a`, `crate::{a, b::c}`, and `super::` from the
/// top of a module.
fn imports(path: &str, tokens: &[Token]) -> Vec<(String, usize)> {
    let file_depth = path.split('/').filter(|part| *part != "mod.rs").count();
    // For every module written inside the file: the depth of braces at which it ends.
    let mut inner_modules = Vec::new();
    let mut braces = 0;
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at].kind {
            Kind::Mark('{') => {
                if at >= 2 && tokens[at - 2].is_word("mod") {
                    inner_modules.push(braces);
                }
                braces += 1;
            }
            Kind::Mark('}') => {
                braces -= 1;
                if inner_modules.last() == Some(&braces) {
                    inner_modules.pop();
                }
            }
            Kind::Word(word) if word == "crate" => named_after(tokens, at + 1, &mut found),
            Kind::Word(word) if word == "super" => {
                let ups = (0..).take_while(|up| is_super(tokens, at + 3 * up)).count();
                let last = at + 3 * (ups - 1);
                if ups >= file_depth + inner_modules.len() {
                    named_after(tokens, last + 1, &mut found);
                }
                at = last;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

fn is_super(tokens: &[Token], at: usize) -> bool {
    tokens.get(at).is_some_and(|token| token.is_word("super"))
}

/// The names that `::name` or `::{name, name}` adds at this place.
fn named_after(tokens: &[Token], at: usize, found: &mut Vec<(String, usize)>) {
    let is_path = (at..at + 2).all(|at| tokens.get(at).is_some_and(|token| token.is_mark(':')));
    let Some(next) = tokens.get(at + 2).filter(|_| is_path) else { return };
    if !next.is_mark('{') {
        found.extend(next.word().map(|word| (word.to_owned(), next.line)));
        return;
    }
    let end = group_end(tokens, at + 2);
    let mut place = at + 3;
    let mut begins = true;
    while place < end {
        let token = &tokens[place];
        if begins {
            found.extend(token.word().map(|word| (word.to_owned(), token.line)));
        }
        begins = token.is_mark(',');
        place = if token.is_mark('{') { group_end(tokens, place) + 1 } else { place + 1 };
    }
}

#[test]
fn imports_are_seen_however_they_are_written() {
    let seen = |path: &str, source: &str| -> Vec<String> {
        imports(path, &super::tokens::tokens(source)).into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(
        seen("serve/mod.rs", "use crate::engine::Run; pub(crate) fn f() { crate::encode::g() }"),
        ["engine", "encode"]
    );
    assert_eq!(seen("serve/mod.rs", "use crate::{a::{b, c}, d, e as f};"), ["a", "d", "e"]);
    assert_eq!(seen("serve/mod.rs", "use super::engine;"), ["engine"]);
    assert_eq!(seen("serve/page.rs", "use super::engine; use super::super::source;"), ["source"]);
    assert_eq!(seen("serve.rs", "mod tests { use super::*; } use super::source;"), ["source"]);
    assert_eq!(seen("serve.rs", "// crate::engine\nconst A: &str = \"crate::engine\";"), [""; 0]);
}

#[test]
fn an_upper_layer_is_refused_and_a_lower_one_is_not() {
    let verdict = |path: &str, source: &str| violations(path, &super::tokens::tokens(source)).len();
    assert_eq!(verdict("serve/mod.rs", "use crate::{engine, source, encode};"), 3);
    assert_eq!(verdict("serve/mod.rs", "use crate::{domain::Code, postgres, serve::page, store};"), 0);
    assert_eq!(verdict("domain/error.rs", "use crate::config;"), 1);
    assert_eq!(verdict("serve/page.rs", "use super::super::{engine, key};"), 1);
    assert_eq!(verdict("elsewhere.rs", ""), 1);
}
