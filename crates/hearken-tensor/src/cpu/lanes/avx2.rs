//! Lanes in two AVX registers, for processors with AVX2 and fused multiply-add.

use super::{LANES, Lanes};
use std::arch::x86_64::{
    __m256, _CMP_LT_OQ, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _MM_HINT_T0, _MM_HINT_T1,
    _mm_loadu_ps, _mm_loadu_si128, _mm_prefetch, _mm256_add_epi32, _mm256_add_ps, _mm256_and_ps,
    _mm256_blendv_ps, _mm256_castps_si256, _mm256_castps128_ps256, _mm256_castsi256_ps,
    _mm256_cmp_ps, _mm256_cvtepu16_epi32, _mm256_cvtps_epi32, _mm256_div_ps, _mm256_fmadd_ps,
    _mm256_insertf128_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_min_ps, _mm256_mul_ps,
    _mm256_permute2f128_ps, _mm256_round_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps,
    _mm256_shuffle_ps, _mm256_slli_epi32, _mm256_sqrt_ps, _mm256_srai_epi32, _mm256_storeu_ps,
    _mm256_sub_epi32, _mm256_sub_ps, _mm256_unpackhi_ps, _mm256_unpacklo_ps,
};

/// Sixteen lanes, the first eight in the first register. Values exist only inside
/// [`super::dispatch`], under a family whose features the processor has: the reason why each `unsafe`
/// here is sound.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(pub(crate) [__m256; 2]);

/// The same for both registers of one operand, or of two. A closure would be a function of its own, which
/// lacks the instruction set unless the compiler happens to inline it: each instruction would be a call.
macro_rules! both {
    (|$x:ident| $body:expr, $operand:expr) => {{
        let operand = $operand;
        let ($x, second) = (operand.0[0], operand.0[1]);
        let first = $body;
        let $x = second;
        Self([first, $body])
    }};
    (|$x:ident, $y:ident| $body:expr, $left:expr, $right:expr) => {{
        let (left, right) = ($left, $right);
        let ($x, $y) = (left.0[0], right.0[0]);
        let first = $body;
        let ($x, $y) = (left.0[1], right.0[1]);
        Self([first, $body])
    }};
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
        both!(
            // SAFETY: see the type.
            |x| unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(x))) },
            self
        )
    }
    #[inline(always)]
    fn high_halves(self) -> Self {
        both!(
            // SAFETY: see the type.
            |x| unsafe {
                _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32(0xffff_0000_u32 as i32)))
            },
            self
        )
    }
    #[inline(always)]
    fn load_halves(words: &[f32; LANES / 2]) -> Self {
        // SAFETY: see the type; the array has 32 bytes.
        unsafe {
            let words = words.as_ptr();
            let (low, high) = (_mm_loadu_si128(words.cast()), _mm_loadu_si128(words.add(4).cast()));
            let halves = [_mm256_cvtepu16_epi32(low), _mm256_cvtepu16_epi32(high)];
            Self([
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(halves[0])),
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(halves[1])),
            ])
        }
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
    fn add(self, other: Self) -> Self {
        // SAFETY: see the type.
        both!(|a, b| unsafe { _mm256_add_ps(a, b) }, self, other)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: see the type.
        both!(|a, b| unsafe { _mm256_sub_ps(a, b) }, self, other)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: see the type.
        both!(|a, b| unsafe { _mm256_mul_ps(a, b) }, self, other)
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: see the type.
        both!(|a, b| unsafe { _mm256_div_ps(a, b) }, self, other)
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: see the type.
        unsafe {
            Self([
                _mm256_fmadd_ps(self.0[0], factor.0[0], addend.0[0]),
                _mm256_fmadd_ps(self.0[1], factor.0[1], addend.0[1]),
            ])
        }
    }
    #[inline(always)]
    fn max(self, bound: Self) -> Self {
        // The instruction gives its second operand where either is NaN.
        // SAFETY: see the type.
        both!(|a, b| unsafe { _mm256_max_ps(b, a) }, self, bound)
    }
    #[inline(always)]
    fn min(self, bound: Self) -> Self {
        // SAFETY: see the type.
        both!(|a, b| unsafe { _mm256_min_ps(b, a) }, self, bound)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: see the type.
        both!(|x| unsafe { _mm256_sqrt_ps(x) }, self)
    }
    #[inline(always)]
    fn round(self) -> Self {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        // SAFETY: see the type.
        both!(|x| unsafe { _mm256_round_ps::<NEAREST>(x) }, self)
    }
    #[inline(always)]
    fn scale_exp2(self, n: Self) -> Self {
        // Two factors, so that results below the smallest normal number round once, at the end.
        both!(
            // SAFETY: see the type.
            |x, n| unsafe {
                let bias = _mm256_set1_epi32(127);
                let n = _mm256_cvtps_epi32(n);
                let first = _mm256_srai_epi32::<1>(n);
                let second = _mm256_sub_epi32(n, first);
                let first = _mm256_slli_epi32::<23>(_mm256_add_epi32(first, bias));
                let second = _mm256_slli_epi32::<23>(_mm256_add_epi32(second, bias));
                _mm256_mul_ps(
                    _mm256_mul_ps(x, _mm256_castsi256_ps(first)),
                    _mm256_castsi256_ps(second),
                )
            },
            self,
            n
        )
    }
    #[inline(always)]
    fn where_negative(self, condition: Self, other: Self) -> Self {
        let mut chosen = other;
        for i in 0..2 {
            // SAFETY: see the type.
            unsafe {
                let mask = _mm256_cmp_ps::<_CMP_LT_OQ>(condition.0[i], _mm256_setzero_ps());
                chosen.0[i] = _mm256_blendv_ps(other.0[i], self.0[i], mask);
            }
        }
        chosen
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
        // SAFETY: see the type.
        unsafe {
            Self([
                sums_of_eight(
                    [vectors[0], vectors[1], vectors[2], vectors[3]],
                    [vectors[4], vectors[5], vectors[6], vectors[7]],
                ),
                sums_of_eight(
                    [vectors[8], vectors[9], vectors[10], vectors[11]],
                    [vectors[12], vectors[13], vectors[14], vectors[15]],
                ),
            ])
        }
    }
    #[inline(always)]
    unsafe fn transpose_at(
        from: *const f32,
        stride: usize,
        to: *mut f32,
        to_stride: usize,
        ahead: usize,
    ) {
        // SAFETY: see the type, and the caller's promise.
        unsafe { transpose_at(from, stride, to, to_stride, ahead) }
    }
    #[inline(always)]
    fn transpose(rows: &[Self; LANES]) -> [Self; LANES] {
        let mut columns = *rows;
        for half in 0..2 {
            for part in 0..2 {
                let mut block = [rows[0].0[0]; 8];
                for i in 0..8 {
                    block[i] = rows[8 * part + i].0[half];
                }
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

/// The sums over lanes of four vectors.
///
/// # Safety
/// The processor has AVX.
#[inline(always)]
unsafe fn sums_of_four(v: [Avx2; 4]) -> __m256 {
    // Within quarters of four lanes: a vector's second register has the third and the fourth of them.
    // SAFETY: the caller's promise.
    unsafe {
        let mut quarters = v[0].0;
        for i in 0..2 {
            let [a, b, c, d] = [v[0].0[i], v[1].0[i], v[2].0[i], v[3].0[i]];
            let ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            let cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
            let low = _mm256_shuffle_ps::<0b01_00_01_00>(ab, cd);
            quarters[i] = _mm256_add_ps(low, _mm256_shuffle_ps::<0b11_10_11_10>(ab, cd));
        }
        _mm256_add_ps(quarters[0], quarters[1])
    }
}

/// The sums over lanes of eight vectors.
///
/// # Safety
/// The processor has AVX.
#[inline(always)]
unsafe fn sums_of_eight(first: [Avx2; 4], second: [Avx2; 4]) -> __m256 {
    // SAFETY: the caller's promise.
    unsafe {
        let (a, b) = (sums_of_four(first), sums_of_four(second));
        let even = _mm256_permute2f128_ps::<0x20>(a, b);
        _mm256_add_ps(even, _mm256_permute2f128_ps::<0x31>(a, b))
    }
}

/// Sixteen rows of sixteen elements written as columns; `ahead` elements after each row is what is asked
/// for. A function of its own, so that the addresses of its rows are computed here and not kept over
/// whatever calls it.
///
/// # Safety
/// As for [`Lanes::transpose_at`], and the processor has AVX.
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
unsafe fn transpose_at(
    from: *const f32,
    stride: usize,
    to: *mut f32,
    to_stride: usize,
    ahead: usize,
) {
    for part in 0..2 {
        let from = from.wrapping_add(8 * part * stride);
        for row in 0..8 {
            _mm_prefetch::<_MM_HINT_T1>(from.wrapping_add(row * stride + ahead).cast());
        }
        // Eight rows of four columns at a time: two rows share a register from their loading on, so that
        // nothing crosses its halves.
        for quarter in 0..4 {
            // SAFETY: the caller's promise.
            unsafe {
                let from = from.add(4 * quarter);
                let mut rows = [_mm256_setzero_ps(); 4];
                for i in 0..4 {
                    let low = _mm256_castps128_ps256(_mm_loadu_ps(from.add(i * stride)));
                    let high = _mm_loadu_ps(from.add((i + 4) * stride));
                    rows[i] = _mm256_insertf128_ps::<1>(low, high);
                }
                let low =
                    [_mm256_unpacklo_ps(rows[0], rows[1]), _mm256_unpacklo_ps(rows[2], rows[3])];
                let high =
                    [_mm256_unpackhi_ps(rows[0], rows[1]), _mm256_unpackhi_ps(rows[2], rows[3])];
                let to = to.add(4 * quarter * to_stride + 8 * part);
                _mm256_storeu_ps(to, _mm256_shuffle_ps::<0x44>(low[0], low[1]));
                _mm256_storeu_ps(to.add(to_stride), _mm256_shuffle_ps::<0xee>(low[0], low[1]));
                _mm256_storeu_ps(
                    to.add(2 * to_stride),
                    _mm256_shuffle_ps::<0x44>(high[0], high[1]),
                );
                _mm256_storeu_ps(
                    to.add(3 * to_stride),
                    _mm256_shuffle_ps::<0xee>(high[0], high[1]),
                );
            }
        }
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
