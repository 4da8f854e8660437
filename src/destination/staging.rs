//! Changed rows on their way into a generation.
//!
//! Two tables belong to a generation that is merged into: one for whole rows that come, one for keys of rows that go
//! (with `latest_by`, together with the value that says how new they are).
//! Both stand in the control schema, are unlogged, and are made once: making and dropping tables with each merge would
//! bloat the catalogs. They are empty except during a merge, or after one whose process died.

use tokio_postgres::{Client, GenericClient};

use crate::domain::{Generation, Result, TableSchema};
use crate::postgres::{Doing, OneTrip};

use super::Destination;
use super::copy::CopyTarget;
use super::generation_table::column_definitions;

impl Destination {
    /// The quoted name of the table of rows on their way into a generation.
    pub(super) fn coming_rows(&self, generation: Generation) -> String {
        self.control(&generation.coming_rows())
    }

    /// The quoted name of the table of keys on their way out of a generation.
    pub(super) fn going_keys(&self, generation: Generation) -> String {
        self.control(&generation.going_keys())
    }

    /// Makes the two tables, or empties them where a merge that failed has left something. Returns where the COPY of
    /// coming rows and that of going keys go. `latest_by` is the position of the column that goes with a key.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn prepare_staging(
        &self,
        client: &mut Client,
        generation: Generation,
        schema: &TableSchema,
        latest_by: Option<usize>,
    ) -> Result<(CopyTarget, CopyTarget)> {
        let doing = "make the tables of a merge";
        let (coming, going) = (self.coming_rows(generation), self.going_keys(generation));
        let sent: Vec<usize> = schema.key_and(latest_by);
        let exists = client
            .one_row("SELECT to_regclass($1) IS NOT NULL AND to_regclass($2) IS NOT NULL", &[&coming, &going])
            .await
            .doing(doing)?;
        if exists.get(0) {
            self.empty_staging(&*client, generation).await?;
        } else {
            let columns = column_definitions(schema, |_| true);
            let keys = column_definitions(schema, |index| sent.contains(&index));
            let sql = format!("CREATE UNLOGGED TABLE {coming} ({columns}); CREATE UNLOGGED TABLE {going} ({keys})");
            let transaction = client.transaction().await.doing(doing)?;
            transaction.batch_execute(&sql).await.doing(doing)?;
            self.make_private(&transaction, &coming).await?;
            self.make_private(&transaction, &going).await?;
            transaction.commit().await.doing(doing)?;
        }
        let sent = sent.iter().filter_map(|&index| schema.columns.get(index));
        Ok((CopyTarget::new(coming, &schema.columns), CopyTarget::new(going, sent)))
    }

    /// Empties both tables after a merge that came to nothing, where there are any.
    pub async fn discard_staged(&self, client: &impl GenericClient, generation: Generation) -> Result<()> {
        let (coming, going) = (self.coming_rows(generation), self.going_keys(generation));
        let exist = client
            .one_row("SELECT to_regclass($1) IS NOT NULL AND to_regclass($2) IS NOT NULL", &[&coming, &going])
            .await
            .doing("look for the tables of a merge")?;
        if exist.get(0) { self.empty_staging(client, generation).await } else { Ok(()) }
    }

    /// Empties both tables. Row by row: TRUNCATE would wait for whoever reads them, a backup for example.
    pub async fn empty_staging(&self, client: &impl GenericClient, generation: Generation) -> Result<()> {
        let (coming, going) = (self.coming_rows(generation), self.going_keys(generation));
        let sql = format!("DELETE FROM {coming}; DELETE FROM {going}");
        client.batch_execute(&sql).await.doing("empty the tables of a merge")
    }
}
