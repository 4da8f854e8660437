//! Refreshes in place of Delta tables whose writers keep track of rows: copies of rows are told by their identity. The
//! log is written by hand, after section "Row Tracking" of the Delta protocol.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use serde_json::{Value, json};

use crate::incremental::Table;
use crate::support::delta_log::DeltaLog;
use crate::support::lake::LakeTable;

/// A row as a writer copies it: its number, name, id and version; without them they follow from the file.
type Row<'a> = (i64, &'a str, Option<i64>, Option<i64>);

/// A table of a hundred rows in one file, version 1, whose rows are tracked from the beginning.
async fn tracked() -> Table {
    let table = Table::with(100, &[], "").await;
    table.log.amend(0, |action| {
        if !action["protocol"].is_null() {
            let features = json!(["appendOnly", "invariants", "rowTracking", "domainMetadata"]);
            action["protocol"] = json!({"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": features});
        }
        if !action["metaData"].is_null() {
            action["metaData"]["configuration"] = json!({
                "delta.enableRowTracking": "true",
                "delta.rowTracking.materializedRowIdColumnName": "_row-id",
                "delta.rowTracking.materializedRowCommitVersionColumnName": "_row-version",
            });
        }
    });
    table.log.amend(1, |action| {
        if !action["add"].is_null() {
            (action["add"]["baseRowId"], action["add"]["defaultRowCommitVersion"]) = (json!(0), json!(1));
        }
    });
    load_anew(&table).await;
    table
}

/// The history that was loaded is another one than the log tells now.
async fn load_anew(table: &Table) {
    table.project.run(&["sync", "items", "--full"]).await.ok();
}

fn removed(mut add: Value) -> Value {
    add["deletionTimestamp"] = json!(1_700_000_000_000_i64);
    add["extendedFileMetadata"] = json!(true);
    json!({"remove": add})
}

/// In one commit, removes all files and adds one of these rows, whose first id is given.
fn rewrite(log: &DeltaLog, rows: &[Row<'_>], first_id: i64) {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0)));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1)));
    let row_ids: ArrayRef = Arc::new(rows.iter().map(|row| row.2).collect::<Int64Array>());
    let versions: ArrayRef = Arc::new(rows.iter().map(|row| row.3).collect::<Int64Array>());
    let columns = [("id", ids), ("name", names), ("_row-id", row_ids), ("_row-version", versions)];
    let mut add = log.write(&RecordBatch::try_from_iter(columns).unwrap());
    (add["baseRowId"], add["defaultRowCommitVersion"]) = (json!(first_id), json!(log.version() + 1));
    let mut actions: Vec<Value> = log.files().into_values().map(removed).collect();
    actions.push(json!({"add": add}));
    log.commit(&actions);
}

/// The hundred rows as copies, some of which are changed or left out.
fn copies<'a>(names: &'a [String], changed: &[i64], gone: &[i64]) -> Vec<Row<'a>> {
    let rows = (0..100).filter(|id| !gone.contains(id));
    let copy = |id| (id, names[id as usize].as_str(), Some(id), Some(1));
    rows.map(|id| if changed.contains(&id) { (id, "changed", Some(id), None) } else { copy(id) }).collect()
}

fn names() -> Vec<String> {
    (0..100).map(|id| format!("row {id}")).collect()
}

#[tokio::test]
async fn of_rewritten_files_only_rows_of_another_identity_are_read() {
    let table = tracked().await;
    let names = names();
    rewrite(&table.log, &copies(&names, &[3, 50, 99], &[7]), 100);
    let outcome = table.expect("merge", [0, 3, 1]).await;
    assert_eq!((&outcome["rows_read"], &outcome["rows_unchanged"]), (&json!(7), &json!(96)), "{outcome}");
    // From a file that holds identities to another, with a new row.
    let mut rows = copies(&names, &[3, 50, 99], &[7, 8]);
    rows.iter_mut().filter(|row| row.1 == "changed").for_each(|row| row.3 = Some(2));
    rows.push((100, "new", None, None));
    rewrite(&table.log, &rows, 200);
    let outcome = table.expect("merge", [1, 0, 1]).await;
    assert_eq!((&outcome["rows_read"], &outcome["rows_unchanged"]), (&json!(2), &json!(98)), "{outcome}");
}

#[tokio::test]
async fn an_earlier_state_that_is_brought_back_is_told_by_versions() {
    let table = tracked().await;
    let before = table.log.files();
    rewrite(&table.log, &copies(&names(), &[3, 50, 99], &[7]), 100);
    table.expect("merge", [0, 3, 1]).await;
    let mut actions: Vec<Value> = table.log.files().into_values().map(removed).collect();
    actions.extend(before.into_values().map(|add| json!({"add": add})));
    table.log.commit(&actions);
    let outcome = table.expect("merge", [1, 3, 0]).await;
    assert_eq!(outcome["rows_unchanged"], 96, "{outcome}");
}

#[tokio::test]
async fn rows_that_were_changed_to_what_they_were_are_no_change() {
    let table = tracked().await;
    let names = names();
    let mut rows = copies(&names, &[], &[]);
    rows.iter_mut().for_each(|row| row.3 = None);
    rewrite(&table.log, &rows, 100);
    let outcome = table.expect("noop", [0, 0, 0]).await;
    assert_eq!((&outcome["rows_read"], &outcome["rows_unchanged"]), (&json!(200), &json!(100)), "{outcome}");
}

#[tokio::test]
async fn identities_that_are_not_unique_are_not_relied_on() {
    let table = tracked().await;
    let names = names();
    let mut rows = copies(&names, &[3], &[]);
    rows.iter_mut().for_each(|row| (row.2, row.3) = (Some(0), Some(1)));
    rewrite(&table.log, &rows, 100);
    let outcome = table.expect("merge", [0, 1, 0]).await;
    assert_eq!(outcome["rows_read"], 200, "{outcome}");
}

#[tokio::test]
async fn a_log_that_does_not_say_the_ids_of_a_removed_file_is_followed_by_values() {
    let table = tracked().await;
    rewrite(&table.log, &copies(&names(), &[3], &[]), 100);
    table.log.amend(2, |action| {
        if let Some(removed) = action["remove"].as_object_mut() {
            removed.remove("baseRowId");
        }
    });
    let outcome = table.expect("merge", [0, 1, 0]).await;
    assert_eq!(outcome["rows_read"], 200, "{outcome}");
}

#[tokio::test]
async fn identities_are_not_relied_on_across_a_change_of_the_tables_properties() {
    let table = tracked().await;
    rewrite(&table.log, &copies(&names(), &[3], &[]), 100);
    let metadata = table.log.actions(0).into_iter().find(|action| !action["metaData"].is_null());
    let mut actions = table.log.actions(2);
    actions.extend(metadata);
    table.log.replace(2, &actions);
    let outcome = table.expect("merge", [0, 1, 0]).await;
    assert_eq!(outcome["rows_read"], 200, "{outcome}");
}

#[tokio::test]
async fn rows_of_several_row_groups_and_files_are_counted_up_from_the_files_first() {
    let mut table = Table::with(5_000, &[], "").await;
    table.lake.append(vec![LakeTable::numbered(5_000..5_010).1]).await;
    table.sync().await;
    table.log.amend(0, |action| {
        if !action["metaData"].is_null() {
            action["metaData"]["configuration"] = json!({
                "delta.enableRowTracking": "true",
                "delta.rowTracking.materializedRowIdColumnName": "_row-id",
                "delta.rowTracking.materializedRowCommitVersionColumnName": "_row-version",
            });
        }
    });
    for (version, first) in [(1, 0), (2, 5_000)] {
        table.log.amend(version, |action| {
            if !action["add"].is_null() {
                (action["add"]["baseRowId"], action["add"]["defaultRowCommitVersion"]) = (json!(first), json!(version));
            }
        });
    }
    load_anew(&table).await;
    let names: Vec<String> = (0..5_010).map(|id| format!("row {id}")).collect();
    let mut rows: Vec<Row<'_>> = (0..5_010)
        .map(|id| (id, names[id as usize].as_str(), Some(id), Some(if id < 5_000 { 1 } else { 2 })))
        .collect();
    (rows[4_321].1, rows[4_321].3) = ("changed", None);
    (rows[5_005].1, rows[5_005].3) = ("changed", None);
    rewrite(&table.log, &rows, 5_010);
    let outcome = table.expect("merge", [0, 2, 0]).await;
    assert_eq!((&outcome["rows_read"], &outcome["rows_unchanged"]), (&json!(4), &json!(5_008)), "{outcome}");
}
