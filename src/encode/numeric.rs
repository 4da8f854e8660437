//! Decimals as `numeric`: base-10,000 digits, aligned at the decimal point.

use arrow_array::types::{Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DecimalType, UInt64Type};
use arrow_array::{Array, PrimitiveArray};
use arrow_buffer::i256;

use super::bad_row::Fault;
use super::field::Render;

const NEGATIVE: u16 = 0x4000;
/// Base-10,000 digits of the longest decimal, not aligned at a group.
const MAX_GROUPS: usize = 21;

/// A decimal's magnitude, in the narrowest integer that makes division cheap.
#[derive(Clone, Copy)]
enum Magnitude {
    Narrow(u64),
    Wide(u128),
    /// 64-bit limbs, the lowest first.
    Widest([u64; 4]),
}

/// An unscaled decimal of some width.
pub(super) trait Unscaled: Copy {
    fn parts(self) -> (bool, u128, u128);
}

impl Unscaled for i32 {
    #[inline]
    fn parts(self) -> (bool, u128, u128) {
        (self < 0, u128::from(self.unsigned_abs()), 0)
    }
}

impl Unscaled for i64 {
    #[inline]
    fn parts(self) -> (bool, u128, u128) {
        (self < 0, u128::from(self.unsigned_abs()), 0)
    }
}

impl Unscaled for u64 {
    #[inline]
    fn parts(self) -> (bool, u128, u128) {
        (false, u128::from(self), 0)
    }
}

impl Unscaled for i128 {
    #[inline]
    fn parts(self) -> (bool, u128, u128) {
        (self < 0, self.unsigned_abs(), 0)
    }
}

impl Unscaled for i256 {
    #[inline]
    fn parts(self) -> (bool, u128, u128) {
        let (low, high) = self.wrapping_abs().to_parts();
        (self.is_negative(), low, high as u128)
    }
}

/// Renders an array of decimals.
pub(super) struct Numerics<'a, T: arrow_array::ArrowPrimitiveType> {
    array: &'a PrimitiveArray<T>,
    scale: i32,
}

impl<'a, T: DecimalType> Numerics<'a, T>
where
    T::Native: Unscaled,
{
    pub(super) fn new(array: &'a PrimitiveArray<T>) -> Self {
        let scale = match array.data_type() {
            arrow_schema::DataType::Decimal32(_, scale)
            | arrow_schema::DataType::Decimal64(_, scale)
            | arrow_schema::DataType::Decimal128(_, scale)
            | arrow_schema::DataType::Decimal256(_, scale) => i32::from(*scale),
            _ => 0,
        };
        Numerics { array, scale }
    }
}

impl<'a> Numerics<'a, UInt64Type> {
    pub(super) fn whole(array: &'a PrimitiveArray<UInt64Type>) -> Self {
        Numerics { array, scale: 0 }
    }
}

impl<T: arrow_array::ArrowPrimitiveType> Render for Numerics<'_, T>
where
    T::Native: Unscaled,
{
    fn is_null(&self, row: usize) -> bool {
        self.array.is_null(row)
    }

    fn render(&mut self, row: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
        let (negative, low, high) = self.array.value(row).parts();
        let magnitude = match (u64::try_from(low), high) {
            (Ok(narrow), 0) => Magnitude::Narrow(narrow),
            (Err(_), 0) => Magnitude::Wide(low),
            _ => Magnitude::Widest([low as u64, (low >> 64) as u64, high as u64, (high >> 64) as u64]),
        };
        render(negative, magnitude, self.scale, out);
        Ok(())
    }
}

/// Writes the digits, weight, sign and scale, exactly as Postgres itself would send the value.
#[inline]
fn render(negative: bool, mut magnitude: Magnitude, scale: i32, out: &mut Vec<u8>) {
    // The lowest group holds fewer than four digits of the number when the scale is no multiple of four.
    let padding = (4 - scale.rem_euclid(4)) % 4;
    let lowest_weight = -(scale + padding) / 4;
    let power = |exponent: i32| 10_u64.pow(exponent.unsigned_abs());
    let mut groups = [0_u16; MAX_GROUPS];
    let mut count = 0;
    let mut lowest = (magnitude.divide(power(4 - padding)) * power(padding)) as u16;
    let mut dropped = 0;
    loop {
        // Zeros at the low end are not sent.
        if lowest == 0 && count == 0 {
            dropped += 1;
        } else {
            groups[count] = lowest;
            count += 1;
        }
        if magnitude.is_zero() {
            break;
        }
        lowest = magnitude.divide(10_000) as u16;
    }
    let groups = &groups[..count];
    let weight = if count == 0 { 0 } else { lowest_weight + dropped + count as i32 - 1 };
    let sign = if negative && count > 0 { NEGATIVE } else { 0 };
    out.extend_from_slice(&(count as u16).to_be_bytes());
    out.extend_from_slice(&(weight as i16).to_be_bytes());
    out.extend_from_slice(&sign.to_be_bytes());
    out.extend_from_slice(&(scale.max(0) as u16).to_be_bytes());
    for group in groups.iter().rev() {
        out.extend_from_slice(&group.to_be_bytes());
    }
}

impl Magnitude {
    /// Divides in place and returns the remainder.
    #[inline]
    fn divide(&mut self, by: u64) -> u64 {
        match self {
            Magnitude::Narrow(value) => {
                let rest = *value % by;
                *value /= by;
                rest
            }
            Magnitude::Wide(value) => {
                let rest = (*value % u128::from(by)) as u64;
                *value /= u128::from(by);
                if let Ok(narrow) = u64::try_from(*value) {
                    *self = Magnitude::Narrow(narrow);
                }
                rest
            }
            Magnitude::Widest(limbs) => limbs.iter_mut().rev().fold(0, |rest, limb| {
                let dividend = u128::from(rest) << 64 | u128::from(*limb);
                *limb = (dividend / u128::from(by)) as u64;
                (dividend % u128::from(by)) as u64
            }),
        }
    }

    #[inline]
    fn is_zero(&self) -> bool {
        match self {
            Magnitude::Narrow(value) => *value == 0,
            Magnitude::Wide(value) => *value == 0,
            Magnitude::Widest(limbs) => *limbs == [0; 4],
        }
    }
}

/// The renderers of all widths.
pub(super) type Numerics32<'a> = Numerics<'a, Decimal32Type>;
pub(super) type Numerics64<'a> = Numerics<'a, Decimal64Type>;
pub(super) type Numerics128<'a> = Numerics<'a, Decimal128Type>;
pub(super) type Numerics256<'a> = Numerics<'a, Decimal256Type>;

#[cfg(test)]
mod tests {
    use super::*;

    /// Number of digits, weight, sign, scale, digits.
    fn sent(unscaled: i128, scale: i32) -> Vec<i32> {
        let mut out = Vec::new();
        let (negative, low, _) = unscaled.parts();
        let magnitude = u64::try_from(low).map_or(Magnitude::Wide(low), Magnitude::Narrow);
        render(negative, magnitude, scale, &mut out);
        out.chunks(2).map(|pair| i32::from(i16::from_be_bytes([pair[0], pair[1]]))).collect()
    }

    #[test]
    fn zero_has_no_digits_but_keeps_its_scale() {
        assert_eq!(sent(0, 0), [0, 0, 0, 0]);
        assert_eq!(sent(0, 18), [0, 0, 0, 18]);
    }

    #[test]
    fn scales_that_are_no_multiple_of_four_are_aligned_at_the_point() {
        assert_eq!(sent(44_123_456, 6), [3, 0, 0, 6, 44, 1234, 5600]);
        assert_eq!(sent(-1, 1), [1, -1, 0x4000, 1, 1000]);
        assert_eq!(sent(1, 2), [1, -1, 0, 2, 100]);
        assert_eq!(sent(1, 3), [1, -1, 0, 3, 10]);
        assert_eq!(sent(1, 5), [1, -2, 0, 5, 1000]);
    }

    #[test]
    fn zeros_within_a_number_stay_and_those_at_its_ends_go() {
        assert_eq!(sent(1_000_000_000, 0), [1, 2, 0, 0, 10]);
        assert_eq!(sent(100_000_001, 0), [3, 2, 0, 0, 1, 0, 1]);
        assert_eq!(sent(10_000, 4), [1, 0, 0, 4, 1]);
        assert_eq!(sent(1_000_000_000_000_000_000_000, 2), [1, 4, 0, 2, 1000]);
    }

    #[test]
    fn negative_scales_stand_for_zeros() {
        assert_eq!(sent(12, -2), [1, 0, 0, 0, 1200]);
        assert_eq!(sent(12, -3), [2, 1, 0, 0, 1, 2000]);
        assert_eq!(sent(5, -8), [1, 2, 0, 0, 5]);
    }

    #[test]
    fn every_width_divides_alike() {
        for value in [1_u64, 9_999, 10_000, 123_456_789_012_345, u64::MAX] {
            for scale in -5..20 {
                let mut rendered = [Vec::new(), Vec::new(), Vec::new()];
                render(true, Magnitude::Narrow(value), scale, &mut rendered[0]);
                render(true, Magnitude::Wide(u128::from(value)), scale, &mut rendered[1]);
                render(true, Magnitude::Widest([value, 0, 0, 0]), scale, &mut rendered[2]);
                assert_eq!(rendered[0], rendered[1]);
                assert_eq!(rendered[0], rendered[2]);
            }
        }
    }
}
