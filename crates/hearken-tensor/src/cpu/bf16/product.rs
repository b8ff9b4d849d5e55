//! Products of packed factors, cut into tasks and blocks that fit the caches.

use std::ops::Range;

use rayon::prelude::*;

use super::super::rows::Output;
use super::kernel::{Target, multiply};
use super::pack::{LEFT, Left, RIGHT, Right};
use crate::device::Write;

/// Left panels per task.
const LEFT_PANELS: usize = 16;
/// Right panels per task.
const RIGHT_PANELS: usize = 8;
/// At most so many pairs of inner indices at a time: panels of both factors stay in the
/// first-level cache, which two threads may share.
const PAIRS_MAX: usize = 256;
/// Words of the right factor, times panels of the left one, below which a product is one task.
const PARALLEL_MIN: usize = 1 << 15;

/// `out (+)= left·right (+ bias)`.
pub(crate) fn product(
    left: &Left,
    right: &Right,
    bias: Option<&[f32]>,
    out: Output<'_>,
    write: Write,
) {
    assert_eq!(left.inner(), right.inner(), "factors: one inner dimension");
    assert_eq!(left.outer(), out.rows.rows, "out: as many rows as the left factor");
    assert_eq!(right.outer(), out.rows.width, "out: as many columns as the right factor");
    assert!(bias.is_none_or(|bias| bias.len() == out.rows.width), "bias: one per column");
    let work = Work { left, right, bias, out, write };
    let (rows, columns) = (left.outer().div_ceil(LEFT), right.outer().div_ceil(RIGHT));
    let row_blocks = rows.div_ceil(LEFT_PANELS);
    let column_blocks = columns.div_ceil(RIGHT_PANELS);
    let task = |task: usize| {
        let (row, column) = (task % row_blocks, task / row_blocks);
        let rows = row * LEFT_PANELS..(row * LEFT_PANELS + LEFT_PANELS).min(rows);
        let columns = column * RIGHT_PANELS..(column * RIGHT_PANELS + RIGHT_PANELS).min(columns);
        work.run(rows, columns);
    };
    let tasks = row_blocks * column_blocks;
    if tasks <= 1 || rows * columns * left.inner() * RIGHT / 2 < PARALLEL_MIN {
        (0..tasks).for_each(task);
    } else {
        (0..tasks).into_par_iter().for_each(task);
    }
}

struct Work<'a> {
    left: &'a Left,
    right: &'a Right,
    bias: Option<&'a [f32]>,
    out: Output<'a>,
    write: Write,
}

impl Work<'_> {
    /// Some panels of either factor.
    fn run(&self, rows: Range<usize>, columns: Range<usize>) {
        let pairs = self.left.inner().div_ceil(2);
        // Blocks of equal length, which depends on the inner dimension alone.
        let block = pairs.div_ceil(pairs.div_ceil(PAIRS_MAX).max(1)).max(1);
        let mut first = 0;
        loop {
            let len = block.min(pairs - first);
            for column in columns.clone() {
                let right = self.right.panel(column, first);
                for row in rows.clone() {
                    let left = self.left.panel(row, first);
                    // SAFETY: `available` has seen the features; each task has its own panels.
                    unsafe { multiply(left, right, len, self.target(row, column, first == 0)) };
                }
            }
            first += len;
            if first >= pairs {
                break;
            }
        }
    }

    /// Where two panels' product goes; the first block of the inner dimension adds the bias.
    fn target(&self, row: usize, column: usize, first_block: bool) -> Target<'_> {
        let (row, column) = (row * LEFT, column * RIGHT);
        let rows = self.out.rows;
        Target {
            pointer: self.out.pointer().wrapping_add(row * rows.stride + column),
            stride: rows.stride,
            rows: (rows.rows - row).min(LEFT),
            columns: (rows.width - column).min(RIGHT),
            add: !first_block || self.write == Write::Add,
            bias: self.bias.filter(|_| first_block).map(|bias| &bias[column..]),
        }
    }
}
