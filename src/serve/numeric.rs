//! Postgres' binary `numeric`: base-10000 digits to decimal text and back, exactly.
//!
//! The wire form is four 16-bit words (number of base-10000 digits, weight of the first one, sign, decimal digits after
//! the point) followed by the base-10000 digits.

const POSITIVE: u16 = 0x0000;
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITY: u16 = 0xD000;
const NEGATIVE_INFINITY: u16 = 0xF000;

/// Decimal digits of one base-10000 digit.
const GROUP: usize = 4;

/// The longest spelling of a key, and the largest power of ten in one, that is read at all. Columns of the lake hold
/// at most 76 digits.
const MAX_TEXT: usize = 256;

/// A `numeric` taken apart, borrowing its digits from the wire.
struct Wire<'a> {
    /// Power of 10000 of the first digit.
    weight: i32,
    sign: u16,
    /// Decimal digits after the point.
    scale: usize,
    /// Big-endian 16-bit words, each 0 to 9999.
    digits: &'a [u8],
}

impl<'a> Wire<'a> {
    fn read(raw: &'a [u8]) -> Option<Self> {
        let (head, digits) = raw.split_at_checked(8)?;
        let word = |at: usize| Some(u16::from_be_bytes([*head.get(at)?, *head.get(at + 1)?]));
        if digits.len() != usize::from(word(0)?) * 2 {
            return None;
        }
        let wire =
            Wire { weight: i32::from(word(2)? as i16), sign: word(4)?, scale: usize::from(word(6)? & 0x3FFF), digits };
        let digits_fit = wire.groups().all(|group| group < 10_000);
        digits_fit.then_some(wire)
    }

    fn groups(&self) -> impl DoubleEndedIterator<Item = u16> + '_ {
        self.digits.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
    }

    /// The digit whose weight is 10000 to this power; 0 where it is not stored.
    fn group(&self, power: i32) -> u16 {
        let index = self.weight - power;
        let at = usize::try_from(index).ok().map(|index| index * 2);
        match at.and_then(|at| self.digits.get(at..at + 2)) {
            Some(pair) => u16::from_be_bytes([pair[0], pair[1]]),
            None => 0,
        }
    }
}

/// Appends the value as a JSON number with all its digits and its scale kept; NaN and infinities as strings. `None`
/// when the bytes are not a `numeric`.
pub(super) fn write(out: &mut Vec<u8>, raw: &[u8]) -> Option<()> {
    let wire = Wire::read(raw)?;
    match wire.sign {
        NAN => out.extend_from_slice(b"\"NaN\""),
        INFINITY => out.extend_from_slice(b"\"Infinity\""),
        NEGATIVE_INFINITY => out.extend_from_slice(b"\"-Infinity\""),
        POSITIVE | NEGATIVE => write_finite(out, &wire),
        _ => return None,
    }
    Some(())
}

/// The digits of a number that is whole, however JSON spells it: `1.0` and `1e2` are integers there (JSON Schema 2020-12,
/// core, section 4.2.1: "integer" is a number with a zero fractional part). `None` beyond 20 digits.
pub(super) fn whole(text: &str) -> Option<String> {
    let mut digits = Vec::new();
    write_scaled(&mut digits, &parse(text)?, 20, 0).map(str::to_owned)
}

/// Spells the value times ten to the power of `scale`, which must be whole and have `precision` digits at most. `None`
/// when it is not, or the bytes are not a finite `numeric`.
pub(super) fn write_scaled<'o>(out: &'o mut Vec<u8>, raw: &[u8], precision: u8, scale: u8) -> Option<&'o str> {
    let wire = Wire::read(raw)?;
    if !matches!(wire.sign, POSITIVE | NEGATIVE) {
        return None;
    }
    out.clear();
    write_finite(out, &wire);
    let fraction = match out.iter().position(|byte| *byte == b'.') {
        Some(point) => {
            out.remove(point);
            out.len() - point
        }
        None => 0,
    };
    for _ in fraction..usize::from(scale) {
        out.push(b'0');
    }
    for _ in usize::from(scale)..fraction {
        if out.pop() != Some(b'0') {
            return None;
        }
    }
    let digits = out.iter().skip_while(|byte| matches!(byte, b'-' | b'0')).count();
    if digits > usize::from(precision) {
        return None;
    }
    std::str::from_utf8(out).ok().filter(|text| !text.is_empty())
}

fn write_finite(out: &mut Vec<u8>, wire: &Wire<'_>) {
    if wire.sign == NEGATIVE {
        out.push(b'-');
    }
    if wire.weight < 0 {
        out.push(b'0');
    } else {
        out.extend_from_slice(itoa::Buffer::new().format(wire.group(wire.weight)).as_bytes());
        for power in (0..wire.weight).rev() {
            out.extend_from_slice(&four_digits(wire.group(power)));
        }
    }
    if wire.scale > 0 {
        out.push(b'.');
        let mut left = wire.scale;
        let mut power = -1;
        while left > 0 {
            let shown = left.min(GROUP);
            out.extend_from_slice(&four_digits(wire.group(power))[..shown]);
            left -= shown;
            power -= 1;
        }
    }
}

fn four_digits(group: u16) -> [u8; GROUP] {
    [group / 1000, group / 100 % 10, group / 10 % 10, group % 10].map(|digit| b'0' + digit as u8)
}

/// The one binary form of a finite value, whatever scale it was written with, so that equal values have equal bytes.
/// `None` when the bytes are not a finite `numeric`.
pub(super) fn canonical(raw: &[u8]) -> Option<Vec<u8>> {
    let wire = Wire::read(raw)?;
    if !matches!(wire.sign, POSITIVE | NEGATIVE) {
        return None;
    }
    let mut groups: Vec<u16> = wire.groups().collect();
    let leading = groups.iter().take_while(|group| **group == 0).count();
    groups.drain(..leading);
    let weight = wire.weight - i32::try_from(leading).ok()?;
    Some(encode(groups, weight, wire.sign == NEGATIVE))
}

/// Reads any spelling of a finite number (`1.5`, `1.50`, `15e-1`) into the form of [`canonical`]. `None` when the text
/// is not a number, or has far more digits than a column can hold.
pub(super) fn parse(text: &str) -> Option<Vec<u8>> {
    if text.len() > MAX_TEXT {
        return None;
    }
    let (negative, text) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) || exponent.unsigned_abs() as usize > MAX_TEXT {
        return None;
    }

    // The value is 0.d₁d₂d₃… × 10^point. Zeros are put around the digits until they fill whole base-10000 groups.
    let leading = digits.iter().take_while(|digit| **digit == b'0').count();
    let digits = &digits[leading..];
    let point = i32::try_from(whole.len()).ok()? - i32::try_from(leading).ok()? + exponent;
    let pad = (GROUP as i32 - point.rem_euclid(GROUP as i32)) % GROUP as i32;
    let mut groups = Vec::with_capacity(digits.len() / GROUP + 2);
    let mut group = 0;
    let mut filled = pad as usize;
    for digit in digits {
        group = group * 10 + u16::from(digit - b'0');
        filled += 1;
        if filled == GROUP {
            groups.push(group);
            (group, filled) = (0, 0);
        }
    }
    if filled > 0 {
        groups.push(group * 10_u16.pow((GROUP - filled) as u32));
    }
    Some(encode(groups, (point + pad) / GROUP as i32 - 1, negative))
}

/// The wire form of a value whose first group is not zero, with the smallest scale that shows it whole.
fn encode(mut groups: Vec<u16>, weight: i32, negative: bool) -> Vec<u8> {
    while groups.last() == Some(&0) {
        groups.pop();
    }
    let Some(&last) = groups.last() else {
        return vec![0; 8];
    };
    let trailing_zeros = [1000, 100, 10].iter().filter(|power| last % **power == 0).count() as i32;
    let scale = ((groups.len() as i32 - weight - 1) * GROUP as i32 - trailing_zeros).max(0);
    let sign = if negative { NEGATIVE } else { POSITIVE };
    let mut raw = Vec::with_capacity(8 + groups.len() * 2);
    for word in [groups.len() as u16, weight as u16, sign, scale as u16].into_iter().chain(groups) {
        raw.extend_from_slice(&word.to_be_bytes());
    }
    raw
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(raw: &[u8]) -> String {
        let mut out = Vec::new();
        write(&mut out, raw).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn words(words: &[u16]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn digits_and_scale_are_kept() {
        assert_eq!(shown(&words(&[1, 0, 0, 2, 7])), "7.00");
        assert_eq!(shown(&words(&[0, 0, 0, 3])), "0.000");
        assert_eq!(shown(&words(&[2, 0, 0x4000, 1, 1, 5000])), "-1.5");
        assert_eq!(shown(&words(&[1, 2, 0, 0, 12])), "1200000000");
        assert_eq!(shown(&words(&[1, 0xFFFE, 0, 8, 1])), "0.00000001");
        assert_eq!(shown(&words(&[0, 0, NAN, 0])), "\"NaN\"");
    }

    #[test]
    fn a_scaled_value_is_a_whole_number_of_so_many_digits() {
        let mut out = Vec::new();
        for (raw, precision, scale, text) in [
            (words(&[2, 0, 0x4000, 1, 1, 5000]), 3, 2, Some("-150")),
            (words(&[2, 0, 0, 3, 1, 5000]), 2, 1, Some("15")),
            (words(&[2, 0, 0, 3, 1, 5010]), 9, 2, None),
            (words(&[1, 0, 0, 0, 100]), 2, 0, None),
            (words(&[1, 0, 0, 0, 100]), 3, 0, Some("100")),
            (words(&[0, 0, 0, 2]), 1, 2, Some("000")),
            (words(&[1, 0xFFFE, 0, 8, 1]), 1, 8, Some("000000001")),
            (words(&[0, 0, NAN, 0]), 9, 0, None),
        ] {
            assert_eq!(write_scaled(&mut out, &raw, precision, scale), text, "{raw:?}");
        }
    }

    #[test]
    fn damaged_bytes_are_refused() {
        for raw in [&b""[..], &[0; 7], &words(&[2, 0, 0, 0, 1]), &words(&[1, 0, 0, 0, 10_000]), &words(&[0, 0, 1, 0])] {
            assert_eq!(write(&mut Vec::new(), raw), None, "{raw:?}");
        }
    }

    #[test]
    fn every_spelling_of_a_value_is_one_key() {
        for group in [
            &["1.5", "1.50", "15e-1", "0.15E+1", "+1.5", "0001.5", "1.5e0"][..],
            &["0", "-0", "0.000", "0e9", "+0"],
            &["1000000", "1e6", "1000000.00", "0.1e7", "10e5"],
            &["-0.00012", "-12e-5", "-.00012"],
        ] {
            let first = parse(group[0]).unwrap();
            for text in group {
                assert_eq!(parse(text).as_ref(), Some(&first), "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let long = "1".repeat(MAX_TEXT + 1);
        for text in ["", "-", ".", "1.2.3", "e5", "1e", "1e999", "NaN", "Infinity", "1 ", "0x1", "--1", "1_0", &long] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_parsed_reads_the_same(whole in "[1-9][0-9]{0,40}", fraction in "[0-9]{0,40}[1-9]", negative: bool) {
            let text = format!("{}{whole}.{fraction}", if negative { "-" } else { "" });
            let raw = parse(&text).unwrap();
            prop_assert_eq!(shown(&raw), text);
            prop_assert_eq!(canonical(&raw), Some(raw));
        }

        #[test]
        fn foreign_text_never_panics(text in ".{0,40}") {
            let _ = parse(&text);
        }

        #[test]
        fn foreign_bytes_never_panic(raw: Vec<u8>) {
            let _ = write(&mut Vec::new(), &raw);
            let _ = canonical(&raw);
        }
    }
}
