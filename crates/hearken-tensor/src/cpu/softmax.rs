//! The softmax of attention, block by block (Milakov and Gimelshein 2018, arXiv:1805.02867).
//!
//! Every kernel of the forward pass takes the positions in blocks of [`BLOCK`] from multiples of it
//! and goes through [`Online`], so that a row's weights do not depend on which kernel it is.

use std::ops::Range;

use super::lanes::{LANES, Lanes, exp};
use super::softcap::Softcap;

/// Positions that share one maximum.
pub(crate) const BLOCK: usize = 64;

/// What the softmax of one query has seen so far.
#[derive(Clone, Copy)]
pub(crate) struct Online {
    pub(crate) max: f32,
    /// Σ e^(score − max).
    pub(crate) total: f32,
}

impl Online {
    pub(crate) fn new() -> Self {
        Self { max: f32::NEG_INFINITY, total: 0.0 }
    }

    /// Turns the scores of a part of a block, outside which nothing is seen, into e^(score − max), the
    /// scores bounded first if they have a cap, 0 where the query does not see. Gives the factor for what
    /// was summed under a smaller maximum.
    #[inline(always)]
    pub(crate) fn block<S: Lanes>(
        &mut self,
        scores: &mut [[f32; LANES]],
        seen: Range<usize>,
        softcap: Option<Softcap>,
    ) -> f32 {
        if let Some(softcap) = softcap {
            for chunk in scores.iter_mut() {
                softcap.of(S::load(chunk)).store(chunk);
            }
        }
        let elements = scores.as_flattened_mut();
        if seen.is_empty() {
            elements.fill(0.0);
            return 1.0;
        }
        elements[..seen.start].fill(f32::NEG_INFINITY);
        elements[seen.end..].fill(f32::NEG_INFINITY);
        let mut max = S::splat(f32::NEG_INFINITY);
        for chunk in scores.iter() {
            max = S::load(chunk).max(max);
        }
        let before = self.max;
        let max = max.max_element().max(before);
        // Chunks that are left out would add zeros.
        let mut total = S::splat(0.0);
        for chunk in scores.iter_mut() {
            let weight = exp(S::load(chunk).sub(S::splat(max)));
            total = total.add(weight);
            weight.store(chunk);
        }
        let mut factor = 1.0;
        if max > before {
            factor = (before - max).exp();
            self.total *= factor;
            self.max = max;
        }
        self.total += total.sum();
        factor
    }
}
