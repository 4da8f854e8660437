//! The SQL of the read API, and its parameters and results in binary.
//!
//! Every statement returns the publish number and the generation that `published` holds, together with the rows: what
//! an answer claims about itself is true of the very snapshot its rows come from. A statement without any row means
//! that the table is not published; a row whose key is null, that nothing was found.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::time::Instant;

use bytes::{BufMut, BytesMut};
use postgres_types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::Row;

use super::cache::Cache;
use super::key::Key;
use super::table::PublishedTable;
use super::view::Filter;
use crate::domain::{Error, Result, ScalarType, Schemas};
use crate::postgres::{qualified, quote};

/// Where the columns of `PublishedTable::read` begin in a result, after publish number and generation.
const FIRST_VALUE: usize = 2;

/// A statement and the types of its parameters.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Query {
    pub(super) sql: String,
    pub(super) types: Vec<Type>,
}

/// Finds many keys at once. Parameters: the table's name, then one array for each key column.
///
/// A composite key is looked up by a LATERAL subquery with LIMIT 1: a bare join on `unnest` may be planned as a scan.
pub(super) fn lookup(schemas: &Schemas, table: &PublishedTable) -> Query {
    let rows = qualified(&schemas.data, &table.generation.table(&table.name));
    let mut sql = select(table);
    let mut types = vec![Type::TEXT];
    types.extend(table.key.iter().map(|column| array_type(column.ty)));
    if let [column] = table.key.as_slice() {
        let key = quote(&column.name);
        let published = qualified(&schemas.control, "published");
        let _ = write!(sql, " FROM {published} p LEFT JOIN {rows} t ON t.{key} = ANY($2) WHERE p.name = $1");
        return Query { sql, types };
    }
    let numbers = 0..table.key.len();
    let arrays: Vec<String> = numbers.clone().map(|number| format!("${}", number + 2)).collect();
    let aliases: Vec<String> = numbers.map(|number| format!("k{number}")).collect();
    let equal = table.key.iter().zip(&aliases).map(|(column, alias)| format!("r.{} = k.{alias}", quote(&column.name)));
    let _ = write!(
        sql,
        " FROM {published} p CROSS JOIN unnest({arrays}) WITH ORDINALITY AS k({aliases}, ord) \
         LEFT JOIN LATERAL (SELECT {columns} FROM {rows} r WHERE {equal} LIMIT 1) t ON true WHERE p.name = $1",
        published = qualified(&schemas.control, "published"),
        arrays = arrays.join(", "),
        aliases = aliases.join(", "),
        columns = columns(table, "r"),
        equal = equal.collect::<Vec<_>>().join(" AND "),
    );
    Query { sql, types }
}

/// Reads the rows under a prefix of so many parts in the order of the key; `after` = beyond a key. Parameters: the
/// table's name, the most rows, the prefix, then the rest of the key to go on from, then what the columns of the row filter
/// have to equal, where it is applied.
pub(super) fn page(schemas: &Schemas, table: &PublishedTable, prefix: usize, after: bool, filtered: bool) -> Query {
    let rows = qualified(&schemas.data, &table.generation.table(&table.name));
    let (fixed, rest) = table.key.split_at(prefix.min(table.key.len()));
    let mut types = vec![Type::TEXT, Type::INT8];
    types.extend(fixed.iter().map(|column| scalar_type(column.ty)));
    let mut conditions: Vec<String> = fixed
        .iter()
        .enumerate()
        .map(|(number, column)| format!("r.{} = ${}", quote(&column.name), number + 3))
        .collect();
    let list =
        |of: &str| rest.iter().map(|column| format!("{of}.{}", quote(&column.name))).collect::<Vec<_>>().join(", ");
    if after {
        types.extend(rest.iter().map(|column| scalar_type(column.ty)));
        let numbers: Vec<String> = (0..rest.len()).map(|number| format!("${}", number + 3 + fixed.len())).collect();
        conditions.push(format!("({}) > ({})", list("r"), numbers.join(", ")));
    }
    for column in table.filter.iter().filter(|_| filtered).flat_map(Filter::columns) {
        types.push(scalar_type(column.ty));
        conditions.push(format!("r.{} = ${}", quote(&column.name), types.len()));
    }
    let sql = format!(
        "{select} FROM {published} p LEFT JOIN (SELECT {columns} FROM {rows} r WHERE {conditions} ORDER BY {order} \
         LIMIT $2) t ON true WHERE p.name = $1 ORDER BY {outer}",
        select = select(table),
        published = qualified(&schemas.control, "published"),
        columns = columns(table, "r"),
        conditions = conditions.join(" AND "),
        order = list("r"),
        outer = list("t"),
    );
    Query { sql, types }
}

fn select(table: &PublishedTable) -> String {
    format!("SELECT p.publish_no, p.generation, {}", columns(table, "t"))
}

/// The columns that are read, by name: a column added in place must not shift those after it.
fn columns(table: &PublishedTable, of: &str) -> String {
    table.read.iter().map(|(name, _)| format!("{of}.{}", quote(name))).collect::<Vec<_>>().join(", ")
}

fn scalar_type(ty: ScalarType) -> Type {
    Type::from_oid(ty.oid()).unwrap_or(Type::UNKNOWN)
}

fn array_type(ty: ScalarType) -> Type {
    match ty {
        ScalarType::Boolean => Type::BOOL_ARRAY,
        ScalarType::Int16 => Type::INT2_ARRAY,
        ScalarType::Int32 => Type::INT4_ARRAY,
        ScalarType::Int64 => Type::INT8_ARRAY,
        ScalarType::Float32 => Type::FLOAT4_ARRAY,
        ScalarType::Float64 => Type::FLOAT8_ARRAY,
        ScalarType::Numeric { .. } => Type::NUMERIC_ARRAY,
        ScalarType::Text => Type::TEXT_ARRAY,
        ScalarType::Bytea => Type::BYTEA_ARRAY,
        ScalarType::Date => Type::DATE_ARRAY,
        ScalarType::Time => Type::TIME_ARRAY,
        ScalarType::Timestamp => Type::TIMESTAMP_ARRAY,
        ScalarType::Timestamptz => Type::TIMESTAMPTZ_ARRAY,
        ScalarType::Interval => Type::INTERVAL_ARRAY,
        ScalarType::Uuid => Type::UUID_ARRAY,
    }
}

/// A parameter that is in Postgres' binary form already.
#[derive(Debug, Clone)]
pub(super) struct Binary(Vec<u8>);

impl Binary {
    pub(super) fn value(raw: &[u8]) -> Self {
        Binary(raw.to_vec())
    }

    pub(super) fn text(text: &str) -> Self {
        Binary::value(text.as_bytes())
    }

    pub(super) fn int8(value: i64) -> Self {
        Binary::value(&value.to_be_bytes())
    }

    /// For each key column an array with that part of every key.
    pub(super) fn arrays<'a>(
        table: &PublishedTable,
        keys: impl ExactSizeIterator<Item = &'a Key>,
    ) -> impl Iterator<Item = Self> {
        let count = keys.len() as u32;
        let mut arrays: Vec<Vec<u8>> = table.key.iter().map(|column| array_head(column.ty, count)).collect();
        for key in keys {
            for (array, part) in arrays.iter_mut().zip(key.parts()) {
                array.put_u32(part.len() as u32);
                array.put_slice(part);
            }
        }
        arrays.into_iter().map(Binary)
    }
}

/// One dimension, no nulls, the element's OID, the length, the lower bound.
fn array_head(ty: ScalarType, count: u32) -> Vec<u8> {
    let mut head = Vec::with_capacity(20 + count as usize * 12);
    for word in [1, 0, ty.oid(), count, 1] {
        head.put_u32(word);
    }
    head
}

impl ToSql for Binary {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.put_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// A value as it came over the wire.
struct Raw<'a>(Option<&'a [u8]>);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Raw(Some(raw)))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Raw(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// One row of a result: publish number, generation, and the columns of `PublishedTable::read`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Values<'a>(&'a Row);

impl<'a> Values<'a> {
    /// # Errors
    /// When the row has another number of columns than its statement.
    pub(super) fn new(row: &'a Row, table: &PublishedTable) -> Result<Self> {
        if row.len() == FIRST_VALUE + table.read.len() {
            return Ok(Values(row));
        }
        Err(Error::internal(format!("a row of `{}` has {} columns", table.name, row.len())))
    }

    /// Whether this state of the table is what is published; the cache is told of another one.
    pub(super) fn are_of(self, table: &PublishedTable, cache: &Cache) -> bool {
        let number = |at| self.0.try_get::<_, i64>(at).ok();
        let (Some(publish_no), Some(generation)) = (number(0), number(1)) else { return false };
        let same = publish_no == table.publish_no && generation == table.generation.0;
        if !same {
            cache.answered(table, publish_no, generation, Instant::now());
        }
        same
    }

    /// The binary value of a column; `None` for null.
    pub(super) fn get(self, at: usize) -> Option<&'a [u8]> {
        self.0.try_get::<_, Raw<'a>>(FIRST_VALUE + at).ok()?.0
    }

    /// The shown columns.
    pub(super) fn shown(self, table: &PublishedTable) -> impl Iterator<Item = Option<&'a [u8]>> {
        (0..table.shown).map(move |at| self.get(at))
    }
}
