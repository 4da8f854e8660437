//! The formats and encodings of answers: every value whole in each of them.

use std::io::Read as _;
use std::net::SocketAddr;

use arrow::ipc::reader::StreamReader;
use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Date32Type, Decimal128Type, Decimal256Type, Float64Type, Int64Type, IntervalMonthDayNanoType,
    Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow_array::{Array as _, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use lakegate::domain::{ColumnType, ScalarType};
use serde_json::{Value, json};

use crate::support::http::{Reply, get, get_with, post_with, request};
use crate::support::postgres::TestDatabase;
use crate::support::published::{Publisher, Running, Table, settings};

const fn scalar(ty: ScalarType) -> ColumnType {
    ColumnType::Scalar(ty)
}

const ARROW: &str = "application/vnd.apache.arrow.stream";

/// `things(part, id, …)` with a column of every kind: part 1 has the rows 1 to 3, of which 2 is null where it may be.
async fn things(database: &TestDatabase) -> (Publisher, Running) {
    let publisher = Publisher::new(database).await;
    let columns = [
        ("part", scalar(ScalarType::Int32)),
        ("id", scalar(ScalarType::Int64)),
        ("flag", scalar(ScalarType::Boolean)),
        ("big", scalar(ScalarType::Int64)),
        ("f", scalar(ScalarType::Float64)),
        ("price", scalar(ScalarType::Numeric { precision: 38, scale: 10 })),
        ("huge", scalar(ScalarType::Numeric { precision: 76, scale: 2 })),
        ("note", scalar(ScalarType::Text)),
        ("raw", scalar(ScalarType::Bytea)),
        ("day", scalar(ScalarType::Date)),
        ("clock", scalar(ScalarType::Time)),
        ("local", scalar(ScalarType::Timestamp)),
        ("at", scalar(ScalarType::Timestamptz)),
        ("span", scalar(ScalarType::Interval)),
        ("uid", scalar(ScalarType::Uuid)),
        ("list", ColumnType::Array(ScalarType::Int64)),
        ("doc", ColumnType::Jsonb),
    ];
    let table = Table::new("things", &columns, &["part", "id"]);
    let rows = r#"VALUES
        (1, 1::int8, true, 9223372036854775807::int8, 0.1::float8, 12345678901234567890123456.0123456789,
         12345678901234567890123456789012345678901234567890.50, E'say "x", a\r\nb', '\x00ff'::bytea, '2024-02-29'::date,
         '12:34:56.5'::time, '1969-12-31 23:59:59.5'::timestamp, '2024-02-29 12:00:00Z'::timestamptz,
         '1 month -3 days 4 hours'::interval, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid,
         ARRAY[9007199254740993, null]::int8[], '{"a": 12345678901234567890.10}'::jsonb),
        (1, 2, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null),
        (1, 3, false, -1, 'NaN', -0.0000000001, 0.00, '', '', '0001-01-01', '00:00', '2000-01-01', '1970-01-01Z', '0',
         '00000000-0000-0000-0000-000000000000', '{}', '[]')"#;
    publisher.publish(&table, "1", rows).await;
    (publisher, Running::start(settings(), database.connector()).await)
}

async fn accept(addr: SocketAddr, url: &str, format: &str) -> Reply {
    let reply = get_with(addr, url, &[("Accept", format)]).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(reply.header("content-type").unwrap().starts_with(format), "{reply:?}");
    reply
}

fn batch(reply: &Reply) -> RecordBatch {
    let reader = StreamReader::try_new(reply.bytes.as_slice(), None).unwrap();
    let batches: Vec<RecordBatch> = reader.collect::<Result<_, _>>().unwrap();
    assert_eq!(batches.len(), 1);
    batches.into_iter().next().unwrap()
}

#[tokio::test]
async fn lines_of_json_are_the_rows_of_the_envelope() {
    let database = TestDatabase::new().await;
    let (_publisher, running) = things(&database).await;
    let addr = running.server.addr;
    for url in ["/v1/things/1", "/v1/things/1/1", "/v1/things/1?columns=note,id"] {
        let lines = accept(addr, url, "application/x-ndjson").await;
        let rows: Vec<Value> = lines.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let whole = get(addr, url).await;
        assert_eq!(Value::Array(rows), whole.data());
        let joined = lines.body.trim_end().replace('\n', ",");
        assert!(whole.body.contains(&joined), "digit by digit: {joined}");
        assert!(lines.body.ends_with('\n'));
    }
    let miss = get_with(addr, "/v1/things/9/9", &[("Accept", "application/x-ndjson")]).await;
    assert_eq!((miss.status, miss.code().as_str()), (404, "LG6002"));
    assert_eq!(miss.header("content-type"), Some("application/json"));
    let none = accept(addr, "/v1/things/9", "application/x-ndjson").await;
    assert_eq!(none.body, "");
}

#[tokio::test]
async fn csv_tells_null_from_empty_and_keeps_every_digit() {
    let database = TestDatabase::new().await;
    let (_publisher, running) = things(&database).await;
    let reply = accept(running.server.addr, "/v1/things/1", "text/csv").await;
    let expected = [
        "part,id,flag,big,f,price,huge,note,raw,day,clock,local,at,span,uid,list,doc",
        "1,1,true,9223372036854775807,0.1,12345678901234567890123456.0123456789,\
         12345678901234567890123456789012345678901234567890.50,\"say \"\"x\"\", a\r\nb\",AP8=,2024-02-29,12:34:56.5,\
         1969-12-31T23:59:59.5,2024-02-29T12:00:00Z,P1M-3DT4H,a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11,\
         \"[9007199254740993,null]\",\"{\"\"a\"\": 12345678901234567890.10}\"",
        "1,2,,,,,,,,,,,,,,,",
        "1,3,false,-1,NaN,-0.0000000001,0.00,\"\",\"\",0001-01-01,00:00:00,2000-01-01T00:00:00,1970-01-01T00:00:00Z,\
         PT0S,00000000-0000-0000-0000-000000000000,[],[]",
        "",
    ];
    assert_eq!(reply.body, expected.join("\r\n"));
    let one = accept(running.server.addr, "/v1/things/1/3?columns=big,note", "text/csv").await;
    assert_eq!(one.body, "big,note\r\n-1,\"\"\r\n");
}

#[tokio::test]
async fn arrow_has_the_published_types_and_exact_values() {
    let database = TestDatabase::new().await;
    let (_publisher, running) = things(&database).await;
    let addr = running.server.addr;
    let rows = batch(&accept(addr, "/v1/things/1", ARROW).await);
    assert_eq!((rows.num_rows(), rows.num_columns()), (3, 17));
    let column = |name: &str| rows.column_by_name(name).unwrap();
    for name in
        ["flag", "big", "f", "price", "huge", "note", "raw", "day", "clock", "local", "at", "span", "list", "doc"]
    {
        let nulls: Vec<bool> = (0..3).map(|row| column(name).is_null(row)).collect();
        assert_eq!(nulls, [false, true, false], "{name}");
    }
    assert_eq!(column("big").as_primitive::<Int64Type>().value(0), i64::MAX);
    assert!(column("f").as_primitive::<Float64Type>().value(2).is_nan());
    assert_eq!(column("price").data_type(), &DataType::Decimal128(38, 10));
    let price = column("price").as_primitive::<Decimal128Type>();
    assert_eq!((price.value(0), price.value(2)), (123_456_789_012_345_678_901_234_560_123_456_789, -1));
    assert_eq!(column("huge").data_type(), &DataType::Decimal256(76, 2));
    let huge = column("huge").as_primitive::<Decimal256Type>();
    assert_eq!(huge.value(0).to_string(), "1234567890123456789012345678901234567890123456789050");
    assert_eq!(column("note").as_string::<i32>().value(0), "say \"x\", a\r\nb");
    assert_eq!(column("raw").as_binary::<i32>().value(0), [0, 255]);
    assert_eq!(column("day").as_primitive::<Date32Type>().value(0), 19_782);
    assert_eq!(column("clock").as_primitive::<Time64MicrosecondType>().value(0), 45_296_500_000);
    assert_eq!(column("local").as_primitive::<TimestampMicrosecondType>().value(0), -500_000);
    assert_eq!(column("at").data_type(), &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
    assert_eq!(column("at").as_primitive::<TimestampMicrosecondType>().value(0), 1_709_208_000_000_000);
    let span = column("span").as_primitive::<IntervalMonthDayNanoType>().value(0);
    assert_eq!((span.months, span.days, span.nanoseconds), (1, -3, 4 * 3600 * 1_000_000_000));
    assert_eq!(column("uid").as_fixed_size_binary().value(0)[..2], [0xa0, 0xee]);
    let list = column("list").as_list::<i32>();
    let first = list.value(0);
    assert_eq!(
        (first.len(), first.as_primitive::<Int64Type>().value(0), first.is_null(1)),
        (2, 9_007_199_254_740_993, true)
    );
    assert_eq!(list.value(2).len(), 0);
    assert_eq!(column("doc").as_string::<i32>().value(0), r#"{"a": 12345678901234567890.10}"#);

    let one = batch(&accept(addr, "/v1/things/1/3?columns=note,id", ARROW).await);
    assert_eq!(one.schema().fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), ["note", "id"]);
    assert_eq!(one.column(1).as_primitive::<Int64Type>().value(0), 3);
    let none = accept(addr, "/v1/things/9", ARROW).await;
    let none = StreamReader::try_new(none.bytes.as_slice(), None).unwrap();
    assert_eq!((none.schema().fields().len(), none.map(|batch| batch.unwrap().num_rows()).sum::<usize>()), (17, 0));
}

#[tokio::test]
async fn numbers_may_be_strings() {
    let database = TestDatabase::new().await;
    let (_publisher, running) = things(&database).await;
    let url = "/v1/things/1/1?columns=part,big,price,list,f";
    let reply = accept(running.server.addr, url, "application/json; numbers=string").await;
    assert_eq!(
        reply.body,
        r#"{"data":[{"part":1,"big":"9223372036854775807","price":"12345678901234567890123456.0123456789","list":["9007199254740993",null],"f":0.1}],"error":[]}"#
    );
    assert_ne!(reply.header("etag"), get(running.server.addr, url).await.header("etag"));
}

#[tokio::test]
async fn batches_and_pages_come_in_every_format() {
    let database = TestDatabase::new().await;
    let (_publisher, running) = things(&database).await;
    let addr = running.server.addr;
    let ask = async |format: &str| {
        let headers = [("Content-Type", "application/json"), ("Accept", format)];
        let body = r#"{"keys": [[1,3], [7,7], [1,1], [1,3]]}"#;
        let reply = post_with(addr, "/v1/things/_batch?columns=id", &headers, body).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        (reply.header("lakegate-missing").map(str::to_owned), reply)
    };
    let (missing, strings) = ask("application/json;numbers=string").await;
    assert_eq!((missing, strings.data()), (None, json!([{"id": 3}, null, {"id": 1}, {"id": 3}])));
    assert_eq!(strings.json()["error"][0]["index"], 1);
    let (missing, lines) = ask("application/x-ndjson").await;
    assert_eq!((missing.as_deref(), lines.body.as_str()), (Some("1"), "{\"id\":3}\nnull\n{\"id\":1}\n{\"id\":3}\n"));
    let (missing, csv) = ask("text/csv").await;
    assert_eq!((missing.as_deref(), csv.body.as_str()), (Some("1"), "id\r\n3\r\n1\r\n3\r\n"));
    let (missing, arrow) = ask(ARROW).await;
    let ids = batch(&arrow);
    assert_eq!(
        (missing.as_deref(), ids.column(0).as_primitive::<Int64Type>().values().as_ref()),
        (Some("1"), &[3, 1, 3][..])
    );

    for format in ["application/x-ndjson", "text/csv", ARROW] {
        let first = accept(addr, "/v1/things/1?limit=2&columns=id", format).await;
        let next = first.header("lakegate-next").expect("a cursor").to_owned();
        let last = accept(addr, &format!("/v1/things/1?limit=2&columns=id&cursor={next}"), format).await;
        assert_eq!(last.header("lakegate-next"), None);
        let json = get(addr, "/v1/things/1?limit=2&columns=id").await;
        assert_eq!((json.json()["next"].as_str(), json.header("lakegate-next")), (Some(next.as_str()), None));
    }
}

#[tokio::test]
async fn what_a_format_cannot_tell_is_refused() {
    let database = TestDatabase::new().await;
    let publisher = Publisher::new(&database).await;
    let table = Table::new("odd", &[("k", scalar(ScalarType::Int32)), ("d", scalar(ScalarType::Date))], &["k"]);
    publisher.publish(&table, "1", "SELECT 1, 'infinity'::date").await;
    let running = Running::start(settings(), database.connector()).await;
    let reply = get_with(running.server.addr, "/v1/odd/1", &[("Accept", ARROW)]).await;
    assert_eq!((reply.status, reply.code().as_str()), (406, "LG6007"));
    assert!(reply.body.contains("`d`"), "{}", reply.body);
    assert_eq!(batch(&accept(running.server.addr, "/v1/odd/1?columns=k", ARROW).await).num_rows(), 1);
    for format in ["application/xml", "image/*", "*/*;q=0"] {
        let reply = get_with(running.server.addr, "/v1/odd/1", &[("Accept", format)]).await;
        assert_eq!((reply.status, reply.code().as_str()), (406, "LG6007"), "{format}");
    }
}

#[tokio::test]
async fn large_answers_are_compressed_if_asked_for() {
    let database = TestDatabase::new().await;
    let publisher = Publisher::new(&database).await;
    let columns = [("a", scalar(ScalarType::Int32)), ("b", scalar(ScalarType::Int32)), ("v", scalar(ScalarType::Text))];
    let table = Table::new("texts", &columns, &["a", "b"]);
    publisher.publish(&table, "1", "SELECT 1, i, repeat('lake ', 100) FROM generate_series(1, 100) i").await;
    let running = Running::start(settings(), database.connector()).await;
    let addr = running.server.addr;
    for url in ["/v1/texts/1", "/v1/texts/1?limit=3"] {
        let plain = get(addr, url).await;
        let tag = plain.header("etag").unwrap();
        assert!(!tag.starts_with("W/") && plain.header("content-encoding").is_none());
        for encoding in ["gzip", "br", "zstd"] {
            let headers = [("Accept-Encoding", encoding)];
            let small = get_with(addr, url, &headers).await;
            assert_eq!(small.header("content-encoding"), Some(encoding));
            assert_eq!(small.header("etag"), Some(format!("W/{tag}").as_str()));
            assert_eq!(small.header("vary"), Some("Accept, Accept-Encoding, Authorization"));
            assert!(small.bytes.len() * 5 < plain.bytes.len(), "{encoding}: {}", small.bytes.len());
            let mut back = Vec::new();
            match encoding {
                "gzip" => _ = flate2::read::GzDecoder::new(&small.bytes[..]).read_to_end(&mut back).unwrap(),
                "br" => _ = brotli::Decompressor::new(&small.bytes[..], 4096).read_to_end(&mut back).unwrap(),
                _ => back = zstd::decode_all(&small.bytes[..]).unwrap(),
            }
            assert!(back == plain.bytes, "{encoding}");
            let weak = format!("W/{tag}");
            let known = get_with(addr, url, &[("Accept-Encoding", encoding), ("If-None-Match", &weak)]).await;
            assert_eq!((known.status, known.header("etag")), (304, Some(weak.as_str())));
            let head = request(addr, "HEAD", url, &headers).await;
            assert_eq!((head.header("content-encoding"), head.bytes.len()), (Some(encoding), 0));
        }
    }
    let short = get_with(addr, "/v1/texts/1/1", &[("Accept-Encoding", "gzip")]).await;
    assert_eq!(short.header("content-encoding"), None);
    let error = get_with(addr, "/v1/texts/9/9", &[("Accept-Encoding", "gzip")]).await;
    assert_eq!((error.status, error.header("content-encoding")), (404, None));
}
