//! RMS and layer norms with their backward passes, one pass over the rows each.

use super::buffer::Buffer;
use super::lanes::{Kernel, LANES, Lanes, dispatch};
use super::rows::{Input, Output, SharedElements, for_chunks, sum_over_rows};
use crate::device::{View, ViewMut, Write};

/// y = x / √(mean(x²) + eps) · weight over each of `groups` parts of every row.
pub(crate) fn rms_norm(
    x: View<'_, Buffer>,
    groups: usize,
    weight: &Buffer,
    eps: f32,
    y: ViewMut<'_, Buffer>,
    rstd: &mut Buffer,
) {
    let (x, y) = (Input::new(x), Output::new(y));
    let width = group_width(x, groups, weight);
    assert_eq!((x.rows.rows, x.rows.width), (y.rows.rows, y.rows.width), "x and y: one shape");
    assert_eq!(rstd.len(), x.rows.rows * groups, "rstd: one per row and group");
    let rstd = SharedElements::new(rstd);
    for_chunks(x.rows.rows, x.rows.width, |range| {
        for row in range {
            // SAFETY: the ranges partition the rows.
            let (y, rstd) = unsafe { (y.row(row), rstd.slice(row * groups, groups)) };
            let parts = x.row(row).chunks_exact(width).zip(y.chunks_exact_mut(width));
            for ((x, y), rstd) in parts.zip(rstd) {
                *rstd = dispatch(RmsRow { x, weight, eps, y });
            }
        }
    });
}

fn group_width(x: Input<'_>, groups: usize, weight: &[f32]) -> usize {
    assert!(groups > 0 && x.rows.width.is_multiple_of(groups), "{groups} equal groups in a row");
    let width = x.rows.width / groups;
    assert_eq!(weight.len(), width, "weight: as wide as a group");
    width
}

/// Gives the reciprocal root.
struct RmsRow<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    eps: f32,
    y: &'a mut [f32],
}

impl Kernel for RmsRow<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Lanes>(self) -> f32 {
        let squares = dot::<S>(self.x, self.x);
        let rstd = 1.0 / (squares / self.x.len() as f32 + self.eps).sqrt();
        let factor = S::splat(rstd);
        let (x, x_rest) = self.x.as_chunks::<LANES>();
        let (w, w_rest) = self.weight.as_chunks::<LANES>();
        let (y, y_rest) = self.y.as_chunks_mut::<LANES>();
        for ((x, w), y) in x.iter().zip(w).zip(y) {
            S::load(x).mul(factor).mul(S::load(w)).store(y);
        }
        if !x_rest.is_empty() {
            let y = S::load_partial(x_rest).mul(factor).mul(S::load_partial(w_rest));
            y.store_partial(y_rest);
        }
        rstd
    }
}

/// Σ a·b.
#[inline(always)]
fn dot<S: Lanes>(a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut sum = S::load_partial(a_rest).mul(S::load_partial(b_rest));
    for (a, b) in a.iter().zip(b) {
        sum = S::load(a).mul_add(S::load(b), sum);
    }
    sum.sum()
}

/// dx and dweight; with g = weight·dy and n the width of a group:
///
/// ```text
/// dx = rstd·g − x·rstd³·Σ(g·x)/n      dweight = Σ_rows dy·x·rstd
/// ```
#[expect(clippy::too_many_arguments, reason = "the device's signature")]
pub(crate) fn rms_norm_backward(
    x: View<'_, Buffer>,
    groups: usize,
    weight: &Buffer,
    rstd: &Buffer,
    dy: View<'_, Buffer>,
    dx: ViewMut<'_, Buffer>,
    write: Write,
    dweight: Option<&mut Buffer>,
) {
    let (x, dy, dx) = (Input::new(x), Input::new(dy), Output::new(dx));
    let width = group_width(x, groups, weight);
    assert_same_shape(x, dy, dx);
    assert_eq!(rstd.len(), x.rows.rows * groups, "rstd: one per row and group");
    assert!(dweight.as_ref().is_none_or(|d| d.len() == width), "dweight: as wide as a group");
    sum_over_rows(x.rows.rows, [dweight.map(|d| &mut d[..])], |range, [dweight]| {
        for row in range {
            // SAFETY: the ranges partition the rows.
            let dx = unsafe { dx.row(row) };
            for group in 0..groups {
                let part = group * width..(group + 1) * width;
                dispatch(NormRowBackward {
                    x: &x.row(row)[part.clone()],
                    weight,
                    mean: None,
                    rstd: rstd[row * groups + group],
                    dy: &dy.row(row)[part.clone()],
                    dx: &mut dx[part],
                    write,
                    dweight: &mut *dweight,
                    dbias: &mut [],
                });
            }
        }
    });
}

fn assert_same_shape(x: Input<'_>, dy: Input<'_>, dx: Output<'_>) {
    let shape = (x.rows.rows, x.rows.width);
    assert_eq!(shape, (dy.rows.rows, dy.rows.width), "x and dy: one shape");
    assert_eq!(shape, (dx.rows.rows, dx.rows.width), "x and dx: one shape");
}

/// Backward through (x − mean)·rstd·weight; `mean` is `None` where none is subtracted. Parameter
/// gradients that are empty are not wanted.
struct NormRowBackward<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    mean: Option<f32>,
    rstd: f32,
    dy: &'a [f32],
    dx: &'a mut [f32],
    write: Write,
    dweight: &'a mut [f32],
    dbias: &'a mut [f32],
}

impl Kernel for NormRowBackward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        let n = self.x.len() as f32;
        let (mean, rstd) = (S::splat(self.mean.unwrap_or(0.0)), S::splat(self.rstd));
        // Sums of g and of g·x̂, with x̂ = (x − mean)·rstd.
        let (mut g_sum, mut gx_sum) = (S::splat(0.0), S::splat(0.0));
        let len = self.x.len();
        for start in (0..len).step_by(LANES) {
            let end = (start + LANES).min(len);
            let g = read::<S>(self.weight, start, end).mul(read::<S>(self.dy, start, end));
            // Lanes beyond the end have g = 0.
            let normal = read::<S>(self.x, start, end).sub(mean).mul(rstd);
            g_sum = g_sum.add(g);
            gx_sum = g.mul_add(normal, gx_sum);
        }
        let gx_mean = S::splat(gx_sum.sum() / n);
        let g_mean = S::splat(if self.mean.is_some() { g_sum.sum() / n } else { 0.0 });
        for start in (0..len).step_by(LANES) {
            let end = (start + LANES).min(len);
            let dy = read::<S>(self.dy, start, end);
            let g = read::<S>(self.weight, start, end).mul(dy);
            let normal = read::<S>(self.x, start, end).sub(mean).mul(rstd);
            let mut dx = g.sub(g_mean).sub(normal.mul(gx_mean)).mul(rstd);
            if self.write == Write::Add {
                dx = dx.add(read::<S>(self.dx, start, end));
            }
            put(dx, self.dx, start, end);
            if !self.dweight.is_empty() {
                let sum = dy.mul_add(normal, read::<S>(self.dweight, start, end));
                put(sum, self.dweight, start, end);
            }
            if !self.dbias.is_empty() {
                let sum = dy.add(read::<S>(self.dbias, start, end));
                put(sum, self.dbias, start, end);
            }
        }
    }
}

/// The lanes `start..end`; those beyond are 0.
#[inline(always)]
fn read<S: Lanes>(values: &[f32], start: usize, end: usize) -> S {
    match values[start..end].first_chunk::<LANES>() {
        Some(chunk) => S::load(chunk),
        None => S::load_partial(&values[start..end]),
    }
}

#[inline(always)]
fn put<S: Lanes>(lanes: S, values: &mut [f32], start: usize, end: usize) {
    match values[start..end].first_chunk_mut::<LANES>() {
        Some(chunk) => lanes.store(chunk),
        None => lanes.store_partial(&mut values[start..end]),
    }
}

/// y = (x − mean) / √(variance + eps) · weight + bias.
pub(crate) fn layer_norm(
    x: View<'_, Buffer>,
    weight: &Buffer,
    bias: &Buffer,
    eps: f32,
    y: ViewMut<'_, Buffer>,
    statistics: &mut Buffer,
) {
    let (x, y) = (Input::new(x), Output::new(y));
    assert_eq!((x.rows.rows, x.rows.width), (y.rows.rows, y.rows.width), "x and y: one shape");
    assert_eq!(weight.len(), x.rows.width, "weight: as wide as a row");
    assert_eq!(bias.len(), x.rows.width, "bias: as wide as a row");
    assert_eq!(statistics.len(), x.rows.rows * 2, "statistics: two per row");
    let statistics = SharedElements::new(statistics);
    for_chunks(x.rows.rows, x.rows.width, |range| {
        for row in range {
            // SAFETY: the ranges partition the rows.
            let (y, statistics) = unsafe { (y.row(row), statistics.slice(row * 2, 2)) };
            let (mean, rstd) = dispatch(LayerRow { x: x.row(row), weight, bias, eps, y });
            statistics.copy_from_slice(&[mean, rstd]);
        }
    });
}

/// Gives mean and reciprocal root.
struct LayerRow<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    eps: f32,
    y: &'a mut [f32],
}

impl Kernel for LayerRow<'_> {
    type Output = (f32, f32);
    #[inline(always)]
    fn run<S: Lanes>(self) -> (f32, f32) {
        let len = self.x.len();
        let mut sum = S::splat(0.0);
        for start in (0..len).step_by(LANES) {
            sum = sum.add(read::<S>(self.x, start, (start + LANES).min(len)));
        }
        let mean = sum.sum() / len as f32;
        let center = S::splat(mean);
        // The variance around the mean, in a second pass: no cancellation.
        let (chunks, rest) = self.x.as_chunks::<LANES>();
        let mut squares = S::splat(0.0);
        for chunk in chunks {
            let deviation = S::load(chunk).sub(center);
            squares = deviation.mul_add(deviation, squares);
        }
        let rest: f32 = rest.iter().map(|x| (x - mean) * (x - mean)).sum();
        let variance = (squares.sum() + rest) / len as f32;
        let rstd = 1.0 / (variance + self.eps).sqrt();
        let factor = S::splat(rstd);
        for start in (0..len).step_by(LANES) {
            let end = (start + LANES).min(len);
            let normal = read::<S>(self.x, start, end).sub(center).mul(factor);
            let weight = read::<S>(self.weight, start, end);
            put(normal.mul_add(weight, read::<S>(self.bias, start, end)), self.y, start, end);
        }
        (mean, rstd)
    }
}

/// dx, dweight and dbias; with x̂ = (x − mean)·rstd, g = weight·dy and n the width:
///
/// ```text
/// dx = rstd·(g − Σg/n − x̂·Σ(g·x̂)/n)     dweight = Σ_rows dy·x̂     dbias = Σ_rows dy
/// ```
#[expect(clippy::too_many_arguments, reason = "the device's signature")]
pub(crate) fn layer_norm_backward(
    x: View<'_, Buffer>,
    weight: &Buffer,
    statistics: &Buffer,
    dy: View<'_, Buffer>,
    dx: ViewMut<'_, Buffer>,
    write: Write,
    dweight: Option<&mut Buffer>,
    dbias: Option<&mut Buffer>,
) {
    let (x, dy, dx) = (Input::new(x), Input::new(dy), Output::new(dx));
    assert_same_shape(x, dy, dx);
    let width = x.rows.width;
    assert_eq!(weight.len(), width, "weight: as wide as a row");
    assert_eq!(statistics.len(), x.rows.rows * 2, "statistics: two per row");
    assert!(dweight.as_ref().is_none_or(|d| d.len() == width), "dweight: as wide as a row");
    assert!(dbias.as_ref().is_none_or(|d| d.len() == width), "dbias: as wide as a row");
    let targets = [dweight.map(|d| &mut d[..]), dbias.map(|d| &mut d[..])];
    sum_over_rows(x.rows.rows, targets, |range, [dweight, dbias]| {
        for row in range {
            dispatch(NormRowBackward {
                x: x.row(row),
                weight,
                mean: Some(statistics[row * 2]),
                rstd: statistics[row * 2 + 1],
                dy: dy.row(row),
                // SAFETY: the ranges partition the rows.
                dx: unsafe { dx.row(row) },
                write,
                dweight: &mut *dweight,
                dbias: &mut *dbias,
            });
        }
    });
}
