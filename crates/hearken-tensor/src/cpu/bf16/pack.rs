//! Rounding to bfloat16 and reordering into panels.
//!
//! A factor is cut along its outer dimension (rows of the left factor, columns of the right one)
//! into panels of fixed width. Element (outer, inner) of a panel of width W lies in the word
//! `[inner/2 · W + outer]`, in its lower half for even `inner`: two neighbors along the inner
//! dimension make one word, as the processor multiplies them. Both dimensions are padded with 0.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::super::blocked::{self, Sums};
use super::super::buffer::{Buffer, BufferPool};
use super::super::lanes::{Kernel, LANES, Lanes, dispatch};
use super::super::rows::{Input, SharedElements, Source};
#[cfg(target_arch = "x86_64")]
use super::pack_avx512;

/// Rows per panel of a left factor.
#[cfg(target_arch = "x86_64")]
pub(super) const LEFT: usize = 12;
/// Columns per panel of a right factor: two registers.
pub(super) const RIGHT: usize = 32;

/// A factor in panels of W.
#[derive(Debug)]
pub(crate) struct Panels<const W: usize> {
    words: Buffer,
    outer: usize,
    inner: usize,
}

/// A left factor where the processor multiplies pairs: activations, or the gradients of outputs.
#[cfg(target_arch = "x86_64")]
pub(super) type PairedLeft = Panels<LEFT>;
/// A right factor: weights.
pub(crate) type Right = Panels<RIGHT>;

impl<const W: usize> Panels<W> {
    /// Rounds and reorders a factor.
    pub(crate) fn pack(pool: &Arc<BufferPool>, source: Source<'_>) -> Self {
        let (outer, inner) = (source.outer(), source.inner());
        let panel_len = inner.div_ceil(2) * W;
        let mut words = Buffer::scratch(pool, outer.div_ceil(W) * panel_len);
        match source {
            Source::Outer(input) => pack_outer::<W>(input, &mut words, panel_len),
            Source::Inner(input) => pack_inner::<W>(input, &mut words, panel_len),
        }
        Self { words, outer, inner }
    }

    /// Number of rows of a left factor, of columns of a right one.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn outer(&self) -> usize {
        self.outer
    }

    /// Length of the dimension that products sum over.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn inner(&self) -> usize {
        self.inner
    }

    /// One element, as f32.
    pub(crate) fn value(&self, outer: usize, inner: usize) -> f32 {
        let word = self.words[outer / W * self.panel_len() + inner / 2 * W + outer % W].to_bits();
        f32::from_bits(if inner.is_multiple_of(2) { word << 16 } else { word & 0xffff_0000 })
    }

    /// Words per panel.
    pub(crate) fn panel_len(&self) -> usize {
        self.inner.div_ceil(2) * W
    }

    /// The words of a panel from a pair of inner indices on.
    pub(crate) fn panel(&self, panel: usize, pair: usize) -> &[f32] {
        let len = self.panel_len();
        &self.words[panel * len..(panel + 1) * len][pair * W..]
    }
}

/// Elements per task.
const TASK: usize = 1 << 16;

/// Runs `work` for all tasks, on this thread where there is but one.
pub(super) fn for_tasks(tasks: usize, work: impl Fn(usize) + Send + Sync) {
    if tasks <= 1 {
        (0..tasks).for_each(work);
    } else {
        (0..tasks).into_par_iter().for_each(work);
    }
}

fn pack_outer<const W: usize>(input: Input<'_>, words: &mut [f32], panel_len: usize) {
    let panels = input.rows.rows.div_ceil(W);
    let chunk = (TASK / (W * input.rows.width.max(1))).max(1);
    let words = SharedElements::new(words);
    for_tasks(panels.div_ceil(chunk), |task| {
        for panel in task * chunk..(task * chunk + chunk).min(panels) {
            // SAFETY: each panel belongs to one task.
            let words = unsafe { words.slice(panel * panel_len, panel_len) };
            let rows = panel * W..(panel * W + W).min(input.rows.rows);
            for part in (0..W).step_by(16) {
                let first = (rows.start + part).min(rows.end);
                pack_rows::<W>(input, first..rows.end.min(first + 16), part, words);
            }
        }
    });
}

/// Packs at most sixteen rows into the words `part..` of each pair of a panel.
fn pack_rows<const W: usize>(input: Input<'_>, rows: Range<usize>, part: usize, words: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if super::rounds_pairs() {
        // SAFETY: the family in use has the features.
        unsafe { pack_avx512::pack_rows::<W>(input, rows, part, words) };
        return;
    }
    dispatch(PackRows::<W> { input, rows, part, words });
}

struct PackRows<'a, const W: usize> {
    input: Input<'a>,
    rows: Range<usize>,
    part: usize,
    words: &'a mut [f32],
}

impl<const W: usize> Kernel for PackRows<'_, W> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        let (width, lanes) = (self.input.rows.width, (W - self.part).min(LANES));
        for first in (0..width).step_by(LANES) {
            let mut block = [S::splat(0.0); LANES];
            for (block, row) in block.iter_mut().zip(self.rows.clone()) {
                let row = &self.input.row(row)[first..];
                *block = match row.first_chunk::<LANES>() {
                    Some(chunk) => S::load(chunk),
                    None => S::load_partial(row),
                };
            }
            let block = S::transpose(&block);
            let pairs = (width - first).div_ceil(2).min(LANES / 2);
            for i in 0..pairs {
                let words = block[2 * i].pack_halves(block[2 * i + 1]);
                let at = (first / 2 + i) * W + self.part;
                store(words, &mut self.words[at..at + lanes]);
            }
        }
    }
}

/// Writes the first lanes, at most all of them.
#[inline(always)]
fn store<S: Lanes>(words: S, to: &mut [f32]) {
    match to.first_chunk_mut::<LANES>() {
        Some(to) => words.store(to),
        None => words.store_partial(to),
    }
}

/// Pairs of inner indices per task.
const PAIRS: usize = 128;
/// Pairs that are packed for one panel before the next: few enough for their rows to stay in the
/// first-level cache whatever their distance.
const BLOCK: usize = 8;

fn pack_inner<const W: usize>(input: Input<'_>, words: &mut [f32], panel_len: usize) {
    let (pairs, panels) = (input.rows.rows.div_ceil(2), input.rows.width.div_ceil(W));
    // Panels of one task, so that rows are read in longer runs.
    let side = 384 / W;
    let groups = panels.div_ceil(side);
    let words = SharedElements::new(words);
    for_tasks(groups * pairs.div_ceil(PAIRS), |task| {
        let (group, part) = (task % groups, task / groups);
        let panels = group * side..(group * side + side).min(panels);
        let pairs = part * PAIRS..(part * PAIRS + PAIRS).min(pairs);
        for first in pairs.clone().step_by(BLOCK) {
            let len = (pairs.end - first).min(BLOCK);
            for panel in panels.clone() {
                // SAFETY: each pair of a panel belongs to one task.
                let words = unsafe { words.slice(panel * panel_len + first * W, len * W) };
                pack_pairs::<W>(input, panel * W, first, words);
            }
        }
    });
}

/// Packs the columns of one panel, the first of which is `column`, of the pairs from `pair` on, as many
/// as there are words for.
fn pack_pairs<const W: usize>(input: Input<'_>, column: usize, pair: usize, words: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if super::rounds_pairs() {
        // SAFETY: the family in use has the features.
        unsafe { pack_avx512::pack_pairs::<W>(input, column, pair, words) };
        return;
    }
    dispatch(PackPairs::<W> { input, column, pair, words });
}

struct PackPairs<'a, const W: usize> {
    input: Input<'a>,
    column: usize,
    pair: usize,
    words: &'a mut [f32],
}

impl<const W: usize> Kernel for PackPairs<'_, W> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        let width = self.input.rows.width;
        for part in (0..W).step_by(LANES) {
            let column = (self.column + part).min(width);
            let columns = column..(column + LANES).min(width);
            let lanes = (W - part).min(LANES);
            for (i, words) in self.words.chunks_exact_mut(W).enumerate() {
                let row = 2 * (self.pair + i);
                let even = load::<S>(self.input, row, &columns);
                let odd = load::<S>(self.input, row + 1, &columns);
                store(even.pack_halves(odd), &mut words[part..part + lanes]);
            }
        }
    }
}

/// At most sixteen columns of a row, padded with zeros; of a row that is missing, zeros.
#[inline(always)]
fn load<S: Lanes>(input: Input<'_>, row: usize, columns: &Range<usize>) -> S {
    if input.rows.rows <= row {
        return S::splat(0.0);
    }
    let values = &input.row(row)[columns.clone()];
    match values.first_chunk::<LANES>() {
        Some(chunk) => S::load(chunk),
        None => S::load_partial(values),
    }
}

impl blocked::Right for Right {
    fn inner(&self) -> usize {
        self.inner
    }

    fn columns(&self) -> usize {
        self.outer
    }

    #[inline(always)]
    unsafe fn fill<S: Lanes, const N: usize>(
        &self,
        column: usize,
        inner: Range<usize>,
        strip: *mut f32,
    ) {
        let (words, next) = self.strip::<N>(column, &inner);
        for pair in 0..inner.len().div_ceil(2) {
            for j in 0..N {
                let at = pair * RIGHT + j * LANES;
                S::prefetch_line(next.wrapping_add(at));
                // SAFETY: the panel has these pairs; the strip has room for both inner indices of each but
                // the last, which may lack its second.
                unsafe {
                    let words = S::load_at(words.as_ptr().add(at));
                    let strip = strip.add((2 * pair * N + j) * LANES);
                    words.low_halves().store_at(strip);
                    if 2 * pair + 1 < inner.len() {
                        words.high_halves().store_at(strip.add(N * LANES));
                    }
                }
            }
        }
    }

    /// Few rows need no strip: storing it would take longer than multiplying by what is in registers.
    #[inline(always)]
    unsafe fn add_rows<S: Lanes, const M: usize, const N: usize>(
        &self,
        left: &[f32],
        column: usize,
        inner: Range<usize>,
        strip: *mut f32,
        sums: &mut Sums<S, M, N>,
    ) {
        if M > 3 {
            let len = inner.len();
            assert!(left.len() >= len * M, "M elements for each inner index");
            // SAFETY: asserted above; the caller's promise.
            unsafe {
                self.fill::<S, N>(column, inner, strip);
                blocked::accumulate::<S, M, N>(left.as_ptr(), M, strip, len, sums);
            }
            return;
        }
        let (words, next) = self.strip::<N>(column, &inner);
        let mut own = *sums;
        for (pair, left) in left[..inner.len() * M].chunks(2 * M).enumerate() {
            let mut lines = [S::splat(0.0); N];
            for j in 0..N {
                let at = pair * RIGHT + j * LANES;
                S::prefetch_line(next.wrapping_add(at));
                // SAFETY: the panel has these pairs.
                lines[j] = unsafe { S::load_at(words.as_ptr().add(at)) };
            }
            let (even, odd) = left.split_at(M);
            for i in 0..M {
                for j in 0..N {
                    own[i][j] = S::splat(even[i]).mul_add(lines[j].low_halves(), own[i][j]);
                }
            }
            if odd.is_empty() {
                continue;
            }
            for i in 0..M {
                for j in 0..N {
                    own[i][j] = S::splat(odd[i]).mul_add(lines[j].high_halves(), own[i][j]);
                }
            }
        }
        *sums = own;
    }
}

impl Right {
    /// The words of N·16 columns from `column` on, a row of the panel for each pair of inner indices, and
    /// where those of the next columns lie.
    #[inline(always)]
    fn strip<const N: usize>(&self, column: usize, inner: &Range<usize>) -> (&[f32], *const f32) {
        const { assert!(N * LANES <= RIGHT) }
        let (pair, pairs) = (inner.start / 2, inner.len().div_ceil(2));
        let words = &self.panel(column / RIGHT, pair)[column % RIGHT..];
        assert!(words.len() >= (pairs * RIGHT).saturating_sub(column % RIGHT), "a short panel");
        let is_last = (column + N * LANES).is_multiple_of(RIGHT);
        let ahead = if is_last { self.panel_len() - column % RIGHT } else { N * LANES };
        (words, words.as_ptr().wrapping_add(ahead))
    }
}
