//! Products by multiply-adds of f32: those in f32, and those in bfloat16 where the processor has no
//! products of it.
//!
//! The left factor is packed once, in panels of a few rows. The right one is turned into strips of f32 as
//! they are needed, from wherever its elements lie and however they are kept ([`Right`]), so that weights
//! need no second copy and are read at their own width. A strip stays in the first-level cache while all
//! panels are multiplied by it; while it is filled, what the next one needs is asked for.
//!
//! An output is summed in blocks of the inner dimension, in order, and the blocks depend on that
//! dimension alone: the same row gives the same bits whatever other rows are computed with it.

mod right;
mod task;

use std::ops::Range;
use std::sync::Arc;

use super::buffer::{Buffer, BufferPool};
use super::lanes::dispatch;
use super::rounding;
use super::rows::{Output, SharedElements, Source, for_chunks};
use super::shares::Panels;
use crate::device::Write;
use crate::kernels::KernelFamily;

pub(crate) use right::Right;
use task::{BlockedTask, STRIP};
pub(crate) use task::{Sums, accumulate, put_sums};

/// The most rows of a panel: as many sums as leave registers for the factors.
fn height_max() -> usize {
    match KernelFamily::current() {
        KernelFamily::Portable => 3,
        KernelFamily::Avx2 | KernelFamily::Neon => 6,
        KernelFamily::Avx512 | KernelFamily::Avx512Bf16 => 12,
    }
}

/// A left factor in panels: element (row, inner) of a panel is at `inner·height + row`.
pub(crate) struct Left {
    values: Buffer,
    rows: usize,
    inner: usize,
    height: usize,
    panels: usize,
}

impl Left {
    /// Reorders a factor: rows of the source are rows, or inner indices.
    pub(crate) fn pack(pool: &Arc<BufferPool>, source: Source<'_>) -> Self {
        let (rows, inner) = (source.outer(), source.inner());
        let panels = rows.div_ceil(height_max());
        let height = rows.div_ceil(panels.max(1));
        let values = Buffer::scratch(pool, panels * height * inner);
        let mut left = Self { values, rows, inner, height, panels };
        let mut values = std::mem::replace(&mut left.values, Buffer::scratch(pool, 0));
        let shared = SharedElements::new(&mut values);
        for_chunks(panels, height * inner, |range| {
            for panel in range {
                // SAFETY: the ranges partition the panels.
                let panel_values = unsafe { shared.slice(panel * height * inner, height * inner) };
                pack_panel(source, left.rows_of(panel), height, panel_values);
            }
        });
        left.values = values;
        left
    }

    /// The same, rounded to bfloat16.
    pub(crate) fn pack_rounded(pool: &Arc<BufferPool>, source: Source<'_>) -> Self {
        let mut left = Self::pack(pool, source);
        rounding::round(&mut left.values);
        left
    }

    /// The rows of a panel; panels differ by at most one row.
    fn rows_of(&self, panel: usize) -> Range<usize> {
        panel * self.rows / self.panels..(panel + 1) * self.rows / self.panels
    }

    fn panel(&self, panel: usize) -> &[f32] {
        let len = self.height * self.inner;
        &self.values[panel * len..(panel + 1) * len]
    }
}

fn pack_panel(source: Source<'_>, rows: Range<usize>, height: usize, panel: &mut [f32]) {
    match source {
        Source::Outer(input) => {
            for (i, row) in rows.enumerate() {
                let places = panel.iter_mut().skip(i).step_by(height);
                places.zip(input.row(row)).for_each(|(to, from)| *to = *from);
            }
        }
        Source::Inner(input) => {
            for (inner, places) in panel.chunks_exact_mut(height).enumerate() {
                places[..rows.len()].copy_from_slice(&input.row(inner)[rows.clone()]);
            }
        }
    }
}

/// One of the products of a left factor: a right factor, its bias, and where the product goes.
pub(crate) struct RightFactor<'a, R> {
    pub(crate) right: &'a R,
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) out: Output<'a>,
}

/// Panels of the left factor per task: their block of the inner dimension stays in the second-level cache.
const PANELS: usize = 32;
/// At most so many strips per task, where there are several blocks of rows.
const STRIPS: usize = 8;
/// Elements of the right factor, times panels of the left one, that are worth a task of their own.
const TASK_MIN: usize = 1 << 16;
impl<R> RightFactor<'_, R> {
    /// # Panics
    /// If the factors have another inner dimension, `[rows, inner]` and `[inner, columns]`, or the product another place.
    pub(crate) fn check(&self, left: [usize; 2], right: [usize; 2]) {
        let [columns, out] = [right[1], self.out.rows.width];
        assert_eq!(left[1], right[0], "factors: one inner dimension");
        assert_eq!(left[0], self.out.rows.rows, "out: as many rows as the left factor");
        assert_eq!(columns, out, "out: as many columns as the right factor");
        assert!(self.bias.is_none_or(|bias| bias.len() == columns), "bias: one per column");
    }
}

/// `out (+)= left·right (+ bias)` for each part; all are divided among the threads together.
pub(crate) fn products<R: Right>(left: &Left, parts: &[RightFactor<'_, R>], write: Write) {
    for part in parts {
        part.check([left.rows, left.inner], [part.right.inner(), part.right.columns()]);
    }
    let strips = parts.iter().map(|part| part.right.columns().div_ceil(STRIP));
    let panels = Panels {
        left: left.panels,
        right: &strips.collect::<Vec<_>>(),
        left_per_task: PANELS,
        right_per_task_max: STRIPS,
        right_len: left.inner * STRIP,
        task_min: TASK_MIN,
    };
    panels.share_out(|part, panels, strips| {
        let part = &parts[part];
        let columns = strips.start * STRIP..(strips.end * STRIP).min(part.right.columns());
        dispatch(BlockedTask { left, part, write, panels, columns });
    });
}
