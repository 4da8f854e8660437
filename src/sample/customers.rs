//! `customers`: names in several scripts, decimals, dates, a struct, a list, columns that may be null.

use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, Date32Builder, Decimal128Builder, Int32Builder, Int64Builder, ListBuilder, NullBufferBuilder,
    StringBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch, StructArray};
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use datafusion::prelude::lit;

use crate::domain::Result;

use super::lake::{Lake, Written, batch, delta_failed};
use super::random::Random;
use super::shop::{DAY, OPENING, Shop};

const NAME: &str = "customers";

const GIVEN_NAMES: &[&str] =
    &["Ada", "Zoë", "Łukasz", "Søren", "Nguyễn", "François", "Ειρήνη", "Олена", "أمينة", "नेहा", "美咲", "지민", "Þóra"];
const FAMILY_NAMES: &[&str] = &[
    "Ångström",
    "O'Brien",
    "Müller",
    "García",
    "Şahin",
    "Παπαδάκη",
    "Шевченко",
    "بن علي",
    "शर्मा",
    "田中",
    "김",
    "Núñez",
];
const CITIES: &[(&str, &str)] = &[
    ("Köln", "DE"),
    ("São Paulo", "BR"),
    ("Kraków", "PL"),
    ("東京", "JP"),
    ("Αθήνα", "GR"),
    ("Reykjavík", "IS"),
    ("Київ", "UA"),
    ("Lyon", "FR"),
];
const STREETS: &[&str] = &["Harbour Street", "Mill Lane", "Rue de l’Église", "Hauptstraße", "Calle Mayor"];
const TAGS: &[&str] = &["newsletter", "wholesale", "early adopter", "vip", "pick-up", "🎁 gift wrap"];

/// Writes the table: created with most rows, appended to, updated, and cleared of those who asked to be erased.
pub(super) async fn write(lake: &Lake, shop: Shop) -> Result<Written> {
    let failed = |error| delta_failed(NAME, error);
    let first = shop.customers * 95 / 100;
    let table = lake.delta_table(NAME).await?;
    let table = table.write([rows(shop, 1..=first)?]).with_table_name(NAME).await.map_err(failed)?;
    let table = table.write([rows(shop, first + 1..=shop.customers)?]).await.map_err(failed)?;
    let (table, _) = table
        .update()
        .with_predicate("customer_id % 23 = 0")
        .with_update("active", lit(false))
        .with_update("loyalty_points", lit(0))
        .await
        .map_err(failed)?;
    let (table, _) = table.delete().with_predicate("customer_id % 211 = 0").await.map_err(failed)?;
    Ok(Written::delta(NAME, &table, shop.customers - shop.customers / 211))
}

fn address_fields() -> Fields {
    Fields::from(vec![
        Field::new("street", DataType::Utf8, true),
        Field::new("city", DataType::Utf8, true),
        Field::new("country", DataType::Utf8, true),
    ])
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("customer_id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, false),
        Field::new("email", DataType::Utf8, true),
        Field::new("born", DataType::Date32, true),
        Field::new("joined_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        Field::new("active", DataType::Boolean, false),
        Field::new("credit_limit", DataType::Decimal128(12, 2), true),
        Field::new("loyalty_points", DataType::Int32, true),
        Field::new("address", DataType::Struct(address_fields()), true),
        Field::new("tags", DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))), true),
    ]))
}

fn rows(shop: Shop, ids: impl IntoIterator<Item = u64>) -> Result<RecordBatch> {
    let mut id = Int64Builder::new();
    let mut name = StringBuilder::new();
    let mut email = StringBuilder::new();
    let mut born = Date32Builder::new();
    let mut joined_at = TimestampMicrosecondBuilder::new();
    let mut active = BooleanBuilder::new();
    let mut credit_limit = Decimal128Builder::new();
    let mut loyalty_points = Int32Builder::new();
    let mut addresses = Addresses::default();
    let mut tags = ListBuilder::new(StringBuilder::new());
    for customer in ids {
        let random = &mut Random::for_row(shop.seed, 1, customer);
        id.append_value(customer as i64);
        name.append_value(format!("{} {}", random.pick(GIVEN_NAMES), random.pick(FAMILY_NAMES)));
        email.append_option(random.percent(90).then(|| format!("customer{customer}@example.com")));
        // From 1940 to 2005, in days since 1970.
        born.append_option(random.percent(80).then(|| random.below(23_700) as i32 - 10_950));
        joined_at.append_value(OPENING - random.below_i64(5 * 365 * DAY));
        active.append_value(true);
        credit_limit.append_option(random.percent(70).then(|| i128::from(random.below(1_000_001))));
        loyalty_points.append_option(random.percent(95).then(|| random.below(5_000) as i32));
        addresses.append(random);
        if random.percent(85) {
            for _ in 0..random.below(4) {
                tags.values().append_value(random.pick(TAGS));
            }
            tags.append(true);
        } else {
            tags.append(false);
        }
    }
    let credit_limit = credit_limit.finish().with_data_type(DataType::Decimal128(12, 2));
    batch(
        &schema(),
        vec![
            Arc::new(id.finish()),
            Arc::new(name.finish()),
            Arc::new(email.finish()),
            Arc::new(born.finish()),
            Arc::new(joined_at.finish().with_timezone("UTC")),
            Arc::new(active.finish()),
            Arc::new(credit_limit),
            Arc::new(loyalty_points.finish()),
            addresses.finish(),
            Arc::new(tags.finish()),
        ],
    )
}

/// The builders of the column `address`.
#[derive(Default)]
struct Addresses {
    street: StringBuilder,
    city: StringBuilder,
    country: StringBuilder,
    present: Vec<bool>,
}

impl Addresses {
    fn append(&mut self, random: &mut Random) {
        let known = random.percent(92);
        let (city, country) = CITIES[random.below(CITIES.len() as u64) as usize];
        let street = format!("{} {}", random.pick(STREETS), random.below(200) + 1);
        self.present.push(known);
        self.street.append_option((known && random.percent(97)).then_some(street));
        self.city.append_option(known.then_some(city));
        self.country.append_option(known.then_some(country));
    }

    fn finish(mut self) -> ArrayRef {
        let mut nulls = NullBufferBuilder::new(self.present.len());
        nulls.append_slice(&self.present);
        let columns: Vec<ArrayRef> =
            vec![Arc::new(self.street.finish()), Arc::new(self.city.finish()), Arc::new(self.country.finish())];
        Arc::new(StructArray::new(address_fields(), columns, nulls.finish()))
    }
}
