//! Published tables made by hand: what a sync leaves in Postgres, without a sync.

use lakegate::domain::{
    ApiSettings, Auth, Column, ColumnType, Generation, Limits, ScalarType, Schemas, ServePolicy, TableName, TableSchema,
};
use lakegate::postgres::{Session, qualified, quote};
use lakegate::serve::{BoundServer, ReadMetrics, ServeSettings, serve};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::postgres::TestDatabase;

/// The migration that makes the control schema.
const CONTROL: &str = include_str!("../../src/store/migrations/0001_control.sql");

/// Those that make the tables of API keys.
const API_KEYS: [&str; 2] = [
    include_str!("../../src/store/migrations/0008_api_keys.sql"),
    include_str!("../../src/store/migrations/0009_emptied_keys.sql"),
];

/// The schemas of test projects.
pub(crate) fn schemas() -> Schemas {
    let name = str::to_owned;
    Schemas { published: name("lake"), data: name("lakegate_data"), control: name("lakegate") }
}

/// A table to publish.
#[derive(Clone)]
pub(crate) struct Table {
    pub(crate) name: TableName,
    pub(crate) schema: TableSchema,
    pub(crate) policy: ServePolicy,
}

impl Table {
    /// Columns with their types, those of the key by name.
    pub(crate) fn new(name: &str, columns: &[(&str, ColumnType)], key: &[&str]) -> Table {
        let column = |(name, ty): &(&str, ColumnType)| Column {
            name: (*name).to_owned(),
            source: (*name).to_owned(),
            ty: *ty,
            nullable: !key.contains(name),
            comment: None,
            late: false,
        };
        let mut schema = TableSchema { columns: columns.iter().map(column).collect(), key: Vec::new() };
        schema.key = key.iter().map(|name| schema.position(name).expect("a key column")).collect();
        let policy = ServePolicy {
            enabled: true,
            hide: Vec::new(),
            page_limit: 1000,
            cache_ttl: None,
            deprecated: None,
            roles: None,
            row_filter: BTreeMap::new(),
            rate_limit: None,
        };
        Table { name: TableName::new(name).expect("a name"), schema, policy }
    }

    fn ddl(&self, generation: Generation) -> String {
        let key: Vec<&Column> = self.schema.key_columns().collect();
        let mut columns = String::new();
        for column in &self.schema.columns {
            let text_key = column.ty == ColumnType::Scalar(ScalarType::Text) && key.contains(&column);
            let collation = if text_key { " COLLATE \"C\"" } else { "" };
            let _ = write!(columns, "{} {}{collation}, ", quote(&column.name), column.ty.sql_name());
        }
        let key: Vec<String> = key.iter().map(|column| quote(&column.name)).collect();
        let table = qualified(&schemas().data, &generation.table(&self.name));
        format!("CREATE TABLE {table} ({columns} PRIMARY KEY ({}))", key.join(", "))
    }
}

/// Publishes tables in one database.
pub(crate) struct Publisher {
    pub(crate) session: Session,
}

impl Publisher {
    /// Makes the control and data schemas.
    pub(crate) async fn new(database: &TestDatabase) -> Publisher {
        let session = database.client().await;
        let Schemas { control, data, .. } = schemas();
        let control = quote(&control);
        session
            .batch_execute(&format!("CREATE SCHEMA {control}; CREATE SCHEMA {}", quote(&data)))
            .await
            .expect("schemas");
        for migration in [CONTROL].into_iter().chain(API_KEYS) {
            session.batch_execute(&migration.replace("{control}", &control)).await.expect("the control schema");
        }
        Publisher { session }
    }

    /// Loads a new generation with the rows of a query and publishes it.
    pub(crate) async fn publish(&self, table: &Table, version: &str, rows: &str) -> Generation {
        let generation = self.load(table, rows).await;
        self.point(table, generation, version).await;
        generation
    }

    /// Loads a new generation, unpublished.
    pub(crate) async fn load(&self, table: &Table, rows: &str) -> Generation {
        let number =
            self.session.query_one("SELECT nextval('lakegate.generation_numbers')", &[]).await.expect("a number");
        let generation = Generation(number.get(0));
        let target = qualified(&schemas().data, &generation.table(&table.name));
        let statements = format!("{}; INSERT INTO {target} {rows}", table.ddl(generation));
        self.session.batch_execute(&statements).await.unwrap_or_else(|error| panic!("{statements}: {error:?}"));
        generation
    }

    /// Publishes a loaded generation, or other columns or another policy of the one that is published.
    pub(crate) async fn point(&self, table: &Table, generation: Generation, version: &str) {
        let name = table.name.as_str();
        let schema = serde_json::to_string(&table.schema).expect("JSON");
        let policy = serde_json::to_string(&table.policy).expect("JSON");
        let statement = format!(
            "WITH described AS (
                INSERT INTO lakegate.tables (name, generation, schema, policy)
                VALUES ('{name}', {generation}, $1::text::jsonb, $2::text::jsonb)
                ON CONFLICT (name) DO UPDATE
                SET generation = excluded.generation, schema = excluded.schema, policy = excluded.policy),
             published AS (
                INSERT INTO lakegate.published AS p
                    (name, generation, publish_no, source_version, published_at, checked_at)
                VALUES ('{name}', {generation}, 1, $3, now(), now())
                ON CONFLICT (name) DO UPDATE
                SET generation = excluded.generation, publish_no = p.publish_no + 1,
                    source_version = excluded.source_version, published_at = now()
                RETURNING publish_no)
             SELECT pg_notify('lakegate', '{name} ' || publish_no) FROM published"
        );
        self.session.query(&statement, &[&schema, &policy, &version]).await.expect("a publish");
    }

    /// Drops the rows of a generation.
    pub(crate) async fn drop_generation(&self, table: &Table, generation: Generation) {
        let target = qualified(&schemas().data, &generation.table(&table.name));
        self.session.batch_execute(&format!("DROP TABLE {target}")).await.expect("a drop");
    }

    /// Ends a table.
    pub(crate) async fn unpublish(&self, table: &Table) {
        let name = table.name.as_str();
        let statements = format!(
            "BEGIN; DELETE FROM lakegate.tables WHERE name = '{name}';
             DELETE FROM lakegate.published WHERE name = '{name}'; NOTIFY lakegate, '{name}'; COMMIT"
        );
        self.session.batch_execute(&statements).await.expect("an end");
    }
}

/// Settings of a server on a free port of loopback, which keeps nothing: it tells of each publish at once.
pub(crate) fn settings() -> ServeSettings {
    ServeSettings {
        schemas: schemas(),
        api: ApiSettings {
            listen: "127.0.0.1:0".parse().expect("an address"),
            hosts: Vec::new(),
            tls: None,
            cors: Vec::new(),
            access_log: None,
        },
        auth: Auth::Unset,
        limits: Limits {
            memory: 1 << 20,
            cache_memory: 0,
            connections: 4,
            page_max: 1000,
            batch_keys_max: 1000,
            statement_timeout: Duration::from_secs(10),
            concurrent_runs: 1,
        },
        metrics: ReadMetrics::default(),
        traced: false,
    }
}

/// A running server, ended when dropped.
pub(crate) struct Running {
    pub(crate) server: BoundServer,
    pub(crate) shutdown: CancellationToken,
    _guard: DropGuard,
}

impl Running {
    /// Starts a server on a database.
    pub(crate) async fn start(settings: ServeSettings, connector: lakegate::postgres::Connector) -> Running {
        let shutdown = CancellationToken::new();
        let server = serve(settings, &connector, shutdown.clone()).await.expect("a server");
        Running { server, shutdown: shutdown.clone(), _guard: shutdown.drop_guard() }
    }
}
