//! Changing rows in place where the newest row of each key is kept (`on_duplicate_key: {latest_by: …}`).
//!
//! The source may hold several rows of a key, the table holds the newest. A row that comes counts where it is newer than
//! the one that is there. A row that goes was either left out already, being older, or is the one that is there: then
//! one at least as new must come with it, since which of the others is the newest is in the source alone.

use tokio_postgres::{GenericClient, Row};

use crate::domain::{Code, Error, Generation, Result, TableName, TableSchema};
use crate::postgres::{Doing, OneTrip, quote};

use super::duplicates::tied_rows;
use super::merge::{Statements, same_key, same_row, written};
use super::{Destination, Merged, Written, unused};

/// What a merge by age did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MergedLatest {
    /// What was staged, before older rows were left out.
    pub staged: Written,
    /// Rows that came and were left out, being older than others of their key or equal to them.
    pub left_out: u64,
    /// What was left of the staged rows to be written.
    pub left: Written,
    /// What was written.
    pub merged: Merged,
}

impl Destination {
    /// Applies what is staged, as [`Destination::merge`] does.
    ///
    /// # Errors
    /// [`Code::NotIncremental`] where the newest row of a key goes and nothing newer comes; [`Code::DuplicateKey`] where
    /// two rows of a key are equally new; those of the server.
    pub async fn merge_latest(
        &self,
        transaction: &impl GenericClient,
        name: &TableName,
        generation: Generation,
        schema: &TableSchema,
        row_hash: &str,
        latest_by: &str,
    ) -> Result<MergedLatest> {
        let merge = self.merge_statements(name, generation, schema, row_hash);
        let ages = Ages { merge: &merge, column: quote(latest_by) };
        let doing = "merge the newest rows";
        let staged = written(&transaction.one_row(&ages.staged(), &[]).await.doing(doing)?);
        let older = self.keep_latest_in(transaction, &merge.coming, name, schema, latest_by).await?.removed;
        if let Some(row) = transaction.opt_row(&ages.lost(), &[]).await.doing(doing)? {
            return Err(lost_rows(name, &row));
        }
        if let Some(row) = transaction.opt_row(&ages.tied(), &[]).await.doing(doing)? {
            return Err(tied_rows(name, row.get(0), latest_by));
        }
        let left_out = older + transaction.affected(&ages.leave_out(), &[]).await.doing(doing)?;
        let left = written(&transaction.one_row(&ages.staged(), &[]).await.doing(doing)?);
        let gone = written(&transaction.one_row(&ages.replaced(), &[]).await.doing(doing)?);
        let mut updated = Written::default();
        if gone.rows > 0 {
            updated = written(&transaction.one_row(&merge.update(""), &[]).await.doing(doing)?);
        }
        let inserted = written(&transaction.one_row(&ages.insert(), &[]).await.doing(doing)?);
        Ok(MergedLatest { staged, left_out, left, merged: Merged { gone, deleted: 0, updated, inserted } })
    }
}

fn lost_rows(name: &TableName, row: &Row) -> Error {
    let key: &str = row.get(0);
    let detail =
        format!("the newest row of `{name}` with the key ({key}) went, and which is the newest now is not known");
    Error::new(Code::NotIncremental, detail)
}

/// Statements that compare the age of rows. `t` is the table, `n` what comes, `g` what goes.
struct Ages<'a> {
    merge: &'a Statements<'a>,
    /// The quoted column that says how new a row is.
    column: String,
}

impl Ages<'_> {
    fn staged(&self) -> String {
        let Statements { coming, row_hash, .. } = self.merge;
        format!("SELECT count(*), coalesce(sum({row_hash}), 0)::text FROM {coming} AS t")
    }

    /// A key whose row goes, being the newest, while none as new comes.
    fn lost(&self) -> String {
        let Statements { table, coming, going, schema, .. } = self.merge;
        let (t_g, n_g) = (same_key(schema, "t", "g"), same_key(schema, "n", "g"));
        let (older, t_newer) = (self.newer("t", "n"), self.newer("t", "g"));
        self.shown_key(
            "g",
            &format!(
                "FROM {going} AS g LEFT JOIN {table} AS t ON {t_g} WHERE (t.{} IS NULL OR NOT {t_newer}) \
                 AND NOT EXISTS (SELECT FROM {coming} AS n WHERE {n_g} AND NOT {older})",
                self.first_of_key(),
            ),
        )
    }

    /// A key whose row that comes is as new as the one that is there, and another, which does not go.
    fn tied(&self) -> String {
        let Statements { table, coming, going, schema, .. } = self.merge;
        let (t_n, g_n) = (same_key(schema, "t", "n"), same_key(schema, "g", "n"));
        let (as_new, goes) = (self.as_new("t", "n"), self.as_new("g", "n"));
        let same_row = same_row(schema, "t", "n");
        self.shown_key(
            "n",
            &format!(
                "FROM {coming} AS n JOIN {table} AS t ON {t_n} WHERE {as_new} AND NOT {same_row} \
                 AND NOT EXISTS (SELECT FROM {going} AS g WHERE {g_n} AND {goes})"
            ),
        )
    }

    /// Leaves out what comes where the row that is there is newer, or the same.
    fn leave_out(&self) -> String {
        let Statements { table, coming, schema, .. } = self.merge;
        let same = same_key(schema, "t", "n");
        let (newer, as_new) = (self.newer("t", "n"), self.as_new("t", "n"));
        let same_row = same_row(schema, "t", "n");
        format!("DELETE FROM {coming} AS n USING {table} AS t WHERE {same} AND ({newer} OR ({as_new} AND {same_row}))")
    }

    /// The rows that are going to be replaced.
    fn replaced(&self) -> String {
        let Statements { table, coming, schema, row_hash, .. } = self.merge;
        let same = same_key(schema, "t", "n");
        format!("SELECT count(*), coalesce(sum({row_hash}), 0)::text FROM {table} AS t JOIN {coming} AS n ON {same}")
    }

    /// Adds the rows whose keys are not there.
    fn insert(&self) -> String {
        let Statements { table, schema, .. } = self.merge;
        self.merge.insert(&format!(" WHERE NOT EXISTS (SELECT FROM {table} AS o WHERE {})", same_key(schema, "o", "n")))
    }

    /// That a row is newer than another. A null is older than anything else.
    fn newer(&self, a: &str, b: &str) -> String {
        let column = &self.column;
        format!("coalesce({a}.{column} > {b}.{column}, {a}.{column} IS NOT NULL AND {b}.{column} IS NULL)")
    }

    fn as_new(&self, a: &str, b: &str) -> String {
        format!("{a}.{0} IS NOT DISTINCT FROM {b}.{0}", self.column)
    }

    fn first_of_key(&self) -> String {
        self.merge.schema.key_columns().next().map(|column| quote(&column.name)).unwrap_or_default()
    }

    /// The key of one such row as text, for a person.
    fn shown_key(&self, table: &str, from: &str) -> String {
        let shown = unused("shown", self.merge.schema);
        let columns = self.merge.schema.key_columns().map(|column| format!("{table}.{}", quote(&column.name)));
        let columns = columns.collect::<Vec<_>>().join(", ");
        format!(
            "SELECT (SELECT string_agg(value, ', ') FROM json_each_text(row_to_json({shown}))) \
             FROM (SELECT {columns} {from} LIMIT 1) AS {shown}"
        )
    }
}
