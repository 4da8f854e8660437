//! What a table demands of its readers.

use delta_kernel::snapshot::Snapshot;

use crate::domain::Result;

use super::failure::unsupported;

/// The reader features that this reader honours. A list of our own, beside the kernel's, because the kernel accepts
/// some that need help from its caller, and because a new kernel must not change silently what we accept.
const READER_FEATURES: &[&str] = &[
    "columnMapping",
    "deletionVectors",
    "timestampNtz",
    "typeWidening",
    "typeWidening-preview",
    "v2Checkpoint",
    "vacuumProtocolCheck",
    "variantShredding",
    "variantShredding-preview",
    "variantType",
    "variantType-preview",
];
/// The highest reader version there is.
const READER_VERSION: i32 = 3;

/// Refuses a table that cannot be read rightly.
///
/// # Errors
/// [`crate::domain::Code::UnsupportedFeature`], naming feature and table.
pub(super) fn check(snapshot: &Snapshot, place: &str) -> Result<()> {
    let protocol = snapshot.table_configuration().protocol();
    let version = protocol.min_reader_version();
    if version > READER_VERSION {
        return Err(unsupported(
            place,
            &format!("reader version {version} is not supported, only up to {READER_VERSION}"),
        ));
    }
    let features = protocol.reader_features().unwrap_or_default().iter().map(ToString::to_string);
    let unknown: Vec<String> = features.filter(|feature| !READER_FEATURES.contains(&feature.as_str())).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(unsupported(place, &format!("reader feature {} is not supported", unknown.join(", "))))
}

/// One line per demand, for people: protocol versions and features.
pub(super) fn summary(snapshot: &Snapshot) -> Vec<String> {
    let protocol = snapshot.table_configuration().protocol();
    let versions = format!("reader {}, writer {}", protocol.min_reader_version(), protocol.min_writer_version());
    let features = [protocol.reader_features(), protocol.writer_features()];
    let mut names: Vec<String> = features.into_iter().flatten().flatten().map(ToString::to_string).collect();
    names.sort();
    names.dedup();
    std::iter::once(versions).chain(names).collect()
}
