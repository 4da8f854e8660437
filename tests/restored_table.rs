//! Delta tables that keep their id and come by the same versions again: restored from a backup and written on.

use std::path::{Path, PathBuf};

use lakegate::domain::{SourceSpec, SourceVersion};
use lakegate::source::Source;
use serde_json::Value;

use crate::support::lake::LakeTable;
use crate::support::project::TestProject;
use crate::support::rows::context;

const OTHER: &str = "the history of the source is another one than was loaded";

/// A table of ten rows that was saved at version 1 and went on to version 3, where it was synced.
struct Restored {
    project: TestProject,
    dir: PathBuf,
    saved: PathBuf,
}

impl Restored {
    async fn new() -> Restored {
        let project = TestProject::new().await;
        project.pipeline("items", "source: lake/items\nprimary_key: [id]\n");
        let (dir, saved) = (project.path("lake/items"), project.path("saved"));
        let (schema, batch) = LakeTable::numbered(0..10);
        let mut lake = LakeTable::create(&dir, &schema, vec![batch]).await;
        copy(&dir, &saved);
        lake.append(vec![LakeTable::numbered(20..25).1]).await;
        lake.append(vec![LakeTable::numbered(25..30).1]).await;
        project.sync("items").await;
        Restored { project, dir, saved }
    }

    /// Brings the saved table back.
    async fn restore(&self) -> LakeTable {
        std::fs::remove_dir_all(&self.dir).unwrap();
        copy(&self.saved, &self.dir);
        LakeTable::open(&self.dir).await
    }

    async fn ids(&self) -> Vec<i64> {
        let rows = self.project.sql().await.query("SELECT id FROM lake.items ORDER BY id", &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// The state that is published, as a later run knows it.
    async fn loaded(&self) -> SourceVersion {
        let sql =
            "SELECT source_version, table_id, source_commit FROM lakegate.generations ORDER BY generation DESC LIMIT 1";
        let row = self.project.sql().await.query_one(sql, &[]).await.unwrap();
        SourceVersion { version: row.get(0), table_id: row.get(1), commit: row.get(2) }
    }

    async fn has_moved(&self) -> bool {
        let spec = SourceSpec::Auto(self.dir.to_str().unwrap().to_owned());
        Source::has_moved(&spec, &context(), &self.loaded().await).await.unwrap()
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test]
async fn a_table_that_was_restored_and_written_beyond_the_loaded_version_is_loaded_anew() {
    let table = Restored::new().await;
    let mut lake = table.restore().await;
    // As many rows as the loaded version had, so that counting them tells nothing.
    for from in [40, 45, 50] {
        lake.append(vec![LakeTable::numbered(from..from + 5).1]).await;
    }
    let outcome = table.project.sync("items").await;
    let reason = format!("the source moved from version 3 to 4; {OTHER}");
    assert_eq!((&outcome["mode"], &outcome["reason"]), (&Value::from("snapshot"), &Value::from(reason)));
    assert_eq!(table.ids().await, (0..10).chain(40..55).collect::<Vec<_>>());
    // From here on it is followed again.
    lake.append(vec![LakeTable::numbered(60..61).1]).await;
    assert_eq!(table.project.sync("items").await["mode"], "append");
}

#[tokio::test]
async fn a_table_that_was_restored_and_written_up_to_the_loaded_version_is_loaded_anew() {
    let table = Restored::new().await;
    assert!(!table.has_moved().await);
    let mut lake = table.restore().await;
    lake.append(vec![LakeTable::numbered(40..45).1]).await;
    lake.append(vec![LakeTable::numbered(45..50).1]).await;
    assert!(table.has_moved().await);
    let verified = table.project.run(&["verify", "items", "--output", "json"]).await;
    assert_eq!(verified.json()[0]["error"]["code"], "LG2009", "{verified:?}");
    table.project.pipeline("items", "source: lake/items\nprimary_key: [id]\nmode: incremental\n");
    let error = table.project.sync_fails("items").await;
    assert_eq!((&error["code"], &error["detail"]), (&Value::from("LG5011"), &Value::from(format!("`items`: {OTHER}"))));
    table.project.pipeline("items", "source: lake/items\nprimary_key: [id]\n");
    let outcome = table.project.sync("items").await;
    assert_eq!((&outcome["mode"], &outcome["reason"]), (&Value::from("snapshot"), &Value::from(OTHER)));
    assert_eq!(table.ids().await, (0..10).chain(40..50).collect::<Vec<_>>());
    assert!(!table.has_moved().await);
    assert_eq!(table.project.sync("items").await["mode"], "noop");
}

#[tokio::test]
async fn a_copy_of_the_loaded_table_is_the_same_table() {
    let table = Restored::new().await;
    let copied = table.project.path("copied");
    copy(&table.dir, &copied);
    std::fs::remove_dir_all(&table.dir).unwrap();
    copy(&copied, &table.dir);
    assert!(!table.has_moved().await);
    assert_eq!(table.project.sync("items").await["mode"], "noop");
    LakeTable::open(&table.dir).await.append(vec![LakeTable::numbered(40..41).1]).await;
    assert_eq!(table.project.sync("items").await["mode"], "append");
}

#[tokio::test]
async fn a_table_whose_commit_was_not_noted_is_followed_by_its_number() {
    let table = Restored::new().await;
    let sql = table.project.sql().await;
    sql.batch_execute("UPDATE lakegate.generations SET source_commit = NULL").await.unwrap();
    assert!(!table.has_moved().await);
    assert_eq!(table.project.sync("items").await["mode"], "noop");
    LakeTable::open(&table.dir).await.append(vec![LakeTable::numbered(40..41).1]).await;
    assert_eq!(table.project.sync("items").await["mode"], "append");
    assert!(table.loaded().await.commit.is_some());
}
