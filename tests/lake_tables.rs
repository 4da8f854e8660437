//! Real Delta tables, where the environment says they are, through the whole path into Postgres.
//!
//! One project has a pipeline for every table; `lakegate sync` does the rest. What arrives is compared with the
//! table's expected rows by way of text, see [`crate::support::text_copy`].

use std::collections::BTreeMap;
use std::fmt::Write as _;

use lakegate::domain::Code;
use lakegate::postgres::{Session, quote};
use serde_json::Value;

use crate::support::lake_tables::{self, RealTable};
use crate::support::project::TestProject;
use crate::support::rows::{local_delta, read};
use crate::support::text_copy;

/// The name of the pipeline of the table with this place in the list: with its rows numbered, or under its own key.
fn name(index: usize, numbered: bool) -> String {
    if numbered { format!("t{index}") } else { format!("k{index}") }
}

/// Declares the pipeline of a table; without a key of its own, its rows are numbered.
fn declare(project: &TestProject, index: usize, table: &RealTable, key: Option<&str>) {
    let source = format!("source: {{delta: {{uri: '{}'}}}}\n", table.path.display());
    let rest = match key {
        Some(key) => format!("primary_key: [{}]\n", Value::from(key)),
        None => "primary_key: [lakegate_row]\n\
                 transform: SELECT row_number() OVER () AS lakegate_row, * FROM source\n"
            .to_owned(),
    };
    project.pipeline(&name(index, key.is_none()), &format!("{source}{rest}"));
}

/// Syncs pipelines, all if none is named, in one run of the command, which must end with this code: what it says of
/// each.
async fn sync(project: &TestProject, names: &[String], code: i32) -> BTreeMap<String, Value> {
    let mut arguments = vec!["sync", "--output", "json"];
    arguments.extend(names.iter().map(String::as_str));
    let ran = project.run(&arguments).await;
    assert_eq!(ran.code, Some(code), "{}\n{}", ran.stdout, ran.stderr);
    let outcomes = ran.json().into_iter();
    outcomes.map(|outcome| (outcome["pipeline"].as_str().unwrap().to_owned(), outcome)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_real_table_arrives_value_for_value_or_is_refused_clearly() {
    let Some(tables) = lake_tables::find() else { return };
    let project = TestProject::new().await;
    for (index, table) in tables.iter().enumerate() {
        declare(&project, index, table, None);
    }
    let outcomes = sync(&project, &[], 1).await;
    assert_eq!(outcomes.len(), tables.len());
    let session = project.sql().await;
    let (mut expected, mut read_again, mut refused, mut without_data) = (0, 0, 0, 0);
    let mut synced = Vec::new();
    let mut problems = String::new();
    for (index, table) in tables.iter().enumerate() {
        let outcome = &outcomes[&name(index, true)];
        let code = outcome["error"]["code"].as_str();
        match (code, table.refusal()) {
            (Some(code), Some(refusal)) if code == refusal.to_string() => refused += 1,
            (Some(code), None) if table.is_without_data() && code == Code::FileGone.to_string() => without_data += 1,
            (None, None) if !table.is_without_data() => {
                synced.push((index, table));
                let compared = if table.expected().is_some() { &mut expected } else { &mut read_again };
                match compare(&session, index, table).await {
                    Ok(()) => *compared += 1,
                    Err(why) => writeln!(problems, "{}: {why}", table.name).unwrap(),
                }
            }
            _ => writeln!(problems, "{}: {outcome}", table.name).unwrap(),
        }
    }
    println!(
        "{} tables: {} synced, of them {expected} equal to their expected rows and {read_again} without expected rows \
         equal to what the source yields; {refused} refused; {without_data} without data",
        tables.len(),
        synced.len()
    );
    assert!(problems.is_empty(), "{problems}");
    let keyed = sync_by_own_key(&project, &session, &synced).await;
    println!("{keyed} of them arrive under a key of their own, without a transform, just the same");
    assert!(keyed > 0);
}

/// Compares with the expected rows, else with those that the source yields.
async fn compare(session: &Session, index: usize, table: &RealTable) -> Result<(), String> {
    let mut without = table.unknown_columns();
    without.push("lakegate_row");
    let rows = match table.expected() {
        Some(rows) => rows,
        None => read(&local_delta(&table.path)).await.map_err(|error| error.to_string())?.1,
    };
    let count = text_copy::compare(session, &name(index, true), &rows, &without).await?;
    let expected: usize = rows.iter().map(|batch| batch.num_rows()).sum();
    if count == expected as i64 { Ok(()) } else { Err(format!("{count} rows, not {expected}")) }
}

/// Syncs each table that has a unique column once more, under that key and without a transform, and compares it with
/// what has arrived by way of one: how many there are.
async fn sync_by_own_key(project: &TestProject, session: &Session, tables: &[(usize, &RealTable)]) -> usize {
    let mut names = Vec::new();
    for (index, table) in tables {
        if let Some(key) = unique_column(session, &name(*index, true)).await {
            declare(project, *index, table, Some(&key));
            names.push((name(*index, true), name(*index, false)));
        }
    }
    let keyed: Vec<String> = names.iter().map(|(_, keyed)| keyed.clone()).collect();
    sync(project, &keyed, 0).await;
    for (numbered, keyed) in &names {
        let columns: Vec<String> = column_names(session, keyed, "").await.iter().map(|column| quote(column)).collect();
        let rows = |name: &str| format!("SELECT r::text FROM (SELECT {} FROM lake.{name}) r", columns.join(", "));
        let (a, b) = (rows(numbered), rows(keyed));
        let differing = format!("SELECT count(*) FROM (({a} EXCEPT ALL {b}) UNION ALL ({b} EXCEPT ALL {a})) d");
        let differing: i64 = session.query_one(&differing, &[]).await.unwrap().get(0);
        assert_eq!(differing, 0, "{keyed}");
    }
    names.len()
}

async fn column_names(session: &Session, view: &str, condition: &str) -> Vec<String> {
    let statement = format!(
        "SELECT attname::text FROM pg_attribute WHERE attrelid = format('lake.%I', $1::text)::regclass \
         AND attnum > 0 {condition} ORDER BY attnum"
    );
    session.query(&statement, &[&view]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// A column of a published table whose values are unique, never null, and may be a key.
async fn unique_column(session: &Session, view: &str) -> Option<String> {
    let may_be_key = "AND attname <> 'lakegate_row' \
                      AND atttypid::regtype::text IN ('bigint', 'integer', 'smallint', 'text', 'numeric', 'date')";
    for column in column_names(session, view, may_be_key).await {
        let quoted = quote(&column);
        let unique = format!("SELECT count(*) > 0 AND count(DISTINCT {quoted}) = count(*) FROM lake.{view}");
        if session.query_one(&unique, &[]).await.unwrap().get(0) {
            return Some(column);
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_table_ends_the_command_with_1_a_code_and_a_hint() {
    let Some(tables) = lake_tables::find() else { return };
    let project = TestProject::new().await;
    let mut broken = 0;
    for (index, table) in tables.iter().enumerate() {
        let Some(code) = table.refusal().or(table.is_without_data().then_some(Code::FileGone)) else { continue };
        declare(&project, index, table, None);
        let error = project.sync_fails(&name(index, true)).await;
        assert_eq!(error["code"], code.to_string(), "{}: {error}", table.name);
        assert!(error["hint"].is_string(), "{}: {error}", table.name);
        println!("{}: {code} {}", table.name, error["detail"]);
        broken += 1;
    }
    assert_eq!(broken, lake_tables::REFUSED.len() + lake_tables::WITHOUT_DATA.len());
}
