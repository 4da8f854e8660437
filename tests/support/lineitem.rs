//! Rows like those of TPC-H's `lineitem`: its 16 columns with the types, ranges and widths of dbgen, any number of
//! them, and each the same on every machine.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Date32Array, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringArray};

use super::lake::LakeTable;

/// Rows of one data file of the table.
const FILE_ROWS: u64 = 250_000;
/// Rows of one batch.
const BATCH_ROWS: u64 = 25_000;
/// Orders have 1 to 7 lines in turn.
const LINES_OF_SEVEN_ORDERS: u64 = 28;
/// 1992-01-01 in days since 1970.
const FIRST_DAY: u64 = 8_035;
/// 1995-06-17, dbgen's "today".
const CURRENT_DAY: u64 = 9_298;
const INSTRUCTIONS: [&str; 4] = ["DELIVER IN PERSON", "COLLECT COD", "NONE", "TAKE BACK RETURN"];
const MODES: [&str; 7] = ["REG AIR", "AIR", "RAIL", "SHIP", "TRUCK", "MAIL", "FOB"];
const WORDS: [&str; 16] = [
    "packages",
    "furiously",
    "deposits",
    "ironic",
    "sleep",
    "carefully",
    "final",
    "requests",
    "blithely",
    "regular",
    "accounts",
    "quickly",
    "pending",
    "foxes",
    "above",
    "the",
];

struct Line {
    order: i64,
    part: i64,
    supplier: i64,
    number: i32,
    quantity: i128,
    price: i128,
    discount: i128,
    tax: i128,
    return_flag: &'static str,
    status: &'static str,
    shipped: i32,
    committed: i32,
    received: i32,
    instruction: &'static str,
    mode: &'static str,
    comment: String,
}

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn pick(&mut self, choices: &[&'static str]) -> &'static str {
        choices[self.below(choices.len() as u64) as usize]
    }
}

impl Line {
    fn new(row: u64) -> Line {
        let (mut order, mut number) = (row / LINES_OF_SEVEN_ORDERS * 7, row % LINES_OF_SEVEN_ORDERS);
        let mut lines = 1;
        while number >= lines {
            number -= lines;
            lines += 1;
            order += 1;
        }
        let mut order_random = Random(order);
        let ordered = FIRST_DAY + order_random.below(2_405);
        let mut random = Random(row ^ 0x5EED_0000_0000_0000);
        let part = 1 + random.below(200_000);
        let quantity = 1 + random.below(50);
        let retail_cents = 90_000 + part / 10 % 20_001 + 100 * (part % 1_000);
        let shipped = ordered + 1 + random.below(121);
        let received = shipped + 1 + random.below(30);
        let length = 10 + random.below(34) as usize;
        let mut comment = String::new();
        while comment.len() < length {
            comment.push_str(random.pick(&WORDS));
            comment.push(' ');
        }
        comment.truncate(length);
        Line {
            // dbgen uses the first 8 of every 32 numbers.
            order: (order / 8 * 32 + order % 8 + 1) as i64,
            part: part as i64,
            supplier: 1 + random.below(10_000) as i64,
            number: number as i32 + 1,
            quantity: i128::from(quantity * 100),
            price: i128::from(quantity * retail_cents),
            discount: i128::from(random.below(11)),
            tax: i128::from(random.below(9)),
            return_flag: if received <= CURRENT_DAY { random.pick(&["R", "A"]) } else { "N" },
            status: if shipped > CURRENT_DAY { "O" } else { "F" },
            shipped: shipped as i32,
            committed: (ordered + 30 + random.below(61)) as i32,
            received: received as i32,
            instruction: random.pick(&INSTRUCTIONS),
            mode: random.pick(&MODES),
            comment,
        }
    }
}

/// These rows, numbered from 0. The key is `l_orderkey, l_linenumber`.
pub(crate) fn rows(rows: Range<u64>) -> RecordBatch {
    let lines: Vec<Line> = rows.map(Line::new).collect();
    let long =
        |value: fn(&Line) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(lines.iter().map(value))) };
    let day =
        |value: fn(&Line) -> i32| -> ArrayRef { Arc::new(Date32Array::from_iter_values(lines.iter().map(value))) };
    let text =
        |value: fn(&Line) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(lines.iter().map(value))) };
    let decimal = |value: fn(&Line) -> i128| -> ArrayRef {
        let values = Decimal128Array::from_iter_values(lines.iter().map(value));
        Arc::new(values.with_precision_and_scale(15, 2).unwrap())
    };
    let numbers: ArrayRef = Arc::new(Int32Array::from_iter_values(lines.iter().map(|line| line.number)));
    RecordBatch::try_from_iter([
        ("l_orderkey", long(|line| line.order)),
        ("l_partkey", long(|line| line.part)),
        ("l_suppkey", long(|line| line.supplier)),
        ("l_linenumber", numbers),
        ("l_quantity", decimal(|line| line.quantity)),
        ("l_extendedprice", decimal(|line| line.price)),
        ("l_discount", decimal(|line| line.discount)),
        ("l_tax", decimal(|line| line.tax)),
        ("l_returnflag", text(|line| line.return_flag)),
        ("l_linestatus", text(|line| line.status)),
        ("l_shipdate", day(|line| line.shipped)),
        ("l_commitdate", day(|line| line.committed)),
        ("l_receiptdate", day(|line| line.received)),
        ("l_shipinstruct", text(|line| line.instruction)),
        ("l_shipmode", text(|line| line.mode)),
        ("l_comment", text(|line| &line.comment)),
    ])
    .unwrap()
}

/// Which rows an order has, by its number: none if the number is not used.
pub(crate) fn rows_of(order: i64) -> Range<u64> {
    let (block, place) = ((order as u64 - 1) / 32, (order as u64 - 1) % 32);
    if place >= 8 {
        return 0..0;
    }
    let (sevens, of_seven) = ((block * 8 + place) / 7, (block * 8 + place) % 7);
    let start = sevens * LINES_OF_SEVEN_ORDERS + of_seven * (of_seven + 1) / 2;
    start..start + of_seven + 1
}

/// The first `count` rows, in batches.
pub(crate) fn batches(count: u64) -> impl Iterator<Item = RecordBatch> {
    batches_of(0..count)
}

/// These rows, in batches.
pub(crate) fn batches_of(range: Range<u64>) -> impl Iterator<Item = RecordBatch> {
    range.clone().step_by(BATCH_ROWS as usize).map(move |start| rows(start..(start + BATCH_ROWS).min(range.end)))
}

/// Writes the first `count` rows as a Delta table of several files.
pub(crate) async fn write(dir: &Path, count: u64) -> LakeTable {
    write_with(dir, count, &[]).await
}

/// The same, as a table with these properties.
pub(crate) async fn write_with(dir: &Path, count: u64, properties: &[(&str, &str)]) -> LakeTable {
    let file_rows = FILE_ROWS.min(count.div_ceil(4).max(1));
    let mut table = LakeTable::create_with(dir, &rows(0..0).schema(), Vec::new(), &[], properties).await;
    for start in (0..count).step_by(file_rows as usize) {
        table.append(batches_of(start..(start + file_rows).min(count)).collect()).await;
    }
    table
}
