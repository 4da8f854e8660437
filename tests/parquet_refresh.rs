//! Refreshes of Parquet files without a log: files that were added are appended, everything else is loaded anew.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use parquet::arrow::ArrowWriter;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, IteratorRandom as _};
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;

use crate::support::lake::LakeTable;
use crate::support::process::Process;
use crate::support::project::{TestProject, eventually};
use crate::support::s3::S3Server;

/// A project over a folder of Parquet files (`id`, `name`).
struct Folder {
    project: TestProject,
    dir: PathBuf,
}

impl Folder {
    /// With files of ten rows each, not synced.
    async fn with(files: &[(&str, i64)]) -> Folder {
        let project = TestProject::new().await;
        let folder = Folder { dir: project.path("lake/items"), project };
        files.iter().for_each(|(name, from)| folder.put(name, *from..from + 10));
        folder.declare("lake/items", "");
        folder
    }

    /// The same, synced once.
    async fn synced(files: &[(&str, i64)]) -> Folder {
        let folder = Folder::with(files).await;
        assert_eq!(folder.sync().await["mode"], "snapshot");
        folder
    }

    fn declare(&self, source: &str, further: &str) {
        self.project.pipeline("items", &format!("source: {source}\nprimary_key: [id]\n{further}"));
    }

    /// Writes a file as whole, in the place of another if there is one.
    fn put(&self, name: &str, ids: std::ops::Range<i64>) {
        put(&self.dir.join(name), ids);
    }

    async fn sync(&self) -> Value {
        self.project.sync("items").await
    }

    /// Syncs, and checks the mode, the rows that were written, and that the table equals its source.
    #[track_caller]
    fn expect(&self, mode: &'static str, inserted: u64) -> impl Future<Output = String> {
        let caller = std::panic::Location::caller();
        async move {
            let outcome = self.sync().await;
            let found = (&outcome["mode"], &outcome["rows_inserted"]);
            assert_eq!(found, (&Value::from(mode), &Value::from(inserted)), "{caller}: {outcome}");
            let verified = self.project.run(&["verify", "items", "--output", "json"]).await.ok().json().remove(0);
            if mode != "noop" {
                assert_eq!(verified["checksum"], outcome["checksum"], "{caller}");
            }
            let reason = outcome["reason"].as_str().unwrap();
            reason.split_once("; ").or_else(|| reason.split_once(": ")).map_or(reason, |(_, why)| why).to_owned()
        }
    }

    async fn ids(&self) -> Vec<i64> {
        let rows = self.project.sql().await.query("SELECT id FROM lake.items ORDER BY id", &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// A sync that has stopped itself in the middle of its copy.
    async fn sync_stopped_in_its_copy(&self) -> Process {
        let mut command = self.project.command(&["sync", "items", "--output", "json"]);
        command.env("LAKEGATE_TEST_STOP_AT", lakegate::failpoint::DURING_COPY);
        Process::start(command).stopped().await
    }
}

fn put(path: &Path, ids: std::ops::Range<i64>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let hidden = path.with_file_name("_being_written");
    let (schema, batch) = LakeTable::numbered(ids);
    let mut writer = ArrowWriter::try_new(File::create(&hidden).unwrap(), schema, None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    fs::rename(hidden, path).unwrap();
}

#[tokio::test]
async fn rows_of_new_files_are_appended() {
    let folder = Folder::synced(&[("a.parquet", 0), ("b.parquet", 10)]).await;
    folder.put("c.parquet", 20..25);
    folder.put("deep/a.parquet", 25..30);
    assert_eq!(folder.expect("append", 10).await, "2 files were added");
    assert_eq!(folder.expect("noop", 0).await.split(' ').next(), Some("the"));
    folder.put("d.parquet", 30..31);
    assert_eq!(folder.expect("append", 1).await, "1 file was added");
    folder.put("e.parquet", 0..0);
    assert!(folder.expect("noop", 0).await.ends_with("without a change of data"));
    assert_eq!(folder.ids().await, (0..31).collect::<Vec<_>>());
}

#[tokio::test]
async fn files_that_have_not_changed_are_not_read() {
    let folder = Folder::synced(&[("a.parquet", 0), ("b.parquet", 10)]).await;
    let file = File::options().write(true).open(folder.dir.join("a.parquet")).unwrap();
    let (size, modified) = (file.metadata().unwrap().len(), file.metadata().unwrap().modified().unwrap());
    // The same inode, size and time, but nothing that could be read.
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![0; usize::try_from(size).unwrap()], 0).unwrap();
    file.set_modified(modified).unwrap();
    folder.put("c.parquet", 20..22);
    let outcome = folder.sync().await;
    assert_eq!((&outcome["mode"], &outcome["rows_read"]), (&Value::from("append"), &Value::from(2)), "{outcome}");
    // A full load trusts nothing that was kept.
    let full = folder.project.run(&["sync", "items", "--full", "--output", "json"]).await;
    assert_eq!(full.json()[0]["error"]["code"], "LG2003", "{full:?}");
}

#[tokio::test]
async fn a_replaced_file_is_loaded_anew_even_where_its_size_is_the_same() {
    let folder = Folder::synced(&[("a.parquet", 10), ("b.parquet", 50)]).await;
    let size = |name: &str| fs::metadata(folder.dir.join(name)).unwrap().len();
    let before = size("a.parquet");
    folder.put("a.parquet", 70..80);
    assert_eq!(size("a.parquet"), before);
    let reason = folder.expect("snapshot", 20).await;
    assert_eq!(reason, "`a.parquet` was replaced, whose earlier rows only a full load can tell");
    assert_eq!(folder.ids().await, (50..60).chain(70..80).collect::<Vec<_>>());
}

#[tokio::test]
async fn removed_files_take_their_rows_along() {
    let folder = Folder::synced(&[("a.parquet", 0), ("b.parquet", 10), ("c.parquet", 20)]).await;
    fs::remove_file(folder.dir.join("b.parquet")).unwrap();
    folder.put("d.parquet", 30..40);
    let reason = folder.expect("snapshot", 30).await;
    assert_eq!(reason, "1 file was removed, whose earlier rows only a full load can tell");
    assert_eq!(folder.ids().await, (0..10).chain(20..40).collect::<Vec<_>>());
    fs::rename(folder.dir.join("a.parquet"), folder.dir.join("z.parquet")).unwrap();
    folder.put("c.parquet", 20..30);
    folder.put("d.parquet", 30..41);
    let reason = folder.expect("snapshot", 31).await;
    assert_eq!(reason, "1 file was removed and 2 files were replaced, whose earlier rows only a full load can tell");
    folder.declare("lake/items", "mode: incremental\n");
    fs::remove_file(folder.dir.join("z.parquet")).unwrap();
    let error = folder.project.sync_fails("items").await;
    assert_eq!(error["code"], "LG5011");
    assert!(error["detail"].as_str().unwrap().contains("1 file was removed"), "{error}");
}

#[tokio::test]
async fn a_pattern_and_folders_that_are_columns_are_followed() {
    let folder = Folder::with(&[("day=2024-01-01/a.parquet", 0), ("day=2024-01-01/a.csv", 90)]).await;
    folder.declare("lake/items/*/*.parquet", "");
    folder.expect("snapshot", 10).await;
    folder.put("day=2024-01-02/b.parquet", 10..20);
    folder.put("day=2024-01-02/b.csv", 100..120);
    folder.expect("append", 10).await;
    let days = "SELECT array_agg(DISTINCT day::text ORDER BY day::text) FROM lake.items";
    let days: Vec<String> = folder.project.sql().await.query_one(days, &[]).await.unwrap().get(0);
    assert_eq!(days, ["2024-01-01", "2024-01-02"]);
    // A value that is no date makes text of the column in all rows.
    folder.put("day=later/c.parquet", 20..30);
    folder.declare("lake/items/*/*.parquet", "on_schema_change: follow\n");
    folder.expect("snapshot", 30).await;
}

#[tokio::test]
async fn a_single_file_is_loaded_anew_when_it_is_replaced() {
    let folder = Folder::with(&[("a.parquet", 0), ("b.parquet", 10)]).await;
    folder.declare("lake/items/a.parquet", "");
    folder.expect("snapshot", 10).await;
    folder.put("b.parquet", 20..30);
    folder.expect("noop", 0).await;
    folder.put("a.parquet", 5..15);
    folder.expect("snapshot", 10).await;
}

#[tokio::test]
async fn new_files_with_other_columns_are_loaded_with_all_others() {
    let folder = Folder::synced(&[("a.parquet", 0)]).await;
    let (_, batch) = LakeTable::numbered(10..12);
    let extra: arrow_array::ArrayRef = std::sync::Arc::new(arrow_array::Int64Array::from(vec![1, 2]));
    let columns = [("id", batch.column(0).clone()), ("name", batch.column(1).clone()), ("extra", extra)];
    let batch = arrow_array::RecordBatch::try_from_iter(columns).unwrap();
    let mut writer =
        ArrowWriter::try_new(File::create(folder.dir.join("b.parquet")).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    assert_eq!(folder.expect("snapshot", 12).await, "the columns of the source have changed");
    folder.put("c.parquet", 12..15);
    assert_eq!(folder.expect("append", 3).await, "1 file was added");
}

#[tokio::test]
async fn a_folder_whose_files_were_not_written_down_is_loaded_anew() {
    let folder = Folder::synced(&[("a.parquet", 0)]).await;
    let sql = folder.project.sql().await;
    for damage in ["NULL", "'\\x00'::bytea"] {
        let damage = format!("UPDATE lakegate.generations SET source_record = {damage}");
        sql.batch_execute(&damage).await.unwrap();
        let next = folder.ids().await.len() as i64;
        folder.put(&format!("{next}.parquet"), next..next + 1);
        let reason = folder.expect("snapshot", next.unsigned_abs() + 1).await;
        assert_eq!(reason, "which files were loaded was not written down");
    }
    let next = folder.ids().await.len() as i64;
    folder.put("z.parquet", next..next + 1);
    folder.expect("append", 1).await;
}

#[tokio::test]
async fn a_new_file_with_the_key_of_another_fails_and_changes_nothing() {
    let folder = Folder::synced(&[("a.parquet", 0)]).await;
    folder.put("b.parquet", 9..12);
    assert_eq!(folder.project.sync_fails("items").await["code"], "LG4007");
    assert_eq!(folder.ids().await, (0..10).collect::<Vec<_>>());
    folder.put("b.parquet", 10..12);
    folder.expect("append", 2).await;
}

#[tokio::test]
async fn a_file_that_is_still_being_written_waits_until_it_is_whole() {
    let folder = Folder::synced(&[("a.parquet", 0)]).await;
    put(&folder.project.path("whole"), 10..20);
    let whole = fs::read(folder.project.path("whole")).unwrap();
    fs::write(folder.dir.join("b.parquet"), &whole[..whole.len() / 2]).unwrap();
    let error = folder.project.sync_fails("items").await;
    assert_eq!(error["code"], "LG2003", "{error}");
    assert_eq!(folder.ids().await.len(), 10);
    fs::write(folder.dir.join("b.parquet"), &whole).unwrap();
    folder.expect("append", 10).await;
}

#[tokio::test]
async fn a_file_that_is_replaced_while_it_is_read_is_read_again() {
    let folder = Folder::with(&[("a.parquet", 10), ("b.parquet", 20)]).await;
    let sync = folder.sync_stopped_in_its_copy().await;
    folder.put("a.parquet", 30..40);
    sync.signal(Signal::SIGCONT);
    let outcome = sync.end().await.ok().json().remove(0);
    assert_eq!(outcome["run"], 2, "the first one failed: {outcome}");
    assert_eq!(folder.ids().await, (20..40).collect::<Vec<_>>());
    let first = "SELECT error ->> 'code' FROM lakegate.runs WHERE run = 1";
    let first: String = folder.project.sql().await.query_one(first, &[]).await.unwrap().get(0);
    assert_eq!(first, "LG2004");

    // The same while a new file is appended.
    folder.put("c.parquet", 40..50);
    let sync = folder.sync_stopped_in_its_copy().await;
    folder.put("c.parquet", 50..60);
    sync.signal(Signal::SIGCONT);
    let outcome = sync.end().await.ok().json().remove(0);
    assert_eq!((&outcome["mode"], &outcome["run"]), (&Value::from("append"), &Value::from(4)), "{outcome}");
    assert_eq!(folder.ids().await, (20..40).chain(50..60).collect::<Vec<_>>());
    // And a file that is gone by then.
    folder.put("d.parquet", 60..70);
    let sync = folder.sync_stopped_in_its_copy().await;
    fs::remove_file(folder.dir.join("d.parquet")).unwrap();
    sync.signal(Signal::SIGCONT);
    assert_eq!(sync.end().await.ok().json()[0]["mode"], "noop");
    folder.expect("noop", 0).await;
}

#[tokio::test]
async fn a_folder_is_refreshed_as_it_changes() {
    let folder = Folder::with(&[("a.parquet", 0)]).await;
    folder.declare("lake/items", "schedule: on change\n");
    folder.sync().await;
    let _up = folder.project.start("up").await;
    folder.put("b.parquet", 10..20);
    eventually("the append", async || folder.ids().await.len() == 20).await;
    fs::remove_file(folder.dir.join("a.parquet")).unwrap();
    eventually("the removal", async || folder.ids().await == (10..20).collect::<Vec<_>>()).await;
    let modes = "SELECT array_agg(mode ORDER BY run) FROM lakegate.runs WHERE state = 'succeeded'";
    let modes: Vec<String> = folder.project.sql().await.query_one(modes, &[]).await.unwrap().get(0);
    assert_eq!(modes, ["snapshot", "append", "snapshot"]);
}

/// Changes a folder at random, and after each refresh compares what is published with what its files hold.
async fn history(folder: &Folder, seed: u64) {
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut files: BTreeMap<String, std::ops::Range<i64>> = BTreeMap::new();
    let mut next = 0;
    let mut modes: BTreeMap<String, usize> = BTreeMap::new();
    for step in 0..12 {
        let before = files.clone();
        for part in 0..random.random_range(0..3) {
            let chosen = files.keys().choose(&mut random).cloned();
            match (random.random_range(0..8), chosen) {
                (0, Some(name)) if files.len() > 1 => {
                    fs::remove_file(folder.dir.join(&name)).unwrap();
                    files.remove(&name);
                }
                (1, Some(name)) => {
                    // Of another length, since a store may tell times by the second only.
                    let rows = files[&name].end - files[&name].start + 1;
                    let ids = next..next + rows;
                    next += rows;
                    folder.put(&name, ids.clone());
                    files.insert(name, ids);
                }
                _ => {
                    let name = format!("{}/{step}-{part}.parquet", ["x", "y"].choose(&mut random).unwrap());
                    let ids = next..next + random.random_range(1..40);
                    next = ids.end;
                    folder.put(&name, ids.clone());
                    files.insert(name, ids);
                }
            }
        }
        if files.is_empty() {
            folder.put("first.parquet", next..next + 1);
            files.insert("first.parquet".to_owned(), next..next + 1);
            next += 1;
        }
        let outcome = folder.sync().await;
        let mut expected: Vec<i64> = files.values().cloned().flatten().collect();
        expected.sort_unstable();
        assert_eq!(folder.ids().await, expected, "seed {seed}, step {step}: {outcome}");
        let only_added = before.iter().all(|(name, ids)| files.get(name) == Some(ids));
        let mode = match step {
            0 => "snapshot",
            _ if files == before => "noop",
            _ if only_added => "append",
            _ => "snapshot",
        };
        assert_eq!(outcome["mode"], mode, "seed {seed}, step {step}: {outcome}");
        folder.project.run(&["verify", "items"]).await.ok();
        *modes.entry(mode.to_owned()).or_default() += 1;
    }
    println!("seed {seed}: {modes:?}");
}

#[tokio::test]
async fn random_histories_of_a_folder_end_as_its_files_are() {
    for seed in 0..2 {
        history(&Folder::with(&[]).await, seed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_random_history_of_a_folder_in_a_store_ends_as_its_files_are() {
    let root = tempfile::tempdir().unwrap();
    let mut project = TestProject::new().await;
    fs::create_dir(root.path().join("lake")).unwrap();
    let server = S3Server::start(root.path()).await;
    server.env().iter().for_each(|(name, value)| project.set(name, value));
    let folder = Folder { project, dir: root.path().join("lake/items") };
    folder.declare("s3://lake/items", "");
    history(&folder, 7).await;
}
