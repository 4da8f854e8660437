//! What the inner parts of a load cost, without Postgres: decoding Parquet, encoding rows for COPY, hashing them.
//!
//! `cargo bench --bench inner [-- FILTER]` measures time. `inner count PART ROUNDS` does one part so many times, for a tool
//! that counts instructions; see scripts/check-instructions.sh.

// What goes wrong here is a fault of the benchmark.
#![allow(clippy::expect_used, clippy::panic)]

mod sample;

use std::hint::black_box;

use divan::Bencher;
use divan::counter::ItemsCount;
use lakegate::domain::Result;
use lakegate::encode::{Coverage, FailOnBadRow, RowEncoder, RowHasher};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use sample::Table;

/// Rows for COPY.
fn encoded(table: &Table, rounds: usize) -> Result<()> {
    let mut encoder = RowEncoder::new(&table.mapping);
    let mut sink = |chunk| {
        black_box(chunk);
        Ok(())
    };
    for _ in 0..rounds {
        encoder.encode(&table.mapping.prepare(&table.batch)?, &mut FailOnBadRow, &mut sink)?;
    }
    encoder.finish(&mut sink)
}

/// Hashes of all rows.
fn hashed(table: &Table, rounds: usize) -> Result<()> {
    hash(table, Coverage::Full, rounds)
}

/// Hashes of a sample of the rows.
fn sampled(table: &Table, rounds: usize) -> Result<()> {
    hash(table, Coverage::sample_of_run(1), rounds)
}

fn hash(table: &Table, coverage: Coverage, rounds: usize) -> Result<()> {
    let mut hasher = RowHasher::new(&table.mapping, coverage);
    for _ in 0..rounds {
        hasher.update(&table.mapping.prepare(&table.batch)?, &[])?;
    }
    black_box(hasher.finish());
    Ok(())
}

fn measure(bencher: Bencher, table: &str, work: fn(&Table, usize) -> Result<()>) {
    let table = Table::named(table);
    let rows = ItemsCount::new(table.batch.num_rows());
    bencher.counter(rows).bench_local(|| work(&table, 1).expect("rows without a fault"));
}

#[divan::bench(args = Table::NAMES)]
fn encode(bencher: Bencher, table: &str) {
    measure(bencher, table, encoded);
}

#[divan::bench(args = Table::NAMES)]
fn hash_all(bencher: Bencher, table: &str) {
    measure(bencher, table, hashed);
}

#[divan::bench(args = Table::NAMES)]
fn hash_sample(bencher: Bencher, table: &str) {
    measure(bencher, table, sampled);
}

#[divan::bench(args = Table::NAMES)]
fn decode(bencher: Bencher, table: &str) {
    let table = Table::named(table);
    let file = table.parquet();
    bencher.counter(ItemsCount::new(table.batch.num_rows())).bench_local(|| {
        let reader = ParquetRecordBatchReaderBuilder::try_new(file.clone()).expect("a file").build().expect("a reader");
        reader.for_each(|batch| _ = black_box(batch.expect("rows")));
    });
}

/// Does a part, as `encode int64`, so many times.
fn count(part: &str, rounds: &str) -> Option<()> {
    let (work, table) = part.split_once(' ')?;
    let work = match work {
        "encode" => encoded,
        "hash_all" => hashed,
        "hash_sample" => sampled,
        _ => return None,
    };
    work(&Table::named(table), rounds.parse().ok()?).ok()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [command, part, rounds] if command == "count" => count(part, rounds).expect("a part and a number of rounds"),
        _ => divan::main(),
    }
}
