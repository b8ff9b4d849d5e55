//! Smooth bounds, cap·tanh(x/cap): of attention's scores and of logits.
//!
//! Every kernel that bounds goes through [`Softcap`], so that training and sampling see the same bits.

use super::activation::tanh;
use super::buffer::Buffer;
use super::lanes::{Kernel, LANES, Lanes, dispatch};
use super::rows::for_chunks_mut;

/// A bound.
#[derive(Clone, Copy)]
pub(crate) struct Softcap {
    cap: f32,
    inverse: f32,
}

impl Softcap {
    pub(crate) fn new(cap: f32) -> Self {
        assert!(cap > 0.0, "a cap is positive");
        Self { cap, inverse: 1.0 / cap }
    }

    /// cap·tanh(x/cap).
    #[inline(always)]
    pub(crate) fn of<S: Lanes>(self, x: S) -> S {
        tanh(x.mul(S::splat(self.inverse))).mul(S::splat(self.cap))
    }

    /// The derivative, 1 − tanh², where what was bounded is `bounded`.
    #[inline(always)]
    pub(crate) fn slope<S: Lanes>(self, bounded: S) -> S {
        let tanh = bounded.mul(S::splat(self.inverse));
        S::splat(1.0).sub(tanh.mul(tanh))
    }

    /// The same of one number.
    pub(crate) fn slope_at(self, bounded: f32) -> f32 {
        let tanh = bounded * self.inverse;
        1.0 - tanh * tanh
    }
}

/// Bounds elements in place.
pub(crate) struct Bound<'a> {
    pub(crate) softcap: Softcap,
    pub(crate) values: &'a mut [f32],
}

impl Kernel for Bound<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        let (chunks, rest) = self.values.as_chunks_mut::<LANES>();
        for chunk in chunks {
            self.softcap.of(S::load(chunk)).store(chunk);
        }
        if !rest.is_empty() {
            self.softcap.of(S::load_partial(rest)).store_partial(rest);
        }
    }
}

/// Bounds every element.
pub(crate) fn softcap(cap: f32, values: &mut Buffer) {
    let softcap = Softcap::new(cap);
    for_chunks_mut(values, |_, values| dispatch(Bound { softcap, values }));
}
