//! A running server, known through its `postmaster.pid`.

use std::fs;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What `postmaster.pid` says: written by the server, line by line, and removed when it stops in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Postmaster {
    pid: i32,
    /// The port; `None` in the first moments of a start.
    pub(super) port: Option<u16>,
    /// Whether it accepts connections.
    pub(super) ready: bool,
}

impl Postmaster {
    /// The server that the data directory's file speaks of, dead or alive.
    pub(super) fn read(data: &Path) -> Option<Postmaster> {
        Self::parse(&fs::read_to_string(data.join("postmaster.pid")).ok()?)
    }

    fn parse(text: &str) -> Option<Postmaster> {
        let mut lines = text.lines();
        // Negative for a single-user backend.
        let pid = lines.next()?.trim().parse::<i32>().ok()?.checked_abs().filter(|pid| *pid > 1)?;
        let port = lines.nth(2).and_then(|line| line.trim().parse().ok());
        let ready = lines.nth(3).is_some_and(|line| line.trim() == "ready");
        Some(Postmaster { pid, port, ready })
    }

    pub(super) fn is_process(&self, pid: u32) -> bool {
        u32::try_from(self.pid) == Ok(pid)
    }

    /// Whether the process lives and is a Postgres: after a reboot, or in a restarted container, another process may
    /// bear the number, and a process that nobody has waited for bears it still.
    pub(super) fn is_alive(&self) -> bool {
        if kill(Pid::from_raw(self.pid), None) == Err(Errno::ESRCH) {
            return false;
        }
        // Only Linux has the file; elsewhere the number has to do.
        fs::read_to_string(format!("/proc/{}/stat", self.pid))
            .map_or(!Path::new("/proc/self/stat").exists(), |stat| runs_postgres(&stat))
    }

    /// Asks for a fast shutdown: sessions are ended, everything is written.
    pub(super) fn stop(&self) {
        let _ = kill(Pid::from_raw(self.pid), Signal::SIGINT);
    }
}

/// Reads `pid (name) state …`.
fn runs_postgres(stat: &str) -> bool {
    let Some((before, after)) = stat.rsplit_once(')') else { return false };
    let is_postgres = before.split_once('(').is_some_and(|(_, name)| name.starts_with("postgres"));
    is_postgres && !after.trim_start().starts_with(['Z', 'X'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_while_it_grows() {
        let whole = "4711\n/x/data\n1700000000\n20123\n.\n127.0.0.1\n  123 4\nready   \n";
        assert_eq!(Postmaster::parse(whole), Some(Postmaster { pid: 4711, port: Some(20123), ready: true }));
        let starting = whole.replace("ready   ", "starting");
        assert_eq!(Postmaster::parse(&starting), Some(Postmaster { pid: 4711, port: Some(20123), ready: false }));
        let first = "4711\n/x/data\n1700000000\n";
        assert_eq!(Postmaster::parse(first), Some(Postmaster { pid: 4711, port: None, ready: false }));
        assert_eq!(Postmaster::parse(""), None);
        assert_eq!(Postmaster::parse("0\n"), None);
    }

    #[test]
    fn only_a_living_postgres_counts() {
        assert!(runs_postgres("7 (postgres) S 1 7 7"));
        assert!(!runs_postgres("7 (postgres) Z 1 7 7"));
        assert!(!runs_postgres("7 (bash) S 1 7 7"));
        assert!(!runs_postgres(""));
        let us = Postmaster { pid: std::process::id() as i32, port: None, ready: true };
        assert!(!us.is_alive());
    }
}
