//! Delta tables: the log, read by the Delta kernel. Nothing outside this module knows the kernel.
//!
//! The kernel replays the log and says which files, with which deletion vectors and partition values, make a version.
//! Reading the files is the business of `source::scan`.

mod changes;
mod commits;
mod failure;
mod files;
mod protocol;
mod schema;
mod versions;

use std::num::NonZero;
use std::sync::Arc;

use delta_kernel::history_manager::{HistoryCommitType, latest_version_as_of};
use delta_kernel::snapshot::{Snapshot, SnapshotRef};
use delta_kernel::{Engine, Version};
use delta_kernel_engine::DefaultEngineBuilder;
use delta_kernel_engine::executor::tokio::TokioMultiThreadExecutor;
use futures::StreamExt;
use object_store::ObjectStoreExt as _;
use url::Url;

use crate::domain::{Code, Error, Result, SourcePin, SourceVersion};

use super::changes::FollowedColumns;
use super::failure::{Wanted, is_below_a_file, store_error};
use super::io;
use super::object_store::Location;
use super::{Format, Resolved};

pub(super) use commits::digest as commit_digest;

/// Commit or checkpoint files of the log that are fetched at a time; memory is bounded by that many files.
const LOG_READ_AHEAD: NonZero<usize> = NonZero::new(8).unwrap();
/// Rows of the log per batch.
const LOG_BATCH: NonZero<usize> = NonZero::new(4096).unwrap();

/// Whether there is a Delta log below the location.
pub(super) async fn is_table(location: &Location) -> Result<bool> {
    let log = location.path.clone().join("_delta_log");
    match location.store.list(Some(&log)).next().await {
        None => Ok(false),
        Some(Ok(_)) => Ok(true),
        Some(Err(error)) if is_below_a_file(&error) => Ok(false),
        Some(Err(error)) => Err(store_error(error, Wanted::Source, location.display())),
    }
}

/// A Delta table at one version.
struct Table {
    root: Url,
    engine: Arc<dyn Engine>,
    snapshot: SnapshotRef,
}

impl Table {
    /// Reads the log up to the pinned version or to its end. Blocks.
    fn load(location: &Location, pin: Option<&SourcePin>) -> Result<Table> {
        let place = location.display();
        let mut root = location.url.clone();
        root.set_path(&format!("{}/", location.url.path()));
        let executor = Arc::new(TokioMultiThreadExecutor::new(io::handle()?.clone()));
        let engine = DefaultEngineBuilder::new(Arc::clone(&location.store))
            .with_task_executor(executor)
            .with_buffer_size(LOG_READ_AHEAD)
            .with_batch_size(LOG_BATCH)
            .build();
        let engine: Arc<dyn Engine> = Arc::new(engine);
        let build = |version: Option<Version>| {
            let builder = Snapshot::builder_for(root.as_str());
            let builder = if let Some(version) = version { builder.at_version(version) } else { builder };
            builder.build(engine.as_ref()).map_err(|error| failure::log_error(error, location))
        };
        let snapshot = match pin {
            None => build(None)?,
            Some(SourcePin::Version(version)) => {
                versions::check(location, *version)?;
                build(Some(*version))?
            }
            Some(SourcePin::TimestampMillis(millis)) => {
                let newest = build(None)?;
                let at = latest_version_as_of(&newest, engine.as_ref(), *millis, HistoryCommitType::Recreatable)
                    .map_err(|error| versions::no_such_instant(&place, *millis, &error))?;
                build(Some(at.version))?
            }
        };
        protocol::check(&snapshot, &place)?;
        Ok(Table { root, engine, snapshot })
    }

    /// The version, with the digest of its commit. Reads that commit; blocks.
    fn version(&self, location: &Location) -> Result<SourceVersion> {
        let configuration = self.snapshot.table_configuration();
        let (version, place) = (self.snapshot.version(), location.clone());
        Ok(SourceVersion {
            version: version.to_string(),
            table_id: Some(configuration.metadata().id().to_owned()),
            commit: io::block_on(async move { commits::digest(&place, version).await })??,
        })
    }
}

/// Which version is there to read. Reads the log's newest commits, the last one twice, and no list of files. Blocks.
///
/// # Errors
/// As [`open`].
pub(super) fn current_version(location: &Location, pin: Option<&SourcePin>) -> Result<SourceVersion> {
    Table::load(location, pin)?.version(location)
}

/// Opens a version of a table. Blocks.
///
/// # Errors
/// [`Code::SourceNotFound`], [`Code::UnsupportedFeature`], [`Code::UnsupportedType`], [`Code::VersionUnavailable`],
/// [`Code::SourceCorrupt`] and those of the store.
pub(super) fn open(location: &Location, pin: Option<&SourcePin>) -> Result<Resolved> {
    let place = location.display();
    let table = Table::load(location, pin)?;
    let configuration = table.snapshot.table_configuration();
    let partition_columns = configuration.logical_partition_columns().to_vec();
    let targets = schema::targets(&table.snapshot, &place)?;
    if targets.is_empty() {
        return Err(Error::new(Code::EmptySource, format!("{place}: the table has no columns")));
    }
    let files = files::list(&table, location, &partition_columns)?;
    let (version, features) = (table.version(location)?, protocol::summary(&table.snapshot));
    let location = location.clone();
    let since =
        move |from: &SourceVersion, columns: Option<&FollowedColumns>| changes::since(&table, &location, from, columns);
    Ok(Resolved {
        format: Format::Delta,
        version,
        targets,
        files,
        partition_columns,
        features,
        since: Box::new(since),
        record: None,
        // Files of a Delta table are never written over.
        files_stand: Box::new(|| Ok(())),
    })
}

/// Whether the log holds the commit of this version. Asks for that one file.
pub(super) async fn has_commit(location: &Location, version: Version) -> Result<bool> {
    let commit = location.path.clone().join("_delta_log").join(commits::file_name(version));
    match location.store.head(&commit).await {
        Ok(_) => Ok(true),
        Err(object_store::Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(store_error(error, Wanted::Source, format!("the log of {}", location.display()))),
    }
}
