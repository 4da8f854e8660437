//! When a pipeline is due by the clock.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::domain::CronSchedule;

/// How long until a pipeline is due that runs this long after its last start; zero when it is due.
pub(super) fn until_interval(last_start: DateTime<Utc>, interval: Duration, now: DateTime<Utc>) -> Duration {
    // A clock set back must not stop the schedule: the pause is never longer than the interval.
    let since = (now - last_start).to_std().unwrap_or_default();
    interval.saturating_sub(since)
}

/// How long until a pipeline is due at times of the calendar. A time since its last start, however many there were,
/// makes it due now.
pub(super) fn until_cron(last_start: DateTime<Utc>, cron: &CronSchedule, now: DateTime<Utc>) -> Duration {
    // A start in the future is one of a clock since set back.
    match cron.next_after(last_start.min(now)) {
        Some(next) => (next - now).to_std().unwrap_or_default(),
        None => Duration::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn the_pause_counts_from_the_last_start() {
        assert_eq!(until_interval(at(100), MINUTE, at(130)), Duration::from_secs(30));
    }

    #[test]
    fn missed_ticks_make_one_run() {
        assert_eq!(until_interval(at(100), MINUTE, at(10_000)), Duration::ZERO);
        let hourly = CronSchedule::new("0 * * * *", chrono_tz::UTC).unwrap();
        assert_eq!(until_cron(at(100), &hourly, at(10_000)), Duration::ZERO);
        assert_eq!(until_cron(at(10_000), &hourly, at(10_001)), Duration::from_secs(799));
    }

    #[test]
    fn a_tick_during_a_run_makes_another_after_it() {
        let every_minute = CronSchedule::new("* * * * *", chrono_tz::UTC).unwrap();
        assert_eq!(until_cron(at(59), &every_minute, at(61)), Duration::ZERO);
    }

    #[test]
    fn a_clock_set_back_does_not_stop_the_schedule() {
        assert_eq!(until_interval(at(10_000), MINUTE, at(0)), MINUTE);
        let hourly = CronSchedule::new("0 * * * *", chrono_tz::UTC).unwrap();
        assert_eq!(until_cron(at(10_000), &hourly, at(1)), Duration::from_secs(3_599));
    }
}
