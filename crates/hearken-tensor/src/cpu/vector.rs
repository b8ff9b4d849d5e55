//! Operations on whole buffers and on rows picked by index.

use super::buffer::Buffer;
use super::lanes::{Kernel, LANES, Lanes, dispatch};
use super::rows::{Input, Output, SharedElements, for_chunks, for_chunks_mut};
use crate::device::{Dropout, View, ViewMut, Write};
use crate::dropout::KeptElements;

/// `to += factor · from`.
pub(crate) fn add_scaled(from: &[f32], factor: f32, to: &mut [f32]) {
    assert_eq!(from.len(), to.len(), "from and to: one length");
    for_chunks_mut(to, |start, to| {
        dispatch(AddScaled { from: &from[start..start + to.len()], factor, to });
    });
}

struct AddScaled<'a> {
    from: &'a [f32],
    factor: f32,
    to: &'a mut [f32],
}

impl Kernel for AddScaled<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        let (from, from_rest) = self.from.as_chunks::<LANES>();
        let (to, to_rest) = self.to.as_chunks_mut::<LANES>();
        for (from, to) in from.iter().zip(to) {
            S::load(from).mul_add(S::splat(self.factor), S::load(to)).store(to);
        }
        if !from_rest.is_empty() {
            let sum =
                S::load_partial(from_rest).mul_add(S::splat(self.factor), S::load_partial(to_rest));
            sum.store_partial(to_rest);
        }
    }
}

/// Copies all of `from`.
pub(crate) fn copy(from: &[f32], to: &mut [f32]) {
    assert_eq!(from.len(), to.len(), "from and to: one length");
    for_chunks_mut(to, |start, to| to.copy_from_slice(&from[start..start + to.len()]));
}

/// `to = (1 − mix)·to + mix·from`, in f64.
pub(crate) fn interpolate(from: &[f32], mix: f64, to: &mut [f32]) {
    assert_eq!(from.len(), to.len(), "from and to: one length");
    for_chunks_mut(to, |start, to| {
        dispatch(Interpolate { from: &from[start..start + to.len()], mix, to });
    });
}

struct Interpolate<'a> {
    from: &'a [f32],
    mix: f64,
    to: &'a mut [f32],
}

impl Kernel for Interpolate<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        for (to, &from) in self.to.iter_mut().zip(self.from) {
            *to = (f64::from(*to) * (1.0 - self.mix) + f64::from(from) * self.mix) as f32;
        }
    }
}

/// `out[i] = table[ids[i]]`.
pub(crate) fn gather_rows(table: &Buffer, ids: &[u32], out: ViewMut<'_, Buffer>, write: Write) {
    let out = Output::new(out);
    assert_eq!(out.rows.rows, ids.len(), "out: a row for each id");
    let width = out.rows.width;
    for_chunks(ids.len(), width, |range| {
        for row in range {
            let from = &table[ids[row] as usize * width..][..width];
            // SAFETY: the ranges partition the rows.
            let to = unsafe { out.row(row) };
            match write {
                Write::Overwrite => to.copy_from_slice(from),
                Write::Add => dispatch(AddScaled { from, factor: 1.0, to }),
            }
        }
    });
}

/// y (+)= x with some elements set to 0 and the others scaled.
pub(crate) fn dropout(
    x: View<'_, Buffer>,
    keys: &[u32],
    dropout: Dropout,
    y: ViewMut<'_, Buffer>,
    write: Write,
) {
    let (x, y) = (Input::new(x), Output::new(y));
    assert_eq!(x.rows.rows, keys.len(), "x: a row for each key");
    assert_eq!(x.rows.rows, y.rows.rows, "x and y: as many rows");
    assert_eq!(x.rows.width, y.rows.width, "x and y: as wide");
    for_chunks(keys.len(), x.rows.width, |range| {
        for row in range {
            let kept = KeptElements::new(keys[row], dropout);
            // SAFETY: the ranges partition the rows.
            let y = unsafe { y.row(row) };
            for (column, (y, x)) in y.iter_mut().zip(x.row(row)).enumerate() {
                let value = kept.factor(column as u32) * x;
                *y = if write == Write::Add { *y + value } else { value };
            }
        }
    });
}

/// `table[ids[i]] += rows[i]`, in the order of i.
pub(crate) fn scatter_add_rows(rows: View<'_, Buffer>, ids: &[u32], table: &mut Buffer) {
    /// Columns that one thread adds for all rows, so that the order of sums is that of the rows.
    const COLUMNS: usize = 256;
    let rows = Input::new(rows);
    assert_eq!(rows.rows.rows, ids.len(), "rows: one for each id");
    let width = rows.rows.width;
    let table = SharedElements::new(table);
    for_chunks(width.div_ceil(COLUMNS), ids.len() * COLUMNS, |range| {
        let columns = range.start * COLUMNS..(range.end * COLUMNS).min(width);
        for (row, &id) in ids.iter().enumerate() {
            let from = &rows.row(row)[columns.clone()];
            // SAFETY: column ranges do not overlap, and rows are taken one at a time.
            let to = unsafe { table.slice(id as usize * width + columns.start, columns.len()) };
            dispatch(AddScaled { from, factor: 1.0, to });
        }
    });
}
