//! Published rows against expected ones, by way of text.
//!
//! Expected Arrow values become the text that COPY reads, by plain code that shares nothing with the encoder and the
//! row hash: Arrow's own display for scalars, array literals for lists, JSON for what is nested deeper. Postgres reads
//! them into a table with the column types of the published view, and both are compared as multisets, each row as the
//! text that Postgres itself gives: the strictest there is, since it tells `1.0` from `1.00` and `-0` from `0`.

use arrow_array::RecordBatch;
use arrow_schema::DataType;
use bytes::Bytes;
use futures::SinkExt as _;
use lakegate::postgres::{Session, quote};

use super::text_value::{Text, text, unpacked};

/// Bytes that are sent to Postgres at a time.
const CHUNK: usize = 1 << 20;

/// A table of expected rows for one published view, on one session.
pub(crate) struct Expected<'s> {
    session: &'s Session,
    /// The published view.
    view: String,
    /// The table of expected rows.
    table: String,
    /// The view's columns that are compared.
    columns: Vec<String>,
}

impl<'s> Expected<'s> {
    /// An empty table with the columns and types of the view `lake.<name>`, those in `without` left out.
    pub(crate) async fn of(session: &'s Session, name: &str, without: &[&str]) -> Expected<'s> {
        let rows = session
            .query(
                "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute \
                 WHERE attrelid = format('lake.%I', $1::text)::regclass AND attnum > 0 ORDER BY attnum",
                &[&name],
            )
            .await
            .unwrap_or_else(|error| panic!("{name} is not published: {error:?}"));
        let kept = rows.iter().map(|row| (row.get::<_, String>(0), row.get::<_, String>(1)));
        let kept: Vec<(String, String)> = kept.filter(|(name, _)| !without.contains(&name.as_str())).collect();
        let definitions: Vec<String> = kept.iter().map(|(name, ty)| format!("{} {ty}", quote(name))).collect();
        let table = quote(&format!("expected_{name}"));
        session
            .batch_execute(&format!("SET TimeZone = 'UTC'; CREATE TEMP TABLE {table} ({})", definitions.join(", ")))
            .await
            .unwrap();
        let columns = kept.into_iter().map(|(name, _)| name).collect();
        Expected { session, view: format!("lake.{}", quote(name)), table, columns }
    }

    /// Adds rows. Columns that the view lacks are an error, unless they are void.
    pub(crate) async fn add(&self, batch: &RecordBatch, without: &[&str]) -> Result<(), String> {
        for field in batch.schema().fields() {
            let is_left_out = without.contains(&field.name().as_str()) || field.data_type() == &DataType::Null;
            if !is_left_out && !self.columns.contains(field.name()) {
                return Err(format!("the column {} has not arrived", field.name()));
            }
        }
        let columns: Vec<String> = self.columns.iter().map(|column| quote(column)).collect();
        let statement = format!("COPY {} ({}) FROM STDIN", self.table, columns.join(", "));
        let sink = self.session.copy_in::<_, Bytes>(&statement).await.map_err(|error| format!("{error:?}"))?;
        let mut sink = std::pin::pin!(sink);
        for chunk in copy_text(batch, &self.columns)? {
            sink.send(Bytes::from(chunk)).await.map_err(|error| format!("{error:?}"))?;
        }
        sink.finish().await.map_err(|error| format!("{error:?}"))?;
        Ok(())
    }

    /// Compares the view with the expected rows, both ways: how many rows they have, or some that differ.
    pub(crate) async fn compare(&self) -> Result<i64, String> {
        if let Some(rows) = self.difference(&self.columns).await? {
            // Few columns are at fault as a rule, and their values alone are easier to read than whole rows.
            for column in &self.columns {
                if let Some(values) = self.difference(std::slice::from_ref(column)).await? {
                    return Err(format!("{column}, arrived (+) and expected (-):\n{values}"));
                }
            }
            return Err(format!("({}), arrived (+) and expected (-):\n{rows}", self.columns.join(", ")));
        }
        let count = format!("SELECT count(*) FROM {}", self.table);
        Ok(self.session.query_one(&count, &[]).await.map_err(|error| format!("{error:?}"))?.get(0))
    }

    /// Rows of these columns that one side has more often than the other.
    async fn difference(&self, columns: &[String]) -> Result<Option<String>, String> {
        let columns = columns.iter().map(|column| quote(column)).collect::<Vec<_>>().join(", ");
        let rows = |from: &str| format!("SELECT r::text FROM (SELECT {columns} FROM {from}) r");
        let (actual, expected) = (rows(&self.view), rows(&self.table));
        let statement = format!(
            "(SELECT '+ ' || d FROM ({actual} EXCEPT ALL {expected}) AS _(d) ORDER BY 1 LIMIT 3) UNION ALL \
             (SELECT '- ' || d FROM ({expected} EXCEPT ALL {actual}) AS _(d) ORDER BY 1 LIMIT 3)"
        );
        let differing = self.session.query(&statement, &[]).await.map_err(|error| format!("{error:?}"))?;
        let lines: Vec<String> = differing.iter().map(|row| row.get(0)).collect();
        Ok((!lines.is_empty()).then(|| lines.join("\n")))
    }
}

/// Compares the view `lake.<name>` with these rows, columns in `without` left aside: how many there are, or what
/// differs.
pub(crate) async fn compare(
    session: &Session,
    name: &str,
    expected: &[RecordBatch],
    without: &[&str],
) -> Result<i64, String> {
    let table = Expected::of(session, name, without).await;
    for batch in expected {
        table.add(batch, without).await?;
    }
    table.compare().await
}

/// The rows of a batch in the text form of COPY, in chunks.
fn copy_text(batch: &RecordBatch, columns: &[String]) -> Result<Vec<Vec<u8>>, String> {
    let mut arrays = Vec::with_capacity(columns.len());
    for name in columns {
        let index = batch.schema().index_of(name).map_err(|_| format!("the column {name} is not expected"))?;
        let field = batch.schema().field(index).clone();
        arrays.push((unpacked(batch.column(index)), field));
    }
    let texts: Vec<Text> = arrays.iter().map(|(array, field)| text(array, field)).collect();
    let mut chunks = Vec::new();
    let mut chunk = Vec::with_capacity(CHUNK + CHUNK / 4);
    for row in 0..batch.num_rows() {
        for (index, text) in texts.iter().enumerate() {
            if index > 0 {
                chunk.push(b'\t');
            }
            match text(row) {
                None => chunk.extend_from_slice(b"\\N"),
                Some(value) => escape(&value, &mut chunk),
            }
        }
        chunk.push(b'\n');
        if chunk.len() > CHUNK {
            chunks.push(std::mem::take(&mut chunk));
        }
    }
    chunks.push(chunk);
    Ok(chunks)
}

fn escape(value: &str, out: &mut Vec<u8>) {
    for byte in value.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            other => out.push(other),
        }
    }
}
