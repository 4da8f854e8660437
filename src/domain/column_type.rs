//! The Postgres types that columns of a lake table are stored as.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A type that fits one value: the element of an array, or a column by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScalarType {
    /// `boolean`
    Boolean,
    /// `smallint`, 16 bits
    Int16,
    /// `integer`, 32 bits
    Int32,
    /// `bigint`, 64 bits
    Int64,
    /// `real`, IEEE 754 binary32
    Float32,
    /// `double precision`, IEEE 754 binary64
    Float64,
    /// `numeric` whose every value has exactly `scale` digits after the point and at most `precision` in all.
    /// Declared in Postgres without either: a declared scale rounds silently in COPY.
    Numeric {
        /// Digits in all, 1 to 76.
        precision: u8,
        /// Digits after the point; negative scales of Arrow are stored as whole numbers with scale 0.
        scale: u8,
    },
    /// `text`
    Text,
    /// `bytea`
    Bytea,
    /// `date`, days
    Date,
    /// `time` without time zone, microseconds
    Time,
    /// `timestamp` without time zone, microseconds
    Timestamp,
    /// `timestamptz`, microseconds in UTC
    Timestamptz,
    /// `interval`: months, days, microseconds
    Interval,
    /// `uuid`
    Uuid,
}

/// The type of a column in a generation and in the published view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// One value a row.
    Scalar(ScalarType),
    /// A one-dimensional array of values, each of which may be null.
    Array(ScalarType),
    /// `jsonb`: structs, maps, nested lists, variants.
    Jsonb,
}

impl ScalarType {
    /// The name in DDL, never with precision or length.
    #[must_use]
    pub const fn sql_name(self) -> &'static str {
        match self {
            ScalarType::Boolean => "boolean",
            ScalarType::Int16 => "smallint",
            ScalarType::Int32 => "integer",
            ScalarType::Int64 => "bigint",
            ScalarType::Float32 => "real",
            ScalarType::Float64 => "double precision",
            ScalarType::Numeric { .. } => "numeric",
            ScalarType::Text => "text",
            ScalarType::Bytea => "bytea",
            ScalarType::Date => "date",
            ScalarType::Time => "time",
            ScalarType::Timestamp => "timestamp",
            ScalarType::Timestamptz => "timestamptz",
            ScalarType::Interval => "interval",
            ScalarType::Uuid => "uuid",
        }
    }

    /// The type's OID in `pg_type`, the same on every server.
    #[must_use]
    pub const fn oid(self) -> u32 {
        match self {
            ScalarType::Boolean => 16,
            ScalarType::Bytea => 17,
            ScalarType::Int64 => 20,
            ScalarType::Int16 => 21,
            ScalarType::Int32 => 23,
            ScalarType::Text => 25,
            ScalarType::Float32 => 700,
            ScalarType::Float64 => 701,
            ScalarType::Date => 1082,
            ScalarType::Time => 1083,
            ScalarType::Timestamp => 1114,
            ScalarType::Timestamptz => 1184,
            ScalarType::Interval => 1186,
            ScalarType::Numeric { .. } => 1700,
            ScalarType::Uuid => 2950,
        }
    }

    /// Whether values can be looked up exactly, so that a column may be part of a primary key: equal values have one
    /// spelling and one order. Floats (NaN, -0) and intervals (`1 month` = `30 days`) do not.
    #[must_use]
    pub const fn can_be_key(self) -> bool {
        !matches!(self, ScalarType::Float32 | ScalarType::Float64 | ScalarType::Interval)
    }
}

impl ColumnType {
    /// The name in DDL.
    #[must_use]
    pub fn sql_name(self) -> String {
        match self {
            ColumnType::Scalar(scalar) => scalar.sql_name().to_owned(),
            ColumnType::Array(scalar) => format!("{}[]", scalar.sql_name()),
            ColumnType::Jsonb => "jsonb".to_owned(),
        }
    }

    /// The scalar type, where the column holds one value a row.
    #[must_use]
    pub const fn scalar(self) -> Option<ScalarType> {
        match self {
            ColumnType::Scalar(scalar) => Some(scalar),
            ColumnType::Array(_) | ColumnType::Jsonb => None,
        }
    }
}

impl fmt::Display for ColumnType {
    /// For people: as in DDL, with the precision and scale that the declared type leaves out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ColumnType::Scalar(ScalarType::Numeric { precision, scale }) => write!(f, "numeric({precision},{scale})"),
            ColumnType::Array(ScalarType::Numeric { precision, scale }) => write!(f, "numeric({precision},{scale})[]"),
            other => f.write_str(&other.sql_name()),
        }
    }
}
