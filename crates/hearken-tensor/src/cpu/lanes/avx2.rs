//! Lanes in two AVX registers, for processors with AVX2 and fused multiply-add.

use super::{LANES, Lanes, SUM_ORDER};
use std::arch::x86_64::{
    __m256, _CMP_LT_OQ, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _MM_HINT_T0, _mm_loadu_si128,
    _mm_prefetch, _mm256_add_epi32, _mm256_add_ps, _mm256_and_ps, _mm256_blendv_ps,
    _mm256_castps_si256, _mm256_castsi256_ps, _mm256_cmp_ps, _mm256_cvtepu16_epi32,
    _mm256_cvtps_epi32, _mm256_div_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps,
    _mm256_min_ps, _mm256_mul_ps, _mm256_permute2f128_ps, _mm256_round_ps, _mm256_set1_epi32,
    _mm256_set1_ps, _mm256_setzero_ps, _mm256_shuffle_ps, _mm256_slli_epi32, _mm256_sqrt_ps,
    _mm256_srai_epi32, _mm256_storeu_ps, _mm256_sub_epi32, _mm256_sub_ps, _mm256_unpackhi_ps,
    _mm256_unpacklo_ps,
};

/// Sixteen lanes, the first eight in the first register. Values exist only inside
/// [`super::dispatch`], under a family whose features the processor has: the reason why each `unsafe`
/// here is sound.
#[derive(Clone, Copy)]
pub(crate) struct Avx2([__m256; 2]);

impl Avx2 {
    #[inline(always)]
    fn each(self, f: impl Fn(__m256) -> __m256) -> Self {
        Self([f(self.0[0]), f(self.0[1])])
    }

    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(__m256, __m256) -> __m256) -> Self {
        Self([f(self.0[0], other.0[0]), f(self.0[1], other.0[1])])
    }
}

impl Lanes for Avx2 {
    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: see the type.
        let all = unsafe { _mm256_set1_ps(value) };
        Self([all, all])
    }
    #[inline(always)]
    fn load(values: &[f32; LANES]) -> Self {
        // SAFETY: see the type; the array has sixteen elements.
        unsafe { Self([_mm256_loadu_ps(values.as_ptr()), _mm256_loadu_ps(values.as_ptr().add(8))]) }
    }
    #[inline(always)]
    fn store(self, values: &mut [f32; LANES]) {
        // SAFETY: see the type; the array has sixteen elements.
        unsafe {
            _mm256_storeu_ps(values.as_mut_ptr(), self.0[0]);
            _mm256_storeu_ps(values.as_mut_ptr().add(8), self.0[1]);
        }
    }
    #[inline(always)]
    fn low_halves(self) -> Self {
        // SAFETY: see the type.
        self.each(|x| unsafe {
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(x)))
        })
    }
    #[inline(always)]
    fn high_halves(self) -> Self {
        // SAFETY: see the type.
        self.each(|x| unsafe {
            _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32(0xffff_0000_u32 as i32)))
        })
    }
    #[inline(always)]
    fn load_halves(words: &[f32; LANES / 2]) -> Self {
        // SAFETY: see the type; the array has 32 bytes.
        let half = |i: usize| unsafe {
            let halves = _mm_loadu_si128(words.as_ptr().add(4 * i).cast());
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
        };
        Self([half(0), half(1)])
    }
    #[inline(always)]
    fn prefetch(values: &[f32]) {
        for line in values.chunks(LANES) {
            // SAFETY: asking for memory has no effect but on time.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
        }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: see the type.
        self.zip(other, |a, b| unsafe { _mm256_add_ps(a, b) })
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: see the type.
        self.zip(other, |a, b| unsafe { _mm256_sub_ps(a, b) })
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: see the type.
        self.zip(other, |a, b| unsafe { _mm256_mul_ps(a, b) })
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: see the type.
        self.zip(other, |a, b| unsafe { _mm256_div_ps(a, b) })
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: see the type.
        let one = |i: usize| unsafe { _mm256_fmadd_ps(self.0[i], factor.0[i], addend.0[i]) };
        Self([one(0), one(1)])
    }
    #[inline(always)]
    fn max(self, bound: Self) -> Self {
        // The instruction gives its second operand where either is NaN.
        // SAFETY: see the type.
        self.zip(bound, |a, b| unsafe { _mm256_max_ps(b, a) })
    }
    #[inline(always)]
    fn min(self, bound: Self) -> Self {
        // SAFETY: see the type.
        self.zip(bound, |a, b| unsafe { _mm256_min_ps(b, a) })
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: see the type.
        self.each(|x| unsafe { _mm256_sqrt_ps(x) })
    }
    #[inline(always)]
    fn round(self) -> Self {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        // SAFETY: see the type.
        self.each(|x| unsafe { _mm256_round_ps::<NEAREST>(x) })
    }
    #[inline(always)]
    fn scale_exp2(self, n: Self) -> Self {
        // Two factors, so that results below the smallest normal number round once, at the end.
        // SAFETY: see the type.
        self.zip(n, |x, n| unsafe {
            let bias = _mm256_set1_epi32(127);
            let n = _mm256_cvtps_epi32(n);
            let first = _mm256_srai_epi32::<1>(n);
            let second = _mm256_sub_epi32(n, first);
            let power = |n| _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, bias)));
            _mm256_mul_ps(_mm256_mul_ps(x, power(first)), power(second))
        })
    }
    #[inline(always)]
    fn where_negative(self, condition: Self, other: Self) -> Self {
        // SAFETY: see the type.
        let one = |i: usize| unsafe {
            let mask = _mm256_cmp_ps::<_CMP_LT_OQ>(condition.0[i], _mm256_setzero_ps());
            _mm256_blendv_ps(other.0[i], self.0[i], mask)
        };
        Self([one(0), one(1)])
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: see the type.
        let mut v = unsafe { eight(_mm256_add_ps(self.0[0], self.0[1])) };
        for half in [4, 2, 1] {
            for i in 0..half {
                v[i] += v[i + half];
            }
        }
        v[0]
    }
    #[inline(always)]
    fn max_element(self) -> f32 {
        // SAFETY: see the type.
        let values = unsafe { eight(_mm256_max_ps(self.0[0], self.0[1])) };
        values.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
    #[inline(always)]
    fn sum_each(vectors: &[Self; LANES]) -> Self {
        // Lane by lane of all vectors at once, as a tree over the order of the lanes.
        let columns = Self::transpose(vectors);
        let pair = |i: usize| columns[SUM_ORDER[2 * i]].add(columns[SUM_ORDER[2 * i + 1]]);
        let four = |i: usize| pair(2 * i).add(pair(2 * i + 1));
        let eight = |i: usize| four(2 * i).add(four(2 * i + 1));
        eight(0).add(eight(1))
    }
    #[inline(always)]
    fn transpose(rows: &[Self; LANES]) -> [Self; LANES] {
        let mut columns = *rows;
        for half in 0..2 {
            for part in 0..2 {
                let block = std::array::from_fn(|i| rows[8 * part + i].0[half]);
                // SAFETY: see the type.
                let block = unsafe { transpose_block(block) };
                for i in 0..8 {
                    columns[8 * half + i].0[part] = block[i];
                }
            }
        }
        columns
    }
}

/// The elements of a register.
///
/// # Safety
/// The processor has AVX.
#[inline(always)]
unsafe fn eight(register: __m256) -> [f32; 8] {
    let mut values = [0.0; 8];
    // SAFETY: the array has eight elements, and the caller's promise.
    unsafe { _mm256_storeu_ps(values.as_mut_ptr(), register) }
    values
}

/// Eight rows of eight, transposed.
///
/// # Safety
/// The processor has AVX.
#[inline(always)]
unsafe fn transpose_block(r: [__m256; 8]) -> [__m256; 8] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut pairs = r;
        for i in (0..8).step_by(2) {
            pairs[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
            pairs[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
        }
        let mut quads = r;
        for g in (0..8).step_by(4) {
            for i in 0..2 {
                let (a, b) = (pairs[g + i], pairs[g + i + 2]);
                quads[g + 2 * i] = _mm256_shuffle_ps::<0x44>(a, b);
                quads[g + 2 * i + 1] = _mm256_shuffle_ps::<0xee>(a, b);
            }
        }
        let mut columns = r;
        for i in 0..4 {
            columns[i] = _mm256_permute2f128_ps::<0x20>(quads[i], quads[i + 4]);
            columns[i + 4] = _mm256_permute2f128_ps::<0x31>(quads[i], quads[i + 4]);
        }
        columns
    }
}
