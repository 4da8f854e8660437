//! `source`: where rows come from.

use serde_json::{Value as Json, json};

use super::reader::{Reader, Setting};
use super::secret;
use super::section::section;
use super::settings::{self, Instant, Whole, Words};
use super::yaml::{Node, Value};
use crate::domain::{Code, DeltaSource, ParquetSource, SourcePin, SourceSpec, StorageOptions};

section! {
    /// A source of a declared kind: exactly one of the keys.
    SourceKinds, "a source" {
        /// A Delta table.
        delta: DeltaKeys,
        /// Parquet files without a log.
        parquet: ParquetKeys,
    }
    required []
    later []
}

section! {
    /// A Delta table.
    DeltaKeys, "a Delta source" {
        /// The table's root: an object-store URL, or a local path relative to the project.
        uri: Words,
        /// The version of the table to read; without it the newest.
        version: Whole<0, { u64::MAX }>,
        /// Read the newest version committed at or before this instant: RFC 3339, or a date for its first moment in
        /// UTC.
        timestamp: Instant,
        /// Options of the object store by name. Secrets are references (`env:NAME`, `file:PATH`) or `${VAR}`.
        options: Options,
    }
    required [uri]
    later []
}

section! {
    /// Parquet files without a log.
    ParquetKeys, "a Parquet source" {
        /// A file, a folder (read recursively) or a glob: an object-store URL, or a local path relative to the
        /// project.
        uri: Words,
        /// Whether folders named `column=value` become columns.
        hive_partitioning: bool = true,
        /// Options of the object store by name. Secrets are references (`env:NAME`, `file:PATH`) or `${VAR}`.
        options: Options,
    }
    required [uri]
    later []
}

impl Setting for SourceSpec {
    const COLLECTION: bool = true;

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let Value::Map(_) = &node.value else {
            return settings::text(node, reader, "an address, `delta` or `parquet`").map(SourceSpec::Auto);
        };
        let before = reader.problems.len();
        let SourceKinds { delta, parquet } = SourceKinds::read(node, reader)?;
        match (delta, parquet) {
            (Some(delta), None) => delta_source(delta.value, reader),
            (None, Some(parquet)) => parquet_source(parquet.value.preset(reader)),
            (Some(_), Some(parquet)) => {
                let detail = "a source is either `delta` or `parquet`";
                reader.invalid(&parquet.place, detail, "remove one of the two")
            }
            (None, None) if reader.problems.len() > before => None,
            (None, None) => {
                let detail = "neither `delta` nor `parquet` is declared";
                reader.refuse(
                    Code::MissingKey,
                    &node.place,
                    detail,
                    Some("add `delta: {uri: …}` or `parquet: {uri: …}`".to_owned()),
                )
            }
        }
    }

    fn schema() -> Json {
        let mut kinds = SourceKinds::schema();
        kinds["minProperties"] = json!(1);
        kinds["maxProperties"] = json!(1);
        json!({"anyOf": [Words::schema(), kinds]})
    }
}

fn delta_source(keys: DeltaKeys, reader: &mut Reader<'_>) -> Option<SourceSpec> {
    let pin = match (keys.version, keys.timestamp) {
        (Some(_), Some(timestamp)) => {
            let detail = "`version` and `timestamp` exclude each other";
            return reader.invalid(&timestamp.place, detail, "remove one of the two");
        }
        (Some(version), None) => Some(SourcePin::Version(version.value.0)),
        (None, Some(timestamp)) => Some(SourcePin::TimestampMillis(timestamp.value.0)),
        (None, None) => None,
    };
    let options = keys.options.map(|options| options.value.0).unwrap_or_default();
    Some(SourceSpec::Delta(DeltaSource { uri: keys.uri?.value.0, pin, options }))
}

fn parquet_source(keys: ParquetKeys) -> Option<SourceSpec> {
    let options = keys.options.map(|options| options.value.0).unwrap_or_default();
    let hive_partitioning = keys.hive_partitioning?.value;
    Some(SourceSpec::Parquet(ParquetSource { uri: keys.uri?.value.0, hive_partitioning, options }))
}

/// Options of an object store, resolved.
#[derive(Debug, Clone)]
pub(super) struct Options(StorageOptions);

impl Setting for Options {
    const COLLECTION: bool = true;

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut options = StorageOptions::new();
        for (key, value) in reader.map(node, "a mapping of options")? {
            let name = key.name.to_ascii_lowercase();
            let Some(text) = reader.scalar(value, "the option's value") else { continue };
            if text.is_literal() && secret::is_secret_name(&name) && !secret::is_reference(&text.text) {
                let detail = format!("the secret of the option `{name}` stands in the file");
                let hint = "name it instead: `env:NAME`, `file:PATH` or `${VAR}`".to_owned();
                reader.refuse::<()>(Code::SecretInTheOpen, &value.place, &detail, Some(hint));
            } else if let Some(secret) = secret::resolve(&text, &value.place, reader)
                && options.insert(name.clone(), secret).is_some()
            {
                let detail = format!("the option `{name}` is declared twice");
                reader.invalid::<()>(&key.place, &detail, "remove one of the two; case makes no difference");
            }
        }
        Some(Options(options))
    }

    fn schema() -> Json {
        json!({"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}})
    }
}
