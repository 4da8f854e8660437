//! Dropping what nobody needs any more: superseded generations and the leftovers of dead runs.

use std::time::Duration;

use crate::destination::Retired;
use crate::domain::{Generation, Pipeline, Result, TableName};
use crate::observe::Event;
use crate::postgres::{Doing, Session};

use super::Engine;

/// How long a superseded generation stays at least: readers that planned a query against it may be about to open it.
const GRACE: Duration = Duration::from_secs(60);
/// How often and at which distance the drop of a failed run's table is tried.
const DROP_TRIES: u32 = 30;
const DROP_PAUSE: Duration = Duration::from_millis(100);

impl Engine {
    /// Drops superseded generations of a pipeline beyond `retain`, as far as no reader holds them. Whatever cannot be
    /// dropped now is tried again by the next run.
    pub async fn retire_superseded(&self, session: &mut Session, pipeline: &Pipeline) -> Result<()> {
        for generation in self.superseded(session, pipeline).await? {
            self.retire_one(session, &pipeline.name, generation).await?;
        }
        Ok(())
    }

    /// The generations of a pipeline that are to be dropped by now.
    pub(super) async fn superseded(&self, session: &Session, pipeline: &Pipeline) -> Result<Vec<Generation>> {
        self.control.generations_to_retire(&**session, &pipeline.name, pipeline.retain, GRACE.as_secs_f64()).await
    }

    /// Drops the tables of runs that came to nothing. To be called by the holder of the lease.
    pub(super) async fn drop_leftovers(&self, session: &mut Session, name: &TableName, run: i64) -> Result<()> {
        for generation in self.control.leftover_generations(&**session, name, run).await? {
            self.retire_one(session, name, generation).await?;
        }
        Ok(())
    }

    /// Drops the table of one generation, waiting a little for the statements of a dead process to end.
    pub(super) async fn drop_own(
        &self,
        session: &mut Session,
        name: &TableName,
        generation: Generation,
    ) -> Result<Retired> {
        for _ in 0..DROP_TRIES {
            let retired = self.retire_one(session, name, generation).await?;
            if retired != Retired::Busy {
                return Ok(retired);
            }
            tokio::time::sleep(DROP_PAUSE).await;
        }
        Ok(Retired::Busy)
    }

    /// Drops what is left of tables that have been dropped while a reader held one of their generations.
    pub async fn retire_dropped_tables(&self, session: &mut Session) -> Result<()> {
        for (name, generation) in self.control.generations_of_dropped_tables(&**session).await? {
            self.retire_one(session, &name, generation).await?;
        }
        Ok(())
    }

    /// The table and the note that it is gone go together.
    async fn retire_one(&self, session: &mut Session, name: &TableName, generation: Generation) -> Result<Retired> {
        let doing = "drop an old generation";
        let transaction = session.transaction().await.doing(doing)?;
        let retired = self.destination.drop_generation(&transaction, name, generation).await?;
        match retired {
            Retired::Dropped => {
                self.control.record_retired(&transaction, generation).await?;
                transaction.commit().await.doing(doing)?;
            }
            Retired::Busy => {}
            Retired::Depended => {
                let text = format!("generation {generation} is kept: other objects depend on its table");
                self.observer.observe(name, &Event::Warning(&text));
            }
        }
        Ok(retired)
    }
}
