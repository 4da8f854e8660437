//! Dates, times and intervals: Postgres' binary counts to ISO 8601 and back.
//!
//! Postgres counts days and microseconds from 2000-01-01. Years have four digits; those beyond 9999 and before year 0
//! are written in ISO 8601's expanded form with a sign (`+12024-02-29`, `-0043-03-15`), where year 0 is 1 BC.

/// Days from 1970-01-01 to 2000-01-01.
const EPOCH_DAYS: i64 = 10_957;
const DAY_MICROS: i64 = 86_400_000_000;
const SECOND_MICROS: i64 = 1_000_000;

/// The dates that Postgres holds: 4714-11-24 BC to 5874897-12-31.
const DATES: std::ops::RangeInclusive<i64> = -2_451_545..=2_145_031_948;
/// The instants that Postgres holds: 4714-11-24 BC to the end of 294276.
const TIMESTAMPS: std::ops::Range<i64> = -211_813_488_000_000_000..9_223_371_331_200_000_000;

/// Appends `2024-02-29`; `infinity` and `-infinity` as such.
pub(super) fn write_date(out: &mut Vec<u8>, days: i32) {
    match days {
        i32::MAX => out.extend_from_slice(b"infinity"),
        i32::MIN => out.extend_from_slice(b"-infinity"),
        days => write_day(out, i64::from(days)),
    }
}

/// Appends `12:34:56`, with a fraction as needed up to 6 digits.
pub(super) fn write_time(out: &mut Vec<u8>, micros: i64) {
    let seconds = micros / SECOND_MICROS;
    write_padded(out, seconds / 3600, 2);
    out.push(b':');
    write_padded(out, seconds / 60 % 60, 2);
    out.push(b':');
    write_padded(out, seconds % 60, 2);
    write_fraction(out, micros % SECOND_MICROS);
}

/// Appends `2024-02-29T12:34:56.789` and, for an instant in UTC, `Z`; `infinity` and `-infinity` as such.
pub(super) fn write_timestamp(out: &mut Vec<u8>, micros: i64, utc: bool) {
    match micros {
        i64::MAX => out.extend_from_slice(b"infinity"),
        i64::MIN => out.extend_from_slice(b"-infinity"),
        micros => {
            write_day(out, micros.div_euclid(DAY_MICROS));
            out.push(b'T');
            write_time(out, micros.rem_euclid(DAY_MICROS));
            if utc {
                out.push(b'Z');
            }
        }
    }
}

/// Appends `P1Y2M3DT4H5M6.7S`; each part bears its own sign, and nothing at all is `PT0S`.
pub(super) fn write_interval(out: &mut Vec<u8>, months: i32, days: i32, micros: i64) {
    match (months, days, micros) {
        (i32::MAX, i32::MAX, i64::MAX) => return out.extend_from_slice(b"infinity"),
        (i32::MIN, i32::MIN, i64::MIN) => return out.extend_from_slice(b"-infinity"),
        (0, 0, 0) => return out.extend_from_slice(b"PT0S"),
        _ => out.push(b'P'),
    }
    write_part(out, i64::from(months / 12), b'Y');
    write_part(out, i64::from(months % 12), b'M');
    write_part(out, i64::from(days), b'D');
    if micros == 0 {
        return;
    }
    out.push(b'T');
    let seconds = micros / SECOND_MICROS;
    write_part(out, seconds / 3600, b'H');
    write_part(out, seconds / 60 % 60, b'M');
    let rest = micros % (60 * SECOND_MICROS);
    if rest != 0 {
        if rest < 0 {
            out.push(b'-');
        }
        write_padded(out, (rest / SECOND_MICROS).abs(), 1);
        write_fraction(out, (rest % SECOND_MICROS).abs());
        out.push(b'S');
    }
}

fn write_part(out: &mut Vec<u8>, value: i64, unit: u8) {
    if value != 0 {
        out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        out.push(unit);
    }
}

/// Whether Postgres takes this as a date.
pub(super) fn is_date(days: i32) -> bool {
    DATES.contains(&i64::from(days))
}

/// Whether Postgres takes this as a time of day.
pub(super) fn is_time(micros: i64) -> bool {
    (0..=DAY_MICROS).contains(&micros)
}

/// Whether Postgres takes this as a timestamp, with or without zone.
pub(super) fn is_timestamp(micros: i64) -> bool {
    TIMESTAMPS.contains(&micros)
}

/// Reads a date in the form that [`write_date`] gives, as Postgres' days.
pub(super) fn parse_date(text: &str) -> Option<i32> {
    let mut rest = text.as_bytes();
    let days = take_day(&mut rest)?;
    rest.is_empty().then(|| i32::try_from(days).ok())?
}

/// Reads `12:34:56.789`, up to `24:00:00`, as microseconds.
pub(super) fn parse_time(text: &str) -> Option<i64> {
    let mut rest = text.as_bytes();
    let micros = take_time(&mut rest)?;
    rest.is_empty().then_some(micros)
}

/// Reads a timestamp without zone, as Postgres' microseconds.
pub(super) fn parse_timestamp(text: &str) -> Option<i64> {
    let mut rest = text.as_bytes();
    let micros = take_timestamp(&mut rest)?;
    (rest.is_empty() && is_timestamp(micros)).then_some(micros)
}

/// Reads an instant with `Z` or any offset, as Postgres' microseconds in UTC.
pub(super) fn parse_timestamptz(text: &str) -> Option<i64> {
    let mut rest = text.as_bytes();
    let micros = take_timestamp(&mut rest)?;
    let offset = match rest {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), rest @ ..] => {
            let mut rest = rest;
            let hours = take_number(&mut rest, 2)?;
            take_byte(&mut rest, b":")?;
            let minutes = take_number(&mut rest, 2)?;
            if !rest.is_empty() || hours > 23 || minutes > 59 {
                return None;
            }
            let offset = hours * 60 + minutes;
            if *sign == b'-' { -offset } else { offset }
        }
        _ => return None,
    };
    let instant = micros.checked_sub(offset * 60 * SECOND_MICROS)?;
    is_timestamp(instant).then_some(instant)
}

fn take_timestamp(rest: &mut &[u8]) -> Option<i64> {
    let days = take_day(rest)?;
    take_byte(rest, b"Tt ")?;
    days.checked_mul(DAY_MICROS)?.checked_add(take_time(rest)?)
}

fn take_time(rest: &mut &[u8]) -> Option<i64> {
    let hours = take_number(rest, 2)?;
    take_byte(rest, b":")?;
    let minutes = take_number(rest, 2)?;
    take_byte(rest, b":")?;
    let seconds = take_number(rest, 2)?;
    let mut micros = 0;
    if take_byte(rest, b".").is_some() {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (fraction, after) = rest.split_at_checked(digits)?;
        *rest = after;
        let (kept, beyond) = fraction.split_at(fraction.len().min(6));
        if kept.is_empty() || beyond.iter().any(|digit| *digit != b'0') {
            return None;
        }
        micros =
            kept.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')) * 10_i64.pow(6 - kept.len() as u32);
    }
    let whole = (hours * 60 + minutes) * 60 + seconds;
    let micros = whole * SECOND_MICROS + micros;
    (minutes < 60 && seconds < 60 && micros <= DAY_MICROS).then_some(micros)
}

/// Reads `[+-]YYYY…-MM-DD` as days since 2000-01-01.
fn take_day(rest: &mut &[u8]) -> Option<i64> {
    let negative = match rest.first()? {
        b'-' | b'+' => {
            let negative = rest[0] == b'-';
            *rest = &rest[1..];
            negative
        }
        _ => false,
    };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(4..=7).contains(&digits) {
        return None;
    }
    let year = take_number(rest, digits)?;
    let year = if negative { -year } else { year };
    take_byte(rest, b"-")?;
    let month = take_number(rest, 2)?;
    take_byte(rest, b"-")?;
    let day = take_number(rest, 2)?;
    if !(1..=12).contains(&month) || day < 1 || day > days_of_month(year, month) {
        return None;
    }
    let days = days_from_civil(year, month, day) - EPOCH_DAYS;
    DATES.contains(&days).then_some(days)
}

/// Takes exactly so many decimal digits.
fn take_number(rest: &mut &[u8], digits: usize) -> Option<i64> {
    let (number, after) = rest.split_at_checked(digits)?;
    *rest = after;
    number.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
}

fn take_byte(rest: &mut &[u8], any_of: &[u8]) -> Option<()> {
    let (first, after) = rest.split_first()?;
    any_of.contains(first).then(|| *rest = after)
}

fn write_day(out: &mut Vec<u8>, days: i64) {
    let (year, month, day) = civil_from_days(days + EPOCH_DAYS);
    if year < 0 {
        out.push(b'-');
    } else if year > 9999 {
        out.push(b'+');
    }
    write_padded(out, year.abs(), 4);
    out.push(b'-');
    write_padded(out, month, 2);
    out.push(b'-');
    write_padded(out, day, 2);
}

fn write_fraction(out: &mut Vec<u8>, micros: i64) {
    if micros == 0 {
        return;
    }
    out.push(b'.');
    write_padded(out, micros, 6);
    while out.last() == Some(&b'0') {
        out.pop();
    }
}

fn write_padded(out: &mut Vec<u8>, value: i64, width: usize) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(value);
    out.extend(std::iter::repeat_n(b'0', width.saturating_sub(digits.len())));
    out.extend_from_slice(digits.as_bytes());
}

/// Year, month and day of a count of days since 1970-01-01 in the proleptic Gregorian calendar: 400-year eras of
/// 146,097 days, years that begin in March.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn dates_of_both_ends() {
        assert_eq!(shown(|out| write_date(out, 0)), "2000-01-01");
        assert_eq!(shown(|out| write_date(out, 8825)), "2024-02-29");
        assert_eq!(shown(|out| write_date(out, -2_451_545)), "-4713-11-24");
        assert_eq!(shown(|out| write_date(out, 2_145_031_948)), "+5874897-12-31");
        assert_eq!(shown(|out| write_date(out, i32::MAX)), "infinity");
    }

    #[test]
    fn dates_that_do_not_exist_are_refused() {
        for text in ["2023-02-29", "2024-13-01", "2024-00-01", "2024-01-00", "24-01-01", "2024-1-1", "2024-01-01 ", ""]
        {
            assert_eq!(parse_date(text), None, "{text}");
        }
        assert_eq!(parse_date("+5874898-01-01"), None);
        assert_eq!(parse_date("1900-02-29"), None);
        assert!(parse_date("2000-02-29").is_some());
    }

    #[test]
    fn one_instant_in_any_zone() {
        let instant = parse_timestamptz("2024-02-29T12:00:00Z").unwrap();
        for text in ["2024-02-29T14:00:00+02:00", "2024-02-29 06:30:00.000-05:30", "2024-02-29t12:00:00.0000000z"] {
            assert_eq!(parse_timestamptz(text), Some(instant), "{text}");
        }
        for text in
            ["2024-02-29T12:00:00", "2024-02-29T12:00:00+2", "2024-02-29T12:00:00.1234567Z", "2024-02-29T12:00Z"]
        {
            assert_eq!(parse_timestamptz(text), None, "{text}");
        }
    }

    #[test]
    fn times_up_to_midnight() {
        assert_eq!(parse_time("24:00:00"), Some(DAY_MICROS));
        assert_eq!(parse_time("24:00:01"), None);
        assert_eq!(parse_time("23:59:60"), None);
        assert_eq!(parse_time("00:00:00.5"), Some(500_000));
        assert_eq!(parse_time("00:00:00."), None);
    }

    #[test]
    fn intervals_sign_each_part() {
        assert_eq!(shown(|out| write_interval(out, 14, -3, 3_723_500_000)), "P1Y2M-3DT1H2M3.5S");
        assert_eq!(shown(|out| write_interval(out, 0, 0, -500_000)), "PT-0.5S");
        assert_eq!(shown(|out| write_interval(out, 0, 0, 0)), "PT0S");
    }

    proptest! {
        #[test]
        fn dates_read_back(days in -2_451_545_i32..=2_145_031_948) {
            prop_assert_eq!(parse_date(&shown(|out| write_date(out, days))), Some(days));
        }

        #[test]
        fn instants_read_back(micros in -211_813_488_000_000_000_i64..9_223_371_331_200_000_000) {
            prop_assert_eq!(parse_timestamptz(&shown(|out| write_timestamp(out, micros, true))), Some(micros));
            prop_assert_eq!(parse_timestamp(&shown(|out| write_timestamp(out, micros, false))), Some(micros));
        }

        #[test]
        fn foreign_text_never_panics(text in ".{0,40}") {
            let _ = (parse_date(&text), parse_time(&text), parse_timestamp(&text), parse_timestamptz(&text));
        }
    }
}
