//! The row hash in SQL, by hash functions that PostgreSQL has had since version 11, without a privilege or an
//! extension.
//!
//! Where a function does not see all of a value, a second term does: `hashint8extended` folds the halves of a number,
//! `hash_numeric_extended` ignores sign and scale (so numerics are hashed as text), `hashfloat8extended` the sign of
//! zero, `interval_hash_extended` whether time stands as months, days or seconds.

use std::fmt::Write;

use super::column_hash::{NullLink, can_be_linked};
use super::row_hash::{Coverage, Links, SAMPLE_DIVISOR, Seeds};
use crate::domain::{Column, ColumnType, ScalarType, TableSchema};

/// 100000-01-01 00:00:00.654321 UTC, in microseconds since 2000.
pub(super) const LATE_INSTANT_MICROS: i64 = 3_092_581_296_000_654_321;
const LATE_INSTANT: &str = "100000-01-01 00:00:00.654321+00";
/// 23:59:59.654321, in microseconds.
pub(super) const LATE_TIME_MICROS: i64 = 86_399_654_321;
const LATE_TIME: &str = "23:59:59.654321";

/// A query of one row: the hashed rows (`bigint`) and the sum of their hashes as `text`.
///
/// `table` is the table's name as it stands in SQL, quoted; `quote` quotes a column's name. A sample is chosen by WHERE,
/// so that rows outside it are taken apart no further than to their key.
#[must_use]
pub fn verify_sql(schema: &TableSchema, table: &str, coverage: Coverage, quote: impl Fn(&str) -> String) -> String {
    let sum = format!("SELECT count(*), coalesce(sum({}), 0)::text FROM {table} AS t", hash_sql(schema, &quote));
    match coverage {
        Coverage::Full => sum,
        Coverage::Sampled { residue } => {
            let key = key_hash_sql(schema, &quote);
            format!("{sum} WHERE ({key}) & {} = {residue}", SAMPLE_DIVISOR - 1)
        }
    }
}

/// The hash of a row's key, a `bigint`, over the columns of a table that goes by the name `t`. It chooses samples.
#[must_use]
pub fn key_hash_sql(schema: &TableSchema, quote: impl Fn(&str) -> String) -> String {
    let keys = schema.key_columns().enumerate();
    let hashes: Vec<String> = keys.map(|(at, key)| value_hash(key, &Seeds::of_key(at), &quote)).collect();
    hashes.join(" # ")
}

/// The hash of a row, a `bigint`, over the columns of a table that goes by the name `t`.
#[must_use]
pub fn hash_sql(schema: &TableSchema, quote: impl Fn(&str) -> String) -> String {
    let mut hashes = Vec::new();
    let (mut links, mut chain) = (Links::default(), None);
    for (at, column) in schema.columns.iter().enumerate() {
        match column.ty {
            _ if column.late => {
                hashes.push(format!("coalesce({}, 0)", value_hash(column, &Seeds::of_column(at), &quote)));
            }
            ColumnType::Scalar(ty) if can_be_linked(column.ty) => {
                let seed = match links.next() {
                    Some(seed) => {
                        hashes.extend(chain.take());
                        bigint(seed)
                    }
                    None => chain.take().unwrap_or_default(),
                };
                chain = Some(link(column, ty, at, &seed, &quote));
            }
            _ => hashes.push(column_hash(column, at, &quote)),
        }
    }
    hashes.extend(chain);
    hashes.join(" # ")
}

/// The hash of a value of a chain, seeded by the expression of what came before.
fn link(column: &Column, ty: ScalarType, at: usize, seed: &str, quote: &impl Fn(&str) -> String) -> String {
    let name = format!("t.{}", quote(&column.name));
    let or_null = |value: String| match (column.nullable, Seeds::null_link(at, ty)) {
        (false, _) => value,
        (true, NullLink::Int4(null)) => format!("coalesce({value}, '{null}'::integer)"),
        (true, NullLink::Int8(null)) => format!("coalesce({value}, {})", bigint(null as u64)),
        (true, NullLink::Text(null)) => format!("coalesce({value}, '{null}'::text)"),
    };
    match ty {
        ScalarType::Int16 if column.nullable => {
            format!("hashint4extended({}, {seed})", or_null(format!("{name}::integer")))
        }
        ScalarType::Int16 => format!("hashint2extended({name}, {seed})"),
        ScalarType::Int32 => format!("hashint4extended({}, {seed})", or_null(name)),
        ScalarType::Int64 => {
            let value = or_null(name);
            format!("(hashint8extended({value}, {seed}) # {value})")
        }
        ScalarType::Numeric { .. } => {
            format!("hashtextextended({} COLLATE \"C\", {seed})", or_null(format!("{name}::text")))
        }
        ScalarType::Date => format!("hashint4extended({}, {seed})", or_null(format!("{name} - date '2000-01-01'"))),
        // What cannot be linked does not come here.
        _ => format!("hashtextextended({} COLLATE \"C\", {seed})", or_null(name)),
    }
}

/// A query of one row with the sum of each column's hashes by itself, as `text[]`: see [`super::ColumnHasher`].
#[must_use]
pub fn column_hash_sql(schema: &TableSchema, table: &str, quote: impl Fn(&str) -> String) -> String {
    let columns = schema.columns.iter().enumerate();
    let sums: Vec<String> =
        columns.map(|(at, column)| format!("coalesce(sum({}), 0)::text", column_hash(column, at, &quote))).collect();
    format!("SELECT ARRAY[{}] FROM {table} AS t", sums.join(", "))
}

fn column_hash(column: &Column, at: usize, quote: &impl Fn(&str) -> String) -> String {
    let seeds = Seeds::of_column(at);
    let hash = value_hash(column, &seeds, quote);
    if column.nullable { format!("coalesce({hash}, {})", bigint(seeds.null)) } else { format!("({hash})") }
}

/// The hash of a value; null for null.
fn value_hash(column: &Column, seeds: &Seeds, quote: &impl Fn(&str) -> String) -> String {
    let name = format!("t.{}", quote(&column.name));
    match column.ty {
        ColumnType::Scalar(scalar) => scalar_hash(scalar, &name, seeds),
        ColumnType::Array(item) => {
            let item = scalar_hash(item, "u.item", seeds);
            let (bounds, null_item) = (bigint(seeds.other), bigint(seeds.null_item));
            format!(
                "CASE WHEN {name} IS NOT NULL THEN \
                 hashtextextended(coalesce(array_dims({name}), '') COLLATE \"C\", {bounds}) \
                 # coalesce((SELECT bit_xor(hashint8extended(u.place, coalesce({item}, {null_item}))) \
                 FROM unnest({name}) WITH ORDINALITY AS u(item, place)), 0) END"
            )
        }
        ColumnType::Jsonb => format!("hashtextextended({name}::text COLLATE \"C\", {})", bigint(seeds.value)),
    }
}

fn scalar_hash(scalar: ScalarType, c: &str, seeds: &Seeds) -> String {
    let [s, other, third, fourth] = [seeds.value, seeds.other, seeds.third, seeds.fourth].map(bigint);
    match scalar {
        ScalarType::Boolean => format!("CASE WHEN {c} THEN {s} WHEN NOT {c} THEN {other} END"),
        ScalarType::Int16 => format!("hashint2extended({c}, {s})"),
        ScalarType::Int32 => format!("hashint4extended({c}, {s})"),
        ScalarType::Int64 => format!("hashint8extended({c}, {s}) # {c}"),
        ScalarType::Float32 => float_hash("hashfloat4extended", c, &s, &other, &third),
        ScalarType::Float64 => float_hash("hashfloat8extended", c, &s, &other, &third),
        ScalarType::Numeric { .. } => format!("hashtextextended({c}::text COLLATE \"C\", {s})"),
        ScalarType::Text => format!("hashtextextended({c} COLLATE \"C\", {s})"),
        ScalarType::Bytea => format!("CASE WHEN {c} IS NOT NULL THEN hash_array_extended(ARRAY[{c}], {s}) END"),
        ScalarType::Date => format!("hashint4extended({c} - date '2000-01-01', {s})"),
        ScalarType::Time => {
            format!("time_hash_extended({c}, {s}) # interval_hash_extended(time '{LATE_TIME}' - {c}, {other})")
        }
        ScalarType::Timestamp => {
            let late = LATE_INSTANT.trim_end_matches("+00");
            instant_hash(c, "timestamp '2000-01-01 00:00:00'", &format!("timestamp '{late}'"), &s, &other)
        }
        ScalarType::Timestamptz => {
            let late = format!("timestamptz '{LATE_INSTANT}'");
            instant_hash(c, "timestamptz '2000-01-01 00:00:00+00'", &late, &s, &other)
        }
        ScalarType::Interval => {
            let mut hash = format!(
                "hashfloat8extended(date_part('year', {c}) * 12 + date_part('month', {c}), {s}) \
                 # hashfloat8extended(date_part('day', {c}), {other})"
            );
            let _ = write!(
                hash,
                " # hashfloat8extended(date_part('hour', {c}) * 60 + date_part('minute', {c}), {third}) \
                 # hashfloat8extended(date_part('microseconds', {c}), {fourth})"
            );
            hash
        }
        ScalarType::Uuid => format!("uuid_hash_extended({c}, {s})"),
    }
}

fn float_hash(function: &str, c: &str, seed: &str, zero: &str, minus_zero: &str) -> String {
    format!(
        "CASE WHEN {c} <> 0 THEN {function}({c}, {seed}) \
         WHEN {c} = 0 THEN CASE WHEN atan2({c}, -1) > 0 THEN {zero} ELSE {minus_zero} END END"
    )
}

/// The distance to two instants, each folded to 32 bits: what folds alike from one does not from the other.
fn instant_hash(c: &str, epoch: &str, late: &str, seed: &str, other: &str) -> String {
    format!("interval_hash_extended({c} - {epoch}, {seed}) # interval_hash_extended({late} - {c}, {other})")
}

fn bigint(value: u64) -> String {
    format!("'{}'::bigint", value as i64)
}
