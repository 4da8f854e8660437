//! Real Delta tables by Spark, Databricks and others, where the environment says they are.
//!
//! Every table below the folder `LAKEGATE_TEST_LAKE_TABLES` is read in full. Rows are compared with the table's
//! `expected` folder where it has one, and with the kernel's own serial reader wherever that reads the table.

use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{Fields, Schema};
use delta_kernel::Snapshot;
use delta_kernel::engine::arrow_data::EngineDataArrowExt;
use delta_kernel_engine::DefaultEngineBuilder;
use lakegate::domain::{Code, Result};
use lakegate::source::Source;

use crate::support::lake_tables;
use crate::support::rows::{self, RowCounts, difference, local_delta, read};

#[tokio::test(flavor = "multi_thread")]
async fn every_real_table_is_read_rightly_or_refused_clearly() {
    let Some(tables) = lake_tables::find() else { return };
    let (mut read_count, mut expected_count, mut kernel_count, mut refused, mut without_data) = (0, 0, 0, 0, 0);
    let mut problems = Vec::new();
    for table in &tables {
        let name = &table.name;
        let result = read(&local_delta(&table.path)).await;
        if table.is_without_data() {
            without_data += 1;
            match result {
                Err(error) if error.code() == Code::FileGone => {}
                other => problems.push(format!("{name}: has no data but gave {:?}", other.map(|_| ()))),
            }
            continue;
        }
        match (result, table.refusal()) {
            (Err(error), Some(code)) if error.code() == code => {
                println!("refused {name}: {error}");
                refused += 1;
            }
            (Err(error), _) => problems.push(format!("{name}: {error}")),
            (Ok(_), Some(code)) => problems.push(format!("{name}: read, but should be refused with {code}")),
            (Ok((source, batches)), None) => {
                read_count += 1;
                let schema = rows::bare(source.schema());
                let actual = rows::count(&batches, &schema);
                if let Some(expected) = table.expected() {
                    let unknown = table.unknown_columns();
                    let known = schema.fields().iter().filter(|field| !unknown.contains(&field.name().as_str()));
                    let known = Arc::new(Schema::new(known.cloned().collect::<Fields>()));
                    let expected = rows::count(&expected, &known);
                    match compare(&rows::count(&batches, &known), &expected) {
                        Ok(()) => expected_count += 1,
                        Err(why) => problems.push(format!("{name}: not as expected: {why}")),
                    }
                }
                match kernel_rows(&table.path, &source) {
                    Ok(batches) => match compare(&actual, &rows::count(&batches, &schema)) {
                        Ok(()) => kernel_count += 1,
                        Err(why) => problems.push(format!("{name}: not as the kernel reads it: {why}")),
                    },
                    Err(why) => println!("the kernel's own reader fails on {name}: {why}"),
                }
            }
        }
    }
    println!(
        "{} tables: {read_count} read, of them {expected_count} equal to the expected rows and {kernel_count} equal to \
         the kernel's own reader; {refused} refused; {without_data} without data",
        tables.len()
    );
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

fn compare(actual: &RowCounts, expected: &RowCounts) -> Result<(), String> {
    if actual == expected { Ok(()) } else { Err(difference(actual, expected)) }
}

/// The table as the kernel's serial reader sees it.
fn kernel_rows(table: &Path, source: &Source) -> delta_kernel::DeltaResult<Vec<RecordBatch>> {
    let url = url::Url::from_directory_path(table).unwrap();
    let store = Arc::new(object_store::local::LocalFileSystem::new());
    let engine = Arc::new(DefaultEngineBuilder::new(store).build());
    let snapshot = Snapshot::builder_for(url).build(engine.as_ref())?;
    assert_eq!(source.version().version, snapshot.version().to_string());
    let scan = snapshot.scan_builder().build()?;
    scan.execute(engine)?.map(|batch| batch?.try_into_record_batch()).collect()
}
