//! The ways in which a run comes to its end before it is done.

use std::sync::atomic::Ordering;

use lakegate::failpoint::{BEFORE_PUBLISH_COMMIT, OF_MERGE, OF_SNAPSHOT};
use nix::sys::signal::Signal;
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use super::Life;
use super::network::Network;
use crate::support::process::Process;
use crate::support::project::eventually;

/// What dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Death {
    /// The process, by SIGKILL.
    Process,
    /// The process hangs past its lease and goes on after another one has taken over.
    Hang,
    /// Postgres, all its processes at once.
    Postgres,
    /// Postgres' first process, by SIGKILL.
    Postmaster,
    /// All connections; new ones can be made.
    Connections,
    /// All connections, and none can be made until the process has ended.
    Network,
    /// The network passes nothing on any more and says so to nobody, past the lease.
    Silence,
    /// The answer to a commit, and the connection with it.
    Answer,
}

const DEATHS: [(Death, u32); 8] = [
    (Death::Process, 6),
    (Death::Hang, 2),
    (Death::Postgres, 3),
    (Death::Postmaster, 2),
    (Death::Connections, 3),
    (Death::Network, 2),
    (Death::Silence, 2),
    (Death::Answer, 2),
];

/// When it dies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum At {
    /// At a boundary between stages.
    Failpoint(&'static str),
    /// After this share of the time that a sync takes.
    Share(f64),
}

/// One death.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blow {
    pub(super) death: Death,
    pub(super) at: At,
    /// Whether what died comes back before the process notices.
    returns_first: bool,
}

impl Blow {
    /// Any blow to a run that makes a generation, or that refreshes in place.
    pub(super) fn draw(random: &mut StdRng, is_snapshot: bool) -> Blow {
        let (death, _) = *DEATHS.choose_weighted(random, |(_, weight)| *weight).unwrap();
        let failpoints = if is_snapshot { OF_SNAPSHOT } else { OF_MERGE };
        let (failpoint, share) = (*failpoints.choose(random).unwrap(), random.random_range(0.0..1.1));
        let at = match death {
            // Where the commit is that matters.
            Death::Answer => At::Failpoint(BEFORE_PUBLISH_COMMIT),
            _ if random.random_bool(0.6) => At::Failpoint(failpoint),
            _ => At::Share(share),
        };
        Blow { death, at, returns_first: random.random_bool(0.5) }
    }
}

impl Life {
    /// Starts a sync and lets it die. False where it ended before.
    pub(super) async fn strike(&mut self, blow: Blow, network: &mut Network) -> bool {
        let mut process = match blow.at {
            At::Failpoint(failpoint) => {
                match self.start_sync(&[("LAKEGATE_TEST_STOP_AT", failpoint)]).stopped_or_ended().await {
                    Ok(stopped) => stopped,
                    Err(ran) => {
                        ran.ok();
                        return false;
                    }
                }
            }
            At::Share(share) => {
                let process = self.start_sync(&[]);
                tokio::time::sleep(self.usual.mul_f64(share)).await;
                process
            }
        };
        if process.has_ended() {
            process.end().await.ok();
            return false;
        }
        let cuts_off = !matches!(blow.death, Death::Process | Death::Hang);
        self.around.is_cut_off.store(cuts_off, Ordering::Relaxed);
        match blow.death {
            Death::Process => process.kill().await,
            Death::Hang => {
                process.signal(Signal::SIGSTOP);
                self.take_over().await;
                self.goes_on_in_vain(process).await;
            }
            Death::Postgres | Death::Postmaster => self.kills_postgres(process, blow, network).await,
            Death::Connections => {
                network.proxy.cut();
                process.signal(Signal::SIGCONT);
                process.end().await;
            }
            Death::Network => {
                network.proxy.refuse(true);
                network.proxy.cut();
                process.signal(Signal::SIGCONT);
                process.end().await;
                network.proxy.refuse(false);
            }
            Death::Silence => {
                network.proxy.swallow();
                process.signal(Signal::SIGCONT);
                self.take_over().await;
                network.proxy.cut();
                self.goes_on_in_vain(process).await;
            }
            Death::Answer => self.loses_an_answer(process, network).await,
        }
        true
    }

    async fn kills_postgres(&self, process: Process, blow: Blow, network: &mut Network) {
        self.around.crashes.fetch_add(1, Ordering::Relaxed);
        match blow.death {
            Death::Postmaster => network.cluster.kill(),
            _ => network.cluster.crash(),
        }
        if blow.returns_first {
            network.cluster.restart();
        }
        process.signal(Signal::SIGCONT);
        process.end().await;
        if !blow.returns_first {
            network.cluster.restart();
        }
    }

    /// The run is done, and the process that did it finds out by itself.
    async fn loses_an_answer(&self, mut process: Process, network: &Network) {
        let before = self.runs_done().await;
        network.proxy.lose_the_answer_to_a_commit();
        process.signal(Signal::SIGCONT);
        eventually("a commit", async || network.proxy.has_lost_an_answer() || process.has_ended()).await;
        eventually("the end of the run", async || self.runs_done().await == before + 1).await;
        network.proxy.cut();
        process.end().await.ok();
    }

    /// Lets the lease run out and another process do the work, by another way.
    async fn take_over(&self) {
        let session = self.sql().await;
        let leases: bool =
            session.query_one("SELECT to_regclass('lakegate.leases') IS NOT NULL", &[]).await.unwrap().get(0);
        if leases {
            session.execute("UPDATE lakegate.leases SET expires_at = clock_timestamp()", &[]).await.unwrap();
        }
        let direct = self.start_sync(&[("LAKEGATE_POSTGRES", &self.direct)]);
        direct.end().await.ok();
    }

    /// A process that was replaced goes on, and changes nothing.
    async fn goes_on_in_vain(&self, process: Process) {
        let before = self.publish_no().await;
        process.signal(Signal::SIGCONT);
        process.end().await;
        assert_eq!(self.publish_no().await, before, "a process that was replaced has published");
    }
}
