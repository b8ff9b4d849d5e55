//! Rounding to bfloat16 and reordering into panels.
//!
//! A factor is cut along its outer dimension (rows of the left factor, columns of the right one)
//! into panels of fixed width. Element (outer, inner) of a panel of width W lies in the word
//! `[inner/2 · W + outer]`, in its lower half for even `inner`: two neighbors along the inner
//! dimension make one word, as the processor multiplies them. Both dimensions are padded with 0.

use std::arch::x86_64::{
    __m256bh, __m256i, __m512, __m512bh, __m512i, _MM_HINT_T0, _mm_prefetch, _mm512_cvtepu16_epi32,
    _mm512_cvtne2ps_pbh, _mm512_cvtneps_pbh, _mm512_mask_storeu_epi32, _mm512_mask_storeu_ps,
    _mm512_maskz_loadu_ps, _mm512_or_si512, _mm512_setzero_ps, _mm512_slli_epi32,
};
use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::super::buffer::{Buffer, Pool};
use super::super::lanes::{Avx512, Lanes};
use super::super::rows::{Input, Shared};

/// Rows per panel of a left factor.
pub(crate) const LEFT: usize = 12;
/// Columns per panel of a right factor: two registers.
pub(crate) const RIGHT: usize = 32;

/// Which dimension of a factor is consecutive in memory.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    /// Each row of the input is one outer index: the inner dimension is consecutive.
    Outer(Input<'a>),
    /// Each row of the input is one inner index: the outer dimension is consecutive.
    Inner(Input<'a>),
}

impl Source<'_> {
    fn outer(&self) -> usize {
        match self {
            Self::Outer(input) => input.rows.rows,
            Self::Inner(input) => input.rows.width,
        }
    }

    fn inner(&self) -> usize {
        match self {
            Self::Outer(input) => input.rows.width,
            Self::Inner(input) => input.rows.rows,
        }
    }
}

/// A factor in panels of W.
#[derive(Debug)]
pub(crate) struct Panels<const W: usize> {
    words: Buffer,
    outer: usize,
    inner: usize,
}

/// A left factor: activations, or the gradients of outputs.
pub(crate) type Left = Panels<LEFT>;
/// A right factor: weights.
pub(crate) type Right = Panels<RIGHT>;

impl<const W: usize> Panels<W> {
    /// Rounds and reorders a factor.
    pub(crate) fn pack(pool: &Arc<Pool>, source: Source<'_>) -> Self {
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
    pub(crate) fn outer(&self) -> usize {
        self.outer
    }

    /// Length of the dimension that products sum over.
    pub(crate) fn inner(&self) -> usize {
        self.inner
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
fn for_tasks(tasks: usize, work: impl Fn(usize) + Send + Sync) {
    if tasks <= 1 {
        (0..tasks).for_each(work);
    } else {
        (0..tasks).into_par_iter().for_each(work);
    }
}

fn pack_outer<const W: usize>(input: Input<'_>, words: &mut [f32], panel_len: usize) {
    let panels = input.rows.rows.div_ceil(W);
    let chunk = (TASK / (W * input.rows.width.max(1))).max(1);
    let words = Shared::new(words);
    for_tasks(panels.div_ceil(chunk), |task| {
        for panel in task * chunk..(task * chunk + chunk).min(panels) {
            // SAFETY: each panel belongs to one task.
            let words = unsafe { words.slice(panel * panel_len, panel_len) };
            let rows = panel * W..(panel * W + W).min(input.rows.rows);
            for part in (0..W).step_by(16) {
                let first = (rows.start + part).min(rows.end);
                // SAFETY: `available` has seen the features.
                unsafe { pack_rows::<W>(input, first..rows.end.min(first + 16), part, words) };
            }
        }
    });
}

/// How far ahead of the elements that are packed memory is asked for.
const AHEAD: usize = 128;

/// The first `len` of sixteen lanes.
fn first_lanes(len: usize) -> u16 {
    if len >= 16 { u16::MAX } else { (1 << len) - 1 }
}

/// Packs at most sixteen rows into the words `part..` of each pair of a panel.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn pack_rows<const W: usize>(input: Input<'_>, rows: Range<usize>, part: usize, words: &mut [f32]) {
    let width = input.rows.width;
    let pairs = words.len() / W;
    let lanes = first_lanes(W - part);
    for first in (0..width).step_by(32) {
        let left = width - first;
        let (low, high) = (first_lanes(left), first_lanes(left.saturating_sub(16)));
        let mut block = [Avx512(_mm512_setzero_ps()); 16];
        for (block, row) in block.iter_mut().zip(rows.clone()) {
            let values = input.row(row)[first..].as_ptr();
            // So many rows at once are more than the processor foresees by itself. Addresses beyond
            // a row's end are harmless: nothing is read from them.
            for line in [AHEAD, AHEAD + 16] {
                _mm_prefetch::<_MM_HINT_T0>(values.wrapping_add(line).cast());
            }
            // SAFETY: the masks leave out what lies beyond the row; both types are 64 bytes.
            *block = unsafe {
                let low = _mm512_maskz_loadu_ps(low, values);
                let high = _mm512_maskz_loadu_ps(high, values.wrapping_add(16));
                let words = _mm512_cvtne2ps_pbh(high, low);
                Avx512(std::mem::transmute::<__m512bh, __m512>(words))
            };
        }
        // Only moves: words that are no numbers keep their bits.
        let block = Avx512::transpose(&block);
        let first_pair = first / 2;
        for (i, block) in block.iter().enumerate().take(pairs - first_pair) {
            let target = &mut words[(first_pair + i) * W + part..];
            debug_assert!(target.len() >= (W - part).min(16));
            // SAFETY: the panel has W words from there on, less `part`; the mask has no more lanes.
            unsafe { _mm512_mask_storeu_ps(target.as_mut_ptr(), lanes, block.0) }
        }
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
    let words = Shared::new(words);
    for_tasks(groups * pairs.div_ceil(PAIRS), |task| {
        let (group, part) = (task % groups, task / groups);
        let panels = group * side..(group * side + side).min(panels);
        let pairs = part * PAIRS..(part * PAIRS + PAIRS).min(pairs);
        // SAFETY: `available` has seen the features; each pair of a panel belongs to one task.
        unsafe { pack_pairs::<W>(input, panels, pairs, (words, panel_len)) };
    });
}

/// # Safety
/// No two calls at a time have pairs of a panel in common.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn pack_pairs<const W: usize>(
    input: Input<'_>,
    panels: Range<usize>,
    pairs: Range<usize>,
    (words, panel_len): (Shared<'_>, usize),
) {
    for first in pairs.clone().step_by(BLOCK) {
        let len = (pairs.end - first).min(BLOCK);
        for panel in panels.clone() {
            // SAFETY: the caller's promise.
            let words = unsafe { words.slice(panel * panel_len + first * W, len * W) };
            for part in (0..W).step_by(16) {
                let column = panel * W + part;
                let mask = first_lanes(input.rows.width.saturating_sub(column));
                let lanes = first_lanes(W - part);
                for (i, words) in words.chunks_exact_mut(W).enumerate() {
                    let pair = pack_pair(input, 2 * (first + i), column, mask);
                    let words = words[part..].as_mut_ptr();
                    // SAFETY: the mask has as many lanes as there are words, or fewer.
                    unsafe { _mm512_mask_storeu_epi32(words.cast(), lanes, pair) }
                }
            }
        }
    }
}

/// The words of at most sixteen columns: `row` in the lower halves, the next one in the upper.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn pack_pair(input: Input<'_>, row: usize, column: usize, mask: u16) -> __m512i {
    let at = |row: usize| input.pointer().wrapping_add(row * input.rows.stride + column);
    // SAFETY: the mask leaves out what lies beyond the rows, and a row past the last is not read;
    // the types that are transmuted are 32 bytes each.
    unsafe {
        let even = _mm512_maskz_loadu_ps(mask, at(row));
        let odd = if row + 1 < input.rows.rows {
            _mm512_maskz_loadu_ps(mask, at(row + 1))
        } else {
            _mm512_setzero_ps()
        };
        let even = _mm512_cvtepu16_epi32(std::mem::transmute::<__m256bh, __m256i>(
            _mm512_cvtneps_pbh(even),
        ));
        let odd = _mm512_cvtepu16_epi32(std::mem::transmute::<__m256bh, __m256i>(
            _mm512_cvtneps_pbh(odd),
        ));
        _mm512_or_si512(even, _mm512_slli_epi32::<16>(odd))
    }
}
