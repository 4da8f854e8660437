//! A published view as it stands, so that what people hung on it can be put back.

use tokio_postgres::GenericClient;

use crate::domain::{Code, Error, Result, TableName, TableSchema};
use crate::postgres::{Doing, OneTrip, quote, quote_literal};

use super::Destination;

/// A privilege that somebody holds on a view or on one of its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grant {
    /// `PUBLIC` or a quoted role.
    grantee: String,
    privilege: String,
    column: Option<String>,
    grantable: bool,
}

/// A column of a view.
#[derive(Debug, Clone)]
pub(super) struct ViewColumn {
    pub(super) name: String,
    /// As `format_type` spells it.
    pub(super) ty: String,
    /// Whether it sorts by bytes.
    pub(super) bytewise: bool,
}

/// What is known of a view besides its query.
#[derive(Debug, Clone)]
pub(super) struct ViewDefinition {
    pub(super) columns: Vec<ViewColumn>,
    owner: String,
    options: Vec<String>,
    comment: Option<String>,
    pub(super) column_comments: Vec<(String, String)>,
    grants: Vec<Grant>,
}

impl ViewDefinition {
    /// Reads the view of this name.
    ///
    /// # Errors
    /// [`Code::NameTaken`] when the name belongs to something that is not a view.
    pub(super) async fn read(
        destination: &Destination,
        client: &impl GenericClient,
        name: &TableName,
    ) -> Result<Option<Self>> {
        let doing = "read the published view";
        let Some(row) = client
            .opt_row(
                "SELECT c.oid, c.relkind::text, pg_get_userbyid(c.relowner)::text, coalesce(c.reloptions, '{}'), \
                        obj_description(c.oid, 'pg_class') \
                 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2",
                &[&destination.schemas().published, &name.as_str()],
            )
            .await
            .doing(doing)?
        else {
            return Ok(None);
        };
        let oid: u32 = row.get(0);
        if row.get::<_, &str>(1) != "v" {
            return Err(taken(destination, name, "something that is not a view"));
        }
        let columns = client
            .rows(
                "SELECT attname::text, format_type(atttypid, atttypmod), col_description(attrelid, attnum), \
                        attcollation = '\"C\"'::regcollation \
                 FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
                &[&oid],
            )
            .await
            .doing(doing)?;
        let grants = client
            .rows(
                "SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END, \
                        a.privilege_type, a.column_name, a.is_grantable FROM ( \
                     SELECT x.grantee, x.privilege_type, NULL::text AS column_name, x.is_grantable, c.relowner \
                     FROM pg_class c, aclexplode(c.relacl) x WHERE c.oid = $1 \
                     UNION ALL SELECT x.grantee, x.privilege_type, t.attname::text, x.is_grantable, c.relowner \
                     FROM pg_class c JOIN pg_attribute t ON t.attrelid = c.oid, aclexplode(t.attacl) x \
                     WHERE c.oid = $1) a WHERE a.grantee <> a.relowner",
                &[&oid],
            )
            .await
            .doing(doing)?;
        Ok(Some(ViewDefinition {
            owner: row.get(2),
            options: row.get(3),
            comment: row.get(4),
            columns: columns
                .iter()
                .map(|column| ViewColumn { name: column.get(0), ty: column.get(1), bytewise: column.get(3) })
                .collect(),
            column_comments: columns
                .iter()
                .filter_map(|column| Some((column.get(0), column.get::<_, Option<String>>(2)?)))
                .collect(),
            grants: grants
                .iter()
                .map(|grant| Grant {
                    grantee: grant.get(0),
                    privilege: grant.get(1),
                    column: grant.get(2),
                    grantable: grant.get(3),
                })
                .collect(),
        }))
    }

    /// The comment on a column.
    pub(super) fn comment_of(&self, column: &str) -> Option<&str> {
        self.column_comments.iter().find(|(name, _)| name == column).map(|(_, comment)| comment.as_str())
    }

    /// The view's options as a `WITH (…)` clause, empty where it has none. CREATE OR REPLACE clears them, so each repoint
    /// writes them again.
    pub(super) fn with_clause(&self) -> String {
        if self.options.is_empty() {
            return String::new();
        }
        let options: Vec<String> = self
            .options
            .iter()
            .map(|option| match option.split_once('=') {
                Some((name, value)) => format!("{} = {}", quote(name), quote_literal(value)),
                None => quote(option),
            })
            .collect();
        format!(" WITH ({})", options.join(", "))
    }

    /// The statements that give a view made anew its owner, privileges and comments back. Columns that are gone take
    /// theirs with them.
    pub(super) fn restore_sql(&self, view: &str, schema: &TableSchema) -> String {
        let mut sql = String::new();
        for grant in &self.grants {
            let columns = match &grant.column {
                Some(column) if schema.position(column).is_none() => continue,
                Some(column) => format!(" ({})", quote(column)),
                None => String::new(),
            };
            let option = if grant.grantable { " WITH GRANT OPTION" } else { "" };
            sql.push_str(&format!("GRANT {}{columns} ON {view} TO {}{option};\n", grant.privilege, grant.grantee));
        }
        if let Some(comment) = &self.comment {
            sql.push_str(&format!("COMMENT ON VIEW {view} IS {};\n", quote_literal(comment)));
        }
        for (column, comment) in &self.column_comments {
            if schema.position(column).is_some() {
                sql.push_str(&format!("COMMENT ON COLUMN {view}.{} IS {};\n", quote(column), quote_literal(comment)));
            }
        }
        sql.push_str(&format!("ALTER VIEW {view} OWNER TO {};\n", quote(&self.owner)));
        sql
    }
}

/// The published name belongs to something that Lakegate did not make.
pub(super) fn taken(destination: &Destination, name: &TableName, what: &str) -> Error {
    Error::new(Code::NameTaken, format!("`{}.{name}` is {what}", destination.schemas().published))
        .hint("give the pipeline another `name`, or the project another `schemas: {published: …}`")
}
