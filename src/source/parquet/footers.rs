//! The footers of files: their columns and numbers of rows.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_schema::SchemaRef;
use tokio_util::sync::CancellationToken;

use crate::domain::{Code, Error, Result};

use crate::source::data_file::read_footer;
use crate::source::failure::corrupt;
use crate::source::file_schema::file_schema;
use crate::source::object::Object;
use crate::source::object_store::Location;
use crate::source::scan::ScanTotals;

use super::listing::{self, Listed};
use super::record::Record;

/// Footers read at a time.
const FOOTER_THREADS: usize = 8;

/// What is kept of a footer.
#[derive(Debug, Clone)]
pub(super) struct Footer {
    /// The columns as they are in the file.
    pub(super) schema: SchemaRef,
    pub(super) rows: u64,
}

/// The footers of all files, those that a record does not know read from the files, several at a time. Blocks.
///
/// # Errors
/// [`Code::SourceCorrupt`]; [`Code::FileGone`] where a file has changed since it was listed, and those of the store.
pub(super) fn read(location: &Location, files: &[Listed], known: Option<&Record>) -> Result<Vec<Footer>> {
    let next = AtomicUsize::new(0);
    let found = files.iter().map(|file| known.and_then(|known| known.footer(file)).cloned());
    let footers: Mutex<Vec<Option<Footer>>> = Mutex::new(found.collect());
    let unread: Vec<(usize, &Listed)> = {
        let footers = footers.lock().unwrap_or_else(PoisonError::into_inner);
        let unread = files.iter().enumerate().filter(|(index, _)| !matches!(footers.get(*index), Some(Some(_))));
        unread.collect()
    };
    let cancel = CancellationToken::new();
    let read_some = || -> Result<()> {
        while let Some((index, file)) = unread.get(next.fetch_add(1, Ordering::Relaxed)) {
            let footer = read_one(location, file, &cancel).inspect_err(|_| cancel.cancel())?;
            let mut footers = footers.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(slot) = footers.get_mut(*index) {
                *slot = Some(footer);
            }
        }
        Ok(())
    };
    let results: Vec<Result<()>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..FOOTER_THREADS.min(unread.len())).map(|_| scope.spawn(read_some)).collect();
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

fn read_one(location: &Location, file: &Listed, cancel: &CancellationToken) -> Result<Footer> {
    let place = format!("{} of {}", file.name, location.display());
    let at = (Arc::clone(&location.store), file.meta.location.clone());
    let object = Object::new(at, place.clone(), file.meta.size, cancel.clone(), Arc::new(ScanTotals::default()));
    let (_, footer) = read_footer(&object).map_err(|error| match error.code() {
        // A file that is being written has no footer yet; one that was replaced has it elsewhere.
        Code::SourceCorrupt if listing::has_changed(location, file) => {
            listing::moved(&file.name, location).because(error)
        }
        _ => error,
    })?;
    let rows = u64::try_from(footer.file_metadata().num_rows());
    let rows = rows.map_err(|_| corrupt(&place, "the footer counts fewer than no rows"))?;
    Ok(Footer { schema: Arc::new(file_schema(&footer).map_err(|error| corrupt(&place, error))?), rows })
}
