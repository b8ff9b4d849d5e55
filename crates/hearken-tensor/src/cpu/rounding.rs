//! Rounding to bfloat16 in place, and two rounded elements in one word.

use super::buffer::Buffer;
use super::lanes::{Kernel, Lanes, dispatch};
use super::rows::{SharedElements, for_chunks};
use crate::device::{Heads, QkvLayout};
use crate::stochastic;

/// The bits of the nearest bfloat16, ties to even, followed by zeros. What is NaN stays NaN.
#[inline(always)]
fn rounded(value: f32) -> u32 {
    let bits = value.to_bits();
    let nearest = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000;
    if value.is_nan() { (bits | 0x0040_0000) & 0xffff_0000 } else { nearest }
}

/// A word of two elements rounded to bfloat16, the first in the lower half.
#[inline(always)]
pub(crate) fn pack(even: f32, odd: f32) -> f32 {
    f32::from_bits(rounded(even) >> 16 | rounded(odd))
}

/// Rounds the heads of every row.
pub(crate) fn round_heads(buffer: &mut Buffer, layout: QkvLayout, heads: Heads) {
    let rows = buffer.len() / layout.row_stride.max(1);
    let last = heads.offset + heads.heads.saturating_sub(1) * heads.head_stride + layout.head_dim;
    assert!(last <= layout.row_stride, "heads end at {last} of {}", layout.row_stride);
    let values = SharedElements::new(buffer);
    for_chunks(rows, heads.heads * layout.head_dim, |range| {
        for row in range {
            for head in 0..heads.heads {
                let start = row * layout.row_stride + heads.offset + head * heads.head_stride;
                // SAFETY: the ranges partition the rows, and heads are taken one at a time.
                dispatch(RoundRow(unsafe { values.slice(start, layout.head_dim) }));
            }
        }
    });
}

/// Rounds every element.
pub(crate) fn round(values: &mut [f32]) {
    super::rows::for_chunks_mut(values, |_, chunk| dispatch(RoundRow(chunk)));
}

/// Rounds every element up or down at random.
pub(crate) fn round_randomly(values: &mut [f32], key: u32) {
    super::rows::for_chunks_mut(values, |start, values| {
        dispatch(RoundRandomly { values, key, start: start as u32 });
    });
}

struct RoundRandomly<'a> {
    values: &'a mut [f32],
    key: u32,
    start: u32,
}

impl Kernel for RoundRandomly<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        for (at, value) in self.values.iter_mut().enumerate() {
            *value = stochastic::rounded(*value, self.key, self.start.wrapping_add(at as u32));
        }
    }
}

struct RoundRow<'a>(&'a mut [f32]);

impl Kernel for RoundRow<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        for value in self.0 {
            *value = f32::from_bits(rounded(*value));
        }
    }
}

/// Writes elements to words, two in each: the first in the lower half, 0 after an odd last one.
pub(crate) struct Pack<'a> {
    pub(crate) values: &'a [f32],
    /// Half as many, rounded up.
    pub(crate) words: &'a mut [f32],
}

impl Kernel for Pack<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        let (pairs, rest) = self.values.as_chunks::<2>();
        for (word, pair) in self.words.iter_mut().zip(pairs) {
            *word = pack(pair[0], pair[1]);
        }
        if let (&[value], Some(word)) = (rest, self.words.last_mut()) {
            *word = pack(value, 0.0);
        }
    }
}

/// The two elements of a word.
#[inline(always)]
pub(crate) fn unpack(word: f32) -> [f32; 2] {
    let bits = word.to_bits();
    [f32::from_bits(bits << 16), f32::from_bits(bits & 0xffff_0000)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_to_the_nearest_and_ties_to_even() {
        let check = |value: f32, expected: f32| {
            assert_eq!(f32::from_bits(rounded(value)).to_bits(), expected.to_bits(), "{value}");
        };
        let unit = 2.0_f32.powi(-7);
        check(1.0, 1.0);
        check(-1.0 - 0.4 * unit, -1.0);
        check(1.0 + 0.6 * unit, 1.0 + unit);
        check(1.0 + 0.5 * unit, 1.0);
        check(1.0 + 1.5 * unit, 1.0 + 2.0 * unit);
        check(f32::INFINITY, f32::INFINITY);
        check(f32::MAX, f32::INFINITY);
        assert!(f32::from_bits(rounded(f32::NAN)).is_nan());
        assert!(f32::from_bits(rounded(f32::from_bits(0x7f80_0001))).is_nan());
    }

    #[test]
    fn words_hold_what_rounding_leaves() {
        let values: Vec<f32> = (0..37).map(|i| (i as f32 * 0.731).sin()).collect();
        let mut words = vec![f32::NAN; 19];
        dispatch(Pack { values: &values, words: &mut words });
        let unpacked: Vec<f32> = words.iter().flat_map(|&word| unpack(word)).collect();
        let expected = values.iter().map(|&value| f32::from_bits(rounded(value)));
        assert!(expected.chain([0.0]).eq(unpacked));
    }
}
