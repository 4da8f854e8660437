//! Cron schedules against an independent model of Debian's cron: `tests/cron/cronsim.json` says how its times were made.

use chrono::{DateTime, Utc};
use lakegate::domain::CronSchedule;
use serde::Deserialize;

#[derive(Deserialize)]
struct Times {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    schedule: String,
    timezone: String,
    after: DateTime<Utc>,
    next: Vec<DateTime<Utc>>,
}

#[test]
fn the_next_twenty_times_are_those_of_crontab() {
    let times: Times = serde_json::from_str(include_str!("cron/cronsim.json")).unwrap();
    let mut wrong = Vec::new();
    for Case { schedule, timezone, after, next } in times.cases {
        let cron = CronSchedule::new(&schedule, timezone.parse().unwrap()).unwrap();
        let found: Vec<DateTime<Utc>> =
            std::iter::successors(cron.next_after(after), |time| cron.next_after(*time)).take(next.len()).collect();
        if let Some(at) = found.iter().zip(&next).position(|(found, expected)| found != expected) {
            wrong.push(format!("{schedule} in {timezone}, time {}: {} and not {}", at + 1, found[at], next[at]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_crontab_does_not_know_is_refused() {
    for schedule in ["", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8"] {
        assert!(CronSchedule::new(schedule, chrono_tz::UTC).is_err(), "{schedule}");
    }
    for schedule in ["0 0 L * *", "0 0 * * 5#2", "0 0 15W * *", "@daily", "0 0 30 2 *", "0 0 ? * *"] {
        assert!(CronSchedule::new(schedule, chrono_tz::UTC).is_err(), "{schedule}");
    }
}
