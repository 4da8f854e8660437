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
    /// All types that need nothing besides their name: all but `numeric`.
    pub const PLAIN: [ScalarType; 14] = [
        ScalarType::Boolean,
        ScalarType::Int16,
        ScalarType::Int32,
        ScalarType::Int64,
        ScalarType::Float32,
        ScalarType::Float64,
        ScalarType::Text,
        ScalarType::Bytea,
        ScalarType::Date,
        ScalarType::Time,
        ScalarType::Timestamp,
        ScalarType::Timestamptz,
        ScalarType::Interval,
        ScalarType::Uuid,
    ];

    /// The type of this name: as in DDL, or `numeric(precision,scale)` with 1 to 76 digits. Upper and lower case are the
    /// same.
    #[must_use]
    pub fn named(spelling: &str) -> Option<ScalarType> {
        let spelling = spelling.trim().to_ascii_lowercase();
        if let Some(digits) = spelling.strip_prefix("numeric(").and_then(|rest| rest.strip_suffix(')')) {
            let (precision, scale) = digits.split_once(',').unwrap_or((digits, "0"));
            let number = |text: &str| {
                let text = text.trim();
                text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u8>().ok()).flatten()
            };
            let (precision, scale) = (number(precision)?, number(scale)?);
            let fits = (1..=76).contains(&precision) && scale <= precision;
            return fits.then_some(ScalarType::Numeric { precision, scale });
        }
        ScalarType::PLAIN.into_iter().find(|scalar| scalar.sql_name() == spelling)
    }

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
    /// The type that is spelled like that, as [`Display`](fmt::Display) spells it.
    #[must_use]
    pub fn named(spelling: &str) -> Option<ColumnType> {
        let spelling = spelling.trim();
        match spelling.strip_suffix("[]") {
            Some(element) => ScalarType::named(element).map(ColumnType::Array),
            None if spelling.eq_ignore_ascii_case("jsonb") => Some(ColumnType::Jsonb),
            None => ScalarType::named(spelling).map(ColumnType::Scalar),
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_found_by_the_name_that_it_is_shown_under() {
        let digits = (1..=76).flat_map(|precision| (0..=precision).map(move |scale| (precision, scale)));
        let numeric = digits.map(|(precision, scale)| ScalarType::Numeric { precision, scale });
        for scalar in ScalarType::PLAIN.into_iter().chain(numeric) {
            for ty in [ColumnType::Scalar(scalar), ColumnType::Array(scalar), ColumnType::Jsonb] {
                assert_eq!(ColumnType::named(&ty.to_string()), Some(ty));
            }
        }
    }

    #[test]
    fn what_is_no_type_is_not_found() {
        for spelling in ["", "[]", "numeric", "numeric()", "numeric(77,0)", "numeric(3,4)", "numeric(+3,1)", "text[][]"]
        {
            assert_eq!(ColumnType::named(spelling), None, "{spelling}");
        }
    }
}
