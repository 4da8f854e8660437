//! The grammar of the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Sync lakehouse tables into Postgres and serve their rows by primary key over HTTP.
#[derive(Debug, Parser)]
#[command(name = "lakegate", version, max_term_width = 100, disable_help_subcommand = true)]
pub(super) struct Arguments {
    /// The project's folder: pipelines/*.yaml and, if there is one, lakegate.yaml.
    #[arg(long, global = true, env = "LAKEGATE_DIR", hide_env_values = true, default_value = ".", value_name = "DIR")]
    #[arg(display_order = 100)]
    pub(super) project: PathBuf,
    /// How data is printed to standard output. Progress and logs go to standard error.
    #[arg(long, global = true, value_enum, default_value_t = Output::Text, display_order = 101)]
    pub(super) output: Output,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// The form of printed data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// Tables and sentences for people.
    Text,
    /// One JSON value a line.
    Json,
    /// The same as json; where rows are printed, one row a line.
    Ndjson,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a new project that runs as it is, with a sample lake.
    Init(InitArgs),
    /// Write a small real lake: Delta tables with history, updates and deletes, and Parquet files.
    Sample(SampleArgs),
    /// Look at a source: version, schema, features, size, first rows.
    Preview(PreviewArgs),
    /// Look at a source, propose a key that is unique and never null, and write the pipeline file.
    Add(AddArgs),
    /// Check all files and print every problem with its place.
    Validate,
    /// Say what a sync would do; change nothing.
    Plan(NamesArgs),
    /// Bring tables to the state of their sources, now.
    Sync(SyncArgs),
    /// Run everything: Postgres (if embedded), the schedule, the read API, the admin API.
    Up,
    /// Run the read API alone, as a replica that needs nothing but Postgres.
    Serve,
    /// Say what is published, how fresh it is and how syncs fare.
    Status,
    /// List runs, newest first.
    Runs(RunsArgs),
    /// List the generations of a table, newest first.
    Generations(NameArgs),
    /// List the rows that the last run left out, with the reason of each.
    Rejected(RejectedArgs),
    /// Look one row up by its key, through the API's own code.
    Get(GetArgs),
    /// Go back to an earlier generation or source version, and pause the pipeline.
    Rollback(RollbackArgs),
    /// Stop a pipeline's schedule.
    Pause(NameArgs),
    /// Let a paused pipeline run by its schedule again.
    Resume(NameArgs),
    /// End the run of a pipeline that is under way, in whichever process.
    Cancel(CancelArgs),
    /// Compare a whole published table with its source now.
    Verify(NameArgs),
    /// Write down the columns and the key that a table promises its readers; syncs are held to it.
    Pin(NameArgs),
    /// End a table: its view, its generations, its entry in the API.
    Drop(DropArgs),
    /// Make, list and revoke API keys.
    Keys(KeysArgs),
    /// Print a JSON Schema for editors, or the OpenAPI document of the read API.
    Schema(SchemaArgs),
    /// Check Postgres, privileges, disk and lake access, and say what to do.
    Doctor(DoctorArgs),
}

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// The folder to make the project in; that of --project if left out.
    pub(super) dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct SampleArgs {
    /// The folder to write the lake into: absent, empty, or with an earlier sample.
    pub(super) dir: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct PreviewArgs {
    /// A Delta table or Parquet files: a path or a URL.
    pub(super) source: String,
    /// How many rows to show.
    #[arg(long, default_value_t = 10)]
    pub(super) limit: usize,
    /// Show every row.
    #[arg(long, conflicts_with = "limit")]
    pub(super) all: bool,
}

#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// A Delta table or Parquet files: a path or a URL.
    pub(super) source: String,
    /// The key's columns, separated by commas; proposed from the data if left out.
    #[arg(long, value_delimiter = ',')]
    pub(super) key: Vec<String>,
    /// The published name; the last part of the address if left out.
    #[arg(long)]
    pub(super) name: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct NamesArgs {
    /// Pipelines; all if none is named.
    pub(super) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct NameArgs {
    /// The pipeline.
    pub(super) name: String,
}

#[derive(Debug, Args)]
pub(super) struct SyncArgs {
    /// Pipelines; all if none is named.
    pub(super) names: Vec<String>,
    /// Load a new generation even where nothing has changed.
    #[arg(long)]
    pub(super) full: bool,
    /// Fail when a run is under way, instead of joining it.
    #[arg(long)]
    pub(super) no_wait: bool,
    /// Publish a state that `checks` refuse, this once; the run's record says what they found.
    #[arg(long)]
    pub(super) ignore_checks: bool,
}

#[derive(Debug, Args)]
pub(super) struct CancelArgs {
    /// The pipeline; of a group, the whole run is cancelled.
    pub(super) name: String,
    /// Ask for the end, and do not wait for it.
    #[arg(long)]
    pub(super) no_wait: bool,
}

#[derive(Debug, Args)]
pub(super) struct RunsArgs {
    /// Of this pipeline only.
    pub(super) name: Option<String>,
    /// At most this many.
    #[arg(long, default_value_t = 20)]
    pub(super) limit: u32,
}

#[derive(Debug, Args)]
pub(super) struct RejectedArgs {
    /// The pipeline.
    pub(super) name: String,
    /// Of this run instead of the last that left rows out.
    #[arg(long)]
    pub(super) run: Option<i64>,
    /// At most this many.
    #[arg(long, default_value_t = 100)]
    pub(super) limit: u32,
}

#[derive(Debug, Args)]
pub(super) struct GetArgs {
    /// The published table.
    pub(super) name: String,
    /// The key, one value a column, as text. Put `--` in front of values that begin with a hyphen and are no numbers.
    #[arg(required = true, allow_negative_numbers = true)]
    pub(super) key: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct RollbackArgs {
    /// The published table.
    pub(super) name: String,
    /// The generation to go back to; the one before the present if neither is given.
    #[arg(long, conflicts_with = "to_version")]
    pub(super) to: Option<i64>,
    /// The version of the source to go back to.
    #[arg(long)]
    pub(super) to_version: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct DropArgs {
    /// The published table.
    pub(super) name: String,
    /// Do it; without this the command says what it would end, and refuses.
    #[arg(long)]
    pub(super) yes: bool,
}

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Print the statements that give a login what Lakegate needs, for an administrator to run.
    #[arg(long)]
    pub(super) grants: bool,
}

#[derive(Debug, Args)]
pub(super) struct KeysArgs {
    #[command(subcommand)]
    pub(super) action: KeysAction,
}

#[derive(Debug, Subcommand)]
pub(super) enum KeysAction {
    /// Make a key, and show it: this once.
    Create(CreateKeyArgs),
    /// List the keys, newest first.
    List,
    /// Revoke a key: within two seconds no server takes it any more.
    Revoke(RevokeKeyArgs),
}

#[derive(Debug, Args)]
pub(super) struct CreateKeyArgs {
    /// What to call it, for people.
    pub(super) name: String,
    /// A role of whoever shows the key; may be given several times.
    #[arg(long = "role", value_name = "ROLE")]
    pub(super) roles: Vec<String>,
    /// What else is to be known of him, for row filters; may be given several times.
    #[arg(long = "attribute", value_name = "NAME=VALUE")]
    pub(super) attributes: Vec<String>,
    /// When the key ends: `90d`, `2027-01-31`, or RFC 3339; never if left out.
    #[arg(long, value_name = "WHEN")]
    pub(super) expires: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct RevokeKeyArgs {
    /// The key's id: the part between the first two underscores.
    pub(super) id: String,
}

#[derive(Debug, Args)]
pub(super) struct SchemaArgs {
    /// Of what.
    #[arg(value_enum)]
    pub(super) of: SchemaOf,
}

/// What a schema can be printed of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum SchemaOf {
    /// A pipeline file.
    Pipeline,
    /// `lakegate.yaml`.
    Project,
    /// The contract of a table, in `schemas/tables/`.
    Table,
    /// The read API with every published table, as it is now.
    Openapi,
}
