//! Faults of an encoder, planted into its output: the row hash sees each of them.

use std::collections::BTreeMap;

use lakegate::encode::Coverage;
use lakegate::postgres::Session;

use super::{copy, create, encode, fixed_sample, hash, verify};
use crate::support::postgres::TestDatabase;

/// The fields of encoded rows, `None` for null.
type Rows = Vec<Vec<Option<Vec<u8>>>>;

/// Takes encoded rows apart.
fn fields(bytes: &[u8]) -> Rows {
    fn split(bytes: &[u8], at: usize) -> (&[u8], &[u8]) {
        bytes.split_at(at)
    }
    let mut rest = bytes;
    let mut rows = Vec::new();
    while !rest.is_empty() {
        let (count, tail) = split(rest, 2);
        rest = tail;
        let mut row = Vec::new();
        for _ in 0..i16::from_be_bytes(count.try_into().unwrap()) {
            let (length, tail) = split(rest, 4);
            rest = tail;
            let Ok(length) = usize::try_from(i32::from_be_bytes(length.try_into().unwrap())) else {
                row.push(None);
                continue;
            };
            let (value, tail) = split(rest, length);
            rest = tail;
            row.push(Some(value.to_vec()));
        }
        rows.push(row);
    }
    rows
}

/// Puts rows together again.
fn rows(fields: &Rows) -> Vec<u8> {
    let mut bytes = Vec::new();
    for row in fields {
        bytes.extend((row.len() as i16).to_be_bytes());
        for field in row {
            match field {
                None => bytes.extend((-1_i32).to_be_bytes()),
                Some(value) => {
                    bytes.extend((value.len() as i32).to_be_bytes());
                    bytes.extend(value);
                }
            }
        }
    }
    bytes
}

/// Changes the first value of a column that a fault can change.
fn change(rows: &mut Rows, column: usize, fault: impl Fn(&mut Option<Vec<u8>>)) -> bool {
    rows.iter_mut().any(|row| {
        let before = row[column].clone();
        if before.is_some() {
            fault(&mut row[column]);
        }
        row[column] != before
    })
}

/// Everything that is done to one column by itself.
fn faults_of(column: usize, ty: &str, intact: &Rows) -> BTreeMap<&'static str, Rows> {
    let mut faults = BTreeMap::new();
    let mut plant = |name: &'static str, fault: &dyn Fn(&mut Option<Vec<u8>>)| {
        let mut rows = intact.clone();
        if change(&mut rows, column, fault) {
            faults.insert(name, rows);
        }
    };
    plant("null instead of a value", &|field| *field = None);
    plant("the lowest bit", &|field| {
        if let Some(last) = field.as_mut().and_then(|value| value.last_mut()) {
            *last ^= 1;
        }
    });
    plant("the highest bit", &|field| {
        if let Some(first) = field.as_mut().and_then(|value| value.first_mut()) {
            *first ^= 0x80;
        }
    });
    if ["smallint", "integer", "bigint", "real", "double precision", "timestamp", "timestamptz", "date"].contains(&ty) {
        plant("zero", &|field| field.as_mut().unwrap().fill(0));
        plant("bytes in the other order", &|field| field.as_mut().unwrap().reverse());
    }
    if ["bigint", "timestamp", "timestamptz"].contains(&ty) {
        plant("halves swapped", &|field| field.as_mut().unwrap().rotate_left(4));
        plant("no sign extension", &|field| {
            let value = field.as_mut().unwrap();
            if value[0] == 0xff {
                value[..4].fill(0);
            }
        });
    }
    if ty == "numeric" {
        plant("sign", &|field| {
            let value = field.as_mut().unwrap();
            if value[..2] != [0, 0] {
                value[4] ^= 0x40;
            }
        });
        plant("scale", &|field| field.as_mut().unwrap()[7] += 1);
        plant("weight", &|field| {
            let value = field.as_mut().unwrap();
            let weight = i16::from_be_bytes([value[2], value[3]]) + 1;
            if value[..2] != [0, 0] {
                value[2..4].copy_from_slice(&weight.to_be_bytes());
            }
        });
        plant("digit", &|field| {
            let value = field.as_mut().unwrap();
            if let Some(digit) = value.get_mut(9) {
                *digit ^= 2;
            }
        });
    }
    if ["real", "double precision"].contains(&ty) {
        plant("sign of zero", &|field| {
            let value = field.as_mut().unwrap();
            if value.iter().all(|byte| *byte == 0) {
                value[0] = 0x80;
            }
        });
    }
    if ty == "interval" {
        plant("a month as thirty days", &|field| {
            let value = field.as_mut().unwrap();
            let part = |at: usize| i32::from_be_bytes(value[at..at + 4].try_into().unwrap());
            if let Some(days) = part(8).checked_add(30) {
                let months = part(12).wrapping_sub(1);
                value[8..12].copy_from_slice(&days.to_be_bytes());
                value[12..].copy_from_slice(&months.to_be_bytes());
            }
        });
    }
    let mut shifted = intact.clone();
    let last = intact.len() - 1;
    for (at, row) in shifted.iter_mut().enumerate() {
        row[column].clone_from(&intact[if at == 0 { last } else { at - 1 }][column]);
    }
    if shifted != *intact {
        faults.insert("shifted by one row", shifted);
    }
    let mut swapped = intact.clone();
    if let Some(other) = (1..intact.len()).find(|&other| intact[other][column] != intact[0][column]) {
        swapped[0][column].clone_from(&intact[other][column]);
        swapped[other][column].clone_from(&intact[0][column]);
        faults.insert("two rows swapped", swapped);
    }
    faults
}

/// All that is in the table, as text.
async fn text(session: &Session) -> String {
    let statement = "SELECT string_agg(t::text, '|' ORDER BY t.ctid) FROM t";
    session.query_one(statement, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn no_planted_fault_escapes_the_hash() {
    let database = TestDatabase::new().await;
    let session = database.client().await;
    let sample = fixed_sample(24);
    let mapping = sample.mapping();
    let schema = &mapping.schema;
    create(&session, "t", schema).await;
    let intact = fields(&encode(&mapping, &sample.batch));
    let expected = hash(&mapping, &sample.batch, Coverage::Full);
    copy(&session, "t", rows(&intact)).await.unwrap();
    assert_eq!(verify(&session, "t", schema, Coverage::Full).await, Ok(expected));
    let intact_text = text(&session).await;

    let mut planted: Vec<(String, Rows)> = Vec::new();
    // The key's column is never null, and its lowest bit would be another key.
    for (index, column) in schema.columns.iter().enumerate().skip(1) {
        for (fault, rows) in faults_of(index, &column.ty.sql_name(), &intact) {
            planted.push((format!("{}: {fault}", column.name), rows));
        }
        let twin = (1..index).find(|&other| schema.columns[other].ty.sql_name() == column.ty.sql_name());
        if let Some(twin) = twin {
            let mut rows = intact.clone();
            rows.iter_mut().for_each(|row| row.swap(twin, index));
            planted.push((format!("{}: in place of {}", column.name, schema.columns[twin].name), rows));
        }
    }
    planted.push(("a row too few".to_owned(), intact[1..].to_vec()));
    planted.push(("a row twice".to_owned(), [&intact[..], &intact[..1]].concat()));
    let mut replaced = intact.clone();
    replaced[1] = intact[0].clone();
    planted.push(("a row in place of another".to_owned(), replaced));

    let mut stored = 0;
    for (fault, planted) in &planted {
        session.batch_execute("TRUNCATE t").await.unwrap();
        // What Postgres itself refuses cannot arrive; and a boolean of 0x81, or another NaN, is the same value.
        if copy(&session, "t", rows(planted)).await.is_ok() && text(&session).await != intact_text {
            stored += 1;
            let found = verify(&session, "t", schema, Coverage::Full).await;
            assert_ne!(found, Ok(expected), "{fault}");
        }
    }
    assert!(stored > 300, "only {stored} of {} faults got into the table", planted.len());
}
