//! What a sync would do, and why. Decides everything that can be decided before anything is changed.

use std::sync::Arc;

use serde::Serialize;

use crate::destination::{Dependent, Facts, Shown, ViewChange};
use crate::domain::{
    Code, Column, Error, Generation, Pipeline, Result, RunMode, SourcePin, SourceSpec, TableName, TableSchema,
};
use crate::encode::Mapping;
use crate::postgres::{Purpose, Session};
use crate::source::{Source, SourceSize};
use crate::store::LoadedGeneration;

use super::changed::Changed;
use super::choose::{Choice, LOADS_WITHOUT_A_TRY, Published, choose};
use super::columns::Taken;
use super::fingerprint::fingerprint;
use super::schema_change::SchemaChange;
use super::{Engine, SyncRequest};

/// Bytes of a row in Postgres besides its values: header, item pointer, alignment, its entry in the key's index.
const ROW_OVERHEAD: u64 = 60;
/// What compressed columns grow to as rows, by experience with gold tables; only a guess to warn by.
const GROWTH: u64 = 4;

/// A plan for people and programs.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// The published table.
    pub pipeline: TableName,
    /// The group that it is published with.
    pub group: Option<TableName>,
    /// The other tables of the group.
    pub published_with: Vec<TableName>,
    /// What the sync would do.
    pub mode: RunMode,
    /// Why.
    pub reason: String,
    /// The source's address, without credentials.
    pub source: String,
    /// `delta` or `parquet`.
    pub format: String,
    /// The version that would be read.
    pub source_version: String,
    /// The version that is published now.
    pub published_version: Option<String>,
    /// Files that would be read.
    pub files: u64,
    /// Their bytes.
    pub bytes_to_read: u64,
    /// Rows, where the source's log or footers say so without reading the data.
    pub rows: Option<u64>,
    /// The key's columns.
    pub primary_key: Vec<String>,
    /// The columns of the view.
    pub columns: Vec<ColumnPlan>,
    /// Columns of the source without a type, left out.
    pub left_out: Vec<String>,
    /// What happens to the view: `created`, `replaced in place`, `made anew`, `left as it is`.
    pub view: &'static str,
    /// The statements that would run, apart from COPY and the bookkeeping.
    pub ddl: Vec<String>,
    /// What depends on the view, and would be kept.
    pub dependents: Vec<Dependent>,
    /// A guess at the bytes of the new generation with its key.
    pub estimated_bytes: u64,
    /// A guess at the bytes of all generations at the moment of the publish.
    pub peak_bytes: u64,
    /// The locks that readers could notice.
    pub locks: Vec<&'static str>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// A column of the view to be.
#[derive(Debug, Clone, Serialize)]
pub struct ColumnPlan {
    /// The published name.
    pub name: String,
    /// The name in the source.
    pub source: String,
    /// The type, with the precision that the declared type leaves out.
    #[serde(rename = "type")]
    pub ty: String,
    /// Whether it may be null.
    pub nullable: bool,
    /// `added` or `retyped` against what is published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<&'static str>,
}

/// A plan with what is needed to do it.
pub(super) struct Decided {
    pub(super) plan: Plan,
    pub(super) source: Arc<Source>,
    pub(super) mapping: Mapping,
    /// The columns of a generation that is loaded anew.
    when_loaded: TableSchema,
    pub(super) fingerprint: String,
    /// The live generation, where there is one.
    pub(super) live: Option<LoadedGeneration>,
    /// What changed since it was loaded, where that is to be applied in place.
    pub(super) changes: Option<Arc<Changed>>,
}

impl Decided {
    pub(super) fn schema(&self) -> &TableSchema {
        &self.mapping.schema
    }

    /// Whether the live generation is to have other columns, or what is declared of them changes.
    pub(super) fn extends(&self) -> bool {
        self.plan.mode != RunMode::Snapshot && self.live.as_ref().is_some_and(|live| live.schema != self.mapping.schema)
    }

    /// Turns to a load of the whole source.
    pub(super) fn turn_to_load(&mut self, reason: String) {
        self.plan.reason = reason;
        self.plan.mode = RunMode::Snapshot;
        self.mapping.schema = self.when_loaded.clone();
    }

    /// The live generation of a table that is changed in place.
    pub(super) fn live(&self) -> Result<&LoadedGeneration> {
        self.live.as_ref().ok_or_else(|| Error::internal("nothing is published that could be changed"))
    }
}

impl Engine {
    /// Says what a sync of the pipeline would do. Changes nothing.
    pub async fn plan(&self, pipeline: &Pipeline) -> Result<Plan> {
        let mut session = self.connector.connect(Purpose::Sync, "lakegate plan").await?;
        let request = SyncRequest::manual();
        let source = self.open_for(&session, pipeline, &request).await?;
        let mut decided = Box::pin(self.decide(&session, pipeline, &request, source)).await?;
        let warnings = self.try_checks(&mut session, pipeline, decided.schema()).await?;
        decided.plan.warnings.extend(warnings);
        Ok(decided.plan)
    }

    /// Opens the source of a pipeline for a refresh, with what was kept of the state that is published.
    pub(super) async fn open_for(
        &self,
        session: &Session,
        pipeline: &Pipeline,
        request: &SyncRequest,
    ) -> Result<Arc<Source>> {
        // Who asks for a full load may doubt what was kept.
        let record = if self.prepared && !request.full {
            self.control.source_record(&**session, &pipeline.name).await?
        } else {
            None
        };
        self.open_source(pipeline, request.at.as_ref(), record).await
    }

    /// Opens the source of a pipeline, at another state than it names if asked to. `record` is what was kept of an earlier
    /// state: [`Source::record`].
    pub(super) async fn open_source(
        &self,
        pipeline: &Pipeline,
        at: Option<&SourcePin>,
        record: Option<Vec<u8>>,
    ) -> Result<Arc<Source>> {
        let spec = match at {
            None => pipeline.source.clone(),
            Some(pin) => pinned(&pipeline.source, pin)?,
        };
        Ok(Arc::new(Source::open_after(&spec, &self.sources, record).await?))
    }

    /// Decides what becomes of a source that has been opened.
    pub(super) async fn decide(
        &self,
        session: &Session,
        pipeline: &Pipeline,
        request: &SyncRequest,
        source: Arc<Source>,
    ) -> Result<Decided> {
        let name = &pipeline.name;
        let live = if self.prepared { self.control.live_generation(&**session, name).await? } else { None };
        let fingerprint = fingerprint(pipeline);
        let taken = self.take_columns(pipeline, &source, live.as_ref()).await?;
        let schema = &taken.mapping.schema;
        check_names_of_columns(pipeline, schema)?;
        let facts = self.destination.preflight(session, name, schema, &pipeline.grants, live.is_some()).await?;
        let standing = match &live {
            Some(live) => Some(Published {
                live,
                same_definition: live.fingerprint == fingerprint,
                view_stands: facts.view_change == ViewChange::Replace,
                given_up_bytes: self.control.given_up_bytes(&**session, name, LOADS_WITHOUT_A_TRY).await?,
            }),
            None => None,
        };
        let choice = choose(pipeline, standing.as_ref(), &source, &taken, request).await?;
        let Taken { mut mapping, in_place, change, warnings } = taken;
        let when_loaded = mapping.schema.clone();
        if let Some(in_place) = in_place.filter(|_| choice.mode != RunMode::Snapshot) {
            mapping.schema = in_place;
        }
        let mut plan = self.describe(pipeline, &source, &mapping, &choice, &facts, live.as_ref(), &change);
        plan.warnings.extend(warnings);
        self.check_disk(&plan)?;
        Ok(Decided { plan, source, mapping, when_loaded, fingerprint, live, changes: choice.changes })
    }

    #[allow(clippy::too_many_arguments, reason = "each is one source of facts for the plan")]
    fn describe(
        &self,
        pipeline: &Pipeline,
        source: &Source,
        mapping: &Mapping,
        choice: &Choice,
        facts: &Facts,
        live: Option<&LoadedGeneration>,
        change: &SchemaChange,
    ) -> Plan {
        let mode = choice.mode;
        let schema = &mapping.schema;
        let size = choice.changes.as_ref().map_or_else(|| source.size(), |changes| changes.size());
        let rows = if pipeline.transform.is_none() { size.rows } else { None };
        let estimated_bytes = match mode {
            RunMode::Noop => 0,
            _ => estimated_bytes(size),
        };
        let extended = live.filter(|live| mode != RunMode::Snapshot && live.schema != *schema);
        let ddl = self.ddl(pipeline, mode, schema, live, extended, facts.view_change);
        let columns = schema.columns.iter().map(|column| ColumnPlan {
            name: column.name.clone(),
            source: column.source.clone(),
            ty: column.ty.to_string(),
            nullable: column.nullable,
            change: if live.is_some() && change.added.contains(&column.name) {
                Some("added")
            } else if change.retyped.iter().any(|(name, ..)| *name == column.name) {
                Some("retyped")
            } else {
                None
            },
        });
        Plan {
            pipeline: pipeline.name.clone(),
            group: pipeline.group.clone(),
            published_with: self.others(pipeline).map(|other| other.name.clone()).collect(),
            mode,
            reason: choice.reason.clone(),
            source: source.address().to_owned(),
            format: source.format().to_string(),
            source_version: source.version().version.clone(),
            published_version: live.map(|live| live.source.version.clone()),
            files: size.files,
            bytes_to_read: size.bytes,
            rows,
            primary_key: schema.key_columns().map(|column| column.name.clone()).collect(),
            columns: columns.collect(),
            left_out: mapping.left_out.clone(),
            view: match facts.view_change {
                _ if mode != RunMode::Snapshot && extended.is_none() => "left as it is",
                ViewChange::Create => "created",
                ViewChange::Replace => "replaced in place",
                ViewChange::Recreate => "made anew, with its owner, grants and comments",
            },
            ddl,
            dependents: facts.dependents.clone(),
            estimated_bytes,
            peak_bytes: estimated_bytes + facts.bytes_now.unsigned_abs(),
            locks: match mode {
                RunMode::Snapshot => {
                    vec!["ACCESS EXCLUSIVE on the view while it is repointed, given up after 200 ms and tried again"]
                }
                RunMode::Append | RunMode::Merge if extended.is_some() => vec![
                    "ACCESS EXCLUSIVE on the generation while columns are added, and on the view while it is replaced, \
                     given up after 200 ms and tried again",
                ],
                RunMode::Append | RunMode::Merge => vec!["ROW EXCLUSIVE on the generation, which stops no reader"],
                RunMode::Noop => Vec::new(),
            },
            warnings: change.removed.iter().map(|name| format!("the published column `{name}` goes")).collect(),
        }
    }

    /// The statements of a run that change what stands in Postgres.
    fn ddl(
        &self,
        pipeline: &Pipeline,
        mode: RunMode,
        schema: &TableSchema,
        live: Option<&LoadedGeneration>,
        extended: Option<&LoadedGeneration>,
        view_change: ViewChange,
    ) -> Vec<String> {
        let (destination, name) = (&self.destination, &pipeline.name);
        let (mut ddl, generation) = match extended {
            Some(live) => (destination.extend_sql(name, live.generation, &live.schema, schema), live.generation),
            None if mode != RunMode::Snapshot => return Vec::new(),
            None => {
                // The number is drawn when the run begins; until then the next one stands for it.
                let generation = Generation(live.map_or(1, |live| live.generation.0 + 1));
                let mut ddl = vec![destination.create_table_sql(name, generation, schema).trim_end().to_owned()];
                ddl.extend(destination.index_sql(name, generation, schema, &pipeline.indexes));
                (ddl, generation)
            }
        };
        let shown = Shown { name, generation, schema, in_group: pipeline.group.is_some() };
        ddl.push(destination.view_sql(&shown, view_change, "").trim_end().to_owned());
        ddl
    }

    /// As [`Engine::check_disk`], for a load of the whole source in place of the planned changes.
    pub(super) fn check_disk_of_whole(&self, decided: &mut Decided) -> Result<()> {
        decided.plan.estimated_bytes = estimated_bytes(decided.source.size());
        self.check_disk(&decided.plan)
    }

    /// Refuses a load that cannot fit on the embedded server's disk. Disks of other servers cannot be seen from here.
    fn check_disk(&self, plan: &Plan) -> Result<()> {
        let Some(directory) = &self.data_directory else { return Ok(()) };
        let Ok(disk) = nix::sys::statvfs::statvfs(directory) else { return Ok(()) };
        let free = disk.blocks_available() * disk.fragment_size();
        if free < plan.estimated_bytes {
            return Err(Error::new(
                Code::PostgresDiskFull,
                format!(
                    "`{}` needs about {} MiB, {} has {} MiB free",
                    plan.pipeline,
                    plan.estimated_bytes >> 20,
                    directory.display(),
                    free >> 20
                ),
            )
            .hint("free disk space, lower `retain`, or name another Postgres with `postgres`"));
        }
        Ok(())
    }
}

fn estimated_bytes(size: SourceSize) -> u64 {
    size.bytes * GROWTH + size.rows.unwrap_or_default() * ROW_OVERHEAD
}

/// Columns that the pipeline names elsewhere must be among the published ones.
pub(super) fn check_names_of_columns(pipeline: &Pipeline, schema: &TableSchema) -> Result<()> {
    let latest = pipeline.on_duplicate_key.latest_by().map(|column| ("on_duplicate_key", column));
    let indexed = pipeline.indexes.iter().flatten().map(|column| ("indexes", column.as_str()));
    let hidden = pipeline.serve.hide.iter().map(|column| ("serve: {hide", column.as_str()));
    let of_roles = || pipeline.serve.roles.iter().flatten().flat_map(|(_, role)| &role.hide);
    let hidden_from_roles = of_roles().map(|column| ("serve: {roles", column.as_str()));
    let filtered = pipeline.serve.row_filter.keys().map(|column| ("serve: {row_filter", column.as_str()));
    let served = hidden.chain(hidden_from_roles).chain(filtered);
    for (key, column) in latest.into_iter().chain(indexed).chain(served) {
        if schema.position(column).is_none() {
            let known: Vec<&str> = schema.columns.iter().map(|column| column.name.as_str()).collect();
            return Err(Error::new(
                Code::ColumnMissing,
                format!("`{}`: `{key}` names the column `{column}`, which is not published", pipeline.name),
            )
            .hint(format!("the columns are: {}", known.join(", "))));
        }
    }
    let is_comparable = |column: &&Column| column.ty.scalar().is_some_and(|ty| ty.can_be_key());
    let of_filter = |column: &&Column| pipeline.serve.row_filter.contains_key(&column.name);
    if let Some(column) = schema.columns.iter().filter(of_filter).find(|column| !is_comparable(column)) {
        return Err(Error::new(
            Code::UnsupportedKeyType,
            format!(
                "`{}`: `row_filter` names `{}`, whose values cannot be compared with a text",
                pipeline.name, column.name
            ),
        )
        .hint("filter by a column of text, whole numbers, dates or another type that keys can have"));
    }
    let is_hidden = |column: &&Column| {
        pipeline.serve.hide.contains(&column.name) || of_roles().any(|hidden| *hidden == column.name)
    };
    if let Some(hidden) = schema.key_columns().find(is_hidden) {
        return Err(Error::new(
            Code::InvalidValue,
            format!("`{}`: `hide` names the key column `{}`", pipeline.name, hidden.name),
        )
        .hint("whoever asks by key knows the key"));
    }
    Ok(())
}

/// The same source at a fixed state.
fn pinned(spec: &SourceSpec, pin: &SourcePin) -> Result<SourceSpec> {
    let (uri, options) = match spec {
        SourceSpec::Auto(uri) => (uri.clone(), crate::domain::StorageOptions::new()),
        SourceSpec::Delta(delta) => (delta.uri.clone(), delta.options.clone()),
        SourceSpec::Parquet(parquet) => {
            return Err(Error::new(
                Code::VersionUnavailable,
                format!("{} is Parquet without a log: it has no versions to go back to", parquet.uri),
            )
            .hint("`lakegate generations` lists what is kept; go back to one with --to"));
        }
    };
    Ok(SourceSpec::Delta(crate::domain::DeltaSource { uri, pin: Some(pin.clone()), options }))
}
