//! Panels of rows times strips of a weight.

use std::ops::Range;

use super::super::blocked::{self, Sums, put_sums};
use super::super::lanes::{LANES, Lanes};
use super::super::shares::Panels;
use super::dots::{Dots, DotsKernel, dispatch};
use super::{BLOCK, Int8, Left};
use crate::device::{Int8Scales, Write};

/// One of the products of some rows.
pub(crate) type Int8Product<'a> = blocked::RightFactor<'a, Int8>;

/// Panels of the left factor per task.
const PANELS: usize = 32;
/// Pairs of strips per task at most, where there are several blocks of rows.
const PAIRS: usize = 8;
/// Codes of the right factor, times panels of the left one, that are worth a task of their own.
const TASK_MIN: usize = 1 << 17;
/// `out (+)= left·rightᵀ (+ bias)` for each part; all are divided among the threads together.
pub(crate) fn products(left: &Left, parts: &[Int8Product<'_>], write: Write) {
    for part in parts {
        part.check([left.rows, left.inner], [part.right.inputs(), part.right.outputs()]);
    }
    let pairs = parts.iter().map(|part| part.right.outputs().div_ceil(2 * LANES));
    let panels = Panels {
        left: left.panels,
        right: &pairs.collect::<Vec<_>>(),
        left_per_task: PANELS,
        right_per_task_max: PAIRS,
        right_len: left.inner * 2 * LANES,
        task_min: TASK_MIN,
    };
    panels.share_out(|part, panels, pairs| {
        let strips = 2 * pairs.start..2 * pairs.end;
        dispatch(Int8Task { left, part: &parts[part], write, panels, strips });
    });
}

struct Int8Task<'a> {
    left: &'a Left,
    part: &'a Int8Product<'a>,
    write: Write,
    panels: Range<usize>,
    /// Whole pairs.
    strips: Range<usize>,
}

impl DotsKernel for Int8Task<'_> {
    #[inline(always)]
    fn run<D: Dots>(self) {
        for strip in self.strips.clone().step_by(D::STRIPS) {
            for panel in self.panels.clone() {
                if D::STRIPS == 2 {
                    self.panel::<D, 2>(panel, strip);
                } else {
                    self.panel::<D, 1>(panel, strip);
                }
            }
        }
    }
}

impl Int8Task<'_> {
    #[inline(always)]
    fn panel<D: Dots, const N: usize>(&self, panel: usize, strip: usize) {
        match self.left.rows_of(panel).len() {
            1 => self.rows::<D, 1, N>(panel, strip),
            2 => self.rows::<D, 2, N>(panel, strip),
            3 => self.rows::<D, 3, N>(panel, strip),
            4 if D::ROWS >= 4 => self.rows::<D, 4, N>(panel, strip),
            5 if D::ROWS >= 5 => self.rows::<D, 5, N>(panel, strip),
            6 if D::ROWS >= 6 => self.rows::<D, 6, N>(panel, strip),
            7 if D::ROWS >= 7 => self.rows::<D, 7, N>(panel, strip),
            8 if D::ROWS >= 8 => self.rows::<D, 8, N>(panel, strip),
            9 if D::ROWS >= 9 => self.rows::<D, 9, N>(panel, strip),
            10 if D::ROWS >= 10 => self.rows::<D, 10, N>(panel, strip),
            11 if D::ROWS >= 11 => self.rows::<D, 11, N>(panel, strip),
            12 if D::ROWS >= 12 => self.rows::<D, 12, N>(panel, strip),
            rows => unreachable!("invariant: a panel does not have {rows} rows"),
        }
    }

    #[inline(always)]
    fn rows<D: Dots, const M: usize, const N: usize>(&self, panel: usize, strip: usize) {
        let (left, right) = (self.left, self.part.right);
        let (codes, [factors, offsets]) = (left.panel(panel), left.blocks(panel));
        let (mut words, mut scales) = ([&codes[..0]; N], [&codes[..0]; N]);
        for j in 0..N {
            (words[j], scales[j]) = (right.strip(strip + j), right.strip_scales(strip + j));
        }
        let (quads, height) = (right.quads(), left.height);
        assert!(M <= height, "invariant: a panel has room for its rows");
        let mut sums: Sums<D::Lanes, M, N> = [[D::Lanes::splat(0.0); N]; M];
        for (block, first) in (0..quads).step_by(BLOCK).enumerate() {
            let len = (quads - first).min(BLOCK);
            let codes = &codes[first * height..(first + len) * height];
            let factors = &factors[block * height..(block + 1) * height];
            let offsets = &offsets[block * height..(block + 1) * height];
            let mut of_words = [codes.as_ptr(); N];
            for j in 0..N {
                of_words[j] = words[j][first * LANES..(first + len) * LANES].as_ptr();
            }
            let group = block * Int8Scales::GROUP / right.group;
            // SAFETY: the slices above are as long as the dimensions say.
            let products = unsafe {
                D::block::<M, N>(codes.as_ptr(), height, offsets.as_ptr(), of_words, len)
            };
            for j in 0..N {
                let scales = scales[j][group * LANES..].first_chunk::<LANES>();
                let scale = D::Lanes::load(scales.expect("invariant: scales of sixteen outputs"));
                for i in 0..M {
                    let product = products[i][j].mul(D::Lanes::splat(factors[i]));
                    sums[i][j] = product.mul_add(scale, sums[i][j]);
                }
            }
        }
        let row = left.rows_of(panel).start;
        put_sums(sums, self.part, (row, strip * LANES), self.write == Write::Add, true);
    }
}
