//! Making and upgrading the control schema, and knowing whose it is.

use tokio_postgres::{Client, GenericClient};

use crate::domain::{Code, Error, Result};
use crate::postgres::{Doing, OneTrip, quote, quote_literal};

use super::Control;

/// The migrations in order; the schema's version is how many have been applied. Each is additive: an older process
/// beside a newer one goes on working.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_control.sql"),
    include_str!("migrations/0002_merges.sql"),
    include_str!("migrations/0003_alerts.sql"),
    include_str!("migrations/0004_source_state.sql"),
    include_str!("migrations/0005_checks.sql"),
    include_str!("migrations/0006_cancel.sql"),
    include_str!("migrations/0007_given_up.sql"),
    include_str!("migrations/0008_api_keys.sql"),
    include_str!("migrations/0009_emptied_keys.sql"),
];

/// Who a control schema belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The project's id.
    pub project: String,
    /// Whether there was no control schema before.
    pub is_new: bool,
}

impl Control {
    /// Finds out whose control schema this is, before anything is made. `project` is the id that the project's file
    /// states; `adopt` accepts a schema whose owner the file does not state, which is safe only where the server belongs
    /// to the project.
    ///
    /// # Errors
    /// [`Code::ForeignProject`] when the schema bears another id, or any id while the file states none.
    pub async fn identify(&self, client: &Client, project: Option<&str>, adopt: bool) -> Result<Identity> {
        match self.read_identity(client).await? {
            Some((owner, _)) => {
                self.check_owner(&owner, project, adopt)?;
                Ok(Identity { project: owner, is_new: false })
            }
            None => {
                let project = project.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned);
                Ok(Identity { project, is_new: true })
            }
        }
    }

    /// Makes the control tables or brings them up to date, in a schema that exists, under an advisory lock so that
    /// processes starting together do it once. Returns the identity as it stands then: another process of the project
    /// may have been first.
    ///
    /// # Errors
    /// [`Code::ForeignProject`] when another project was first, or the tables were made by a newer version.
    pub async fn migrate(&self, client: &mut Client, identity: Identity, adopt: bool) -> Result<Identity> {
        let doing = "prepare the control schema";
        let transaction = client.transaction().await.doing(doing)?;
        transaction
            .affected(
                "SELECT pg_advisory_xact_lock(hashtextextended('lakegate migrate ' || $1, 0::bigint))",
                &[&self.name()],
            )
            .await
            .doing(doing)?;
        let (identity, applied) = match self.read_identity(&transaction).await? {
            Some((owner, applied)) => {
                self.check_owner(&owner, Some(&identity.project), adopt)?;
                (Identity { project: owner, is_new: false }, applied)
            }
            None => (Identity { is_new: true, ..identity }, 0),
        };
        if applied > MIGRATIONS.len() {
            return Err(Error::new(
                Code::ForeignProject,
                format!("the schema `{}` was made by a newer version of Lakegate", self.name()),
            )
            .hint("run the newer version, or choose other `schemas` in lakegate.yaml"));
        }
        if applied < MIGRATIONS.len() {
            self.act_as_owner(&transaction).await?;
            for migration in &MIGRATIONS[applied..] {
                transaction.batch_execute(&self.sql(migration)).await.doing("upgrade the control schema")?;
            }
            let write = self.sql(&format!(
                "INSERT INTO {{control}}.project (project, schema_version) VALUES ({}, {}) \
                 ON CONFLICT (only_row) DO UPDATE SET schema_version = excluded.schema_version",
                quote_literal(&identity.project),
                MIGRATIONS.len()
            ));
            transaction.batch_execute(&write).await.doing("upgrade the control schema")?;
        }
        transaction.commit().await.doing(doing)?;
        Ok(identity)
    }

    /// The owner and version of the schema; `None` where there is no control schema of ours.
    async fn read_identity(&self, client: &impl GenericClient) -> Result<Option<(String, usize)>> {
        let doing = "look for the control schema";
        let table = format!("{}.project", self.quoted);
        let known = "SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = $1";
        let Some(schema) = client.opt_row(known, &[&self.name()]).await.doing(doing)? else { return Ok(None) };
        if !schema.get::<_, bool>(0) {
            return Err(Error::new(
                Code::PostgresPrivilege,
                format!("this login may not use the control schema `{}`", self.name()),
            )
            .hint(format!(
                "as an administrator run: GRANT {} TO <this login>; `lakegate doctor --grants` prints all that is needed",
                quote(&format!("{}_owner", self.name()))
            )));
        }
        let exists: bool = client.one_row("SELECT to_regclass($1) IS NOT NULL", &[&table]).await.doing(doing)?.get(0);
        if !exists {
            return Ok(None);
        }
        let row = client
            .opt_row(&self.sql("SELECT project, schema_version FROM {control}.project"), &[])
            .await
            .doing(doing)?;
        Ok(row.map(|row| (row.get(0), usize::try_from(row.get::<_, i32>(1)).unwrap_or(usize::MAX))))
    }

    /// What the transaction makes belongs to the schema's owner, as the published views do that read it.
    async fn act_as_owner(&self, transaction: &impl GenericClient) -> Result<()> {
        let doing = "act as the owner of the control schema";
        let owner = transaction
            .opt_row(
                "SELECT pg_get_userbyid(nspowner)::text FROM pg_namespace \
                 WHERE nspname = $1 AND pg_get_userbyid(nspowner) <> current_user AND pg_has_role(nspowner, 'USAGE')",
                &[&self.name()],
            )
            .await
            .doing(doing)?;
        match owner {
            Some(owner) => {
                let role = quote(owner.get(0));
                transaction.batch_execute(&format!("SET LOCAL ROLE {role}")).await.doing(doing)
            }
            None => Ok(()),
        }
    }

    fn check_owner(&self, owner: &str, project: Option<&str>, adopt: bool) -> Result<()> {
        match project {
            Some(project) if project == owner => Ok(()),
            _ if adopt => Ok(()),
            Some(project) => Err(Error::new(
                Code::ForeignProject,
                format!("the schema `{}` belongs to the project `{owner}`, this one is `{project}`", self.name()),
            )
            .hint("choose other names under `schemas` in lakegate.yaml, or another database")),
            None => Err(Error::new(
                Code::ForeignProject,
                format!("the schema `{}` belongs to the project `{owner}`; lakegate.yaml states no `project`", self.name()),
            )
            .hint(format!(
                "if that is this project, add `project: {owner}` to lakegate.yaml; otherwise choose other names under `schemas`"
            ))),
        }
    }
}
