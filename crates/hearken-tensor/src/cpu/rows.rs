//! Access to the rows of views, and the division of work among threads.
//!
//! Work is cut into chunks whose size depends on shapes alone, so results do not depend on the
//! number of threads.

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

use super::buffer::Buffer;
use crate::device::{Rows, View, ViewMut};

/// Elements per chunk below which handing work to another thread costs more than it saves.
const CHUNK_ELEMENTS: usize = 16 << 10;

/// Rows to read.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) rows: Rows,
}

impl<'a> Input<'a> {
    pub(crate) fn new(view: View<'a, Buffer>) -> Self {
        Self::of(view.buffer, view.rows)
    }

    pub(crate) fn of(values: &'a [f32], rows: Rows) -> Self {
        assert!(rows.end() <= values.len(), "rows end at {}, not {}", rows.end(), values.len());
        assert!(rows.width <= rows.stride || rows.rows <= 1, "rows overlap: {rows:?}");
        Self { values, rows }
    }

    pub(crate) fn row(&self, row: usize) -> &'a [f32] {
        debug_assert!(row < self.rows.rows);
        let start = self.rows.offset + row * self.rows.stride;
        &self.values[start..start + self.rows.width]
    }

    /// Some of the rows.
    pub(crate) fn part(&self, rows: Range<usize>) -> Self {
        Self { values: self.values, rows: part(self.rows, rows) }
    }

    /// Some of the columns.
    pub(crate) fn columns(&self, columns: Range<usize>) -> Self {
        Self { values: self.values, rows: self.rows.columns(columns.start, columns.len()) }
    }

    /// The address of row 0.
    pub(crate) fn pointer(&self) -> *const f32 {
        // `wrapping` as there may be no rows.
        self.values.as_ptr().wrapping_add(self.rows.offset)
    }
}

/// A factor of a product, by which of its dimensions is consecutive in memory.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    /// Each row of the input is one outer index: the inner dimension is consecutive.
    Outer(Input<'a>),
    /// Each row of the input is one inner index: the outer dimension is consecutive.
    Inner(Input<'a>),
}

impl Source<'_> {
    /// Length of the other dimension than that of sums.
    pub(crate) fn outer(&self) -> usize {
        match self {
            Self::Outer(input) => input.rows.rows,
            Self::Inner(input) => input.rows.width,
        }
    }

    /// Length of the dimension that products sum over.
    pub(crate) fn inner(&self) -> usize {
        match self {
            Self::Outer(input) => input.rows.width,
            Self::Inner(input) => input.rows.rows,
        }
    }
}

fn part(rows: Rows, part: Range<usize>) -> Rows {
    assert!(part.end <= rows.rows, "rows up to {} of {}", part.end, rows.rows);
    Rows { rows: part.len(), offset: rows.offset + part.start * rows.stride, ..rows }
}

/// Elements that several threads write, each its own.
#[derive(Clone, Copy)]
pub(crate) struct SharedElements<'a> {
    pointer: *mut f32,
    len: usize,
    lifetime: PhantomData<&'a mut [f32]>,
}

// SAFETY: threads get at the elements only through `slice`, whose callers keep them apart.
unsafe impl Send for SharedElements<'_> {}
// SAFETY: as above.
unsafe impl Sync for SharedElements<'_> {}

impl<'a> SharedElements<'a> {
    pub(crate) fn new(values: &'a mut [f32]) -> Self {
        Self { pointer: values.as_mut_ptr(), len: values.len(), lifetime: PhantomData }
    }

    /// # Safety
    /// No two slices that overlap exist at the same time.
    pub(crate) unsafe fn slice(&self, start: usize, len: usize) -> &'a mut [f32] {
        assert!(start + len <= self.len, "{start}+{len} of {}", self.len);
        // SAFETY: within bounds; the caller keeps slices apart.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.add(start), len) }
    }
}

/// Rows to write, different ones by different threads.
#[derive(Clone, Copy)]
pub(crate) struct Output<'a> {
    values: SharedElements<'a>,
    pub(crate) rows: Rows,
}

impl<'a> Output<'a> {
    pub(crate) fn new(view: ViewMut<'a, Buffer>) -> Self {
        let ViewMut { buffer, rows } = view;
        Self::of(buffer, rows)
    }

    pub(crate) fn of(values: &'a mut [f32], rows: Rows) -> Self {
        assert!(rows.end() <= values.len(), "rows end at {}, not {}", rows.end(), values.len());
        assert!(rows.width <= rows.stride || rows.rows <= 1, "rows overlap: {rows:?}");
        Self { values: SharedElements::new(values), rows }
    }

    /// Parts of one buffer that have no element in common.
    ///
    /// # Panics
    /// If rows have different strides, or columns of two parts overlap.
    pub(crate) fn disjoint(
        values: &'a mut [f32],
        parts: impl Iterator<Item = Rows> + Clone,
    ) -> Vec<Self> {
        let whole = SharedElements::new(values);
        for (index, rows) in parts.clone().enumerate() {
            assert!(rows.end() <= whole.len, "rows end at {}, not {}", rows.end(), whole.len);
            assert!(rows.offset + rows.width <= rows.stride, "columns of one row: {rows:?}");
            for other in parts.clone().take(index) {
                let apart = rows.offset + rows.width <= other.offset
                    || other.offset + other.width <= rows.offset;
                assert!(apart && rows.stride == other.stride, "parts overlap: {rows:?}, {other:?}");
            }
        }
        parts.map(|rows| Self { values: whole, rows }).collect()
    }

    /// # Safety
    /// Each row is held once at a time.
    pub(crate) unsafe fn row(&self, row: usize) -> &'a mut [f32] {
        debug_assert!(row < self.rows.rows);
        // SAFETY: rows do not overlap, and the caller holds each once.
        unsafe { self.values.slice(self.rows.offset + row * self.rows.stride, self.rows.width) }
    }

    /// Some of the rows.
    pub(crate) fn part(&self, rows: Range<usize>) -> Self {
        Self { values: self.values, rows: part(self.rows, rows) }
    }

    /// The elements `start .. start + len` of a row.
    ///
    /// # Safety
    /// Each element is held once at a time.
    pub(crate) unsafe fn slice(&self, row: usize, start: usize, len: usize) -> &'a mut [f32] {
        assert!(row < self.rows.rows && start + len <= self.rows.width, "outside the rows");
        // SAFETY: rows do not overlap, and the caller holds each element once.
        unsafe { self.values.slice(self.rows.offset + row * self.rows.stride + start, len) }
    }

    /// The address of row 0.
    pub(crate) fn pointer(&self) -> *mut f32 {
        self.values.pointer.wrapping_add(self.rows.offset)
    }
}

/// Calls `work` with ranges that partition `0..count`, in parallel where it pays; an item stands for
/// `elements_per_item` elements.
pub(crate) fn for_chunks(
    count: usize,
    elements_per_item: usize,
    work: impl Fn(Range<usize>) + Send + Sync,
) {
    let chunk = (CHUNK_ELEMENTS / elements_per_item.max(1)).max(1);
    if count <= chunk {
        if count > 0 {
            work(0..count);
        }
        return;
    }
    (0..count.div_ceil(chunk))
        .into_par_iter()
        .for_each(|index| work(index * chunk..(index * chunk + chunk).min(count)));
}

/// Calls `work` with chunks of `values` and where each starts, in parallel where it pays.
pub(crate) fn for_chunks_mut(values: &mut [f32], work: impl Fn(usize, &mut [f32]) + Send + Sync) {
    let shared_len = values.len();
    let shared = SharedElements::new(values);
    for_chunks(shared_len.div_ceil(1024), 1024, |range| {
        let start = range.start * 1024;
        let len = (range.end * 1024).min(shared_len) - start;
        // SAFETY: the ranges partition the elements.
        work(start, unsafe { shared.slice(start, len) });
    });
}

/// Sums over rows into `targets` vectors: `work` adds the rows of a range to zeroed partial sums,
/// which are then added to the targets in the order of the rows.
pub(crate) fn sum_over_rows<const N: usize>(
    rows: usize,
    mut targets: [Option<&mut [f32]>; N],
    work: impl Fn(Range<usize>, [&mut [f32]; N]) + Send + Sync,
) {
    /// More chunks would cost memory for partial sums, fewer would leave threads idle.
    const CHUNKS_MAX: usize = 16;
    let lens: [usize; N] = std::array::from_fn(|i| targets[i].as_ref().map_or(0, |t| t.len()));
    let total: usize = lens.iter().sum();
    let chunk = rows.div_ceil(CHUNKS_MAX).max(16);
    let chunks = rows.div_ceil(chunk);
    let mut partial = vec![0.0_f32; chunks * total];
    let shared = SharedElements::new(&mut partial);
    let run = |index: usize| {
        let mut start = index * total;
        let parts = std::array::from_fn(|i| {
            start += lens[i];
            // SAFETY: each chunk has its own parts.
            unsafe { shared.slice(start - lens[i], lens[i]) }
        });
        work(index * chunk..(index * chunk + chunk).min(rows), parts);
    };
    if chunks <= 1 {
        (0..chunks).for_each(run);
    } else {
        (0..chunks).into_par_iter().for_each(run);
    }
    if total == 0 {
        return;
    }
    for part in partial.chunks_exact(total) {
        let mut rest = part;
        for target in targets.iter_mut().flatten() {
            let (own, after) = rest.split_at(target.len());
            rest = after;
            for (target, part) in target.iter_mut().zip(own) {
                *target += part;
            }
        }
    }
}
