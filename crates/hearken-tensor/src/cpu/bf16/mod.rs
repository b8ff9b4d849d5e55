//! Matrix products of bfloat16 with f32 sums.
//!
//! Both factors are rounded to bfloat16 while they are packed into panels that the inner loop reads
//! from one end to the other. An output is summed in blocks of the inner dimension, in order, and
//! the blocks depend on that dimension alone: the same row gives the same bits whatever other rows
//! are computed with it, so sampling and training agree, with every family of kernels. Panels are the
//! same in each; where the processor has no products of bfloat16, the inner loop widens them to f32.

#[cfg(target_arch = "x86_64")]
mod kernel;
mod pack;
#[cfg(target_arch = "x86_64")]
mod pack_avx512;
mod product;
mod widened;

use crate::kernels::KernelFamily;

pub(crate) use pack::{Left, Right, Source};
pub(crate) use product::{Part, products};

/// Whether the family in use multiplies pairs of bfloat16 in one instruction.
pub(crate) fn multiplies_pairs() -> bool {
    KernelFamily::current() == KernelFamily::Avx512Bf16
}
