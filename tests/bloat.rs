//! What many small merges leave of a table: its size, its indexes, the catalogs, and the time of a lookup. Each merge
//! changes rows spread over the whole table: one in a thousand is updated, and a quarter as many removed and added.
//!
//! `LAKEGATE_TEST_BLOAT_MERGES` says how many (20 unless set), `LAKEGATE_TEST_BLOAT_ROWS` how many rows (4,000 unless set),
//! `LAKEGATE_TEST_BLOAT_SETTINGS` which storage parameters generations get besides their own, `LAKEGATE_TEST_BINARY` which
//! binary does it; `scripts/measure-bloat.sh` sets them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use lakegate::postgres::{Purpose, Session};
use serde_json::{Value, json};

use crate::support::delta_log::DeltaLog;
use crate::support::lake::LakeTable;
use crate::support::measure::number;
use crate::support::postgres::TestCluster;
use crate::support::project::ProjectFolder;

/// Files of the table; each merge rewrites one of them, whose rows are spread over all keys.
const FILES: i64 = 200;
/// Merges after which there is a look at the table.
const LOOKS: [i64; 5] = [10, 20, 100, 300, 1_000];
const LOOKUPS: i64 = 20_000;

/// How often each row has been written, by its key.
type File = BTreeMap<i64, i64>;

struct Table {
    log: DeltaLog,
    files: Vec<File>,
    /// What the log says of each file.
    added: Vec<Value>,
    /// The next free key, without its rest by [`FILES`].
    next: i64,
}

fn batch(rows: &[(i64, i64)], changes: Option<&[&str]>) -> RecordBatch {
    let longs = |values: &mut dyn Iterator<Item = i64>| -> ArrayRef { Arc::new(values.collect::<Int64Array>()) };
    let names = rows.iter().map(|(id, written)| format!("the name of row {id} as written for the {written}. time"));
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("id", longs(&mut rows.iter().map(|(id, _)| *id))),
        ("name", Arc::new(names.map(Some).collect::<StringArray>())),
        ("written", longs(&mut rows.iter().map(|(_, written)| *written))),
        ("quantity", longs(&mut rows.iter().map(|(id, written)| id % 50 + written))),
    ];
    if let Some(changes) = changes {
        columns.push(("_change_type", Arc::new(StringArray::from(changes.to_vec()))));
    }
    RecordBatch::try_from_iter(columns).unwrap()
}

fn listed(file: &File) -> Vec<(i64, i64)> {
    file.iter().map(|(id, written)| (*id, *written)).collect()
}

fn removed(add: &Value) -> Value {
    json!({"remove": {"path": add["path"], "deletionTimestamp": 1_700_000_000_000_i64, "dataChange": add["dataChange"],
        "extendedFileMetadata": true, "partitionValues": {}, "size": add["size"]}})
}

impl Table {
    /// All rows in one file, in the order of their keys.
    async fn create(project: &ProjectFolder, rows: i64) -> Table {
        let dir = project.path("lake/items");
        let feed = [("delta.enableChangeDataFeed", "true")];
        LakeTable::create_with(&dir, &batch(&[], None).schema(), Vec::new(), &[], &feed).await;
        let log = DeltaLog::of(&dir);
        let all: Vec<(i64, i64)> = (0..rows).map(|id| (id, 1)).collect();
        let whole = log.write(&batch(&all, None));
        log.commit(&[json!({"add": whole})]);
        let files = (0..FILES).map(|rest| all.iter().copied().filter(|(id, _)| id % FILES == rest).collect());
        Table { log, files: files.collect(), added: vec![whole], next: rows / FILES + 1 }
    }

    /// Puts the rows into the files that merges rewrite. No row changes.
    fn spread(&mut self) {
        let mut old = std::mem::take(&mut self.added);
        old.iter_mut().for_each(|add| add["dataChange"] = json!(false));
        let mut actions: Vec<Value> = old.iter().map(removed).collect();
        for file in &self.files {
            let mut add = self.log.write(&batch(&listed(file), None));
            add["dataChange"] = json!(false);
            actions.push(json!({"add": add}));
            self.added.push(add);
        }
        self.log.commit(&actions);
    }

    /// One commit with a change feed.
    fn merge(&mut self, number: i64) {
        let rest = number % FILES;
        let file = &mut self.files[rest as usize];
        let ids: Vec<i64> = file.keys().copied().collect();
        let (mut rows, mut kinds) = (Vec::new(), Vec::new());
        // A fifth is updated, a twentieth removed; others each time that this file is rewritten.
        let turn = number / FILES;
        for (position, id) in (turn..).zip(ids) {
            let written = file[&id];
            if position % 5 == 0 {
                rows.extend([(id, written), (id, written + 1)]);
                kinds.extend(["update_preimage", "update_postimage"]);
                file.insert(id, written + 1);
            } else if position % 20 == 1 {
                rows.push((id, written));
                kinds.push("delete");
                file.remove(&id);
            }
        }
        for _ in 0..kinds.iter().filter(|kind| **kind == "delete").count() {
            let id = self.next * FILES + rest;
            self.next += 1;
            rows.push((id, 1));
            kinds.push("insert");
            file.insert(id, 1);
        }
        let mut old = self.added[rest as usize].clone();
        old["dataChange"] = json!(true);
        let add = self.log.write(&batch(&listed(file), None));
        let changes = self.log.change_file(&batch(&rows, Some(&kinds)));
        self.log.commit(&[json!({"cdc": changes}), removed(&old), json!({"add": add})]);
        self.added[rest as usize] = add;
    }
}

/// Gives every generation these storage parameters as soon as it is made.
async fn set_parameters(session: &Session, parameters: &str) {
    let sql = format!(
        "CREATE FUNCTION public.parameters() RETURNS event_trigger LANGUAGE plpgsql AS $$ DECLARE made record; BEGIN \
             FOR made IN SELECT object_identity FROM pg_event_trigger_ddl_commands() \
                 WHERE object_type = 'table' AND schema_name = 'lakegate_data' LOOP \
                 EXECUTE format('ALTER TABLE %s SET ({parameters})', made.object_identity); \
             END LOOP; END $$; \
         CREATE EVENT TRIGGER parameters ON ddl_command_end WHEN TAG IN ('CREATE TABLE') \
             EXECUTE FUNCTION public.parameters()"
    );
    session.batch_execute(&sql).await.unwrap();
}

/// Bytes of the table, its indexes, the system catalogs and the control schema.
type Sizes = [i64; 4];

async fn look(session: &Session, rows: i64, merges: i64) -> Sizes {
    let sql = "SELECT pg_relation_size(t.oid), pg_indexes_size(t.oid), \
             (SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace \
                 AND relkind = 'r')::bigint, \
             (SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relnamespace = 'lakegate'::regnamespace \
                 AND relkind = 'r')::bigint, \
             s.n_dead_tup, s.n_tup_upd, s.n_tup_hot_upd, s.autovacuum_count, s.autoanalyze_count \
         FROM pg_class t JOIN pg_stat_user_tables s ON s.relid = t.oid \
         WHERE t.relnamespace = 'lakegate_data'::regnamespace AND t.relkind = 'r'";
    let found = session.query_one(sql, &[]).await.unwrap();
    let sizes: Sizes = std::array::from_fn(|at| found.get(at));
    let counts: [i64; 5] = std::array::from_fn(|at| found.get(at + 4));
    session
        .batch_execute("SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off")
        .await
        .unwrap();
    let lookups = format!(
        "SELECT count(t.name) FROM generate_series(1, {LOOKUPS}) n, \
         LATERAL (SELECT name FROM lake.items WHERE id = n * 7919 % {rows} OFFSET 0) t"
    );
    let mut micros = Vec::new();
    for _ in 0..3 {
        let begun = Instant::now();
        session.query_one(&lookups, &[]).await.unwrap();
        micros.push(begun.elapsed().as_secs_f64() * 1e6 / LOOKUPS as f64);
    }
    let fastest = micros.into_iter().fold(f64::INFINITY, f64::min);
    let [table, indexes, catalogs, control] = sizes.map(|bytes| bytes / 1024);
    let [dead, updated, hot, vacuums, analyzes] = counts;
    println!(
        "{merges} merges: table {table} KiB, indexes {indexes} KiB, catalogs {catalogs} KiB, control schema {control} KiB, \
         dead rows {dead}, hot {hot} of {updated} updates, vacuums {vacuums}, analyzes {analyzes}, lookup {fastest:.2} µs"
    );
    sizes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_merged_into_again_and_again_stays_about_as_large() {
    let (rows, merges) = (number("LAKEGATE_TEST_BLOAT_ROWS", 4_000), number("LAKEGATE_TEST_BLOAT_MERGES", 20));
    // As many merges between two looks of autovacuum as there are where one comes each second.
    let start = || TestCluster::start("bloat", &[("autovacuum_naptime", "6s")], |_| {});
    let cluster = tokio::task::spawn_blocking(start).await.unwrap();
    let session = cluster.connector("postgres").connect(Purpose::Control, "tests").await.unwrap();
    if let Ok(parameters) = std::env::var("LAKEGATE_TEST_BLOAT_SETTINGS") {
        set_parameters(&session, &parameters).await;
    }
    let mut project = ProjectFolder::new();
    project.set("LAKEGATE_POSTGRES", &cluster.url("postgres"));
    project.pipeline("items", "source: lake/items\nprimary_key: [id]\nmode: incremental\n");
    let mut table = Table::create(&project, rows).await;
    project.sync("items").await;
    table.spread();
    assert_eq!(project.sync("items").await["mode"], "noop");
    let before = look(&session, rows, 0).await;
    let mut now = before;
    for merge in 1..=merges {
        table.merge(merge);
        let outcome = project.sync("items").await;
        assert_eq!(outcome["mode"], "merge", "{outcome}");
        if LOOKS.contains(&merge) {
            now = look(&session, rows, merge).await;
        }
    }
    project.run(&["verify", "items"]).await.ok();
    for (what, (now, before)) in ["table", "indexes", "catalogs"].iter().zip(now.iter().zip(before)) {
        assert!(*now <= before * 2 + 1_000_000, "the {what}: {now} bytes after {before}");
    }
}
