//! Parquet files without a log: one file, a folder or a glob.

mod changes;
mod footers;
mod hive;
mod listing;
mod merge;
mod record;

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_schema::{Fields, Schema};

use crate::domain::{Code, Error, Result, SourceVersion};

use super::columns::{Origin, Target};
use super::data_file::DataFile;
use super::live_rows::Rows;
use super::object_store::Location;
use super::{Format, Resolved};

use footers::Footer;
use listing::Listed;
pub(super) use listing::split_pattern;
use record::Record;

/// The fingerprint of the files. Lists them; blocks.
pub(super) fn current_version(location: &Location, pattern: Option<&str>) -> Result<SourceVersion> {
    Ok(version(&listing::list(location, pattern)?))
}

fn version(files: &[Listed]) -> SourceVersion {
    SourceVersion { version: listing::fingerprint(files), table_id: None, commit: None }
}

/// A file of the source, not read yet but for its footer.
#[derive(Debug)]
struct KnownFile {
    listed: Listed,
    footer: Footer,
    /// The values of its partition columns.
    constants: Box<[ArrayRef]>,
}

impl KnownFile {
    fn data_file(&self) -> DataFile {
        DataFile {
            path: self.listed.meta.location.clone(),
            name: self.listed.name.clone(),
            size: self.listed.meta.size,
            rows: Some(self.footer.rows),
            live: Rows::All,
            constants: self.constants.clone(),
        }
    }
}

/// Lists the files and reads their footers, since any may have columns of its own, save those that the record of an
/// earlier state knows. Blocks.
///
/// # Errors
/// [`Code::SourceNotFound`] where there is no file, [`Code::SchemaMismatch`], [`Code::SourceCorrupt`],
/// [`Code::FileGone`] and those of the store.
pub(super) fn open(location: &Location, pattern: Option<&str>, hive: bool, record: Option<&[u8]>) -> Result<Resolved> {
    let place = location.display();
    let listed = listing::list(location, pattern)?;
    let version = version(&listed);
    let before = record.and_then(Record::decode);
    let footers = footers::read(location, &listed, before.as_ref())?;
    let named = listed.iter().map(|file| file.name.as_str()).zip(footers.iter().map(|footer| &*footer.schema));
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
    let files: Arc<[KnownFile]> =
        files.map(|((listed, footer), constants)| KnownFile { listed, footer, constants }).collect();
    let schema = Schema::new(targets.iter().map(|target| Arc::clone(&target.field)).collect::<Fields>());
    let record = Record::encode(&version.version, &schema, &files);
    let way = changes::Way::new(before.as_ref(), &schema, &files, record.is_some());
    let opened = Arc::clone(&files);
    let (location, pattern) = (location.clone(), pattern.map(str::to_owned));
    Ok(Resolved {
        format: Format::Parquet,
        version,
        targets,
        files: files.iter().map(KnownFile::data_file).collect(),
        partition_columns: partitions.fields.iter().map(|field| field.name().clone()).collect(),
        features: Vec::new(),
        since: Box::new(move |from, columns| Ok(way.since(from, columns, &files))),
        record,
        files_stand: Box::new(move || changes::check_files(&location, pattern.as_deref(), &opened)),
    })
}
