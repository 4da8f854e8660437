//! When a table is refreshed.

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, TimeDelta, TimeZone as _, Timelike as _, Utc};
use chrono_tz::Tz;
use croner::parser::{CronParser, Seconds, Year};

/// When refreshes are done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// On request only.
    Manual,
    /// This long after the last start.
    Every(Duration),
    /// At times of the calendar.
    Cron(CronSchedule),
    /// As soon as the source has changed.
    OnChange,
}

/// Five fields as crontab reads them, in a time zone: minute, hour, day of the month, month, day of the week (0 to 7 or
/// names; 0 and 7 are Sunday).
///
/// Where both day fields are restricted, a day that matches either counts; where one of them begins with `*`, both
/// must match. Times that a change to summer time skips are made up for right after it; times that the change back
/// repeats count once, except where minutes or hours are wildcards. All this is what Debian's cron does.
#[derive(Debug, Clone)]
pub struct CronSchedule {
    expression: String,
    cron: croner::Cron,
    timezone: Tz,
    /// Whether it names its minutes and hours.
    at_fixed_times: bool,
}

/// Longer than any clock is set forward.
const LONGEST_GAP_MINUTES: i64 = 48 * 60;

impl CronSchedule {
    /// Reads an expression.
    ///
    /// # Errors
    /// What is wrong with it, for a person.
    pub fn new(expression: &str, timezone: Tz) -> Result<CronSchedule, String> {
        let fields: Vec<&str> = expression.split_whitespace().collect();
        let [minute, hour, day_of_month, _, day_of_week] = fields.as_slice() else {
            return Err(format!("it has {} fields, not five", fields.len()));
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '*' | '/' | ',' | '-');
        // Extensions that other programs know, such as `L`, `W` and `#`, are not crontab's.
        let letters_are_names = |field: &&str| {
            field.split(|c: char| !c.is_ascii_alphabetic()).all(|word| word.is_empty() || word.len() == 3)
        };
        if let Some(field) = fields.iter().find(|field| !field.chars().all(plain) || !letters_are_names(field)) {
            return Err(format!("`{field}` is not understood"));
        }
        let both_days = day_of_month.starts_with('*') || day_of_week.starts_with('*');
        let parser =
            CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).dom_and_dow(both_days).build();
        let cron = parser.parse(&fields.join(" ")).map_err(|error| error.to_string())?;
        let at_fixed_times = !minute.starts_with('*') && !hour.starts_with('*');
        let schedule = CronSchedule { expression: fields.join(" "), cron, timezone, at_fixed_times };
        if schedule.next_after(DateTime::UNIX_EPOCH).is_none() {
            return Err("no day ever matches it".to_owned());
        }
        Ok(schedule)
    }

    /// The expression, with single spaces.
    #[must_use]
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// The time zone of its fields.
    #[must_use]
    pub fn timezone(&self) -> Tz {
        self.timezone
    }

    /// The first time after an instant; `None` where there is none.
    #[must_use]
    pub fn next_after(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let local = instant.with_timezone(&self.timezone);
        if !self.at_fixed_times {
            return Some(self.cron.find_next_occurrence(&local, false).ok()?.with_timezone(&Utc));
        }
        // By the clock on the wall, which may skip a time or show it twice.
        let mut wall = local.naive_local();
        loop {
            wall = self.cron.find_next_occurrence(&wall, false).ok()?;
            let found = self.first_instant(wall)?;
            if found > instant {
                return Some(found);
            }
        }
    }

    /// When the clock on the wall first shows a time or, where it skips it, goes on.
    fn first_instant(&self, wall: NaiveDateTime) -> Option<DateTime<Utc>> {
        (0..LONGEST_GAP_MINUTES).find_map(|minutes| {
            let shown = wall.checked_add_signed(TimeDelta::minutes(minutes))?;
            let shown = if minutes == 0 { shown } else { shown.with_second(0)? };
            Some(self.timezone.from_local_datetime(&shown).earliest()?.with_timezone(&Utc))
        })
    }
}

impl PartialEq for CronSchedule {
    fn eq(&self, other: &Self) -> bool {
        (&self.expression, self.timezone) == (&other.expression, other.timezone)
    }
}

impl Eq for CronSchedule {}
