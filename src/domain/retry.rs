//! What becomes of work that failed: whether it is tried again, and after which pause.

use std::time::Duration;

use twox_hash::XxHash3_128;

use super::{Code, Retry};

/// How pauses between tries grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The pause after the first failure; each further one doubles it.
    pub first: Duration,
    /// Where it stops growing.
    pub longest: Duration,
}

impl Backoff {
    /// Between the runs of a schedule.
    pub const OF_RUNS: Backoff = Backoff { first: Duration::from_secs(5), longest: Duration::from_secs(300) };
    /// Between the tries of one command, for which somebody waits.
    pub const WITHIN_A_COMMAND: Backoff =
        Backoff { first: Duration::from_millis(500), longest: Duration::from_secs(5) };
    /// Between questions to a Postgres that does not answer.
    pub const OF_QUESTIONS: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(30) };
    /// Between deliveries of an alert.
    pub const OF_ALERTS: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(300) };

    /// The pause after so many failures in a row, of which there is at least one. `chance`, from 0 to 1, makes it a
    /// quarter shorter to a quarter longer, so that what failed together does not come back together.
    #[must_use]
    pub fn pause(self, failures: u32, chance: f64) -> Duration {
        let doubled = self.first.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
        doubled.min(self.longest).mul_f64(0.75 + chance.clamp(0.0, 1.0) / 2.0)
    }
}

/// What comes after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextTry {
    /// Nothing by itself: the same input fails the same way.
    Never,
    /// The next try, at once.
    Now,
    /// The next try, after this pause.
    Later(Duration),
}

/// The error policy: from the kind of an error, and how often in a row there was one, to the next try.
///
/// What is gone the moment it is noticed is tried at once, but only once: after that it is as any other passing fault.
#[must_use]
pub fn next_try(code: Code, failures: u32, backoff: Backoff, chance: f64) -> NextTry {
    match code.retry() {
        Retry::Never => NextTry::Never,
        Retry::Now if failures <= 1 => NextTry::Now,
        Retry::Now | Retry::Later => NextTry::Later(backoff.pause(failures, chance)),
    }
}

/// Whether a fault often passes within seconds, so that a command may wait for that: network, restarts, locks. A full
/// disk, a reader that holds its lock for an hour or another process at the same work take longer.
#[must_use]
pub const fn passes_soon(code: Code) -> bool {
    matches!(
        code,
        Code::SourceUnavailable
            | Code::PostgresUnreachable
            | Code::ConnectionLost
            | Code::LockNotAvailable
            | Code::StatementTimeout
    )
}

/// A number from 0 to 1, excluded, that is the same for the same name and number on every machine, and different for
/// others: the jitter of what several processes must agree on, and of what people are told beforehand.
#[must_use]
pub fn chance(name: &str, number: i64) -> f64 {
    let hash = XxHash3_128::oneshot_with_seed(number.cast_unsigned(), name.as_bytes());
    // As many bits as a float holds.
    (hash >> 75) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pauses: Vec<u64> = (1..=9).map(|failures| Backoff::OF_RUNS.pause(failures, 0.5).as_secs()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(Backoff::OF_RUNS.pause(u32::MAX, 0.5).as_secs(), 300);
    }

    #[test]
    fn chance_makes_a_pause_a_quarter_shorter_or_longer() {
        let backoff = Backoff { first: 4 * SECOND, longest: 60 * SECOND };
        assert_eq!(backoff.pause(1, 0.0), 3 * SECOND);
        assert_eq!(backoff.pause(1, 1.0), 5 * SECOND);
    }

    #[test]
    fn each_kind_of_error_has_its_next_try() {
        let after = |code, failures| next_try(code, failures, Backoff::OF_RUNS, 0.5);
        for code in [Code::SchemaChanged, Code::SourceCorrupt, Code::DuplicateKey, Code::InvalidValue, Code::Internal] {
            assert_eq!(after(code, 1), NextTry::Never, "{code}");
            assert!(!passes_soon(code), "{code}");
        }
        for code in [
            Code::SourceUnavailable,
            Code::PostgresUnreachable,
            Code::ConnectionLost,
            Code::LockNotAvailable,
            Code::StatementTimeout,
        ] {
            assert_eq!(after(code, 2), NextTry::Later(10 * SECOND), "{code}");
            assert!(passes_soon(code), "{code}");
        }
        for code in [Code::RunTimeout, Code::PostgresDiskFull, Code::PublishTimeout, Code::LeaseLost] {
            assert_eq!(after(code, 1), NextTry::Later(5 * SECOND), "{code}");
            assert!(!passes_soon(code), "{code}");
        }
    }

    #[test]
    fn a_file_that_is_gone_is_tried_once_at_once() {
        let after = |failures| next_try(Code::FileGone, failures, Backoff::OF_RUNS, 0.5);
        assert_eq!([after(1), after(2)], [NextTry::Now, NextTry::Later(10 * SECOND)]);
    }

    #[test]
    fn chances_are_steady_and_spread_evenly() {
        assert!((chance("orders", 7) - chance("orders", 7)).abs() < f64::EPSILON);
        let mut tenths = [0; 10];
        for number in 0..1_000 {
            let chance = chance("orders", number);
            assert!((0.0..1.0).contains(&chance), "{chance}");
            tenths[(chance * 10.0) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (50..150).contains(count)), "{tenths:?}");
        assert!((chance("orders", 1) - chance("items", 1)).abs() > 1e-6);
    }
}
