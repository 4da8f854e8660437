//! What `doctor` asks of the server.

use crate::domain::{Code, Error, Result};
use crate::postgres::Purpose;

use super::Engine;

impl Engine {
    /// The server in one line, for people.
    pub async fn describe_server(&self) -> Result<String> {
        let session = self.control_session().await?;
        self.destination.describe_server(&session).await
    }

    /// Whether a session is one session of the server from its beginning to its end, as leases, COPY and LISTEN need.
    ///
    /// # Errors
    /// [`Code::PostgresRefused`] behind a pooler that shares server sessions between clients.
    pub async fn check_direct_connection(&self) -> Result<()> {
        let first = self.connector.connect(Purpose::Control, "lakegate doctor").await?;
        let second = self.connector.connect(Purpose::Control, "lakegate doctor").await?;
        // A pooler in transaction mode answers two idle clients from the same session of the server.
        if self.destination.backend_pid(&first).await? != self.destination.backend_pid(&second).await? {
            return Ok(());
        }
        Err(Error::new(
            Code::PostgresRefused,
            "the URL leads to a pooler in transaction mode: settings of a session do not last",
        )
        .hint("name the server itself, or a pooler in session mode, in `postgres`"))
    }
}
