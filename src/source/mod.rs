//! Where rows come from: Delta tables and Parquet files, on local disks and object stores.
//!
//! [`Source::open`] finds out what an address is, fixes the version and lists its files; [`Source::scan`] reads them
//! with several workers and bounded memory. Both formats share all of the reading: each only says which files and
//! columns there are.

mod cast;
mod columns;
mod data_file;
mod delta;
mod failure;
mod file_schema;
mod io;
mod object;
mod object_store;
mod parquet;
mod row_group;
mod scan;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};

use crate::domain::{
    Code, DeltaSource, Error, ParquetSource, Result, SourcePin, SourceSpec, SourceVersion, StorageOptions,
};

pub use columns::{COMMENT, VARIANT};
pub use object_store::{Location, open as open_location};
pub use scan::{Scan, ScanTotals, ScanWorker};

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
}

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
}

impl Source {
    /// Opens a source at its newest or pinned version: reads the log, or lists the files and reads their footers.
    ///
    /// # Errors
    /// [`Code::SourceNotFound`], [`Code::SourceAccess`], [`Code::SourceUnavailable`], [`Code::SourceCorrupt`],
    /// [`Code::UnsupportedFeature`], [`Code::UnsupportedType`], [`Code::UnsupportedUri`], [`Code::VersionUnavailable`],
    /// [`Code::SchemaMismatch`], [`Code::InvalidValue`] for an unknown option of the store.
    pub async fn open(spec: &SourceSpec, context: &SourceContext) -> Result<Source> {
        let place = Place::find(spec, context).await?;
        io::run_blocking(move || {
            let resolved = match &place.format {
                FoundFormat::Delta(pin) => delta::open(&place.location, pin.as_ref())?,
                FoundFormat::Parquet { pattern, hive } => parquet::open(&place.location, pattern.as_deref(), *hive)?,
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
        let rows = self.files.iter().map(|file| {
            let deleted = file.deleted.as_ref().map_or(0, |deleted| deleted.count);
            file.rows.map(|rows| rows.saturating_sub(deleted))
        });
        SourceSize {
            files: self.files.len() as u64,
            bytes: self.files.iter().map(|file| file.size).sum(),
            rows: rows.sum(),
        }
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
    /// for what is fetched, the rest for what is decoded. Nothing is fetched before a worker is driven.
    ///
    /// # Errors
    /// [`Code::ColumnMissing`].
    pub fn scan(&self, projection: Option<&[String]>, workers: usize, budget: u64) -> Result<Scan> {
        let targets = match projection {
            None => self.targets.clone(),
            Some(names) => names.iter().map(|name| self.target(name)).collect::<Result<_>>()?,
        };
        let (store, address) = (Arc::clone(&self.location.store), Arc::clone(&self.address));
        Ok(scan::start(store, address, Arc::clone(&self.files), targets, workers, budget))
    }

    fn target(&self, name: &str) -> Result<Target> {
        let found = self.targets.iter().find(|target| target.field.name() == name);
        found
            .cloned()
            .ok_or_else(|| Error::new(Code::ColumnMissing, format!("{}: there is no column `{name}`", self.address)))
    }
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
