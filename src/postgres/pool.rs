//! A bounded pool of sessions.

use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{self, Metrics, PoolError, RecycleError, RecycleResult, TimeoutType};

use super::connect::{Connector, Purpose, Session};
use super::error::explain;
use crate::domain::{Code, Error, Result};

/// A pool of sessions of one purpose; cheap to clone. Sessions are opened when they are needed and kept.
#[derive(Clone)]
pub struct Pool(managed::Pool<Opener>);

/// A session on loan: goes back to the pool when dropped.
pub type PooledSession = managed::Object<Opener>;

/// Opens and checks the sessions of a [`Pool`].
pub struct Opener {
    connector: Connector,
    purpose: Purpose,
    application_name: String,
}

impl Pool {
    /// A pool of at most `size` sessions; nothing is connected yet. Whoever finds all of them on loan waits up to
    /// `wait`. A session goes back as it is: a borrower leaves no open transaction and no changed setting behind.
    ///
    /// # Errors
    /// [`Code::Internal`] if the pool cannot be made, which only a defect can cause.
    pub fn new(
        connector: Connector,
        purpose: Purpose,
        application_name: &str,
        size: usize,
        wait: Duration,
    ) -> Result<Pool> {
        let opener = Opener { connector, purpose, application_name: application_name.to_owned() };
        managed::Pool::builder(opener)
            .max_size(size.max(1))
            .wait_timeout(Some(wait))
            .runtime(Runtime::Tokio1)
            .build()
            .map(Pool)
            .map_err(|error| Error::internal(format!("the pool of connections cannot be made: {error}")))
    }

    /// A session, new or used before.
    ///
    /// # Errors
    /// [`Code::Overloaded`] when all sessions stay on loan for too long; else as [`Connector::connect`].
    pub async fn get(&self) -> Result<PooledSession> {
        self.0.get().await.map_err(|error| match error {
            PoolError::Backend(error) => error,
            PoolError::Timeout(TimeoutType::Wait) => {
                let size = self.0.status().max_size;
                Error::new(Code::Overloaded, format!("all {size} connections to Postgres are busy"))
                    .hint("try again in a moment, or raise `limits.connections`")
            }
            other => Error::internal(format!("the pool of connections failed: {other}")),
        })
    }
}

impl managed::Manager for Opener {
    type Type = Session;
    type Error = Error;

    async fn create(&self) -> Result<Session> {
        self.connector.connect(self.purpose, &self.application_name).await
    }

    /// A round trip costs less than a request that fails because its session died in the pool.
    async fn recycle(&self, session: &mut Session, _: &Metrics) -> RecycleResult<Error> {
        session.check_connection().await.map_err(|error| RecycleError::Backend(explain(error)))
    }
}
