//! Sources in an S3-compatible object store.

use std::fs;

use lakegate::domain::{Code, DeltaSource, SourceSpec, StorageOptions};
use lakegate::source::{Format, Source, SourceContext};
use secrecy::SecretString;

use crate::support::lake::LakeTable;
use crate::support::rows::{BUDGET, context, count, drain};
use crate::support::s3::S3Server;

#[tokio::test(flavor = "multi_thread")]
async fn a_delta_table_is_read_with_credentials_from_the_environment() {
    let root = tempfile::tempdir().unwrap();
    let (schema, batch) = LakeTable::numbered(0..500);
    let mut table = LakeTable::create(&root.path().join("lake/my orders"), &schema, vec![batch.clone()]).await;
    table.delete("id >= 100 and id < 110").await;
    let server = S3Server::start(root.path()).await;
    let context = SourceContext { project_dir: "/".into(), env: server.env() };

    let spec = SourceSpec::Auto("s3://lake/my%20orders".to_owned());
    let source = Source::open(&spec, &context).await.unwrap();
    assert_eq!(source.format(), Format::Delta);
    assert_eq!(source.address(), "s3://lake/my orders");
    assert_eq!(source.version().version, table.version().to_string());
    assert_eq!(Source::current_version(&spec, &context).await.unwrap(), *source.version());

    let scan = source.scan(None, 2, BUDGET).unwrap();
    let batches = tokio::task::spawn_blocking(move || drain(scan)).await.unwrap().unwrap();
    let mut expected = count(&[batch], &schema);
    for id in 100..110 {
        expected.remove(&format!("{id} | row {id}"));
    }
    assert_eq!(count(&batches, &schema), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn parquet_files_are_read_with_credentials_from_options() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("lake/plain")).unwrap();
    let (schema, batch) = LakeTable::numbered(0..50);
    let file = fs::File::create(root.path().join("lake/plain/a.parquet")).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, schema.clone(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let server = S3Server::start(root.path()).await;

    for uri in ["s3://lake/plain", "s3a://lake/plain/a.parquet", "s3://lake/plain/*.parquet"] {
        let source = Source::open(&server.parquet(uri), &context()).await.unwrap();
        let scan = source.scan(None, 2, BUDGET).unwrap();
        let batches = tokio::task::spawn_blocking(move || drain(scan)).await.unwrap().unwrap();
        assert_eq!(count(&batches, &schema), count(std::slice::from_ref(&batch), &schema), "{uri}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_refused_and_not_shown() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("lake")).unwrap();
    let server = S3Server::start(root.path()).await;
    let mut options = server.options();
    options.insert("aws_secret_access_key".to_owned(), SecretString::from("a-wrong-secret"));
    let error = Source::open(&delta("s3://lake/orders", options), &context()).await.unwrap_err();
    assert_eq!(error.code(), Code::SourceAccess, "{error}");
    assert!(!format!("{error:?}").contains("a-wrong-secret"), "{error:?}");
    assert!(error.detail().contains("s3://lake/orders"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_and_who_does_not_answer_are_told_apart() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("lake")).unwrap();
    let server = S3Server::start(root.path()).await;
    let error = Source::open(&delta("s3://lake/nothing", server.options()), &context()).await.unwrap_err();
    assert_eq!(error.code(), Code::SourceNotFound, "{error}");

    let mut options = server.options();
    options.insert("aws_endpoint_url".to_owned(), SecretString::from("http://127.0.0.1:1"));
    options.insert("max_retries".to_owned(), SecretString::from("0"));
    let error = Source::open(&delta("s3://lake/orders", options), &context()).await.unwrap_err();
    assert_eq!(error.code(), Code::SourceUnavailable, "{error}");
}

fn delta(uri: &str, options: StorageOptions) -> SourceSpec {
    SourceSpec::Delta(DeltaSource { uri: uri.to_owned(), pin: None, options })
}
