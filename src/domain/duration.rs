//! Durations as people write them.

use std::time::Duration;

/// The units of configuration files, with their milliseconds, ascending.
pub const DURATION_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// The shortest spelling of a duration in whole milliseconds: `90s`, `6h`.
#[must_use]
pub fn spell_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let unit = DURATION_UNITS.iter().rev().find(|(_, unit)| millis > 0 && millis.is_multiple_of(u128::from(*unit)));
    let (name, unit) = unit.unwrap_or(&DURATION_UNITS[0]);
    format!("{}{name}", millis / u128::from(*unit))
}

/// A duration as people write it: a whole number and `ms`, `s`, `m`, `h` or `d`. `None` for anything else.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = DURATION_UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_spelled_in_the_largest_unit_that_fits() {
        for (seconds, text) in [(0, "0ms"), (90, "90s"), (120, "2m"), (3600, "1h"), (86_400, "1d"), (90_000, "25h")] {
            assert_eq!(spell_duration(Duration::from_secs(seconds)), text);
        }
        assert_eq!(spell_duration(Duration::from_millis(1_500)), "1500ms");
    }
}
