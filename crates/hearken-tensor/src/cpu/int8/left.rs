//! Rows in eight bits.

use std::ops::Range;
use std::sync::Arc;

use super::super::buffer::{Buffer, BufferPool};
use super::super::lanes::{Kernel, Lanes, dispatch};
use super::super::rows::{Input, SharedElements, for_chunks};
use super::{BLOCK, MOST, QUAD, dots, largest_magnitude, word_of};
use crate::device::Int8Scales;

/// Rows of a product, in panels of a few. The word `[panel, quad, row]` has the codes of four inner indices.
pub(crate) struct Left {
    codes: Buffer,
    /// `[panel, block, row]`.
    scales: Buffer,
    /// −128 times the sum of a block's codes, as whole numbers, `[panel, block, row]`: what products are
    /// too large by where codes of weights are taken as 128 more than they are.
    offsets: Buffer,
    pub(super) rows: usize,
    pub(super) inner: usize,
    /// Rows that a panel has room for.
    pub(super) height: usize,
    pub(super) panels: usize,
}

impl Left {
    /// Rounds rows, [`Int8Scales::GROUP`] neighbors by one scale. Where one of them is not finite neither is
    /// the scale.
    pub(crate) fn pack(pool: &Arc<BufferPool>, x: Input<'_>) -> Self {
        let (rows, inner) = (x.rows.rows, x.rows.width);
        let panels = rows.div_ceil(dots::rows_max());
        let height = rows.div_ceil(panels.max(1));
        let (quads, blocks) = (inner.div_ceil(QUAD), inner.div_ceil(Int8Scales::GROUP));
        let mut codes = Buffer::scratch(pool, panels * quads * height);
        let mut scales = Buffer::scratch(pool, panels * blocks * height);
        let mut offsets = Buffer::scratch(pool, panels * blocks * height);
        {
            let shared =
                [&mut codes, &mut scales, &mut offsets].map(|buffer| SharedElements::new(buffer));
            for_chunks(rows, inner, |range| {
                for row in range {
                    dispatch(Int8Row { x, row, height, panels, shared });
                }
            });
        }
        Self { codes, scales, offsets, rows, inner, height, panels }
    }

    /// The rows of a panel; panels differ by at most one row.
    pub(super) fn rows_of(&self, panel: usize) -> Range<usize> {
        panel * self.rows / self.panels..(panel + 1) * self.rows / self.panels
    }

    /// The codes of a panel.
    pub(super) fn panel(&self, panel: usize) -> &[f32] {
        let len = self.inner.div_ceil(QUAD) * self.height;
        &self.codes[panel * len..(panel + 1) * len]
    }

    /// Scales and offsets of a panel.
    pub(super) fn blocks(&self, panel: usize) -> [&[f32]; 2] {
        let len = self.inner.div_ceil(Int8Scales::GROUP) * self.height;
        [&self.scales, &self.offsets].map(|values| &values[panel * len..(panel + 1) * len])
    }
}

/// One row.
struct Int8Row<'a> {
    x: Input<'a>,
    row: usize,
    height: usize,
    panels: usize,
    /// Codes, scales and offsets of all panels.
    shared: [SharedElements<'a>; 3],
}

impl Int8Row<'_> {
    /// Writes what is `at` of the elements of a panel that has `len` times its height.
    #[inline(always)]
    fn put(
        &self,
        which: usize,
        (panel, row): (usize, usize),
        (at, len): (usize, usize),
        value: f32,
    ) {
        let start = (panel * len + at) * self.height + row;
        // SAFETY: no other row has this element.
        unsafe { self.shared[which].slice(start, 1)[0] = value };
    }
}

impl Kernel for Int8Row<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        // The panel whose rows these are: the inverse of `Left::rows_of`.
        let panel = ((self.row + 1) * self.panels - 1) / self.x.rows.rows;
        let place = (panel, self.row - panel * self.x.rows.rows / self.panels);
        let row = self.x.row(self.row);
        let (quads, blocks) = (row.len().div_ceil(QUAD), row.len().div_ceil(Int8Scales::GROUP));
        for (block, values) in row.chunks(Int8Scales::GROUP).enumerate() {
            let (codes, scale) = round_block(values);
            self.put(1, place, (block, blocks), scale);
            let sum: i32 = codes.iter().map(|&code| i32::from(code)).sum();
            self.put(2, place, (block, blocks), f32::from_bits((-128 * sum).cast_unsigned()));
            let quads_here = values.len().div_ceil(QUAD);
            for (quad, codes) in codes.as_chunks().0.iter().enumerate().take(quads_here) {
                self.put(0, place, (block * BLOCK + quad, quads), word_of(*codes));
            }
        }
    }
}

/// The codes of at most as many values as a scale has, and the scale.
#[inline(always)]
fn round_block(values: &[f32]) -> ([i8; Int8Scales::GROUP], f32) {
    /// Adding 1.5·2²³ leaves no fraction: the sum's lowest byte is the nearest whole number.
    const SHIFT: f32 = 12_582_912.0;
    let largest = largest_magnitude(values);
    let inverse = MOST / largest;
    let (scale, factor) = match (largest.is_finite(), inverse.is_finite()) {
        (true, true) => (largest / MOST, inverse),
        // Nothing but zeros, or what is as good as that.
        (true, false) => (0.0, 0.0),
        (false, _) => (f32::NAN, 0.0),
    };
    let mut codes = [0; Int8Scales::GROUP];
    for (code, value) in codes.iter_mut().zip(values) {
        *code = (value * factor + SHIFT).to_bits().to_le_bytes()[0].cast_signed();
    }
    (codes, scale)
}
