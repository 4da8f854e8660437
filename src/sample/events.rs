//! `events`: Parquet files without a log, in one folder a day.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{Int64Builder, MapBuilder, StringBuilder, TimestampMicrosecondBuilder};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field, Schema, TimeUnit};
use chrono::DateTime;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use crate::domain::{Code, Error, Result};

use super::lake::{Lake, Written, batch, unwritable};
use super::random::Random;
use super::shop::{DAY, OPENING, Shop};

const NAME: &str = "events";

/// How many days have events.
const DAYS: u64 = 14;

const KINDS: &[&str] = &["page_view", "search", "add_to_cart", "checkout", "support_chat"];
const PAGES: &[&str] = &["/", "/search", "/products/desk lamp", "/warenkorb", "/プロフィール"];
const CHANNELS: &[&str] = &["web", "ios", "android"];

/// Writes the files: `date=2024-01-01/part-0.parquet` and so on.
pub(super) fn write(lake: &Lake, shop: Shop) -> Result<Written> {
    let folder = lake.folder(NAME)?;
    let events = shop.customers * 5;
    for day in 0..DAYS {
        // Numbered through, day by day; the last day takes what a division leaves over.
        let per_day = events / DAYS;
        let last = if day + 1 == DAYS { events } else { per_day * (day + 1) };
        write_day(&folder, shop, day, per_day * day + 1..=last)?;
    }
    Ok(Written::parquet(NAME, events))
}

fn write_day(folder: &Path, shop: Shop, day: u64, ids: impl IntoIterator<Item = u64>) -> Result<()> {
    let midnight = OPENING + day as i64 * DAY;
    let date = DateTime::from_timestamp_micros(midnight).ok_or_else(|| Error::internal("an event out of time"))?;
    let folder = folder.join(format!("date={}", date.format("%Y-%m-%d")));
    fs::create_dir(&folder).map_err(|error| unwritable(&folder, error))?;
    let path = folder.join("part-0.parquet");
    let file = File::create(&path).map_err(|error| unwritable(&path, error))?;
    write_file(file, &rows(shop, midnight, ids)?).map_err(|error| {
        Error::new(Code::UnreadableFile, format!("{} cannot be written: {error}", path.display())).because(error)
    })
}

fn write_file(file: File, rows: &RecordBatch) -> Result<(), ParquetError> {
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(properties))?;
    writer.write(rows)?;
    writer.close()?;
    Ok(())
}

fn rows(shop: Shop, midnight: i64, ids: impl IntoIterator<Item = u64>) -> Result<RecordBatch> {
    let mut id = StringBuilder::new();
    let mut at = TimestampMicrosecondBuilder::new();
    let mut kind = StringBuilder::new();
    let mut customer = Int64Builder::new();
    let mut page = StringBuilder::new();
    let mut properties = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for event in ids {
        let random = &mut Random::for_row(shop.seed, 4, event);
        id.append_value(format!("ev-{event:08}"));
        at.append_value(midnight + random.below_i64(DAY));
        kind.append_value(random.pick(KINDS));
        customer.append_option(random.percent(75).then(|| random.below_i64(shop.customers as i64) + 1));
        page.append_option(random.percent(90).then(|| random.pick(PAGES)));
        properties.keys().append_value("channel");
        properties.values().append_value(random.pick(CHANNELS));
        if random.percent(40) {
            properties.keys().append_value("duration_ms");
            properties.values().append_value(random.below(30_000).to_string());
        }
        properties.append(true).map_err(uneven)?;
    }
    let properties = properties.finish();
    let columns = vec![
        Field::new("event_id", DataType::Utf8, false),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        Field::new("kind", DataType::Utf8, false),
        Field::new("customer_id", DataType::Int64, true),
        Field::new("page", DataType::Utf8, true),
        Field::new("properties", properties.data_type().clone(), false),
    ];
    batch(
        &Arc::new(Schema::new(columns)),
        vec![
            Arc::new(id.finish()),
            Arc::new(at.finish().with_timezone("UTC")),
            Arc::new(kind.finish()),
            Arc::new(customer.finish()),
            Arc::new(page.finish()),
            Arc::new(properties),
        ],
    )
}

fn uneven(error: ArrowError) -> Error {
    Error::internal("a map of the sample has another number of keys than of values").because(error)
}
