//! A pipeline `items` over a small Delta table, and what must hold of it whatever dies.

use lakegate::failpoint::BEFORE_INDEX;
use lakegate::postgres::{Connector, Purpose, Session};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::lake::LakeTable;
use super::leftovers;
use super::postgres::{TestCluster, TestDatabase};
use super::process::Process;
use super::project::{ProjectFolder, Ran, eventually};

/// A project with one pipeline, `items`, keyed by `id`.
pub(crate) struct Items {
    pub(crate) project: ProjectFolder,
    pub(crate) connector: Connector,
    lake: LakeTable,
    rows: i64,
    _database: Option<TestDatabase>,
}

/// What readers see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) generation: i64,
    pub(crate) publish_no: i64,
    /// Counted through the view.
    pub(crate) rows: i64,
}

/// Rows and bytes of the system catalogs that know every table: `pg_class`, `pg_attribute`, `pg_depend`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Catalogs {
    pub(crate) rows: [i64; 3],
    pub(crate) bytes: [i64; 3],
}

/// That a sync copies rows.
pub(crate) const COPYING: &str = "SELECT true FROM pg_stat_activity WHERE datname = current_database() \
    AND application_name = 'lakegate copy' AND query LIKE 'COPY%' LIMIT 1";

const CATALOGS: [&str; 3] = ["pg_class", "pg_attribute", "pg_depend"];

impl Items {
    /// On a database of the shared cluster, reached by its socket; three rows, not yet loaded.
    pub(crate) async fn new() -> Items {
        let database = TestDatabase::new().await;
        Items::build(&database.socket_url(), database.connector(), Some(database)).await
    }

    /// The same, reached by TCP.
    pub(crate) async fn by_tcp() -> Items {
        let database = TestDatabase::new().await;
        Items::build(&database.url(), database.connector(), Some(database)).await
    }

    /// On a cluster of the test's own, reached by its socket.
    pub(crate) async fn on(cluster: &TestCluster) -> Items {
        Items::build(&cluster.socket_url("postgres"), cluster.connector("postgres"), None).await
    }

    async fn build(url: &str, connector: Connector, database: Option<TestDatabase>) -> Items {
        let mut project = ProjectFolder::new();
        project.set("LAKEGATE_POSTGRES", url);
        let (schema, batch) = LakeTable::numbered(0..3);
        let lake = LakeTable::create(&project.path("lake/items"), &schema, vec![batch]).await;
        let items = Items { project, connector, lake, rows: 3, _database: database };
        items.declare("");
        items
    }

    /// Writes the pipeline's file, with further lines. Every refresh makes a generation unless they say otherwise.
    pub(crate) fn declare(&self, lines: &str) {
        let mode = if lines.contains("mode:") { "" } else { "mode: snapshot\n" };
        self.project.pipeline("items", &format!("source: lake/items\nprimary_key: [id]\n{mode}{lines}"));
    }

    /// Adds a row to the lake's table, which makes a new version of it.
    pub(crate) async fn grow(&mut self) {
        let (_, batch) = LakeTable::numbered(self.rows..self.rows + 1);
        self.lake.append(vec![batch]).await;
        self.rows += 1;
    }

    /// Writes all rows of the lake's table anew, with one more.
    pub(crate) async fn rewrite(&mut self) {
        self.rows += 1;
        self.lake.overwrite(vec![LakeTable::numbered(0..self.rows).1]).await;
    }

    /// A session of a superuser.
    pub(crate) async fn sql(&self) -> Session {
        let session = self.connector.connect(Purpose::Control, "tests").await.unwrap();
        session.batch_execute("SET idle_in_transaction_session_timeout = 0").await.unwrap();
        session
    }

    /// Syncs to the end, which must be good: the outcome.
    pub(crate) async fn sync(&self) -> Value {
        self.project.sync("items").await
    }

    /// Starts a sync.
    pub(crate) fn start_sync(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Process {
        let arguments: Vec<&str> = ["sync", "items", "--output", "json"].iter().chain(arguments).copied().collect();
        let mut command = self.project.command(&arguments);
        command.envs(environment.iter().copied());
        Process::start(command)
    }

    /// Starts `lakegate up`.
    pub(crate) fn start_up(&self, environment: &[(&str, &str)]) -> Process {
        let mut command = self.project.command(&["up"]);
        command.envs(environment.iter().copied());
        Process::start(command)
    }

    /// The lake's newest version.
    pub(crate) fn newest(&self) -> u64 {
        self.lake.version()
    }

    /// Waits until the newest version is published; the run that published it must have taken it in.
    pub(crate) async fn shows_the_newest_version(&self) {
        let condition = format!("SELECT source_version = '{}' FROM lakegate.published", self.newest());
        eventually(&format!("version {}", self.newest()), async || self.holds(&condition).await).await;
    }

    /// A sync that has stopped itself, as a hung process does, at a failpoint.
    pub(crate) async fn sync_stopped_at(&self, failpoint: &str) -> Process {
        self.start_sync(&[], &[("LAKEGATE_TEST_STOP_AT", failpoint)]).stopped().await
    }

    /// A sync that stays in its copy until it is told to end.
    pub(crate) async fn sync_in_its_copy(&self) -> Process {
        let sync = self.start_sync(&[], &[("FAILPOINTS", "during_copy=pause")]);
        eventually("the copy", async || self.holds(COPYING).await).await;
        sync
    }

    /// That a sync has ended as cancelled, for the reason of this code, and left things as they were.
    pub(crate) async fn assert_cancelled(&self, ran: &Ran, exit: i32, code: &str, old: Live) {
        assert_eq!(ran.code, Some(exit), "{ran:?}");
        let outcome = ran.json().remove(0);
        assert_eq!((&outcome["state"], &outcome["error"]["code"]), (&"cancelled".into(), &code.into()), "{ran:?}");
        assert_eq!(self.last_run().await, ("cancelled".to_owned(), code.to_owned()));
        assert_eq!(self.live().await, old);
        assert_eq!(self.tables().await.len(), 1, "the live generation");
        self.assert_nothing_left("the end of the run").await;
    }

    /// A sync in the midst of its index build, which goes on only when the session that is returned with it ends: the
    /// session has locked the table.
    pub(crate) async fn sync_building_its_index(&self) -> (Process, Session) {
        let sync = self.sync_stopped_at(BEFORE_INDEX).await;
        let lock = self.sql().await;
        let table = self.tables().await.pop().unwrap();
        let sql = format!("BEGIN; LOCK TABLE lakegate_data.{table} IN ROW EXCLUSIVE MODE");
        lock.batch_execute(&sql).await.unwrap();
        sync.signal(Signal::SIGCONT);
        eventually("the index build", async || self.builds_index().await).await;
        (sync, lock)
    }

    /// Whether an index is being built or waits for its table's lock.
    pub(crate) async fn builds_index(&self) -> bool {
        self.holds(
            "SELECT true FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' \
             AND query LIKE 'CREATE UNIQUE INDEX%'",
        )
        .await
    }

    /// What readers see now.
    pub(crate) async fn live(&self) -> Live {
        let sql = "SELECT generation, publish_no, (SELECT count(*) FROM lake.items) FROM lakegate.published";
        let row = self.sql().await.query_one(sql, &[]).await.unwrap();
        Live { generation: row.get(0), publish_no: row.get(1), rows: row.get(2) }
    }

    /// State and error code of the newest run.
    pub(crate) async fn last_run(&self) -> (String, String) {
        let sql = "SELECT state, coalesce(error ->> 'code', '') FROM lakegate.runs ORDER BY run DESC LIMIT 1";
        let row = self.sql().await.query_one(sql, &[]).await.unwrap();
        (row.get(0), row.get(1))
    }

    /// How many runs there have been.
    pub(crate) async fn runs(&self) -> i64 {
        self.sql().await.query_one("SELECT count(*) FROM lakegate.runs", &[]).await.unwrap().get(0)
    }

    /// Whether a condition in SQL holds.
    pub(crate) async fn holds(&self, condition: &str) -> bool {
        self.sql().await.query_one(&format!("SELECT coalesce(({condition}), false)"), &[]).await.unwrap().get(0)
    }

    /// Makes the lease run out, as 15 seconds without a heartbeat do.
    pub(crate) async fn expire_lease(&self) {
        let sql = "UPDATE lakegate.leases SET expires_at = clock_timestamp()";
        assert_eq!(self.sql().await.execute(sql, &[]).await.unwrap(), 1);
    }

    /// Fails if anything is left of runs that are over: see [`leftovers::none_in`].
    pub(crate) async fn assert_nothing_left(&self, after: &str) {
        leftovers::none_in(&self.sql().await, after).await;
    }

    /// Lets an hour pass for superseded generations, so that the next run drops those that are not to be kept.
    pub(crate) async fn age_generations(&self) {
        let sql = "UPDATE lakegate.generations SET superseded_at = superseded_at - interval '1 hour' \
                   WHERE retired_at IS NULL";
        self.sql().await.execute(sql, &[]).await.unwrap();
    }

    /// The tables of generations.
    pub(crate) async fn tables(&self) -> Vec<String> {
        let sql = "SELECT relname::text FROM pg_class WHERE relnamespace = 'lakegate_data'::regnamespace \
                   AND relkind = 'r' ORDER BY oid";
        self.sql().await.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }

    /// The catalogs, after the vacuum that autovacuum does sooner or later.
    pub(crate) async fn catalogs(&self) -> Catalogs {
        let session = self.sql().await;
        let mut catalogs = Catalogs { rows: [0; 3], bytes: [0; 3] };
        for (at, catalog) in CATALOGS.iter().enumerate() {
            session.batch_execute(&format!("VACUUM {catalog}")).await.unwrap();
            let sql = format!("SELECT count(*), pg_total_relation_size('{catalog}') FROM {catalog}");
            let row = session.query_one(&sql, &[]).await.unwrap();
            (catalogs.rows[at], catalogs.bytes[at]) = (row.get(0), row.get(1));
        }
        catalogs
    }
}
