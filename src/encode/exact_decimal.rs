//! Decimal numbers of up to 76 digits, without rounding.

use arrow_buffer::i256;

use super::bad_row::Fault;
use super::text_value::INVALID;
use crate::domain::Code;

/// `unscaled × 10^-scale`.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExactDecimal {
    pub(super) unscaled: i256,
    pub(super) scale: i32,
}

impl ExactDecimal {
    /// The unscaled number at another scale; `None` where that would drop digits or overflow.
    pub(super) fn rescale(self, scale: i32) -> Option<i256> {
        if self.unscaled == i256::ZERO {
            return Some(i256::ZERO);
        }
        let shift = scale.checked_sub(self.scale)?;
        let power = i256::from_i128(10).checked_pow(shift.unsigned_abs())?;
        if shift >= 0 {
            return self.unscaled.checked_mul(power);
        }
        let rest = self.unscaled.checked_rem(power)?;
        if rest == i256::ZERO { self.unscaled.checked_div(power) } else { None }
    }
}

/// How many decimal digits a number has; 0 for zero.
pub(super) fn digits(unscaled: i256) -> u32 {
    if unscaled == i256::ZERO {
        return 0;
    }
    unscaled.checked_abs().and_then(i256::checked_ilog10).map_or(77, |log| log + 1)
}

/// Writes a number in plain notation with exactly `scale` digits after the point, `12.50`; a negative scale adds zeros.
pub(super) fn write_plain(unscaled: i256, scale: i32, out: &mut String) {
    let mut buffer = itoa::Buffer::new();
    let long;
    let signed: &str = match unscaled.to_i128() {
        Some(short) => buffer.format(short),
        None => {
            long = unscaled.to_string();
            &long
        }
    };
    let magnitude = signed.strip_prefix('-').unwrap_or(signed);
    if magnitude.len() < signed.len() {
        out.push('-');
    }
    let Ok(scale) = usize::try_from(scale) else {
        out.push_str(magnitude);
        if magnitude != "0" {
            out.extend(std::iter::repeat_n('0', scale.unsigned_abs() as usize));
        }
        return;
    };
    if scale == 0 {
        out.push_str(magnitude);
        return;
    }
    let whole = magnitude.len().saturating_sub(scale);
    let (integer, fraction) = magnitude.split_at(whole);
    out.push_str(if integer.is_empty() { "0" } else { integer });
    out.push('.');
    out.extend(std::iter::repeat_n('0', scale - fraction.len()));
    out.push_str(fraction);
}

/// Reads `-12.50`: an optional sign, digits, and perhaps a point with digits on both sides.
pub(super) fn parse(text: &str) -> Result<ExactDecimal, Fault> {
    const TOO_LONG: Fault = Fault::new(Code::OutOfRange, "the number has more than 76 digits");
    let magnitude = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (integer, fraction) = magnitude.split_once('.').unwrap_or((magnitude, "0"));
    let are_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !are_digits(integer) || !are_digits(fraction) {
        return Err(INVALID);
    }
    let fraction = if magnitude.contains('.') { fraction } else { "" };
    let all = format!("{integer}{fraction}");
    let significant = all.trim_start_matches('0');
    if significant.len() > 76 {
        return Err(TOO_LONG);
    }
    let unscaled = match significant {
        "" => i256::ZERO,
        some => i256::from_string(some).ok_or(TOO_LONG)?,
    };
    let unscaled = if text.starts_with('-') { unscaled.wrapping_neg() } else { unscaled };
    Ok(ExactDecimal { unscaled, scale: fraction.len() as i32 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(unscaled: i128, scale: i32) -> String {
        let mut out = String::new();
        write_plain(i256::from_i128(unscaled), scale, &mut out);
        out
    }

    #[test]
    fn writes_every_digit_of_the_scale() {
        assert_eq!(plain(0, 2), "0.00");
        assert_eq!(plain(-5, 2), "-0.05");
        assert_eq!(plain(123_456, 2), "1234.56");
        assert_eq!(plain(12, -3), "12000");
        assert_eq!(plain(0, -3), "0");
        assert_eq!(plain(12, 0), "12");
    }

    #[test]
    fn reads_back_what_it_writes() {
        for (unscaled, scale) in [(0, 0), (-1, 0), (5, 3), (-123_456_789, 4), (i128::MAX, 10)] {
            let read = parse(&plain(unscaled, scale)).unwrap();
            assert_eq!((read.unscaled.to_i128(), read.scale), (Some(unscaled), scale));
        }
    }

    #[test]
    fn refuses_what_is_no_plain_number() {
        for text in ["", "-", ".5", "5.", "1e3", " 1", "1,000", "NaN", "--1", "+-1", "٣"] {
            assert_eq!(parse(text).unwrap_err().code, Code::InvalidText, "{text:?}");
        }
        assert_eq!(parse(&"9".repeat(77)).unwrap_err().code, Code::OutOfRange);
        assert!(parse(&"9".repeat(76)).is_ok());
    }

    #[test]
    fn rescaling_never_drops_a_digit() {
        let value = ExactDecimal { unscaled: i256::from_i128(1250), scale: 2 };
        assert_eq!(value.rescale(1).and_then(i256::to_i128), Some(125));
        assert_eq!(value.rescale(0), None);
        assert_eq!(value.rescale(100), None);
    }
}
