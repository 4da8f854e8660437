//! What a generation was loaded under, so that a changed definition is noticed.

use serde_json::json;
use twox_hash::XxHash3_128;

use crate::domain::{ColumnSelection, OnDuplicateKey, Pipeline, SourcePin, SourceSpec};

/// A hash of all that a pipeline declares, secrets apart, and of the version of Lakegate: what one of them refuses, another
/// may take.
pub(super) fn definition(pipeline: &Pipeline) -> String {
    let text = format!("{} {pipeline:?}", env!("CARGO_PKG_VERSION"));
    format!("{:032x}", XxHash3_128::oneshot(text.as_bytes()))
}

/// A canonical text of all that decides which rows and values a load of this pipeline yields. Two pipelines with the
/// same text yield the same table from the same source version.
pub(super) fn fingerprint(pipeline: &Pipeline) -> String {
    let source = match &pipeline.source {
        SourceSpec::Auto(uri) => json!({ "uri": uri }),
        SourceSpec::Delta(delta) => json!({
            "uri": delta.uri,
            "pin": delta.pin.as_ref().map(|pin| match pin {
                SourcePin::Version(version) => format!("version {version}"),
                SourcePin::TimestampMillis(millis) => format!("timestamp {millis}"),
            }),
        }),
        SourceSpec::Parquet(parquet) => json!({ "uri": parquet.uri, "hive": parquet.hive_partitioning }),
    };
    let selection = match &pipeline.columns.selection {
        ColumnSelection::All => json!("all"),
        ColumnSelection::Include(names) => json!({ "include": names }),
        ColumnSelection::Exclude(names) => json!({ "exclude": names }),
    };
    let duplicates = match &pipeline.on_duplicate_key {
        OnDuplicateKey::Fail => json!("fail"),
        OnDuplicateKey::LatestBy(column) => json!({ "latest_by": column }),
    };
    json!({
        "source": source,
        "primary_key": pipeline.primary_key,
        "columns": selection,
        "rename": pipeline.columns.rename,
        "types": pipeline.columns.types,
        "transform": pipeline.transform,
        "on_duplicate_key": duplicates,
        "on_bad_row": matches!(pipeline.on_bad_row, crate::domain::OnBadRow::Reject { .. }),
        "indexes": pipeline.indexes,
    })
    .to_string()
}
