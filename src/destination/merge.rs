//! Changing rows of the live generation in place, from the rows and keys that have been staged.
//!
//! Readers see nothing of it before the commit. Every statement says how many rows it touched, so that a table which is
//! not what the source's history says it should be is noticed.

use tokio_postgres::{GenericClient, Row};

use crate::domain::{Generation, Result, TableName, TableSchema};
use crate::postgres::{Doing, OneTrip, quote};

use super::{Destination, column_list, unused};

/// Rows and the sum of their hashes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// How many rows.
    pub rows: u64,
    /// The sum of their hashes, read as signed numbers.
    pub sum: i128,
}

/// What a merge did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Merged {
    /// The rows of staged keys that were there before.
    pub gone: Written,
    /// Rows removed.
    pub deleted: u64,
    /// Rows replaced by another of the same key.
    pub updated: Written,
    /// Rows added.
    pub inserted: Written,
}

impl Destination {
    /// Applies what is staged. `row_hash` is the hash of a row in SQL, over columns of a table that goes by the name `t`;
    /// `going` says whether any key is staged.
    ///
    /// # Errors
    /// A unique violation where a row comes whose key is there and does not go, and others of the server.
    pub async fn merge(
        &self,
        transaction: &impl GenericClient,
        name: &TableName,
        generation: Generation,
        schema: &TableSchema,
        row_hash: &str,
        going: bool,
    ) -> Result<Merged> {
        let merge = self.merge_statements(name, generation, schema, row_hash);
        let doing = "merge changed rows";
        let mut merged = Merged::default();
        if going {
            merged.gone = written(&transaction.one_row(&merge.gone(), &[]).await.doing(doing)?);
            merged.deleted = transaction.affected(&merge.delete(), &[]).await.doing(doing)?;
            if schema.columns.len() > schema.key.len() {
                let and = format!(" AND {}", merge.goes());
                merged.updated = written(&transaction.one_row(&merge.update(&and), &[]).await.doing(doing)?);
            }
        }
        let unless = if going { format!(" WHERE NOT {}", merge.goes()) } else { String::new() };
        merged.inserted = written(&transaction.one_row(&merge.insert(&unless), &[]).await.doing(doing)?);
        Ok(merged)
    }

    /// Takes the rows that come as they are already, and the keys of those, off what is staged: a row whose key goes and
    /// that equals the one that is there, byte for byte. Returns them.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn unstage_same(
        &self,
        client: &impl GenericClient,
        name: &TableName,
        generation: Generation,
        schema: &TableSchema,
        row_hash: &str,
    ) -> Result<Written> {
        let merge = self.merge_statements(name, generation, schema, row_hash);
        let same = client.one_row(&merge.unstage_same(), &[]).await.doing("leave out rows that are there already")?;
        Ok(written(&same))
    }

    /// The statements of a merge into a generation.
    pub(super) fn merge_statements<'a>(
        &self,
        name: &TableName,
        generation: Generation,
        schema: &'a TableSchema,
        row_hash: &'a str,
    ) -> Statements<'a> {
        Statements {
            table: self.table(name, generation),
            coming: self.coming_rows(generation),
            going: self.going_keys(generation),
            schema,
            row_hash,
        }
    }

    /// Some keys that come twice, or that come and are there already without going: as text, for a person.
    pub async fn clashing_keys(
        &self,
        client: &impl GenericClient,
        name: &TableName,
        generation: Generation,
        schema: &TableSchema,
    ) -> Result<Vec<String>> {
        const SHOWN: i64 = 5;
        let key = column_list(schema.key_columns().map(|column| column.name.as_str()));
        let (coming, table) = (self.coming_rows(generation), self.table(name, generation));
        let going = self.going_keys(generation);
        let same = |a: &str, b: &str| same_key(schema, a, b);
        let one = unused("one", schema);
        let query = format!(
            "SELECT (SELECT string_agg(value, ', ') FROM json_each_text(row_to_json({one}))) FROM ( \
                 (SELECT {key} FROM {coming} GROUP BY {key} HAVING count(*) > 1) UNION \
                 (SELECT {n_key} FROM {coming} n WHERE EXISTS (SELECT FROM {table} t WHERE {t_n}) \
                     AND NOT EXISTS (SELECT FROM {going} g WHERE {g_n})) LIMIT {SHOWN}) AS {one}",
            n_key = key_list(schema, "n"),
            t_n = same("t", "n"),
            g_n = same("g", "n"),
        );
        let rows = client.rows(&query, &[]).await.doing("look for the keys that rows share")?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}

/// The statements of a merge. `t` is the table, `n` what comes, `g` what goes.
pub(super) struct Statements<'a> {
    pub(super) table: String,
    pub(super) coming: String,
    pub(super) going: String,
    pub(super) schema: &'a TableSchema,
    pub(super) row_hash: &'a str,
}

impl Statements<'_> {
    /// That the key of a row that comes goes.
    fn goes(&self) -> String {
        format!("EXISTS (SELECT FROM {} AS g WHERE {})", self.going, same_key(self.schema, "g", "n"))
    }

    fn unstage_same(&self) -> String {
        let Statements { table, coming, going, schema, row_hash } = self;
        let (t_n, g_n, n_g) = (same_key(schema, "t", "n"), same_key(schema, "g", "n"), same_key(schema, "n", "g"));
        let key = key_list(schema, "n");
        let (same, hash) = (same_row(schema, "t", "n"), unused("hash", schema));
        format!(
            "WITH same AS (DELETE FROM {coming} AS n USING {going} AS g, {table} AS t WHERE {g_n} AND {t_n} AND {same} \
                 RETURNING {key}, {row_hash} AS {hash}), \
             stays AS (DELETE FROM {going} AS g USING same AS n WHERE {n_g}) \
             SELECT count(*), coalesce(sum({hash}), 0)::text FROM same"
        )
    }

    /// The rows that go, before they do.
    fn gone(&self) -> String {
        let Statements { table, going, row_hash, .. } = self;
        let same = same_key(self.schema, "t", "g");
        format!("SELECT count(*), coalesce(sum({row_hash}), 0)::text FROM {table} AS t JOIN {going} AS g ON {same}")
    }

    fn delete(&self) -> String {
        let Statements { table, coming, going, .. } = self;
        let (same, comes) = (same_key(self.schema, "t", "g"), same_key(self.schema, "n", "g"));
        format!(
            "DELETE FROM {table} AS t USING {going} AS g \
             WHERE {same} AND NOT EXISTS (SELECT FROM {coming} AS n WHERE {comes})"
        )
    }

    /// Replaces the rows whose keys come, under a further condition.
    pub(super) fn update(&self, and: &str) -> String {
        let Statements { table, coming, row_hash, schema, .. } = self;
        // The key's columns stay as they are, and so does their index.
        let others = schema.columns.iter().enumerate().filter(|(index, _)| !schema.key.contains(index));
        let set: Vec<String> = others.map(|(_, column)| format!("{0} = n.{0}", quote(&column.name))).collect();
        let set = set.join(", ");
        let same = same_key(schema, "t", "n");
        format!(
            "WITH written AS (UPDATE {table} AS t SET {set} FROM {coming} AS n WHERE {same}{and} RETURNING {row_hash} AS hash) \
             SELECT count(*), coalesce(sum(hash), 0)::text FROM written"
        )
    }

    /// Adds the rows that come, under a condition.
    pub(super) fn insert(&self, condition: &str) -> String {
        let Statements { table, coming, row_hash, schema, .. } = self;
        let columns = column_list(schema.columns.iter().map(|column| column.name.as_str()));
        format!(
            "WITH written AS (INSERT INTO {table} AS t ({columns}) SELECT {columns} FROM {coming} AS n{condition} \
             RETURNING {row_hash} AS hash) SELECT count(*), coalesce(sum(hash), 0)::text FROM written"
        )
    }
}

/// That the key's columns of two tables are equal.
pub(super) fn same_key(schema: &TableSchema, a: &str, b: &str) -> String {
    let equal = schema.key_columns().map(|column| {
        let name = quote(&column.name);
        format!("{a}.{name} = {b}.{name}")
    });
    equal.collect::<Vec<_>>().join(" AND ")
}

/// That two rows are the same byte for byte: `=` takes -0.0 for 0.0, and 1.0 for 1.00.
pub(super) fn same_row(schema: &TableSchema, a: &str, b: &str) -> String {
    let row = |table: &str| {
        let columns = schema.columns.iter().map(|column| format!("{table}.{}", quote(&column.name)));
        // The cast keeps the parser from comparing column by column, which this operator is not for.
        format!("ROW({})::record", columns.collect::<Vec<_>>().join(", "))
    };
    format!("{} *= {}", row(a), row(b))
}

fn key_list(schema: &TableSchema, table: &str) -> String {
    schema.key_columns().map(|column| format!("{table}.{}", quote(&column.name))).collect::<Vec<_>>().join(", ")
}

pub(super) fn written(row: &Row) -> Written {
    let sum: String = row.get(1);
    // The server adds exact 64-bit hashes: their sum over any table fits.
    Written { rows: row.get::<_, i64>(0).unsigned_abs(), sum: sum.parse().unwrap_or_default() }
}
