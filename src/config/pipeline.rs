//! A file of `pipelines/` → [`Pipeline`].

use std::path::PathBuf;

use serde_json::{Value as Json, json};

use super::checks::{self, CheckKeys};
use super::json_schema;
use super::problem::{Place, Problem};
use super::reader::{At, Reader, Setting, SettingPath};
use super::schedule::{Timezone, When, schedule};
use super::section::{choice, section};
use super::serve::ServeKeys;
use super::settings::{
    self, DAY, GroupName, Indexes, Instant, KeyColumns, Names, PageUrl, Period, SECOND, Whole, Words,
};
use super::yaml::{Node, Value};
use crate::domain::{
    Code, ColumnRules, Deprecation, Mode, OnBadRow, OnDuplicateKey, OnSchemaChange, Pipeline, SourceSpec, TableName,
    Verify,
};

section! {
    /// One table: where its rows come from, what its key is, and when and how it is refreshed.
    PipelineFile, "a pipeline" {
        /// Name of the published table and its path in the read API; the file's stem unless declared.
        name: TableName,
        /// Where the rows come from: an address (Delta where there is a `_delta_log`, else Parquet; a local path is
        /// relative to the project), or `delta` or `parquet` with options.
        source: SourceSpec,
        /// Columns of the primary key, in order, by published name.
        primary_key: KeyColumns,
        /// Which columns are taken, under which names and types; all unless declared.
        columns: ColumnRules,
        /// SQL over the table `source`, run once per refresh.
        transform: Words,
        /// How refreshes are done.
        mode: Mode = "auto",
        /// When refreshes are done: `every 15m`, `hourly`, `daily`, `weekly`, `on change`, or five fields of cron in
        /// quotes; only on request unless declared.
        schedule: When,
        /// The time zone of the schedule, by its name in the IANA database.
        timezone: Timezone = "UTC",
        /// The group whose tables run and are published together, in one transaction; its pipelines have the same schedule.
        group: GroupName,
        /// What becomes of rows that share a key.
        on_duplicate_key: OnDuplicateKey = "fail",
        /// What becomes of rows that Postgres cannot hold.
        on_bad_row: OnBadRow = "fail",
        /// What becomes of a source whose columns have changed since the last publish.
        on_schema_change: OnSchemaChange = "add_columns",
        /// What must hold of a new state before it is published.
        checks: CheckKeys,
        /// Whether an empty source may empty the table.
        allow_empty: bool = false,
        /// How many rows are compared with the source after a load; full up to a million rows, else sampled, unless
        /// declared.
        verify: Verify,
        /// Further indexes for SQL readers: each a column or a list of columns, by published name.
        indexes: Indexes,
        /// Roles that may SELECT from the published view.
        grants: Names,
        /// How old the data may be before the pipeline is late, as `status` and alerts say; as old as it likes unless
        /// declared.
        freshness: Period<{ 60 * SECOND }, { 3_650 * DAY }>,
        /// Superseded generations kept besides the live one.
        retain: Whole<0, 1_000> = 1,
        /// The longest a run may take.
        timeout: Period<SECOND, { 30 * DAY }> = "6h",
        /// The longest a verified load may wait for the lock that its publish needs.
        publish_timeout: Period<SECOND, { 30 * DAY }> = "1h",
        /// How the read API serves the table.
        serve: ServeKeys,
        /// That the table is to go, as its clients are told by headers.
        deprecated: DeprecatedKeys,
    }
    required [source, primary_key]
    later []
}

section! {
    /// That the table is to go, as its clients are told by headers.
    DeprecatedKeys, "`deprecated`" {
        /// Since when it should not be used any more; when it was published last unless declared.
        since: Instant,
        /// When it will be gone.
        sunset: Instant,
        /// A page that says what to use instead.
        link: PageUrl,
    }
    required []
    later []
}

section! {
    /// The newest row of each key stays.
    LatestByKeys, "`on_duplicate_key`" {
        /// The published column whose greatest value decides; equal values on different rows fail.
        latest_by: Words,
    }
    required [latest_by]
    later []
}

section! {
    /// Bad rows are left out and kept in `rejected_rows`.
    RejectKeys, "`on_bad_row`" {
        /// How many.
        reject: RejectLimits,
    }
    required [reject]
    later []
}

section! {
    /// How many rows may be left out.
    RejectLimits, "`reject`" {
        /// The most rows that a run may leave out; one more fails it.
        max_rows: Whole<1, { u64::MAX }>,
    }
    required [max_rows]
    later []
}

choice! {
    Mode {
        "auto" => Mode::Auto, "Whatever is cheapest and safe.";
        "snapshot" => Mode::Snapshot, "A new generation whenever the source has changed.";
        "incremental" => Mode::Incremental, "After the first load never a snapshot: fails with the reason instead.";
    }
    later []
}

choice! {
    OnSchemaChange {
        "add_columns" => OnSchemaChange::AddColumns, "Added columns arrive, every other change fails.";
        "ignore" => OnSchemaChange::Ignore, "Added columns are left out and reported, every other change fails.";
        "fail" => OnSchemaChange::Fail, "Every change fails.";
        "follow" => OnSchemaChange::Follow, "Every change is followed, save one of the key.";
    }
    later []
}

choice! {
    Verify {
        "sampled" => Verify::Sampled, "One row in sixteen, others with each run.";
        "full" => Verify::Full, "All rows.";
    }
    later []
}

impl Setting for OnDuplicateKey {
    const COLLECTION: bool = true;

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        if let Value::Map(_) = &node.value {
            let column = LatestByKeys::read(node, reader)?.latest_by?.value.0;
            return Some(OnDuplicateKey::LatestBy(column));
        }
        settings::word(node, reader, &["fail"], &[], Some("{latest_by: column}")).map(|_| OnDuplicateKey::Fail)
    }

    fn schema() -> Json {
        let fail = json_schema::words(&[("fail", "The run fails with sample keys.")]);
        json!({"anyOf": [fail, LatestByKeys::schema()]})
    }
}

impl Setting for OnBadRow {
    const COLLECTION: bool = true;

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        if let Value::Map(_) = &node.value {
            let max_rows = RejectKeys::read(node, reader)?.reject?.value.max_rows?.value.0;
            return Some(OnBadRow::Reject { max_rows });
        }
        settings::word(node, reader, &["fail"], &[], Some("{reject: {max_rows: 100}}")).map(|_| OnBadRow::Fail)
    }

    fn schema() -> Json {
        let fail = json_schema::words(&[("fail", "The run fails with the key and the column of the first such row.")]);
        json!({"anyOf": [fail, RejectKeys::schema()]})
    }
}

/// `defaults`: keys of pipelines that hold wherever a pipeline does not declare them itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Defaults(pub PipelineFile);

/// Keys that each pipeline must declare itself.
const OWN_KEYS: [&str; 3] = ["name", "source", "primary_key"];

impl Setting for Defaults {
    const COLLECTION: bool = true;

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut keys = PipelineFile::keys();
        keys.noun = "`defaults`";
        keys.required.clear();
        keys.known.retain(|key| !OWN_KEYS.contains(key));
        keys.misplaced = OWN_KEYS.map(|key| (key, "every pipeline declares this itself")).to_vec();
        PipelineFile::read_keys(node, reader, &keys).map(Defaults)
    }

    fn schema() -> Json {
        let mut schema = PipelineFile::schema();
        if let Some(members) = schema.as_object_mut() {
            members.remove("required");
        }
        if let Some(properties) = schema["properties"].as_object_mut() {
            properties.retain(|key, _| !OWN_KEYS.contains(&key.as_str()));
        }
        schema
    }

    fn absent() -> Option<Self> {
        Some(Self::default())
    }

    fn paths() -> Vec<SettingPath> {
        let own = |path: &SettingPath| path.keys.first().is_some_and(|key| OWN_KEYS.contains(key));
        PipelineFile::paths().into_iter().filter(|path| !own(path)).collect()
    }
}

/// A pipeline and where it says what must fit the other pipelines.
pub(super) struct Declared {
    pub pipeline: Pipeline,
    /// The place of its name.
    pub name: Place,
    /// The place of its group or, where it declares one itself, of its schedule.
    pub schedule: Place,
}

/// Reads a pipeline file; `None` after reporting what is wrong.
pub(super) fn read(node: &Node, file: &str, defaults: &Defaults, reader: &mut Reader<'_>) -> Option<Declared> {
    let own = PipelineFile::read(node, reader)?;
    let declares_name = matches!(&node.value, Value::Map(entries) if entries.iter().any(|(key, _)| key.name == "name"));
    let name = if declares_name { own.name.clone() } else { name_of(file, reader) };
    let declared = own.over(defaults.0.clone());
    // That it is declared says something already: all of its keys may be left out.
    let is_to_go = declared.deprecated.is_some();
    let keys = declared.preset(reader);
    let deprecated = keys.deprecated.filter(|_| is_to_go).map(|deprecated| deprecation(deprecated.value, reader));
    let (name, serve) = (name?, keys.serve?.value);
    let of_schedule = keys.schedule.as_ref().map(|schedule| schedule.place.clone());
    let of_group = keys.group.as_ref().map(|group| group.place.clone());
    let pipeline = Pipeline {
        name: name.value,
        source: keys.source?.value,
        primary_key: keys.primary_key?.value.0,
        columns: keys.columns.map(|columns| columns.value).unwrap_or_default(),
        transform: keys.transform.map(|transform| transform.value.0),
        mode: keys.mode?.value,
        schedule: schedule(keys.schedule, keys.timezone)?,
        group: keys.group.map(|group| group.value.0),
        on_duplicate_key: keys.on_duplicate_key?.value,
        on_bad_row: keys.on_bad_row?.value,
        on_schema_change: keys.on_schema_change?.value,
        contract: None,
        checks: checks::checks(keys.checks?.value, reader)?,
        allow_empty: keys.allow_empty?.value,
        verify: keys.verify.map(|verify| verify.value),
        indexes: keys.indexes.map(|indexes| indexes.value.0).unwrap_or_default(),
        grants: keys.grants.map(|grants| grants.value.0).unwrap_or_default(),
        freshness: keys.freshness.map(|freshness| freshness.value.0),
        retain: keys.retain?.value.0 as u32,
        timeout: keys.timeout?.value.0,
        publish_timeout: keys.publish_timeout?.value.0,
        serve: serve.policy(deprecated)?,
        file: PathBuf::from(file),
    };
    let schedule = of_schedule.or(of_group).unwrap_or(Place::Project);
    Some(Declared { pipeline, name: name.place, schedule })
}

fn deprecation(keys: DeprecatedKeys, reader: &mut Reader<'_>) -> Deprecation {
    if let (Some(since), Some(sunset)) = (&keys.since, &keys.sunset)
        && sunset.value.0 < since.value.0
    {
        // RFC 9745, section 4.
        let hint = "a table goes after it was deprecated: mend one of both";
        let _: Option<()> = reader.invalid(&sunset.place, "`deprecated.sunset` is before `deprecated.since`", hint);
    }
    Deprecation {
        since: keys.since.map(|since| since.value.0),
        sunset: keys.sunset.map(|sunset| sunset.value.0),
        link: keys.link.map(|link| link.value.0),
    }
}

/// The name that a file gives its table.
fn name_of(file: &str, reader: &mut Reader<'_>) -> Option<At<TableName>> {
    let place = Place::Path(file.to_owned());
    let base = file.rsplit('/').next().unwrap_or_default();
    let stem = base.rsplit_once('.').map_or(base, |(stem, _)| stem);
    match TableName::new(stem) {
        Ok(value) => Some(At { value, place }),
        Err(error) => {
            let detail = format!("the file's stem `{stem}` cannot name a table");
            let hint =
                format!("declare `name:` in the file, or rename the file; {}", error.advice().unwrap_or_default());
            reader.problems.push(Problem::new(Code::InvalidName, &place, detail).hint(hint));
            None
        }
    }
}
