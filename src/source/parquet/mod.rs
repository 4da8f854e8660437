//! Parquet files without a log: one file, a folder or a glob.

mod hive;
mod listing;
mod merge;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_schema::Schema;
use tokio_util::sync::CancellationToken;

use crate::domain::{Code, Error, Result, SourceVersion};

use super::changes::Found;
use super::columns::{Origin, Target};
use super::data_file::{DataFile, read_footer};
use super::failure::corrupt;
use super::file_schema::file_schema;
use super::live_rows::Rows;
use super::object::Object;
use super::object_store::Location;
use super::scan::ScanTotals;
use super::{Format, Resolved};

use listing::Listed;
pub(super) use listing::split_pattern;

/// Footers read at a time.
const FOOTER_THREADS: usize = 8;

/// The fingerprint of the files. Lists them; blocks.
pub(super) fn current_version(location: &Location, pattern: Option<&str>) -> Result<SourceVersion> {
    Ok(version(&listing::list(location, pattern)?))
}

fn version(files: &[Listed]) -> SourceVersion {
    SourceVersion { version: listing::fingerprint(files), table_id: None }
}

/// Lists the files and reads all their footers, since any may have columns of its own. Blocks.
///
/// # Errors
/// [`Code::SourceNotFound`] where there is no file, [`Code::SchemaMismatch`], [`Code::SourceCorrupt`] and those of the
/// store.
pub(super) fn open(location: &Location, pattern: Option<&str>, hive: bool) -> Result<Resolved> {
    let place = location.display();
    let listed = listing::list(location, pattern)?;
    let version = version(&listed);
    let footers = read_footers(location, &listed)?;
    let named = listed.iter().map(|file| file.name.as_str()).zip(footers.iter().map(|footer| &footer.schema));
    let fields = merge::merge(named).map_err(|why| Error::new(Code::SchemaMismatch, format!("{place}: {why}")))?;
    let partitions = if hive { hive::partitions(&listed, &place)? } else { hive::Partitions::default() };
    let mut targets: Vec<Target> = fields
        .into_iter()
        .filter(|field| !partitions.fields.iter().any(|partition| partition.name() == field.name()))
        .map(Target::in_files)
        .collect();
    let constants = partitions.fields.iter().enumerate();
    targets
        .extend(constants.map(|(index, field)| Target { field: Arc::clone(field), origin: Origin::Constant(index) }));
    let files = listed.into_iter().zip(footers).zip(partitions.values);
    let files = files.map(|((listed, footer), constants)| DataFile {
        path: listed.meta.location,
        name: listed.name,
        size: listed.meta.size,
        rows: Some(footer.rows),
        live: Rows::All,
        constants,
    });
    Ok(Resolved {
        format: Format::Parquet,
        version,
        targets,
        files: files.collect(),
        partition_columns: partitions.fields.iter().map(|field| field.name().clone()).collect(),
        features: Vec::new(),
        since: Box::new(|_| Ok(Found::Unknown("Parquet files without a log keep no history".to_owned()))),
    })
}

/// What is kept of a footer.
struct Footer {
    schema: Schema,
    rows: u64,
}

/// Reads the footers, several at a time.
fn read_footers(location: &Location, files: &[Listed]) -> Result<Vec<Footer>> {
    let next = AtomicUsize::new(0);
    let footers: Mutex<Vec<Option<Footer>>> = Mutex::new(files.iter().map(|_| None).collect());
    let cancel = CancellationToken::new();
    let read_some = || -> Result<()> {
        while let Some((index, file)) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            files.get(index).map(|file| (index, file))
        } {
            let footer = read(location, file, &cancel).inspect_err(|_| cancel.cancel())?;
            let mut footers = footers.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(slot) = footers.get_mut(index) {
                *slot = Some(footer);
            }
        }
        Ok(())
    };
    let results: Vec<Result<()>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..FOOTER_THREADS.min(files.len())).map(|_| scope.spawn(read_some)).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined.map(|result| result.unwrap_or_else(|_| Err(Error::internal("reading footers panicked")))).collect()
    });
    let mut errors: Vec<Error> = results.into_iter().filter_map(Result::err).collect();
    // Whoever failed cancelled the others.
    if let Some(cause) = errors.iter().position(|error| error.code() != Code::Cancelled) {
        return Err(errors.swap_remove(cause));
    }
    let footers = footers.into_inner().unwrap_or_else(PoisonError::into_inner);
    footers.into_iter().collect::<Option<Vec<Footer>>>().ok_or_else(|| Error::internal("a footer was not read"))
}

fn read(location: &Location, file: &Listed, cancel: &CancellationToken) -> Result<Footer> {
    let place = format!("{} of {}", file.name, location.display());
    let object = Object {
        store: Arc::clone(&location.store),
        path: file.meta.location.clone(),
        place: place.clone(),
        size: file.meta.size,
        cancel: cancel.clone(),
        totals: Arc::new(ScanTotals::default()),
    };
    let (_, footer) = read_footer(&object)?;
    let rows = u64::try_from(footer.file_metadata().num_rows());
    let rows = rows.map_err(|_| corrupt(&place, "the footer counts fewer than no rows"))?;
    Ok(Footer { schema: file_schema(&footer).map_err(|error| corrupt(&place, error))?, rows })
}
