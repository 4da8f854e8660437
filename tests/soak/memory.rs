//! What a process holds of memory, over time.

use std::fmt;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// How often it is looked at.
const EACH: Duration = Duration::from_secs(1);
/// Runs that are shorter are over before a process has warmed up.
const JUDGED_FROM: Duration = Duration::from_secs(120);
/// By how much the most that is held in the last quarter of a run may exceed the most of the second: a share of it, …
const MAY_GROW: f64 = 0.15;
/// … and these bytes besides, which come and go.
const MAY_SWAY: u64 = 16 << 20;

/// The resident memory of one process.
#[derive(Debug)]
pub(super) struct Memory {
    name: &'static str,
    samples: Vec<(Duration, u64)>,
}

impl Memory {
    /// Looks until it is told to end.
    pub(super) async fn watch(name: &'static str, pid: u32, done: CancellationToken) -> Memory {
        let (began, mut memory) = (Instant::now(), Memory { name, samples: Vec::new() });
        let mut ticks = tokio::time::interval(EACH);
        loop {
            tokio::select! {
                () = done.cancelled() => return memory,
                _ = ticks.tick() => memory.samples.push((began.elapsed(), resident(pid))),
            }
        }
    }

    /// The most in a quarter of the time.
    fn most_in(&self, quarter: u32) -> u64 {
        let whole = self.samples.last().map_or(Duration::ZERO, |(at, _)| *at);
        let (from, to) = (whole * quarter / 4, whole * (quarter + 1) / 4);
        let within = self.samples.iter().filter(|(at, _)| (from..=to).contains(at));
        within.map(|(_, bytes)| *bytes).max().unwrap_or_default()
    }

    /// Fails where it grows on after the first quarter.
    pub(super) fn assert_flat(&self) {
        if self.samples.last().is_none_or(|(at, _)| *at < JUDGED_FROM) {
            return;
        }
        let (warm, last) = (self.most_in(1), self.most_in(3));
        let allowed = (warm as f64 * (1.0 + MAY_GROW)) as u64 + MAY_SWAY;
        assert!(last <= allowed, "{self}: more than {} MiB in the last quarter", allowed >> 20);
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |sample: Option<&(Duration, u64)>| sample.map_or(0, |(_, bytes)| bytes >> 20);
        let (first, last) = (mib(self.samples.first()), mib(self.samples.last()));
        let quarters: Vec<String> = (0..4).map(|quarter| (self.most_in(quarter) >> 20).to_string()).collect();
        write!(
            f,
            "{} held {first} MiB first and {last} MiB last, in its quarters {} at most",
            self.name,
            quarters.join(", ")
        )
    }
}

fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its resident memory");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib << 10
}
