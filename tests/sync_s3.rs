//! Syncs from an S3-compatible store, through the binary.

use tempfile::TempDir;

use crate::support::lake::LakeTable;
use crate::support::project::TestProject;
use crate::support::s3::S3Server;
use crate::support::shown::steady;

/// A Delta table of 500 rows, ten of them deleted, in the bucket `lake`; version 2.
async fn bucket() -> (TempDir, S3Server) {
    let root = tempfile::tempdir().unwrap();
    let (schema, batch) = LakeTable::numbered(0..500);
    let mut table = LakeTable::create(&root.path().join("lake/gold/items"), &schema, vec![batch]).await;
    table.delete("id >= 100 and id < 110").await;
    let server = S3Server::start(root.path()).await;
    (root, server)
}

/// A project whose pipeline has the server's credentials among its options, the secret by reference.
async fn with_options(server: &S3Server, secret: &str) -> TestProject {
    let mut project = TestProject::new().await;
    project.set("LAKE_SECRET", secret);
    let yaml = format!(
        "source:\n  delta:\n    uri: s3://lake/gold/items\n    options:\n      aws_endpoint_url: {}\n      \
         aws_region: us-east-1\n      aws_access_key_id: {}\n      aws_secret_access_key: env:LAKE_SECRET\n\
         primary_key: [id]\n",
        server.endpoint,
        S3Server::ACCESS_KEY
    );
    project.pipeline("items", &yaml);
    project
}

async fn assert_synced(project: &TestProject) {
    let outcome = project.sync("items").await;
    assert_eq!((&outcome["rows_inserted"], &outcome["source_version"]), (&490.into(), &"2".into()), "{outcome}");
    let rows = project.sql().await.query_one("SELECT count(*), sum(id)::bigint FROM lake.items", &[]).await.unwrap();
    assert_eq!((rows.get::<_, i64>(0), rows.get::<_, i64>(1)), (490, (0..500).sum::<i64>() - (100..110).sum::<i64>()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_synced_with_credentials_from_the_environment() {
    let (_root, server) = bucket().await;
    let mut project = TestProject::new().await;
    server.env().iter().for_each(|(name, value)| project.set(name, value));
    project.pipeline("items", "source: s3://lake/gold/items\nprimary_key: [id]\n");
    assert_synced(&project).await;
    assert_eq!(project.sync("items").await["state"], "skipped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_synced_with_credentials_from_options() {
    let (_root, server) = bucket().await;
    let project = with_options(&server, S3Server::SECRET_KEY).await;
    assert_synced(&project).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_refused_and_not_repeated() {
    let (_root, server) = bucket().await;
    let project = with_options(&server, "a-wrong-secret").await;
    let error = project.sync_fails("items").await;
    assert_eq!(error["code"], "LG2002", "{error}");
    assert!(error["detail"].as_str().unwrap().contains("s3://lake/gold/items"), "{error}");
    let shown = project.run(&["sync", "items"]).await.stderr;
    insta::assert_snapshot!("wrong_credentials", steady(&project, &shown, &[]));
    let stored = project.sql().await.query_one("SELECT error::text FROM lakegate.runs LIMIT 1", &[]).await.unwrap();
    for text in [&shown, &stored.get::<_, String>(0), &error.to_string()] {
        assert!(!text.contains("a-wrong-secret") && !text.contains(S3Server::SECRET_KEY), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_does_not_exist_is_named() {
    let (root, server) = bucket().await;
    std::fs::remove_dir_all(root.path().join("lake")).unwrap();
    let project = with_options(&server, S3Server::SECRET_KEY).await;
    let error = project.sync_fails("items").await;
    assert_eq!(error["code"], "LG2001", "{error}");
    assert_eq!(error["detail"], "s3://lake/gold/items: the store answered 404 Not Found (NoSuchBucket)");
}
