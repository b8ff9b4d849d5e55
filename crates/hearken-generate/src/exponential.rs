//! The exponential function in a form that compilers vectorize.

/// Inputs below it give 0: their exponentials are smaller than any normal number.
const LOWEST: f64 = -708.0;
/// 1.5·2⁵². Adding it to a small number rounds that to an integer in the low bits.
const ROUNDER: f64 = 6_755_399_441_055_744.0;
/// ln 2 in two parts; products of the first with small integers are exact.
const LN_2_HIGH: f64 = 0.693_147_180_369_123_8;
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// eˣ for x ≤ 0, within 1e-11 of its value; 0 below −708, NaN nowhere.
///
/// x = n·ln 2 + r with |r| ≤ ½ ln 2; eʳ by its Taylor polynomial of degree 9, 2ⁿ by its bits. There
/// are no branches, so a loop over it runs in vector registers.
#[inline]
pub(crate) fn exp_nonpositive(x: f64) -> f64 {
    let bounded = if x > LOWEST { x } else { LOWEST };
    let rounded = bounded * std::f64::consts::LOG2_E + ROUNDER;
    let n = rounded - ROUNDER;
    let r = (bounded - n * LN_2_HIGH) - n * LN_2_LOW;
    let mut sum = 1.0 / 362_880.0;
    for coefficient in [
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ] {
        sum = sum * r + coefficient;
    }
    let power = f64::from_bits((rounded.to_bits() << 52).wrapping_add(1023 << 52));
    if x > LOWEST { sum * power } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_standard_library() {
        for i in 0..=700_000 {
            let x = -f64::from(i) / 1000.0;
            let (actual, expected) = (exp_nonpositive(x), x.exp());
            assert!((actual / expected - 1.0).abs() < 1e-11, "exp({x}): {actual}, {expected}");
        }
    }

    #[test]
    fn the_ends_are_exact() {
        assert_eq!(exp_nonpositive(0.0).to_bits(), 1.0_f64.to_bits());
        assert_eq!(exp_nonpositive(f64::NEG_INFINITY).to_bits(), 0.0_f64.to_bits());
        assert_eq!(exp_nonpositive(-1e300).to_bits(), 0.0_f64.to_bits());
    }
}
