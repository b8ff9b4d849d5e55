//! Lanes in one AVX-512 register.

use super::{LANES, Lanes};
use std::arch::x86_64::{
    __m512, _CMP_LT_OQ, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _MM_HINT_T0, _MM_HINT_T1,
    _mm_prefetch, _mm256_loadu_si256, _mm512_add_ps, _mm512_and_si512, _mm512_castpd_ps,
    _mm512_castps_pd, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_cmp_ps_mask,
    _mm512_cvtepu16_epi32, _mm512_div_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_blend_ps,
    _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps,
    _mm512_reduce_add_ps, _mm512_reduce_max_ps, _mm512_roundscale_ps, _mm512_scalef_ps,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_shuffle_f32x4, _mm512_shuffle_ps,
    _mm512_slli_epi32, _mm512_sqrt_ps, _mm512_storeu_ps, _mm512_sub_ps, _mm512_unpackhi_pd,
    _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps,
};

/// Lanes in one AVX-512 register. Values exist only inside [`super::dispatch`], which has seen
/// that the processor supports them: the reason why each `unsafe` here is sound.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(pub(crate) __m512);

/// The first `len` lanes.
#[inline(always)]
fn first(len: usize) -> u16 {
    debug_assert!(len < LANES);
    (1 << len) - 1
}

impl Lanes for Avx512 {
    const MANY: bool = true;
    #[inline(always)]
    fn low_halves(self) -> Self {
        // SAFETY: see the type.
        Self(unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_castps_si512(self.0))) })
    }
    #[inline(always)]
    fn high_halves(self) -> Self {
        // SAFETY: see the type.
        Self(unsafe {
            let high = _mm512_set1_epi32(0xffff_0000_u32 as i32);
            _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(self.0), high))
        })
    }
    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: see the type.
        Self(unsafe { _mm512_set1_ps(value) })
    }
    #[inline(always)]
    fn load_halves(words: &[f32; LANES / 2]) -> Self {
        // SAFETY: see the type; the array has 32 bytes, and both types are 64.
        Self(unsafe {
            let halves = _mm256_loadu_si256(words.as_ptr().cast());
            let bits = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves));
            _mm512_castsi512_ps(bits)
        })
    }
    #[inline(always)]
    fn prefetch(values: &[f32]) {
        for line in values.chunks(LANES) {
            // SAFETY: asking for memory has no effect but on time.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
        }
    }
    #[inline(always)]
    fn prefetch_line(pointer: *const f32) {
        // SAFETY: asking for memory has no effect but on time.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(pointer.cast()) }
    }
    #[inline(always)]
    fn load(values: &[f32; LANES]) -> Self {
        // SAFETY: see the type; the array has sixteen elements.
        Self(unsafe { _mm512_loadu_ps(values.as_ptr()) })
    }
    #[inline(always)]
    fn store(self, values: &mut [f32; LANES]) {
        // SAFETY: see the type; the array has sixteen elements.
        unsafe { _mm512_storeu_ps(values.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    fn load_partial(values: &[f32]) -> Self {
        // SAFETY: see the type; lanes beyond the slice are not read.
        Self(unsafe { _mm512_maskz_loadu_ps(first(values.len()), values.as_ptr()) })
    }
    #[inline(always)]
    fn store_partial(self, values: &mut [f32]) {
        // SAFETY: see the type; lanes beyond the slice are not written.
        unsafe { _mm512_mask_storeu_ps(values.as_mut_ptr(), first(values.len()), self.0) }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: see the type.
        Self(unsafe { _mm512_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: see the type.
        Self(unsafe { _mm512_sub_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: see the type.
        Self(unsafe { _mm512_mul_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: see the type.
        Self(unsafe { _mm512_div_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: see the type.
        Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, addend.0) })
    }
    #[inline(always)]
    fn max(self, bound: Self) -> Self {
        // The instruction gives its second operand where either is NaN.
        // SAFETY: see the type.
        Self(unsafe { _mm512_max_ps(bound.0, self.0) })
    }
    #[inline(always)]
    fn min(self, bound: Self) -> Self {
        // SAFETY: see the type.
        Self(unsafe { _mm512_min_ps(bound.0, self.0) })
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: see the type.
        Self(unsafe { _mm512_sqrt_ps(self.0) })
    }
    #[inline(always)]
    fn round(self) -> Self {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        // SAFETY: see the type.
        Self(unsafe { _mm512_roundscale_ps::<NEAREST>(self.0) })
    }
    #[inline(always)]
    fn scale_exp2(self, n: Self) -> Self {
        // SAFETY: see the type.
        Self(unsafe { _mm512_scalef_ps(self.0, n.0) })
    }
    #[inline(always)]
    fn where_negative(self, condition: Self, other: Self) -> Self {
        // SAFETY: see the type.
        Self(unsafe {
            let mask = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(condition.0, _mm512_setzero_ps());
            _mm512_mask_blend_ps(mask, other.0, self.0)
        })
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: see the type.
        unsafe { _mm512_reduce_add_ps(self.0) }
    }
    #[inline(always)]
    fn sum_each(v: &[Self; LANES]) -> Self {
        // Halves the vectors four times; each step adds two vectors, each folded to half its
        // lanes. First within quarters of four lanes, then across quarters.
        // SAFETY: see the type.
        unsafe {
            let zero = _mm512_setzero_ps();
            let mut pairs = [zero; 8];
            for i in 0..8 {
                let (a, b) = (v[2 * i].0, v[2 * i + 1].0);
                pairs[i] = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            }
            // Quarters now hold (a, b, a, b).
            let mut quads = [zero; 4];
            for i in 0..4 {
                let (ab, cd) = (pairs[2 * i], pairs[2 * i + 1]);
                let low = _mm512_shuffle_ps::<0b01_00_01_00>(ab, cd);
                quads[i] = _mm512_add_ps(low, _mm512_shuffle_ps::<0b11_10_11_10>(ab, cd));
            }
            // Quarters now hold (a, b, c, d), each of four parts of one vector's sum.
            let mut eights = [zero; 2];
            for i in 0..2 {
                let (a, b) = (quads[2 * i], quads[2 * i + 1]);
                let low = _mm512_shuffle_f32x4::<0b01_00_01_00>(a, b);
                eights[i] = _mm512_add_ps(low, _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b));
            }
            // (a-d, a-d, e-h, e-h) by quarters, and the same for the other eight vectors.
            let even = _mm512_shuffle_f32x4::<0b10_00_10_00>(eights[0], eights[1]);
            let odd = _mm512_shuffle_f32x4::<0b11_01_11_01>(eights[0], eights[1]);
            Self(_mm512_add_ps(even, odd))
        }
    }
    #[inline(always)]
    fn transpose(rows: &[Self; LANES]) -> [Self; LANES] {
        // SAFETY: see the type.
        unsafe {
            let double = |row: __m512| _mm512_castps_pd(row);
            let mut pairs = *rows;
            for i in (0..16).step_by(2) {
                pairs[i] = Self(_mm512_unpacklo_ps(rows[i].0, rows[i + 1].0));
                pairs[i + 1] = Self(_mm512_unpackhi_ps(rows[i].0, rows[i + 1].0));
            }
            // quads[4g + c] holds, in its quarter q, column 4q + c of the rows 4g..4g + 4.
            let mut quads = pairs;
            for g in (0..16).step_by(4) {
                for half in 0..2 {
                    let (a, b) = (double(pairs[g + half].0), double(pairs[g + half + 2].0));
                    quads[g + 2 * half] = Self(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)));
                    quads[g + 2 * half + 1] = Self(_mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
                }
            }
            // 0x88 picks the quarters 0 and 2 of both operands, 0xdd the quarters 1 and 3.
            let mut columns = quads;
            for c in 0..4 {
                let (top, second) = (quads[c].0, quads[4 + c].0);
                let (third, bottom) = (quads[8 + c].0, quads[12 + c].0);
                let even = _mm512_shuffle_f32x4::<0x88>(top, second);
                let odd = _mm512_shuffle_f32x4::<0xdd>(top, second);
                let even_below = _mm512_shuffle_f32x4::<0x88>(third, bottom);
                let odd_below = _mm512_shuffle_f32x4::<0xdd>(third, bottom);
                columns[c] = Self(_mm512_shuffle_f32x4::<0x88>(even, even_below));
                columns[4 + c] = Self(_mm512_shuffle_f32x4::<0x88>(odd, odd_below));
                columns[8 + c] = Self(_mm512_shuffle_f32x4::<0xdd>(even, even_below));
                columns[12 + c] = Self(_mm512_shuffle_f32x4::<0xdd>(odd, odd_below));
            }
            columns
        }
    }
    #[inline(always)]
    fn max_element(self) -> f32 {
        // SAFETY: see the type.
        unsafe { _mm512_reduce_max_ps(self.0) }
    }
}
