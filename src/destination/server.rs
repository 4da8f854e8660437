//! The server as `doctor` sees it.

use tokio_postgres::Client;

use crate::domain::Result;
use crate::postgres::{Doing, OneTrip, quote};

use super::Destination;

impl Destination {
    /// Version, size of the database and login, in one line.
    pub async fn describe_server(&self, client: &Client) -> Result<String> {
        let row = client
            .one_row(
                "SELECT format('PostgreSQL %s, database %s of %s, as %s', current_setting('server_version'), \
                        current_database(), pg_size_pretty(pg_database_size(current_database())), current_user)",
                &[],
            )
            .await
            .doing("look at the server")?;
        Ok(row.get(0))
    }

    /// The process of the server that answers on this connection.
    pub async fn backend_pid(&self, client: &Client) -> Result<i32> {
        Ok(client.one_row("SELECT pg_backend_pid()", &[]).await.doing("look at the connection")?.get(0))
    }

    /// The statements that give a login what it needs, for an administrator to run. `LOGIN` stands for its name.
    #[must_use]
    pub fn grants_needed_sql(&self) -> String {
        let schemas = [&self.schemas.published, &self.schemas.data, &self.schemas.control];
        let mut lines = vec![
            "-- Either let the login make its schemas and roles itself:".to_owned(),
            "GRANT CREATE ON DATABASE DBNAME TO LOGIN;".to_owned(),
            "ALTER ROLE LOGIN CREATEROLE;  -- optional: roles for other logins and for read-only replicas".to_owned(),
            "-- or make them for it:".to_owned(),
        ];
        lines.extend(schemas.iter().map(|schema| format!("CREATE SCHEMA {} AUTHORIZATION LOGIN;", quote(schema))));
        lines.join("\n")
    }
}
