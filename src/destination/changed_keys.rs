//! How changed keys are listed for the caches of servers.

use tokio_postgres::GenericClient;

use crate::domain::{ColumnType, Generation, Result, ScalarType, TableSchema};
use crate::postgres::{Doing, OneTrip, quote};

use super::Destination;

/// The hash of a key, a `bigint`, over the columns of a table that goes by the name `t`: the first eight bytes of the
/// SHA-256 of each part's length and canonical binary form, which is what the read API knows keys by. Numbers that differ
/// in their scale alone are one key.
#[must_use]
pub fn changed_key_sql(schema: &TableSchema) -> String {
    let parts: Vec<String> = schema
        .key_columns()
        .map(|column| {
            let bytes = binary_form(column.ty, &format!("t.{}", quote(&column.name)));
            format!("int4send(octet_length({bytes})) || {bytes}")
        })
        .collect();
    let hash = format!("sha256({})", parts.join(" || "));
    format!("('x' || encode(substring({hash} FROM 1 FOR 8), 'hex'))::bit(64)::bigint")
}

/// The bytes of a value as Postgres sends them, a `bytea`.
fn binary_form(ty: ColumnType, value: &str) -> String {
    let send = match ty {
        ColumnType::Scalar(ScalarType::Bytea) => return value.to_owned(),
        ColumnType::Scalar(ScalarType::Text) => return format!("convert_to({value}, 'UTF8')"),
        ColumnType::Scalar(ScalarType::Numeric { .. }) => return format!("numeric_send(trim_scale({value}))"),
        ColumnType::Scalar(ScalarType::Boolean) => "boolsend",
        ColumnType::Scalar(ScalarType::Int16) => "int2send",
        ColumnType::Scalar(ScalarType::Int32) => "int4send",
        ColumnType::Scalar(ScalarType::Int64) => "int8send",
        ColumnType::Scalar(ScalarType::Float32) => "float4send",
        ColumnType::Scalar(ScalarType::Float64) => "float8send",
        ColumnType::Scalar(ScalarType::Date) => "date_send",
        ColumnType::Scalar(ScalarType::Time) => "time_send",
        ColumnType::Scalar(ScalarType::Timestamp) => "timestamp_send",
        ColumnType::Scalar(ScalarType::Timestamptz) => "timestamptz_send",
        ColumnType::Scalar(ScalarType::Interval) => "interval_send",
        ColumnType::Scalar(ScalarType::Uuid) => "uuid_send",
        // These are never keys.
        ColumnType::Array(_) => "array_send",
        ColumnType::Jsonb => "jsonb_send",
    };
    format!("{send}({value})")
}

impl Destination {
    /// The hashes of all keys that a merge touches; `None` where they are more than `limit`. To be asked before the
    /// staging tables are emptied.
    pub async fn touched_keys(
        &self,
        transaction: &impl GenericClient,
        generation: Generation,
        schema: &TableSchema,
        limit: i64,
    ) -> Result<Option<Vec<i64>>> {
        let query = format!(
            "SELECT {hash} FROM {} AS t UNION SELECT {hash} FROM {} AS t LIMIT $1",
            self.coming_rows(generation),
            self.going_keys(generation),
            hash = changed_key_sql(schema),
        );
        let rows = transaction.rows(&query, &[&(limit + 1)]).await.doing("list the changed keys")?;
        Ok((rows.len() as i64 <= limit).then(|| rows.iter().map(|row| row.get(0)).collect()))
    }
}
