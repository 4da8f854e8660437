//! The tables of keys in `docs/configuration.md` are those of the loader.

use std::path::Path;
use std::{env, fs};

use crate::config::reference;

/// The text with what stands between the markers of `name` replaced.
fn with_table(text: &str, name: &str, table: &str) -> String {
    let begin = format!("<!-- keys of {name}: written by the tests with LAKEGATE_TEST_BLESS=1 -->\n");
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("there is no `{begin}`"));
    let (_, after) = rest.split_once("<!-- end -->").expect("the end of the table");
    format!("{before}{begin}\n{table}\n<!-- end -->{after}")
}

#[test]
fn the_tables_of_keys_are_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let text = fs::read_to_string(&path).unwrap();
    let expected = with_table(&text, "a pipeline", &reference::pipeline());
    let expected = with_table(&expected, "the project", &reference::project());
    if env::var_os("LAKEGATE_TEST_BLESS").is_some() {
        fs::write(&path, &expected).unwrap();
        return;
    }
    assert!(text == expected, "docs/configuration.md is out of date: run the tests with LAKEGATE_TEST_BLESS=1");
}

#[test]
fn every_key_is_in_its_table_with_its_default() {
    let pipeline = reference::pipeline();
    for row in [
        "| `source` | text or mapping | required |",
        "| `source.delta.version` | whole number, 0 or more |  |",
        "| `timeout` | duration | `6h` |",
        "| `mode` | `auto` or `snapshot` or `incremental` | `auto` |",
        "| `serve.page_limit` | whole number, 1 to 4294967295 | `100` |",
    ] {
        assert!(pipeline.contains(row), "{row}\n{pipeline}");
    }
    let project = reference::project();
    assert!(project.contains("| `limits.memory` | size | `256MiB` |"), "{project}");
    assert!(!project.contains("`defaults.mode`"), "{project}");
}
