//! What counts as a change of a project that is read again.

use super::{load_pipeline, load_project};
use crate::domain::{Pipeline, Project};

fn pipeline(rest: &str, secret: &str) -> Pipeline {
    load_pipeline(rest, &[("SECRET", secret)]).unwrap().project.pipelines.remove(0)
}

#[test]
fn the_same_file_declares_the_same_pipeline_and_a_changed_one_another() {
    let texts = [
        "",
        "schedule: \"*/5 9-17 * * mon-fri\"\ntimezone: Europe/Berlin\n",
        "schedule: \"0 12 * * 1\"\ntimezone: Europe/Berlin\n",
        "schedule: \"0 12 * * 1\"\n",
        "schedule: every 15m\n",
        "serve: {hide: [a]}\n",
        "serve: {hide: [a, b]}\n",
        "serve: {roles: [a]}\n",
        "checks: {row_count: {min: 1}}\n",
        "columns: {rename: {a: b}}\n",
        "grants: [analyst]\n",
    ];
    for (at, one) in texts.iter().enumerate() {
        for (other_at, other) in texts.iter().enumerate() {
            assert_eq!(pipeline(one, "").is_same(&pipeline(other, "")), at == other_at, "{one}{other}");
        }
    }
    let with = |secret| {
        let text =
            "source: {delta: {uri: lake/orders, options: {aws_secret_access_key: env:SECRET}}}\nprimary_key: id\n";
        let files = [("pipelines/orders.yaml", text)];
        super::load_files(&files, &[("SECRET", secret)]).unwrap().project.pipelines.remove(0)
    };
    assert!(with("one").is_same(&with("one")) && !with("one").is_same(&with("other")));
}

#[test]
fn settings_that_need_a_restart_are_named() {
    let project = |text: &str, secret: &str| -> Project {
        let text = format!("{text}\nalerts: {{webhook: env:SECRET}}\n");
        load_project(&text, &[("SECRET", secret)]).unwrap().project
    };
    let before = project("project: mine", "https://host/one");
    let mut after = project(
        "project: other\nschemas: {data: elsewhere}\napi: {listen: 127.0.0.1:1, hosts: [a], access_log: 1}\nauth: none\n\
         admin: {listen: 127.0.0.1:2}\nlimits: {page_max: 7}",
        "https://host/other",
    );
    let all =
        ["project", "schemas", "api.listen", "api.hosts", "api.access_log", "admin.listen", "auth", "alerts", "limits"];
    assert_eq!(before.settings_that_differ(&after), all);
    // The id of a file that could not be written to.
    after.id = None;
    assert_eq!(before.settings_that_differ(&after), all[1..]);
    let defaults = project("project: mine\ndefaults: {retain: 3}", "https://host/one");
    assert!(before.settings_that_differ(&defaults).is_empty());
}
