//! The 64-bit hash functions of PostgreSQL for its own types, as little-endian servers compute them.
//!
//! `hash_bytes_extended` is Bob Jenkins' `lookup3` (in the public domain) with two 32-bit halves as its result.

/// `hash_bytes_extended`: text, binaries, UUIDs, floats.
#[must_use]
pub(super) fn bytes(key: &[u8], seed: u64) -> u64 {
    let (mut a, mut b, mut c) = start(key.len() as u32, seed);
    let mut words = key.chunks_exact(12);
    for word in &mut words {
        a = a.wrapping_add(little_endian(word, 0));
        b = b.wrapping_add(little_endian(word, 4));
        c = c.wrapping_add(little_endian(word, 8));
        mix(&mut a, &mut b, &mut c);
    }
    let rest = words.remainder();
    let mut last = [0_u8; 12];
    last[..rest.len().min(8)].copy_from_slice(&rest[..rest.len().min(8)]);
    if rest.len() > 8 {
        // The lowest byte of the third word is left to the length.
        last[9..=rest.len()].copy_from_slice(&rest[8..]);
    }
    a = a.wrapping_add(little_endian(&last, 0));
    b = b.wrapping_add(little_endian(&last, 4));
    c = c.wrapping_add(little_endian(&last, 8));
    finish(a, b, c)
}

/// `hash_bytes_uint32_extended`: `smallint`, `integer`.
#[must_use]
pub(super) fn int4(value: i32, seed: u64) -> u64 {
    let (a, b, c) = start(4, seed);
    finish(a.wrapping_add(value as u32), b, c)
}

/// `hashint8extended`, which also hashes times, timestamps and intervals. It folds the halves, so that a `bigint`
/// hashes like the `integer` of the same value; 5 and 5 << 32 hash alike.
#[must_use]
pub(super) fn int8(value: i64, seed: u64) -> u64 {
    let (low, high) = (value as u32, (value >> 32) as u32);
    int4((low ^ if value >= 0 { high } else { !high }) as i32, seed)
}

/// `hashfloat8extended`: both zeros give the seed, all NaN hash alike.
#[must_use]
pub(super) fn float8(value: f64, seed: u64) -> u64 {
    if value == 0.0 {
        return seed;
    }
    let value = if value.is_nan() { f64::NAN } else { value };
    bytes(&value.to_le_bytes(), seed)
}

/// `hash_array_extended` of an array with this one element.
#[must_use]
pub(super) fn array_of_one(element: u64) -> u64 {
    31_u64.wrapping_add(element)
}

#[inline]
fn start(length: u32, seed: u64) -> (u32, u32, u32) {
    let initial = 0x9e37_79b9_u32.wrapping_add(length).wrapping_add(3_923_095);
    let (mut a, mut b, mut c) = (initial, initial, initial);
    if seed != 0 {
        a = a.wrapping_add((seed >> 32) as u32);
        b = b.wrapping_add(seed as u32);
        mix(&mut a, &mut b, &mut c);
    }
    (a, b, c)
}

#[inline]
fn little_endian(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[inline]
fn mix(a: &mut u32, b: &mut u32, c: &mut u32) {
    let step = |x: &mut u32, y: &mut u32, z: &mut u32, bits: u32| {
        *x = x.wrapping_sub(*z) ^ z.rotate_left(bits);
        *z = z.wrapping_add(*y);
    };
    step(a, b, c, 4);
    step(b, c, a, 6);
    step(c, a, b, 8);
    step(a, b, c, 16);
    step(b, c, a, 19);
    step(c, a, b, 4);
}

#[inline]
fn finish(mut a: u32, mut b: u32, mut c: u32) -> u64 {
    let step = |x: &mut u32, y: u32, bits: u32| *x = (*x ^ y).wrapping_sub(y.rotate_left(bits));
    step(&mut c, b, 14);
    step(&mut a, c, 11);
    step(&mut b, a, 25);
    step(&mut c, b, 16);
    step(&mut a, c, 4);
    step(&mut b, a, 14);
    step(&mut c, b, 24);
    u64::from(b) << 32 | u64::from(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that PostgreSQL 15 gave, by `hashtextextended`, `hashint4extended` and so on.
    #[test]
    fn agrees_with_the_server() {
        let texts = [
            ("", 0, TEXT_EMPTY),
            ("a", 0, TEXT_A),
            ("abcdefgh", 7, TEXT_8),
            ("abcdefghi", 7, TEXT_9),
            ("abcdefghijk", 1 << 40, TEXT_11),
            ("abcdefghijkl", u64::MAX, TEXT_12),
            ("The quick brown fox jumps over the lazy dog", 42, TEXT_FOX),
        ];
        for (text, seed, expected) in texts {
            assert_eq!(bytes(text.as_bytes(), seed) as i64, expected, "{text}");
        }
        assert_eq!(int4(-1, 5) as i64, INT4_MINUS_1);
        assert_eq!(int8(-1, 5) as i64, INT4_MINUS_1);
        assert_eq!(int8(i64::MIN, 5) as i64, INT8_MIN);
        assert_eq!(float8(-0.0, 5), 5);
        assert_eq!(float8(1.5, 5) as i64, FLOAT8);
        assert_eq!(float8(-f64::NAN, 5) as i64, FLOAT8_NAN);
        assert_eq!(array_of_one(bytes(&[1, 2, 3], 9)) as i64, ARRAY_BYTEA);
    }

    const TEXT_EMPTY: i64 = -6_939_563_903_564_495_251;
    const TEXT_A: i64 = 3_591_986_179_850_072_241;
    const TEXT_8: i64 = -657_836_470_619_280_130;
    const TEXT_9: i64 = 2_640_228_520_365_942_430;
    const TEXT_11: i64 = -6_673_451_037_490_005_052;
    const TEXT_12: i64 = -3_669_402_583_748_189_229;
    const TEXT_FOX: i64 = 7_150_499_504_945_507_884;
    const INT4_MINUS_1: i64 = 5_111_540_776_065_715_399;
    const INT8_MIN: i64 = -920_827_284_911_570_408;
    const FLOAT8: i64 = 5_630_727_685_654_164_775;
    const FLOAT8_NAN: i64 = 3_120_264_080_904_756_184;
    const ARRAY_BYTEA: i64 = 4_033_130_965_565_507_435;
}
