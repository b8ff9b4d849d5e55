//! The inner loop: a panel of the left factor times a panel of the right one.

use std::arch::x86_64::{
    __m512, __m512bh, _MM_HINT_T1, _mm_prefetch, _mm512_add_ps, _mm512_dpbf16_ps, _mm512_loadu_ps,
    _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
};

use super::pack::{LEFT, RIGHT};
use super::pairs::Target;

/// Memory that is needed soon: words from `pointer` on, so many for each pair of inner indices. A
/// product of few rows takes no longer than reading its right factor, so reading must not wait.
#[derive(Clone, Copy)]
pub(crate) struct Ahead {
    pub(crate) pointer: *const f32,
    pub(crate) words_per_pair: usize,
}

/// Words of a cache line.
const LINE: usize = 16;

/// Multiplies `pairs` pairs of inner indices of two panels.
///
/// # Safety
/// The processor has AVX512-BF16, and the target may be written.
#[inline]
pub(crate) unsafe fn multiply(
    left: &[f32],
    right: &[f32],
    pairs: usize,
    ahead: Ahead,
    target: Target<'_>,
) {
    assert!(left.len() >= pairs * LEFT && right.len() >= pairs * RIGHT, "panels are too short");
    assert!(target.columns <= RIGHT && target.bias.is_none_or(|b| b.len() >= target.columns));
    let (left, right) = (left.as_ptr(), right.as_ptr());
    // SAFETY: lengths are asserted above; the rest is the caller's promise.
    unsafe {
        match target.rows {
            12 => panels::<12>(left, right, pairs, ahead, target),
            11 => panels::<11>(left, right, pairs, ahead, target),
            10 => panels::<10>(left, right, pairs, ahead, target),
            9 => panels::<9>(left, right, pairs, ahead, target),
            8 => panels::<8>(left, right, pairs, ahead, target),
            7 => panels::<7>(left, right, pairs, ahead, target),
            6 => panels::<6>(left, right, pairs, ahead, target),
            5 => panels::<5>(left, right, pairs, ahead, target),
            4 => panels::<4>(left, right, pairs, ahead, target),
            3 => panels::<3>(left, right, pairs, ahead, target),
            2 => panels::<2>(left, right, pairs, ahead, target),
            1 => panels::<1>(left, right, pairs, ahead, target),
            rows => unreachable!("invariant: 1 to {LEFT} rows in a panel, not {rows}"),
        }
    }
}

/// # Safety
/// As for [`multiply`], with panels long enough and `target.rows` = M.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn panels<const M: usize>(
    left: *const f32,
    right: *const f32,
    pairs: usize,
    ahead: Ahead,
    target: Target<'_>,
) {
    let mut sums = [[_mm512_setzero_ps(); 2]; M];
    for pair in 0..pairs {
        // SAFETY: `pair` is within the panels; all types are 64 bytes of any bits.
        unsafe {
            let right = right.add(pair * RIGHT);
            // Addresses beyond the factor's end are harmless: nothing is read from them.
            let soon = ahead.pointer.wrapping_add(pair * ahead.words_per_pair);
            _mm_prefetch::<_MM_HINT_T1>(soon.cast());
            _mm_prefetch::<_MM_HINT_T1>(soon.wrapping_add(LINE).cast());
            let columns: [__m512bh; 2] = [
                std::mem::transmute::<__m512, __m512bh>(_mm512_loadu_ps(right)),
                std::mem::transmute::<__m512, __m512bh>(_mm512_loadu_ps(right.add(16))),
            ];
            for i in 0..M {
                let row = _mm512_set1_ps(*left.add(pair * LEFT + i));
                let row = std::mem::transmute::<__m512, __m512bh>(row);
                sums[i][0] = _mm512_dpbf16_ps(sums[i][0], row, columns[0]);
                sums[i][1] = _mm512_dpbf16_ps(sums[i][1], row, columns[1]);
            }
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        for (j, &sum) in sums.iter().enumerate() {
            let lanes = target.columns.saturating_sub(16 * j).min(16);
            let mask = ((1_u32 << lanes) - 1) as u16;
            let at = target.pointer.wrapping_add(i * target.stride + 16 * j);
            // SAFETY: the mask leaves out what lies beyond the target's columns.
            unsafe {
                let mut sum = sum;
                if target.add {
                    sum = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, at), sum);
                }
                if let Some(bias) = target.bias {
                    let bias = bias.as_ptr().wrapping_add(16 * j);
                    sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, bias));
                }
                _mm512_mask_storeu_ps(at, mask, sum);
            }
        }
    }
}
