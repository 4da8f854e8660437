//! Runs that are asked for over HTTP. They take their turn with those of the schedule, go on when the client goes away, and
//! end with the process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::Utc;
use futures::future::join_all;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::domain::{Code, Error, Generation, Pipeline, Result, RunState, TableName};
use crate::engine::{Live, RunFailure, SyncRequest};
use crate::schedule::Slots;

use super::asked::{Asked, Begun, Wish, Witness};

/// How long an answer waits for the number of the run.
const SOON: Duration = Duration::from_secs(1);

/// The most runs that are asked for and not yet over.
const LIMIT: usize = 1_000;

/// All that was asked for and is not yet over.
type List = Arc<Mutex<Vec<Arc<Asked>>>>;

/// The runs of one process that were asked for over HTTP.
pub(super) struct Syncs {
    live: Live,
    slots: Slots,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    list: List,
}

/// Where the run is that was asked for.
enum Found {
    /// Asked for here; the flag says whether before.
    Here(Arc<Asked>, bool),
    /// Under way, begun by the schedule, a command or another process.
    Elsewhere(Vec<Begun>),
}

impl Syncs {
    pub(super) fn new(live: Live, slots: Slots, shutdown: CancellationToken) -> Self {
        Syncs { live, slots, shutdown, tasks: TaskTracker::new(), list: List::default() }
    }

    /// Waits for the end of all runs, after the shutdown has cancelled them.
    pub(super) async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Begins the runs of these pipelines, or joins those that do what is asked for: a record of each table.
    ///
    /// # Errors
    /// Those of the server; [`Code::Overloaded`]. What stops a run stands in its record.
    pub(super) async fn sync(&self, pipelines: &[&Pipeline], wish: Wish) -> Result<Vec<Begun>> {
        let mut found = Vec::new();
        for named in self.live.now().together(pipelines) {
            found.push(self.begin_or_join(&named, wish).await?);
        }
        let records = join_all(found.into_iter().map(|found| self.records(found))).await;
        Ok(records.into_iter().flatten().collect())
    }

    /// Begins the way back of one table.
    ///
    /// # Errors
    /// [`Code::RunInProgress`] where one was asked for already; whatever keeps it from coming to a run.
    pub(super) async fn rollback(
        &self,
        pipeline: &Pipeline,
        to: Option<i64>,
        to_version: Option<u64>,
    ) -> Result<Begun> {
        let asked = Asked::new(Wish::Rollback { to, to_version }, &[pipeline], &[pipeline], &self.shutdown);
        let find = |list: &[Arc<Asked>]| list.iter().find(|other| other.is_rollback_of(&pipeline.name)).cloned();
        self.pass_over_what_is_past(find).await?;
        {
            let mut list = self.list();
            if find(&list).is_some() {
                let detail = format!("a rollback of `{}` is under way or waits for its turn", pipeline.name);
                return Err(Error::new(Code::RunInProgress, detail).hint("wait for its end, or cancel it"));
            }
            enter(&mut list, &asked)?;
        }
        self.spawn(&asked);
        asked.settle(SOON).await;
        if let Some(error) = asked.refusal() {
            return Err(error);
        }
        asked.records(false).pop().ok_or_else(|| Error::internal("a rollback of no table"))
    }

    /// Takes back what was asked for of a table and waits for its turn: whether there was anything.
    pub(super) fn withdraw(&self, name: &TableName) -> bool {
        let list = self.list();
        let queued = list.iter().filter(|asked| asked.members.contains(name) && asked.is_queued());
        queued.inspect(|asked| asked.withdrawn.cancel()).count() > 0
    }

    async fn begin_or_join(&self, named: &[&Pipeline], wish: Wish) -> Result<Found> {
        let Some(first) = named.first() else { return Ok(Found::Elsewhere(Vec::new())) };
        let engine = self.live.now();
        let members = engine.members(first);
        let find = |list: &[Arc<Asked>]| list.iter().find(|asked| asked.meets(wish, named)).cloned();
        if let Some(asked) = self.pass_over_what_is_past(find).await? {
            return Ok(Found::Here(asked, true));
        }
        if wish.is_plain() {
            let records = self.under_way(&members).await?;
            if records.iter().any(|record| record.run.is_some()) {
                return Ok(Found::Elsewhere(records));
            }
        }
        let asked = Asked::new(wish, named, &members, &self.shutdown);
        {
            let mut list = self.list();
            // Somebody else may have been faster.
            if let Some(asked) = find(&list) {
                return Ok(Found::Here(asked, true));
            }
            enter(&mut list, &asked)?;
        }
        self.spawn(&asked);
        Ok(Found::Here(asked, false))
    }

    /// What was asked for here and may still take in what the source holds by now: the first that is found.
    async fn pass_over_what_is_past(
        &self,
        find: impl Fn(&[Arc<Asked>]) -> Option<Arc<Asked>>,
    ) -> Result<Option<Arc<Asked>>> {
        loop {
            let found = find(&self.list());
            let Some(asked) = found else { return Ok(None) };
            match asked.run() {
                Some(run) if !self.is_going_on(run).await? => asked.end(),
                _ => return Ok(Some(asked)),
            }
        }
    }

    /// Whether a run may still take in what the source holds by now.
    async fn is_going_on(&self, run: i64) -> Result<bool> {
        let engine = self.live.now();
        let session = engine.control_session().await?;
        let record = engine.control().run(&*session, run).await?;
        Ok(record.is_some_and(|record| record.finished_at.is_none()))
    }

    /// The runs of these pipelines that are under way, in whichever process.
    async fn under_way(&self, members: &[&Pipeline]) -> Result<Vec<Begun>> {
        let engine = self.live.now();
        let session = engine.control_session().await?;
        let mut records = Vec::with_capacity(members.len());
        for member in members {
            let control = engine.control();
            let run = match control.leased_run(&*session, &member.name).await? {
                Some(run) => control.run(&*session, run).await?.filter(|run| run.finished_at.is_none()),
                None => None,
            };
            let run = run.map(|record| record.run);
            let (pipeline, state) = (member.name.clone(), RunState::Running.as_str());
            records.push(Begun { pipeline, run, state, joined: true, error: None });
        }
        Ok(records)
    }

    async fn records(&self, found: Found) -> Vec<Begun> {
        match found {
            Found::Elsewhere(records) => records,
            Found::Here(asked, joined) => {
                asked.settle(SOON).await;
                asked.records(joined)
            }
        }
    }

    fn spawn(&self, asked: &Arc<Asked>) {
        let live = self.live.clone();
        let entry = Entry { list: Arc::clone(&self.list), asked: Arc::clone(asked) };
        let slots = self.slots.clone();
        self.tasks.spawn(async move { make(&live, &slots, &entry.asked).await });
    }

    fn list(&self) -> MutexGuard<'_, Vec<Arc<Asked>>> {
        lock(&self.list)
    }
}

/// Makes a run once it is its turn, of the pipelines as they are declared then.
async fn make(live: &Live, slots: &Slots, asked: &Arc<Asked>) {
    let _slot = tokio::select! {
        biased;
        () = asked.withdrawn.cancelled() => return taken_back(asked),
        slot = slots.acquire(Utc::now()) => slot,
    };
    let now = live.now();
    let engine = now.observed_by(Arc::new(Witness { asked: Arc::clone(asked), next: Arc::clone(now.observer()) }));
    let mut named: Vec<&Pipeline> = Vec::new();
    for name in asked.named() {
        match engine.pipeline(name.as_str()) {
            Ok(pipeline) => named.push(pipeline),
            // Its file was removed meanwhile.
            Err(error) => asked.ended(name, Err(error.into())),
        }
    }
    match asked.wish {
        Wish::Sync { full, ignore_checks } => {
            let request = SyncRequest { full, ignore_checks, ..SyncRequest::manual() };
            for (pipeline, result) in Box::pin(engine.sync_together(&named, &request, &asked.withdrawn)).await {
                asked.ended(&pipeline.name, result);
            }
        }
        Wish::Rollback { to, to_version } => {
            for pipeline in named {
                let result =
                    Box::pin(engine.rollback(pipeline, to.map(Generation), to_version, &asked.withdrawn)).await;
                asked.ended(&pipeline.name, result.map_err(RunFailure::from));
            }
        }
    }
    if !Arc::ptr_eq(&now, &live.now()) {
        // What was declared during the run may have been published before it, and replaced by what the run began with.
        live.look_again();
    }
}

fn taken_back(asked: &Asked) {
    for name in &asked.members {
        let error = Error::new(Code::Cancelled, format!("the run of `{name}` was not begun"));
        asked.ended(name, Err(error.into()));
    }
}

/// A place on the list, given up when dropped.
struct Entry {
    list: List,
    asked: Arc<Asked>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        lock(&self.list).retain(|other| !Arc::ptr_eq(other, &self.asked));
    }
}

fn enter(list: &mut Vec<Arc<Asked>>, asked: &Arc<Asked>) -> Result<()> {
    if list.len() >= LIMIT {
        let detail = format!("{LIMIT} runs that were asked for wait for their turn");
        return Err(Error::new(Code::Overloaded, detail).hint("try again when some of them are over"));
    }
    list.push(Arc::clone(asked));
    Ok(())
}

fn lock(list: &List) -> MutexGuard<'_, Vec<Arc<Asked>>> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}
