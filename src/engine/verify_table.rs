//! A whole published table against its source, now.

use std::sync::Arc;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::domain::{Code, Error, Generation, OnSchemaChange, Pipeline, Result, SourcePin, TableName};
use crate::encode::{Checksum, Coverage, Mapping, RowEncoder, RowHasher};
use crate::observe::{Event, Stage};
use crate::postgres::Purpose;
use crate::source::{Format, OTHER_HISTORY, Source};
use crate::store::LoadedGeneration;

use super::Engine;
use super::copy::{first_cause, join_workers};
use super::fingerprint::fingerprint;
use super::reading::{Batches, of_one_state, read};
use super::rejects::LeaveOut;
use super::schema_change;

/// That a table equals its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableVerification {
    /// The published table.
    pub pipeline: TableName,
    /// The generation that was compared.
    pub generation: Generation,
    /// The version of the source that it was compared with.
    pub source_version: String,
    /// Its rows, every value of which was compared.
    pub rows: u64,
    /// The sum of the row hashes on both sides, in decimal digits.
    pub checksum: String,
}

impl Engine {
    /// Reads the source again, at the version that is published, and compares every row with the live generation.
    ///
    /// # Errors
    /// [`Code::DataDiffers`] when they differ; [`Code::NothingPublished`]; [`Code::VersionUnavailable`] when the source
    /// no longer has the published version; [`Code::NotBuiltYet`] for a table with `latest_by`, whose rows cannot be
    /// compared without loading them.
    pub async fn verify_table(&self, pipeline: &Pipeline, cancel: &CancellationToken) -> Result<TableVerification> {
        let name = &pipeline.name;
        if pipeline.on_duplicate_key.latest_by().is_some() {
            return Err(Error::new(
                Code::NotBuiltYet,
                format!("`{name}` keeps the newest row of each key: comparing it with its source is not built yet"),
            )
            .hint("`lakegate sync --full` loads it anew and compares every load"));
        }
        let session = self.connector.connect(Purpose::Sync, "lakegate verify").await?;
        let live = self.live(&session, pipeline).await?;
        let source = self.source_of(pipeline, &live).await?;
        let mut mapping = self.map_columns(pipeline, &source).await?;
        if pipeline.on_schema_change == OnSchemaChange::Ignore || pipeline.contract.is_some() {
            mapping.retain(|name| live.schema.position(name).is_some());
        }
        mapping.reorder(&schema_change::keep_order(&live.schema, &mapping.schema.columns));
        if let Some(schema) = schema_change::extend(&live.schema, &mapping.schema) {
            mapping.schema = schema;
        }
        self.observer.observe(name, &Event::Entered(Stage::Verify));
        let transform = pipeline.transform.as_deref();
        let streams = self.streams(source.size().bytes);
        let reading = read(&source, transform, &mapping, streams, self.run_budget()).await?;
        let hashing = reading.workers.into_iter().map(|batches| {
            let (mapping, cancel) = (Arc::clone(&reading.mapping), cancel.clone());
            tokio::task::spawn_blocking(move || hash(batches, &mapping, &cancel))
        });
        let expected = first_cause(join_workers(hashing.collect(), &reading.control).await, &Ok(0));
        let expected = of_one_state(&source, expected).await?;
        let schema = &reading.mapping.schema;
        let compared = self.compare(&session, pipeline, live.generation, schema, Coverage::Full, &expected).await;
        if let Err(error) = compared {
            let now = self.control.generation(&*session, live.generation).await?;
            if now.is_none_or(|now| now.source != live.source) {
                return Err(Error::new(Code::RunInProgress, format!("`{name}` was refreshed while it was compared"))
                    .hint("verify it again"));
            }
            let error =
                self.name_differing_columns(error, &session, pipeline, &source, &mapping, live.generation).await;
            return Err(match error.code() {
                Code::CountMismatch | Code::ChecksumMismatch => {
                    Error::new(Code::DataDiffers, error.detail().to_owned())
                        .hint("somebody may have changed the generation; `lakegate sync --full` loads it anew")
                }
                _ => error,
            });
        }
        Ok(TableVerification {
            pipeline: name.clone(),
            generation: live.generation,
            source_version: live.source.version,
            rows: expected.rows,
            checksum: expected.sum.to_string(),
        })
    }

    async fn live(&self, client: &tokio_postgres::Client, pipeline: &Pipeline) -> Result<LoadedGeneration> {
        let live = self.control.live_generation(client, &pipeline.name).await?;
        let live = live.ok_or_else(|| {
            Error::new(Code::NothingPublished, format!("`{}` has never been published", pipeline.name))
                .hint(format!("load it: lakegate sync {}", pipeline.name))
        })?;
        if live.fingerprint != fingerprint(pipeline) {
            return Err(Error::new(
                Code::DataDiffers,
                format!(
                    "the definition of `{}` has changed since generation {} was loaded",
                    pipeline.name, live.generation
                ),
            )
            .hint(format!("load it anew: lakegate sync {}", pipeline.name)));
        }
        Ok(live)
    }

    /// The source at the version that is published.
    async fn source_of(&self, pipeline: &Pipeline, live: &LoadedGeneration) -> Result<Arc<Source>> {
        let source = self.open_source(pipeline, None, None).await?;
        if source.version().is_same_state(&live.source) {
            return Ok(source);
        }
        let version = live.source.version.parse().ok().filter(|_| source.format() == Format::Delta);
        match version {
            Some(version) if source.version().table_id == live.source.table_id => {
                let source = self.open_source(pipeline, Some(&SourcePin::Version(version)), None).await?;
                if source.version().is_same_state(&live.source) {
                    return Ok(source);
                }
                Err(Error::new(Code::VersionUnavailable, format!("version {version}: {OTHER_HISTORY}"))
                    .hint(format!("load it anew first: lakegate sync {}", pipeline.name)))
            }
            _ => Err(Error::new(
                Code::VersionUnavailable,
                format!("the source has moved on from the published version {}", live.source.version),
            )
            .hint(format!("load it anew first: lakegate sync {}", pipeline.name))),
        }
    }
}

/// Hashes all rows of one worker but those that a load leaves out, which only the encoder knows.
fn hash(mut batches: Batches, mapping: &Mapping, cancel: &CancellationToken) -> Result<Checksum> {
    let mut encoder = RowEncoder::new(mapping);
    let mut hasher = RowHasher::new(mapping, Coverage::Full);
    while let Some(batch) = batches.next()? {
        if cancel.is_cancelled() {
            return Err(Error::new(Code::Cancelled, "the comparison was interrupted"));
        }
        let prepared = mapping.prepare(&batch)?;
        let encoded = encoder.encode(&prepared, &mut LeaveOut, &mut |_| Ok(()))?;
        hasher.update(&prepared, &encoded.rejected)?;
    }
    Ok(hasher.finish())
}
