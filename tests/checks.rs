//! `checks`: a state that fails one is not published, whichever way it came, and what was published stays.

mod in_place;
mod kinds;
mod overriding;
mod queries;

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use serde_json::Value;

use crate::support::lake::LakeTable;
use crate::support::project::TestProject;

/// A row: `id`, and `name` that may be null.
type Row = (i64, Option<&'static str>);

const THREE: &[Row] = &[(1, Some("a")), (2, Some("b")), (3, Some("c"))];

/// Rows whose `name` may be null, whether any is or not.
fn batch(rows: &[Row]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|(id, _)| *id)));
    let names: ArrayRef = Arc::new(rows.iter().map(|(_, name)| *name).collect::<StringArray>());
    RecordBatch::try_from_iter_with_nullable([("id", ids, false), ("name", names, true)]).unwrap()
}

/// A project over a Delta table `items`.
struct Table {
    project: TestProject,
    lake: LakeTable,
}

impl Table {
    /// With these rows and further lines of the pipeline, not synced yet.
    async fn unsynced(rows: &[Row], further: &str) -> Table {
        Table::on(TestProject::new().await, rows, further).await
    }

    async fn on(project: TestProject, rows: &[Row], further: &str) -> Table {
        let batch = batch(rows);
        let lake = LakeTable::create(&project.path("lake/items"), &batch.schema(), vec![batch]).await;
        std::fs::write(project.path("lakegate.yaml"), "project: shop\n").unwrap();
        let table = Table { project, lake };
        table.declare(further);
        table
    }

    /// The same, synced once.
    async fn new(rows: &[Row], further: &str) -> Table {
        let table = Table::unsynced(rows, further).await;
        table.project.sync("items").await;
        table
    }

    /// Writes the pipeline with these further lines.
    fn declare(&self, further: &str) {
        self.project.pipeline("items", &format!("source: lake/items\nprimary_key: [id]\n{further}\n"));
    }

    /// Syncs, which must be done this way.
    #[track_caller]
    fn syncs(&self, mode: &'static str) -> impl Future<Output = Value> {
        let caller = std::panic::Location::caller();
        async move {
            let outcome = self.project.sync("items").await;
            assert_eq!(outcome["mode"], mode, "{caller}: {outcome}");
            outcome
        }
    }

    /// Syncs, which must fail with this code: what is said, without what is the same in all.
    #[track_caller]
    fn fails(&self, code: &'static str) -> impl Future<Output = String> {
        let caller = std::panic::Location::caller();
        async move {
            let error = self.project.sync_fails("items").await;
            assert_eq!(error["code"], code, "{caller}: {error}");
            error["detail"].as_str().unwrap().to_owned()
        }
    }

    /// What `plan` says is wrong.
    async fn plan_fails(&self) -> Value {
        let ran = self.project.run(&["plan", "items", "--output", "json"]).await;
        assert_eq!(ran.code, Some(1), "{ran:?}");
        ran.json().remove(0)["error"].take()
    }

    /// Syncs as a person who overrides the checks.
    async fn overrides(&self) -> Value {
        self.project.run(&["sync", "items", "--ignore-checks", "--output", "json"]).await.ok().json().remove(0)
    }

    /// The newest run.
    async fn last_run(&self) -> Value {
        self.project.run(&["runs", "items", "--limit", "1", "--output", "json"]).await.ok().json().remove(0)
    }

    /// The published rows.
    async fn published(&self) -> Vec<(i64, Option<String>)> {
        let rows = self.project.sql().await.query("SELECT id, name FROM lake.items ORDER BY id", &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// That these rows are published.
    #[track_caller]
    fn shows(&self, rows: &[Row]) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        let rows: Vec<_> = rows.iter().map(|(id, name)| (*id, name.map(str::to_owned))).collect();
        async move { assert_eq!(self.published().await, rows, "{caller}") }
    }
}
