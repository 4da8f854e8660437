//! Random histories of a table: after each refresh, however it was done, readers see what the source holds.
//!
//! `LAKEGATE_TEST_HISTORIES` says how many (15 unless set), `LAKEGATE_TEST_SEED` with which one to begin. Each prints its
//! seed and the modes that its refreshes took.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray};
use lakegate::config::{self, Environment};
use lakegate::engine::{Engine, SyncRequest};
use lakegate::observe::Log;
use lakegate::postgres::Session;
use lakegate::source::SourceContext;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, SeedableRng as _};
use tokio_util::sync::CancellationToken;

use crate::support::delta_log::DeltaLog;
use crate::support::http;
use crate::support::lake::LakeTable;
use crate::support::postgres::TestDatabase;
use crate::support::project::{TestProject, eventually};

const HISTORIES: &str = "LAKEGATE_TEST_HISTORIES";
const SEED: &str = "LAKEGATE_TEST_SEED";
/// Refreshes of one history.
const STEPS: usize = 20;

#[derive(Debug, Clone, PartialEq)]
struct Row {
    name: Option<String>,
    price: Option<i128>,
    quantity: i64,
    tags: Option<Vec<Option<String>>>,
    extra: Option<i64>,
}

type Rows = BTreeMap<i64, Row>;

/// How a table is kept.
#[derive(Debug, Clone, Copy)]
struct Kind {
    feed: bool,
    vectors: bool,
    partitioned: bool,
}

struct History {
    random: StdRng,
    kind: Kind,
    lake: LakeTable,
    log: DeltaLog,
    rows: Rows,
    /// What each version held since the columns last changed.
    versions: HashMap<u64, Rows>,
    has_extra: bool,
}

impl History {
    async fn begin(seed: u64, project: &TestProject) -> History {
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
        let rows: Rows = (0..random.random_range(50..400)).map(|id| (id, row(&mut random, false))).collect();
        let batch = batch(&rows, false);
        let dir = project.path("lake/items");
        let lake = LakeTable::create_with(&dir, &batch.schema(), vec![batch], partitions, &properties).await;
        let mut history =
            History { random, kind, lake, log: DeltaLog::of(&dir), rows, versions: HashMap::new(), has_extra: false };
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
    async fn commit(&mut self) -> &'static str {
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

fn part(id: i64) -> String {
    format!("p {}", id % 3)
}

/// What readers see in SQL.
async fn published(session: &Session, has_extra: bool) -> Rows {
    let extra = if has_extra { "extra" } else { "NULL::bigint" };
    let query =
        format!("SELECT id, part, name, (price * 100)::bigint, quantity, tags, {extra}, scale(price) FROM lake.items");
    let rows = session.query(&query, &[]).await.unwrap();
    rows.iter()
        .map(|found| {
            let id: i64 = found.get(0);
            assert_eq!(found.get::<_, String>(1), part(id));
            assert!(found.get::<_, Option<i32>>(7).is_none_or(|scale| scale == 2));
            let row = Row {
                name: found.get(2),
                price: found.get::<_, Option<i64>>(3).map(i128::from),
                quantity: found.get(4),
                tags: found.get(5),
                extra: found.get(6),
            };
            (id, row)
        })
        .collect()
}

async fn run(seed: u64) -> BTreeMap<String, usize> {
    let project = TestProject::on(TestDatabase::new().await);
    project.pipeline("items", "source: lake/items\nprimary_key: [id]\n");
    let mut history = History::begin(seed, &project).await;
    let engine = engine(&project).await;
    let session = project.sql().await;
    let pipeline = engine.pipeline("items").unwrap();
    let mut modes = BTreeMap::new();
    let mut server = None;
    for step in 0..STEPS {
        let mut done = Vec::new();
        if step > 0 {
            for _ in 0..history.random.random_range(1..=3) {
                done.push(history.commit().await);
            }
        }
        let place = format!("seed {seed}, {:?}, step {step} after {done:?}", history.kind);
        let outcome = engine.sync(pipeline, &SyncRequest::manual(), &CancellationToken::new()).await;
        let outcome = outcome.unwrap_or_else(|failure| panic!("{place}: {:?}", failure.error));
        *modes.entry(outcome.mode.as_str().to_owned()).or_default() += 1;
        let found = published(&session, history.has_extra).await;
        if found != history.rows {
            let differing: Vec<_> = found
                .keys()
                .chain(history.rows.keys())
                .filter(|id| found.get(id) != history.rows.get(id))
                .map(|id| (id, found.get(id), history.rows.get(id)))
                .take(3)
                .collect();
            panic!("{place}: {} ({}) leaves {differing:?}", outcome.mode.as_str(), outcome.reason);
        }
        assert_eq!(outcome.source_version.as_deref(), Some(history.lake.version().to_string().as_str()), "{place}");
        let server = match &server {
            Some(server) => server,
            None => server.insert(project.start("serve").await),
        };
        for _ in 0..3 {
            let id = history.random.random_range(0..history.rows.keys().last().map_or(1, |id| id + 2));
            let expected = history.rows.get(&id).map(|row| row.quantity);
            let path = format!("/v1/items/{id}?columns=quantity");
            eventually(&format!("{place}: {id} is {expected:?} over HTTP"), async || {
                let reply = http::get(server.address, &path).await;
                let quantity = (reply.status == 200).then(|| reply.data()[0]["quantity"].as_i64().unwrap());
                quantity == expected
            })
            .await;
        }
    }
    let verified = engine.verify_table(pipeline, &CancellationToken::new()).await.unwrap();
    assert_eq!(verified.rows, history.rows.len() as u64);
    modes
}

async fn engine(project: &TestProject) -> Engine {
    let environment = Environment::from_iter([("LAKEGATE_POSTGRES".to_owned(), project.database.url())]);
    let loaded = config::load(project.dir(), &environment).unwrap();
    let sources = SourceContext { project_dir: project.dir().to_owned(), env: BTreeMap::new() };
    Engine::open(Arc::new(loaded.project), sources, project.database.connector(), Arc::new(Log), None).await.unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refresh_shows_what_the_source_holds() {
    let number = |name, otherwise| std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"));
    let (histories, first) = (number(HISTORIES, 15), number(SEED, rand::random::<u32>().into()));
    let mut all = BTreeMap::new();
    for seed in first..first + histories {
        let modes = run(seed).await;
        println!("seed {seed}: {modes:?}");
        for (mode, count) in modes {
            *all.entry(mode).or_insert(0) += count;
        }
    }
    println!("{histories} histories of {STEPS} refreshes from seed {first}: {all:?}");
    assert!(["append", "merge", "noop", "snapshot"].iter().all(|mode| all.contains_key(*mode)) || histories < 10);
}
