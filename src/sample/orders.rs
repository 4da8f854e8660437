//! `orders`: partitioned by month, with every kind of change in its history.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::builder::{Decimal128Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use chrono::DateTime;
use datafusion::prelude::{SessionContext, col, lit};
use deltalake::{DeltaResult, DeltaTable};

use crate::domain::{Error, Result};

use super::lake::{Lake, Written, batch, delta_failed};
use super::order_lines;
use super::random::Random;
use super::shop::{DAY, OPENING, Shop, TEST_ORDERS, is_test_order};

const NAME: &str = "orders";

const STATUSES: &[&str] = &["placed", "paid", "shipped", "delivered", "cancelled"];
const NOTES: &[&str] = &["leave at the door", "call before delivery", "ring twice — dog is friendly", "Geschenk 🎁"];

/// Writes the table: created empty, filled by two appends, updated, deleted from, and merged into.
pub(super) async fn write(lake: &Lake, shop: Shop) -> Result<Written> {
    let failed = |error| delta_failed(NAME, error);
    let half = shop.orders / 2;
    let created = lake
        .delta_table(NAME)
        .await?
        .write([RecordBatch::new_empty(schema())])
        .with_table_name(NAME)
        .with_partition_columns(["month"])
        .await
        .map_err(failed)?;
    let table = created.write([rows(shop, 1..=half)?]).await.map_err(failed)?;
    let table = table.write([rows(shop, half + 1..=shop.orders)?]).await.map_err(failed)?;
    let (table, _) = table
        .update()
        .with_predicate("status = 'shipped' AND month <= '2024-06'")
        .with_update("status", lit("delivered"))
        .await
        .map_err(failed)?;
    let (table, _) = table.delete().with_predicate(TEST_ORDERS).await.map_err(failed)?;
    let table = merge(table, corrections(shop)?).await.map_err(failed)?;

    let deleted = (1..=shop.orders).filter(|order| is_test_order(*order)).count();
    let late = shop.late_orders().count();
    Ok(Written::delta(NAME, &table, shop.orders - deleted as u64 + late as u64))
}

/// Merges rows by key: orders that exist take the new status and note, the others are added.
async fn merge(table: DeltaTable, corrections: RecordBatch) -> DeltaResult<DeltaTable> {
    let columns: Vec<String> = corrections.schema().fields().iter().map(|field| field.name().clone()).collect();
    let source = SessionContext::new().read_batch(corrections)?;
    let same_order = col("target.month").eq(col("source.month")).and(col("target.order_id").eq(col("source.order_id")));
    let (table, _) = table
        .merge(source, same_order)
        .with_source_alias("source")
        .with_target_alias("target")
        .when_matched_update(|update| {
            update.update("status", col("source.status")).update("note", lit("corrected by the warehouse"))
        })?
        .when_not_matched_insert(|insert| {
            columns.iter().fold(insert, |insert, column| insert.set(column.as_str(), col(format!("source.{column}"))))
        })?
        .await?;
    Ok(table)
}

/// New orders that arrive late, and some that are there already.
fn corrections(shop: Shop) -> Result<RecordBatch> {
    let known = (1..=shop.orders).filter(|order| order % 50 == 7 && !is_test_order(*order));
    rows(shop, known.chain(shop.late_orders()))
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("order_id", DataType::Int64, false),
        Field::new("customer_id", DataType::Int64, false),
        Field::new("status", DataType::Utf8, false),
        Field::new("ordered_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        Field::new("total", DataType::Decimal128(18, 4), false),
        Field::new("note", DataType::Utf8, true),
        Field::new("month", DataType::Utf8, false),
    ]))
}

fn rows(shop: Shop, ids: impl IntoIterator<Item = u64>) -> Result<RecordBatch> {
    let mut id = Int64Builder::new();
    let mut customer = Int64Builder::new();
    let mut status = StringBuilder::new();
    let mut ordered_at = TimestampMicrosecondBuilder::new();
    let mut total = Decimal128Builder::new();
    let mut note = StringBuilder::new();
    let mut month = StringBuilder::new();
    for order in ids {
        let random = &mut Random::for_row(shop.seed, 2, order);
        let at = ordered_at_micros(shop, order, random);
        let day = DateTime::from_timestamp_micros(at).ok_or_else(|| Error::internal("an order out of time"))?;
        id.append_value(order as i64);
        customer.append_value(random.below_i64(shop.customers as i64) + 1);
        status.append_value(random.pick(STATUSES));
        ordered_at.append_value(at);
        total.append_value(order_lines::total(shop, order));
        note.append_option(random.percent(15).then(|| random.pick(NOTES)));
        month.append_value(day.format("%Y-%m").to_string());
    }
    let total = total.finish().with_data_type(DataType::Decimal128(18, 4));
    batch(
        &schema(),
        vec![
            Arc::new(id.finish()),
            Arc::new(customer.finish()),
            Arc::new(status.finish()),
            Arc::new(ordered_at.finish().with_timezone("UTC")),
            Arc::new(total),
            Arc::new(note.finish()),
            Arc::new(month.finish()),
        ],
    )
}

/// Orders come in evenly over the 366 days of 2024, late ones within its last fortnight.
fn ordered_at_micros(shop: Shop, order: u64, random: &mut Random) -> i64 {
    let year = 366 * DAY;
    if order > shop.orders {
        return OPENING + year - 1 - random.below_i64(14 * DAY);
    }
    OPENING + year / shop.orders as i64 * (order as i64 - 1) + random.below_i64(year / shop.orders as i64)
}
