//! Loaded generations and their end.

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio_postgres::{GenericClient, Row};

use crate::domain::{Error, Generation, Result, SourceVersion, TableName, TableSchema};
use crate::postgres::{Doing, OneTrip};

use super::Control;

/// What is written down when a load has committed.
#[derive(Debug, Clone)]
pub struct LoadedRow<'a> {
    /// The generation.
    pub generation: Generation,
    /// The table it is of.
    pub pipeline: &'a TableName,
    /// The run that loaded it.
    pub run: i64,
    /// The state of the source it holds.
    pub source: &'a SourceVersion,
    /// The fingerprint of the definition it was loaded under.
    pub fingerprint: &'a str,
    /// Its columns.
    pub schema: &'a TableSchema,
    /// Its rows.
    pub rows: u64,
    /// The sum of row hashes over the verified rows.
    pub checksum: Option<&'a str>,
    /// The share of rows whose values were compared, 0 to 1.
    pub coverage: f64,
    /// What a later run needs to tell what changed in the source since, where the source does not keep it.
    pub record: Option<&'a [u8]>,
    /// The checks that all its rows have passed, where they have.
    pub checks: Option<&'a str>,
}

/// What is written down of a generation whose rows were changed in place.
#[derive(Debug, Clone, Copy)]
pub struct MergedRow<'a> {
    /// The generation.
    pub generation: Generation,
    /// The state of the source that it holds now.
    pub source: &'a SourceVersion,
    /// Its columns.
    pub schema: &'a TableSchema,
    /// As [`LoadedRow::record`].
    pub record: Option<&'a [u8]>,
    /// Its rows.
    pub rows: i64,
    /// The sum of the hashes of all its rows, where it is known.
    pub checksum: Option<&'a str>,
    /// The checks that all its rows have passed, where they have.
    pub checks: Option<&'a str>,
}

/// A loaded generation as stored.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LoadedGeneration {
    /// Its number.
    pub generation: Generation,
    /// The run that loaded it.
    pub run: i64,
    /// The state of the source it holds.
    #[serde(flatten)]
    pub source: SourceVersion,
    /// The fingerprint of the definition it was loaded under.
    pub fingerprint: String,
    /// Its columns.
    #[serde(skip)]
    pub schema: TableSchema,
    /// Its rows.
    pub rows: i64,
    /// The sum of the hashes of all its rows, in decimal digits; known only where all of them were compared.
    #[serde(skip)]
    pub checksum: Option<String>,
    /// The checks that all its rows have passed, in a canonical text; `None` where some row has not, or where that is not
    /// known.
    #[serde(skip)]
    pub checks: Option<String>,
    /// When the load committed.
    pub loaded_at: DateTime<Utc>,
    /// When readers first saw it, or saw it again after a rollback.
    pub published_at: Option<DateTime<Utc>>,
    /// Since when readers see another one.
    pub superseded_at: Option<DateTime<Utc>>,
    /// Since when its table is gone.
    pub retired_at: Option<DateTime<Utc>>,
}

const COLUMNS: &str = "generation, run, source_version, table_id, fingerprint, columns::text, rows, loaded_at, \
                       published_at, superseded_at, retired_at, CASE WHEN coverage = 1 THEN checksum END, \
                       source_commit, checks";

fn from_row(row: &Row) -> Result<LoadedGeneration> {
    let generation = Generation(row.get(0));
    let schema = serde_json::from_str(row.get(5)).map_err(|error| {
        Error::internal(format!("the stored columns of generation {generation} cannot be read")).because(error)
    })?;
    Ok(LoadedGeneration {
        generation,
        run: row.get(1),
        source: SourceVersion { version: row.get(2), table_id: row.get(3), commit: row.get(12) },
        fingerprint: row.get(4),
        schema,
        rows: row.get(6),
        loaded_at: row.get(7),
        published_at: row.get(8),
        superseded_at: row.get(9),
        retired_at: row.get(10),
        checksum: row.get(11),
        checks: row.get(13),
    })
}

fn spelled(schema: &TableSchema) -> Result<String> {
    serde_json::to_string(schema).map_err(|error| Error::internal("a schema does not serialise").because(error))
}

impl Control {
    /// Writes down that a load has committed. From here on the guard of a view over it lets new snapshots pass.
    pub async fn record_load(&self, client: &impl GenericClient, row: &LoadedRow<'_>) -> Result<()> {
        let schema = spelled(row.schema)?;
        client
            .affected(
                &self.sql(
                    "INSERT INTO {control}.generations \
                     (generation, pipeline, run, source_version, table_id, fingerprint, columns, rows, checksum, \
                      coverage, source_commit, source_record, checks) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7::text::jsonb, $8, $9, $10, $11, $12, $13)",
                ),
                &[
                    &row.generation.0,
                    &row.pipeline.as_str(),
                    &row.run,
                    &row.source.version,
                    &row.source.table_id,
                    &row.fingerprint,
                    &schema,
                    &(row.rows as i64),
                    &row.checksum,
                    &row.coverage,
                    &row.source.commit,
                    &row.record,
                    &row.checks,
                ],
            )
            .await
            .doing("record the load")?;
        Ok(())
    }

    /// Part of the transaction of a merge: a generation now holds another state of its source.
    pub async fn record_merge(&self, transaction: &impl GenericClient, row: &MergedRow<'_>) -> Result<()> {
        let schema = spelled(row.schema)?;
        transaction
            .affected(
                &self.sql(
                    "UPDATE {control}.generations SET source_version = $2, rows = $3, checksum = $4, \
                         coverage = CASE WHEN $4::text IS NULL THEN 0 ELSE coverage END, \
                         source_commit = $5, source_record = $6, checks = $7, columns = $8::text::jsonb WHERE generation = $1",
                ),
                &[
                    &row.generation.0,
                    &row.source.version,
                    &row.rows,
                    &row.checksum,
                    &row.source.commit,
                    &row.record,
                    &row.checks,
                    &schema,
                ],
            )
            .await
            .doing("record the merge")?;
        Ok(())
    }

    /// One loaded generation.
    pub async fn generation(
        &self,
        client: &impl GenericClient,
        generation: Generation,
    ) -> Result<Option<LoadedGeneration>> {
        let row = client
            .opt_row(
                &self.sql(&format!("SELECT {COLUMNS} FROM {{control}}.generations WHERE generation = $1")),
                &[&generation.0],
            )
            .await
            .doing("read the generation")?;
        row.as_ref().map(from_row).transpose()
    }

    /// The generation that is published under a name, if anything is.
    pub async fn live_generation(
        &self,
        client: &impl GenericClient,
        name: &TableName,
    ) -> Result<Option<LoadedGeneration>> {
        let row = client
            .opt_row(
                &self.sql(&format!(
                    "SELECT {COLUMNS} FROM {{control}}.generations \
                     WHERE generation = (SELECT generation FROM {{control}}.published WHERE name = $1)"
                )),
                &[&name.as_str()],
            )
            .await
            .doing("read the live generation")?;
        row.as_ref().map(from_row).transpose()
    }

    /// What was kept with the live generation of a table to tell what changed in its source since.
    pub async fn source_record(&self, client: &impl GenericClient, name: &TableName) -> Result<Option<Vec<u8>>> {
        let row = client
            .opt_row(
                &self.sql(
                    "SELECT g.source_record FROM {control}.published p \
                         JOIN {control}.generations g USING (generation) WHERE p.name = $1",
                ),
                &[&name.as_str()],
            )
            .await
            .doing("read the generation")?;
        Ok(row.and_then(|row| row.get(0)))
    }

    /// The loaded generations of a pipeline, newest first, at most `limit`.
    pub async fn generations(
        &self,
        client: &impl GenericClient,
        pipeline: &TableName,
        limit: i64,
    ) -> Result<Vec<LoadedGeneration>> {
        let rows = client
            .rows(
                &self.sql(&format!(
                    "SELECT {COLUMNS} FROM {{control}}.generations WHERE pipeline = $1 ORDER BY generation DESC LIMIT $2"
                )),
                &[&pipeline.as_str(), &limit],
            )
            .await
            .doing("read the generations")?;
        rows.iter().map(from_row).collect()
    }

    /// Superseded generations of a pipeline whose tables are to be dropped now: all but the newest `retain`, and none
    /// that was superseded less than `grace_secs` ago, since readers may still be about to open it.
    pub async fn generations_to_retire(
        &self,
        client: &impl GenericClient,
        pipeline: &TableName,
        retain: u32,
        grace_secs: f64,
    ) -> Result<Vec<Generation>> {
        let rows = client
            .rows(
                &self.sql(
                    "SELECT generation FROM (SELECT generation, superseded_at, \
                         row_number() OVER (ORDER BY superseded_at DESC, generation DESC) AS age \
                         FROM {control}.generations \
                         WHERE pipeline = $1 AND superseded_at IS NOT NULL AND retired_at IS NULL) kept \
                     WHERE age > $2 AND superseded_at < clock_timestamp() - make_interval(secs => $3)",
                ),
                &[&pipeline.as_str(), &i64::from(retain), &grace_secs],
            )
            .await
            .doing("look for superseded generations")?;
        Ok(rows.iter().map(|row| Generation(row.get(0))).collect())
    }

    /// Generations of tables that are no longer published at all, whose own tables are still there.
    pub async fn generations_of_dropped_tables(
        &self,
        client: &impl GenericClient,
    ) -> Result<Vec<(TableName, Generation)>> {
        let rows = client
            .rows(
                &self.sql(
                    "SELECT g.pipeline, g.generation FROM {control}.generations g \
                     WHERE g.superseded_at IS NOT NULL AND g.retired_at IS NULL \
                       AND NOT EXISTS (SELECT FROM {control}.published p WHERE p.name = g.pipeline)",
                ),
                &[],
            )
            .await
            .doing("look for generations of dropped tables")?;
        rows.iter().map(|row| Ok((TableName::new(row.get::<_, String>(0))?, Generation(row.get(1))))).collect()
    }

    /// Generation numbers that runs of this pipeline drew but that no reader has ever seen nor will see: their run has
    /// ended. To be called by the holder of the lease, so that no such run can still be alive.
    pub async fn leftover_generations(
        &self,
        client: &impl GenericClient,
        pipeline: &TableName,
        except_run: i64,
    ) -> Result<Vec<Generation>> {
        let rows = client
            .rows(
                &self.sql(
                    "SELECT r.generation FROM {control}.runs r LEFT JOIN {control}.generations g USING (generation) \
                     WHERE r.pipeline = $1 AND r.run <> $2 AND r.mode = 'snapshot' AND r.generation IS NOT NULL \
                       AND r.state IN ('failed', 'cancelled') AND NOT r.cleaned \
                       AND (g.generation IS NULL OR (g.published_at IS NULL AND g.retired_at IS NULL))",
                ),
                &[&pipeline.as_str(), &except_run],
            )
            .await
            .doing("look for leftovers of dead runs")?;
        Ok(rows.iter().map(|row| Generation(row.get(0))).collect())
    }

    /// Notes that the table of a generation is gone, whether it was ever published or not.
    pub async fn record_retired(&self, client: &impl GenericClient, generation: Generation) -> Result<()> {
        let doing = "record the end of a generation";
        client
            .affected(
                &self.sql(
                    "UPDATE {control}.generations SET retired_at = clock_timestamp(), source_record = NULL \
                     WHERE generation = $1",
                ),
                &[&generation.0],
            )
            .await
            .doing(doing)?;
        client
            .affected(&self.sql("UPDATE {control}.runs SET cleaned = true WHERE generation = $1"), &[&generation.0])
            .await
            .doing(doing)?;
        Ok(())
    }
}
