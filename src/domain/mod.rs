//! The nouns of Lakegate, as plain validated values.
//!
//! Nothing here does I/O or knows SQL, YAML, Arrow or HTTP; every other module may use it, and it uses none of them.

mod api_key;
mod auth;
mod checks;
mod column_type;
mod contract;
mod duration;
mod error;
mod generation;
mod pipeline;
mod project;
mod rate;
mod retry;
mod row_counts;
mod run;
mod schedule;
mod source_version;
mod standing;
mod table_name;
mod table_schema;

pub use api_key::{NewKey, ROLE_FORM, is_role, parse_expiry};
pub use auth::{ADMIN_ROLE, Auth, Caller, Credentials, JwtKeys, JwtSettings};
pub use checks::{Checks, RowCountCheck, SqlCheck};
pub use column_type::{ColumnType, ScalarType};
pub use contract::{Contract, PinnedColumn};
pub use duration::{DURATION_UNITS, parse_duration, spell_duration};
pub use error::{Blame, Code, Error, Result, Retry};
pub use generation::Generation;
pub use pipeline::{
    ColumnRules, ColumnSelection, DeltaSource, Deprecation, Mode, OnBadRow, OnDuplicateKey, OnSchemaChange,
    ParquetSource, Pipeline, RolePolicy, ServePolicy, SourcePin, SourceSpec, StorageOptions, Verify,
};
pub use project::{Alerts, ApiSettings, Limits, Project, Schemas, TlsFiles};
pub use rate::{Rate, RateLimit};
pub use retry::{Backoff, NextTry, chance, next_try, passes_soon};
pub use row_counts::RowCounts;
pub use run::{RunMode, RunOutcome, RunState, StageSeconds};
pub use schedule::{CronSchedule, Schedule};
pub use source_version::SourceVersion;
pub use standing::Standing;
pub use table_name::TableName;
pub use table_schema::{Column, TableSchema};
