//! `order_lines`: a key of two columns, exact amounts.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::builder::{Decimal128Builder, Int32Builder, Int64Builder, StringBuilder};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use crate::domain::Result;

use super::lake::{Lake, Written, batch, delta_failed};
use super::random::Random;
use super::shop::{Shop, TEST_ORDERS, is_test_order};

const NAME: &str = "order_lines";

const PRODUCTS: &[&str] =
    &["bolt-m8", "café-filter", "desk lamp", "hex/key 5mm", "näh-set", "rope 20m", "utf-8 mug ☕"];

/// One line of an order.
struct Line {
    product: &'static str,
    quantity: i32,
    /// In hundredths.
    unit_price: i128,
    /// Of the price, in hundredths.
    discount: i128,
}

impl Line {
    /// What the customer pays, in ten-thousandths: exact.
    fn amount(&self) -> i128 {
        i128::from(self.quantity) * self.unit_price * (100 - self.discount)
    }
}

/// The sum of an order's lines, in ten-thousandths.
pub(super) fn total(shop: Shop, order: u64) -> i128 {
    lines(shop, order).iter().map(Line::amount).sum()
}

fn lines(shop: Shop, order: u64) -> Vec<Line> {
    let random = &mut Random::for_row(shop.seed, 3, order);
    (0..=random.below(5))
        .map(|_| Line {
            product: random.pick(PRODUCTS),
            quantity: random.below(20) as i32 + 1,
            unit_price: i128::from(random.below(50_000)) + 1,
            discount: if random.percent(30) { i128::from(random.below(40)) } else { 0 },
        })
        .collect()
}

/// Writes the table: two appends, then the lines of test orders are deleted.
pub(super) async fn write(lake: &Lake, shop: Shop) -> Result<Written> {
    let failed = |error| delta_failed(NAME, error);
    let half = shop.orders / 2;
    let table = lake.delta_table(NAME).await?;
    let table = table.write([rows(shop, 1..=half)?]).with_table_name(NAME).await.map_err(failed)?;
    let table = table.write([rows(shop, (half + 1..=shop.orders).chain(shop.late_orders()))?]).await.map_err(failed)?;
    let (table, _) = table.delete().with_predicate(TEST_ORDERS).await.map_err(failed)?;
    let kept = (1..=shop.orders).filter(|order| !is_test_order(*order)).chain(shop.late_orders());
    let count: usize = kept.map(|order| lines(shop, order).len()).sum();
    Ok(Written::delta(NAME, &table, count as u64))
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("order_id", DataType::Int64, false),
        Field::new("line_number", DataType::Int32, false),
        Field::new("product", DataType::Utf8, false),
        Field::new("quantity", DataType::Int32, false),
        Field::new("unit_price", DataType::Decimal128(10, 2), false),
        Field::new("discount", DataType::Decimal128(3, 2), false),
        Field::new("amount", DataType::Decimal128(18, 4), false),
    ]))
}

fn rows(shop: Shop, orders: impl IntoIterator<Item = u64>) -> Result<RecordBatch> {
    let mut order_id = Int64Builder::new();
    let mut line_number = Int32Builder::new();
    let mut product = StringBuilder::new();
    let mut quantity = Int32Builder::new();
    let mut unit_price = Decimal128Builder::new();
    let mut discount = Decimal128Builder::new();
    let mut amount = Decimal128Builder::new();
    for order in orders {
        for (number, line) in (1..).zip(lines(shop, order)) {
            order_id.append_value(order as i64);
            line_number.append_value(number);
            product.append_value(line.product);
            quantity.append_value(line.quantity);
            unit_price.append_value(line.unit_price);
            discount.append_value(line.discount);
            amount.append_value(line.amount());
        }
    }
    batch(
        &schema(),
        vec![
            Arc::new(order_id.finish()),
            Arc::new(line_number.finish()),
            Arc::new(product.finish()),
            Arc::new(quantity.finish()),
            Arc::new(unit_price.finish().with_data_type(DataType::Decimal128(10, 2))),
            Arc::new(discount.finish().with_data_type(DataType::Decimal128(3, 2))),
            Arc::new(amount.finish().with_data_type(DataType::Decimal128(18, 4))),
        ],
    )
}
