//! `lakegate sample` writes real tables: they are opened again with other code than that which wrote them.

use std::fs;
use std::path::Path;

use datafusion::prelude::{ParquetReadOptions, SessionContext};
use deltalake::arrow::util::pretty::pretty_format_batches;
use deltalake::{DeltaTable, open_table};
use lakegate::domain::Code;
use lakegate::sample::{SampleOptions, SampleTable, write};
use url::Url;

const SMALL: SampleOptions = SampleOptions { customers: 50, seed: 7 };

async fn open(path: &Path) -> DeltaTable {
    open_table(Url::from_directory_path(path).unwrap()).await.unwrap()
}

/// All tables of a lake under their names, for queries.
async fn queryable(tables: &[SampleTable]) -> SessionContext {
    let context = SessionContext::new();
    for table in tables {
        if table.version.is_some() {
            let provider = open(&table.path).await.table_provider().await.unwrap();
            context.register_table(table.name, provider).unwrap();
        } else {
            let path = table.path.to_str().unwrap();
            context.register_parquet(table.name, path, ParquetReadOptions::default()).await.unwrap();
        }
    }
    context
}

/// A query's answer as a table of text.
async fn answer(context: &SessionContext, query: &str) -> String {
    let batches = context.sql(query).await.unwrap().collect().await.unwrap();
    pretty_format_batches(&batches).unwrap().to_string()
}

/// A query's answer where that is one number.
async fn number(context: &SessionContext, query: &str) -> u64 {
    let answer = answer(context, query).await;
    let cell = answer.lines().nth(3).unwrap().trim_matches(['|', ' ']);
    cell.parse().unwrap_or_else(|_| panic!("{query}: {answer}"))
}

#[tokio::test]
async fn every_table_holds_the_rows_and_the_version_it_reports() {
    let temp = tempfile::tempdir().unwrap();
    let tables = write(&temp.path().join("lake"), SMALL).await.unwrap();
    let context = queryable(&tables).await;

    let names: Vec<_> = tables.iter().map(|table| table.name).collect();
    assert_eq!(names, ["customers", "orders", "order_lines", "events"]);
    for table in &tables {
        assert_eq!(number(&context, &format!("SELECT count(*) FROM {}", table.name)).await, table.rows, "{table:?}");
        if table.version.is_some() {
            assert_eq!(open(&table.path).await.version(), table.version, "{table:?}");
        }
    }
}

#[tokio::test]
async fn the_smallest_lake_is_whole() {
    let temp = tempfile::tempdir().unwrap();
    let tables = write(&temp.path().join("lake"), SampleOptions { customers: 1, seed: 0 }).await.unwrap();
    let context = queryable(&tables).await;

    for table in &tables {
        assert_eq!(number(&context, &format!("SELECT count(*) FROM {}", table.name)).await, table.rows, "{table:?}");
    }
}

#[tokio::test]
async fn keys_are_unique_and_tables_agree_with_each_other() {
    let temp = tempfile::tempdir().unwrap();
    let tables = write(&temp.path().join("lake"), SMALL).await.unwrap();
    let context = queryable(&tables).await;

    for (table, key) in [
        ("customers", "customer_id"),
        ("orders", "order_id"),
        ("order_lines", "order_id, line_number"),
        ("events", "event_id"),
    ] {
        let query = format!("SELECT count(*) FROM (SELECT {key} FROM {table} GROUP BY {key} HAVING count(*) > 1)");
        assert_eq!(number(&context, &query).await, 0, "{table} has duplicate keys");
    }
    let unequal = "SELECT count(*) FROM orders o FULL JOIN \
                   (SELECT order_id, sum(amount) AS total FROM order_lines GROUP BY order_id) l \
                   ON o.order_id = l.order_id WHERE o.total IS DISTINCT FROM l.total";
    assert_eq!(number(&context, unequal).await, 0, "orders whose total is not the sum of their lines");
}

#[tokio::test]
async fn orders_have_a_history_of_every_kind_of_change() {
    let temp = tempfile::tempdir().unwrap();
    let tables = write(&temp.path().join("lake"), SMALL).await.unwrap();
    let orders = open(&tables[1].path).await;

    let snapshot = orders.snapshot().unwrap();
    assert_eq!(snapshot.metadata().partition_columns(), &["month"]);
    let mut operations = Vec::new();
    for version in 0..=orders.version().unwrap() {
        let commit = fs::read_to_string(tables[1].path.join(format!("_delta_log/{version:020}.json"))).unwrap();
        let info = commit
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .find_map(|action| action.get("commitInfo").cloned())
            .unwrap();
        operations.push(info["operation"].as_str().unwrap().to_owned());
    }
    assert_eq!(operations, ["WRITE", "WRITE", "WRITE", "UPDATE", "DELETE", "MERGE"]);
}

#[tokio::test]
async fn equal_seeds_give_equal_rows_and_others_do_not() {
    let temp = tempfile::tempdir().unwrap();
    let mut answers = Vec::new();
    for (folder, seed) in [("a", 7), ("b", 7), ("c", 8)] {
        let tables = write(&temp.path().join(folder), SampleOptions { seed, ..SMALL }).await.unwrap();
        let context = queryable(&tables).await;
        let mut rows = String::new();
        for (table, key) in
            [("customers", "1"), ("orders", "order_id"), ("order_lines", "order_id, line_number"), ("events", "1")]
        {
            rows += &answer(&context, &format!("SELECT * FROM {table} ORDER BY {key}")).await;
        }
        answers.push(rows);
    }
    assert_eq!(answers[0], answers[1]);
    assert_ne!(answers[0], answers[2]);
}

#[tokio::test]
async fn an_earlier_sample_is_replaced() {
    let temp = tempfile::tempdir().unwrap();
    write(temp.path(), SMALL).await.unwrap();
    let tables = write(temp.path(), SampleOptions { customers: 20, ..SMALL }).await.unwrap();

    let context = queryable(&tables).await;
    assert_eq!(number(&context, "SELECT count(*) FROM customers").await, 20);
}

#[tokio::test]
async fn a_folder_with_other_content_is_refused_and_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("mine.txt"), "keep").unwrap();

    let error = write(temp.path(), SMALL).await.unwrap_err();
    assert_eq!(error.code(), Code::WouldOverwrite);
    let entries: Vec<_> = fs::read_dir(temp.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(entries, ["mine.txt"]);
}

#[tokio::test]
async fn a_write_that_is_given_up_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("lake");
    {
        let mut writing = Box::pin(write(&dir, SMALL));
        // The first poll makes the folder and returns where the first file is written.
        assert!(futures::poll!(writing.as_mut()).is_pending());
        assert!(dir.exists());
    }
    assert!(!dir.exists());
}

#[tokio::test]
async fn a_number_of_customers_out_of_range_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    for customers in [0, 100_001] {
        let error = write(&temp.path().join("lake"), SampleOptions { customers, ..SMALL }).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidUsage);
    }
    assert!(!temp.path().join("lake").exists());
}
