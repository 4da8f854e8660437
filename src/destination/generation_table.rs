//! Making the table of a generation.

use std::fmt::Write as _;

use tokio_postgres::GenericClient;

use crate::domain::{ColumnType, Generation, Result, ScalarType, TableName, TableSchema};
use crate::postgres::{Doing, OneTrip, quote, quote_literal};

use super::Destination;

impl Destination {
    /// The statements that make an empty generation: no index, so that COPY is all that happens during the load; no
    /// privilege for anybody, whatever default privileges the schema has; types that never round or cut.
    #[must_use]
    pub fn create_table_sql(&self, name: &TableName, generation: Generation, schema: &TableSchema) -> String {
        let table = self.table(name, generation);
        let columns = column_definitions(schema, |_| true);
        // Autovacuum would scan the table in the middle of the load; ANALYZE comes at its end. Afterwards it comes four times
        // as often as it would by itself: many small merges spread over a table leave dead rows on all of its pages.
        let storage = "autovacuum_enabled = off, autovacuum_vacuum_scale_factor = 0.05";
        let mut sql = format!("CREATE TABLE {table} ({columns}) WITH ({storage});\n");
        for column in &schema.columns {
            if let Some(comment) = column_comment(column.ty, column.comment.as_deref()) {
                let _ =
                    writeln!(sql, "COMMENT ON COLUMN {table}.{} IS {};", quote(&column.name), quote_literal(&comment));
            }
        }
        sql
    }

    /// Makes an empty generation.
    pub async fn create_table(
        &self,
        client: &impl GenericClient,
        name: &TableName,
        generation: Generation,
        schema: &TableSchema,
    ) -> Result<()> {
        let doing = "create the generation's table";
        client.batch_execute(&self.create_table_sql(name, generation, schema)).await.doing(doing)?;
        let table = self.table(name, generation);
        self.make_private(client, &table).await?;
        if let Some(reader) = self.api_role(client).await? {
            client.batch_execute(&format!("GRANT SELECT ON {table} TO {}", quote(&reader))).await.doing(doing)?;
        }
        Ok(())
    }

    /// Gives a new table to the project's owner role, where there is one, and takes it from everybody else.
    pub(super) async fn make_private(&self, client: &impl GenericClient, table: &str) -> Result<()> {
        let doing = "set the rights on a new table";
        if let Some(owner) = self.owner_role(client).await? {
            client.batch_execute(&format!("ALTER TABLE {table} OWNER TO {}", quote(&owner))).await.doing(doing)?;
        }
        // Default privileges of the schema may have granted something to somebody already.
        let grantees = client
            .rows(
                "SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END \
                 FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = $1::text::regclass AND a.grantee <> c.relowner",
                &[&table],
            )
            .await
            .doing(doing)?;
        for grantee in &grantees {
            let grantee: &str = grantee.get(0);
            client.batch_execute(&format!("REVOKE ALL ON {table} FROM {grantee}")).await.doing(doing)?;
        }
        Ok(())
    }
}

/// The definitions of those columns, by their positions, that are wanted.
pub(super) fn column_definitions(schema: &TableSchema, wanted: impl Fn(usize) -> bool) -> String {
    let columns = schema.columns.iter().enumerate().filter(|(index, _)| wanted(*index));
    let definitions: Vec<String> = columns
        .map(|(index, column)| {
            let is_key = schema.key.contains(&index);
            // Keys sort by bytes: pages and their cursors need one order on every server and in every locale.
            let bytewise = is_key && column.ty == ColumnType::Scalar(ScalarType::Text);
            format!(
                "{} {}{}{}",
                quote(&column.name),
                column.ty.sql_name(),
                if bytewise { " COLLATE \"C\"" } else { "" },
                if column.nullable && !is_key { "" } else { " NOT NULL" },
            )
        })
        .collect();
    definitions.join(", ")
}

/// What the column's comment says: the lake's own words, and the precision that the type leaves out.
pub(super) fn column_comment(ty: ColumnType, comment: Option<&str>) -> Option<String> {
    let precision = match ty {
        ColumnType::Scalar(ScalarType::Numeric { .. }) | ColumnType::Array(ScalarType::Numeric { .. }) => {
            Some(ty.to_string())
        }
        _ => None,
    };
    match (precision, comment) {
        (Some(precision), Some(comment)) => Some(format!("{precision}: {comment}")),
        (Some(precision), None) => Some(precision),
        (None, comment) => comment.map(str::to_owned),
    }
}
