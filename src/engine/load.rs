//! Loading a generation: copy, compare, index.

use std::time::Instant;

use tokio::try_join;

use crate::domain::{Code, Error, Generation, Pipeline, Result, RunOutcome, TableSchema, Verify};
use crate::encode::{Checksum, Coverage, verify_sql};
use crate::observe::{Event, Stage};
use crate::postgres::Session;

use super::Engine;
use super::held::Held;
use super::plan::Decided;
use super::reading::of_one_state;

/// Rows above which only a sample is compared unless the pipeline says otherwise.
const FULL_UP_TO: u64 = 1_000_000;
/// The same in bytes of the source, for a log that does not count its rows.
const FULL_UP_TO_BYTES: u64 = 64 << 20;
/// The most indexes that are built at a time.
const INDEXES_AT_ONCE: usize = 4;

impl Engine {
    /// Makes, fills, compares and indexes the table of a generation. `outcome` carries rows, bytes, checksum and
    /// seconds afterwards. Returns the sessions that have copied, which are free again.
    pub(super) async fn load(
        &self,
        session: &Session,
        pipeline: &Pipeline,
        decided: &Decided,
        generation: Generation,
        held: &Held,
        outcome: &mut RunOutcome,
    ) -> Result<Vec<Session>> {
        let name = &pipeline.name;
        let schema = decided.schema();
        let started = Instant::now();
        self.observer.observe(name, &Event::Entered(Stage::Copy));
        let coverage = coverage(pipeline, decided, held.run);
        let copied = Box::pin(self.copy(session, pipeline, decided, generation, held, coverage)).await;
        let (copied, free) = of_one_state(&decided.source, copied).await?;
        outcome.seconds.copy = started.elapsed().as_secs_f64();
        outcome.rows.read = copied.rows_read;
        outcome.rows.inserted = copied.rows_stored;
        outcome.rows.rejected = copied.rows_rejected;
        outcome.bytes_read = copied.bytes_read;
        outcome.bytes_copied = copied.bytes_copied;
        refuse_empty(pipeline, decided, copied.rows_stored)?;

        let filled = Filled { pipeline, generation, schema, coverage, checksum: &copied.checksum };
        if let Err(error) = self.verify_and_index(session, &free, &filled, held, outcome).await {
            let (source, mapping) = (&decided.source, &decided.mapping);
            return Err(self.name_differing_columns(error, session, pipeline, source, mapping, generation).await);
        }
        outcome.checksum = Some(copied.checksum.sum.to_string());
        outcome.coverage = match coverage {
            Coverage::Full => 1.0,
            Coverage::Sampled { .. } => copied.checksum.hashed as f64 / copied.rows_stored.max(1) as f64,
        };
        Ok(free)
    }

    /// Compares a table and indexes it, both at once where rows that share a key are refused: neither keeps all processors busy.
    async fn verify_and_index(
        &self,
        session: &Session,
        free: &[Session],
        filled: &Filled<'_>,
        held: &Held,
        outcome: &mut RunOutcome,
    ) -> Result<()> {
        let (reading, further) = free.split_first().unwrap_or((session, &[]));
        let indexes_remain = |_: &f64| self.observer.observe(&filled.pipeline.name, &Event::Entered(Stage::Index));
        let verifying = async |beside| self.verify(reading, filled, beside).await.inspect(indexes_remain);
        let Some(column) = filled.pipeline.on_duplicate_key.latest_by() else {
            // A failed index ends the load, whatever the comparison would say: rows that share a key share it in the source, too,
            // or were damaged on their way, and nothing is published. After a mismatch, the session is needed that builds the index.
            let verifying = async { Ok(verifying(Some(session.backend_pid())).await) };
            let (verified, indexed) = try_join!(verifying, self.index(session, further, filled, held))?;
            (outcome.seconds.verify, outcome.seconds.index) = (verified?, indexed);
            return Ok(());
        };
        // Until they have been compared, all rows must be there.
        outcome.seconds.verify = verifying(None).await?;
        let started = Instant::now();
        let (name, schema) = (&filled.pipeline.name, filled.schema);
        let removed = self.destination.keep_latest(session, name, filled.generation, schema, column).await?.removed;
        outcome.rows.deduplicated = removed;
        outcome.rows.inserted = outcome.rows.inserted.saturating_sub(removed);
        self.index(session, further, filled, held).await?;
        outcome.seconds.index = started.elapsed().as_secs_f64();
        Ok(())
    }

    /// Compares a table with what was sent; returns the seconds that it took. `beside` is the backend that indexes it meanwhile.
    async fn verify(&self, session: &Session, filled: &Filled<'_>, beside: Option<i32>) -> Result<f64> {
        let Filled { pipeline, generation, schema, coverage, checksum } = *filled;
        self.observer.observe(&pipeline.name, &Event::Entered(Stage::Verify));
        fail::fail_point!(crate::failpoint::BEFORE_VERIFY);
        // Reading a sample is work for one process. All rows are work for as many as there are.
        if let (Some(builder), Coverage::Sampled { .. }) = (beside, coverage) {
            self.destination.stand_back(session, builder).await?;
        }
        let started = Instant::now();
        self.compare(session, pipeline, generation, schema, coverage, checksum).await?;
        Ok(started.elapsed().as_secs_f64())
    }

    /// Compares what Postgres holds with what the source yielded, from the Arrow values on one side and from the stored
    /// values on the other.
    ///
    /// # Errors
    /// [`Code::CountMismatch`], [`Code::ChecksumMismatch`].
    pub(super) async fn compare(
        &self,
        session: &Session,
        pipeline: &Pipeline,
        generation: Generation,
        schema: &TableSchema,
        coverage: Coverage,
        expected: &Checksum,
    ) -> Result<()> {
        let stored = self
            .destination
            .checksum(session, &pipeline.name, generation, |table, quote| verify_sql(schema, table, coverage, quote))
            .await?;
        if coverage == Coverage::Full && stored.hashed.unsigned_abs() != expected.rows {
            return Err(Error::new(
                Code::CountMismatch,
                format!("`{}`: {} rows were sent, Postgres holds {}", pipeline.name, expected.rows, stored.hashed),
            )
            .hint("nothing was published; the next run starts afresh"));
        }
        if stored.hashed.unsigned_abs() == expected.hashed && stored.sum == expected.sum.to_string() {
            return Ok(());
        }
        Err(Error::new(
            Code::ChecksumMismatch,
            format!(
                "generation {generation} of `{}` differs from its source: {} rows hash to {} in the source, {} rows to {} \
                 in Postgres",
                pipeline.name, expected.hashed, expected.sum, stored.hashed, stored.sum
            ),
        )
        .hint("nothing was published; please report this with the table's column types (`lakegate plan`)"))
    }

    /// Builds the indexes at once, on the session, on `further` ones, and on as many more as it takes; returns the seconds that it
    /// took.
    async fn index(&self, session: &Session, further: &[Session], filled: &Filled<'_>, held: &Held) -> Result<f64> {
        let Filled { pipeline, generation, schema, .. } = *filled;
        let started = Instant::now();
        fail::fail_point!(crate::failpoint::BEFORE_INDEX);
        let wanted = pipeline.indexes.len().min(INDEXES_AT_ONCE - 1);
        let made = self.sessions_for(held, "lakegate index", wanted.saturating_sub(further.len())).await?;
        let sessions = std::iter::once(session).chain(further.iter().take(wanted)).chain(&made);
        let clients: Vec<&tokio_postgres::Client> = sessions.map(|session| &**session).collect();
        self.destination.build_indexes(&clients, &pipeline.name, generation, schema, &pipeline.indexes).await?;
        Ok(started.elapsed().as_secs_f64())
    }
}

/// The table of a generation once its rows are there.
struct Filled<'a> {
    pipeline: &'a Pipeline,
    generation: Generation,
    schema: &'a TableSchema,
    coverage: Coverage,
    /// Of what was sent.
    checksum: &'a Checksum,
}

/// Whether all rows are compared or a sample; which sample, depends on the run's number, so that in time every row is.
fn coverage(pipeline: &Pipeline, decided: &Decided, run: i64) -> Coverage {
    let size = decided.source.size();
    let small = size.rows.map_or(size.bytes <= FULL_UP_TO_BYTES, |rows| rows <= FULL_UP_TO);
    match pipeline.verify {
        Some(Verify::Full) => Coverage::Full,
        None if small => Coverage::Full,
        Some(Verify::Sampled) | None => Coverage::sample_of_run(run),
    }
}

/// An empty source must not empty a table by accident.
pub(super) fn refuse_empty(pipeline: &Pipeline, decided: &Decided, rows: u64) -> Result<()> {
    let was_filled = decided.live.as_ref().is_some_and(|live| live.rows > 0);
    if rows > 0 || pipeline.allow_empty || !was_filled {
        return Ok(());
    }
    Err(Error::new(
        Code::EmptySource,
        format!(
            "version {} of the source has no rows, so `{}` would become empty",
            decided.source.version().version,
            pipeline.name
        ),
    )
    .hint("mend the source, or write `allow_empty: true`"))
}
