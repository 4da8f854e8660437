//! Orders and their lines, two Delta tables that go through the same states and are published as one group.
//!
//! State `k` of each has a number of rows of its own, and each row says `k`, so that what a transaction reads of the one
//! can be compared with what it reads of the other.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::SchemaRef;
use lakegate::postgres::Session;
use serde_json::Value;
use tokio_postgres::error::SqlState;

use super::lake::LakeTable;
use super::process::Process;
use super::project::TestProject;

/// The tables in the order of their names, and how many rows state 0 of each would have.
const TABLES: [(&str, i64); 2] = [("lines", 20), ("orders", 10)];

/// The project and the lake's tables.
pub(crate) struct Sales {
    pub(crate) project: TestProject,
    pub(crate) lines: LakeTable,
    pub(crate) orders: LakeTable,
    state: i64,
}

impl Sales {
    /// Both tables in state 1, not yet loaded, with these further lines in both pipelines.
    pub(crate) async fn new(further: &str) -> Sales {
        let project = TestProject::new().await;
        let [lines, orders] = TABLES.map(async |(name, _)| {
            let (schema, batch) = rows(name, 1);
            LakeTable::create(&project.path("lake").join(name), &schema, vec![batch]).await
        });
        let (lines, orders) = (lines.await, orders.await);
        let sales = Sales { project, lines, orders, state: 1 };
        sales.declare("lines", further);
        sales.declare("orders", further);
        sales
    }

    /// The same, loaded.
    pub(crate) async fn loaded(further: &str) -> Sales {
        let sales = Sales::new(further).await;
        sales.sync().await;
        sales
    }

    /// Writes the pipeline of one table, with further lines.
    pub(crate) fn declare(&self, name: &str, further: &str) {
        let yaml = format!("source: lake/{name}\nprimary_key: [id]\ngroup: sales\n{further}");
        self.project.pipeline(name, &yaml);
    }

    /// Brings both tables of the lake to the next state.
    pub(crate) async fn advance(&mut self) -> i64 {
        self.state += 1;
        self.lines.overwrite(vec![rows("lines", self.state).1]).await;
        self.orders.overwrite(vec![rows("orders", self.state).1]).await;
        self.state
    }

    /// Syncs the group by the name of one table, which must succeed: the outcomes of `lines` and `orders`.
    pub(crate) async fn sync(&self) -> [Value; 2] {
        let outcomes = self.project.run(&["sync", "orders", "--output", "json"]).await.ok().json();
        outcomes.try_into().expect("an outcome of each table")
    }

    /// Syncs the group, which must fail: the errors of `lines` and `orders`.
    pub(crate) async fn sync_fails(&self) -> [Value; 2] {
        let ran = self.project.run(&["sync", "orders", "--output", "json"]).await;
        assert_eq!(ran.code, Some(1), "{ran:?}");
        let errors: Vec<Value> = ran.json().into_iter().map(|mut outcome| outcome["error"].take()).collect();
        errors.try_into().expect("an error of each table")
    }

    /// Starts a sync of the group in this environment.
    pub(crate) fn start_sync(&self, environment: &[(&str, &str)]) -> Process {
        let mut command = self.project.command(&["sync", "orders", "--output", "json"]);
        command.envs(environment.iter().copied());
        Process::start(command)
    }

    /// A sync that has stopped itself at a failpoint.
    pub(crate) async fn sync_stopped_at(&self, failpoint: &str) -> Process {
        self.start_sync(&[("LAKEGATE_TEST_STOP_AT", failpoint)]).stopped().await
    }

    /// The publish numbers of `lines` and `orders`.
    pub(crate) async fn publish_numbers(&self) -> Vec<i64> {
        let sql = "SELECT publish_no FROM lakegate.published ORDER BY name";
        self.project.sql().await.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }

    /// The state that a new transaction sees.
    pub(crate) async fn seen(&self) -> i64 {
        let session = self.project.sql().await;
        begin(&session).await;
        state_in(&session, ["orders", "lines"]).await.expect("a new transaction is not too old")
    }
}

/// Begins a transaction that sees one state of the database.
pub(crate) async fn begin(session: &Session) {
    session.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await.unwrap();
}

/// Reads both tables, in this order, and ends the transaction: the state that both are in, which must be one. `None` where
/// the transaction is told to run again.
pub(crate) async fn state_in(session: &Session, tables: [&str; 2]) -> Option<i64> {
    let mut states = Vec::new();
    for table in tables {
        match whole_state(session, table).await {
            Some(state) => states.push(state),
            None => {
                session.batch_execute("ROLLBACK").await.unwrap();
                return None;
            }
        }
    }
    session.batch_execute("COMMIT").await.unwrap();
    assert_eq!(states[0], states[1], "{tables:?} of different states");
    Some(states[0])
}

/// The state of one table, of which all rows must be there. `None` where the transaction is told to run again.
pub(crate) async fn whole_state(session: &Session, table: &str) -> Option<i64> {
    let sql = format!("SELECT min(state), max(state), count(*) FROM lake.{table}");
    let row = match session.query_one(&sql, &[]).await {
        Ok(row) => row,
        Err(error) if error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE) => return None,
        Err(error) => panic!("{sql}: {error:?}"),
    };
    let (least, most, count): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    assert_eq!((least, count), (most, row_count(table, most)), "not one whole state of {table}");
    Some(most)
}

fn row_count(table: &str, state: i64) -> i64 {
    TABLES.iter().find(|(name, _)| *name == table).expect("a table").1 + state
}

fn rows(table: &str, state: i64) -> (SchemaRef, RecordBatch) {
    let count = row_count(table, state);
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count));
    let states: ArrayRef = Arc::new(Int64Array::from_iter_values((0..count).map(|_| state)));
    let batch = RecordBatch::try_from_iter([("id", ids), ("state", states)]).unwrap();
    (batch.schema(), batch)
}
