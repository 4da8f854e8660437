//! Where rows come from: Delta tables and Parquet files, on local disks and object stores.
//!
//! [`Source::open`] finds out what an address is, fixes the version and lists its files; [`Source::scan`] reads them
//! with several workers and bounded memory. Both formats share all of the reading: each only says which files and
//! columns there are.

mod cast;
mod changes;
mod column_chunks;
mod columns;
mod data_file;
mod delta;
mod failure;
mod file_schema;
mod io;
mod live_rows;
mod local_file;
mod object;
mod object_store;
mod parquet;
mod part;
mod queue;
mod row_group;
mod row_identity;
mod scan;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};

use crate::domain::{
    Code, DeltaSource, Error, ParquetSource, Result, SourcePin, SourceSpec, SourceVersion, StorageOptions,
};

pub use changes::{ChangedRows, Changes, FollowedColumns, Gone, OTHER_HISTORY, Pick, RowPlace};
pub use columns::{COMMENT, VARIANT};
pub use object_store::{Location, open as open_location};
pub use row_group::BatchPlace;
pub use row_identity::Narrowed;
pub use scan::{Scan, ScanTotals, ScanWorker};

use changes::Found;
use columns::{Origin, Target};
use data_file::DataFile;

/// What opening a source depends on besides its declaration.
#[derive(Debug, Clone)]
pub struct SourceContext {
    /// Relative paths begin here.
    pub project_dir: PathBuf,
    /// The environment; variables of the clouds (`AWS_`, `AZURE_`, `GOOGLE_`) are defaults for object stores.
    pub env: BTreeMap<String, String>,
}

/// The format of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A Delta table.
    Delta,
    /// Parquet files without a log.
    Parquet,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Delta => "delta",
            Format::Parquet => "parquet",
        })
    }
}

/// How large a source is, before anything is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceSize {
    /// Data files.
    pub files: u64,
    /// Bytes of the data files, compressed.
    pub bytes: u64,
    /// Rows, deleted ones left out; `None` where the log does not say for every file.
    pub rows: Option<u64>,
}

impl SourceSize {
    fn of(files: &[DataFile]) -> Self {
        SourceSize {
            files: files.len() as u64,
            bytes: files.iter().map(|file| file.size).sum(),
            rows: files.iter().map(|file| file.live.count_of(file.rows)).sum(),
        }
    }
}

/// A source at one version, ready to be read, any number of times.
pub struct Source {
    location: Location,
    address: Arc<str>,
    format: Format,
    version: SourceVersion,
    schema: SchemaRef,
    targets: Vec<Target>,
    files: Arc<[DataFile]>,
    partition_columns: Vec<String>,
    features: Vec<String>,
    since: Arc<Since>,
    record: Option<Vec<u8>>,
    files_stand: Arc<FilesStand>,
}

/// Finds out what changed since an earlier version. Blocks.
type Since = dyn Fn(&SourceVersion, Option<&FollowedColumns>) -> Result<Found> + Send + Sync;
/// Finds out whether the files are still those that were opened. Blocks.
type FilesStand = dyn Fn() -> Result<()> + Send + Sync;

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("address", &self.address).field("version", &self.version).finish_non_exhaustive()
    }
}

/// What a format finds out about a source.
struct Resolved {
    format: Format,
    version: SourceVersion,
    targets: Vec<Target>,
    files: Vec<DataFile>,
    partition_columns: Vec<String>,
    features: Vec<String>,
    since: Box<Since>,
    record: Option<Vec<u8>>,
    files_stand: Box<FilesStand>,
}

impl Source {
    /// Opens a source at its newest or pinned version: reads the log, or lists the files and reads their footers.
    ///
    /// # Errors
    /// [`Code::SourceNotFound`], [`Code::SourceAccess`], [`Code::SourceUnavailable`], [`Code::SourceCorrupt`],
    /// [`Code::UnsupportedFeature`], [`Code::UnsupportedType`], [`Code::UnsupportedUri`], [`Code::VersionUnavailable`],
    /// [`Code::SchemaMismatch`], [`Code::InvalidValue`] for an unknown option of the store.
    pub async fn open(spec: &SourceSpec, context: &SourceContext) -> Result<Source> {
        Source::open_after(spec, context, None).await
    }

    /// As [`Source::open`], with the record of an earlier state ([`Source::record`]): what it knows of files that have not
    /// changed is not read again.
    ///
    /// # Errors
    /// As [`Source::open`].
    pub async fn open_after(spec: &SourceSpec, context: &SourceContext, record: Option<Vec<u8>>) -> Result<Source> {
        let place = Place::find(spec, context).await?;
        io::run_blocking(move || {
            let resolved = match &place.format {
                FoundFormat::Delta(pin) => delta::open(&place.location, pin.as_ref())?,
                FoundFormat::Parquet { pattern, hive } => {
                    parquet::open(&place.location, pattern.as_deref(), *hive, record.as_deref())?
                }
            };
            let fields: arrow_schema::Fields =
                resolved.targets.iter().map(|target| Arc::clone(&target.field)).collect();
            Ok(Source {
                address: place.location.display().into(),
                location: place.location,
                format: resolved.format,
                version: resolved.version,
                schema: Arc::new(Schema::new(fields)),
                targets: resolved.targets,
                files: resolved.files.into(),
                partition_columns: resolved.partition_columns,
                features: resolved.features,
                since: resolved.since.into(),
                record: resolved.record,
                files_stand: resolved.files_stand.into(),
            })
        })
        .await
    }

    /// Which version [`Source::open`] would open now. Cheap: no list of files of a Delta table, no footers.
    ///
    /// # Errors
    /// As [`Source::open`].
    pub async fn current_version(spec: &SourceSpec, context: &SourceContext) -> Result<SourceVersion> {
        let place = Place::find(spec, context).await?;
        io::run_blocking(move || match &place.format {
            FoundFormat::Delta(pin) => delta::current_version(&place.location, pin.as_ref()),
            FoundFormat::Parquet { pattern, .. } => parquet::current_version(&place.location, pattern.as_deref()),
        })
        .await
    }

    /// Whether a source may have moved on from a version. The cheapest question there is: a Delta table's next commit and
    /// the one that made the version, the list of Parquet files.
    ///
    /// # Errors
    /// As [`Source::open`].
    pub async fn has_moved(spec: &SourceSpec, context: &SourceContext, from: &SourceVersion) -> Result<bool> {
        let place = Place::find(spec, context).await?;
        if let (FoundFormat::Delta(pin), Ok(version)) = (&place.format, from.version.parse()) {
            if pin.is_some() {
                return Ok(false);
            }
            if delta::has_commit(&place.location, version + 1).await? {
                return Ok(true);
            }
            // Where its commit is there and none follows, the version is the newest.
            if let Some(commit) = delta::commit_digest(&place.location, version).await? {
                return Ok(from.commit.as_ref().is_some_and(|loaded| *loaded != commit));
            }
        }
        Ok(!Source::current_version(spec, context).await?.is_same_state(from))
    }

    /// The address, for people: in full and without credentials.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The format that was found.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The version that was opened.
    pub fn version(&self) -> &SourceVersion {
        &self.version
    }

    /// The columns, under their logical names. Top-level nullability is what the source declares. Descriptions are in
    /// the fields' metadata under [`COMMENT`], variants are marked there with [`VARIANT`].
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Files, bytes and rows.
    pub fn size(&self) -> SourceSize {
        SourceSize::of(&self.files)
    }

    /// Partition columns, in order.
    pub fn partition_columns(&self) -> &[String] {
        &self.partition_columns
    }

    /// What the source demands of its readers and writers, one item a line: a Delta table's protocol versions and
    /// features.
    pub fn features(&self) -> &[String] {
        &self.features
    }

    /// Begins to read all rows, of the named columns in that order, or of all. The workers share `budget` bytes: half
    /// for what is fetched, half for dictionaries; each has a batch of a megabyte at most besides. Nothing is fetched before a worker is driven.
    ///
    /// # Errors
    /// [`Code::ColumnMissing`].
    pub fn scan(&self, projection: Option<&[String]>, workers: usize, budget: u64) -> Result<Scan> {
        let targets = match projection {
            None => self.targets.clone(),
            Some(names) => {
                names.iter().map(|name| target(&self.targets, name, &self.address)).collect::<Result<_>>()?
            }
        };
        let (store, address) = (Arc::clone(&self.location.store), Arc::clone(&self.address));
        let work = scan::Work { store, address, files: Arc::clone(&self.files), targets, wanted: scan::Wanted::All };
        Ok(scan::start(work, workers, budget))
    }

    /// What to keep with a published state, so that a later run can tell what changed since: of Parquet files without a
    /// log, which there were. `None` where the source keeps its own history, or where it would take too much room.
    pub fn record(&self) -> Option<&[u8]> {
        self.record.as_deref()
    }

    /// Makes sure that the files are still those that were opened, so that what was read of them is one state. To be
    /// asked after they were read. Files of a Delta table are never written over; Parquet files without a log may be.
    ///
    /// # Errors
    /// [`Code::FileGone`] where one was removed or replaced; those of the store.
    pub async fn check_files(&self) -> Result<()> {
        let files_stand = Arc::clone(&self.files_stand);
        io::run_blocking(move || files_stand()).await
    }

    /// What changed since an earlier version of the same table, by the source's own history or by the record that it was
    /// opened with. Without `columns`, the source must have had the same columns all along.
    ///
    /// # Errors
    /// [`Code::SourceCorrupt`] and those of the store.
    pub async fn changes_since(&self, version: &SourceVersion, columns: Option<FollowedColumns>) -> Result<Changes> {
        let (since, version) = (Arc::clone(&self.since), version.clone());
        Ok(match io::run_blocking(move || since(&version, columns.as_ref())).await? {
            Found::None => Changes::None,
            Found::Unknown(why) => Changes::Unknown(why),
            Found::Files(found) => {
                let (store, address) = (Arc::clone(&self.location.store), Arc::clone(&self.address));
                Changes::Rows(ChangedRows::new(store, address, self.targets.clone(), found))
            }
        })
    }
}

/// The column of this name.
fn target(targets: &[Target], name: &str, address: &str) -> Result<Target> {
    let found = targets.iter().find(|target| target.field.name() == name);
    found.cloned().ok_or_else(|| Error::new(Code::ColumnMissing, format!("{address}: there is no column `{name}`")))
}

/// A declared source, found: what it is and where.
struct Place {
    location: Location,
    format: FoundFormat,
}

enum FoundFormat {
    Delta(Option<SourcePin>),
    Parquet { pattern: Option<String>, hive: bool },
}

impl Place {
    async fn find(spec: &SourceSpec, context: &SourceContext) -> Result<Place> {
        let none = StorageOptions::new();
        let options = spec.options().unwrap_or(&none);
        let open = |address: &str| open_location(address, &context.project_dir, options, &context.env);
        match spec {
            SourceSpec::Delta(DeltaSource { uri, pin, .. }) => {
                let location = open(uri)?;
                if delta::is_table(&location).await? {
                    return Ok(Place { location, format: FoundFormat::Delta(pin.clone()) });
                }
                Err(Error::new(
                    Code::SourceNotFound,
                    format!("{}: there is no Delta log (_delta_log)", location.display()),
                )
                .hint("check the address, and that the table has been written there"))
            }
            SourceSpec::Parquet(ParquetSource { uri, hive_partitioning, .. }) => {
                let (base, pattern) = parquet::split_pattern(uri, &context.project_dir);
                let format = FoundFormat::Parquet { pattern, hive: *hive_partitioning };
                Ok(Place { location: open(&base)?, format })
            }
            SourceSpec::Auto(uri) => {
                let (base, pattern) = parquet::split_pattern(uri, &context.project_dir);
                let location = open(&base)?;
                if pattern.is_none() && delta::is_table(&location).await? {
                    return Ok(Place { location, format: FoundFormat::Delta(None) });
                }
                Ok(Place { location, format: FoundFormat::Parquet { pattern, hive: true } })
            }
        }
    }
}

impl Target {
    /// A column of the files under its own name.
    fn in_files(field: arrow_schema::FieldRef) -> Target {
        let origin = Origin::File(columns::FileColumn::by_name(&field));
        Target { field, origin }
    }
}
