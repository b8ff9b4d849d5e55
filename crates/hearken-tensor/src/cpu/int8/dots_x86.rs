//! Sums of products of codes with AVX2 and AVX-512.

use std::arch::x86_64::{
    __m256i, __m512i, _mm256_abs_epi8, _mm256_add_epi32, _mm256_cvtepi32_ps, _mm256_loadu_si256,
    _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_set1_epi16, _mm256_set1_epi32,
    _mm256_setzero_si256, _mm256_sign_epi8, _mm512_abs_epi8, _mm512_add_epi32, _mm512_cvtepi32_ps,
    _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_madd_epi16, _mm512_maddubs_epi16,
    _mm512_mask_sub_epi8, _mm512_movepi8_mask, _mm512_set1_epi8, _mm512_set1_epi16,
    _mm512_set1_epi32, _mm512_setzero_si512, _mm512_xor_si512,
};

use super::super::lanes::{Avx2, Avx512, LANES};
use super::dots::{Dots, DotsKernel};

/// A family of AVX-512 is in use: its dots, by the instruction for products of bytes where there is one.
#[inline]
pub(super) fn run_avx512<K: DotsKernel>(kernel: K) {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,bmi2")]
    fn with_vnni<K: DotsKernel>(kernel: K) {
        kernel.run::<Vnni>();
    }
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2")]
    fn without<K: DotsKernel>(kernel: K) {
        kernel.run::<Bytes512>();
    }
    if is_x86_feature_detected!("avx512vnni") {
        // SAFETY: the processor has it, and what the family needs.
        unsafe { with_vnni(kernel) }
    } else {
        // SAFETY: the family in use has the features.
        unsafe { without(kernel) }
    }
}

/// The family of AVX2 is in use.
#[inline]
pub(super) fn run_avx2<K: DotsKernel>(kernel: K) {
    #[target_feature(enable = "avx2,fma")]
    fn run<K: DotsKernel>(kernel: K) {
        kernel.run::<Bytes256>();
    }
    // SAFETY: the family in use has the features.
    unsafe { run(kernel) }
}

/// Four products and their sum in one instruction. It takes one factor as without sign: codes of weights are
/// 128 more than they are, which offsets make good.
struct Vnni;

impl Dots for Vnni {
    type Lanes = Avx512;
    const ROWS: usize = 12;
    const STRIPS: usize = 2;
    #[inline(always)]
    unsafe fn block<const M: usize, const N: usize>(
        left: *const f32,
        height: usize,
        offsets: *const f32,
        right: [*const f32; N],
        quads: usize,
    ) -> [[Avx512; N]; M] {
        // SAFETY: the processor has the instructions; the caller's promise.
        unsafe {
            let mut sums = [[_mm512_setzero_si512(); N]; M];
            for i in 0..M {
                sums[i] = [_mm512_set1_epi32(*offsets.add(i).cast()); N];
            }
            let high = _mm512_set1_epi8(i8::MIN);
            for quad in 0..quads {
                let mut codes = [high; N];
                for j in 0..N {
                    let words = _mm512_loadu_si512(right[j].add(quad * LANES).cast());
                    codes[j] = _mm512_xor_si512(words, high);
                }
                for i in 0..M {
                    let factors = _mm512_set1_epi32(*left.add(quad * height + i).cast());
                    for j in 0..N {
                        sums[i][j] = _mm512_dpbusd_epi32(sums[i][j], codes[j], factors);
                    }
                }
            }
            as_f32(sums)
        }
    }
}

/// Products of pairs in sixteen bits, of magnitudes with factors that have the codes' signs: at most
/// 2·127², so that none is cut off.
struct Bytes512;

impl Dots for Bytes512 {
    type Lanes = Avx512;
    const ROWS: usize = 6;
    const STRIPS: usize = 2;
    #[inline(always)]
    unsafe fn block<const M: usize, const N: usize>(
        left: *const f32,
        height: usize,
        _: *const f32,
        right: [*const f32; N],
        quads: usize,
    ) -> [[Avx512; N]; M] {
        // SAFETY: the processor has the instructions; the caller's promise.
        unsafe {
            let (zero, ones) = (_mm512_setzero_si512(), _mm512_set1_epi16(1));
            let mut sums = [[zero; N]; M];
            for quad in 0..quads {
                let (mut codes, mut negative) = ([zero; N], [0; N]);
                for j in 0..N {
                    let words = _mm512_loadu_si512(right[j].add(quad * LANES).cast());
                    (codes[j], negative[j]) = (_mm512_abs_epi8(words), _mm512_movepi8_mask(words));
                }
                for i in 0..M {
                    let factors = _mm512_set1_epi32(*left.add(quad * height + i).cast());
                    for j in 0..N {
                        let signed = _mm512_mask_sub_epi8(factors, negative[j], zero, factors);
                        let pairs = _mm512_maddubs_epi16(codes[j], signed);
                        sums[i][j] = _mm512_add_epi32(sums[i][j], _mm512_madd_epi16(pairs, ones));
                    }
                }
            }
            as_f32(sums)
        }
    }
}

/// # Safety
/// The processor has AVX-512.
#[inline(always)]
unsafe fn as_f32<const M: usize, const N: usize>(sums: [[__m512i; N]; M]) -> [[Avx512; N]; M] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut found = [[Avx512(_mm512_cvtepi32_ps(_mm512_setzero_si512())); N]; M];
        for i in 0..M {
            for j in 0..N {
                found[i][j] = Avx512(_mm512_cvtepi32_ps(sums[i][j]));
            }
        }
        found
    }
}

/// The same as [`Bytes512`] in two registers of half the width.
struct Bytes256;

impl Dots for Bytes256 {
    type Lanes = Avx2;
    const ROWS: usize = 4;
    const STRIPS: usize = 1;
    #[inline(always)]
    unsafe fn block<const M: usize, const N: usize>(
        left: *const f32,
        height: usize,
        _: *const f32,
        right: [*const f32; N],
        quads: usize,
    ) -> [[Avx2; N]; M] {
        // SAFETY: the processor has the instructions; the caller's promise.
        unsafe {
            let (zero, ones) = (_mm256_setzero_si256(), _mm256_set1_epi16(1));
            let mut sums = [[[zero; 2]; N]; M];
            for quad in 0..quads {
                for j in 0..N {
                    let words: *const __m256i = right[j].add(quad * LANES).cast();
                    let words = [_mm256_loadu_si256(words), _mm256_loadu_si256(words.add(1))];
                    let codes = [_mm256_abs_epi8(words[0]), _mm256_abs_epi8(words[1])];
                    for i in 0..M {
                        let factors = _mm256_set1_epi32(*left.add(quad * height + i).cast());
                        for half in 0..2 {
                            let signed = _mm256_sign_epi8(factors, words[half]);
                            let pairs = _mm256_maddubs_epi16(codes[half], signed);
                            let products = _mm256_madd_epi16(pairs, ones);
                            sums[i][j][half] = _mm256_add_epi32(sums[i][j][half], products);
                        }
                    }
                }
            }
            let mut found = [[Avx2([_mm256_cvtepi32_ps(zero); 2]); N]; M];
            for i in 0..M {
                for j in 0..N {
                    let [low, high] = sums[i][j];
                    found[i][j] = Avx2([_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)]);
                }
            }
            found
        }
    }
}
