//! Files of the project and the command line itself.

use std::fs;

use super::{ITEMS, items, refused};
use crate::support::project::TestProject;
use crate::support::shown::refusal;

#[tokio::test]
async fn faults_of_files_are_shown_with_their_lines() {
    for (name, yaml) in [
        ("yaml_syntax", "source: lake/items\nprimary_key: [id\nschedule: every 15m\n"),
        ("cron_without_quotes", "source: lake/items\nprimary_key: [id]\nschedule: */5 * * * *\n"),
        ("unknown_key", "source: lake/items\nprimary_kye: [id]\n"),
        ("wrong_value", "source: lake/items\nprimary_key: [id]\ntimeout: 5 minutes\n"),
        ("missing_key", "source: lake/items\n"),
        ("not_built_yet", "source: lake/items\nprimary_key: [id]\ndeprecated: {}\n"),
        ("unset_variable", "source: ${LAKE}/items\nprimary_key: [id]\n"),
    ] {
        let project = items(yaml).await;
        let ran = project.run(&["sync"]).await;
        let shown = refusal(&project, &ran, &[]);
        assert_eq!(ran.code, Some(1), "{shown}");
        insta::assert_snapshot!(name, shown);
    }
}

#[tokio::test]
async fn a_secret_in_the_open_is_refused_and_not_repeated() {
    let mut project = TestProject::new().await;
    fs::write(project.path("lakegate.yaml"), "postgres: postgres://me:hunter2@db.example.com/lake\n").unwrap();
    project.pipeline(
        "items",
        "source:\n  delta:\n    uri: s3://lake/items\n    options:\n      aws_secret_access_key: hunter2\nprimary_key: [id]\n",
    );
    project.unset("LAKEGATE_POSTGRES");
    let ran = project.run(&["validate"]).await;
    let shown = refusal(&project, &ran, &[]);
    assert!(!shown.contains("hunter2"), "{shown}");
    insta::assert_snapshot!("secret_in_the_open", shown);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named() {
    let project = items(ITEMS).await;
    // A link to itself cannot be opened by anybody, root included.
    std::os::unix::fs::symlink("loop.yaml", project.path("pipelines/loop.yaml")).unwrap();
    refused!("unreadable_pipeline_file", project, "validate");
}

#[tokio::test]
async fn a_folder_that_is_no_project_is_refused() {
    let mut project = TestProject::new().await;
    fs::remove_dir(project.path("pipelines")).unwrap();
    project.unset("LAKEGATE_POSTGRES");
    project.unset("LAKEGATE_API_LISTEN");
    project.unset("LAKEGATE_ADMIN_LISTEN");
    let ran = project.run(&["sync"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    insta::assert_snapshot!("not_a_project", refusal(&project, &ran, &[]));
}

#[tokio::test]
async fn an_unknown_pipeline_is_answered_with_those_there_are() {
    let project = items(ITEMS).await;
    refused!("unknown_pipeline", project, "sync" "itmes");
}

#[tokio::test]
async fn a_project_without_pipelines_says_how_to_make_one() {
    let project = TestProject::new().await;
    refused!("no_pipelines", project, "sync");
}

#[tokio::test]
async fn a_wrong_command_line_is_answered_with_the_right_one() {
    let project = items(ITEMS).await;
    refused!("unknown_command", project, "snyc");
    refused!("unknown_option", project, "sync" "--fulll");
    refused!("missing_argument", project, "get" "items");
    refused!("drop_without_yes", project, "drop" "items");
}

#[tokio::test]
async fn wrong_usage_is_a_record_for_programs() {
    let project = items(ITEMS).await;
    let ran = project.run(&["get", "items", "--output", "json"]).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), ""));
    let error = &ran.json()[0]["error"];
    assert_eq!(error["code"], "LG1013");
    assert_eq!(error["detail"], "the following required arguments were not provided: <KEY>...");
}
