//! How every table stands: what is published of it, how fresh it is, how its syncs fare.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::domain::{Pipeline, Result, TableName};
use crate::engine::Engine;
use crate::store::{Published, RunRecord, SyncState};

use super::alarm::is_late;
use super::due::{NextRun, next_run};

/// One table on its two axes: a failing sync is not an outage.
#[derive(Debug, Serialize)]
pub struct TableStatus {
    /// The table.
    pub name: String,
    /// `online` or `offline`.
    pub serving: &'static str,
    /// `idle`, `running` or `failing`.
    pub sync: &'static str,
    /// The group that it is published with.
    pub group: Option<TableName>,
    /// Whether the data is older than the pipeline's `freshness`.
    pub late: bool,
    /// How many runs have failed since the last one that did not.
    pub failures: u32,
    /// The code of the last of them.
    pub error_code: Option<String>,
    /// When the schedule tries again while syncs fail, where it does so by the clock.
    pub next_try_at: Option<DateTime<Utc>>,
    /// Whether its schedule is stopped, or that of another table of its group.
    pub paused: bool,
    /// Whether it is published but its pipeline file is gone.
    pub orphaned: bool,
    /// The published generation.
    pub generation: Option<i64>,
    /// The number of its publish.
    pub publish_no: Option<i64>,
    /// The published version of the source.
    pub source_version: Option<String>,
    /// When it was published.
    pub published_at: Option<DateTime<Utc>>,
    /// When it was last compared with its source's version.
    pub checked_at: Option<DateTime<Utc>>,
    /// The last run.
    pub last_run: Option<RunRecord>,
    /// What failed last, while syncs fail, as the run's record holds it.
    #[serde(skip)]
    pub error: Option<serde_json::Value>,
    /// When it is tried again, while its syncs fail.
    #[serde(skip)]
    pub next_run: Option<NextRun>,
    /// When the last run ended that did what it should.
    #[serde(skip)]
    pub succeeded_at: Option<DateTime<Utc>>,
    /// The server's time of this look; `None` of an orphaned table.
    #[serde(skip)]
    pub as_of: Option<DateTime<Utc>>,
}

/// How all tables stand that are declared or published, by name.
///
/// # Errors
/// Those of the server.
pub async fn table_statuses(engine: &Engine) -> Result<Vec<TableStatus>> {
    let session = engine.control_session().await?;
    let pipelines = &engine.project().pipelines;
    let (published, mut runs, states) = if engine.is_prepared() {
        let control = engine.control();
        let names: Vec<&TableName> = pipelines.iter().map(|pipeline| &pipeline.name).collect();
        let published = control.all_published(&*session).await?;
        (published, control.last_runs(&*session).await?, control.sync_states(&*session, &names).await?)
    } else {
        Default::default()
    };
    let declared = pipelines.iter().map(|pipeline| pipeline.name.to_string());
    let orphans = published.iter().map(|row| row.name.clone());
    let mut names: Vec<String> = declared.chain(orphans).collect();
    names.sort();
    names.dedup();
    let mut tables = Vec::new();
    for name in names {
        let live = published.iter().find(|row| row.name == name);
        let last = runs.iter().position(|run| run.pipeline == name).map(|index| runs.swap_remove(index));
        let pipeline = pipelines.iter().find(|pipeline| pipeline.name.as_str() == name);
        let state = states.iter().find(|state| state.pipeline == name);
        let members = pipeline.map(|pipeline| engine.members(pipeline)).unwrap_or_default();
        let is_member = |state: &&SyncState| members.iter().any(|member| member.name.as_str() == state.pipeline);
        let paused = states.iter().filter(is_member).any(|state| state.paused);
        tables.push(table_status(name, pipeline, live, last, paused, state));
    }
    Ok(tables)
}

fn table_status(
    name: String,
    pipeline: Option<&Pipeline>,
    live: Option<&Published>,
    last_run: Option<RunRecord>,
    paused: bool,
    state: Option<&SyncState>,
) -> TableStatus {
    let failures = state.map_or(0, |state| state.failures);
    let sync = match state {
        Some(state) if state.under_way => "running",
        _ if failures > 0 => "failing",
        _ => "idle",
    };
    let failing = pipeline.zip(state).filter(|(_, state)| state.failures > 0 && !paused && !state.under_way);
    let next_run = failing.map(|(pipeline, state)| next_run(pipeline, state));
    TableStatus {
        name,
        serving: if live.is_some() { "online" } else { "offline" },
        sync,
        group: pipeline.and_then(|pipeline| pipeline.group.clone()),
        late: pipeline.zip(state).is_some_and(|(pipeline, state)| is_late(pipeline, state)),
        failures,
        error_code: state.and_then(|state| state.failure.as_ref()).map(|failure| failure.code.to_string()),
        next_try_at: next_run.and_then(|next| match next {
            NextRun::At(time) => Some(time),
            NextRun::WhenSourceMoves | NextRun::OnRequest => None,
        }),
        paused,
        orphaned: pipeline.is_none(),
        generation: live.map(|live| live.generation.0),
        publish_no: live.map(|live| live.publish_no),
        source_version: live.map(|live| live.source_version.clone()),
        published_at: live.map(|live| live.published_at),
        checked_at: live.map(|live| live.checked_at),
        succeeded_at: state.and_then(|state| state.succeeded_at),
        as_of: state.map(|state| state.now),
        error: state.and_then(|state| state.failure.as_ref()).map(|failure| failure.error.clone()),
        next_run,
        last_run,
    }
}
