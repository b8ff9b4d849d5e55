//! Some panels of the left factor times some strips of the right one.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::super::lanes::{Kernel, LANES, Lanes};
use super::{Left, LeftPanel, Right, RightFactor};
use crate::device::Write;

/// Columns of the widest strip.
pub(crate) const STRIP: usize = 2 * LANES;
/// At most so many inner indices make a block.
const INNER_MAX: usize = 256;
/// Inner indices of a strip that one panel alone is multiplied by.
const STEP: usize = 64;

pub(super) struct BlockedTask<'a, R> {
    pub(super) left: &'a Left<'a>,
    pub(super) part: &'a RightFactor<'a, R>,
    pub(super) write: Write,
    pub(super) panels: Range<usize>,
    /// They begin at a whole strip.
    pub(super) columns: Range<usize>,
}

/// Rows of a strip for one inner index after the other.
#[repr(align(64))]
struct Strip(MaybeUninit<[f32; INNER_MAX * STRIP]>);

impl<R: Right> Kernel for BlockedTask<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        let mut strip = Strip(MaybeUninit::uninit());
        let strip = strip.0.as_mut_ptr().cast();
        let low = self.left.height <= 3;
        match self.left.panels {
            1 if S::MANY || low => self.lone_panel::<S, 2>(strip),
            1 => self.lone_panel::<S, 1>(strip),
            _ if S::MANY => self.all_panels::<S, 2>(strip),
            _ => self.all_panels::<S, 1>(strip),
        }
    }
}

/// The sums of M rows and N vectors of columns.
pub(crate) type Sums<S, const M: usize, const N: usize> = [[S; N]; M];

impl<R: Right> BlockedTask<'_, R> {
    /// The first inner index of each block, and its length. Lengths are even, but for the last one.
    #[inline(always)]
    fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<R> {
        let inner = self.left.inner;
        let count = inner.div_ceil(INNER_MAX).max(1);
        let len = inner.div_ceil(count).next_multiple_of(2);
        (0..count).map(move |block| (block * len).min(inner)..((block + 1) * len).min(inner))
    }

    #[inline(always)]
    fn all_panels<S: Lanes, const N: usize>(&self, strip: *mut f32) {
        for block in self.blocks() {
            for column in self.columns.clone().step_by(N * LANES) {
                // SAFETY: a strip has room for a block.
                unsafe { self.part.right.fill::<S, N>(column, block.clone(), strip) };
                for panel in self.panels.clone() {
                    match self.left.rows_of(panel).len() {
                        1 => self.panel::<S, 1, N>(panel, column, &block, strip),
                        2 => self.panel::<S, 2, N>(panel, column, &block, strip),
                        3 => self.panel::<S, 3, N>(panel, column, &block, strip),
                        4 => self.panel::<S, 4, N>(panel, column, &block, strip),
                        5 => self.panel::<S, 5, N>(panel, column, &block, strip),
                        6 => self.panel::<S, 6, N>(panel, column, &block, strip),
                        7 if S::MANY => self.panel::<S, 7, N>(panel, column, &block, strip),
                        8 if S::MANY => self.panel::<S, 8, N>(panel, column, &block, strip),
                        9 if S::MANY => self.panel::<S, 9, N>(panel, column, &block, strip),
                        10 if S::MANY => self.panel::<S, 10, N>(panel, column, &block, strip),
                        11 if S::MANY => self.panel::<S, 11, N>(panel, column, &block, strip),
                        12 if S::MANY => self.panel::<S, 12, N>(panel, column, &block, strip),
                        rows => unreachable!("invariant: a panel does not have {rows} rows"),
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn panel<S: Lanes, const M: usize, const N: usize>(
        &self,
        panel: usize,
        column: usize,
        block: &Range<usize>,
        strip: *const f32,
    ) {
        let left = self.left.panel(panel, block.start);
        let first_row = self.left.rows_of(panel).start;
        // Where the sums will go: memory brings it while they are made.
        let out = &self.part.out;
        let place = out.pointer().wrapping_add(first_row * out.rows.stride + column);
        for i in 0..M {
            for j in 0..N {
                S::prefetch_line(place.wrapping_add(i * out.rows.stride + j * LANES));
            }
        }
        let mut sums = [[S::splat(0.0); N]; M];
        // SAFETY: panel and strip have the block's inner indices.
        unsafe {
            match left.stride {
                1 => accumulate::<S, M, N>(left.pointer, left.step, strip, block.len(), &mut sums),
                _ => accumulate_rows::<S, M, N>(left, strip, block.len(), &mut sums),
            }
        }
        self.finish(sums, first_row, column, block.start == 0);
    }

    /// Where there is one panel: strips are short and read once.
    #[inline(always)]
    fn lone_panel<S: Lanes, const N: usize>(&self, strip: *mut f32) {
        match self.left.rows {
            1 => self.lone_rows::<S, 1, N>(strip),
            2 => self.lone_rows::<S, 2, N>(strip),
            3 => self.lone_rows::<S, 3, N>(strip),
            4 => self.lone_rows::<S, 4, N>(strip),
            5 => self.lone_rows::<S, 5, N>(strip),
            6 => self.lone_rows::<S, 6, N>(strip),
            7 if S::MANY => self.lone_rows::<S, 7, N>(strip),
            8 if S::MANY => self.lone_rows::<S, 8, N>(strip),
            9 if S::MANY => self.lone_rows::<S, 9, N>(strip),
            10 if S::MANY => self.lone_rows::<S, 10, N>(strip),
            11 if S::MANY => self.lone_rows::<S, 11, N>(strip),
            12 if S::MANY => self.lone_rows::<S, 12, N>(strip),
            rows => unreachable!("invariant: a panel does not have {rows} rows"),
        }
    }

    #[inline(always)]
    fn lone_rows<S: Lanes, const M: usize, const N: usize>(&self, strip: *mut f32) {
        let left = self.left.lone_panel();
        for column in self.columns.clone().step_by(N * LANES) {
            for block in self.blocks() {
                let mut sums = [[S::splat(0.0); N]; M];
                for first in block.clone().step_by(STEP) {
                    let inner = first..(first + STEP).min(block.end);
                    let len = inner.len();
                    let left = &left[first * M..(first + len) * M];
                    // SAFETY: a strip has room for a step.
                    unsafe { self.part.right.add_rows(left, column, inner, strip, &mut sums) };
                }
                self.finish(sums, 0, column, block.start == 0);
            }
        }
    }

    #[inline(always)]
    fn finish<S: Lanes, const M: usize, const N: usize>(
        &self,
        sums: Sums<S, M, N>,
        row: usize,
        column: usize,
        first_block: bool,
    ) {
        let add = !first_block || self.write == Write::Add;
        put_sums(sums, self.part, (row, column), add, first_block);
    }
}

/// Writes or adds the sums of some rows and columns, as far as there are columns, and adds the bias or not.
/// The caller alone writes there.
#[inline(always)]
pub(crate) fn put_sums<S: Lanes, R, const M: usize, const N: usize>(
    sums: Sums<S, M, N>,
    part: &RightFactor<'_, R>,
    (row, column): (usize, usize),
    add: bool,
    with_bias: bool,
) {
    let rows = part.out.rows;
    let bias = part.bias.filter(|_| with_bias);
    if column + N * LANES <= rows.width {
        assert!(row + M <= rows.rows, "rows {row}..{} of {}", row + M, rows.rows);
        let mut added = [S::splat(0.0); N];
        if let Some(bias) = bias {
            for (j, added) in added.iter_mut().enumerate() {
                *added = load(&bias[column + j * LANES..][..LANES]);
            }
        }
        let first = part.out.pointer().wrapping_add(row * rows.stride + column);
        for (i, sums) in sums.into_iter().enumerate() {
            for (j, sum) in sums.into_iter().enumerate() {
                let place = first.wrapping_add(i * rows.stride + j * LANES);
                // SAFETY: asserted above; these elements are the caller's.
                unsafe {
                    let sum = if add { S::load_at(place).add(sum) } else { sum };
                    let sum = if bias.is_some() { sum.add(added[j]) } else { sum };
                    sum.store_at(place);
                }
            }
        }
        return;
    }
    for (i, sums) in sums.into_iter().enumerate() {
        for (j, sum) in sums.into_iter().enumerate() {
            let start = column + j * LANES;
            if rows.width <= start {
                continue;
            }
            let len = (rows.width - start).min(LANES);
            // SAFETY: these elements are the caller's, which holds them one vector at a time.
            let out = unsafe { part.out.slice(row + i, start, len) };
            let mut sum = sum;
            if add {
                sum = load::<S>(out).add(sum);
            }
            if let Some(bias) = bias {
                sum = sum.add(load(&bias[start..start + len]));
            }
            match out.first_chunk_mut::<LANES>() {
                Some(out) => sum.store(out),
                None => sum.store_partial(out),
            }
        }
    }
}

/// Adds the products of `len` inner indices to the sums, one after the other.
///
/// # Safety
/// `left` is readable for `len` times `height` elements, of which M are used, `right` for `len` rows of
/// N vectors.
#[inline(always)]
pub(crate) unsafe fn accumulate<S: Lanes, const M: usize, const N: usize>(
    left: *const f32,
    height: usize,
    right: *const f32,
    len: usize,
    sums: &mut Sums<S, M, N>,
) {
    let mut own = *sums;
    for inner in 0..len {
        let mut line = [S::splat(0.0); N];
        for j in 0..N {
            // SAFETY: the caller's promise.
            line[j] = unsafe { S::load_at(right.add((inner * N + j) * LANES)) };
        }
        for i in 0..M {
            // SAFETY: the caller's promise.
            let factor = S::splat(unsafe { *left.add(inner * height + i) });
            for j in 0..N {
                own[i][j] = factor.mul_add(line[j], own[i][j]);
            }
        }
    }
    *sums = own;
}

/// As [`accumulate`], for rows that lie apart, with their inner indices side by side.
///
/// # Safety
/// `left` is readable for M rows of `len` inner indices, `right` for `len` rows of N vectors.
#[inline(always)]
unsafe fn accumulate_rows<S: Lanes, const M: usize, const N: usize>(
    left: LeftPanel,
    right: *const f32,
    len: usize,
    sums: &mut Sums<S, M, N>,
) {
    let mut own = *sums;
    // Every third row, from which the two behind it are one and two strides away: an address of each row by
    // itself would not fit into registers.
    let mut thirds = [left.pointer; 4];
    for (third, pointer) in thirds.iter_mut().enumerate() {
        *pointer = pointer.wrapping_add(3 * third * left.stride);
    }
    for inner in 0..len {
        let mut line = [S::splat(0.0); N];
        for j in 0..N {
            // SAFETY: the caller's promise.
            line[j] = unsafe { S::load_at(right.add((inner * N + j) * LANES)) };
        }
        for i in 0..M {
            let place = thirds[i / 3].wrapping_add(i % 3 * left.stride);
            // SAFETY: the caller's promise.
            let factor = S::splat(unsafe { *place });
            for j in 0..N {
                own[i][j] = factor.mul_add(line[j], own[i][j]);
            }
        }
        for third in &mut thirds {
            *third = third.wrapping_add(1);
        }
    }
    *sums = own;
}

/// At most sixteen elements, padded with zeros.
#[inline(always)]
pub(super) fn load<S: Lanes>(values: &[f32]) -> S {
    match values.first_chunk::<LANES>() {
        Some(chunk) => S::load(chunk),
        None => S::load_partial(values),
    }
}
