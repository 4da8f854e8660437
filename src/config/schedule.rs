//! `schedule`: when a pipeline is refreshed.

use std::ops::RangeInclusive;
use std::time::Duration;

use chrono_tz::{TZ_VARIANTS, Tz};
use serde_json::{Value as Json, json};

use super::json_schema;
use super::reader::{At, Reader, Setting, did_you_mean};
use super::units;
use super::yaml::Node;
use crate::domain::{Code, CronSchedule, Schedule};

/// The shortest and the longest interval.
const INTERVALS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(366 * 24);
/// Schedules with a name, and what they stand for.
const NAMED: [(&str, &str); 3] = [("hourly", "0 * * * *"), ("daily", "0 0 * * *"), ("weekly", "0 0 * * 0")];
const ON_CHANGE: &str = "on change";
const HINT: &str = "write `every` and a duration (`every 30s`, `every 5m`, `every 2h`), `hourly`, `daily`, `weekly`, \
                    `on change`, or five fields of cron in quotes";

/// `schedule` before the time zone is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum When {
    Every(Duration),
    Cron(String),
    OnChange,
}

/// `timezone`: a name of the IANA database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timezone(pub Tz);

impl Setting for When {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.scalar(node, "a schedule")?;
        let spelling = text.text.trim();
        if spelling == ON_CHANGE {
            return Some(When::OnChange);
        }
        if let Some((_, cron)) = NAMED.iter().find(|(name, _)| *name == spelling) {
            return Some(When::Cron((*cron).to_owned()));
        }
        if looks_like_cron(spelling) {
            // The time zone makes no difference to what is understood.
            return match CronSchedule::new(spelling, Tz::UTC) {
                Ok(cron) => Some(When::Cron(cron.expression().to_owned())),
                Err(why) => {
                    let detail = format!("{} is not a cron schedule: {why}", text.shown());
                    let hint =
                        "the fields are minute, hour, day of the month, month, day of the week (0 to 7, or sun to sat)";
                    reader.refuse(Code::InvalidSchedule, &node.place, &detail, Some(hint.to_owned()))
                }
            };
        }
        let interval = spelling.strip_prefix("every ").and_then(|interval| units::duration(interval.trim()));
        match interval {
            Some(interval) if INTERVALS.contains(&interval) => Some(When::Every(interval)),
            Some(_) => {
                let detail = format!("{} is out of range", text.shown());
                let hint = "use `every 1s` to `every 366d`".to_owned();
                reader.refuse(Code::InvalidSchedule, &node.place, &detail, Some(hint))
            }
            None => {
                let names: Vec<&str> = NAMED.iter().map(|(name, _)| *name).chain([ON_CHANGE]).collect();
                let hint = if units::duration(spelling).is_some() && !text.untyped {
                    format!("did you mean `every {spelling}`?")
                } else {
                    did_you_mean(spelling, &names).filter(|_| !text.untyped).unwrap_or_else(|| HINT.to_owned())
                };
                let detail = format!("{} is not a schedule", text.shown());
                reader.refuse(Code::InvalidSchedule, &node.place, &detail, Some(hint))
            }
        }
    }

    fn schema() -> Json {
        let named: Vec<&str> = NAMED.iter().map(|(name, _)| *name).chain([ON_CHANGE]).collect();
        let pattern = format!(r"^({}|every +[0-9]+(ms|s|m|h|d)|(\S+\s+){{4}}\S+)$", named.join("|"));
        json_schema::or_variable(json!({"type": "string", "pattern": pattern}))
    }
}

impl Setting for Timezone {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.scalar(node, "a time zone")?;
        let spelling = text.text.trim();
        if let Ok(timezone) = spelling.parse() {
            return Some(Timezone(timezone));
        }
        let detail = format!("{} is not a time zone", text.shown());
        let names: Vec<&str> = TZ_VARIANTS.iter().map(|timezone| timezone.name()).collect();
        let hint = did_you_mean(spelling, &names).filter(|_| !text.untyped);
        let hint = hint.unwrap_or_else(|| "use a name of the IANA database: `UTC`, `Europe/Berlin`".to_owned());
        reader.refuse(Code::InvalidValue, &node.place, &detail, Some(hint))
    }

    fn schema() -> Json {
        json_schema::or_variable(json!({"type": "string"}))
    }
}

/// What a pipeline's `schedule` and `timezone` come to.
pub(super) fn schedule(when: Option<At<When>>, timezone: Option<At<Timezone>>) -> Option<Schedule> {
    let timezone = timezone.map_or(Tz::UTC, |timezone| timezone.value.0);
    Some(match when.map(|when| when.value) {
        None => Schedule::Manual,
        Some(When::Every(interval)) => Schedule::Every(interval),
        Some(When::OnChange) => Schedule::OnChange,
        Some(When::Cron(expression)) => Schedule::Cron(CronSchedule::new(&expression, timezone).ok()?),
    })
}

/// Five fields, of which the first is about minutes.
fn looks_like_cron(text: &str) -> bool {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let minutes = |c: char| c.is_ascii_digit() || matches!(c, '*' | '/' | ',' | '-');
    fields.len() == 5 && fields[0].chars().all(minutes)
}
