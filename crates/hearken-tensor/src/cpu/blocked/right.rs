//! Right factors in f32, as they lie in memory.

use std::ops::Range;

use super::super::lanes::{LANES, Lanes};
use super::super::rows::{Input, Source};
use super::task::{Sums, accumulate, load};

/// A right factor, however its elements are kept.
pub(crate) trait Right: Sync {
    /// Length of the dimension that products sum over.
    fn inner(&self) -> usize;
    /// Number of columns.
    fn columns(&self) -> usize;
    /// Writes N·16 columns from `column` on, those of one inner index after the other; what lies beyond the
    /// last column is zeros. `column` is a multiple of 16·N, and `inner` begins at an even index.
    ///
    /// # Safety
    /// `strip` is writable for as many elements.
    unsafe fn fill<S: Lanes, const N: usize>(
        &self,
        column: usize,
        inner: Range<usize>,
        strip: *mut f32,
    );
    /// Adds M rows' products with a strip of N·16 columns to the sums, one inner index after the other;
    /// `left` has the elements of the rows for each of them. The strip may be used on the way.
    ///
    /// # Safety
    /// As for [`Right::fill`].
    #[inline(always)]
    unsafe fn add_rows<S: Lanes, const M: usize, const N: usize>(
        &self,
        left: &[f32],
        column: usize,
        inner: Range<usize>,
        strip: *mut f32,
        sums: &mut Sums<S, M, N>,
    ) {
        let len = inner.len();
        assert!(left.len() >= len * M, "M elements for each inner index");
        // SAFETY: asserted above; the caller's promise.
        unsafe {
            self.fill::<S, N>(column, inner, strip);
            accumulate::<S, M, N>(left.as_ptr(), M, strip, len, sums);
        }
    }
}

impl Right for Source<'_> {
    fn inner(&self) -> usize {
        Source::inner(self)
    }

    fn columns(&self) -> usize {
        self.outer()
    }

    #[inline(always)]
    unsafe fn fill<S: Lanes, const N: usize>(
        &self,
        column: usize,
        inner: Range<usize>,
        strip: *mut f32,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            match *self {
                Source::Inner(input) => copy_rows::<S, N>(input, column, inner, strip),
                Source::Outer(input) => {
                    for j in 0..N {
                        let first = column + j * LANES;
                        let to = strip.add(j * LANES);
                        transpose_rows::<S>(input, first, N * LANES, inner.clone(), to);
                    }
                }
            }
        }
    }
}

/// Rows of the input are inner indices.
///
/// # Safety
/// As for [`Right::fill`].
#[inline(always)]
unsafe fn copy_rows<S: Lanes, const N: usize>(
    input: Input<'_>,
    column: usize,
    inner: Range<usize>,
    strip: *mut f32,
) {
    let width = input.rows.width;
    for (index, row) in inner.enumerate() {
        let row = input.row(row);
        for j in 0..N {
            let first = (column + j * LANES).min(width);
            let end = (first + LANES).min(width);
            // What the next strip needs of this row.
            S::prefetch_line(row.as_ptr().wrapping_add(column + (N + j) * LANES));
            // SAFETY: the caller's promise.
            unsafe { load::<S>(&row[first..end]).store_at(strip.add((index * N + j) * LANES)) };
        }
    }
}

/// Rows of the input are columns: sixteen from `first` on, in steps of `stride` elements of the strip.
///
/// # Safety
/// As for [`Right::fill`].
#[inline(always)]
unsafe fn transpose_rows<S: Lanes>(
    input: Input<'_>,
    first: usize,
    stride: usize,
    inner: Range<usize>,
    strip: *mut f32,
) {
    let rows = first.min(input.rows.rows)..(first + LANES).min(input.rows.rows);
    let whole = if rows.len() == LANES { inner.len() / LANES * LANES } else { 0 };
    let from = input.pointer().wrapping_add(first * input.rows.stride);
    for index in (0..whole).step_by(LANES) {
        let from = from.wrapping_add(inner.start + index);
        // SAFETY: there are sixteen rows, and sixteen inner indices; the caller's promise.
        unsafe {
            // The next strip needs the rows after these of the same inner indices.
            let ahead = stride * input.rows.stride;
            S::transpose_at(from, input.rows.stride, strip.add(index * stride), stride, ahead);
        }
    }
    for index in (whole..inner.len()).step_by(LANES) {
        let len = (inner.len() - index).min(LANES);
        let start = inner.start + index;
        let mut block = [S::splat(0.0); LANES];
        for (line, row) in block.iter_mut().zip(rows.clone()) {
            *line = load(&input.row(row)[start..start + len]);
        }
        let block = S::transpose(&block);
        for (i, line) in block.into_iter().enumerate().take(len) {
            // SAFETY: the caller's promise.
            unsafe { line.store_at(strip.add((index + i) * stride)) };
        }
    }
}
