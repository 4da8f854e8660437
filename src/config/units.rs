//! Durations and sizes as people write them.

use std::time::Duration;

const SIZE_UNITS: [(&str, u64); 5] = [("", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// The spelling that [`duration`] takes, as a regular expression.
pub(super) const DURATION_PATTERN: &str = "^[0-9]+(ms|s|m|h|d)$";
/// The spelling that [`size`] takes, as a regular expression.
pub(super) const SIZE_PATTERN: &str = "^[0-9]+(KiB|MiB|GiB|TiB)?$";

/// A whole number and `ms`, `s`, `m`, `h` or `d`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    crate::domain::parse_duration(text)
}

/// Bytes: a whole number, alone or with `KiB`, `MiB`, `GiB` or `TiB`.
pub(super) fn size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = SIZE_UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// The shortest spelling of a duration in milliseconds.
pub(super) fn spell_duration(millis: u64) -> String {
    crate::domain::spell_duration(Duration::from_millis(millis))
}

/// The shortest spelling of a number of bytes.
pub(super) fn spell_size(bytes: u64) -> String {
    let unit = SIZE_UNITS.iter().rev().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    unit.map_or_else(|| bytes.to_string(), |(name, factor)| format!("{}{name}", bytes / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_spelled() {
        for (text, millis) in [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000), ("1d", 86_400_000)]
        {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
            assert_eq!(spell_duration(millis), text);
        }
        for text in
            ["", "5", "5 m", "-5m", "1.5h", "5M", "m", "5mm", "99999999999999999999s", "99999999999999999d", "٣m"]
        {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_read_and_spelled() {
        for (text, bytes) in [("0", 0), ("1000", 1000), ("64KiB", 65_536), ("512MiB", 512 << 20), ("1GiB", 1 << 30)] {
            assert_eq!(size(text), Some(bytes), "{text}");
            assert_eq!(spell_size(bytes), text);
        }
        for text in ["", "1GB", "1 GiB", "1gib", "1.5GiB", "-1", "99999999999TiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }
}
