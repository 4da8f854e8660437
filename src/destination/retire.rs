//! Dropping the tables of generations that nobody needs any more.

use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, GenericClient};

use crate::domain::{Generation, Result, TableName};
use crate::postgres::Doing;

use super::Destination;

/// A waiting DROP stops every later reader of the table.
const LOCK_WAIT: Duration = Duration::from_millis(200);

/// What became of a generation's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retired {
    /// It is gone, or was gone before.
    Dropped,
    /// A reader still has it open: try again later.
    Busy,
    /// Somebody made an object that depends on the table itself; never CASCADE.
    Depended,
}

impl Destination {
    /// Drops a generation's table, giving up quickly when a reader holds it. Unless it is [`Retired::Dropped`], the
    /// transaction has failed and is to be rolled back.
    pub async fn drop_generation(
        &self,
        transaction: &impl GenericClient,
        name: &TableName,
        generation: Generation,
    ) -> Result<Retired> {
        self.bound_lock_wait(transaction, LOCK_WAIT).await?;
        let sql = format!(
            "DROP TABLE IF EXISTS {}, {}, {}",
            self.table(name, generation),
            self.coming_rows(generation),
            self.going_keys(generation)
        );
        match transaction.batch_execute(&sql).await {
            Ok(()) => Ok(Retired::Dropped),
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(Retired::Busy),
            Err(error) if error.code() == Some(&SqlState::DEPENDENT_OBJECTS_STILL_EXIST) => Ok(Retired::Depended),
            Err(error) => Err(error).doing("drop an old generation"),
        }
    }

    /// The generations of a table that exist in the data schema, whatever the control schema says.
    pub async fn existing_generations(&self, client: &Client, name: &TableName) -> Result<Vec<Generation>> {
        let rows = client
            .query(
                "SELECT substring(c.relname FROM '__g([0-9]+)$')::bigint FROM pg_class c \
                 JOIN pg_namespace n ON n.oid = c.relnamespace \
                 WHERE n.nspname = $1 AND c.relkind = 'r' AND c.relname ~ ('^' || $2 || '__g[0-9]{1,18}$') ORDER BY 1",
                &[&self.schemas.data, &name.as_str()],
            )
            .await
            .doing("look for generations")?;
        Ok(rows.iter().map(|row| Generation(row.get(0))).collect())
    }

    /// The bytes that a generation takes on disk, indexes included; 0 when it is gone.
    pub async fn generation_bytes(&self, client: &Client, name: &TableName, generation: Generation) -> Result<i64> {
        let row = client
            .query_one("SELECT coalesce(pg_total_relation_size(to_regclass($1)), 0)", &[&self.table(name, generation)])
            .await
            .doing("measure a generation")?;
        Ok(row.get(0))
    }
}
