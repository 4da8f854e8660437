//! Dates, times, timestamps and intervals in the units and ranges of Postgres.

use arrow_buffer::{IntervalDayTime, IntervalMonthDayNano};
use arrow_schema::TimeUnit;

use super::bad_row::Fault;
use crate::domain::Code;

/// Days from 1970 to 2000, where Postgres counts from.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * DAY_MICROS;
const DAY_MICROS: i64 = 86_400_000_000;
/// 24 November 4714 BC and the first day past the year 5874897, in days since 2000.
const DATES: std::ops::Range<i32> = -2_451_545..2_145_031_949;
/// 24 November 4714 BC and the first instant past the year 294276, in microseconds since 2000.
const TIMESTAMPS: std::ops::Range<i64> = -211_813_488_000_000_000..9_223_371_331_200_000_000;

const DATE_RANGE: Fault = Fault::new(Code::OutOfRange, "the date is outside the range of Postgres");
const TIMESTAMP_RANGE: Fault = Fault::new(Code::OutOfRange, "the timestamp is outside the range of Postgres");
const TIME_RANGE: Fault = Fault::new(Code::OutOfRange, "the time of day is not between 00:00 and 24:00");
const NANOSECONDS: Fault = Fault::new(Code::LossyCast, "the value is finer than a microsecond");
const PART_OF_DAY: Fault = Fault::new(Code::LossyCast, "the date has a time of day");

/// A date, from days since 1970.
#[inline]
pub(super) fn date(days: i32) -> Result<[u8; 4], Fault> {
    let days = days.checked_sub(EPOCH_DAYS).filter(|days| DATES.contains(days)).ok_or(DATE_RANGE)?;
    Ok(days.to_be_bytes())
}

/// A date, from milliseconds since 1970.
#[inline]
pub(super) fn date_of_millis(millis: i64) -> Result<[u8; 4], Fault> {
    if millis % 86_400_000 != 0 {
        return Err(PART_OF_DAY);
    }
    date(i32::try_from(millis / 86_400_000).map_err(|_| DATE_RANGE)?)
}

/// A timestamp with or without zone, from a count since 1970.
#[inline]
pub(super) fn timestamp(unit: TimeUnit, value: i64) -> Result<[u8; 8], Fault> {
    let micros = micros(unit, value)?;
    let since_2000 = micros.checked_sub(EPOCH_MICROS).filter(|micros| TIMESTAMPS.contains(micros));
    Ok(since_2000.ok_or(TIMESTAMP_RANGE)?.to_be_bytes())
}

/// A time of day, from a count since midnight.
#[inline]
pub(super) fn time(unit: TimeUnit, value: i64) -> Result<[u8; 8], Fault> {
    let micros = micros(unit, value).map_err(|fault| if fault == TIMESTAMP_RANGE { TIME_RANGE } else { fault })?;
    if (0..=DAY_MICROS).contains(&micros) { Ok(micros.to_be_bytes()) } else { Err(TIME_RANGE) }
}

/// Microseconds, exactly.
#[inline]
pub(super) fn micros(unit: TimeUnit, value: i64) -> Result<i64, Fault> {
    match unit {
        TimeUnit::Second => value.checked_mul(1_000_000).ok_or(TIMESTAMP_RANGE),
        TimeUnit::Millisecond => value.checked_mul(1_000).ok_or(TIMESTAMP_RANGE),
        TimeUnit::Microsecond => Ok(value),
        TimeUnit::Nanosecond if value % 1_000 == 0 => Ok(value / 1_000),
        TimeUnit::Nanosecond => Err(NANOSECONDS),
    }
}

/// An interval of months.
#[inline]
pub(super) fn interval_of_months(months: i32) -> Result<[u8; 16], Fault> {
    Ok(interval(months, 0, 0))
}

/// An interval of days and milliseconds.
#[inline]
pub(super) fn interval_of_days(value: IntervalDayTime) -> Result<[u8; 16], Fault> {
    Ok(interval(0, value.days, i64::from(value.milliseconds) * 1_000))
}

/// An interval of months, days and nanoseconds.
#[inline]
pub(super) fn interval_of_parts(value: IntervalMonthDayNano) -> Result<[u8; 16], Fault> {
    Ok(interval(value.months, value.days, micros(TimeUnit::Nanosecond, value.nanoseconds)?))
}

/// A span of time, as an interval without months and days.
#[inline]
pub(super) fn duration(unit: TimeUnit, value: i64) -> Result<[u8; 16], Fault> {
    Ok(interval(0, 0, micros(unit, value)?))
}

#[inline]
fn interval(months: i32, days: i32, micros: i64) -> [u8; 16] {
    (i128::from(micros) << 64 | i128::from(days as u32) << 32 | i128::from(months as u32)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_count_from_2000_and_keep_to_the_range_of_postgres() {
        assert_eq!(date(10_957), Ok([0; 4]));
        assert_eq!(date(10_956), Ok([0xff; 4]));
        assert_eq!(date(i32::MIN).unwrap_err().code, Code::OutOfRange);
        assert_eq!(date(i32::MAX).unwrap_err().code, Code::OutOfRange);
        assert!(date(-2_451_545 + EPOCH_DAYS).is_ok());
        assert_eq!(date(-2_451_546 + EPOCH_DAYS).unwrap_err().code, Code::OutOfRange);
        assert!(date(2_145_031_948 + EPOCH_DAYS).is_ok());
        assert_eq!(date(2_145_031_949 + EPOCH_DAYS).unwrap_err().code, Code::OutOfRange);
        assert_eq!(date_of_millis(86_400_001).unwrap_err().code, Code::LossyCast);
        assert_eq!(date_of_millis(-86_400_000), date(-1));
    }

    #[test]
    fn timestamps_never_become_infinity() {
        for unit in [TimeUnit::Second, TimeUnit::Millisecond] {
            for value in [i64::MIN, i64::MAX] {
                assert_eq!(timestamp(unit, value).unwrap_err().code, Code::OutOfRange, "{unit:?} {value}");
            }
        }
        // The last would be the number that stands for -infinity.
        for value in [i64::MIN, i64::MIN + EPOCH_MICROS] {
            assert_eq!(timestamp(TimeUnit::Microsecond, value).unwrap_err().code, Code::OutOfRange, "{value}");
        }
        assert!(timestamp(TimeUnit::Microsecond, i64::MAX).is_ok(), "the year 294247, short of infinity");
        assert_eq!(timestamp(TimeUnit::Second, 946_684_800), Ok([0; 8]));
        let first = TIMESTAMPS.start + EPOCH_MICROS;
        assert!(timestamp(TimeUnit::Microsecond, first).is_ok());
        assert_eq!(timestamp(TimeUnit::Microsecond, first - 1).unwrap_err().code, Code::OutOfRange);
    }

    #[test]
    fn nanoseconds_must_be_whole_microseconds() {
        assert_eq!(timestamp(TimeUnit::Nanosecond, 1).unwrap_err().code, Code::LossyCast);
        assert_eq!(timestamp(TimeUnit::Nanosecond, -1_000), timestamp(TimeUnit::Microsecond, -1));
        assert_eq!(time(TimeUnit::Nanosecond, 999).unwrap_err().code, Code::LossyCast);
        let parts = IntervalMonthDayNano::new(1, 2, 3);
        assert_eq!(interval_of_parts(parts).unwrap_err().code, Code::LossyCast);
        assert_eq!(duration(TimeUnit::Nanosecond, 1).unwrap_err().code, Code::LossyCast);
    }

    #[test]
    fn times_lie_within_a_day() {
        assert!(time(TimeUnit::Second, 86_400).is_ok());
        assert_eq!(time(TimeUnit::Second, 86_401).unwrap_err().code, Code::OutOfRange);
        assert_eq!(time(TimeUnit::Second, i64::MAX).unwrap_err().code, Code::OutOfRange);
        assert_eq!(time(TimeUnit::Microsecond, -1).unwrap_err().code, Code::OutOfRange);
    }

    #[test]
    fn intervals_keep_their_parts_apart() {
        let bytes = interval_of_parts(IntervalMonthDayNano::new(-1, 2, -3_000)).unwrap();
        assert_eq!(bytes, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfd, 0, 0, 0, 2, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(interval_of_months(14), Ok([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 14]));
    }
}
