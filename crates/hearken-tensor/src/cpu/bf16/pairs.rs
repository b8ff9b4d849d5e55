//! Products of packed factors where the processor multiplies pairs of bfloat16, cut into tasks and
//! blocks that fit the caches.

use std::ops::Range;

use super::super::shares::Panels;
use super::Bf16Product;
use super::kernel::{Ahead, multiply};
use super::pack::{LEFT, PairedLeft, RIGHT};
use crate::device::Write;

/// Left panels per task.
const LEFT_PANELS: usize = 16;
/// At most so many right panels per task, where there are several tasks for each of them.
const RIGHT_PANELS: usize = 8;
/// At most so many pairs of inner indices at a time: panels of both factors stay in the
/// first-level cache, which two threads may share.
const PAIRS_MAX: usize = 256;
/// Words of the right factor, times panels of the left one, that are worth a task of their own.
const TASK_MIN: usize = 1 << 15;

/// Where a product of two panels goes.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    /// The first element of the first row.
    pub(super) pointer: *mut f32,
    /// Elements from one row to the next.
    pub(super) stride: usize,
    /// At most [`LEFT`].
    pub(super) rows: usize,
    /// At most [`RIGHT`].
    pub(super) columns: usize,
    /// Whether the product is added to what is there.
    pub(super) add: bool,
    /// Added to each row: one for each column.
    pub(super) bias: Option<&'a [f32]>,
}

/// `out (+)= left·right (+ bias)` for each part.
pub(super) fn products(left: &PairedLeft, parts: &[Bf16Product<'_>], write: Write) {
    for part in parts {
        part.check([left.outer(), left.inner()], [part.right.inner(), part.right.outer()]);
    }
    let panels = Panels {
        left: left.outer().div_ceil(LEFT),
        right: &parts.iter().map(|part| part.right.outer().div_ceil(RIGHT)).collect::<Vec<_>>(),
        left_per_task: LEFT_PANELS,
        right_per_task_max: RIGHT_PANELS,
        right_len: left.inner().div_ceil(2) * RIGHT,
        task_min: TASK_MIN,
    };
    panels.share_out(|part, rows, columns| {
        PairsTask { left, part: &parts[part], write }.run(rows, columns);
    });
}

struct PairsTask<'a> {
    left: &'a PairedLeft,
    part: &'a Bf16Product<'a>,
    write: Write,
}

impl PairsTask<'_> {
    /// Some panels of either factor.
    fn run(&self, rows: Range<usize>, columns: Range<usize>) {
        let pairs = self.left.inner().div_ceil(2);
        // Blocks of equal length, which depends on the inner dimension alone.
        let block = pairs.div_ceil(pairs.div_ceil(PAIRS_MAX).max(1)).max(1);
        let mut first = 0;
        loop {
            let len = block.min(pairs - first);
            // SAFETY: the family in use has the features; each task has its own panels.
            unsafe { self.pairs(&rows, &columns, first, len) };
            first += len;
            if first >= pairs {
                break;
            }
        }
    }

    /// `len` pairs from `first` on, multiplied as they are.
    ///
    /// # Safety
    /// The processor has AVX512-BF16, and no other call at the time has these panels.
    unsafe fn pairs(&self, rows: &Range<usize>, columns: &Range<usize>, first: usize, len: usize) {
        let right = self.part.right;
        for column in columns.clone() {
            let panel = right.panel(column, first);
            // While the rows are multiplied by one panel, the next one comes into the cache.
            let next = panel.as_ptr().wrapping_add(right.panel_len());
            let words_per_pair = RIGHT.div_ceil(rows.len());
            for (index, row) in rows.clone().enumerate() {
                let left = self.left.panel(row, first);
                let pointer = next.wrapping_add(index * len * words_per_pair);
                let ahead = Ahead { pointer, words_per_pair };
                let target = self.target(row, column, first == 0);
                // SAFETY: the caller's promise.
                unsafe { multiply(left, panel, len, ahead, target) };
            }
        }
    }

    /// Where two panels' product goes; the first block of the inner dimension adds the bias.
    fn target(&self, row: usize, column: usize, first_block: bool) -> Target<'_> {
        let (row, column) = (row * LEFT, column * RIGHT);
        let (bias, out) = (self.part.bias, &self.part.out);
        let rows = out.rows;
        Target {
            pointer: out.pointer().wrapping_add(row * rows.stride + column),
            stride: rows.stride,
            rows: (rows.rows - row).min(LEFT),
            columns: (rows.width - column).min(RIGHT),
            add: !first_block || self.write == Write::Add,
            bias: bias.filter(|_| first_block).map(|bias| &bias[column..]),
        }
    }
}
