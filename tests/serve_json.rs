//! Values in JSON against Postgres' own text of the same rows.

use lakegate::domain::{ColumnType, ScalarType};
use serde_json::Value;

use crate::support::http::get;
use crate::support::postgres::TestDatabase;
use crate::support::published::{Publisher, Running, Table, settings};

const ROWS: usize = 200;

/// A type, an expression that makes random values of it (`i` is the row's number) and values that must be among them.
struct Case {
    name: &'static str,
    ty: ColumnType,
    random: &'static str,
    fixed: &'static [&'static str],
}

const fn scalar(name: &'static str, ty: ScalarType, random: &'static str, fixed: &'static [&'static str]) -> Case {
    Case { name, ty: ColumnType::Scalar(ty), random, fixed }
}

const NUMERIC: ScalarType = ScalarType::Numeric { precision: 76, scale: 20 };

fn cases() -> Vec<Case> {
    vec![
        scalar("bool", ScalarType::Boolean, "random() < 0.5", &["true", "false"]),
        scalar("int2", ScalarType::Int16, "(random() * 65535)::int - 32768", &["-32768", "32767", "0"]),
        scalar("int4", ScalarType::Int32, "(random() * 4294967295)::int8 - 2147483648", &["-2147483648", "2147483647"]),
        scalar(
            "int8",
            ScalarType::Int64,
            "((random() - 0.5) * 1.8e19)::int8",
            &["-9223372036854775808", "9223372036854775807", "9007199254740993"],
        ),
        scalar(
            "float4",
            ScalarType::Float32,
            "(random() - 0.5)::float4 * power(10, (random() * 60)::int - 30)::float4",
            &["0", "'-0'", "1", "16777216", "1e-45", "3.4028235e38", "0.1"],
        ),
        scalar(
            "float8",
            ScalarType::Float64,
            "(random() - 0.5) * power(10::float8, (random() * 500)::int - 250)",
            &["0", "'-0'", "1", "9007199254740992", "5e-324", "1.7976931348623157e308", "0.1"],
        ),
        scalar(
            "numeric",
            NUMERIC,
            "round((random() - 0.5)::numeric * power(10::numeric, (random() * 60)::int), (random() * 30)::int)",
            &[
                "0",
                "0.00",
                "-0.00012",
                "10000",
                "99999999.9999",
                "1e50",
                "1.50",
                "0.0001",
                "12345678901234567890.123450",
            ],
        ),
        scalar(
            "text",
            ScalarType::Text,
            "(SELECT string_agg(chr(1 + (random() * 700)::int), '') FROM generate_series(1, i % 20))",
            &["''", "E'\\n\\t\\r\"\\\\'", "chr(1) || chr(31) || chr(127)", "'\u{1F600}\u{2028}'"],
        ),
        scalar(
            "bytea",
            ScalarType::Bytea,
            "decode(repeat(lpad(to_hex((random() * 255)::int), 2, '0'), i % 9), 'hex')",
            &[r"'\x'", r"'\x00'", r"'\xfffe'"],
        ),
        scalar(
            "date",
            ScalarType::Date,
            "date '2000-01-01' + ((random() - 0.2) * 3000000)::int",
            &["'4714-11-24 BC'", "'0001-01-01'", "'0001-12-31 BC'", "'9999-12-31'", "'10000-01-01'", "'5874897-12-31'"],
        ),
        scalar(
            "time",
            ScalarType::Time,
            "time '00:00' + random() * interval '24 hours'",
            &["'00:00'", "'24:00:00'", "'23:59:59.999999'", "'12:30:00.100'"],
        ),
        scalar(
            "timestamp",
            ScalarType::Timestamp,
            "timestamp '2000-01-01' + (random() - 0.1) * interval '60000 years'",
            &["'4713-01-01 BC'", "'294276-12-31 23:59:59.999999'", "'1969-12-31 23:59:59.5'", "'2024-02-29'"],
        ),
        scalar(
            "timestamptz",
            ScalarType::Timestamptz,
            "timestamptz '2000-01-01Z' + (random() - 0.1) * interval '60000 years'",
            &["'4713-01-01 BC'", "'294276-12-31 23:59:59.999999Z'", "'1999-12-31 23:59:59.999999Z'"],
        ),
        scalar(
            "interval",
            ScalarType::Interval,
            "make_interval(months => ((random() - 0.5) * 1000)::int, days => ((random() - 0.5) * 100)::int, \
             secs => (random() - 0.5) * 1e6)",
            &["'0'", "'-0.5 seconds'", "'1 year -3 days'", "'-1 month 01:00:00'", "'59.999999 seconds'"],
        ),
        scalar("uuid", ScalarType::Uuid, "gen_random_uuid()", &["'00000000-0000-0000-0000-000000000000'"]),
        Case {
            name: "jsonb",
            ty: ColumnType::Jsonb,
            random: "jsonb_build_object('a', i, 'b', ARRAY[random()::text, null])",
            fixed: &["'{}'", "'null'", "'[1.10, 12345678901234567890, \"\\u00e4\"]'"],
        },
        Case {
            name: "int_array",
            ty: ColumnType::Array(ScalarType::Int64),
            random: "ARRAY[i, null, (random() * 1e18)::int8]",
            fixed: &["'{}'", "'{null}'"],
        },
        Case {
            name: "numeric_array",
            ty: ColumnType::Array(NUMERIC),
            random: "ARRAY[round(random()::numeric, i % 30), null]",
            fixed: &["'{1.50,0.00}'"],
        },
        Case {
            name: "text_array",
            ty: ColumnType::Array(ScalarType::Text),
            random: "ARRAY[chr(1 + (random() * 700)::int), '', null]",
            fixed: &["'{\"a\\\"b\",NULL,\"NULL\"}'"],
        },
    ]
}

/// What Postgres' text of a value is in JSON, as the contract has it.
fn expected(case: &Case) -> String {
    let name = case.name;
    // Years before 1 AD are counted from 0 = 1 BC, those beyond 9999 have a sign.
    let iso = |value: &str| {
        format!(
            "CASE WHEN extract(year FROM {value}) < 0 THEN \
                 CASE WHEN extract(year FROM {value}) = -1 THEN '' ELSE '-' END || \
                 lpad((-1 - extract(year FROM {value}))::text, 4, '0') \
             WHEN extract(year FROM {value}) > 9999 THEN '+' || extract(year FROM {value}) \
             ELSE lpad(extract(year FROM {value})::text, 4, '0') END || \
             substring(regexp_replace({value}::text, ' BC$', '') FROM '-.*$')"
        )
    };
    let text = match case.ty {
        ColumnType::Scalar(ScalarType::Bytea) => format!("replace(encode({name}, 'base64'), E'\\n', '')"),
        ColumnType::Scalar(ScalarType::Date) => iso(name),
        ColumnType::Scalar(ScalarType::Timestamp) => format!("replace({}, ' ', 'T')", iso(name)),
        ColumnType::Scalar(ScalarType::Timestamptz) => {
            format!("replace({}, ' ', 'T') || 'Z'", iso(&format!("({name} AT TIME ZONE 'UTC')")))
        }
        ColumnType::Array(_) => format!("array_to_json({name})::text"),
        _ => format!("{name}::text"),
    };
    format!("coalesce({text}, 'null')")
}

/// Whether the JSON of a value is what Postgres' text means.
fn agrees(case: &Case, json: &str, text: &str) -> bool {
    if json == "null" {
        return text == "null";
    }
    match case.ty {
        ColumnType::Scalar(ScalarType::Float32) => {
            json.parse::<f32>().unwrap().to_bits() == text.parse::<f32>().unwrap().to_bits()
        }
        ColumnType::Scalar(ScalarType::Float64) => {
            json.parse::<f64>().unwrap().to_bits() == text.parse::<f64>().unwrap().to_bits()
        }
        ColumnType::Array(ScalarType::Text) => {
            serde_json::from_str::<Value>(json).unwrap() == serde_json::from_str::<Value>(text).unwrap()
        }
        ColumnType::Scalar(
            ScalarType::Boolean
            | ScalarType::Int16
            | ScalarType::Int32
            | ScalarType::Int64
            | ScalarType::Numeric { .. },
        )
        | ColumnType::Array(_)
        | ColumnType::Jsonb => json == text,
        ColumnType::Scalar(_) => serde_json::from_str::<String>(json).unwrap() == text,
    }
}

#[tokio::test]
async fn every_value_of_every_type_is_what_postgres_says_it_is() {
    let database = TestDatabase::new().await;
    let publisher = Publisher::new(&database).await;
    let cases = cases();
    let mut columns = vec![("i", ColumnType::Scalar(ScalarType::Int32))];
    columns.extend(cases.iter().map(|case| (case.name, case.ty)));
    let table = Table::new("everything", &columns, &["i"]);
    let values: Vec<String> = cases
        .iter()
        .map(|case| {
            let fixed = case.fixed.iter().enumerate();
            let fixed: Vec<String> =
                fixed.map(|(n, value)| format!("WHEN i = {n} THEN ({value})::{}", case.ty.sql_name())).collect();
            format!(
                "CASE {} WHEN i % 17 = 16 THEN NULL ELSE ({})::{} END",
                fixed.join(" "),
                case.random,
                case.ty.sql_name()
            )
        })
        .collect();
    publisher.session.batch_execute("SELECT setseed(0.25)").await.unwrap();
    let rows = format!("SELECT i, {} FROM generate_series(0, {}) i", values.join(", "), ROWS - 1);
    publisher.publish(&table, "1", &rows).await;
    let running = Running::start(settings(), database.connector()).await;

    let texts: Vec<String> = cases.iter().map(expected).collect();
    let texts = format!("SELECT {} FROM lakegate_data.everything__g1 ORDER BY i", texts.join(", "));
    let texts = publisher.session.query(&texts, &[]).await.unwrap();
    for (i, text) in texts.iter().enumerate() {
        let whole = get(running.server.addr, &format!("/v1/everything/{i}")).await;
        assert_eq!(whole.status, 200, "row {i}: {}", whole.body);
        assert!(whole.data()[0].is_object());
        let mut rest = whole.body.strip_prefix(&format!("{{\"data\":[{{\"i\":{i}")).unwrap();
        // The columns one by one are the pieces of the whole row.
        for (at, case) in cases.iter().enumerate() {
            let text: String = text.get(at);
            let part = get(running.server.addr, &format!("/v1/everything/{i}?columns={}", case.name)).await;
            let value =
                part.body.strip_prefix("{\"data\":[{").and_then(|rest| rest.strip_suffix("}],\"error\":[]}")).unwrap();
            rest = rest.strip_prefix(&format!(",{value}")).unwrap_or_else(|| panic!("row {i}, {}: {rest}", case.name));
            let json = value.strip_prefix(&format!("\"{}\":", case.name)).unwrap();
            assert!(agrees(case, json, &text), "row {i}, {}: {json} is not {text}", case.name);
        }
        assert_eq!(rest, "}],\"error\":[]}");
    }
}

#[tokio::test]
async fn what_json_has_no_number_for_is_a_string() {
    let database = TestDatabase::new().await;
    let publisher = Publisher::new(&database).await;
    let columns = [
        ("k", ColumnType::Scalar(ScalarType::Int32)),
        ("f", ColumnType::Scalar(ScalarType::Float64)),
        ("g", ColumnType::Scalar(ScalarType::Float32)),
        ("n", ColumnType::Scalar(NUMERIC)),
        ("d", ColumnType::Scalar(ScalarType::Date)),
        ("t", ColumnType::Scalar(ScalarType::Timestamptz)),
    ];
    let table = Table::new("odd", &columns, &["k"]);
    let rows = "VALUES (1, 'NaN'::float8, 'Infinity'::float4, 'NaN'::numeric, 'infinity'::date, '-infinity'::timestamptz), \
                (2, '-Infinity', '-Infinity', '-Infinity', '-infinity', 'infinity')";
    publisher.publish(&table, "1", rows).await;
    let running = Running::start(settings(), database.connector()).await;
    assert_eq!(
        get(running.server.addr, "/v1/odd/1").await.body,
        r#"{"data":[{"k":1,"f":"NaN","g":"Infinity","n":"NaN","d":"infinity","t":"-infinity"}],"error":[]}"#
    );
    assert_eq!(
        get(running.server.addr, "/v1/odd/2").await.body,
        r#"{"data":[{"k":2,"f":"-Infinity","g":"-Infinity","n":"-Infinity","d":"-infinity","t":"infinity"}],"error":[]}"#
    );
}
