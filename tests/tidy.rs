//! House rules, held by tests: what a reviewer should not have to look for.

mod layers;
mod tokens;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lakegate::domain::Code;
use tokens::{Kind, Token};

/// The most lines of a source file. One that grows beyond four hundred holds two concepts as a rule.
const LINES_MAX: usize = 500;

/// The largest file in git, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["util", "utils", "common", "helper", "helpers", "manager", "misc", "shared", "stuff"];

/// Crates that one place alone knows: everybody else is spared their changes.
const KEPT_CRATES: &[(&str, &str)] = &[("delta_kernel", "source/delta"), ("serde_saphyr", "config/yaml")];

/// Where SQL text may stand, by the beginning of the path under `src`.
const SQL_PLACES: &[&str] = &["destination", "store", "postgres", "serve/lookup", "serve/statement", "encode/hash_sql"];

/// A Rust file, read and split.
struct Source {
    /// From the folder `src` or `tests`, with slashes.
    path: String,
    text: String,
    tokens: Vec<Token>,
}

impl Source {
    /// Whether all of it is compiled for tests alone.
    fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs") || self.path.contains("/tests/")
    }

    /// What goes into the product.
    fn product(&self) -> impl Iterator<Item = (usize, &Token)> {
        let whole = self.is_test();
        self.tokens.iter().enumerate().filter(move |(_, token)| !whole && !token.test)
    }

    /// Whether the path begins with a module's: `config/yaml` for `config/yaml.rs` and `config/yaml/mod.rs`.
    fn is_in(&self, module: &str) -> bool {
        self.path.strip_prefix(module).is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below a folder of the repository.
fn sources(folder: &str) -> Vec<Source> {
    let base = root().join(folder);
    let sources: Vec<Source> = files(&base)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(&base).unwrap().to_str().unwrap().to_owned();
            Source { path, tokens: tokens::tokens(&text), text }
        })
        .collect();
    assert!(!sources.is_empty(), "{folder} holds no Rust files");
    sources
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Fails with all findings at once.
fn none(findings: Vec<String>) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn modules_use_only_the_layers_below_them() {
    let mut findings = Vec::new();
    for source in sources("src") {
        match source.path.as_str() {
            "lib.rs" => {}
            "main.rs" => findings.extend(main_violations(&source.tokens)),
            path => findings.extend(layers::violations(path, &source.tokens)),
        }
    }
    none(findings);
}

/// The binary knows the command line alone.
fn main_violations(tokens: &[Token]) -> Vec<String> {
    tokens
        .windows(4)
        .filter(|path| path[0].is_word("lakegate") && path[1].is_mark(':') && !path[3].is_word("cli"))
        .map(|path| format!("src/main.rs:{}: the binary may use `cli` alone", path[0].line))
        .collect()
}

#[test]
fn what_one_place_alone_knows_is_named_nowhere_else() {
    let mut findings = Vec::new();
    for source in sources("src") {
        for (name, place) in KEPT_CRATES.iter().filter(|(_, place)| !source.is_in(place)) {
            let named = source.tokens.iter().filter(|token| token.is_word(name));
            findings
                .extend(named.map(|token| format!("src/{}:{}: {name} belongs to {place}", source.path, token.line)));
        }
    }
    none(findings);
}

#[test]
fn sql_stands_where_it_belongs_and_identifiers_are_quoted_by_one_function() {
    let mut findings = Vec::new();
    for source in sources("src") {
        let may_hold_sql = SQL_PLACES.iter().any(|place| source.is_in(place));
        let may_quote = source.is_in("postgres/identifier");
        for (_, token) in source.product() {
            let Kind::Text(text) = &token.kind else { continue };
            let place = format!("src/{}:{}", source.path, token.line);
            if is_sql(text) && !may_hold_sql {
                findings.push(format!("{place}: SQL outside {}: {text:?}", SQL_PLACES.join(", ")));
            }
            if quotes_identifiers(text) && !may_quote {
                findings.push(format!("{place}: identifiers are quoted by postgres/identifier.rs: {text:?}"));
            }
        }
    }
    let strays = files(&root().join("src")).into_iter().filter(|path| path.extension().is_some_and(|e| e == "sql"));
    for path in strays {
        let path = path.strip_prefix(root().join("src")).unwrap().to_str().unwrap().to_owned();
        if !SQL_PLACES.iter().any(|place| path.starts_with(place)) {
            findings.push(format!("src/{path}: SQL outside {}", SQL_PLACES.join(", ")));
        }
    }
    none(findings);
}

/// Whether a literal is, or begins, a statement for Postgres. Prose that only begins with a keyword lacks the second.
fn is_sql(text: &str) -> bool {
    const OBJECTS: &[&str] = &[
        "TABLE", "UNLOGGED", "SCHEMA", "VIEW", "INDEX", "UNIQUE", "ROLE", "DATABASE", "FUNCTION", "SEQUENCE", "OR",
        "DEFAULT", "TYPE",
    ];
    let words: Vec<&str> = text.split_whitespace().collect();
    let has = |word: &str| words.contains(&word);
    match words.as_slice() {
        ["BEGIN" | "COMMIT" | "ROLLBACK"]
        | ["INSERT", "INTO", ..]
        | ["DELETE", "FROM", ..]
        | ["LOCK", "TABLE", ..]
        | ["SET", "LOCAL", ..]
        | ["WITH", _, "AS", ..]
        | ["TRUNCATE" | "LISTEN" | "NOTIFY" | "ANALYZE", _] => true,
        ["SELECT", ..] => has("FROM") || text.contains('(') || text.contains('$') || words.len() == 2,
        ["UPDATE", ..] => has("SET"),
        ["CREATE" | "ALTER" | "DROP", object, ..] => OBJECTS.contains(object),
        ["COPY", ..] => has("FROM") || has("TO"),
        ["GRANT", ..] => has("TO"),
        ["REVOKE", ..] => has("FROM"),
        _ => false,
    }
}

/// Whether a literal doubles quotes, or puts a name between quotes inside a statement.
fn quotes_identifiers(text: &str) -> bool {
    text == "\"\"" || (is_sql(text) && text.contains("\"{"))
}

#[test]
fn sql_is_told_from_prose() {
    for sql in ["SELECT 1", "SELECT a FROM b", "CREATE UNLOGGED TABLE x", "UPDATE a SET b = 1", "COMMIT", "LISTEN x"] {
        assert!(is_sql(sql), "{sql}");
    }
    for prose in ["SELECT on schema lake is missing", "COPY stage", "UPDATE is refused", "CREATE is missing", "copy"] {
        assert!(!is_sql(prose), "{prose}");
    }
    assert!(quotes_identifiers("CREATE TABLE \"{name}\" ()") && !quotes_identifiers("say \"{name}\""));
}

#[test]
fn files_stay_small() {
    let mut findings = Vec::new();
    for folder in ["src", "tests"] {
        for source in sources(folder) {
            let lines = source.text.lines().count();
            if lines > LINES_MAX {
                findings.push(format!("{folder}/{}: {lines} lines, {LINES_MAX} at most", source.path));
            }
        }
    }
    none(findings);
}

#[test]
fn modules_are_named_after_concepts() {
    let mut findings = Vec::new();
    for source in sources("src") {
        for part in source.path.trim_end_matches(".rs").split('/') {
            if part.split('_').any(|word| EMPTY_NAMES.contains(&word)) {
                findings.push(format!("src/{}: `{part}` names no concept", source.path));
            }
        }
    }
    none(findings);
}

#[test]
fn nothing_is_left_open() {
    // Spelled in parts, so that a search for them finds what is really left open.
    let (fix_me, three_x) = (concat!("FIX", "ME"), concat!("XX", "X"));
    let mut findings = Vec::new();
    for folder in ["src", "tests"] {
        for source in sources(folder) {
            for (number, line) in (1..).zip(source.text.lines()) {
                if line.contains(fix_me) || line.contains(three_x) {
                    findings.push(format!("{folder}/{}:{number}: {}", source.path, line.trim()));
                }
            }
            for (at, token) in source.tokens.iter().enumerate() {
                let before = at.checked_sub(1).map(|at| &source.tokens[at]);
                let after = source.tokens.get(at + 1);
                let open = match token.word() {
                    Some("todo" | "unimplemented") => after.is_some_and(|after| after.is_mark('!')),
                    Some("ignore") => before.is_some_and(|before| before.is_mark('[')),
                    Some("dead_code") => true,
                    _ => false,
                };
                if open {
                    findings.push(format!("{folder}/{}:{}: {:?}", source.path, token.line, token.kind));
                }
            }
        }
    }
    none(findings);
}

#[test]
fn the_product_does_not_panic_on_purpose() {
    let mut findings = Vec::new();
    for source in sources("src") {
        for (at, token) in source.product().filter(|(at, _)| may_panic(&source.tokens, *at)) {
            findings.push(format!("src/{}:{}: {:?}", source.path, source.tokens[at].line, token.kind));
        }
    }
    none(findings);
}

/// Whether `.unwrap(` or `.expect(` is called here; in a constant it is the compiler that calls it.
fn may_panic(tokens: &[Token], at: usize) -> bool {
    let called = tokens.get(at + 1).is_some_and(|after| after.is_mark('('));
    let method = at > 0 && tokens[at - 1].is_mark('.');
    let mut statement = tokens[..at].iter().rev().take_while(|token| !";{}".chars().any(|end| token.is_mark(end)));
    called
        && method
        && (tokens[at].is_word("unwrap") || tokens[at].is_word("expect"))
        && !statement.any(|token| token.is_word("const") || token.is_word("static"))
}

#[test]
fn calls_that_may_panic_are_told_from_others() {
    let panics = |source: &str| {
        let tokens = tokens::tokens(source);
        (0..tokens.len()).filter(|at| may_panic(&tokens, *at)).count()
    };
    assert_eq!(panics("fn f() { a.unwrap(); b?.expect(\"c\") } const fn g() { h.unwrap() }"), 3);
    assert_eq!(panics("const A: B = C.unwrap(); #[expect(d)] fn unwrap() { e.unwrap_or(f); g(i.unwrap) }"), 0);
}

#[test]
fn every_error_code_has_its_page() {
    let folder = root().join("docs/errors");
    let mut findings = Vec::new();
    for code in Code::ALL {
        let page = fs::read_to_string(folder.join(format!("{code}.md"))).unwrap_or_default();
        let title = format!("# {code}: {}", code.title());
        if page.lines().next() != Some(title.as_str()) {
            findings.push(format!("docs/errors/{code}.md should begin with {title:?}"));
            continue;
        }
        for part in ["\n## Causes\n", "\n## What to do\n", "\n## Example\n"] {
            if !page.contains(part) {
                findings.push(format!("docs/errors/{code}.md has no part {:?}", part.trim()));
            }
        }
        let example = page.rsplit("\n## Example\n").next().unwrap_or_default();
        if !example.contains(&code.to_string()) {
            findings.push(format!("docs/errors/{code}.md shows no {code} in its example"));
        }
    }
    let known: BTreeSet<String> = Code::ALL.iter().map(|code| format!("{code}.md")).collect();
    for path in files(&folder) {
        let name = path.file_name().unwrap().to_str().unwrap();
        if name != "README.md" && !known.contains(name) {
            findings.push(format!("docs/errors/{name} is the page of no code"));
        }
    }
    none(findings);
}

/// Run with `LAKEGATE_TEST_BLESS=1` to write the index again.
#[test]
fn the_index_of_error_pages_is_complete() {
    const SECTIONS: &[(u16, &str)] = &[
        (0, "Lakegate itself"),
        (1, "Configuration"),
        (2, "Source"),
        (3, "Values"),
        (4, "Postgres"),
        (5, "Verify and publish"),
        (6, "Read API"),
        (7, "Schedule and admin API"),
    ];
    let mut index = String::from(
        "# Error codes\n\nEvery error has a stable code, a detail that says what happened where, and mostly a hint. \
         Codes are never used again for something else.\n",
    );
    for (digit, section) in SECTIONS {
        write!(index, "\n## {section}\n\n| code | what it says |\n|---|---|\n").unwrap();
        for code in Code::ALL.iter().filter(|code| code.number() / 1000 == *digit) {
            writeln!(index, "| [{code}]({code}.md) | {} |", code.title()).unwrap();
        }
    }
    assert!(Code::ALL.iter().all(|code| code.number() / 1000 <= 7), "a code without a section");

    let path = root().join("docs/errors/README.md");
    if std::env::var_os("LAKEGATE_TEST_BLESS").is_some() {
        fs::write(&path, &index).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), index, "run this test with LAKEGATE_TEST_BLESS=1");
}

#[test]
fn files_in_git_are_small() {
    // A source archive has no list of files, and nothing but files of the repository.
    if !root().join(".git").exists() {
        return;
    }
    // Whoever owns the clone: its list of files is only read.
    let listed = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-files", "-z"])
        .current_dir(root())
        .output()
        .expect("git is needed to list the files of the repository");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("Cargo.toml\0"), "git lists other files than these");

    let mut findings = Vec::new();
    for path in listed.split_terminator('\0') {
        // Listed but not there: deleted and not yet committed.
        let bytes = fs::symlink_metadata(root().join(path)).map_or(0, |metadata| metadata.len());
        if bytes > FILE_BYTES_MAX {
            findings.push(format!("{path}: {bytes} bytes, {FILE_BYTES_MAX} at most"));
        }
    }
    none(findings);
}
