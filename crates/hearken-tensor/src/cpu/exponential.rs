//! Sums of exponentials in double precision, as sampling from logits needs them: a form of the
//! exponential function that compilers vectorize, compiled for the processor at hand.

use super::lanes::{Kernel, Lanes, dispatch};

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
#[inline(always)]
pub(super) fn exp_nonpositive(x: f64) -> f64 {
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

/// Writes Σ e^{(value − highest)·rate} of each `block` consecutive values to `sums`, the last of which
/// may have fewer. The bits are the same on every processor.
///
/// # Panics
/// If there is not one sum for each block.
pub(super) fn sums_of_exponentials(
    values: &[f32],
    (highest, rate): (f64, f64),
    block: usize,
    sums: &mut [f64],
) {
    assert_eq!(values.len().div_ceil(block), sums.len(), "sums: one per block");
    dispatch(Sums { values, highest, rate, block, out: sums });
}

/// The largest of the values; NaN if one of them is, −∞ if there are none.
pub(super) fn largest(values: &[f32]) -> f32 {
    dispatch(Largest { values })
}

struct Largest<'a> {
    values: &'a [f32],
}

impl Kernel for Largest<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Lanes>(self) -> f32 {
        const LANES: usize = 64;
        let mut highest = [f32::NEG_INFINITY; LANES];
        let mut odd = [0_u32; LANES];
        let (chunks, rest) = self.values.as_chunks::<LANES>();
        for chunk in chunks {
            for lane in 0..LANES {
                let value = chunk[lane];
                odd[lane] |= u32::from(value.is_nan());
                highest[lane] = if highest[lane] < value { value } else { highest[lane] };
            }
        }
        if odd.iter().any(|&lane| lane != 0) || rest.iter().any(|value| value.is_nan()) {
            return f32::NAN;
        }
        highest.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
    }
}

struct Sums<'a> {
    values: &'a [f32],
    highest: f64,
    rate: f64,
    block: usize,
    out: &'a mut [f64],
}

impl Kernel for Sums<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        const LANES: usize = 8;
        let (highest, rate) = (self.highest, self.rate);
        for (values, sum) in self.values.chunks(self.block).zip(self.out) {
            let mut sums = [0.0; LANES];
            let (chunks, rest) = values.as_chunks::<LANES>();
            for chunk in chunks {
                for lane in 0..LANES {
                    sums[lane] += exp_nonpositive((f64::from(chunk[lane]) - highest) * rate);
                }
            }
            let rest =
                rest.iter().map(|&value| exp_nonpositive((f64::from(value) - highest) * rate));
            *sum = sums.iter().sum::<f64>() + rest.sum::<f64>();
        }
    }
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

    #[test]
    fn the_largest_is_found_wherever_it_is() {
        for len in [1, 63, 64, 65, 200] {
            for place in [0, len / 2, len - 1] {
                let mut values: Vec<f32> = (0..len).map(|i| -(i as f32) - 1.0).collect();
                values[place] = 0.5;
                assert_eq!(largest(&values).to_bits(), 0.5_f32.to_bits());
                values[place] = f32::NAN;
                assert!(largest(&values).is_nan());
            }
        }
        assert_eq!(largest(&[f32::NEG_INFINITY; 70]), f32::NEG_INFINITY);
        assert_eq!(largest(&[]), f32::NEG_INFINITY);
    }

    #[test]
    fn sums_are_those_of_the_standard_library() {
        let values: Vec<f32> = (0..203).map(|i| -(i as f32) * 0.37).collect();
        let mut sums = [0.0; 4];
        sums_of_exponentials(&values, (0.5, 0.8), 64, &mut sums);
        for (block, sum) in values.chunks(64).zip(sums) {
            let exp = |&value: &f32| ((f64::from(value) - 0.5) * 0.8).exp();
            let expected: f64 = block.iter().map(exp).sum();
            assert!((sum / expected - 1.0).abs() < 1e-11, "{sum}, {expected}");
        }
    }
}
