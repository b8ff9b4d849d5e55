//! Rotary position embeddings, in place.

use super::buffer::Buffer;
use super::lanes::{Kernel, LANES, Lanes, dispatch};
use super::rows::{SharedElements, for_chunks};
use crate::device::{Heads, QkvLayout, Rotary, Rotation};

/// Rotates the heads of every row by its position.
pub(crate) fn rotary(
    buffer: &mut Buffer,
    layout: QkvLayout,
    heads: Heads,
    positions: &[u32],
    rotary: Rotary<'_, Buffer>,
    rotation: Rotation,
) {
    let half = rotary.rotary_dim / 2;
    assert!(rotary.rotary_dim <= layout.head_dim, "rotary_dim: at most the head's width");
    assert_eq!(rotary.cos.len(), rotary.sin.len(), "cos and sin: one shape");
    assert!(positions.len() * layout.row_stride <= buffer.len(), "a row for each position");
    let last = heads.offset + heads.heads.saturating_sub(1) * heads.head_stride + layout.head_dim;
    assert!(last <= layout.row_stride, "heads end at {last} of {}", layout.row_stride);
    let values = SharedElements::new(buffer);
    for_chunks(positions.len(), heads.heads * rotary.rotary_dim, |range| {
        for row in range {
            let angles = positions[row] as usize * half..(positions[row] as usize + 1) * half;
            let (cos, sin) = (&rotary.cos[angles.clone()], &rotary.sin[angles]);
            for head in 0..heads.heads {
                let start = row * layout.row_stride + heads.offset + head * heads.head_stride;
                // SAFETY: the ranges partition the rows, and heads are taken one at a time.
                let values = unsafe { values.slice(start, 2 * half) };
                let (first, second) = values.split_at_mut(half);
                dispatch(RotateHead { first, second, cos, sin, rotation });
            }
        }
    });
}

struct RotateHead<'a> {
    first: &'a mut [f32],
    second: &'a mut [f32],
    cos: &'a [f32],
    sin: &'a [f32],
    rotation: Rotation,
}

impl Kernel for RotateHead<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        let sign = match self.rotation {
            Rotation::Forward => 1.0,
            Rotation::Backward => -1.0,
        };
        let (first, first_rest) = self.first.as_chunks_mut::<LANES>();
        let (second, second_rest) = self.second.as_chunks_mut::<LANES>();
        let (cos, cos_rest) = self.cos.as_chunks::<LANES>();
        let (sin, sin_rest) = self.sin.as_chunks::<LANES>();
        for ((first, second), (cos, sin)) in first.iter_mut().zip(second).zip(cos.iter().zip(sin)) {
            let (a, b) = (S::load(first), S::load(second));
            let (cos, sin) = (S::load(cos), S::load(sin).mul(S::splat(sign)));
            a.mul(cos).sub(b.mul(sin)).store(first);
            b.mul(cos).add(a.mul(sin)).store(second);
        }
        let rest = first_rest.iter_mut().zip(second_rest).zip(cos_rest.iter().zip(sin_rest));
        for ((first, second), (cos, sin)) in rest {
            let (a, b, sin) = (*first, *second, sin * sign);
            *first = a * cos - b * sin;
            *second = b * cos + a * sin;
        }
    }
}
