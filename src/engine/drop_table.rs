//! The end of a table.

use std::sync::Arc;
use std::time::Duration;

use crate::destination::Retired;
use crate::domain::{Code, Error, Generation, Result, TableName};
use crate::postgres::{Doing, Purpose, Session};
use crate::store::{Lease, LeaseAttempt};

use super::Engine;

/// How long readers of the view may be made to wait.
const LOCK_WAIT: Duration = Duration::from_millis(200);
/// How often the lock is tried for, and the pause between two tries.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(200);
/// Long enough to drop a view and some tables; the lease is not renewed meanwhile.
const LEASE: Duration = Duration::from_secs(120);

impl Engine {
    /// Drops the view, all generations and the bookkeeping of a table; its runs stay as history. Returns how many
    /// generations were dropped.
    ///
    /// # Errors
    /// [`Code::NothingPublished`] when there is no such table, [`Code::RunInProgress`] while a run is under way,
    /// [`Code::DependentObjects`] when something depends on the view or on a generation's table,
    /// [`Code::LockNotAvailable`] when a generation stays because somebody reads it: `up` drops it when that is over.
    pub async fn drop_table(&self, name: &TableName) -> Result<usize> {
        let lease_session = Arc::new(self.connector.connect(Purpose::Control, "lakegate lease").await?);
        let lease = match self.control.acquire_lease(&lease_session, name, "lakegate drop", LEASE).await? {
            LeaseAttempt::Acquired(lease) => lease,
            LeaseAttempt::Held { holder } => {
                return Err(Error::new(Code::RunInProgress, format!("`{name}` is being synced by {holder}"))
                    .hint("wait for the run or interrupt it, then drop the table"));
            }
        };
        let result = self.drop_under_lease(name, &lease).await;
        // A lease that cannot be given back expires, and its lock goes with the connection.
        let _ = self.control.release_lease(&lease_session, &lease).await;
        result
    }

    async fn drop_under_lease(&self, name: &TableName, lease: &Lease) -> Result<usize> {
        let mut session = self.control_session().await?;
        let existing = self.destination.existing_generations(&session, name).await?;
        if existing.is_empty() && self.control.published(&*session, name).await?.is_none() {
            return Err(Error::new(Code::NothingPublished, format!("there is no table `{name}`"))
                .hint("`lakegate status` lists the tables"));
        }
        let dependents = self.destination.dependents(&session, name).await?;
        if !dependents.is_empty() {
            let list = dependents.iter().map(|dependent| dependent.object.as_str()).collect::<Vec<_>>().join(", ");
            return Err(Error::new(Code::DependentObjects, format!("on the view of `{name}` depend: {list}"))
                .hint("drop them first; Lakegate never drops what it did not make"));
        }
        self.unpublish(&mut session, name, lease).await?;
        for &generation in &existing {
            match self.drop_own(&mut session, name, generation).await? {
                Retired::Dropped => {}
                Retired::Busy => return Err(remains(Code::LockNotAvailable, name, generation, "is still being read")),
                Retired::Depended => {
                    return Err(remains(Code::DependentObjects, name, generation, "has objects that depend on it"));
                }
            }
        }
        Ok(existing.len())
    }

    /// Drops view and bookkeeping in one transaction, tried again until its lock is had.
    async fn unpublish(&self, session: &mut Session, name: &TableName, lease: &Lease) -> Result<()> {
        for _ in 1..LOCK_TRIES {
            match self.try_unpublish(session, name, lease).await {
                Err(error) if error.code() == Code::LockNotAvailable => tokio::time::sleep(LOCK_PAUSE).await,
                other => return other,
            }
        }
        self.try_unpublish(session, name, lease).await
    }

    async fn try_unpublish(&self, session: &mut Session, name: &TableName, lease: &Lease) -> Result<()> {
        let doing = "drop the table";
        let transaction = session.transaction().await.doing(doing)?;
        self.destination.bound_lock_wait(&transaction, LOCK_WAIT).await?;
        self.control.forget_table(&transaction, name).await?;
        self.destination.drop_view(&transaction, name).await?;
        self.control.fence(&transaction, lease).await?;
        transaction.commit().await.doing(doing)
    }
}

/// The table has ended, but for the rows of a generation.
fn remains(code: Code, name: &TableName, generation: Generation, why: &str) -> Error {
    Error::new(code, format!("`{name}` is no longer published, but the table of its generation {generation} {why}"))
        .hint(format!("say `lakegate drop {name} --yes` again when that is over"))
}
