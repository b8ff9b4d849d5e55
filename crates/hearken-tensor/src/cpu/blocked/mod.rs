//! Products by multiply-adds of f32: those in f32, and those in bfloat16 where the processor has no
//! products of it.
//!
//! The left factor is cut into panels of a few rows: read where they are where their elements follow one another,
//! else packed once. The right one is turned into strips of f32 as they are needed, from wherever its elements lie and however they are kept ([`Right`]), so that weights
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
use super::lanes::{Kernel, LANES, Lanes, dispatch};
use super::rounding;
use super::rows::{Input, Output, SharedElements, Source, for_chunks};
use super::shares::Panels;
use crate::device::Write;
use crate::kernels::KernelFamily;

pub(crate) use right::Right;
use task::{BlockedTask, STRIP, load};
pub(crate) use task::{Sums, accumulate, put_sums};

/// The most rows of a panel: as many sums as leave registers for the factors.
fn height_max() -> usize {
    match KernelFamily::current() {
        KernelFamily::Portable => 3,
        KernelFamily::Avx2 | KernelFamily::Neon => 6,
        KernelFamily::Avx512 | KernelFamily::Avx512Bf16 | KernelFamily::Amx => 12,
    }
}

/// A left factor in panels of rows.
pub(crate) struct Left<'a> {
    values: LeftValues<'a>,
    rows: usize,
    inner: usize,
    height: usize,
    panels: usize,
}

/// Where the elements of a left factor are.
enum LeftValues<'a> {
    /// In panels: element (row, inner) of a panel is at `inner·height + row`.
    Packed(Buffer),
    /// Where they were, a row after the other: copies in order would save less than they cost.
    Rows(Input<'a>),
}

/// Where a panel's element (row, inner) is: at `inner·step + row·stride` from `pointer` on.
#[derive(Clone, Copy)]
struct LeftPanel {
    pointer: *const f32,
    step: usize,
    stride: usize,
}

impl<'a> Left<'a> {
    /// A factor: rows of the source are rows, or inner indices.
    pub(crate) fn of(pool: &Arc<BufferPool>, source: Source<'a>) -> Self {
        let (rows, inner) = (source.outer(), source.inner());
        let panels = rows.div_ceil(height_max());
        match source {
            Source::Outer(input) if 1 < panels => {
                let (values, height) = (LeftValues::Rows(input), rows.div_ceil(panels));
                Self { values, rows, inner, height, panels }
            }
            _ => Self::pack(pool, source),
        }
    }

    fn pack(pool: &Arc<BufferPool>, source: Source<'_>) -> Self {
        let (rows, inner) = (source.outer(), source.inner());
        let panels = rows.div_ceil(height_max());
        let height = rows.div_ceil(panels.max(1));
        let mut values = Buffer::scratch(pool, panels * height * inner);
        let shared = SharedElements::new(&mut values);
        for_chunks(panels, height * inner, |range| {
            for panel in range {
                // SAFETY: the ranges partition the panels.
                let panel_values = unsafe { shared.slice(panel * height * inner, height * inner) };
                let rows = rows_of(panel, panels, rows);
                dispatch(PackPanel { source, rows, height, panel: panel_values });
            }
        });
        Self { values: LeftValues::Packed(values), rows, inner, height, panels }
    }

    /// A factor in panels, rounded to bfloat16.
    pub(crate) fn pack_rounded(pool: &Arc<BufferPool>, source: Source<'_>) -> Self {
        let mut left = Self::pack(pool, source);
        if let LeftValues::Packed(values) = &mut left.values {
            rounding::round(values);
        }
        left
    }

    fn rows_of(&self, panel: usize) -> Range<usize> {
        rows_of(panel, self.panels, self.rows)
    }

    /// Where the inner indices of a panel begin at `first`.
    fn panel(&self, panel: usize, first: usize) -> LeftPanel {
        assert!(panel < self.panels && first <= self.inner, "outside the factor");
        match &self.values {
            LeftValues::Packed(values) => {
                let start = (panel * self.inner + first) * self.height;
                LeftPanel { pointer: values[start..].as_ptr(), step: self.height, stride: 1 }
            }
            LeftValues::Rows(input) => {
                let stride = input.rows.stride;
                let start = self.rows_of(panel).start * stride + first;
                LeftPanel { pointer: input.pointer().wrapping_add(start), step: 1, stride }
            }
        }
    }

    /// All there is where there is one panel, packed.
    fn lone_panel(&self) -> &[f32] {
        match &self.values {
            LeftValues::Packed(values) => values,
            LeftValues::Rows(_) => panic!("invariant: a lone panel is packed"),
        }
    }
}

/// The rows of a panel; panels differ by at most one row.
fn rows_of(panel: usize, panels: usize, rows: usize) -> Range<usize> {
    panel * rows / panels..(panel + 1) * rows / panels
}

/// Writes some rows of a factor, `height` elements for one inner index after the other.
struct PackPanel<'a> {
    source: Source<'a>,
    rows: Range<usize>,
    height: usize,
    panel: &'a mut [f32],
}

impl Kernel for PackPanel<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        let Self { source, rows, height, panel } = self;
        match source {
            Source::Outer(input) => {
                // Where panels are low a transposition would be of nothing for the most part.
                let whole = if S::MANY { source.inner() / LANES * LANES } else { 0 };
                let mut lines = [&[][..]; LANES];
                lines.iter_mut().zip(rows.clone()).for_each(|(line, row)| *line = input.row(row));
                for first in (0..whole).step_by(LANES) {
                    let mut block = [S::splat(0.0); LANES];
                    for (values, line) in block.iter_mut().zip(&lines[..rows.len()]) {
                        *values = load(&line[first..first + LANES]);
                    }
                    let places = &mut panel[first * height..];
                    for (i, column) in S::transpose(&block).into_iter().enumerate() {
                        put(column, rows.len(), &mut places[i * height..]);
                    }
                }
                let rest = &mut panel[whole * height..];
                for (i, row) in rows.enumerate() {
                    let places = rest.iter_mut().skip(i).step_by(height);
                    places.zip(&input.row(row)[whole..]).for_each(|(to, from)| *to = *from);
                }
            }
            Source::Inner(input) => {
                for inner in 0..source.inner() {
                    let places = &mut panel[inner * height..];
                    let values = &input.row(inner)[rows.start..];
                    match values.first_chunk() {
                        Some(values) => put(S::load(values), rows.len(), places),
                        None => places[..rows.len()].copy_from_slice(&values[..rows.len()]),
                    }
                }
            }
        }
    }
}

/// Writes the first `count` elements. What is written behind them, where there is room, is written again by
/// whoever comes to it.
#[inline(always)]
fn put<S: Lanes>(values: S, count: usize, places: &mut [f32]) {
    match places.first_chunk_mut() {
        Some(places) => values.store(places),
        None => values.store_partial(&mut places[..count]),
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
pub(crate) fn products<R: Right>(left: &Left<'_>, parts: &[RightFactor<'_, R>], write: Write) {
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
