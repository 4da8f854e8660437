//! The OpenAPI document: what the server answers is what it says.

mod answers;
mod document;
mod page;

use lakegate::domain::{ColumnType, ScalarType};

use crate::support::postgres::TestDatabase;
use crate::support::published::{Publisher, Running, Table, settings};

const fn scalar(ty: ScalarType) -> ColumnType {
    ColumnType::Scalar(ty)
}

/// Every type that a key may have, with a value in SQL that is the example of the document.
const KEYS: [(&str, ScalarType, &str); 12] = [
    ("bool", ScalarType::Boolean, "true"),
    ("int2", ScalarType::Int16, "7"),
    ("int4", ScalarType::Int32, "42"),
    ("int8", ScalarType::Int64, "42"),
    ("numeric", ScalarType::Numeric { precision: 38, scale: 3 }, "0.500"),
    ("text", ScalarType::Text, "'abc'"),
    ("bytea", ScalarType::Bytea, r"'\x00ff'"),
    ("date", ScalarType::Date, "'2024-02-29'"),
    ("time", ScalarType::Time, "'12:34:56.789'"),
    ("timestamp", ScalarType::Timestamp, "'2024-02-29 12:34:56.789'"),
    ("timestamptz", ScalarType::Timestamptz, "'2024-02-29 12:34:56.789Z'"),
    ("uuid", ScalarType::Uuid, "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"),
];

/// `things(part, id, …)` with a column of every kind, of which `secret` is hidden.
fn things() -> Table {
    let columns = [
        ("part", scalar(ScalarType::Int32)),
        ("id", scalar(ScalarType::Int64)),
        ("flag", scalar(ScalarType::Boolean)),
        ("small", scalar(ScalarType::Int16)),
        ("big", scalar(ScalarType::Int64)),
        ("f", scalar(ScalarType::Float32)),
        ("g", scalar(ScalarType::Float64)),
        ("price", scalar(ScalarType::Numeric { precision: 38, scale: 10 })),
        ("note", scalar(ScalarType::Text)),
        ("raw", scalar(ScalarType::Bytea)),
        ("day", scalar(ScalarType::Date)),
        ("clock", scalar(ScalarType::Time)),
        ("local", scalar(ScalarType::Timestamp)),
        ("at", scalar(ScalarType::Timestamptz)),
        ("span", scalar(ScalarType::Interval)),
        ("uid", scalar(ScalarType::Uuid)),
        ("list", ColumnType::Array(ScalarType::Int64)),
        ("prices", ColumnType::Array(ScalarType::Numeric { precision: 9, scale: 2 })),
        ("doc", ColumnType::Jsonb),
        ("secret", scalar(ScalarType::Text)),
    ];
    let mut table = Table::new("things", &columns, &["part", "id"]);
    table.policy.hide = vec!["secret".to_owned()];
    table.policy.page_limit = 2;
    table.schema.columns[7].comment = Some("What it costs.".to_owned());
    table.schema.columns[1].comment = Some("Counted from 1.".to_owned());
    table
}

/// Rows of [`things`]: ordinary, all null, and at the ends of the types.
const THINGS: &str = r#"VALUES
    (42, 42::int8, true, 1::int2, 9223372036854775807::int8, 0.1::float4, 0.1::float8,
     12345678901234567890123456.0123456789, E'say "x", a\r\nb', '\x00ff'::bytea, '2024-02-29'::date, '12:34:56.5'::time,
     '1969-12-31 23:59:59.5'::timestamp, '2024-02-29 12:00:00Z'::timestamptz, '1 month -3 days 4 hours'::interval,
     'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid, ARRAY[9007199254740993, null]::int8[], ARRAY[1.50, null]::numeric[],
     '{"a": 12345678901234567890.10}'::jsonb, 'hush'),
    (42, 43, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null),
    (42, 44, false, -32768, -9223372036854775808, '-Infinity', 'NaN', -0.0000000001, '', '', '4714-11-24 BC', '24:00:00',
     '294276-12-31 23:59:59.999999', '4713-01-01 BC', '-1 year -0.5 seconds', gen_random_uuid(), '{}', '{}', 'null', ''),
    (42, 45, false, 32767, 0, 'NaN', '5e-324', 0, chr(1), '\x00', 'infinity', '23:59:59.999999', '-infinity', 'infinity',
     '0', gen_random_uuid(), '{0}', '{0.00}', '[]', '')"#;

/// A server with a table for each type of key, `things`, a table whose key is hidden, and one that is not served.
async fn server(database: &TestDatabase) -> (Publisher, Running) {
    let publisher = Publisher::new(database).await;
    for (name, ty, value) in &KEYS {
        let columns = [("k", scalar(*ty)), ("v", scalar(ScalarType::Text))];
        let rows = format!("SELECT ({value})::{}, '{name}'", ty.sql_name());
        publisher.publish(&Table::new(&format!("t_{name}"), &columns, &["k"]), "1", &rows).await;
    }
    publisher.publish(&things(), "17", THINGS).await;
    let columns = [
        ("tenant", scalar(ScalarType::Text)),
        ("odd {name}/", scalar(ScalarType::Int32)),
        ("v", scalar(ScalarType::Text)),
    ];
    let mut odd = Table::new("odd", &columns, &["tenant", "odd {name}/"]);
    odd.policy.hide = vec!["tenant".to_owned()];
    publisher.publish(&odd, "1", "VALUES ('abc', 42, 'x'), ('abc', 43, 'y')").await;
    let mut closed = Table::new("closed", &[("id", scalar(ScalarType::Int32))], &["id"]);
    closed.policy.enabled = false;
    publisher.publish(&closed, "1", "VALUES (1)").await;
    (publisher, Running::start(settings(), database.connector()).await)
}
