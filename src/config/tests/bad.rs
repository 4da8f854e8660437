//! What a person sees for each kind of bad input.

use std::fmt::Write;

use crate::domain::Code;

use super::{Loaded, Problems, folder, load, load_files, load_pipeline, load_project};

/// Renders cases one after the other, each under its input.
#[derive(Default)]
struct Report(String);

impl Report {
    fn case(&mut self, input: &str, loaded: Result<Loaded, Problems>) {
        let problems = loaded.expect_err(input);
        let input = if input.ends_with('\n') { input.to_owned() } else { format!("{input}\n") };
        writeln!(self.0, "──────── input\n{input}──────── shown\n{}", problems.render(false)).unwrap();
    }

    fn pipelines(cases: &[&str]) -> String {
        let mut report = Report::default();
        cases.iter().for_each(|rest| report.case(rest, load_pipeline(rest, &[])));
        report.0
    }

    fn projects(cases: &[&str]) -> String {
        let mut report = Report::default();
        cases.iter().for_each(|text| report.case(text, load_project(text, &[])));
        report.0
    }
}

#[test]
fn broken_yaml() {
    insta::assert_snapshot!(Report::pipelines(&[
        "schedule: */5 * * * *\n",
        "schedule: @daily\n",
        "grants: [a, b\nretain: 1\n",
        "serve: {hide: [${COLUMN}]}\n",
        "serve:\n\tenabled: true\n",
        "transform: \"SELECT 1\n",
        "name orders\nretain: 1\n",
        "retain: 1\n retain: 2\n",
        "columns: !custom {}\n",
        "---\nretain: 1\n",
        "transform: *unknown\n",
        "grants: &loop [*loop]\n",
        "? [a, b]\n: c\n",
    ]));
}

#[test]
fn unknown_missing_and_repeated_keys() {
    let mut report = Report(Report::pipelines(&[
        "primary_kye: [id]\n",
        "colour: blue\n",
        "retain: 1\nretain: 2\n",
        "serve: {enabeld: false, hide: [a], page_limit: 5, nothing: 1}\n",
        "columns: {rename: {a: b, a: c}}\n",
        "on_bad_row: {reject: {}}\n",
    ]));
    let empty = [("pipelines/empty.yaml", "# nothing yet\n")];
    report.case("an empty file", load_files(&empty, &[]));
    let list = [("pipelines/list.yaml", "- source: x\n")];
    report.case("- source: x\n", load_files(&list, &[]));
    let bare = [("pipelines/bare.yaml", "source: {delta: {version: 3}}\n")];
    report.case("source: {delta: {version: 3}}\n", load_files(&bare, &[]));
    insta::assert_snapshot!(report.0);
}

#[test]
fn wrong_values_of_a_pipeline() {
    insta::assert_snapshot!(Report::pipelines(&[
        "retain: many\nallow_empty: yes\ntimeout: 5 minutes\n",
        "retain: \"3\"\n",
        "retain: -1\n",
        "publish_timeout: 400d\n",
        "freshness: 10s\n",
        "deprecated: {sunset: soon, link: example.org}\n",
        "deprecated: {since: 2026-12-31, sunset: 2026-01-01}\n",
        "deprecated: {link: \"https://me:secret@example.org\"}\n",
        "mode: snapshott\n",
        "on_schema_change: [fail]\n",
        "on_duplicate_key: latest\n",
        "grants: analyst\n",
        "grants: [a, \"\", a, 5]\n",
        "indexes: [[], [a, a], b, b]\n",
        "transform:\n",
        "serve: true\n",
        "serve: {roles: []}\n",
        "serve: {roles: [a b]}\n",
        "serve: {roles: support}\n",
        "serve: {roles: {a: {hied: [x]}, b: [x]}}\n",
        "serve: {roles: {a b: {}}}\n",
        "serve: {row_filter: tenant}\n",
        "serve: {row_filter: {}}\n",
        "serve: {row_filter: {a: b c}}\n",
        "serve: {row_filter: {a: [b]}}\n",
        "serve: {rate_limit: 5}\n",
        "serve: {rate_limit: {}}\n",
        "serve: {rate_limit: {caller: 0/s, tabel: 5/s}}\n",
        "columns: {include: [a], exclude: [b]}\n",
        "columns: {rename: {a: x, b: x}}\n",
        "columns: {types: {a: varchar(10), b: numeric(90,2), c: bigintt}}\n",
        "schedule: 15m\n",
        "schedule: every 100ms\n",
        "schedule: every 1000d\n",
        "schedule: now and then\n",
        "schedule: \"61 * * * *\"\n",
        "schedule: \"0 0 L * *\"\n",
        "schedule: \"0 0 30 2 *\"\n",
        "schedule: daily\ntimezone: Europe/Berln\n",
        "transform: SELECT $${X} FROM ${source\n",
    ]));
}

#[test]
fn wrong_checks() {
    insta::assert_snapshot!(Report::pipelines(&[
        "checks: strict\n",
        "checks: {not_nul: [a], row_counts: {min: 1}, freshness: 1h}\n",
        "checks: {row_count: 5}\n",
        "checks: {row_count: {min: -1, max: 1.5, max_change_percent: 5%}}\n",
        "checks: {row_count: {min: 10, max: 5}}\n",
        "checks: {row_count: {max_change_percent: -1}}\n",
        "checks: {not_null: email}\n",
        "checks: {not_null: [a, a, 5]}\n",
        "checks: {unique: a}\n",
        "checks: {unique: [a, [b, c], [b, c], [], [d, d]]}\n",
        "checks: {accepted_values: [a]}\n",
        "checks: {accepted_values: {a: b, c: [], d: [1, 1], e: [x, null], f: [[x]]}}\n",
        "checks: {sql: SELECT 1}\n",
        "checks: {sql: [\"\", {name: a}, {query: SELECT 1, nam: a}, [SELECT 1]]}\n",
        "checks: {sql: [{name: a, query: SELECT 1}, {name: a, query: SELECT 2}]}\n",
    ]));
}

#[test]
fn bounds_that_contradict_the_defaults_are_refused() {
    let mut report = Report::default();
    let files = [
        ("lakegate.yaml", "defaults: {checks: {row_count: {min: 10}}}\n"),
        ("pipelines/a.yaml", "source: a\nprimary_key: id\nchecks: {row_count: {max: 5}}\n"),
    ];
    report.case("min: 10 in the defaults, max: 5 in the pipeline", load_files(&files, &[]));
    insta::assert_snapshot!(report.0);
}

#[test]
fn wrong_sources_and_keys() {
    let mut report = Report::default();
    for text in [
        "source: {}\nprimary_key: []\n",
        "source: {delta: {uri: a}, parquet: {uri: b}}\nprimary_key: [id, id]\n",
        "source: {iceberg: {uri: a}}\nprimary_key: {id: 1}\n",
        "source: {delta: {uri: a, version: 1, timestamp: 2024-01-01}}\nprimary_key: 5\n",
        "source: {delta: {uri: a, timestamp: yesterday}}\nprimary_key: true\n",
        "source: {parquet: {uri: a, options: {Region: x, region: y, timeout: [1]}}}\nprimary_key:\n",
    ] {
        report.case(text, load_files(&[("pipelines/orders.yaml", text)], &[]));
    }
    insta::assert_snapshot!(report.0);
}

#[test]
fn wrong_names() {
    let good = "source: a\nprimary_key: id\n";
    let mut report = Report::default();
    report.case("pipelines/My-Orders.yaml", load_files(&[("pipelines/My-Orders.yaml", good)], &[]));
    report.case("name: Orders\n", load_pipeline("name: Orders\n", &[]));
    let same = [("pipelines/a.yaml", "name: b\nsource: a\nprimary_key: id\n"), ("pipelines/b.yaml", good)];
    report.case("pipelines/a.yaml and pipelines/b.yaml are both b", load_files(&same, &[]));
    let named = [("pipelines/a.yaml", good), ("pipelines/b.yml", "name: a\nsource: a\nprimary_key: id\n")];
    report.case("pipelines/a.yaml and pipelines/b.yml are both a", load_files(&named, &[]));
    insta::assert_snapshot!(report.0);
}

#[test]
fn wrong_values_of_a_project() {
    insta::assert_snapshot!(Report::projects(&[
        "projcet: x\nproject: a b\n",
        "postgres: host=db user=me\n",
        "postgres: mysql://db/x\n",
        "postgres: env:NO_SUCH_VARIABLE\n",
        "postgres: file:no/such/file\n",
        "schemas: {published: Lake, data: pg_data, control: 1a}\n",
        "schemas: {data: lake, control: lake}\n",
        "schemas: {control: a_name_of_58_letters_which_leaves_the_name_of_roles_no_way}\n",
        "schemas: {published: lakegate}\n",
        "pipelines: no/such/folder\n",
        "api: {listen: localhost:8080, hosts: example.org}\n",
        "api: {tls: {certificate: a.pem}}\n",
        "api: {access_log: true}\n",
        "api: {access_log: 1.5}\n",
        "api: {access_log: \"1\"}\n",
        "admin: {listen: 8081, tls: {}}\n",
        "auth: everybody\n",
        "auth: {}\n",
        "auth: {keys: false}\n",
        "auth: {keys: perhaps, kyes: true}\n",
        "auth: {jwt: {}}\n",
        "auth: {keys: true, jwt: {issuer: i, audience: a}}\n",
        "auth: {jwt: {issuer: i, audience: a, secret: a secret that stands in the file itself}}\n",
        "auth: {jwt: {issuer: i, audience: a, secret: \"${SHORT_SECRET:-}\"}}\n",
        "auth: {jwt: {issuer: i, audience: [], jwks: \"https://u:pw@host/keys\"}}\n",
        "auth: {jwt: {issuer: i, audience: a, jwks: \"http://example.com/keys\", clock_skew: 1h}}\n",
        "auth: {jwt: {issuer: i, audience: a, jwks: keys.json, secret: env:JWT_SECRET}}\n",
        "api: {cors: {}}\n",
        "api: {cors: [\"https://app.example.com/\", app.example.com]}\n",
        "limits: {memory: 1GB, connections: 1, page_max: 0, statement_timeout: 1m, concurrent_runs: 1.5}\n",
        "limits: {memory: 1KiB}\n",
        "alerts: {}\n",
        "alerts: {webhook: ftp://host/x, mail: me}\n",
        "alerts: {webhook: env:NO_SUCH_VARIABLE}\n",
        "defaults: {name: a, source: b, primary_key: c, retain: -1, retian: 2}\n",
    ]));
}

#[test]
fn what_is_not_built_yet() {
    let mut report = Report::default();
    let text = "pipelines: s3://bucket/pipelines\n";
    report.case(text, load_project(text, &[]));
    insta::assert_snapshot!(report.0);
}

#[test]
fn groups_that_do_not_run_as_one() {
    let mut report = Report(Report::pipelines(&["group: Sales\n", "group: [sales]\n"]));
    let pipeline = |rest: &str| format!("source: lake\nprimary_key: id\n{rest}");
    for [lines, orders] in [
        ["group: sales\nschedule: hourly\n", "group: sales\nschedule: every 1h\n"],
        ["group: sales\n", "schedule: hourly\ngroup: sales\n"],
        ["group: sales\nschedule: daily\n", "group: sales\nschedule: daily\ntimezone: Europe/Berlin\n"],
        ["group: sales\nschedule: daily\n", "group: sales\n"],
    ] {
        let (lines, orders) = (pipeline(lines), pipeline(orders));
        let files = [("pipelines/lines.yaml", lines.as_str()), ("pipelines/orders.yaml", orders.as_str())];
        report.case(&format!("{lines}---\n{orders}"), load_files(&files, &[]));
    }
    insta::assert_snapshot!(report.0);
}

#[test]
fn wrong_variables() {
    let mut report = Report::default();
    for env in [
        [("LAKEGATE_LIMITS_MEMORY", "plenty"), ("LAKEGATE_API_LISTEN", "nowhere")],
        [("LAKEGATE_DEFAULTS_RETAIN", "x"), ("LAKEGATE_DEFAULTS_SERVE_HIDE", "[a, a]")],
        [("LAKEGATE_API_CORS_ORIGINS", "x"), ("LAKEGATE_API_TLS", "x")],
        [("LAKEGATE_API_HOSTS", "[a"), ("LAKEGATE_SCHEMAS_DATA", "lake")],
        [("LAKEGATE_API", "5"), ("LAKEGATE_AUTH", "all")],
    ] {
        report.case(&format!("{env:?}"), load_project("", &env));
    }
    let filled = "retain: ${RETAIN}\ntimeout: \"${TIMEOUT}\"\ngrants: [\"${ROLE}\"]\nmode: '${MODE}'\n";
    report.case(filled, load_pipeline(filled, &[("RETAIN", "hunter2"), ("TIMEOUT", "hunter2")]));
    insta::assert_snapshot!(report.0);
}

#[test]
fn files_that_cannot_be_read() {
    let mut report = Report::default();
    let dir = folder(&[("pipelines/b.yaml/inside", ""), ("pipelines/a.yaml", "")]);
    std::fs::write(dir.path().join("pipelines/a.yaml"), b"name: \xff\n").unwrap();
    std::fs::write(dir.path().join("pipelines/c.yaml"), "# padding\n".repeat(120_000)).unwrap();
    report.case("not UTF-8, a folder, and too large", load(dir.path(), &[("A", "b")].into_iter().collect()));
    let bomb = "a: &a [x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b, *b]\n\
                d: &d [*c, *c, *c, *c, *c, *c, *c, *c]\ne: &e [*d, *d, *d, *d, *d, *d, *d, *d]\nf: [*e, *e, *e, *e, *e, *e]\n";
    report.case("an alias bomb", load_files(&[("pipelines/a.yaml", bomb)], &[]));
    let deep = format!("grants: {}\n", "[".repeat(100));
    report.case("deep nesting", load_files(&[("pipelines/a.yaml", &deep)], &[]));
    insta::assert_snapshot!(report.0);
}

#[test]
fn a_folder_without_a_project_is_refused() {
    let dir = folder(&[]);
    let problems = load(dir.path(), &super::Environment::default()).unwrap_err();
    let shown = problems.render(false).replace(&dir.path().display().to_string(), "[folder]");
    insta::assert_snapshot!(shown.split_whitespace().collect::<Vec<_>>().join(" "));
    let env = [("LAKEGATE_POSTGRES", "postgres://db")].into_iter().collect();
    let problems = load(&dir.path().join("missing"), &env).unwrap_err();
    assert_eq!(problems.iter().map(super::super::Problem::code).collect::<Vec<_>>(), [Code::ProjectNotFound]);
}

#[test]
fn every_file_is_reported_in_one_go() {
    let files = [
        ("lakegate.yaml", "limits: {memory: x}\n"),
        ("pipelines/a.yaml", "source: [\n"),
        ("pipelines/b.yaml", "source: a\nprimary_key: id\nretain: x\nmode: y\n"),
        ("pipelines/c.yaml", "primary_key: id\n"),
    ];
    let problems = load_files(&files, &[("LAKEGATE_AUTH", "x")]).unwrap_err();
    let places: Vec<String> = problems
        .iter()
        .map(|problem| format!("{} {:?} {:?}", problem.code(), problem.file(), problem.line_and_column()))
        .collect();
    insta::assert_snapshot!(places.join("\n"));
    insta::assert_snapshot!("as_json", serde_json::to_string_pretty(&problems).unwrap());
    let error = crate::domain::Error::from(problems);
    insta::assert_snapshot!("as_one_error", format!("{error}\nhint: {}", error.advice().unwrap()));
}
