//! Sums of products of codes, which are whole numbers: exact, whatever their order.

use super::super::lanes::{Array, LANES, Lanes};
use super::QUAD;
#[cfg(target_arch = "aarch64")]
use super::dots_neon;
#[cfg(target_arch = "x86_64")]
use super::dots_x86;
use crate::kernels::KernelFamily;

/// How an instruction set multiplies codes and adds them up.
pub(super) trait Dots {
    /// Lanes that the same processors have.
    type Lanes: Lanes;
    /// The most rows that are multiplied at a time.
    const ROWS: usize;
    /// Strips that are multiplied at a time: 1 or 2.
    const STRIPS: usize;
    /// The products of M rows with N strips over `quads` quads, at most [`super::BLOCK`], as f32. The words
    /// of a quad are `height` apart in `left`, sixteen in each of `right`; `offsets` has one for each row.
    ///
    /// # Safety
    /// All are readable.
    unsafe fn block<const M: usize, const N: usize>(
        left: *const f32,
        height: usize,
        offsets: *const f32,
        right: [*const f32; N],
        quads: usize,
    ) -> [[Self::Lanes; N]; M];
}

/// A computation over any [`Dots`]; implementations mark it `#[inline(always)]`.
pub(super) trait DotsKernel {
    /// The computation.
    fn run<D: Dots>(self);
}

/// The most rows of a panel in the family in use.
pub(super) fn rows_max() -> usize {
    struct Rows<'a>(&'a mut usize);
    impl DotsKernel for Rows<'_> {
        #[inline(always)]
        fn run<D: Dots>(self) {
            *self.0 = D::ROWS;
        }
    }
    let mut rows = 0;
    dispatch(Rows(&mut rows));
    rows
}

/// Runs a kernel with the best dots of the family in use.
#[inline]
pub(super) fn dispatch<K: DotsKernel>(kernel: K) {
    match KernelFamily::current() {
        #[cfg(target_arch = "x86_64")]
        KernelFamily::Avx512 | KernelFamily::Avx512Bf16 | KernelFamily::Amx => {
            dots_x86::run_avx512(kernel);
        }
        #[cfg(target_arch = "x86_64")]
        KernelFamily::Avx2 => dots_x86::run_avx2(kernel),
        #[cfg(target_arch = "aarch64")]
        KernelFamily::Neon => kernel.run::<dots_neon::Neon8>(),
        _ => kernel.run::<Plain>(),
    }
}

/// Any processor's.
struct Plain;

impl Dots for Plain {
    type Lanes = Array<false>;
    const ROWS: usize = 4;
    const STRIPS: usize = 1;
    #[inline(always)]
    unsafe fn block<const M: usize, const N: usize>(
        left: *const f32,
        height: usize,
        _: *const f32,
        right: [*const f32; N],
        quads: usize,
    ) -> [[Array<false>; N]; M] {
        let mut found = [[Array::<false>::splat(0.0); N]; M];
        for i in 0..M {
            for j in 0..N {
                let mut sums = [0_i32; LANES];
                for quad in 0..quads {
                    // SAFETY: the caller's promise.
                    let factors = unsafe { *left.add(quad * height + i) }.to_bits().to_le_bytes();
                    // SAFETY: as above.
                    let words =
                        unsafe { &*right[j].add(quad * LANES).cast::<[[u8; QUAD]; LANES]>() };
                    for (sum, codes) in sums.iter_mut().zip(words) {
                        for (code, factor) in codes.iter().zip(factors) {
                            *sum += i32::from(code.cast_signed()) * i32::from(factor.cast_signed());
                        }
                    }
                }
                // A block's sums are whole numbers below 2²⁴.
                found[i][j] = Array::load(&sums.map(|sum| sum as f32));
            }
        }
        found
    }
}
