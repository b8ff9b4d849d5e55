//! Rounding to bfloat16 up or down at random, so that what is added to a number in steps below its
//! precision adds up on average.

use crate::dropout::mix;

/// One of the two bfloat16 nearest to a value: the farther it is from one, the likelier is the other.
#[inline(always)]
pub(crate) fn rounded(value: f32, key: u32, at: u32) -> f32 {
    let bits = value.to_bits();
    // Beyond the largest finite number there is only infinity; NaN stays NaN.
    if !value.is_finite() || 0x7f7f_0000 <= bits & 0x7fff_ffff {
        return f32::from_bits(bits & 0xffff_0000 | if value.is_nan() { 0x0040_0000 } else { 0 });
    }
    let drawn = mix(key ^ mix(at.wrapping_add(0x9e37_79b9))) & 0xffff;
    f32::from_bits(bits.wrapping_add(drawn) & 0xffff_0000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_what_is_rounded_is_what_was_rounded() {
        for value in [1.0_f32 + 3.0 / 1024.0, -0.3, 5.1e-6, 3.0e38, -1e-39] {
            let count = 20_000;
            let at = |i: u32| f64::from(rounded(value, 7, i));
            let mean = (0..count).map(at).sum::<f64>() / f64::from(count);
            let low = f64::from(f32::from_bits(value.to_bits() & 0xffff_0000));
            let high = f64::from(f32::from_bits((value.to_bits() & 0xffff_0000) + 0x1_0000));
            let step = (high - low).abs();
            assert!((mean - f64::from(value)).abs() < 0.02 * step, "{value}: {mean}");
            assert!((0..100).map(at).all(|found| found == low || found == high));
        }
    }

    #[test]
    fn what_needs_no_rounding_stays_and_draws_differ_by_key_and_place() {
        for value in [0.0_f32, -0.0, 1.5, -256.0, f32::INFINITY, f32::NEG_INFINITY] {
            assert!((0..50).all(|at| rounded(value, 3, at).to_bits() == value.to_bits()));
        }
        assert!(rounded(f32::NAN, 3, 1).is_nan());
        let draws = |key: u32| (0..64).map(|at| rounded(0.1, key, at)).collect::<Vec<_>>();
        assert_ne!(draws(1), draws(2));
        assert_eq!(draws(1), draws(1));
    }
}
