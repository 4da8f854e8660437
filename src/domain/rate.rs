//! How many rows may be read in how long.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::parse_duration;

/// The longest time that a rate is told for, in seconds: a day.
const MAX_SECONDS: u64 = 24 * 60 * 60;

/// The most rows of a rate.
const MAX_ROWS: u32 = 1_000_000_000;

/// So many rows in so long, which also is how many may come at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// 1 to 1,000,000,000.
    pub rows: u32,
    /// 1 to 86,400.
    pub seconds: u32,
}

/// What may be read of a table; `None` = as much as there is time for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// By each caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<Rate>,
    /// By all together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<Rate>,
}

impl Rate {
    /// Reads `100/s`, `6000/m`, `100/10s`: rows, and a duration in whole seconds whose number may be left out where it is 1.
    #[must_use]
    pub fn parse(text: &str) -> Option<Rate> {
        let (rows, window) = text.split_once('/')?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let rows = rows.parse().ok().filter(|_| digits(rows))?;
        let window = match window.as_bytes().first()? {
            b'0'..=b'9' => parse_duration(window),
            _ => parse_duration(&format!("1{window}")),
        }?;
        let seconds = window.as_secs();
        let is_sound =
            window.subsec_nanos() == 0 && (1..=MAX_SECONDS).contains(&seconds) && (1..=MAX_ROWS).contains(&rows);
        is_sound.then_some(Rate { rows, seconds: seconds as u32 })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seconds {
            1 => write!(f, "{} rows a second", self.rows),
            seconds => write!(f, "{} rows in {seconds} s", self.rows),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_rows_and_a_time() {
        for (text, rows, seconds) in
            [("100/s", 100, 1), ("6000/m", 6_000, 60), ("1/10s", 1, 10), ("5/2h", 5, 7_200), ("1/d", 1, 86_400)]
        {
            assert_eq!(Rate::parse(text), Some(Rate { rows, seconds }), "{text}");
        }
        for text in [
            "",
            "100",
            "/s",
            "100/",
            "0/s",
            "-1/s",
            "+1/s",
            "1/ms",
            "1500/1500ms",
            "1/0s",
            "1/2d",
            "1/x",
            "1000000001/s",
            "1 /s",
        ] {
            assert_eq!(Rate::parse(text), None, "{text}");
        }
    }
}
