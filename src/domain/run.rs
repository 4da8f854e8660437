//! One attempt to bring a table to a state of its source.

use serde::{Deserialize, Serialize};

use super::{Generation, RowCounts, TableName};

/// Where a run stands, or how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Under way.
    Running,
    /// Loaded and verified; waits for the lock that its publish needs.
    Waiting,
    /// Published.
    Succeeded,
    /// There was nothing to do.
    Skipped,
    /// Ended by an error; what was published before is untouched.
    Failed,
    /// Ended by a person.
    Cancelled,
}

/// What a run does to the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunMode {
    /// Load everything into a new generation.
    Snapshot,
    /// Add rows to the live generation.
    Append,
    /// Change rows of the live generation.
    Merge,
    /// Leave the data and note that it was checked.
    Noop,
}

macro_rules! text_form {
    ($type:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        impl $type {
            /// The name in JSON, SQL and on the command line.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $($type::$variant => $text),+ }
            }
        }
        impl std::str::FromStr for $type {
            type Err = super::Error;
            fn from_str(text: &str) -> super::Result<Self> {
                match text {
                    $($text => Ok($type::$variant),)+
                    other => Err(super::Error::internal(format!("`{other}` is not a {}", stringify!($type)))),
                }
            }
        }
    };
}

text_form!(RunState {
    Running = "running",
    Waiting = "waiting",
    Succeeded = "succeeded",
    Skipped = "skipped",
    Failed = "failed",
    Cancelled = "cancelled",
});
text_form!(RunMode { Snapshot = "snapshot", Append = "append", Merge = "merge", Noop = "noop" });

/// Wall-clock seconds by stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct StageSeconds {
    /// Reading the log, comparing schemas.
    pub plan: f64,
    /// Making the table, reading files, encoding and COPY, which overlap.
    pub copy: f64,
    /// Indexes, primary key, ANALYZE.
    pub index: f64,
    /// Counts, row hashes and checks.
    pub verify: f64,
    /// The publish transaction, waiting for its lock included.
    pub publish: f64,
    /// From the first to the last moment of the run.
    pub total: f64,
}

/// The record of a finished run, as `lakegate.runs` keeps it and `sync --output json` prints it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunOutcome {
    /// The published table.
    pub pipeline: TableName,
    /// The run's number.
    pub run: i64,
    /// How it ended.
    pub state: RunState,
    /// What it did.
    pub mode: RunMode,
    /// Why it did that.
    pub reason: String,
    /// The source version now published.
    pub source_version: Option<String>,
    /// The generation now published.
    pub generation: Option<Generation>,
    /// The number of the publish that this run made or confirmed.
    pub publish_no: Option<i64>,
    /// Rows.
    #[serde(flatten)]
    pub rows: RowCounts,
    /// Bytes fetched from the lake.
    pub bytes_read: u64,
    /// Bytes sent to Postgres by COPY.
    pub bytes_copied: u64,
    /// The sum of row hashes over the verified rows, in decimal digits.
    pub checksum: Option<String>,
    /// The share of rows whose values were compared, 0 to 1.
    pub coverage: f64,
    /// What the checks said that a person had this run ignore; empty where they all held, `None` where nothing was to be
    /// ignored.
    pub checks_overridden: Option<Vec<String>>,
    /// Time by stage.
    pub seconds: StageSeconds,
}

impl RunOutcome {
    /// A run that has not done anything yet.
    #[must_use]
    pub fn begun(pipeline: &TableName, run: i64, mode: RunMode, reason: String) -> Self {
        RunOutcome {
            pipeline: pipeline.clone(),
            run,
            state: RunState::Running,
            mode,
            reason,
            source_version: None,
            generation: None,
            publish_no: None,
            rows: RowCounts::default(),
            bytes_read: 0,
            bytes_copied: 0,
            checksum: None,
            coverage: 0.0,
            checks_overridden: None,
            seconds: StageSeconds::default(),
        }
    }
}
