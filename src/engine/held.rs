//! The leases of a run: taken in the order of names, all or none, and given back.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::domain::{Code, Error, Pipeline, Result, TableName};
use crate::observe::Event;
use crate::postgres::{Purpose, Session};
use crate::store::{Ending, Heartbeat, Lease, LeaseAttempt, RunRecord};

use super::{Engine, SyncRequest};

/// How long a lease holds without being renewed. A hung process is replaced after this time, a dead one at once.
const LEASE_TTL: Duration = Duration::from_secs(15);
/// How often a joined run is looked at.
const JOIN_POLL: Duration = Duration::from_millis(200);
/// How long giving the lease back may take; one that is not given back expires.
const RELEASE: Duration = Duration::from_secs(5);

/// The end of a run before it is done: by a person or a signal, in this process or another, or by the loss of a lease.
pub(super) struct Stop {
    token: CancellationToken,
    asked_by: OnceLock<String>,
}

impl Stop {
    /// One that comes with the end of `cancel` at the latest.
    pub(super) fn with(cancel: &CancellationToken) -> Arc<Stop> {
        Arc::new(Stop { token: cancel.child_token(), asked_by: OnceLock::new() })
    }

    /// Ends when the run has to.
    pub(super) async fn comes(&self) {
        self.token.cancelled().await;
    }

    /// Ends whatever still works for the run.
    pub(super) fn now(&self) {
        self.token.cancel();
    }

    /// Who has asked for it, where somebody has.
    pub(super) fn asked_by(&self) -> Option<&str> {
        self.asked_by.get().map(String::as_str)
    }

    fn because(&self, ending: Ending) {
        if let Ending::CancelAsked(by) = ending {
            // Of several who ask, the first is named.
            let _ = self.asked_by.set(by);
        }
        self.token.cancel();
    }
}

/// A pipeline's part in a run under way: its lease, and what dies with it.
pub(super) struct Held {
    pub(super) lease: Lease,
    pub(super) run: i64,
    /// What the leases of all members hang on.
    pub(super) session: Arc<Session>,
    heartbeat: Heartbeat,
    /// Sessions of all members with nothing to do any more. They end after the leases are given back: backends that have read and
    /// written much take processors to end, which a publish that follows at once needs itself.
    idle: Arc<Mutex<Vec<Session>>>,
}

impl Held {
    /// Leaves sessions open that have done their work.
    pub(super) fn leave_idle(&self, sessions: Vec<Session>) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).extend(sessions);
    }

    /// Ends the sessions that were left open, whoever left them: others are needed instead of them.
    pub(super) fn end_idle(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// What came of asking for all leases of a run.
pub(super) enum Begun<'a> {
    /// They are ours, in the order asked for.
    Held(Vec<Held>),
    /// Somebody else has one of them; none is ours.
    Elsewhere { pipeline: &'a Pipeline, holder: String },
}

impl Engine {
    /// Takes the leases of these pipelines, which are in the order of their names, so that no two processes wait for each
    /// other, and begins their runs. `stop` comes when one of the leases is lost, or somebody asks for it.
    pub(super) async fn begin<'a>(&self, asks: &[(&'a Pipeline, &SyncRequest)], stop: &Arc<Stop>) -> Result<Begun<'a>> {
        let session = Arc::new(self.connector.connect(Purpose::Control, "lakegate lease").await?);
        let mut leases = Vec::with_capacity(asks.len());
        for (pipeline, _) in asks {
            match self.control.acquire_lease(&session, &pipeline.name, &holder(), LEASE_TTL).await? {
                LeaseAttempt::Acquired(lease) => {
                    let (stop, session) = (Arc::clone(stop), Arc::clone(&session));
                    let end = move |ending| stop.because(ending);
                    let heartbeat = Heartbeat::start(self.control.clone(), session, lease.clone(), LEASE_TTL, end);
                    leases.push((lease, heartbeat));
                }
                LeaseAttempt::Held { holder } => {
                    for (lease, heartbeat) in leases {
                        drop(heartbeat);
                        self.control.release_lease(&session, &lease).await?;
                    }
                    return Ok(Begun::Elsewhere { pipeline, holder });
                }
            }
        }
        let (mut held, idle) = (Vec::with_capacity(asks.len()), Arc::default());
        for ((pipeline, request), (lease, heartbeat)) in asks.iter().zip(leases) {
            self.control.bury_dead_runs(&**session, &pipeline.name).await?;
            let run = self.control.start_run(&**session, &pipeline.name, request.trigger.as_str()).await?;
            self.control.note_backends(&**session, &lease, run, &[]).await?;
            self.observer.observe(&pipeline.name, &Event::RunStarted { run });
            held.push(Held { lease, run, session: Arc::clone(&session), heartbeat, idle: Arc::clone(&idle) });
        }
        Ok(Begun::Held(held))
    }

    /// Gives the leases of a run back that is over.
    pub(super) async fn give_back(&self, held: Vec<Held>) {
        // What is idle ends with the last of them.
        for Held { lease, session, heartbeat, idle: _idle, .. } in held {
            if !heartbeat.is_lost() {
                // A lease that cannot be given back expires, and its lock goes with the connection.
                let _ = tokio::time::timeout(RELEASE, self.control.release_lease(&session, &lease)).await;
            }
        }
    }

    /// Waits for the end of the run that another process has under way. `None` when the lease is worth another try: no
    /// run is to be seen, or its process hangs or is dead. `holder` is who has it, for a person.
    pub(super) async fn join(
        &self,
        pipeline: &Pipeline,
        holder: &str,
        cancel: &CancellationToken,
    ) -> Result<Option<RunRecord>> {
        let session = self.control_session().await?;
        let Some(run) = self.control.leased_run(&*session, &pipeline.name).await? else {
            tokio::time::sleep(JOIN_POLL).await;
            return Ok(None);
        };
        // One that has ended before, and only tidies up, has not seen what the source holds by now.
        let is_past = self.control.run(&*session, run).await?.is_some_and(|record| record.finished_at.is_some());
        if !is_past {
            self.observer.observe(&pipeline.name, &Event::Joined { holder });
        }
        let ended = cancel.run_until_cancelled(async {
            if is_past {
                return self.release_of(&session, &pipeline.name, run).await;
            }
            self.end_of(&session, &pipeline.name, run).await
        });
        ended.await.unwrap_or_else(|| {
            Err(Error::new(Code::Cancelled, "no longer waits for the run under way; that run goes on"))
        })
    }

    /// Waits until a run has given its lease back.
    async fn release_of(&self, session: &Session, name: &TableName, run: i64) -> Result<Option<RunRecord>> {
        while self.control.leased_run(&**session, name).await? == Some(run) {
            tokio::time::sleep(JOIN_POLL).await;
        }
        Ok(None)
    }

    /// Waits until a run has ended: its record. `None` where its process hangs or is dead.
    pub(super) async fn end_of(&self, session: &Session, name: &TableName, run: i64) -> Result<Option<RunRecord>> {
        loop {
            let record = self.control.run(&**session, run).await?;
            match record.filter(|record| record.finished_at.is_some()) {
                Some(record) => return Ok(Some(record)),
                None if self.control.leased_run(&**session, name).await? != Some(run) => return Ok(None),
                None => {}
            }
            tokio::time::sleep(JOIN_POLL).await;
        }
    }
}

/// How this process calls itself in a lease.
fn holder() -> String {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    format!("process {} on {host}", std::process::id())
}
