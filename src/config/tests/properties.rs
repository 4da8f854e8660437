//! What holds for any input.

use proptest::prelude::*;

use super::{load_files, load_pipeline, load_project};

/// Lines that look like configuration, so that more than the parser is reached.
fn configuration() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "name",
        "source",
        "primary_key",
        "columns",
        "transform",
        "mode",
        "schedule",
        "on_bad_row",
        "indexes",
        "grants",
        "serve",
        "retain",
        "timeout",
        "postgres",
        "schemas",
        "limits",
        "memory",
        "api",
        "listen",
        "defaults",
        "options",
        "delta",
        "uri",
    ]);
    let value = prop::sample::select(vec![
        "",
        "1",
        "-1",
        "[a, b]",
        "{a: b}",
        "every 5m",
        "${X}",
        "${X:-é}",
        "\"${",
        "'a'",
        "|",
        "&a x",
        "*a",
        "fail",
        "5m",
        "1GiB",
        "postgres://u:p@h",
        "env:X",
        "\"\\u0000\"",
        "é",
        "<<",
        "!!str 5",
        "{reject: {max_rows: 1}}",
        "@",
        "\t",
    ]);
    let line =
        (0_usize..4, key, value).prop_map(|(depth, key, value)| format!("{}{key}: {value}\n", "  ".repeat(depth)));
    prop::collection::vec(line, 0..12).prop_map(|lines| lines.concat())
}

/// Loads text as each kind of file and renders what is wrong with it.
fn survives(text: &str) {
    let env = [("X", "é")];
    for loaded in [
        load_project(text, &env),
        load_pipeline(text, &env),
        load_files(&[("pipelines/a.yaml", text)], &env),
        load_project("", &[("LAKEGATE_API_HOSTS", text), ("LAKEGATE_DEFAULTS", text), ("LAKEGATE_API_LISTEN", text)]),
    ] {
        if let Err(problems) = loaded {
            assert!(!problems.render(false).is_empty());
            assert!(serde_json::to_string(&problems).unwrap().contains("LG1"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn no_text_makes_the_loader_panic(text in any::<String>()) {
        survives(&text);
    }

    #[test]
    fn no_configuration_makes_the_loader_panic(text in configuration()) {
        survives(&text);
    }

    #[test]
    fn a_secret_beside_any_fault_never_shows(
        name in prop::sample::select(vec!["password", "aws_secret_access_key", "azure_storage_account_key", "sas_token"]),
        quote in prop::sample::select(vec!["", "'", "\""]),
        secret in "[a-zA-Z0-9+/]{16}",
        before in configuration(),
        after in configuration(),
    ) {
        let text = format!("{before}source:\n  delta:\n    options:\n      {name}: {quote}{secret}{quote}\n{after}");
        if let Err(problems) = load_files(&[("pipelines/a.yaml", &text)], &[]) {
            prop_assert!(!problems.render(false).contains(&secret), "{}", problems.render(false));
        }
    }
}
