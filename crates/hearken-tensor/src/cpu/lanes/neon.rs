//! Lanes in four NEON registers. Every 64-bit ARM processor that Rust's targets are for has them, so that
//! the instructions below are there: the reason why each `unsafe` here is sound.

use super::{LANES, Lanes};
use std::arch::aarch64::{
    float32x4_t, vaddq_f32, vaddq_s32, vandq_u32, vbslq_f32, vcltq_f32, vcltzq_f32, vcvtq_s32_f32,
    vdivq_f32, vdupq_n_f32, vdupq_n_s32, vdupq_n_u32, vfmaq_f32, vgetq_lane_f32, vld1_u16,
    vld1q_f32, vmaxvq_f32, vmulq_f32, vreinterpretq_f32_s32, vreinterpretq_f32_u32,
    vreinterpretq_f32_u64, vreinterpretq_u32_f32, vreinterpretq_u64_f32, vrndnq_f32, vshll_n_u16,
    vshlq_n_s32, vshlq_n_u32, vshrq_n_s32, vsqrtq_f32, vst1q_f32, vsubq_f32, vsubq_s32, vtrn1q_f32,
    vtrn1q_u64, vtrn2q_f32, vtrn2q_u64,
};

/// Lanes in four registers.
#[derive(Clone, Copy)]
pub(crate) struct Neon(pub(crate) [float32x4_t; 4]);

/// The same for all registers of one operand, or of two.
macro_rules! all {
    (|$x:ident| $body:expr, $operand:expr) => {{
        let mut values = $operand.0;
        for value in &mut values {
            let $x = *value;
            *value = $body;
        }
        Self(values)
    }};
    (|$x:ident, $y:ident| $body:expr, $left:expr, $right:expr) => {{
        let (mut values, right) = ($left.0, $right.0);
        for i in 0..4 {
            let ($x, $y) = (values[i], right[i]);
            values[i] = $body;
        }
        Self(values)
    }};
}

impl Lanes for Neon {
    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: see the module.
        Self([unsafe { vdupq_n_f32(value) }; 4])
    }
    #[inline(always)]
    fn load(values: &[f32; LANES]) -> Self {
        let from = values.as_ptr();
        // SAFETY: see the module; the array has sixteen elements.
        unsafe {
            Self([
                vld1q_f32(from),
                vld1q_f32(from.add(4)),
                vld1q_f32(from.add(8)),
                vld1q_f32(from.add(12)),
            ])
        }
    }
    #[inline(always)]
    fn store(self, values: &mut [f32; LANES]) {
        for i in 0..4 {
            // SAFETY: see the module; the array has sixteen elements.
            unsafe { vst1q_f32(values.as_mut_ptr().add(4 * i), self.0[i]) }
        }
    }
    #[inline(always)]
    fn load_halves(words: &[f32; LANES / 2]) -> Self {
        let mut values = [0.0; 4].map(|zero| {
            // SAFETY: see the module.
            unsafe { vdupq_n_f32(zero) }
        });
        for i in 0..4 {
            // SAFETY: see the module; the array has sixteen halves.
            values[i] = unsafe {
                let halves = vld1_u16(words.as_ptr().cast::<u16>().add(4 * i));
                vreinterpretq_f32_u32(vshll_n_u16::<16>(halves))
            };
        }
        Self(values)
    }
    #[inline(always)]
    fn low_halves(self) -> Self {
        all!(
            // SAFETY: see the module.
            |x| unsafe { vreinterpretq_f32_u32(vshlq_n_u32::<16>(vreinterpretq_u32_f32(x))) },
            self
        )
    }
    #[inline(always)]
    fn high_halves(self) -> Self {
        all!(
            // SAFETY: see the module.
            |x| unsafe {
                let high = vdupq_n_u32(0xffff_0000);
                vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(x), high))
            },
            self
        )
    }
    #[inline(always)]
    fn prefetch(values: &[f32]) {
        for line in values.chunks(LANES) {
            // SAFETY: asking for memory has no effect but on time.
            unsafe {
                std::arch::asm!("prfm pldl1keep, [{at}]", at = in(reg) line.as_ptr(),
                    options(nostack, preserves_flags, readonly));
            }
        }
    }
    #[inline(always)]
    fn prefetch_line(pointer: *const f32) {
        // SAFETY: asking for memory has no effect but on time.
        unsafe {
            std::arch::asm!("prfm pldl2keep, [{at}]", at = in(reg) pointer,
                options(nostack, preserves_flags, readonly));
        }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: see the module.
        all!(|a, b| unsafe { vaddq_f32(a, b) }, self, other)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: see the module.
        all!(|a, b| unsafe { vsubq_f32(a, b) }, self, other)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: see the module.
        all!(|a, b| unsafe { vmulq_f32(a, b) }, self, other)
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: see the module.
        all!(|a, b| unsafe { vdivq_f32(a, b) }, self, other)
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        let mut sums = addend.0;
        for i in 0..4 {
            // SAFETY: see the module.
            sums[i] = unsafe { vfmaq_f32(sums[i], self.0[i], factor.0[i]) };
        }
        Self(sums)
    }
    #[inline(always)]
    fn max(self, bound: Self) -> Self {
        // The instruction for the greater would give NaN for either.
        // SAFETY: see the module.
        all!(|a, b| unsafe { vbslq_f32(vcltq_f32(a, b), b, a) }, self, bound)
    }
    #[inline(always)]
    fn min(self, bound: Self) -> Self {
        // SAFETY: see the module.
        all!(|a, b| unsafe { vbslq_f32(vcltq_f32(b, a), b, a) }, self, bound)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: see the module.
        all!(|x| unsafe { vsqrtq_f32(x) }, self)
    }
    #[inline(always)]
    fn round(self) -> Self {
        // SAFETY: see the module.
        all!(|x| unsafe { vrndnq_f32(x) }, self)
    }
    #[inline(always)]
    fn scale_exp2(self, n: Self) -> Self {
        // Two factors, so that results below the smallest normal number round once, at the end.
        all!(
            // SAFETY: see the module.
            |x, n| unsafe {
                let bias = vdupq_n_s32(127);
                let n = vcvtq_s32_f32(n);
                let first = vshrq_n_s32::<1>(n);
                let second = vshlq_n_s32::<23>(vaddq_s32(vsubq_s32(n, first), bias));
                let first = vshlq_n_s32::<23>(vaddq_s32(first, bias));
                vmulq_f32(vmulq_f32(x, vreinterpretq_f32_s32(first)), vreinterpretq_f32_s32(second))
            },
            self,
            n
        )
    }
    #[inline(always)]
    fn where_negative(self, condition: Self, other: Self) -> Self {
        let mut chosen = other.0;
        for i in 0..4 {
            // SAFETY: see the module.
            chosen[i] = unsafe { vbslq_f32(vcltzq_f32(condition.0[i]), self.0[i], other.0[i]) };
        }
        Self(chosen)
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        let [a, b, c, d] = self.0;
        // SAFETY: see the module.
        unsafe {
            let sums = vaddq_f32(vaddq_f32(a, c), vaddq_f32(b, d));
            (vgetq_lane_f32::<0>(sums) + vgetq_lane_f32::<2>(sums))
                + (vgetq_lane_f32::<1>(sums) + vgetq_lane_f32::<3>(sums))
        }
    }
    #[inline(always)]
    fn sum_each(vectors: &[Self; LANES]) -> Self {
        let mut sums = vectors[0].0;
        for group in 0..4 {
            let mut quarters = sums;
            for i in 0..4 {
                let part = |vector: usize| vectors[4 * group + vector].0[i];
                let columns = transpose_block([part(0), part(1), part(2), part(3)]);
                // SAFETY: see the module.
                quarters[i] = unsafe {
                    vaddq_f32(vaddq_f32(columns[0], columns[2]), vaddq_f32(columns[1], columns[3]))
                };
            }
            // SAFETY: see the module.
            sums[group] = unsafe {
                vaddq_f32(vaddq_f32(quarters[0], quarters[2]), vaddq_f32(quarters[1], quarters[3]))
            };
        }
        Self(sums)
    }
    #[inline(always)]
    fn transpose(rows: &[Self; LANES]) -> [Self; LANES] {
        let mut columns = *rows;
        for i in 0..4 {
            for j in 0..4 {
                let part = |row: usize| rows[4 * i + row].0[j];
                let block = transpose_block([part(0), part(1), part(2), part(3)]);
                for row in 0..4 {
                    columns[4 * j + row].0[i] = block[row];
                }
            }
        }
        columns
    }
    #[inline(always)]
    fn max_element(self) -> f32 {
        let [a, b, c, d] = self.0;
        // SAFETY: see the module.
        unsafe {
            let larger = |x, y| vbslq_f32(vcltq_f32(x, y), y, x);
            vmaxvq_f32(larger(larger(a, b), larger(c, d)))
        }
    }
}

/// Four rows of four, transposed.
#[inline(always)]
fn transpose_block([a, b, c, d]: [float32x4_t; 4]) -> [float32x4_t; 4] {
    // SAFETY: see the module.
    unsafe {
        let double = |x| vreinterpretq_u64_f32(x);
        let single = |x| vreinterpretq_f32_u64(x);
        let (ab_even, ab_odd) = (double(vtrn1q_f32(a, b)), double(vtrn2q_f32(a, b)));
        let (cd_even, cd_odd) = (double(vtrn1q_f32(c, d)), double(vtrn2q_f32(c, d)));
        [
            single(vtrn1q_u64(ab_even, cd_even)),
            single(vtrn1q_u64(ab_odd, cd_odd)),
            single(vtrn2q_u64(ab_even, cd_even)),
            single(vtrn2q_u64(ab_odd, cd_odd)),
        ]
    }
}
