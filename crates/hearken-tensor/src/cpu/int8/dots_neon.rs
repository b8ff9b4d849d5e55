//! Sums of products of codes with NEON.

use std::arch::aarch64::{
    vcvtq_f32_s32, vdupq_n_s32, vget_low_s8, vld1q_s8, vmull_high_s8, vmull_s8, vpadalq_s16,
    vpaddq_s32, vreinterpretq_s8_s32,
};

use super::super::lanes::{LANES, Neon};
use super::dots::Dots;

/// Products in sixteen bits, added up in pairs.
pub(super) struct Neon8;

impl Dots for Neon8 {
    type Lanes = Neon;
    const ROWS: usize = 3;
    const STRIPS: usize = 1;
    #[inline(always)]
    unsafe fn block<const M: usize, const N: usize>(
        left: *const f32,
        height: usize,
        _: *const f32,
        right: [*const f32; N],
        quads: usize,
    ) -> [[Neon; N]; M] {
        // SAFETY: every 64-bit ARM processor has the instructions; the caller's promise.
        unsafe {
            let zero = vdupq_n_s32(0);
            // Of each output two sums, of the first and of the last two codes of a quad.
            let mut sums = [[[[zero; 2]; 4]; N]; M];
            for quad in 0..quads {
                for j in 0..N {
                    for part in 0..4 {
                        let codes = vld1q_s8(right[j].add(quad * LANES + 4 * part).cast());
                        for i in 0..M {
                            let word: i32 = *left.add(quad * height + i).cast();
                            let factors = vreinterpretq_s8_s32(vdupq_n_s32(word));
                            let low = vmull_s8(vget_low_s8(codes), vget_low_s8(factors));
                            let high = vmull_high_s8(codes, factors);
                            let [first, second] = &mut sums[i][j][part];
                            *first = vpadalq_s16(*first, low);
                            *second = vpadalq_s16(*second, high);
                        }
                    }
                }
            }
            let mut found = [[Neon([vcvtq_f32_s32(zero); 4]); N]; M];
            for i in 0..M {
                for j in 0..N {
                    for part in 0..4 {
                        let [first, second] = sums[i][j][part];
                        found[i][j].0[part] = vcvtq_f32_s32(vpaddq_s32(first, second));
                    }
                }
            }
            found
        }
    }
}
