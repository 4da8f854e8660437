//! What files and variables mean.

use std::path::Path;
use std::time::Duration;

use secrecy::ExposeSecret;

use super::{Environment, folder, load, load_files, load_pipeline, load_project};
use crate::domain::{Auth, Credentials, Deprecation, JwtKeys, Pipeline, Project, Rate, RateLimit, SourceSpec};

fn pipeline(rest: &str, env: &[(&str, &str)]) -> Pipeline {
    load_pipeline(rest, env).unwrap().project.pipelines.remove(0)
}

fn project(text: &str, env: &[(&str, &str)]) -> Project {
    load_project(text, env).unwrap().project
}

#[test]
fn two_lines_make_a_pipeline() {
    insta::assert_debug_snapshot!(pipeline("", &[]));
}

#[test]
fn every_key_of_a_pipeline_is_read() {
    let text = r#"
name: orders
source:
  delta:
    uri: "s3://${BUCKET}/orders"
    version: 12
    options: {aws_region: eu-west-1, AWS_SECRET_ACCESS_KEY: env:SECRET, allow_http: true}
primary_key: [tenant, order_id]
columns:
  exclude: [internal]
  rename: {o_id: order_id}
  types: {total: "numeric(12,2)", payload: jsonb, at: timestamptz}
transform: |
  SELECT *, '${not filled}' AS note FROM source
mode: snapshot
schedule: every 15m
group: sales
on_duplicate_key: {latest_by: updated_at}
on_bad_row: {reject: {max_rows: 100}}
on_schema_change: follow
checks:
  row_count: {min: 1, max: 5000000, max_change_percent: 12.5}
  not_null: [email]
  unique: [email, [tenant, number]]
  accepted_values: {status: [open, "", 'it''s'], grade: [1, 2.50], active: [true]}
  sql:
    - SELECT 1 WHERE false
    - {name: totals, query: SELECT * FROM orders WHERE total < 0}
allow_empty: true
verify: full
indexes: [customer_id, [tenant, updated_at]]
grants: [analyst, "Reporting Team"]
freshness: 2h
retain: 0
timeout: 90m
publish_timeout: 30s
serve:
  enabled: false
  hide: [email]
  page_limit: 500
  cache_ttl: 90s
  roles: {support: {hide: [price]}, "ops:all": {}, plain: }
  row_filter: {tenant: tenant_id}
  rate_limit: {caller: 100/s, table: 6000/10m}
deprecated: {since: 2026-01-01, sunset: "2026-12-31T23:59:59Z", link: "https://example.org/größe?a=<b>"}
"#;
    let env = [("BUCKET", "lake"), ("SECRET", "hunter2")];
    let loaded = load_files(&[("pipelines/any-stem.yml", text)], &env).unwrap();
    insta::assert_debug_snapshot!(loaded.project.pipelines[0]);
    let SourceSpec::Delta(delta) = &loaded.project.pipelines[0].source else { panic!("not a Delta source") };
    assert_eq!(delta.options["aws_secret_access_key"].expose_secret(), "hunter2");
    assert_eq!(delta.options["allow_http"].expose_secret(), "true");
}

#[test]
fn a_table_is_to_go_only_where_that_is_declared() {
    let deprecated = |rest: &str| pipeline(rest, &[]).serve.deprecated;
    assert_eq!(deprecated(""), None);
    assert_eq!(deprecated("deprecated: {}\n"), Some(Deprecation::default()));
}

#[test]
fn a_parquet_source_and_a_pinned_instant_are_read() {
    let text = "source: {parquet: {uri: data/*.parquet, hive_partitioning: false}}\nprimary_key: id\n";
    let delta = "source: {delta: {uri: d, timestamp: 2024-02-29T12:00:00+02:00}}\nprimary_key: id\n";
    let day = "source: {delta: {uri: d, timestamp: 2024-02-29}}\nprimary_key: id\n";
    let files = [("pipelines/p.yaml", text), ("pipelines/q.yaml", delta), ("pipelines/r.yaml", day)];
    let project = load_files(&files, &[]).unwrap().project;
    let sources: Vec<_> = project.pipelines.into_iter().map(|pipeline| pipeline.source).collect();
    insta::assert_debug_snapshot!(sources);
}

#[test]
fn an_empty_project_has_all_defaults() {
    let mut project = project("", &[]);
    project.dir = "[folder]".into();
    insta::assert_debug_snapshot!(project);
}

#[test]
fn every_key_of_a_project_is_read() {
    let text = r#"
project: 0190-abc
postgres: postgres://me:${PGPASS}@db:5432/app
schemas: {published: gold, data: gold_data, control: gold_control}
pipelines: tables/
api: {listen: "[::1]:0", hosts: [data.example.org], cors: ["https://app.example.org"], tls: {certificate: tls/api.pem, key: /etc/lakegate/api.key}, access_log: 0.01}
auth: none
alerts: {webhook: "https://hooks.example.org/${HOOK}"}
limits: {memory: 1GiB, cache_memory: 0, connections: 16, page_max: 50, batch_keys_max: 20, statement_timeout: 500ms, concurrent_runs: 4}
defaults:
  retain: 3
  grants: [analyst]
  serve: {page_limit: 7, hide: [secret]}
"#;
    let table = "source: a\nprimary_key: id\nserve: {page_limit: 9}\ngrants: []\n";
    let files =
        [("lakegate.yaml", text), ("tables/b.yaml", table), ("tables/.hidden.yaml", "["), ("tables/c.txt", "[")];
    let mut project = load_files(&files, &[("PGPASS", "hunter2"), ("HOOK", "abc")]).unwrap().project;
    project.dir = "[folder]".into();
    if let Some(tls) = &mut project.api.tls {
        tls.certificate = "[folder]/tls/api.pem".into();
    }
    insta::assert_debug_snapshot!(project);
    assert_eq!(project.postgres.unwrap().expose_secret(), "postgres://me:hunter2@db:5432/app");
    assert_eq!(project.alerts.unwrap().webhook.expose_secret(), "https://hooks.example.org/abc");
}

#[test]
fn a_variable_goes_before_the_file_and_the_file_before_the_default() {
    let file = "limits: {memory: 1MiB}\ndefaults: {timeout: 1h}\n";
    let settings = |env: &[(&str, &str)]| {
        let files = [("lakegate.yaml", file), ("pipelines/a.yaml", "source: a\nprimary_key: id\n")];
        let project = load_files(&files, env).unwrap().project;
        (project.limits.memory, project.limits.connections, project.pipelines[0].timeout.as_secs())
    };
    assert_eq!(settings(&[]), (1 << 20, 8, 3_600));
    let env = [
        ("LAKEGATE_LIMITS_MEMORY", "2MiB"),
        ("LAKEGATE_LIMITS_CONNECTIONS", "9"),
        ("LAKEGATE_DEFAULTS_TIMEOUT", "2h"),
        ("LAKEGATE_POSTGRES", ""),
    ];
    assert_eq!(settings(&env), (2 << 20, 9, 7_200));
}

#[test]
fn a_pipeline_goes_before_the_defaults_even_those_of_variables() {
    let env = [("LAKEGATE_DEFAULTS_RETAIN", "5"), ("LAKEGATE_DEFAULTS_SERVE_PAGE_LIMIT", "6")];
    let pipeline = pipeline("retain: 2\n", &env);
    assert_eq!((pipeline.retain, pipeline.serve.page_limit), (2, 6));
}

#[test]
fn checks_of_the_defaults_hold_where_a_pipeline_declares_none_of_the_kind() {
    let files = [
        ("lakegate.yaml", "defaults: {checks: {row_count: {min: 1, max: 9}, not_null: [a]}}\n"),
        ("pipelines/a.yaml", "source: a\nprimary_key: id\nchecks: {row_count: {max: 5}, unique: [b]}\n"),
    ];
    let checks = load_files(&files, &[]).unwrap().project.pipelines.remove(0).checks;
    assert_eq!((checks.row_count.min, checks.row_count.max), (Some(1), Some(5)));
    assert_eq!((checks.not_null, checks.unique), (vec!["a".to_owned()], vec![vec!["b".to_owned()]]));
    assert!(self::pipeline("checks: {}\n", &[]).checks.is_empty());
    assert_eq!(self::pipeline("", &[("LAKEGATE_DEFAULTS_CHECKS_NOT_NULL", "[a]")]).checks.not_null, ["a"]);
}

#[test]
fn variables_alone_make_a_project() {
    let env: Environment = [
        ("LAKEGATE_POSTGRES", "postgres://me:pw@db/app"),
        ("LAKEGATE_API_LISTEN", "[::1]:9000"),
        ("LAKEGATE_API_HOSTS", "[a.example, b.example]"),
        ("LAKEGATE_AUTH", "none"),
        ("LAKEGATE_PROJECT", "12345"),
        ("LAKEGATE_SCHEMAS_CONTROL", "control"),
    ]
    .into_iter()
    .collect();
    let loaded = load(folder(&[]).path(), &env).unwrap();
    let project = loaded.project;
    assert!(loaded.warnings.is_empty());
    assert_eq!(project.postgres.unwrap().expose_secret(), "postgres://me:pw@db/app");
    assert_eq!(project.api.listen.to_string(), "[::1]:9000");
    assert_eq!(project.api.hosts, ["a.example", "b.example"]);
    assert!(matches!(project.auth, Auth::None));
    assert_eq!(project.id.as_deref(), Some("12345"));
    assert_eq!(project.schemas.control, "control");
}

#[test]
fn roles_may_be_a_list_and_a_row_filter_of_a_pipeline_stands_alone() {
    let serve = pipeline("serve: {roles: [support, ops], row_filter: {a: b}}\n", &[]).serve;
    let roles = serve.roles.unwrap();
    assert!(roles.keys().eq(["ops", "support"]) && roles.values().all(|role| role.hide.is_empty()));
    assert_eq!(serve.row_filter["a"], "b");
}

#[test]
fn a_rate_alone_is_each_callers() {
    let limit = pipeline("serve: {rate_limit: 100/s}\n", &[]).serve.rate_limit;
    assert_eq!(limit, Some(RateLimit { caller: Some(Rate { rows: 100, seconds: 1 }), table: None }));
}

#[test]
fn tokens_are_taken_as_the_file_or_the_environment_says() {
    let secret = "thirty-two bytes or more of a secret";
    let jwt = |text: &str, env: &[(&str, &str)]| {
        let mut all = vec![("JWT_SECRET", secret)];
        all.extend(env);
        match load_project(text, &all).unwrap().project.auth {
            Auth::Required(Credentials { jwt: Some(jwt), keys: false }) => jwt,
            other => panic!("{other:?}"),
        }
    };
    let by_secret = jwt("auth: {jwt: {issuer: i, audience: a, secret: env:JWT_SECRET}}\n", &[]);
    assert!(matches!(&by_secret.keys, JwtKeys::Secret(read) if read.expose_secret() == secret));
    assert_eq!((by_secret.clock_skew, by_secret.roles.as_str()), (Duration::from_secs(30), "roles"));
    assert!(!format!("{by_secret:?}").contains("thirty"));
    let url = "auth:\n  jwt:\n    issuer: i\n    audience: [a, b]\n    jwks: https://id.example.com/keys\n    clock_skew: 0s\n    \
               roles: /realm/roles\n";
    let by_url = jwt(url, &[("LAKEGATE_AUTH_JWT_ISSUER", "j")]);
    assert!(matches!(&by_url.keys, JwtKeys::Url(url) if url.as_str() == "https://id.example.com/keys"));
    assert_eq!(
        (by_url.issuer.as_str(), by_url.audience, by_url.clock_skew),
        ("j", vec!["a".to_owned(), "b".to_owned()], Duration::ZERO)
    );
    for jwks in ["http://localhost:8080/keys", "http://127.0.0.1/keys", "\"http://[::1]/keys\""] {
        assert!(matches!(
            jwt(&format!("auth: {{jwt: {{issuer: i, audience: a, jwks: {jwks}}}}}\n"), &[]).keys,
            JwtKeys::Url(_)
        ));
    }
    let by_file = jwt("auth: {jwt: {issuer: i, audience: a, jwks: keys.json}}\n", &[]);
    assert!(matches!(&by_file.keys, JwtKeys::File(path) if path.is_absolute() && path.ends_with("keys.json")));
}

#[test]
fn api_keys_are_asked_for_where_the_file_or_the_environment_says_so() {
    let declared = load(folder(&[("lakegate.yaml", "auth: {keys: true}\n")]).path(), &Environment::default()).unwrap();
    let env = [("LAKEGATE_AUTH", "{keys: true}")].into_iter().collect();
    let overridden = load(folder(&[]).path(), &env).unwrap();
    for loaded in [declared, overridden] {
        assert!(matches!(loaded.project.auth, Auth::Required(credentials) if credentials.keys));
    }
}

#[test]
fn unknown_variables_of_ours_are_warned_about_and_others_are_not() {
    let env = [
        ("LAKEGATE_API_LISTNE", "127.0.0.1:1"),
        ("LAKEGATE_WHATEVER_ELSE", "x"),
        ("LAKEGATE_DIR", "x"),
        ("LAKEGATE_LOG", "debug"),
        ("LAKEGATE_TEST_BLESS", "1"),
        ("OTHER", "x"),
    ];
    let warnings = load_project("", &env).unwrap().warnings;
    let shown: Vec<String> = warnings.iter().map(|warning| warning.render(false)).collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn variables_are_filled_in_where_the_contract_says_so() {
    let env = [("V", "x y"), ("N", "4"), ("B", "true")];
    let rest = "retain: ${N}\nallow_empty: \"${B}\"\ngrants: [\"${V}\", '${V}', \"a$$b\", \"${NONE:-d}\"]\n";
    let pipeline = pipeline(rest, &env);
    assert_eq!((pipeline.retain, pipeline.allow_empty), (4, true));
    assert_eq!(pipeline.grants, ["x y", "${V}", "a$b", "d"]);
    assert_eq!(self::pipeline("transform: ${V}\n  ${V}\n", &env).transform.unwrap(), "x y x y");
    assert_eq!(self::pipeline("transform: |2-\n\n   \"${V}\"\n", &env).transform.unwrap(), "\n \"${V}\"");
}

#[test]
fn secrets_are_read_from_files_and_variables() {
    let files = [("lakegate.yaml", "postgres: file:secrets/url\n"), ("secrets/url", "postgres://me:pw@db/app\r\n")];
    let project = load_files(&files, &[]).unwrap().project;
    assert_eq!(project.postgres.unwrap().expose_secret(), "postgres://me:pw@db/app");
    let project = self::project("postgres: env:URL\n", &[("URL", "postgresql://db")]);
    assert_eq!(project.postgres.unwrap().expose_secret(), "postgresql://db");
    let project = self::project("alerts: {webhook: env:HOOK}\n", &[("HOOK", "https://me:pw@host/x?token=t")]);
    assert_eq!(project.alerts.unwrap().webhook.expose_secret(), "https://me:pw@host/x?token=t");
    let project = self::project("", &[("LAKEGATE_ALERTS_WEBHOOK", "http://host")]);
    assert_eq!(project.alerts.unwrap().webhook.expose_secret(), "http://host");
}

#[test]
fn aliases_merges_byte_order_marks_and_line_ends_of_windows_are_understood() {
    let text = "\u{feff}source: a\r\nprimary_key: &k [id]\r\nindexes: [*k]\r\nserve: &s {page_limit: 3}\r\n";
    let project = load_files(&[("pipelines/a.yaml", text)], &[]).unwrap().project;
    assert_eq!(project.pipelines[0].indexes, [["id"]]);
    assert_eq!(project.pipelines[0].serve.page_limit, 3);
}

#[test]
fn pipelines_come_in_the_order_of_their_names() {
    let text = |name: &str| format!("name: {name}\nsource: a\nprimary_key: id\n");
    let (b, a) = (text("b"), text("a"));
    let project = load_files(&[("pipelines/1.yaml", &b), ("pipelines/2.yaml", &a)], &[]).unwrap().project;
    let names: Vec<_> = project.pipelines.iter().map(|p| (p.name.as_str(), p.file.as_path())).collect();
    assert_eq!(names, [("a", Path::new("pipelines/2.yaml")), ("b", Path::new("pipelines/1.yaml"))]);
    assert_eq!(project.pipelines[0].publish_timeout, Duration::from_secs(3_600));
}

#[test]
fn pipelines_of_a_group_may_spell_their_schedule_differently() {
    let pipeline = |rest: &str| format!("source: lake\nprimary_key: id\n{rest}");
    let (lines, orders) = (pipeline("schedule: hourly\n"), pipeline("schedule: \"0 * * * *\"\n"));
    let alone = pipeline("schedule: daily\ngroup: other\n");
    let files = [
        ("lakegate.yaml", "defaults: {group: all}\n"),
        ("pipelines/alone.yaml", alone.as_str()),
        ("pipelines/lines.yaml", lines.as_str()),
        ("pipelines/orders.yaml", orders.as_str()),
    ];
    let pipelines = load_files(&files, &[]).unwrap().project.pipelines;
    let groups: Vec<&str> = pipelines.iter().map(|pipeline| pipeline.group.as_ref().unwrap().as_str()).collect();
    assert_eq!(groups, ["other", "all", "all"]);
}
