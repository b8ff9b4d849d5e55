//! The inner loop where the processor has no products of bfloat16: factors are widened to f32 in
//! registers, and each product is added by itself, even inner indices before odd ones.

use super::super::lanes::{Kernel, LANES, Lanes};
use super::pack::{LEFT, RIGHT};
use super::product::{PAIRS_MAX, Target};
use crate::cpu::rounding::unpack;

/// A part of a panel of the left factor in f32: element i of the even inner index of a pair is at
/// `2·LEFT·pair + i`, that of the odd one [`LEFT`] further on.
pub(super) struct WideLeft([f32; 2 * LEFT * PAIRS_MAX]);

impl WideLeft {
    #[expect(clippy::large_stack_arrays, reason = "24 KiB that stay in the first-level cache")]
    pub(super) fn new() -> Self {
        Self([0.0; 2 * LEFT * PAIRS_MAX])
    }

    /// Takes `pairs` pairs of a panel.
    pub(super) fn fill(&mut self, panel: &[f32], pairs: usize) {
        let pairs_of = panel.chunks_exact(LEFT).take(pairs);
        for (words, wide) in pairs_of.zip(self.0.chunks_exact_mut(2 * LEFT)) {
            let (even, odd) = wide.split_at_mut(LEFT);
            for i in 0..LEFT {
                [even[i], odd[i]] = unpack(words[i]);
            }
        }
    }
}

/// `pairs` pairs of inner indices of two panels, multiplied.
pub(super) struct WidenedProduct<'a> {
    pub(super) left: &'a WideLeft,
    pub(super) right: &'a [f32],
    pub(super) pairs: usize,
    /// May be written.
    pub(super) target: Target<'a>,
}

impl Kernel for WidenedProduct<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        let Target { rows, columns, bias, .. } = self.target;
        assert!(self.pairs <= PAIRS_MAX && self.right.len() >= self.pairs * RIGHT, "short panels");
        assert!(rows <= LEFT && columns <= RIGHT && bias.is_none_or(|b| b.len() >= columns));
        // As many sums as leave registers for the factors.
        if S::MANY {
            match rows {
                1 => self.rows::<S, 1, 2>(0),
                2 => self.rows::<S, 2, 2>(0),
                3..=4 => self.rows::<S, 4, 2>(0),
                5..=8 => self.rows::<S, 8, 2>(0),
                _ => self.rows::<S, 12, 2>(0),
            }
            return;
        }
        for first in (0..rows).step_by(6) {
            match rows - first {
                1 => self.rows::<S, 1, 2>(first),
                2 => self.rows::<S, 2, 2>(first),
                3 => self.rows::<S, 3, 2>(first),
                4 => self.rows::<S, 4, 1>(first),
                5 => self.rows::<S, 5, 1>(first),
                _ => self.rows::<S, 6, 1>(first),
            }
        }
    }
}

impl WidenedProduct<'_> {
    /// M rows from `first` on, N vectors of columns at a time.
    #[inline(always)]
    fn rows<S: Lanes, const M: usize, const N: usize>(&self, first: usize) {
        for column in (0..self.target.columns).step_by(N * LANES) {
            self.block::<S, M, N>(first, column);
        }
    }

    #[inline(always)]
    fn block<S: Lanes, const M: usize, const N: usize>(&self, first: usize, column: usize) {
        let left = self.left.0[first..].as_ptr();
        let right = self.right[column..].as_ptr();
        let mut sums = [[S::splat(0.0); N]; M];
        for pair in 0..self.pairs {
            let mut words = [S::splat(0.0); N];
            for j in 0..N {
                // SAFETY: column + 16·N ≤ RIGHT, and the panel has all pairs.
                words[j] = unsafe { S::load_at(right.add(pair * RIGHT + j * LANES)) };
            }
            for odd in [false, true] {
                let wide =
                    words.map(|words| if odd { words.high_halves() } else { words.low_halves() });
                for i in 0..M {
                    let at = (2 * pair + usize::from(odd)) * LEFT + i;
                    // SAFETY: first + M ≤ LEFT, and there are all pairs.
                    let factor = S::splat(unsafe { *left.add(at) });
                    for j in 0..N {
                        sums[i][j] = factor.mul_add(wide[j], sums[i][j]);
                    }
                }
            }
        }
        for (i, sums) in sums.into_iter().enumerate().take(self.target.rows - first) {
            for (j, sum) in sums.into_iter().enumerate() {
                self.finish(first + i, column + j * LANES, sum);
            }
        }
    }

    /// Adds the bias and writes or adds a vector of sums, as far as there are columns.
    #[inline(always)]
    fn finish<S: Lanes>(&self, row: usize, column: usize, sum: S) {
        let Target { pointer, stride, columns, add, bias, .. } = self.target;
        if columns <= column {
            return;
        }
        let len = (columns - column).min(LANES);
        let at = pointer.wrapping_add(row * stride + column);
        // SAFETY: the target may be written, by this call alone.
        let out = unsafe { std::slice::from_raw_parts_mut(at, len) };
        let mut sum = sum;
        if add {
            sum = load::<S>(out).add(sum);
        }
        if let Some(bias) = bias {
            sum = sum.add(load(&bias[column..column + len]));
        }
        match out.first_chunk_mut::<LANES>() {
            Some(out) => sum.store(out),
            None => sum.store_partial(out),
        }
    }
}

/// At most sixteen elements, padded with zeros.
#[inline(always)]
fn load<S: Lanes>(values: &[f32]) -> S {
    match values.first_chunk::<LANES>() {
        Some(chunk) => S::load(chunk),
        None => S::load_partial(values),
    }
}
