//! The map of published tables, kept up with Postgres.
//!
//! It is read anew each second and whenever a publish is announced by NOTIFY on the channel named after the control
//! schema; polling alone is enough where LISTEN does not work (standbys, poolers). Lookups do not trust the map: their
//! statements say what is published, and the map is read again when they disagree.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::cache::{Cache, Changed};
use super::metrics::ReadMetrics;
use super::table::{Checked, PublishedTable};
use crate::auth::Doorkeeper;
use crate::domain::{Caller, Code, Error, Result, Schemas};
use crate::postgres::{Connector, Notifications, Session};
use crate::store::{Control, PublishedState};

/// How often the map is read without being told to.
const POLL: Duration = Duration::from_secs(1);

/// The longest one reading may take, and after which time without any the map is deaf.
const SILENCE: Duration = Duration::from_secs(2);

/// How long the lists of changed keys may take of one reading: after many publishes at once the map goes before.
const LISTS: Duration = Duration::from_millis(500);

/// The longest that making the connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// How fresh the map must be to say that a table does not exist.
const FRESH: Duration = Duration::from_millis(100);

/// Callers that may wait for a reading; it answers all of them at once. After a publish all requests at hand call.
const MAX_CALLERS: usize = 16 << 10;

/// The name of this session in `pg_stat_activity`.
const APPLICATION_NAME: &str = "lakegate catalog";

/// The published tables, as last heard.
#[derive(Debug)]
pub(super) struct Catalog {
    shared: Arc<Shared>,
    calls: mpsc::Sender<oneshot::Sender<bool>>,
    _task: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    tables: ArcSwap<Tables>,
    started: Instant,
    /// When the last successful reading began, in milliseconds since `started`, plus one; 0 = never.
    heard: AtomicU64,
}

/// What is published under each name; `None` where the description cannot be understood.
#[derive(Debug, Default)]
struct Tables {
    by_name: HashMap<String, Option<Arc<PublishedTable>>>,
    /// Tables whose rows this process may not or cannot read.
    unreadable: Vec<String>,
}

/// What the map says of a name.
#[derive(Debug)]
pub(super) enum Found {
    /// It is served.
    Table(Arc<PublishedTable>),
    /// There is no such table, or it is not served, or not for whoever asks.
    Nothing,
    /// The map cannot be read now, or the table's description cannot be understood.
    Unknown,
}

/// Whether every published table can be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// Yes.
    Ready,
    /// These cannot; which ones, not everybody is told.
    Unreadable(Vec<String>),
    /// Postgres has not been heard from for too long to know.
    Deaf,
}

impl Catalog {
    /// Starts to follow the control schema, with the API keys in it.
    pub(super) fn start(
        connector: Connector,
        schemas: Schemas,
        cache: Arc<Cache>,
        metrics: ReadMetrics,
        doorkeeper: Arc<Doorkeeper>,
    ) -> Self {
        let shared = Arc::new(Shared { tables: ArcSwap::default(), started: Instant::now(), heard: AtomicU64::new(0) });
        let (calls, called) = mpsc::channel(MAX_CALLERS);
        let mut task = JoinSet::new();
        let control = Control::new(&schemas.control);
        let shared_too = Arc::clone(&shared);
        let follower = Follower {
            connector,
            schemas,
            control,
            cache,
            metrics,
            doorkeeper,
            shared: shared_too,
            serial: 0,
            link: None,
        };
        task.spawn(follower.run(called));
        Catalog { shared, calls, _task: task }
    }

    /// What is published under this name for whoever asks. The map is read again before a name is said not to exist.
    pub(super) async fn find(&self, name: &str, caller: &Caller) -> Found {
        match self.look_up(name, caller) {
            Found::Table(table) => Found::Table(table),
            missing if self.silence().is_some_and(|silence| silence < FRESH) => missing,
            _ if self.refresh().await => self.look_up(name, caller),
            _ => Found::Unknown,
        }
    }

    /// What the map says of this name now.
    pub(super) fn look_up(&self, name: &str, caller: &Caller) -> Found {
        match self.shared.tables.load().by_name.get(name) {
            Some(Some(table)) if table.policy.enabled && table.is_open_to(caller) => Found::Table(Arc::clone(table)),
            Some(None) => Found::Unknown,
            None if self.silence().is_none() => Found::Unknown,
            Some(Some(_)) | None => Found::Nothing,
        }
    }

    /// The tables that are served, in the order of their names; `None` before the first reading.
    pub(super) fn served(&self) -> Option<Vec<Arc<PublishedTable>>> {
        self.silence()?;
        let tables = self.shared.tables.load();
        let mut served: Vec<_> =
            tables.by_name.values().flatten().filter(|table| table.policy.enabled).cloned().collect();
        served.sort_unstable_by(|one, other| one.name.as_str().cmp(other.name.as_str()));
        Some(served)
    }

    /// Reads the map again; true when that worked. The reading begins after the call.
    pub(super) async fn refresh(&self) -> bool {
        let (caller, answer) = oneshot::channel();
        if self.calls.try_send(caller).is_err() {
            return false;
        }
        answer.await.unwrap_or(false)
    }

    /// Whether every published table can be read.
    pub(super) fn readiness(&self) -> Readiness {
        if self.is_deaf() {
            return Readiness::Deaf;
        }
        let unreadable = &self.shared.tables.load().unreadable;
        if unreadable.is_empty() { Readiness::Ready } else { Readiness::Unreadable(unreadable.clone()) }
    }

    /// Whether Postgres has been silent for so long that a publish may have gone unheard.
    pub(super) fn is_deaf(&self) -> bool {
        self.silence().is_none_or(|silence| silence > SILENCE)
    }

    /// The age of the map; `None` before the first reading.
    fn silence(&self) -> Option<Duration> {
        let heard = self.shared.heard.load(Ordering::Acquire).checked_sub(1)?;
        Some(self.shared.started.elapsed().saturating_sub(Duration::from_millis(heard)))
    }
}

/// Keeps the map up.
struct Follower {
    connector: Connector,
    schemas: Schemas,
    control: Control,
    cache: Arc<Cache>,
    metrics: ReadMetrics,
    doorkeeper: Arc<Doorkeeper>,
    shared: Arc<Shared>,
    /// The last serial number given to a table's state.
    serial: u64,
    link: Option<(Session, Notifications)>,
}

impl Follower {
    async fn run(mut self, mut called: mpsc::Receiver<oneshot::Sender<bool>>) {
        let mut ticks = interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            let mut callers = Vec::new();
            tokio::select! {
                _ = ticks.tick() => {}
                () = announced(&mut self.link, &self.cache) => {}
                caller = called.recv() => match caller {
                    Some(caller) => callers.push(caller),
                    None => return,
                },
            }
            while let Ok(caller) = called.try_recv() {
                callers.push(caller);
            }
            let reading = self.follow().await;
            match &reading {
                Ok(()) if failing => tracing::info!("the published tables are known again"),
                Err(error) if !failing => tracing::warn!(%error, "the published tables cannot be read"),
                _ => {}
            }
            failing = reading.is_err();
            if failing {
                self.link = None;
            }
            for caller in callers {
                let _ = caller.send(!failing);
            }
        }
    }

    /// Makes the connection if there is none, and reads the map.
    async fn follow(&mut self) -> Result<()> {
        if self.link.as_ref().is_none_or(|(session, _)| session.is_closed()) {
            self.link = None;
            self.link = Some(timeout(CONNECT, self.connect()).await.unwrap_or_else(|_| Err(no_answer()))?);
        }
        timeout(SILENCE, self.read()).await.unwrap_or_else(|_| Err(no_answer()))
    }

    async fn read(&mut self) -> Result<()> {
        let (session, _) = self.link.as_ref().ok_or_else(|| Error::internal("the catalogue has no connection"))?;
        let began = self.shared.started.elapsed();
        // Whoever cannot be told any more that a key was revoked is deaf to what is published, too.
        if let Some(keyring) = self.doorkeeper.keyring() {
            keyring.follow(&self.control, session).await?;
        }
        let (asked, looked) = (Checked::begin(), std::time::Instant::now());
        let published = self.control.published_states(session).await?;
        let known = self.shared.tables.load_full();
        let checked: HashMap<String, Duration> =
            published.iter().map(|now| (now.name.clone(), now.unchecked_for)).collect();
        let (same, changed): (Vec<_>, Vec<_>) = published
            .into_iter()
            .partition(|now| matches!(known.by_name.get(&now.name), Some(Some(table)) if is_known(now, table)));
        let mut by_name: HashMap<_, _> = same
            .into_iter()
            .filter_map(|now| known.by_name.get(&now.name).map(|table| (now.name, table.clone())))
            .collect();
        if !changed.is_empty() {
            let names: Vec<&str> = changed.iter().map(|now| now.name.as_str()).collect();
            for (name, served) in self.control.served_tables(session, &names).await? {
                self.serial += 1;
                let before = known.by_name.get(&name).and_then(Option::as_ref);
                let learned = before.map(|table| (table.row_bytes.clone(), Arc::clone(&table.rates)));
                let table = served.and_then(|served| {
                    let metrics = self.metrics.of_table(&name);
                    PublishedTable::new(self.serial, &self.schemas, served, learned.unwrap_or_default(), metrics)
                });
                if let Err(error) = &table {
                    tracing::error!(%error, name, "a published table is described in a way that is not understood");
                }
                by_name.insert(name, table.ok().map(Arc::new));
            }
        }
        for table in by_name.values().flatten() {
            if let Some(unchecked_for) = checked.get(table.name.as_str()) {
                table.checked.note(asked, *unchecked_for);
            }
        }
        let changes = self.changes(session, &known, &by_name).await;
        self.cache.advance(looked, changes.into_iter());
        let unreadable = unreadable(&self.control, session, &self.schemas, &by_name).await?;
        self.shared.tables.store(Arc::new(Tables { by_name, unreadable }));
        self.shared.heard.store(began.as_millis() as u64 + 1, Ordering::Release);
        Ok(())
    }

    /// What the cache needs to follow the tables from one map to the next. Where that cannot be read, or not soon enough, it
    /// begins anew.
    async fn changes<'t>(
        &self,
        session: &Session,
        known: &Tables,
        now: &'t HashMap<String, Option<Arc<PublishedTable>>>,
    ) -> Vec<(&'t PublishedTable, Changed)> {
        let mut changes = Vec::with_capacity(now.len());
        let began = Instant::now();
        for (name, table) in now.iter().filter_map(|(name, table)| Some((name, table.as_deref()?))) {
            let before = known.by_name.get(name).and_then(Option::as_deref).filter(|before| before.shows_as(table));
            let mut changed = Changed::All;
            let is_asked = self.cache.is_on() && began.elapsed() < LISTS;
            if let Some(before) = before.filter(|before| before.publish_no != table.publish_no && is_asked) {
                let since = before.publish_no;
                match self.control.changed_keys(session, &table.name, since, table.publish_no).await {
                    Ok(Some(hashes)) => changed = Changed::Keys { since, hashes },
                    Ok(None) => {}
                    Err(error) => tracing::debug!(%error, name, "which keys have changed cannot be read"),
                }
            }
            changes.push((table, changed));
        }
        changes
    }

    async fn connect(&self) -> Result<(Session, Notifications)> {
        let (session, notifications) = self.connector.connect_listening(APPLICATION_NAME).await?;
        if let Err(error) = self.control.listen(&session).await {
            tracing::debug!(%error, "LISTEN is not possible here; the published tables are polled");
        }
        Ok((session, notifications))
    }
}

/// Waits until a publish is announced, or the connection ends; forever where there is none. The cache is told of all
/// that has been announced.
async fn announced(link: &mut Option<(Session, Notifications)>, cache: &Cache) {
    let Some((_, notifications)) = link else { return std::future::pending().await };
    let mut next = notifications.recv().await;
    let ended = next.is_none();
    // One reading covers all that has been announced before it.
    while let Some(notification) = next {
        if let Some((name, publish_no)) = notification.payload().rsplit_once(' ')
            && let Ok(publish_no) = publish_no.parse()
        {
            cache.announced(name, publish_no);
        }
        next = notifications.try_recv().ok();
    }
    if ended {
        *link = None;
    }
}

/// Whether this is what the map holds already.
fn is_known(now: &PublishedState, table: &PublishedTable) -> bool {
    now.publish_no == table.publish_no
        && now.generation == table.generation
        && now.source_version == table.source_version
}

fn no_answer() -> Error {
    Error::new(Code::PostgresUnreachable, "no answer in time")
}

/// The served tables whose rows cannot be read, in the order of their names.
async fn unreadable(
    control: &Control,
    session: &Session,
    schemas: &Schemas,
    tables: &HashMap<String, Option<Arc<PublishedTable>>>,
) -> Result<Vec<String>> {
    let of = |table: &PublishedTable| table.generation.table(&table.name);
    let wanted: Vec<String> = tables.values().flatten().map(|table| of(table)).collect();
    let readable = control.readable(session, &schemas.data, &wanted).await?;
    let mut unreadable: Vec<String> = tables
        .iter()
        .filter(|(_, table)| match table {
            Some(table) => table.policy.enabled && !readable.contains(&of(table)),
            None => true,
        })
        .map(|(name, _)| name.clone())
        .collect();
    unreadable.sort_unstable();
    Ok(unreadable)
}
