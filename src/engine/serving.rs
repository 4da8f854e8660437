//! How a table is served, published by itself: without a run, and without a look at the source.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::{Code, Error, Pipeline, Result};
use crate::postgres::{Doing, Purpose, Session};
use crate::store::{Lease, LeaseAttempt, LoadedGeneration, PublishRow, Published};

use super::Engine;
use super::plan::check_names_of_columns;

/// Long enough for a few short statements; the lease is not renewed meanwhile.
const LEASE: Duration = Duration::from_secs(60);

/// What is published of a table whose pipeline says otherwise how it is served.
struct Differing {
    published: Published,
    live: LoadedGeneration,
    policy_differs: bool,
}

impl Engine {
    /// Publishes how a table is served (`serve`, `deprecated`) and who may read its view (`grants`), where its pipeline says
    /// otherwise by now. Whether there was anything to publish: a table that has never been loaded has it with its first
    /// load.
    ///
    /// # Errors
    /// [`Code::RunInProgress`] while a run is under way, which publishes what it has begun with; [`Code::ColumnMissing`] where
    /// a column is named that is not published, but may be with the next run; those of the server.
    pub async fn publish_serving(&self, session: &mut Session, pipeline: &Pipeline) -> Result<bool> {
        let name = &pipeline.name;
        if self.serves_otherwise(session, pipeline).await?.is_none() {
            return Ok(false);
        }
        let lease_session = Arc::new(self.connector.connect(Purpose::Control, "lakegate lease").await?);
        let lease = match self.control.acquire_lease(&lease_session, name, "lakegate up", LEASE).await? {
            LeaseAttempt::Acquired(lease) => lease,
            LeaseAttempt::Held { holder } => {
                return Err(Error::new(Code::RunInProgress, format!("`{name}` is being synced by {holder}"))
                    .hint("it is published after that run"));
            }
        };
        let result = self.publish_serving_under(session, pipeline, &lease).await;
        // A lease that cannot be given back expires, and its lock goes with the connection.
        let _ = self.control.release_lease(&lease_session, &lease).await;
        result
    }

    async fn publish_serving_under(&self, session: &mut Session, pipeline: &Pipeline, lease: &Lease) -> Result<bool> {
        let name = &pipeline.name;
        // What was published before the lease was had need not be any more.
        let Some(differing) = self.serves_otherwise(session, pipeline).await? else { return Ok(false) };
        let Differing { published, live, policy_differs } = differing;
        // A column that is to be hidden and is misspelled would be shown.
        check_names_of_columns(pipeline, &live.schema)?;
        self.destination.check_grants(session, name, &pipeline.grants).await?;
        let doing = "publish how the table is served";
        let transaction = session.transaction().await.doing(doing)?;
        self.destination.grant_missing(&transaction, name, &pipeline.grants).await?;
        if policy_differs {
            let row = PublishRow {
                name,
                generation: live.generation,
                source_version: &published.source_version,
                schema: &live.schema,
                policy: &pipeline.serve,
                checked_by: None,
            };
            self.control.record_publish(&transaction, &row).await?;
        }
        self.control.fence(&transaction, lease).await?;
        transaction.commit().await.doing(doing)?;
        Ok(true)
    }

    /// What is published of a table, where it is served otherwise than its pipeline says by now.
    async fn serves_otherwise(&self, session: &Session, pipeline: &Pipeline) -> Result<Option<Differing>> {
        let name = &pipeline.name;
        let Some(published) = self.control.published(&**session, name).await? else { return Ok(None) };
        let policy_differs = self.control.policy_differs(&**session, name, &pipeline.serve).await?;
        if !policy_differs && self.destination.missing_grants(&**session, name, &pipeline.grants).await?.is_empty() {
            return Ok(None);
        }
        let live = self.control.generation(&**session, published.generation).await?;
        Ok(live.map(|live| Differing { published, live, policy_differs }))
    }
}
