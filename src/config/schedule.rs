//! `schedule`: when a pipeline is refreshed.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::reader::{Reader, Setting, did_you_mean};
use super::units;
use super::yaml::Node;
use crate::domain::{Code, Schedule};

/// The shortest and the longest interval.
const INTERVALS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(366 * 24);
/// Schedules of the contract, besides cron, that this version does not have yet.
const LATER: [&str; 4] = ["hourly", "daily", "weekly", "on change"];
const HINT: &str = "write `every` and a duration: `every 30s`, `every 5m`, `every 2h`, `every 1d`";

impl Setting for Schedule {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.scalar(node, "a schedule")?;
        let spelling = text.text.trim();
        if LATER.contains(&spelling) {
            return reader.not_built(
                &node.place,
                &format!("the schedule {}", text.shown()),
                "write `every 15m` or the like",
            );
        }
        if is_cron(spelling) {
            let what = format!("the cron schedule {}", text.shown());
            return reader.not_built(&node.place, &what, "write `every 15m` or the like");
        }
        let interval = spelling.strip_prefix("every ").and_then(|interval| units::duration(interval.trim()));
        match interval {
            Some(interval) if INTERVALS.contains(&interval) => Some(Schedule::Every(interval)),
            Some(_) => {
                let detail = format!("{} is out of range", text.shown());
                reader.refuse(
                    Code::InvalidSchedule,
                    &node.place,
                    &detail,
                    Some("use `every 1s` to `every 366d`".to_owned()),
                )
            }
            None => {
                let hint = if units::duration(spelling).is_some() && !text.untyped {
                    format!("did you mean `every {spelling}`?")
                } else {
                    did_you_mean(spelling, &LATER).filter(|_| !text.untyped).unwrap_or_else(|| HINT.to_owned())
                };
                let detail = format!("{} is not a schedule", text.shown());
                reader.refuse(Code::InvalidSchedule, &node.place, &detail, Some(hint))
            }
        }
    }

    fn schema() -> Json {
        super::json_schema::or_variable(json!({"type": "string", "pattern": "^every +[0-9]+(ms|s|m|h|d)$"}))
    }
}

/// Five fields of the characters of cron, of which the first is about minutes.
fn is_cron(text: &str) -> bool {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let is_cron_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '*' | '/' | ',' | '-' | '?' | '#');
    let minutes = |c: char| c.is_ascii_digit() || matches!(c, '*' | '/' | ',' | '-');
    fields.len() == 5 && fields[0].chars().all(minutes) && fields.iter().all(|field| field.chars().all(is_cron_char))
}
