//! What a person declares about one table.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::{Checks, Contract, RateLimit, Schedule, TableName};

/// One table sync, validated: what `pipelines/<name>.yaml` declares, with the project's defaults filled in.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// The published table's name.
    pub name: TableName,
    /// Where the rows come from.
    pub source: SourceSpec,
    /// Key columns by published name, in order; at least one.
    pub primary_key: Vec<String>,
    /// Which columns are taken, under which names and types.
    pub columns: ColumnRules,
    /// SQL over `source`, run once per refresh.
    pub transform: Option<String>,
    /// How refreshes are done.
    pub mode: Mode,
    /// When refreshes are done.
    pub schedule: Schedule,
    /// The group whose tables are published together, named under the rules of table names.
    pub group: Option<TableName>,
    /// What becomes of rows that share a key.
    pub on_duplicate_key: OnDuplicateKey,
    /// What becomes of rows that Postgres cannot hold.
    pub on_bad_row: OnBadRow,
    /// What becomes of a source whose columns have changed since the last publish.
    pub on_schema_change: OnSchemaChange,
    /// What the table promises its readers, where it is pinned.
    pub contract: Option<Contract>,
    /// What must hold of a new state before it is published.
    pub checks: Checks,
    /// Whether an empty source may empty the table.
    pub allow_empty: bool,
    /// How many rows are compared with the source after a load; `None` = full up to a million rows, else sampled.
    pub verify: Option<Verify>,
    /// Further indexes, each a list of published column names.
    pub indexes: Vec<Vec<String>>,
    /// Roles that may SELECT from the published view.
    pub grants: Vec<String>,
    /// How old the data may be before the pipeline is late; `None` = as old as it likes.
    pub freshness: Option<Duration>,
    /// Superseded generations kept besides the live one.
    pub retain: u32,
    /// The longest a run may take.
    pub timeout: Duration,
    /// The longest a verified load may wait for the lock its publish needs.
    pub publish_timeout: Duration,
    /// How the read API serves the table.
    pub serve: ServePolicy,
    /// The file that declares the pipeline, for messages.
    pub file: PathBuf,
}

impl Pipeline {
    /// Whether another one declares the same, secrets included.
    #[must_use]
    pub fn is_same(&self, other: &Pipeline) -> bool {
        let secrets = |pipeline: &Pipeline| -> Vec<String> {
            let options = pipeline.source.options().into_iter().flatten();
            options.map(|(_, value)| value.expose_secret().to_owned()).collect()
        };
        // Everything but secrets is shown.
        format!("{self:?}") == format!("{other:?}") && secrets(self) == secrets(other)
    }
}

/// Where rows come from.
#[derive(Debug, Clone)]
pub enum SourceSpec {
    /// An address alone: Delta where there is a `_delta_log`, else Parquet.
    Auto(String),
    /// A Delta table.
    Delta(DeltaSource),
    /// Parquet files.
    Parquet(ParquetSource),
}

impl SourceSpec {
    /// The address as written.
    #[must_use]
    pub fn uri(&self) -> &str {
        match self {
            SourceSpec::Auto(uri) => uri,
            SourceSpec::Delta(delta) => &delta.uri,
            SourceSpec::Parquet(parquet) => &parquet.uri,
        }
    }

    /// Whether it is on disks of this machine, by its address.
    #[must_use]
    pub fn is_local(&self) -> bool {
        let uri = self.uri();
        !uri.contains("://") || uri.starts_with("file://")
    }

    /// Options of the object store, where any are declared.
    #[must_use]
    pub fn options(&self) -> Option<&StorageOptions> {
        match self {
            SourceSpec::Auto(_) => None,
            SourceSpec::Delta(delta) => Some(&delta.options),
            SourceSpec::Parquet(parquet) => Some(&parquet.options),
        }
    }
}

/// A Delta table, possibly pinned.
#[derive(Debug, Clone)]
pub struct DeltaSource {
    /// The table's root.
    pub uri: String,
    /// The state to read; `None` = the newest.
    pub pin: Option<SourcePin>,
    /// Options of the object store.
    pub options: StorageOptions,
}

/// A fixed state of a Delta table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourcePin {
    /// A version of the log.
    Version(u64),
    /// The newest version committed at or before this instant, in milliseconds since 1970 UTC.
    TimestampMillis(i64),
}

/// Parquet files without a log.
#[derive(Debug, Clone)]
pub struct ParquetSource {
    /// A file, a folder (read recursively) or a glob.
    pub uri: String,
    /// Whether `column=value` folders become columns.
    pub hive_partitioning: bool,
    /// Options of the object store.
    pub options: StorageOptions,
}

/// Options of an object store by their lower-case names (`aws_region`, `azure_storage_account_name`, …), resolved.
/// All values are treated as secrets.
pub type StorageOptions = BTreeMap<String, SecretString>;

/// Which columns are taken, and as what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnRules {
    /// Which columns.
    pub selection: ColumnSelection,
    /// Published names by source names.
    pub rename: BTreeMap<String, String>,
    /// Postgres types by source names, each in the spelling of `ScalarType::sql_name`, `jsonb` or `numeric(p,s)`.
    pub types: BTreeMap<String, String>,
}

/// Which columns of the source are taken, by source name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ColumnSelection {
    /// All.
    #[default]
    All,
    /// These alone, in the order of the source.
    Include(Vec<String>),
    /// All but these.
    Exclude(Vec<String>),
}

/// How refreshes are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Whatever is cheapest and safe.
    Auto,
    /// A new generation whenever the source has changed.
    Snapshot,
    /// After the first load never a snapshot: where only that would do, the run fails and says why.
    Incremental,
}

/// What becomes of rows that share a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnDuplicateKey {
    /// The run fails with sample keys.
    Fail,
    /// The row with the greatest value of this published column stays; equal values on different rows fail.
    LatestBy(String),
}

impl OnDuplicateKey {
    /// The column that tells which row of a key is the newest, where the newest is kept.
    #[must_use]
    pub fn latest_by(&self) -> Option<&str> {
        match self {
            OnDuplicateKey::Fail => None,
            OnDuplicateKey::LatestBy(column) => Some(column),
        }
    }
}

/// What becomes of rows that Postgres cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnBadRow {
    /// The run fails with the first such row's key and column.
    Fail,
    /// Up to this many are left out and kept in `rejected_rows`; one more fails the run.
    Reject {
        /// The most rows that may be left out.
        max_rows: u64,
    },
}

/// What becomes of a source whose columns have changed since the last publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnSchemaChange {
    /// Added columns arrive, every other change fails.
    AddColumns,
    /// Added columns are left out, every other change fails.
    Ignore,
    /// Every change fails.
    Fail,
    /// Every change is followed, save one of the key.
    Follow,
}

/// How many rows are compared with the source after a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// The rows whose key hash equals the run's number modulo 16.
    Sampled,
    /// All.
    Full,
}

/// How the read API serves a table. Stored with each publish, so that replicas need nothing but Postgres.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServePolicy {
    /// Whether the table is served at all.
    pub enabled: bool,
    /// Columns, by published name, that the API never shows.
    #[serde(default)]
    pub hide: Vec<String>,
    /// The most rows of one page.
    pub page_limit: u32,
    /// For how many seconds clients may keep an answer without asking whether it still holds; `None` = they ask each
    /// time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_ttl: Option<u32>,
    /// That the table is to go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deprecated: Option<Deprecation>,
    /// Who may read the table, and what is hidden from him; `None` = whoever is let in, and no more than `hide`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<BTreeMap<String, RolePolicy>>,
    /// By column the name of an attribute: only rows whose columns equal the attributes of whoever asks are his to see.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub row_filter: BTreeMap<String, String>,
    /// How much may be read; `None` = as much as there is time for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
}

/// What a role may not see of a table that it may read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolePolicy {
    /// Columns, by published name.
    #[serde(default)]
    pub hide: Vec<String>,
}

/// What clients are told of a table that is to go. Instants are milliseconds since 1970 UTC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deprecation {
    /// Since when it should not be used any more; `None` = it was not at the last publish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<i64>,
    /// When it will be gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sunset: Option<i64>,
    /// The URL of a page that says what to use instead, of ASCII alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}
