//! Dropping the tables of generations that nobody needs any more.

use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, GenericClient};

use crate::domain::{Generation, Result, TableName};
use crate::postgres::{Doing, OneTrip};

use super::Destination;

/// A waiting DROP stops every later reader of the table.
const LOCK_WAIT: Duration = Duration::from_millis(200);

/// The tables of generations of `$2` in the schema `$1`.
const EXISTING: &str = "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname = $1 AND c.relkind = 'r' AND c.relname ~ ('^' || $2 || '__g[0-9]{1,18}$')";

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
        let sql = format!("SELECT substring(c.relname FROM '__g([0-9]+)$')::bigint {EXISTING} ORDER BY 1");
        let rows = client.rows(&sql, &[&self.schemas.data, &name.as_str()]).await.doing("look for generations")?;
        Ok(rows.iter().map(|row| Generation(row.get(0))).collect())
    }

    /// The bytes that all generations of a table take on disk, indexes included.
    pub async fn bytes_of_generations(&self, client: &Client, name: &TableName) -> Result<i64> {
        // One that is dropped meanwhile has no size.
        let sql = format!("SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint {EXISTING}");
        let row = client.one_row(&sql, &[&self.schemas.data, &name.as_str()]).await;
        Ok(row.doing("measure the generations")?.get(0))
    }
}
