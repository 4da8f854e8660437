//! Secrets never show.

use super::{Environment, load_files};

const SECRET: &str = "hunter2hunter2";

#[test]
fn secrets_in_files_are_refused_and_starred_out() {
    let mut shown = String::new();
    for (file, text) in [
        ("lakegate.yaml", "postgres: postgres://me:hunter2hunter2@db/app\n"),
        ("lakegate.yaml", "postgres: \"postgres://me:${PW:-hunter2hunter2}@db/app\"\n"),
        ("lakegate.yaml", "postgres: postgres://db/app?user=me&password=hunter2hunter2\n"),
        ("lakegate.yaml", "postgres: >-\n  postgres://me:hunter2hunter2@db/app\n"),
        ("lakegate.yaml", "alerts: {webhook: \"https://me:hunter2hunter2@host/x\"}\n"),
        ("lakegate.yaml", "alerts:\n  webhook: https://hunter2hunter2@host/x\n"),
        ("lakegate.yaml", "alerts: {webhook: \"https://host/x?a=b&token=hunter2hunter2\"}\n"),
        (
            "pipelines/a.yaml",
            "source: {delta: {uri: a, options: {aws_secret_access_key: hunter2hunter2}}}\nprimary_key: id\n",
        ),
        (
            "pipelines/a.yaml",
            "source:\n  delta:\n    uri: a\n    options:\n      sas_token: |\n        hunter2hunter2\nprimary_key: id\n",
        ),
        (
            "pipelines/a.yaml",
            "source: {parquet: {uri: a, options: {my_key: '${X:-hunter2hunter2}'}}}\nprimary_key: id\n",
        ),
        (
            "pipelines/a.yaml",
            "source: {parquet: {uri: a, options: {password: \"${PW:-hunter2hunter2}\"}}}\nprimary_key: id\n",
        ),
    ] {
        let problems = load_files(&[(file, text)], &[]).expect_err(text);
        let codes: Vec<_> = problems.iter().map(|problem| problem.code().number()).collect();
        assert_eq!(codes, [1007], "{text}");
        shown += &problems.render(false);
    }
    insta::assert_snapshot!(shown);
    assert!(!shown.contains("hunter2"));
}

#[test]
fn secrets_show_in_no_other_problem_and_no_debug_output() {
    let env = [("URL", "postgres://me:hunter2hunter2@db"), ("PW", SECRET), ("LAKEGATE_AUTH", SECRET)];
    for (file, text) in [
        ("lakegate.yaml", "postgres: postgres://me:hunter2hunter2@db\nlimits: [\n"),
        ("lakegate.yaml", "limits: 5\npostgres: host=db password=hunter2hunter2\n"),
        ("lakegate.yaml", "postgres: env:URL\nretain: 5\n"),
        ("lakegate.yaml", "limits: {memory: \"${PW}\"}\nproject: \"${PW} x\"\nschemas: {data: \"A${PW}\"}\n"),
        ("lakegate.yaml", "api_token: hunter2hunter2\n"),
        ("lakegate.yaml", "alerts: {webhook: env:PW}\n"),
        ("lakegate.yaml", "alerts: {webhook: \"https:/${PW}\"}\nlimits: 5\n"),
        ("pipelines/a.yaml", "aws_secret_access_key: hunter2hunter2\n"),
        (
            "pipelines/a.yaml",
            "name: \"${PW}!\"\nretain: ${PW}\nmode: ${PW}\nschedule: ${PW}\ncolumns: {types: {a: \"${PW}\"}}\n",
        ),
        ("pipelines/a.yaml", "source: {delta: {uri: a, options: {aws_secret_access_key: hunter2hunter2}}\n"),
        ("pipelines/a.yaml", "source: {delta: {uri: a, options: {account_key: [hunter2hunter2, b]}}}\n"),
        ("pipelines/a.yaml", "source: {delta: {uri: a, options: {b: \"file:${PW}\"}, timestamp: \"${PW}\"}}\n"),
    ] {
        let problems = load_files(&[(file, text)], &env).expect_err(text);
        let json = serde_json::to_string(&problems).unwrap();
        let all =
            format!("{}{problems:?}{json}{}", problems.render(true), crate::domain::Error::from(problems.clone()));
        assert!(!all.contains("hunter2"), "{text}{all}");
    }
    let source = "source: {delta: {uri: a, options: {aws_secret_access_key: \"${PW}\"}}}\nprimary_key: id\n";
    let files = [("lakegate.yaml", "postgres: env:URL\n"), ("pipelines/a.yaml", source)];
    let loaded = load_files(&files, &env[..2]).unwrap();
    assert!(!format!("{loaded:?}").contains("hunter2"));
    assert!(!format!("{:?}", env.into_iter().collect::<Environment>()).contains("hunter2"));
}
