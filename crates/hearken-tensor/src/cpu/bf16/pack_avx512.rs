//! Packing with the instructions that round two vectors to bfloat16 at once.

use std::arch::x86_64::{
    __m256bh, __m256i, __m512, __m512bh, __m512i, _MM_HINT_T0, _mm_prefetch, _mm512_cvtepu16_epi32,
    _mm512_cvtne2ps_pbh, _mm512_cvtneps_pbh, _mm512_mask_storeu_epi32, _mm512_mask_storeu_ps,
    _mm512_maskz_loadu_ps, _mm512_or_si512, _mm512_setzero_ps, _mm512_slli_epi32,
};
use std::ops::Range;

use super::super::lanes::{Avx512, Lanes};
use super::super::rows::Input;

/// How far ahead of the elements that are packed memory is asked for.
const AHEAD: usize = 128;

/// The first `len` of sixteen lanes.
fn first_lanes(len: usize) -> u16 {
    if len >= 16 { u16::MAX } else { (1 << len) - 1 }
}

/// Packs at most sixteen rows into the words `part..` of each pair of a panel.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) fn pack_rows<const W: usize>(
    input: Input<'_>,
    rows: Range<usize>,
    part: usize,
    words: &mut [f32],
) {
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

/// Packs the columns of one panel, the first of which is `column`, of the pairs from `pair` on.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) fn pack_pairs<const W: usize>(
    input: Input<'_>,
    column: usize,
    pair: usize,
    words: &mut [f32],
) {
    for part in (0..W).step_by(16) {
        let column = column + part;
        let mask = first_lanes(input.rows.width.saturating_sub(column));
        let lanes = first_lanes(W - part);
        for (i, words) in words.chunks_exact_mut(W).enumerate() {
            let pair = pack_pair(input, 2 * (pair + i), column, mask);
            let words = words[part..].as_mut_ptr();
            // SAFETY: the mask has as many lanes as there are words, or fewer.
            unsafe { _mm512_mask_storeu_epi32(words.cast(), lanes, pair) }
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

/// Rounds at most 32 neighbors to 16 words, padded with 0.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) fn round_row(values: &[f32], words: &mut [f32]) {
    let (low, high) = (first_lanes(values.len()), first_lanes(values.len().saturating_sub(16)));
    assert_eq!(words.len(), 16, "a row of a tile");
    // Addresses beyond the row's end are harmless: nothing is read from them.
    for line in [AHEAD, AHEAD + 16] {
        _mm_prefetch::<_MM_HINT_T0>(values.as_ptr().wrapping_add(line).cast());
    }
    // SAFETY: the masks leave out what lies beyond the values; both types are 64 bytes.
    unsafe {
        let low = _mm512_maskz_loadu_ps(low, values.as_ptr());
        let high = _mm512_maskz_loadu_ps(high, values.as_ptr().wrapping_add(16));
        let rounded = std::mem::transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(high, low));
        _mm512_mask_storeu_ps(words.as_mut_ptr(), u16::MAX, rounded);
    }
}

/// The words of at most sixteen columns, of sixteen pairs of rows; what is missing is 0.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) fn pack_columns(input: Input<'_>, row: usize, column: usize) -> [Avx512; 16] {
    let mask = first_lanes(input.rows.width.saturating_sub(column));
    let mut block = [Avx512(_mm512_setzero_ps()); 16];
    for (pair, words) in block.iter_mut().enumerate() {
        let row = row + 2 * pair;
        if row < input.rows.rows {
            let pair = pack_pair(input, row, column, mask);
            // SAFETY: both types are 64 bytes.
            *words = Avx512(unsafe { std::mem::transmute::<__m512i, __m512>(pair) });
        }
    }
    block
}
