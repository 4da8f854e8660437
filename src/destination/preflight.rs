//! What a plan needs to know of Postgres before anything is changed.

use serde::Serialize;
use tokio_postgres::Client;

use crate::domain::{Code, Error, Result, TableName, TableSchema};
use crate::postgres::{Doing, OneTrip, quote};

use super::roles::role_exists;
use super::view_definition::taken;
use super::{Destination, ViewChange};

/// An object that depends on the published view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dependent {
    /// What it is, as `pg_describe_object` says: `view reports.daily`.
    pub object: String,
}

/// What Postgres says about a publish to come.
#[derive(Debug, Clone)]
pub struct Facts {
    /// What the publish does to the view.
    pub view_change: ViewChange,
    /// What depends on the view.
    pub dependents: Vec<Dependent>,
    /// Bytes of all generations of the table that exist now.
    pub bytes_now: i64,
}

impl Destination {
    /// Looks at everything that could stop the publish of `schema`, so that it is refused before the load and not
    /// after it.
    ///
    /// # Errors
    /// [`Code::NameTaken`], [`Code::DependentObjects`], [`Code::RoleMissing`], [`Code::PostgresPrivilege`].
    pub async fn preflight(
        &self,
        client: &Client,
        name: &TableName,
        schema: &TableSchema,
        grants: &[String],
        is_published: bool,
    ) -> Result<Facts> {
        self.check_privileges(client).await?;
        self.check_grants(client, name, grants).await?;
        let view_change = self.view_change(client, name, schema).await?;
        if view_change != ViewChange::Create && !is_published {
            return Err(taken(self, name, "a view that Lakegate did not make"));
        }
        self.check_view_owner(client, name).await?;
        let dependents = self.dependents(client, name).await?;
        if view_change == ViewChange::Recreate && !dependents.is_empty() {
            let list = dependents.iter().map(|dependent| dependent.object.as_str()).collect::<Vec<_>>().join(", ");
            return Err(Error::new(
                Code::DependentObjects,
                format!("the columns of `{name}` change in a way that its view can only follow by being made anew, but {list} depends on it"),
            )
            .hint("drop the dependent objects and create them again after the sync, or keep the columns as they are with `columns`"));
        }
        let bytes_now = self.bytes_of_generations(client, name).await?;
        Ok(Facts { view_change, dependents, bytes_now })
    }

    /// Refuses roles that do not exist.
    ///
    /// # Errors
    /// [`Code::RoleMissing`].
    pub async fn check_grants(&self, client: &Client, name: &TableName, grants: &[String]) -> Result<()> {
        for role in grants {
            if !role_exists(client, role).await? {
                return Err(Error::new(Code::RoleMissing, format!("`grants` of `{name}` names the role `{role}`"))
                    .hint(format!("create it: CREATE ROLE {};  or take it out of `grants`", quote(role))));
            }
        }
        Ok(())
    }

    async fn check_privileges(&self, client: &Client) -> Result<()> {
        for schema in [&self.schemas.published, &self.schemas.data] {
            let row = client
                .opt_row("SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = $1", &[schema])
                .await
                .doing("check the privileges")?;
            if row.is_some_and(|row| !row.get::<_, bool>(0)) {
                return Err(Error::new(
                    Code::PostgresPrivilege,
                    format!("this login may not create tables or views in the schema `{schema}`"),
                )
                .hint(format!("as its owner run: GRANT CREATE, USAGE ON SCHEMA {} TO <this login>", quote(schema))));
            }
        }
        Ok(())
    }

    /// Only the owner of a view may repoint it.
    async fn check_view_owner(&self, client: &Client, name: &TableName) -> Result<()> {
        let row = client
            .opt_row(
                "SELECT pg_get_userbyid(c.relowner)::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                 WHERE n.nspname = $1 AND c.relname = $2 AND NOT pg_has_role(c.relowner, 'USAGE')",
                &[&self.schemas.published, &name.as_str()],
            )
            .await
            .doing("check the privileges")?;
        let Some(row) = row else { return Ok(()) };
        let owner: &str = row.get(0);
        Err(Error::new(
            Code::PostgresPrivilege,
            format!(
                "the view `{}.{name}` belongs to the role `{owner}`, which this login is not a member of",
                self.schemas.published
            ),
        )
        .hint(format!("as an administrator run: GRANT {} TO <this login>", quote(owner))))
    }

    /// What depends on the published view, other than its own rule.
    pub async fn dependents(&self, client: &Client, name: &TableName) -> Result<Vec<Dependent>> {
        let rows = client
            .rows(
                "SELECT DISTINCT coalesce( \
                     (SELECT pg_describe_object('pg_class'::regclass, r.ev_class, 0) FROM pg_rewrite r \
                      WHERE d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid), \
                     pg_describe_object(d.classid, d.objid, 0)) \
                 FROM pg_class v JOIN pg_namespace n ON n.oid = v.relnamespace \
                 JOIN pg_depend d ON (d.refclassid = 'pg_class'::regclass AND d.refobjid = v.oid) \
                                  OR (d.refclassid = 'pg_type'::regclass AND d.refobjid IN (v.reltype, \
                                      (SELECT y.typarray FROM pg_type y WHERE y.oid = v.reltype))) \
                 WHERE n.nspname = $1 AND v.relname = $2 AND d.deptype IN ('n', 'a') \
                   AND NOT (d.classid = 'pg_rewrite'::regclass AND EXISTS ( \
                         SELECT FROM pg_rewrite r WHERE r.oid = d.objid AND r.ev_class = v.oid AND r.rulename = '_RETURN')) \
                 ORDER BY 1",
                &[&self.schemas.published, &name.as_str()],
            )
            .await
            .doing("look for what depends on the view")?;
        Ok(rows.iter().map(|row| Dependent { object: row.get(0) }).collect())
    }
}
