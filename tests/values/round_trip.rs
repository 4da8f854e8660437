//! Random values of every type that Parquet holds, through the whole path.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{Field, Schema};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::write_parquet;
use crate::encode_round_trip::columns::{Kind, kinds, raw};
use crate::support::project::TestProject;
use crate::support::text_copy;

/// Kinds of columns that a Parquet file by Arrow's writer does not hold, or holds as numbers, bytes or text.
const NOT_IN_PARQUET: &[&str] = &[
    "decimal_negative_scale",
    "decimal_large_scale",
    "uuid",
    "date64",
    "time_s",
    "timestamp_s",
    "interval_parts",
    "json",
];

/// How many random tables are tried; more with `LAKEGATE_TEST_CASES`.
fn cases() -> u32 {
    std::env::var("LAKEGATE_TEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(3)
}

fn random_table(runner: &mut TestRunner, kinds: &[Kind], rows: usize) -> RecordBatch {
    let mut fields = vec![Field::new("id", arrow_schema::DataType::Int64, false)];
    let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(0..rows as i64))];
    for kind in kinds {
        let values = prop::collection::vec(prop::option::weighted(0.85, raw()), rows);
        let array = kind.array(&values.new_tree(runner).unwrap().current());
        fields.push(kind.field(array.data_type()));
        columns.push(array);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

#[tokio::test]
async fn random_values_of_every_type_arrive() {
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let kinds: Vec<Kind> = kinds().into_iter().filter(|kind| !NOT_IN_PARQUET.contains(&kind.name)).collect();
    let project = TestProject::new().await;
    let session = project.sql().await;
    for case in 0..cases() {
        let name = format!("random{case}");
        let parts: Vec<RecordBatch> = [150, 1, 40].map(|rows| random_table(&mut runner, &kinds, rows)).into();
        for (number, part) in parts.iter().enumerate() {
            write_parquet(&project.path(&format!("lake/{name}/part={number}/file.parquet")), part);
        }
        project.pipeline(&name, &format!("source: lake/{name}\nprimary_key: [part, id]\n"));
        let outcome = project.sync(&name).await;
        assert_eq!(outcome["coverage"], 1.0);
        assert_eq!(text_copy::compare(&session, &name, &parts, &["part"]).await, Ok(191));
    }
}
