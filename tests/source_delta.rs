//! Delta tables of our own making: versions, deletes, and what goes wrong.

use std::fs;
use std::path::{Path, PathBuf};

use lakegate::domain::{Code, DeltaSource, SourcePin, SourceSpec, StorageOptions};
use lakegate::source::Source;

use crate::support::lake::LakeTable;
use crate::support::rows::{BUDGET, context, count, drain, local, read};

#[tokio::test(flavor = "multi_thread")]
async fn every_version_is_read_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (schema, batch) = LakeTable::numbered(0..100);
    let mut table = LakeTable::create(dir.path(), &schema, vec![batch.clone()]).await;
    table.append(vec![LakeTable::numbered(100..150).1]).await;
    table.update("name", "'new'", "id = 7").await;
    table.overwrite(vec![LakeTable::numbered(0..3).1]).await;
    let mut ids = Vec::new();
    for (version, rows) in [(1, 100), (2, 150), (3, 150), (4, 3)] {
        let (source, batches) = read(&pinned(dir.path(), SourcePin::Version(version))).await.unwrap();
        assert_eq!(source.version().version, version.to_string());
        assert_eq!(source.size().rows, Some(rows));
        let counts = count(&batches, &schema);
        assert_eq!(counts.values().sum::<u64>(), rows, "version {version}");
        assert_eq!(counts.contains_key("7 | new"), version == 3);
        ids.push(source.version().table_id.clone().unwrap());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_not_there_is_said_with_those_that_are() {
    let dir = tempfile::tempdir().unwrap();
    let (schema, batch) = LakeTable::numbered(0..3);
    LakeTable::create(dir.path(), &schema, vec![batch]).await;
    let error = Source::open(&pinned(dir.path(), SourcePin::Version(9)), &context()).await.unwrap_err();
    assert_eq!(error.code(), Code::VersionUnavailable, "{error}");
    assert!(error.detail().contains("versions 0 to 1 are there"), "{error}");
    let before = SourcePin::TimestampMillis(0);
    let error = Source::open(&pinned(dir.path(), before), &context()).await.unwrap_err();
    assert_eq!(error.code(), Code::VersionUnavailable, "{error}");
    let now = SourcePin::TimestampMillis(chrono::Utc::now().timestamp_millis() + 60_000);
    let source = Source::open(&pinned(dir.path(), now), &context()).await.unwrap();
    assert_eq!(source.version().version, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_projected_in_the_order_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (schema, batch) = LakeTable::numbered(0..10);
    LakeTable::create_with(dir.path(), &schema, vec![batch], &["name"], &[]).await;
    let source = Source::open(&local(dir.path()), &context()).await.unwrap();
    assert_eq!(source.partition_columns(), ["name"]);
    for names in [vec!["name", "id"], vec!["name"], vec!["id"]] {
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let scan = source.scan(Some(&names), 2, BUDGET).unwrap();
        let batches = tokio::task::spawn_blocking(move || drain(scan)).await.unwrap().unwrap();
        assert_eq!(batches.iter().map(arrow_array::RecordBatch::num_rows).sum::<usize>(), 10);
        let found: Vec<&String> = batches[0].schema_ref().fields().iter().map(|field| field.name()).collect();
        assert_eq!(found, names.iter().collect::<Vec<_>>());
    }
    let error = source.scan(Some(&["nmae".to_owned()]), 1, BUDGET).unwrap_err();
    assert_eq!(error.code(), Code::ColumnMissing);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_file_that_is_gone_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (schema, batch) = LakeTable::numbered(0..10);
    LakeTable::create(dir.path(), &schema, vec![batch]).await;
    let file = data_file(dir.path());
    fs::remove_file(&file).unwrap();
    let error = read(&local(dir.path())).await.unwrap_err();
    assert_eq!(error.code(), Code::FileGone, "{error}");
    assert!(error.detail().contains(file.file_name().unwrap().to_str().unwrap()), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_disagrees_with_the_log_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (schema, batch) = LakeTable::numbered(0..10);
    LakeTable::create(dir.path(), &schema, vec![batch]).await;
    let commit = dir.path().join("_delta_log/00000000000000000001.json");
    let log = fs::read_to_string(&commit).unwrap();
    let wrong = log.replace(r#"\"numRecords\":10"#, r#"\"numRecords\":11"#);
    assert_ne!(wrong, log, "{log}");
    fs::write(&commit, wrong).unwrap();
    let error = read(&local(dir.path())).await.unwrap_err();
    assert_eq!(error.code(), Code::RowCountDisagrees, "{error}");
    assert!(error.detail().contains(".parquet"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_and_a_missing_table_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (schema, batch) = LakeTable::numbered(0..10);
    LakeTable::create(dir.path(), &schema, vec![batch]).await;
    fs::write(dir.path().join("_delta_log/00000000000000000001.json"), "{\"add\":{").unwrap();
    let error = read(&local(dir.path())).await.unwrap_err();
    assert_eq!(error.code(), Code::SourceCorrupt, "{error}");
    let empty = tempfile::tempdir().unwrap();
    let spec = SourceSpec::Delta(DeltaSource { uri: uri(empty.path()), pin: None, options: StorageOptions::new() });
    let error = Source::open(&spec, &context()).await.unwrap_err();
    assert_eq!(error.code(), Code::SourceNotFound, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn demands_that_are_not_met_are_refused_by_name() {
    for feature in ["catalogManaged", "catalogOwned-preview", "geospatial", "adaptiveMetadata-preview", "fromTheFuture"]
    {
        let dir = tempfile::tempdir().unwrap();
        let (schema, batch) = LakeTable::numbered(0..10);
        LakeTable::create(dir.path(), &schema, vec![batch]).await;
        let commit = dir.path().join("_delta_log/00000000000000000000.json");
        let log = fs::read_to_string(&commit).unwrap();
        let others = log.lines().filter(|line| !line.starts_with(r#"{"protocol""#)).collect::<Vec<_>>().join("\n");
        let features = format!(r#"["{feature}"]"#);
        let protocol = format!(
            r#"{{"protocol":{{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":{features},"writerFeatures":{features}}}}}"#
        );
        fs::write(&commit, format!("{protocol}\n{others}\n")).unwrap();
        let error = Source::open(&local(dir.path()), &context()).await.unwrap_err();
        assert_eq!(error.code(), Code::UnsupportedFeature, "{feature}: {error}");
        let name = if feature.starts_with("catalog") { "catalog" } else { feature };
        assert!(error.detail().contains(name) && error.detail().contains(dir.path().to_str().unwrap()), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_scan_stops() {
    let dir = tempfile::tempdir().unwrap();
    let (schema, batch) = LakeTable::numbered(0..10);
    LakeTable::create(dir.path(), &schema, vec![batch]).await;
    let source = Source::open(&local(dir.path()), &context()).await.unwrap();
    let mut scan = source.scan(None, 1, BUDGET).unwrap();
    scan.cancel.cancel();
    let mut worker = scan.workers.remove(0);
    let error = tokio::task::spawn_blocking(move || worker.next()).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_workers_of_a_scan_that_fails_end_with_the_cause() {
    let dir = tempfile::tempdir().unwrap();
    let (schema, batch) = LakeTable::numbered(0..10);
    let mut table = LakeTable::create(dir.path(), &schema, vec![batch]).await;
    let gone = data_file(dir.path());
    table.append(vec![LakeTable::numbered(10..20).1]).await;
    fs::remove_file(&gone).unwrap();
    let source = Source::open(&local(dir.path()), &context()).await.unwrap();
    let scan = source.scan(None, 2, BUDGET).unwrap();
    let errors = tokio::task::spawn_blocking(move || {
        let fail = |mut worker: lakegate::source::ScanWorker| loop {
            if let Some(error) = worker.next().transpose().and_then(Result::err) {
                return error;
            }
        };
        scan.workers.into_iter().map(fail).collect::<Vec<_>>()
    });
    for error in errors.await.unwrap() {
        assert_eq!(error.code(), Code::FileGone, "{error}");
        assert!(error.detail().contains(gone.file_name().unwrap().to_str().unwrap()), "{error}");
    }
}

fn uri(dir: &Path) -> String {
    dir.to_str().unwrap().to_owned()
}

fn pinned(dir: &Path, pin: SourcePin) -> SourceSpec {
    SourceSpec::Delta(DeltaSource { uri: uri(dir), pin: Some(pin), options: StorageOptions::new() })
}

fn data_file(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "parquet")).unwrap()
}
