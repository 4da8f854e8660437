//! One run that was asked for over HTTP, from the moment in which it was until its end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::domain::{Error, Pipeline, RunOutcome, RunState, TableName};
use crate::engine::{ErrorRecord, RunFailure};
use crate::observe::{Event, Observer};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// A sync, as `lakegate sync` makes it.
    Sync { full: bool, ignore_checks: bool },
    /// The way back, as `lakegate rollback` goes it.
    Rollback { to: Option<i64>, to_version: Option<u64> },
}

impl Wish {
    /// Whether any sync does what is asked for.
    pub(super) fn is_plain(self) -> bool {
        self == Wish::Sync { full: false, ignore_checks: false }
    }
}

/// What is answered of a table whose run was asked for.
#[derive(Debug, Serialize)]
pub(super) struct Begun {
    /// The table.
    pub(super) pipeline: TableName,
    /// The run; `None` while it waits for its turn.
    pub(super) run: Option<i64>,
    /// `queued` while it waits for its turn, else the state of the run.
    pub(super) state: &'static str,
    /// Whether it was under way, or asked for, before.
    pub(super) joined: bool,
    /// Why it has failed already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<ErrorRecord>,
}

/// Where the part of one table stands.
#[derive(Debug, Default)]
struct Standing {
    run: Option<i64>,
    /// How it ended, and with which error.
    ended: Option<(RunState, Option<Error>)>,
    /// Whether it waits for a run that somebody else has under way.
    joined: bool,
}

/// One run that was asked for.
pub(super) struct Asked {
    pub(super) wish: Wish,
    /// The tables that were named.
    named: Vec<TableName>,
    /// All tables of the run, by name.
    pub(super) members: Vec<TableName>,
    standings: RwLock<Vec<Standing>>,
    /// Counts the changes of the standings.
    changes: watch::Sender<u64>,
    /// Whether its publish has been made: only what is left of it is tidied up.
    over: AtomicBool,
    /// Takes it back while it waits for its turn, and ends what it has begun by then. Cancelled with the process.
    pub(super) withdrawn: CancellationToken,
}

impl Asked {
    pub(super) fn new(
        wish: Wish,
        named: &[&Pipeline],
        members: &[&Pipeline],
        shutdown: &CancellationToken,
    ) -> Arc<Asked> {
        let names = |pipelines: &[&Pipeline]| pipelines.iter().map(|pipeline| pipeline.name.clone()).collect();
        Arc::new(Asked {
            wish,
            named: names(named),
            members: names(members),
            standings: RwLock::new(members.iter().map(|_| Standing::default()).collect()),
            changes: watch::Sender::new(0),
            over: AtomicBool::new(false),
            withdrawn: shutdown.child_token(),
        })
    }

    /// Whether this run is what somebody else asks for.
    pub(super) fn meets(&self, wish: Wish, named: &[&Pipeline]) -> bool {
        let is_named = |pipeline: &&Pipeline| self.named.contains(&pipeline.name);
        let is_member = |pipeline: &&Pipeline| self.members.contains(&pipeline.name);
        match self.wish {
            _ if self.over.load(Ordering::Relaxed) => false,
            Wish::Rollback { .. } => false,
            Wish::Sync { .. } if wish.is_plain() => named.iter().all(is_member),
            Wish::Sync { .. } => self.wish == wish && named.iter().all(is_named),
        }
    }

    /// The first of its runs, once there are any.
    pub(super) fn run(&self) -> Option<i64> {
        self.look(|standings| standings.iter().find_map(|one| one.run))
    }

    /// From now on it does nothing for anybody who asks.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// The tables that were named.
    pub(super) fn named(&self) -> impl Iterator<Item = &TableName> {
        self.named.iter()
    }

    /// Whether it is the way back of this table, and goes on.
    pub(super) fn is_rollback_of(&self, name: &TableName) -> bool {
        let is_over = self.over.load(Ordering::Relaxed);
        !is_over && matches!(self.wish, Wish::Rollback { .. }) && self.members.contains(name)
    }

    /// Whether it waits for its turn.
    pub(super) fn is_queued(&self) -> bool {
        self.look(|standings| standings.iter().all(|one| one.run.is_none() && one.ended.is_none() && !one.joined))
    }

    /// Waits until there is something to say of every table, but not for long.
    pub(super) async fn settle(&self, patience: Duration) {
        let mut changes = self.changes.subscribe();
        let is_settled = || {
            self.look(|standings| standings.iter().all(|one| one.run.is_some() || one.ended.is_some() || one.joined))
        };
        let _ = timeout(patience, changes.wait_for(|_| is_settled())).await;
    }

    /// What is to be said of it now; `joined` where it was asked for before.
    pub(super) fn records(&self, joined: bool) -> Vec<Begun> {
        self.look(|standings| {
            let records = self.members.iter().zip(standings).map(|(name, one)| Begun {
                pipeline: name.clone(),
                run: one.run,
                state: match &one.ended {
                    Some((state, _)) => state.as_str(),
                    None if one.run.is_some() || one.joined => RunState::Running.as_str(),
                    None => "queued",
                },
                joined: joined || one.joined,
                error: one.ended.as_ref().and_then(|(_, error)| error.as_ref()).map(ErrorRecord::from),
            });
            records.collect()
        })
    }

    /// What kept it from coming to a run, if that is how it has ended.
    pub(super) fn refusal(&self) -> Option<Error> {
        self.look(|standings| {
            let one = standings.first().filter(|one| one.run.is_none())?;
            one.ended.as_ref()?.1.as_ref().map(Error::repeat)
        })
    }

    /// Its part of one table has ended.
    pub(super) fn ended(&self, name: &TableName, result: Result<RunOutcome, RunFailure>) {
        self.change(name, |one| match result {
            Ok(outcome) => {
                one.run = Some(outcome.run);
                one.ended = Some((outcome.state, None));
            }
            Err(failure) => {
                let cancelled = failure.error.code().is_cancellation();
                let state = if cancelled { RunState::Cancelled } else { RunState::Failed };
                one.run = failure.run.or(one.run);
                one.ended = Some((state, Some(failure.error)));
            }
        });
    }

    fn look<R>(&self, at: impl FnOnce(&[Standing]) -> R) -> R {
        at(&self.standings.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, name: &TableName, how: impl FnOnce(&mut Standing)) {
        let Some(at) = self.members.iter().position(|member| member == name) else { return };
        {
            let mut standings = self.standings.write().unwrap_or_else(PoisonError::into_inner);
            standings.get_mut(at).map(how);
        }
        self.changes.send_modify(|changes| *changes += 1);
    }
}

/// Listens to a run for whoever has asked for it, and passes on what it hears.
pub(super) struct Witness {
    pub(super) asked: Arc<Asked>,
    pub(super) next: Arc<dyn Observer>,
}

impl Observer for Witness {
    fn observe(&self, pipeline: &TableName, event: &Event<'_>) {
        match event {
            Event::RunStarted { run } => self.asked.change(pipeline, |one| (one.run, one.joined) = (Some(*run), false)),
            Event::Joined { .. } => {
                // The whole group waits.
                for member in &self.asked.members {
                    self.asked.change(member, |one| one.joined = true);
                }
            }
            _ => {}
        }
        self.next.observe(pipeline, event);
    }
}
