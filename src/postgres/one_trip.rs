//! Statements with their parameters in one round trip.
//!
//! The driver's `query` of a text takes two, and leaves a third behind: it has the server name the types of the parameters
//! before it sends them, by a prepared statement of a name of its own, which it closes afterwards. What is asked once sends the
//! types along, and nothing is named: a run asks for dozens of things one after the other, and the server may be far away.

use chrono::{DateTime, Utc};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, GenericClient, Row};

/// A Rust type, and the type of Postgres that its values are sent as.
pub trait Typed {
    /// The type in Postgres.
    const TYPE: Type;
}

macro_rules! typed {
    ($($rust:ty => $postgres:ident),+ $(,)?) => {
        $(impl Typed for $rust {
            const TYPE: Type = Type::$postgres;
        })+
    };
}

typed! {
    bool => BOOL,
    i32 => INT4,
    i64 => INT8,
    u32 => OID,
    f64 => FLOAT8,
    str => TEXT,
    String => TEXT,
    DateTime<Utc> => TIMESTAMPTZ,
    [u8] => BYTEA,
    [i32] => INT4_ARRAY,
    [i64] => INT8_ARRAY,
    [&str] => TEXT_ARRAY,
    [String] => TEXT_ARRAY,
    Vec<&str> => TEXT_ARRAY,
    Vec<String> => TEXT_ARRAY,
}

impl<T: Typed + ?Sized> Typed for &T {
    const TYPE: Type = T::TYPE;
}

impl<T: Typed> Typed for Option<T> {
    const TYPE: Type = T::TYPE;
}

/// A value with the type that it is sent as.
pub trait Parameter: ToSql + Sync {
    /// The type in Postgres.
    fn sent_as(&self) -> Type;
}

impl<T: Typed + ToSql + Sync> Parameter for T {
    fn sent_as(&self) -> Type {
        T::TYPE
    }
}

/// Statements that are asked once. `values` stand for `$1`, `$2` and so on. Columns of the answer are of types that Postgres brings
/// along: the driver would ask for others on the same connection, behind an answer that it has yet to read.
pub trait OneTrip: GenericClient {
    /// All rows of an answer.
    fn rows(&self, sql: &str, values: &[&dyn Parameter]) -> impl Future<Output = Result<Vec<Row>, Error>> {
        async move { self.query_typed(sql, &typed(values)).await }
    }

    /// The only row of an answer: fails where there is none, or another one.
    fn one_row(&self, sql: &str, values: &[&dyn Parameter]) -> impl Future<Output = Result<Row, Error>> {
        async move { self.query_typed_one(sql, &typed(values)).await }
    }

    /// The only row of an answer, if any: fails where there is another one.
    fn opt_row(&self, sql: &str, values: &[&dyn Parameter]) -> impl Future<Output = Result<Option<Row>, Error>> {
        async move { self.query_typed_opt(sql, &typed(values)).await }
    }

    /// How many rows a statement wrote, or, where it writes none, yielded.
    fn affected(&self, sql: &str, values: &[&dyn Parameter]) -> impl Future<Output = Result<u64, Error>> {
        async move { self.execute_typed(sql, &typed(values)).await }
    }
}

impl<C: GenericClient> OneTrip for C {}

fn typed<'a>(values: &[&'a dyn Parameter]) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    values.iter().map(|value| (*value as &(dyn ToSql + Sync), value.sent_as())).collect()
}
