//! Pointing the published view at a generation.

use std::time::Duration;

use tokio_postgres::GenericClient;

use crate::domain::{Column, ColumnType, Generation, Result, ScalarType, TableName, TableSchema};
use crate::postgres::{Doing, OneTrip, quote, quote_literal};

use super::generation_table::column_comment;
use super::view_definition::{ViewColumn, ViewDefinition};
use super::{Destination, column_list};

/// What a publish does to the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewChange {
    /// There is none yet.
    Create,
    /// The same columns, or more at the end: CREATE OR REPLACE, which leaves everything that depends on it alone.
    Replace,
    /// Columns went, moved, or changed name, type or order of sorting: DROP and CREATE in one transaction, possible only where nothing
    /// depends on the view.
    Recreate,
}

/// What a view shows.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// The view.
    pub name: &'a TableName,
    /// The generation behind it.
    pub generation: Generation,
    /// Its columns and key.
    pub schema: &'a TableSchema,
    /// Whether it must be of one state with other tables.
    pub in_group: bool,
}

/// What it takes to point a view at a generation.
#[derive(Debug)]
pub struct Repoint {
    sql: String,
    change: ViewChange,
    before: Option<ViewDefinition>,
}

const POINT: &str = "point the published view at the new generation";

impl Destination {
    /// The view's query. Its last condition is evaluated once a statement: it fails with 40001 in a transaction whose
    /// snapshot is older than the load, which would otherwise see a table without rows. In a group it also fails where
    /// the snapshot is older than the publish: views change for all transactions at once, and such a one may have read
    /// the earlier rows of another table.
    fn view_query(&self, shown: &Shown<'_>) -> String {
        let Shown { name, generation, schema, in_group } = *shown;
        format!(
            "SELECT {} FROM {} WHERE CASE WHEN EXISTS (SELECT FROM {} WHERE generation = {generation}{}) \
             THEN true ELSE {}() END",
            column_list(schema.columns.iter().map(|column| column.name.as_str())),
            self.table(name, generation),
            self.control("generations"),
            if in_group { " AND published_at IS NOT NULL" } else { "" },
            self.control("snapshot_too_old"),
        )
    }

    /// The statements that point the view at a generation. `options` is its `WITH (…)` clause, empty where it has none;
    /// owner, grants and comments are given back apart.
    #[must_use]
    pub fn view_sql(&self, shown: &Shown<'_>, change: ViewChange, options: &str) -> String {
        let (view, query) = (self.view(shown.name), self.view_query(shown));
        match change {
            ViewChange::Create => format!("CREATE VIEW {view}{options} AS {query};\n"),
            ViewChange::Replace => format!("CREATE OR REPLACE VIEW {view}{options} AS {query};\n"),
            ViewChange::Recreate => format!("DROP VIEW {view};\nCREATE VIEW {view}{options} AS {query};\n"),
        }
    }

    /// What a publish of these columns would do to the view.
    pub async fn view_change(
        &self,
        client: &impl GenericClient,
        name: &TableName,
        schema: &TableSchema,
    ) -> Result<ViewChange> {
        Ok(change(ViewDefinition::read(self, client, name).await?.as_ref(), schema))
    }

    /// Finds out what it takes to point the view at a generation. Locks nothing.
    pub async fn prepare_view(&self, client: &impl GenericClient, shown: &Shown<'_>) -> Result<Repoint> {
        let before = ViewDefinition::read(self, client, shown.name).await?;
        let change = change(before.as_ref(), shown.schema);
        let options = before.as_ref().map(ViewDefinition::with_clause).unwrap_or_default();
        Ok(Repoint { sql: self.view_sql(shown, change, &options), change, before })
    }

    /// Points the view at a generation, inside the publish transaction. From here on readers wait.
    ///
    /// # Errors
    /// [`crate::domain::Code::LockNotAvailable`] when they hold the view, and others of the server.
    pub async fn point_view(&self, transaction: &impl GenericClient, repoint: &Repoint) -> Result<()> {
        transaction.batch_execute(&repoint.sql).await.doing(POINT)
    }

    /// Gives a view that has just been pointed at a generation back what was granted, commented or set on it; column
    /// comments that are Lakegate's own follow the source. `replaces` is what was published before.
    pub async fn dress_view(
        &self,
        transaction: &impl GenericClient,
        shown: &Shown<'_>,
        repoint: &Repoint,
        replaces: Option<&TableSchema>,
        grants: &[String],
    ) -> Result<()> {
        let (view, schema) = (self.view(shown.name), shown.schema);
        let Repoint { change, before, .. } = repoint;
        match (change, before) {
            (ViewChange::Recreate, Some(before)) => {
                self.revoke_all(transaction, &view).await?;
                transaction.batch_execute(&before.restore_sql(&view, schema)).await.doing(POINT)?;
            }
            (ViewChange::Create, _) => {
                if let Some(owner) = self.owner_role(transaction).await? {
                    let sql = format!("ALTER VIEW {view} OWNER TO {}", quote(&owner));
                    transaction.batch_execute(&sql).await.doing(POINT)?;
                }
            }
            _ => {}
        }
        let comments = column_comments(&view, schema, replaces, before.as_ref());
        if !comments.is_empty() {
            transaction.batch_execute(&comments).await.doing(POINT)?;
        }
        for role in grants {
            let relations = [view.clone()];
            self.let_read(transaction, role, &[&self.schemas.published], &relations).await?;
        }
        Ok(())
    }

    /// Which of the roles may not read the published view yet.
    pub async fn missing_grants(
        &self,
        client: &impl GenericClient,
        name: &TableName,
        grants: &[String],
    ) -> Result<Vec<String>> {
        if grants.is_empty() {
            return Ok(Vec::new());
        }
        let rows = client
            .rows(
                "SELECT r.rolname::text FROM unnest($1::text[]) wanted JOIN pg_roles r ON r.rolname = wanted \
                 WHERE NOT (has_schema_privilege(r.oid, $2, 'USAGE') \
                            AND coalesce(has_table_privilege(r.oid, to_regclass($3)::oid, 'SELECT'), false))",
                &[&grants, &self.schemas.published, &self.view(name)],
            )
            .await
            .doing("look at the view's privileges")?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Lets those of the roles read the published view that may not yet.
    pub async fn grant_missing(&self, client: &impl GenericClient, name: &TableName, grants: &[String]) -> Result<()> {
        for role in self.missing_grants(client, name, grants).await? {
            self.let_read(client, &role, &[&self.schemas.published], &[self.view(name)]).await?;
        }
        Ok(())
    }

    /// Takes away what default privileges have given to others on a view just made.
    async fn revoke_all(&self, transaction: &impl GenericClient, view: &str) -> Result<()> {
        let grantees = transaction
            .rows(
                "SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END \
                 FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = $1::text::regclass AND a.grantee <> c.relowner",
                &[&view],
            )
            .await
            .doing("read the view's privileges")?;
        for grantee in &grantees {
            let sql = format!("REVOKE ALL ON {view} FROM {}", grantee.get::<_, &str>(0));
            transaction.batch_execute(&sql).await.doing("put the view's privileges back")?;
        }
        Ok(())
    }

    /// Bounds how long the statements of a transaction wait for locks, and thereby how long readers wait behind them.
    pub async fn bound_lock_wait(&self, transaction: &impl GenericClient, longest: Duration) -> Result<()> {
        transaction
            .batch_execute(&format!("SET LOCAL lock_timeout = {}", longest.as_millis()))
            .await
            .doing("bound the wait for locks")
    }

    /// Who holds the view, for people.
    pub async fn view_blockers(&self, client: &impl GenericClient, name: &TableName) -> Result<String> {
        let row = client
            .one_row(
                "SELECT coalesce(string_agg(format('session %s of %s (%s, %s)', a.pid, a.usename, a.application_name, \
                     a.state), ', '), 'nobody any more') \
                 FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
                 WHERE l.relation = to_regclass($1) AND l.granted AND l.pid <> pg_backend_pid()",
                &[&self.view(name)],
            )
            .await
            .doing("look for who holds the view")?;
        Ok(row.get(0))
    }

    /// Drops the published view, if it is there. Never CASCADE: what depends on it makes this fail.
    pub async fn drop_view(&self, transaction: &impl GenericClient, name: &TableName) -> Result<()> {
        transaction
            .batch_execute(&format!("DROP VIEW IF EXISTS {}", self.view(name)))
            .await
            .doing("drop the published view")
    }
}

/// The statements that bring column comments up to date. A comment that is not the one `replaces` had was written, or
/// removed, by a person: it stays.
fn column_comments(
    view: &str,
    schema: &TableSchema,
    replaces: Option<&TableSchema>,
    standing: Option<&ViewDefinition>,
) -> String {
    let own = |schema: &TableSchema, name: &str| {
        let column = schema.columns.iter().find(|column| column.name == name)?;
        column_comment(column.ty, column.comment.as_deref())
    };
    let mut sql = String::new();
    for Column { name, .. } in &schema.columns {
        let stands = standing.and_then(|view| view.comment_of(name));
        let before = replaces.and_then(|replaced| own(replaced, name));
        let after = own(schema, name);
        if stands == before.as_deref() && before != after {
            let comment = after.as_deref().map_or_else(|| "NULL".to_owned(), quote_literal);
            sql.push_str(&format!("COMMENT ON COLUMN {view}.{} IS {comment};\n", quote(name)));
        }
    }
    sql
}

fn change(before: Option<&ViewDefinition>, schema: &TableSchema) -> ViewChange {
    let Some(before) = before else { return ViewChange::Create };
    let same = |(index, (old, column)): (usize, (&ViewColumn, &Column))| {
        old.name == column.name
            && old.ty == display_type(&column.ty.sql_name())
            && (column.ty != ColumnType::Scalar(ScalarType::Text) || old.bytewise == schema.key.contains(&index))
    };
    let kept = before.columns.len() <= schema.columns.len()
        && before.columns.iter().zip(&schema.columns).enumerate().all(same);
    if kept { ViewChange::Replace } else { ViewChange::Recreate }
}

/// The spelling of a type in `format_type`, where it differs from the one in our DDL.
fn display_type(sql_name: &str) -> String {
    let (base, array) = match sql_name.strip_suffix("[]") {
        Some(base) => (base, "[]"),
        None => (sql_name, ""),
    };
    let spelled = match base {
        "timestamp" => "timestamp without time zone",
        "timestamptz" => "timestamp with time zone",
        "time" => "time without time zone",
        other => other,
    };
    format!("{spelled}{array}")
}
