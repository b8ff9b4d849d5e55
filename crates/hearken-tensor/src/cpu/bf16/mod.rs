//! Matrix products of bfloat16 with f32 sums.
//!
//! Weights are rounded to bfloat16 while they are packed into panels that the inner loop reads from one
//! end to the other, in the same way for every family of kernels; rows are rounded as they are packed. An
//! output is summed in blocks of the inner dimension, in order, and the blocks depend on that dimension
//! alone: the same row gives the same bits whatever other rows are computed with it, so sampling and
//! training agree, with every family. Where the processor has no products of bfloat16, weights are
//! widened to f32 on their way into the first-level cache (see [`blocked`]).

#[cfg(target_arch = "x86_64")]
mod kernel;
mod pack;
#[cfg(target_arch = "x86_64")]
mod pack_avx512;
#[cfg(target_arch = "x86_64")]
mod pairs;
#[cfg(target_arch = "x86_64")]
mod tiles;

use std::sync::Arc;

use super::blocked;
use super::buffer::BufferPool;
use super::rows::Source;
use crate::device::Write;
#[cfg(target_arch = "x86_64")]
use crate::kernels::KernelFamily;

pub(crate) use pack::Right;
#[cfg(target_arch = "x86_64")]
pub(crate) use tiles::{multiply_tiles, operations as tile_operations};

/// Whether the family in use multiplies pairs of bfloat16 in one instruction, one vector by another.
#[cfg(target_arch = "x86_64")]
pub(crate) fn multiplies_pairs() -> bool {
    KernelFamily::current() == KernelFamily::Avx512Bf16
}

/// Whether it multiplies them in tiles.
#[cfg(target_arch = "x86_64")]
pub(crate) fn multiplies_tiles() -> bool {
    KernelFamily::current() == KernelFamily::Amx
}

/// Whether it rounds two vectors to bfloat16 at once.
#[cfg(target_arch = "x86_64")]
fn rounds_pairs() -> bool {
    multiplies_pairs() || multiplies_tiles()
}

/// A left factor: activations, or the gradients of outputs.
pub(crate) enum Left {
    /// In pairs of bfloat16.
    #[cfg(target_arch = "x86_64")]
    Paired(pack::PairedLeft),
    /// In tiles of pairs.
    #[cfg(target_arch = "x86_64")]
    Tiled(tiles::TiledLeft),
    /// Rounded, in f32.
    Wide(blocked::Left<'static>),
}

impl Left {
    /// Rounds and reorders a factor.
    pub(crate) fn pack(pool: &Arc<BufferPool>, source: Source<'_>) -> Self {
        #[cfg(target_arch = "x86_64")]
        if multiplies_pairs() {
            return Self::Paired(pack::PairedLeft::pack(pool, source));
        }
        #[cfg(target_arch = "x86_64")]
        if multiplies_tiles() {
            return Self::Tiled(tiles::TiledLeft::pack(pool, source));
        }
        Self::Wide(blocked::Left::pack_rounded(pool, source))
    }
}

/// One of the products of a left factor.
pub(crate) type Bf16Product<'a> = blocked::RightFactor<'a, Right>;

/// `out (+)= left·right (+ bias)` for each part.
pub(crate) fn products(left: &Left, parts: &[Bf16Product<'_>], write: Write) {
    match left {
        #[cfg(target_arch = "x86_64")]
        Left::Paired(left) => pairs::products(left, parts, write),
        #[cfg(target_arch = "x86_64")]
        Left::Tiled(left) => tiles::products(left, parts, write),
        Left::Wide(left) => blocked::products(left, parts, write),
    }
}
