//! Schemas and roles of a project, made where privileges allow.
//!
//! `<control>_owner` owns what syncs make, so that several logins can run them; `<control>_api` may read generations
//! and what the read API needs to know about them, and nothing else. Neither can log in: an operator grants them to
//! logins. Without the right to create roles everything belongs to the connecting login, and the read API connects as
//! that.

use tokio_postgres::{Client, GenericClient};

use crate::domain::{Code, Error, Result};
use crate::postgres::{Doing, OneTrip, Parameter, quote, quote_literal};

use super::Destination;

/// Beginning of the comment that says whose a schema or a role is.
const MARK: &str = "Lakegate project ";

/// What a role is to have: USAGE on schemas, SELECT on relations, EXECUTE on functions; the latter two as they are written in
/// a statement.
#[derive(Clone, Copy)]
struct Rights<'a> {
    schemas: &'a [&'a str],
    relations: &'a [String],
    functions: &'a [String],
}

impl Destination {
    /// Makes the schemas and, where allowed, the roles of a project. Safe to repeat, and to run in several processes at
    /// once.
    ///
    /// Roles belong to the whole cluster and the data schema may be named by another project too: both bear the
    /// project's id in their comment. A role of another project is left alone and done without.
    ///
    /// # Errors
    /// [`Code::ForeignProject`] when the data schema belongs to another project; [`Code::PostgresPrivilege`] when a
    /// schema does not exist and may not be made.
    pub async fn prepare_schemas(&self, client: &mut Client, project: &str) -> Result<()> {
        let doing = "prepare the schemas";
        let mark = format!("{MARK}{project}");
        let transaction = client.transaction().await.doing(doing)?;
        self.lock_schemas(&transaction).await?;
        let may_create_roles: bool = transaction
            .one_row("SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user", &[])
            .await
            .doing(doing)?
            .get(0);
        let owner = format!("{}_owner", self.schemas.control);
        let mut owns = false;
        if may_create_roles {
            owns = claim_role(&transaction, &owner, &mark).await?;
            claim_role(&transaction, &self.reader_role(), &mark).await?;
        }
        if owns {
            join_role(&transaction, &owner).await?;
        }
        for schema in [&self.schemas.published, &self.schemas.data, &self.schemas.control] {
            if schema_exists(&transaction, schema).await? {
                continue;
            }
            let authorization = if owns { format!(" AUTHORIZATION {}", quote(&owner)) } else { String::new() };
            transaction
                .batch_execute(&format!("CREATE SCHEMA {}{authorization}", quote(schema)))
                .await
                .map_err(|error| missing_schema(schema, error))?;
        }
        self.claim_data_schema(&transaction, &mark).await?;
        transaction.commit().await.doing(doing)
    }

    /// Writes the project's id on the data schema, or refuses one that bears another.
    async fn claim_data_schema(&self, client: &impl GenericClient, mark: &str) -> Result<()> {
        let doing = "mark the data schema as this project's";
        let schema = &self.schemas.data;
        let row = client
            .one_row(
                "SELECT obj_description(oid, 'pg_namespace'), pg_has_role(nspowner, 'USAGE') FROM pg_namespace \
                 WHERE nspname = $1",
                &[schema],
            )
            .await
            .doing(doing)?;
        match row.get::<_, Option<&str>>(0).filter(|comment| comment.starts_with(MARK)) {
            Some(found) if found == mark => Ok(()),
            Some(found) => Err(Error::new(
                Code::ForeignProject,
                format!("the schema `{schema}` belongs to the project `{}`", found.trim_start_matches(MARK)),
            )
            .hint("choose another name under `schemas: {data: …}` in lakegate.yaml")),
            // Only an owner may comment; an administrator who made the schema for us may have kept it.
            None if !row.get::<_, bool>(1) => Ok(()),
            None => client
                .batch_execute(&format!("COMMENT ON SCHEMA {} IS {}", quote(schema), quote_literal(mark)))
                .await
                .doing(doing),
        }
    }

    /// Holds off other processes that prepare the same schemas, until the transaction ends.
    async fn lock_schemas(&self, transaction: &impl GenericClient) -> Result<()> {
        transaction
            .affected(
                "SELECT pg_advisory_xact_lock(hashtextextended('lakegate schemas ' || $1, 0::bigint))",
                &[&self.schemas.control],
            )
            .await
            .doing("prepare the schemas")?;
        Ok(())
    }

    fn reader_role(&self) -> String {
        format!("{}_api", self.schemas.control)
    }

    /// Gives the reader role what the read API needs, where it is this project's. To be called after the control tables
    /// exist.
    pub async fn grant_reader(&self, client: &mut Client, project: &str) -> Result<()> {
        let doing = "grant the read API's privileges";
        let reader = self.reader_role();
        let transaction = client.transaction().await.doing(doing)?;
        self.lock_schemas(&transaction).await?;
        let ours = transaction
            .opt_row(
                "SELECT FROM pg_roles WHERE rolname = $1 AND shobj_description(oid, 'pg_authid') = $2",
                &[&reader, &format!("{MARK}{project}")],
            )
            .await
            .doing(doing)?;
        if ours.is_some() {
            let tables = ["published", "tables", "generations", "changed_keys", "api_keys", "auth_epoch"];
            let rights = Rights {
                schemas: &[&self.schemas.data, &self.schemas.control],
                relations: &tables.map(|table| self.control(table)),
                functions: &[format!("{}(text[])", self.control("note_key_use"))],
            };
            self.grant(&transaction, &reader, rights).await?;
        }
        transaction.commit().await.doing(doing)
    }

    /// Gives a role USAGE on schemas and SELECT on (quoted) relations, as far as it lacks them.
    pub(super) async fn let_read(
        &self,
        transaction: &impl GenericClient,
        role: &str,
        schemas: &[&str],
        relations: &[String],
    ) -> Result<()> {
        self.grant(transaction, role, Rights { schemas, relations, functions: &[] }).await
    }

    /// Gives a role what it lacks of these rights.
    ///
    /// A GRANT rewrites the object's row in the catalogue even where it changes nothing, and of two that meet one
    /// fails: "tuple concurrently updated". So only what is missing is granted, by one transaction at a time.
    async fn grant(&self, transaction: &impl GenericClient, role: &str, rights: Rights<'_>) -> Result<()> {
        let Rights { schemas, relations, functions } = rights;
        let doing = "grant the right to read";
        let lacking = "SELECT 'USAGE ON SCHEMA ' || quote_ident(n) FROM unnest($2::text[]) n \
                           WHERE NOT has_schema_privilege($1::text, n, 'USAGE') \
                       UNION ALL SELECT 'SELECT ON ' || r FROM unnest($3::text[]) r \
                           WHERE NOT has_table_privilege($1::text, r, 'SELECT') \
                       UNION ALL SELECT 'EXECUTE ON FUNCTION ' || f FROM unnest($4::text[]) f \
                           WHERE NOT has_function_privilege($1::text, f, 'EXECUTE')";
        let rights: [&dyn Parameter; 4] = [&role, &schemas, &relations, &functions];
        if transaction.rows(lacking, &rights).await.doing(doing)?.is_empty() {
            return Ok(());
        }
        transaction
            .affected(
                "SELECT pg_advisory_xact_lock(hashtextextended('lakegate grants ' || $1, 0::bigint))",
                &[&self.schemas.control],
            )
            .await
            .doing(doing)?;
        for row in transaction.rows(lacking, &rights).await.doing(doing)? {
            let sql = format!("GRANT {} TO {}", row.get::<_, &str>(0), quote(role));
            transaction.batch_execute(&sql).await.doing(doing)?;
        }
        Ok(())
    }

    /// The role that new generations are readable by, where it exists and is ours.
    pub(super) async fn api_role(&self, client: &impl GenericClient) -> Result<Option<String>> {
        let reader = self.reader_role();
        let row = client
            .opt_row(
                "SELECT FROM pg_roles WHERE rolname = $1 AND has_schema_privilege(oid, $2, 'USAGE')",
                &[&reader, &self.schemas.data],
            )
            .await
            .doing("look for the read API's role")?;
        Ok(row.map(|_| reader))
    }

    /// The role that owns the project's schemas, where it is not the login itself: what we make is given to it.
    pub(super) async fn owner_role(&self, client: &impl GenericClient) -> Result<Option<String>> {
        let row = client
            .opt_row(
                "SELECT pg_get_userbyid(nspowner)::text FROM pg_namespace WHERE nspname = $1 \
                 AND pg_get_userbyid(nspowner) <> current_user AND pg_has_role(nspowner, 'USAGE')",
                &[&self.schemas.data],
            )
            .await
            .doing("look for the owner of the schemas")?;
        Ok(row.map(|row| row.get(0)))
    }
}

async fn schema_exists(client: &impl GenericClient, schema: &str) -> Result<bool> {
    let row = client
        .one_row("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", &[&schema])
        .await
        .doing("look for the schemas")?;
    Ok(row.get(0))
}

pub(super) async fn role_exists(client: &impl GenericClient, role: &str) -> Result<bool> {
    let row = client
        .one_row("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", &[&role])
        .await
        .doing("look for a role")?;
    Ok(row.get(0))
}

/// Makes a role of this project, or finds it. False when the name belongs to somebody else, or is being made by another
/// database's process at this moment.
async fn claim_role(client: &impl GenericClient, role: &str, mark: &str) -> Result<bool> {
    let doing = "create the project's roles";
    let create = format!(
        "DO $do$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {name}) THEN \
             CREATE ROLE {role} NOLOGIN; COMMENT ON ROLE {role} IS {mark}; END IF; \
         EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $do$",
        name = quote_literal(role),
        role = quote(role),
        mark = quote_literal(mark),
    );
    client.batch_execute(&create).await.doing(doing)?;
    let ours = client
        .opt_row(
            "SELECT FROM pg_roles WHERE rolname = $1 AND shobj_description(oid, 'pg_authid') = $2",
            &[&role, &mark],
        )
        .await
        .doing(doing)?;
    Ok(ours.is_some())
}

/// Makes the login a member of the role, with all that the role may do, unless it is one already.
async fn join_role(client: &impl GenericClient, role: &str) -> Result<()> {
    client
        .batch_execute(&format!(
            "DO $do$ BEGIN IF NOT pg_has_role({}, 'USAGE') THEN GRANT {} TO current_user; END IF; \
             EXCEPTION WHEN unique_violation THEN NULL; END $do$",
            quote_literal(role),
            quote(role)
        ))
        .await
        .doing("join the project's roles")
}

fn missing_schema(schema: &str, error: tokio_postgres::Error) -> Error {
    let error = Err::<(), _>(error).doing("create a schema").err();
    match error {
        Some(error) if error.code() == Code::PostgresPrivilege => Error::new(
            Code::PostgresPrivilege,
            format!("the schema `{schema}` does not exist and this login may not create it"),
        )
        .hint(format!(
            "as the database's owner run: CREATE SCHEMA {} AUTHORIZATION <this login>; or GRANT CREATE ON DATABASE to it",
            quote(schema)
        ))
        .because(error),
        Some(error) => error,
        None => Error::internal("a statement failed without an error"),
    }
}
