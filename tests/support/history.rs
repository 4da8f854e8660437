//! A Delta table with a random history of commits: appends, updates, deletes, merges, overwrites, restores, rows marked as
//! deleted, files put together, columns added.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, SeedableRng as _};

use super::delta_log::DeltaLog;
use super::lake::LakeTable;

/// What a row holds besides its key and what follows from it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) name: Option<String>,
    pub(crate) price: Option<i128>,
    pub(crate) quantity: i64,
    pub(crate) tags: Option<Vec<Option<String>>>,
    pub(crate) extra: Option<i64>,
}

/// Rows by their key, `id`.
pub(crate) type Rows = BTreeMap<i64, Row>;

/// How a table is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    feed: bool,
    vectors: bool,
    partitioned: bool,
}

/// The table, and what it holds.
pub(crate) struct History {
    pub(crate) random: StdRng,
    pub(crate) kind: Kind,
    pub(crate) lake: LakeTable,
    log: DeltaLog,
    pub(crate) rows: Rows,
    /// What each version held since the columns last changed.
    versions: BTreeMap<u64, Rows>,
    /// Whether the column `extra` has been added.
    pub(crate) has_extra: bool,
}

impl History {
    /// A table in a folder, of a random kind and number of rows.
    pub(crate) async fn begin(seed: u64, dir: &Path, rows: Range<i64>) -> History {
        let mut random = StdRng::seed_from_u64(seed);
        let vectors = random.random_bool(0.5);
        let kind = Kind { feed: random.random_bool(0.5), vectors, partitioned: !vectors && random.random_bool(0.5) };
        let mut properties = Vec::new();
        if kind.feed {
            properties.push(("delta.enableChangeDataFeed", "true"));
        }
        if kind.vectors {
            properties.push(("delta.enableDeletionVectors", "true"));
        }
        let partitions: &[&str] = if kind.partitioned { &["part"] } else { &[] };
        let rows: Rows = (0..random.random_range(rows)).map(|id| (id, row(&mut random, false))).collect();
        let batch = batch(&rows, false);
        let lake = LakeTable::create_with(dir, &batch.schema(), vec![batch], partitions, &properties).await;
        let log = DeltaLog::of(dir);
        let mut history = History { random, kind, lake, log, rows, versions: BTreeMap::new(), has_extra: false };
        history.note();
        history
    }

    fn note(&mut self) {
        self.versions.insert(self.lake.version(), self.rows.clone());
    }

    fn new_rows(&mut self, count: usize) -> Rows {
        let next = self.rows.keys().last().map_or(0, |id| id + 1);
        (next..next + count as i64).map(|id| (id, row(&mut self.random, self.has_extra))).collect()
    }

    /// A condition on `id`, in SQL and here, that holds for one in so many.
    fn some(&mut self, one_in: i64) -> (String, impl Fn(i64) -> bool + use<>) {
        let rest = self.random.random_range(0..one_in);
        (format!("id % {one_in} = {rest}"), move |id| id % one_in == rest)
    }

    /// One commit; returns what it is called.
    pub(crate) async fn commit(&mut self) -> &'static str {
        let done = match self.random.random_range(0..12) {
            0 | 1 => self.append().await,
            2 | 3 => self.update().await,
            4 => self.delete().await,
            5 | 6 => self.upsert().await,
            7 => self.overwrite().await,
            8 => {
                self.lake.optimize().await;
                "optimize"
            }
            9 => self.restore().await,
            10 if self.kind.vectors => self.mark().await,
            10 if !self.has_extra && self.random.random_bool(0.3) => self.add_column().await,
            _ if self.kind.vectors => self.mark().await,
            _ => self.append().await,
        };
        self.note();
        done
    }

    async fn append(&mut self) -> &'static str {
        let count = self.random.random_range(1..30);
        let new = self.new_rows(count);
        self.lake.append(vec![batch(&new, self.has_extra)]).await;
        self.rows.extend(new);
        "append"
    }

    async fn update(&mut self) -> &'static str {
        let one_in = self.random.random_range(5..60);
        let (condition, holds) = self.some(one_in);
        self.lake.update("quantity", "quantity + 1", &condition).await;
        self.rows.iter_mut().filter(|(id, _)| holds(**id)).for_each(|(_, row)| row.quantity += 1);
        "update"
    }

    async fn delete(&mut self) -> &'static str {
        let one_in = self.random.random_range(10..60);
        let (condition, holds) = self.some(one_in);
        self.lake.delete(&condition).await;
        self.rows.retain(|id, _| !holds(*id));
        "delete"
    }

    async fn upsert(&mut self) -> &'static str {
        let ids: Vec<i64> = self.rows.keys().copied().collect();
        let chosen: Vec<i64> = ids.choose_multiple(&mut self.random, 10).copied().collect();
        let mut changed = self.new_rows(3);
        for id in chosen {
            // Some rows are written as they are.
            let same = self.random.random_bool(0.3);
            let row = if same { self.rows[&id].clone() } else { row(&mut self.random, self.has_extra) };
            changed.insert(id, row);
        }
        self.lake.upsert(batch(&changed, self.has_extra)).await;
        self.rows.extend(changed);
        "upsert"
    }

    async fn overwrite(&mut self) -> &'static str {
        let ids: Vec<i64> = self.rows.keys().copied().collect();
        for id in ids.choose_multiple(&mut self.random, 5) {
            if self.random.random_bool(0.5) {
                self.rows.remove(id);
            } else {
                let new = row(&mut self.random, self.has_extra);
                self.rows.insert(*id, new);
            }
        }
        let mut ids: Vec<i64> = self.rows.keys().copied().collect();
        ids.shuffle(&mut self.random);
        let part = |ids: &[i64]| {
            let rows: Vec<(i64, Row)> = ids.iter().map(|id| (*id, self.rows[id].clone())).collect();
            batch_of(&rows, self.has_extra)
        };
        let batches = ids.chunks(ids.len() / 2 + 1).map(part).collect();
        self.lake.overwrite(batches).await;
        "overwrite"
    }

    async fn restore(&mut self) -> &'static str {
        let versions: Vec<u64> = self.versions.keys().copied().collect();
        let Some(&version) = versions.choose(&mut self.random) else { return "nothing" };
        if version == self.lake.version() {
            return "nothing";
        }
        self.lake.restore(version).await;
        self.rows = self.versions[&version].clone();
        "restore"
    }

    /// Marks rows as deleted by deletion vectors and writes some of them anew.
    async fn mark(&mut self) -> &'static str {
        let one_in = self.random.random_range(10..80);
        let (_, holds) = self.some(one_in);
        let mut again = Rows::new();
        let touched: Vec<i64> = self.rows.keys().copied().filter(|id| holds(*id)).collect();
        for id in touched {
            if self.random.random_bool(0.5) {
                let new = row(&mut self.random, self.has_extra);
                again.insert(id, new.clone());
                self.rows.insert(id, new);
            } else {
                self.rows.remove(&id);
            }
        }
        self.log.mark_and_add(holds, Some(&batch(&again, self.has_extra)));
        self.lake.reload().await;
        "mark"
    }

    async fn add_column(&mut self) -> &'static str {
        self.has_extra = true;
        let new = self.new_rows(2);
        self.lake.append_columns(vec![batch(&new, true)]).await;
        self.rows.extend(new);
        self.versions.clear();
        "add column"
    }
}

fn row(random: &mut StdRng, has_extra: bool) -> Row {
    let word = |random: &mut StdRng| ["näh", "", "a b", "\u{1F600}", "x"].choose(random).map(|word| (*word).to_owned());
    Row {
        name: if random.random_bool(0.2) { None } else { word(random) },
        price: random.random_bool(0.8).then(|| random.random_range(-100_000..100_000)),
        quantity: random.random_range(-5..5),
        tags: random.random_bool(0.7).then(|| {
            (0..random.random_range(0..3)).map(|_| if random.random_bool(0.3) { None } else { word(random) }).collect()
        }),
        extra: if has_extra && random.random_bool(0.5) { Some(random.random()) } else { None },
    }
}

fn batch(rows: &Rows, has_extra: bool) -> RecordBatch {
    let rows: Vec<(i64, Row)> = rows.iter().map(|(id, row)| (*id, row.clone())).collect();
    batch_of(&rows, has_extra)
}

fn batch_of(rows: &[(i64, Row)], has_extra: bool) -> RecordBatch {
    let mut tags = ListBuilder::new(StringBuilder::new());
    for (_, row) in rows {
        for tag in row.tags.iter().flatten() {
            tags.values().append_option(tag.as_deref());
        }
        tags.append(row.tags.is_some());
    }
    let prices: Decimal128Array = rows.iter().map(|(_, row)| row.price).collect();
    let mut columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("id", Arc::new(Int64Array::from_iter_values(rows.iter().map(|(id, _)| *id))), true),
        ("part", Arc::new(StringArray::from_iter_values(rows.iter().map(|(id, _)| part(*id)))), true),
        ("name", Arc::new(rows.iter().map(|(_, row)| row.name.as_deref()).collect::<StringArray>()), true),
        ("price", Arc::new(prices.with_precision_and_scale(12, 2).unwrap()), true),
        ("quantity", Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, row)| row.quantity))), true),
        ("tags", Arc::new(tags.finish()), true),
    ];
    if has_extra {
        columns.push(("extra", Arc::new(rows.iter().map(|(_, row)| row.extra).collect::<Int64Array>()), true));
    }
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

/// The column `part` of the row with this key.
pub(crate) fn part(id: i64) -> String {
    format!("p {}", id % 3)
}
