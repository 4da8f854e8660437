//! A table whose states can be told apart: state `k` has `100 + k` rows, and each of them says `k`.
//!
//! State `k` is version `k` of the Delta table, so that what an answer says of itself can be compared with its rows.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::SchemaRef;
use serde_json::Value;

use super::lake::LakeTable;
use super::project::TestProject;

/// What the checks of this module take: least state, greatest state, number of rows.
pub(crate) const SUMMARY: &str = "SELECT ARRAY[min(state), max(state), count(*)] FROM lake.states";

/// A project with the table `states` in its first state, published.
pub(crate) struct States {
    pub(crate) project: TestProject,
    lake: LakeTable,
}

impl States {
    /// Makes the lake's table, the pipeline with these further lines, and syncs it. Every refresh makes a generation unless
    /// they say otherwise.
    pub(crate) async fn new(further: &str) -> States {
        let project = TestProject::new().await;
        let (schema, batch) = rows(1);
        let lake = LakeTable::create(&project.path("lake/states"), &schema, vec![batch]).await;
        let mode = if further.contains("mode:") { "" } else { "mode: snapshot\n" };
        project.pipeline("states", &format!("source: lake/states\nprimary_key: [part, id]\n{mode}{further}"));
        project.sync("states").await;
        States { project, lake }
    }

    /// Writes the next state to the lake.
    pub(crate) async fn advance(&mut self) -> i64 {
        let state = i64::try_from(self.lake.version()).unwrap() + 1;
        self.lake.overwrite(vec![rows(state).1]).await;
        state
    }

    /// Writes the next state to the lake and syncs it.
    pub(crate) async fn refresh(&mut self) -> (i64, Value) {
        let state = self.advance().await;
        (state, self.project.sync("states").await)
    }
}

/// How many rows a state has.
pub(crate) fn row_count(state: i64) -> i64 {
    100 + state
}

fn rows(state: i64) -> (SchemaRef, RecordBatch) {
    let column = |values: Vec<i64>| -> ArrayRef { Arc::new(Int64Array::from(values)) };
    let ids: Vec<i64> = (0..row_count(state)).collect();
    let columns =
        [("part", column(vec![1; ids.len()])), ("state", column(vec![state; ids.len()])), ("id", column(ids))];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    (batch.schema(), batch)
}

/// The state that a [`SUMMARY`] shows; fails unless it is one whole state.
pub(crate) fn whole_state(summary: &[Option<i64>]) -> i64 {
    let &[Some(least), Some(most), Some(rows)] = summary else { panic!("an empty table: {summary:?}") };
    assert_eq!((least, rows), (most, row_count(most)), "not one whole state: {summary:?}");
    most
}
