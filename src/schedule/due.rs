//! When a pipeline runs next, by its schedule and by what became of its last runs.
//!
//! A pure function of what Postgres holds: every process comes to the same time, before a restart and after it, and
//! `status` can say it beforehand.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::domain::{Backoff, CronSchedule, NextTry, Pipeline, Schedule, chance, next_try};
use crate::store::{CancelledRun, FailedRun, SyncState};

/// The most by which a run is late on purpose, so that pipelines with the same times do not all start at once; at most
/// a tenth of an interval.
const LONGEST_JITTER: Duration = Duration::from_secs(10);
/// The longest pause after failures is the interval, but within these bounds.
const SHORTEST_LONGEST: Duration = Duration::from_secs(30);

/// When a pipeline runs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextRun {
    /// At this time; one that has passed means that it is due.
    At(DateTime<Utc>),
    /// As soon as its source has moved on from what is published or was refused, or its definition has changed.
    WhenSourceMoves,
    /// Not by itself.
    OnRequest,
}

/// When a pipeline runs next whose syncs fare like this. Whether it is paused does not matter here.
pub fn next_run(pipeline: &Pipeline, state: &SyncState) -> NextRun {
    let Some((_, last_start)) = state.last.filter(|_| pipeline.schedule != Schedule::Manual) else {
        // A table that was never tried is loaded at once.
        return if pipeline.schedule == Schedule::Manual { NextRun::OnRequest } else { NextRun::At(state.now) };
    };
    if let Some(cancelled) = &state.cancelled {
        return after_cancel(pipeline, cancelled, state);
    }
    let tick = tick_after(pipeline, last_start, state);
    match &state.failure {
        None => tick.map_or(NextRun::WhenSourceMoves, NextRun::At),
        Some(failure) => after_failure(pipeline, failure, state, tick),
    }
}

/// What may heal by itself is tried with growing pauses; what only a person can mend waits for its tick, and for the
/// pause if its ticks come faster than that. Without ticks it waits for another version of the source.
fn after_failure(pipeline: &Pipeline, failure: &FailedRun, state: &SyncState, tick: Option<DateTime<Utc>>) -> NextRun {
    let backoff = match pipeline.schedule {
        Schedule::Every(interval) => {
            let longest = interval.clamp(SHORTEST_LONGEST, Backoff::OF_RUNS.longest);
            Backoff { longest, ..Backoff::OF_RUNS }
        }
        _ => Backoff::OF_RUNS,
    };
    let chance = chance(pipeline.name.as_str(), failure.run);
    match (next_try(failure.code, state.failures, backoff, chance), tick) {
        (NextTry::Later(pause), _) => NextRun::At(failure.ended_at + pause),
        (NextTry::Now, _) => NextRun::At(failure.ended_at),
        (NextTry::Never, Some(tick)) => NextRun::At(tick.max(failure.ended_at + backoff.pause(state.failures, chance))),
        // What came before the source was looked at says nothing about it.
        (NextTry::Never, None) if failure.definition.is_none() => {
            NextRun::At(failure.ended_at + backoff.pause(state.failures, chance))
        }
        (NextTry::Never, None) => NextRun::WhenSourceMoves,
    }
}

/// What a person has stopped is not begun again at once: it waits for the first tick after its end, as if it had run so
/// long, and without ticks for another version of the source.
fn after_cancel(pipeline: &Pipeline, cancelled: &CancelledRun, state: &SyncState) -> NextRun {
    let pause = Backoff::OF_RUNS.pause(1, chance(pipeline.name.as_str(), cancelled.run));
    match tick_after(pipeline, cancelled.ended_at, state) {
        Some(tick) => NextRun::At(tick.max(cancelled.ended_at + pause)),
        // It was cancelled before the source was looked at, so that there is no version to wait on.
        None if cancelled.definition.is_none() => NextRun::At(cancelled.ended_at + pause),
        None => NextRun::WhenSourceMoves,
    }
}

/// The first tick of the clock after the last start, with its jitter; ticks missed since then make one run. `None` where
/// the schedule has no ticks.
fn tick_after(pipeline: &Pipeline, last_start: DateTime<Utc>, state: &SyncState) -> Option<DateTime<Utc>> {
    // A start in the future is one of a clock since set back, which must not stop the schedule.
    if last_start > state.now {
        return matches!(pipeline.schedule, Schedule::Every(_) | Schedule::Cron(_)).then_some(state.now);
    }
    match &pipeline.schedule {
        Schedule::Every(interval) => {
            Some(last_start + *interval + jitter(pipeline, last_start.timestamp_millis(), *interval / 10))
        }
        Schedule::Cron(cron) => Some(cron_after(pipeline, cron, last_start)),
        Schedule::Manual | Schedule::OnChange => None,
    }
}

/// A start within the jitter after a tick is the start of that tick: the next one counts.
fn cron_after(pipeline: &Pipeline, cron: &CronSchedule, last_start: DateTime<Utc>) -> DateTime<Utc> {
    match cron.next_after(last_start) {
        Some(tick) => tick + jitter(pipeline, tick.timestamp(), LONGEST_JITTER),
        None => DateTime::<Utc>::MAX_UTC,
    }
}

fn jitter(pipeline: &Pipeline, tick: i64, longest: Duration) -> Duration {
    longest.min(LONGEST_JITTER).mul_f64(chance(pipeline.name.as_str(), tick))
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::domain::{
        Checks, Code, ColumnRules, Mode, OnBadRow, OnDuplicateKey, OnSchemaChange, ServePolicy, SourceSpec, TableName,
    };

    pub(in crate::schedule) fn pipeline(name: &str, schedule: Schedule) -> Pipeline {
        Pipeline {
            name: TableName::new(name).unwrap(),
            source: SourceSpec::Auto("lake/items".to_owned()),
            primary_key: vec!["id".to_owned()],
            columns: ColumnRules::default(),
            transform: None,
            mode: Mode::Auto,
            schedule,
            on_duplicate_key: OnDuplicateKey::Fail,
            on_bad_row: OnBadRow::Fail,
            on_schema_change: OnSchemaChange::Fail,
            contract: None,
            allow_empty: false,
            verify: None,
            indexes: Vec::new(),
            grants: Vec::new(),
            freshness: None,
            checks: Checks::default(),
            group: None,
            retain: 1,
            timeout: Duration::from_secs(60),
            publish_timeout: Duration::from_secs(60),
            serve: ServePolicy {
                enabled: true,
                hide: Vec::new(),
                page_limit: 100,
                cache_ttl: None,
                deprecated: None,
                roles: None,
                row_filter: std::collections::BTreeMap::new(),
                rate_limit: None,
            },
            file: PathBuf::new(),
        }
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    /// A pipeline whose last run began at `last` and did well, seen at `now`.
    fn fared(last: Option<i64>, now: i64) -> SyncState {
        SyncState {
            pipeline: "items".to_owned(),
            now: at(now),
            paused: false,
            paused_reason: None,
            last: last.map(|last| (1, at(last))),
            under_way: false,
            failures: 0,
            failing_since: None,
            failure: None,
            cancelled: None,
            succeeded_at: None,
            published: None,
            first_start: None,
        }
    }

    /// The same whose last runs have failed, the last of them a second after it had begun.
    pub(in crate::schedule) fn failed(last: i64, failures: u32, code: Code) -> SyncState {
        let failure = FailedRun {
            run: 7,
            ended_at: at(last + 1),
            code,
            error: serde_json::Value::Null,
            source: None,
            definition: Some("the present one".to_owned()),
        };
        SyncState { failures, failure: Some(failure), ..fared(Some(last), last + 1) }
    }

    /// Seconds from `from` to the next run.
    fn seconds_after(from: i64, next: NextRun) -> f64 {
        let NextRun::At(time) = next else { panic!("{next:?}") };
        (time - at(from)).as_seconds_f64()
    }

    fn every(seconds: u64) -> Pipeline {
        pipeline("items", Schedule::Every(Duration::from_secs(seconds)))
    }

    fn cron(expression: &str) -> Pipeline {
        pipeline("items", Schedule::Cron(CronSchedule::new(expression, chrono_tz::UTC).unwrap()))
    }

    #[test]
    fn the_first_load_is_due_at_once_and_one_on_request_never() {
        for schedule in [Schedule::Every(Duration::from_secs(60)), Schedule::OnChange] {
            assert_eq!(next_run(&pipeline("items", schedule), &fared(None, 100)), NextRun::At(at(100)));
        }
        assert_eq!(next_run(&cron("0 0 1 1 *"), &fared(None, 100)), NextRun::At(at(100)));
        assert_eq!(next_run(&pipeline("items", Schedule::Manual), &fared(None, 100)), NextRun::OnRequest);
    }

    #[test]
    fn an_interval_counts_from_the_last_start_with_a_little_jitter() {
        let mut jitters = Vec::new();
        for name in ["a", "b", "c", "d", "e", "f"] {
            let pipeline = pipeline(name, Schedule::Every(Duration::from_secs(60)));
            let wait = seconds_after(100, next_run(&pipeline, &fared(Some(100), 130)));
            assert!((60.0..66.0).contains(&wait), "{wait}");
            assert_eq!(next_run(&pipeline, &fared(Some(100), 130)), next_run(&pipeline, &fared(Some(100), 150)));
            jitters.push(wait);
        }
        jitters.sort_by(f64::total_cmp);
        assert!(jitters.windows(2).all(|pair| pair[0] < pair[1]), "{jitters:?}");
    }

    #[test]
    fn jitter_is_bounded_however_long_the_interval() {
        let wait = seconds_after(0, next_run(&every(86_400), &fared(Some(0), 1)));
        assert!((86_400.0..86_410.0).contains(&wait), "{wait}");
        let wait = seconds_after(0, next_run(&cron("0 * * * *"), &fared(Some(5), 6)));
        assert!((3_600.0..3_610.0).contains(&wait), "{wait}");
    }

    #[test]
    fn missed_ticks_make_one_run() {
        assert!(seconds_after(10_000, next_run(&every(60), &fared(Some(100), 10_000))) < 0.0);
        assert!(seconds_after(10_000, next_run(&cron("0 * * * *"), &fared(Some(100), 10_000))) < 0.0);
        let wait = seconds_after(10_800, next_run(&cron("0 * * * *"), &fared(Some(10_000), 10_001)));
        assert!((0.0..10.0).contains(&wait), "{wait}");
    }

    #[test]
    fn a_tick_during_a_run_makes_another_after_it() {
        assert!(seconds_after(100, next_run(&cron("* * * * *"), &fared(Some(59), 100))) < 0.0);
    }

    #[test]
    fn a_clock_set_back_does_not_stop_the_schedule() {
        assert_eq!(next_run(&every(60), &fared(Some(10_000), 0)), NextRun::At(at(0)));
        assert_eq!(next_run(&cron("0 * * * *"), &fared(Some(10_000), 1)), NextRun::At(at(1)));
    }

    #[test]
    fn a_source_that_is_watched_has_no_ticks() {
        let watched = pipeline("items", Schedule::OnChange);
        assert_eq!(next_run(&watched, &fared(Some(100), 130)), NextRun::WhenSourceMoves);
    }

    #[test]
    fn what_may_heal_is_tried_with_growing_pauses_whatever_the_schedule() {
        for pipeline in [every(3_600), cron("0 0 1 1 *"), pipeline("items", Schedule::OnChange)] {
            let waits: Vec<f64> = [1, 2, 3, 4, 20]
                .map(|failures| {
                    seconds_after(101, next_run(&pipeline, &failed(100, failures, Code::SourceUnavailable)))
                })
                .to_vec();
            for (wait, pause) in waits.iter().zip([5.0, 10.0, 20.0, 40.0, 300.0]) {
                assert!((pause * 0.75..=pause * 1.25).contains(wait), "{waits:?}");
            }
        }
    }

    #[test]
    fn an_interval_bounds_the_pause() {
        for (interval, longest) in [(5, 30.0), (60, 60.0), (3_600, 300.0)] {
            let wait = seconds_after(101, next_run(&every(interval), &failed(100, 20, Code::ConnectionLost)));
            assert!((longest * 0.75..=longest * 1.25).contains(&wait), "every {interval} s: {wait}");
        }
    }

    #[test]
    fn what_cannot_heal_waits_for_the_next_tick_and_is_not_hammered() {
        let wait = seconds_after(100, next_run(&every(3_600), &failed(100, 1, Code::DuplicateKey)));
        assert!((3_600.0..3_610.0).contains(&wait), "{wait}");
        let wait = seconds_after(101, next_run(&every(1), &failed(100, 9, Code::DuplicateKey)));
        assert!((22.5..=37.5).contains(&wait), "{wait}");
        let wait = seconds_after(101, next_run(&cron("* * * * *"), &failed(100, 9, Code::DuplicateKey)));
        assert!((225.0..=375.0).contains(&wait), "{wait}");
    }

    #[test]
    fn a_refused_version_waits_for_another_one() {
        let watched = pipeline("items", Schedule::OnChange);
        let mut refused = failed(100, 1, Code::SchemaChanged);
        assert_eq!(next_run(&watched, &refused), NextRun::WhenSourceMoves);
        // A run that did not come to look at the source is no reason to wait for another version.
        refused.failure.as_mut().unwrap().definition = None;
        let wait = seconds_after(101, next_run(&watched, &refused));
        assert!((3.75..=6.25).contains(&wait), "{wait}");
    }

    #[test]
    fn a_cancelled_run_waits_for_the_first_tick_after_its_end_or_for_another_version() {
        let cancelled = |definition: Option<&str>| SyncState {
            cancelled: Some(CancelledRun {
                run: 7,
                ended_at: at(1_000),
                source: None,
                definition: definition.map(str::to_owned),
            }),
            ..fared(Some(100), 1_000)
        };
        let looked = cancelled(Some("the present one"));
        let wait = seconds_after(1_000, next_run(&every(600), &looked));
        assert!((600.0..610.0).contains(&wait), "{wait}");
        let wait = seconds_after(1_000, next_run(&every(1), &looked));
        assert!((3.75..=6.25).contains(&wait), "{wait}");
        let wait = seconds_after(1_000, next_run(&cron("* * * * *"), &looked));
        assert!((20.0..30.0).contains(&wait), "{wait}");
        let watched = pipeline("items", Schedule::OnChange);
        assert_eq!(next_run(&watched, &looked), NextRun::WhenSourceMoves);
        let wait = seconds_after(1_000, next_run(&watched, &cancelled(None)));
        assert!((3.75..=6.25).contains(&wait), "{wait}");
        assert_eq!(next_run(&pipeline("items", Schedule::Manual), &looked), NextRun::OnRequest);
    }
}
