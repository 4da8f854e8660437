//! Which columns make a generation differ from its source: asked only when the row hashes do.

use std::sync::Arc;

use futures::future::try_join_all;

use crate::domain::{Code, Error, Generation, Pipeline, Result};
use crate::encode::{ColumnHasher, Mapping, RowEncoder, column_hash_sql};
use crate::postgres::Session;
use crate::source::Source;

use super::Engine;
use super::reading::{Batches, read};
use super::rejects::LeaveOut;

impl Engine {
    /// Adds the columns at fault to the error of a comparison that found other values. They are found by reading the
    /// source once more; where that fails, the error stays as it is.
    pub(super) async fn name_differing_columns(
        &self,
        error: Error,
        session: &Session,
        pipeline: &Pipeline,
        source: &Arc<Source>,
        mapping: &Mapping,
        generation: Generation,
    ) -> Error {
        if error.code() != Code::ChecksumMismatch {
            return error;
        }
        match self.differing_columns(session, pipeline, source, mapping, generation).await {
            Ok(columns) if !columns.is_empty() => {
                let detail = format!("{}; the values of {} differ", error.detail(), columns.join(", "));
                match error.advice() {
                    Some(hint) => Error::new(error.code(), detail).hint(hint.to_owned()),
                    None => Error::new(error.code(), detail),
                }
            }
            _ => error,
        }
    }

    async fn differing_columns(
        &self,
        session: &Session,
        pipeline: &Pipeline,
        source: &Arc<Source>,
        mapping: &Mapping,
        generation: Generation,
    ) -> Result<Vec<String>> {
        let streams = self.streams(source.size().bytes);
        let reading = read(source, pipeline.transform.as_deref(), mapping, streams, self.run_budget()).await?;
        let hashing = reading.workers.into_iter().map(|batches| {
            let mapping = Arc::clone(&reading.mapping);
            tokio::task::spawn_blocking(move || hash_columns(batches, &mapping))
        });
        let mut expected = vec![0_i128; mapping.schema.columns.len()];
        for sums in try_join_all(hashing).await.map_err(|error| Error::internal("a reader stopped").because(error))? {
            expected.iter_mut().zip(sums?).for_each(|(total, sum)| *total += sum);
        }
        let schema = &mapping.schema;
        let stored = self
            .destination
            .column_sums(session, &pipeline.name, generation, |table, quote| column_hash_sql(schema, table, quote))
            .await?;
        let differing =
            schema.columns.iter().zip(expected).zip(stored).filter(|((_, sum), stored)| sum.to_string() != *stored);
        Ok(differing.map(|((column, _), _)| format!("`{}`", column.name)).collect())
    }
}

fn hash_columns(mut batches: Batches, mapping: &Mapping) -> Result<Vec<i128>> {
    let mut encoder = RowEncoder::new(mapping);
    let mut hasher = ColumnHasher::new(mapping);
    while let Some(batch) = batches.next()? {
        let prepared = mapping.prepare(&batch)?;
        let encoded = encoder.encode(&prepared, &mut LeaveOut, &mut |_| Ok(()))?;
        hasher.update(&prepared, &encoded.rejected)?;
    }
    Ok(hasher.finish())
}
