//! What happened, counted.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Latencies fall into bins of which each ends at so many times the end of the one before; the first ends at a microsecond.
const BIN: f64 = 1.05;
/// The last bin ends after a minute and a half.
const BINS: usize = 376;

/// Counts of a run.
pub(super) struct Tally {
    /// Answers that were checked against the version that they said.
    pub(super) checked: AtomicU64,
    pub(super) unchanged: AtomicU64,
    pub(super) stale_cursors: AtomicU64,
    /// Answers from the cache while nobody knew whether they still held.
    pub(super) marked: AtomicU64,
    /// Answers of 503, all explained.
    pub(super) unavailable: AtomicU64,
    pub(super) keys_revoked: AtomicU64,
    /// The longest that a key lived after it was revoked, in milliseconds.
    pub(super) outlived: AtomicU64,
    /// Answers that were taken slowly, and those that the server did not wait for.
    pub(super) taken_slowly: AtomicU64,
    pub(super) cut_off: AtomicU64,
    versions: Mutex<BTreeSet<u64>>,
    latencies: [AtomicU64; BINS],
}

impl Default for Tally {
    fn default() -> Self {
        Tally {
            checked: AtomicU64::default(),
            unchanged: AtomicU64::default(),
            stale_cursors: AtomicU64::default(),
            marked: AtomicU64::default(),
            unavailable: AtomicU64::default(),
            keys_revoked: AtomicU64::default(),
            outlived: AtomicU64::default(),
            taken_slowly: AtomicU64::default(),
            cut_off: AtomicU64::default(),
            versions: Mutex::default(),
            latencies: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

/// Adds one.
pub(super) fn count(number: &AtomicU64) {
    number.fetch_add(1, Ordering::Relaxed);
}

impl Tally {
    /// Counts an answer of this version.
    pub(super) fn saw(&self, version: u64) {
        count(&self.checked);
        self.versions.lock().unwrap().insert(version);
    }

    /// Notes how long an answer took.
    pub(super) fn took(&self, time: Duration) {
        let bin = (time.as_micros().max(1) as f64).ln() / BIN.ln();
        count(&self.latencies[(bin as usize).min(BINS - 1)]);
    }

    /// How many versions were seen.
    pub(super) fn versions(&self) -> usize {
        self.versions.lock().unwrap().len()
    }

    /// The time within which this share of the answers came, in milliseconds, to a bin.
    fn quantile(&self, share: f64) -> f64 {
        let bins: Vec<u64> = self.latencies.iter().map(|bin| bin.load(Ordering::Relaxed)).collect();
        let mut left = (bins.iter().sum::<u64>() as f64 * share).ceil() as u64;
        let bin = bins.iter().position(|answers| {
            left = left.saturating_sub(*answers);
            left == 0
        });
        BIN.powi(bin.unwrap_or_default() as i32 + 1) / 1_000.0
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
        write!(
            f,
            "{} answers checked against {} versions ({} of them 304, {} marked as stale), {} stale cursors, {} answers of \
             503, all explained; p50 {:.1} ms, p99 {:.1} ms; {} keys revoked, refused after {} ms at most; {} answers taken \
             slowly, {} cut off",
            of(&self.checked),
            self.versions(),
            of(&self.unchanged),
            of(&self.marked),
            of(&self.stale_cursors),
            of(&self.unavailable),
            self.quantile(0.5),
            self.quantile(0.99),
            of(&self.keys_revoked),
            of(&self.outlived),
            of(&self.taken_slowly),
            of(&self.cut_off),
        )
    }
}
