//! Matrix products of bfloat16 with f32 sums, on processors with AVX512-BF16.
//!
//! Both factors are rounded to bfloat16 while they are packed into panels that the inner loop reads
//! from one end to the other. An output is summed in blocks of the inner dimension, in order, and
//! the blocks depend on that dimension alone: the same row gives the same bits whatever other rows
//! are computed with it, so sampling and training agree.

mod kernel;
mod pack;
mod product;

pub(crate) use pack::{Left, Right, Source};
pub(crate) use product::{Part, products};

/// Whether this processor multiplies bfloat16.
pub(crate) fn available() -> bool {
    super::lanes::has_avx512() && is_x86_feature_detected!("avx512bf16")
}
