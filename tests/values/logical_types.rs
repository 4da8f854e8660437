//! Types that Parquet declares and Arrow's writer does not.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType, Int32Type, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::texts_of;
use crate::support::project::TestProject;

const SCHEMA: &str = "message items {
    required int64 id;
    required fixed_len_byte_array(16) uuid (UUID);
    required binary json (JSON);
    required binary enum (ENUM);
    required binary plain;
    required int32 small (INTEGER(16, false));
    required int32 time (TIME(MILLIS, true));
    required int32 money (DECIMAL(9, 2));
    required fixed_len_byte_array(6) wide (DECIMAL(14, 3));
    required int64 local (TIMESTAMP(MILLIS, false));
    required int64 instant (TIMESTAMP(NANOS, true));
}";

/// Writes one row.
fn write(path: &Path) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
    let properties = Arc::new(WriterProperties::default());
    let mut file = SerializedFileWriter::new(File::create(path).unwrap(), schema, properties).unwrap();
    let mut rows = file.next_row_group().unwrap();
    macro_rules! column {
        ($ty:ty, $value:expr) => {{
            let mut column = rows.next_column().unwrap().unwrap();
            column.typed::<$ty>().write_batch(&[$value], None, None).unwrap();
            column.close().unwrap();
        }};
    }
    column!(Int64Type, 1);
    column!(FixedLenByteArrayType, FixedLenByteArray::from((0_u8..16).collect::<Vec<u8>>()));
    column!(ByteArrayType, ByteArray::from(r#"{"b": [1.50], "a": "\u00e4"}"#));
    column!(ByteArrayType, ByteArray::from("RED"));
    column!(ByteArrayType, ByteArray::from(vec![0, 255]));
    column!(Int32Type, 65_535);
    column!(Int32Type, 86_399_001);
    column!(Int32Type, -12_345);
    column!(FixedLenByteArrayType, FixedLenByteArray::from(vec![255, 255, 255, 255, 255, 251]));
    column!(Int64Type, 1_709_164_800_500);
    column!(Int64Type, -1_000);
    rows.close().unwrap();
    file.close().unwrap();
}

#[tokio::test]
async fn values_arrive_as_parquet_declares_them() {
    let project = TestProject::new().await;
    write(&project.path("lake/items/rows.parquet"));
    project.pipeline("items", "source: lake/items\nprimary_key: [uuid]\n");
    project.sync("items").await;
    let columns = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute \
                   WHERE attrelid = 'lake.items'::regclass AND attnum > 1 ORDER BY attnum";
    assert_eq!(
        texts_of(&project, columns).await,
        [
            "uuid",
            "jsonb",
            "text",
            "bytea",
            "integer",
            "time without time zone",
            "numeric",
            "numeric",
            "timestamp without time zone",
            "timestamp with time zone"
        ]
    );
    let row = "SELECT concat_ws('|', uuid, json, enum, plain, small, time, money, wide, local, instant AT TIME ZONE 'UTC') \
               FROM lake.items";
    assert_eq!(
        texts_of(&project, row).await,
        ["00010203-0405-0607-0809-0a0b0c0d0e0f|{\"a\": \"ä\", \"b\": [1.50]}|RED|\\x00ff|65535|23:59:59.001|-123.45|\
          -0.005|2024-02-29 00:00:00.5|1969-12-31 23:59:59.999999"]
    );
    let got = project.run(&["get", "items", "00010203-0405-0607-0809-0a0b0c0d0e0f"]).await.ok();
    assert_eq!(got.json()[0]["data"][0]["small"], 65_535);
}
