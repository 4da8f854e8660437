//! Text read as, and written from, values of other types. Strict: what has two readings has none.

use chrono::{Datelike, NaiveDate};

use super::bad_row::Fault;
use super::exact_decimal;
use crate::domain::Code;

pub(super) const INVALID: Fault = Fault::new(Code::InvalidText, "the text cannot be read as the declared type");
const FINER_THAN_MICROS: Fault = Fault::new(Code::LossyCast, "the time is finer than a microsecond");
const NOT_WHOLE: Fault = Fault::new(Code::LossyCast, "the number is not whole");
const TOO_BIG: Fault = Fault::new(Code::OutOfRange, "the number is too large for the declared type");

/// Reads `true` or `false` in any case.
pub(super) fn parse_boolean(text: &str) -> Result<bool, Fault> {
    if text.eq_ignore_ascii_case("true") {
        Ok(true)
    } else if text.eq_ignore_ascii_case("false") {
        Ok(false)
    } else {
        Err(INVALID)
    }
}

/// Reads a whole number, which may have zeros after a point.
pub(super) fn parse_integer(text: &str) -> Result<i64, Fault> {
    let whole = exact_decimal::parse(text)?.rescale(0).ok_or(NOT_WHOLE)?;
    whole.to_i128().and_then(|whole| whole.try_into().ok()).ok_or(TOO_BIG)
}

/// Reads `2024-02-29` as days since 1970.
pub(super) fn parse_date(text: &str) -> Result<i32, Fault> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text.as_bytes() else { return Err(INVALID) };
    let year = number(&[*y1, *y2, *y3, *y4])?;
    let date = NaiveDate::from_ymd_opt(year as i32, number(&[*m1, *m2])?, number(&[*d1, *d2])?).ok_or(INVALID)?;
    Ok(date.to_epoch_days())
}

/// Reads `2024-02-29T12:00[:00[.123456]]`, with a space for the `T` if need be, as microseconds since 1970. With
/// `zoned`, the text must end in `Z` or an offset, else it must not.
pub(super) fn parse_timestamp(text: &str, zoned: bool) -> Result<i64, Fault> {
    let (date, rest) = text.split_at_checked(10).ok_or(INVALID)?;
    let days = i64::from(parse_date(date)?);
    let rest = rest.strip_prefix(['T', 't', ' ']).ok_or(INVALID)?;
    let (time, offset_seconds) = match (split_offset(rest), zoned) {
        (Some((time, offset)), true) => (time, parse_offset(offset)?),
        (None, false) => (rest, 0),
        _ => return Err(INVALID),
    };
    Ok((days * 86_400 - offset_seconds) * 1_000_000 + parse_time(time)?)
}

/// Writes days since 1970 as `2024-02-29`, for the years 0 to 9999.
pub(super) fn write_date(days: i64, out: &mut String) -> Result<(), Fault> {
    use std::fmt::Write;
    const FAR: Fault = Fault::new(Code::OutOfRange, "only the years 0 to 9999 have a spelling");
    let date = i32::try_from(days).ok().and_then(NaiveDate::from_epoch_days).ok_or(FAR)?;
    if !(0..=9999).contains(&date.year()) {
        return Err(FAR);
    }
    write!(out, "{:04}-{:02}-{:02}", date.year(), date.month(), date.day()).map_err(|_| FAR)
}

fn parse_time(text: &str) -> Result<i64, Fault> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    if text.contains('.') && fraction.is_empty() {
        return Err(INVALID);
    }
    let (hours, minutes, seconds) = match clock.as_bytes() {
        [h1, h2, b':', m1, m2] if fraction.is_empty() => (number(&[*h1, *h2])?, number(&[*m1, *m2])?, 0),
        [h1, h2, b':', m1, m2, b':', s1, s2] => (number(&[*h1, *h2])?, number(&[*m1, *m2])?, number(&[*s1, *s2])?),
        _ => return Err(INVALID),
    };
    if hours > 23 || minutes > 59 || seconds > 59 || fraction.len() > 18 {
        return Err(INVALID);
    }
    let (micros, finer) = fraction.split_at(fraction.len().min(6));
    if finer.bytes().any(|byte| byte != b'0') {
        return Err(if finer.bytes().all(|byte| byte.is_ascii_digit()) { FINER_THAN_MICROS } else { INVALID });
    }
    let micros = if micros.is_empty() { 0 } else { number(micros.as_bytes())? * 10_u32.pow(6 - micros.len() as u32) };
    Ok((i64::from(hours) * 3600 + i64::from(minutes) * 60 + i64::from(seconds)) * 1_000_000 + i64::from(micros))
}

fn split_offset(text: &str) -> Option<(&str, &str)> {
    text.find(['Z', 'z', '+', '-']).and_then(|at| text.split_at_checked(at))
}

fn parse_offset(text: &str) -> Result<i64, Fault> {
    let (sign, hours, minutes) = match text.as_bytes() {
        [b'Z' | b'z'] => return Ok(0),
        [sign, h1, h2] => (sign, number(&[*h1, *h2])?, 0),
        [sign, h1, h2, b':', m1, m2] | [sign, h1, h2, m1, m2] => (sign, number(&[*h1, *h2])?, number(&[*m1, *m2])?),
        _ => return Err(INVALID),
    };
    if hours > 15 || minutes > 59 {
        return Err(INVALID);
    }
    let seconds = i64::from(hours) * 3600 + i64::from(minutes) * 60;
    Ok(if *sign == b'-' { -seconds } else { seconds })
}

/// Digits, at most nine of them.
fn number(digits: &[u8]) -> Result<u32, Fault> {
    digits.iter().try_fold(0_u32, |number, digit| {
        if digit.is_ascii_digit() { Ok(number * 10 + u32::from(digit - b'0')) } else { Err(INVALID) }
    })
}
