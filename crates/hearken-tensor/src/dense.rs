//! Dense layers of small networks on plain slices: products, activations and their derivatives, on the calling thread
//! and without buffers of a device.
//!
//! A policy of two layers of 64 takes microseconds for a minibatch; threads, pools and packed operands would cost more
//! than they save. Every sum runs over the inner dimension in its order, so a row's result does not depend on how
//! many rows are computed with it.
//!
//! Not here: large products ([`crate::Device::linear`]), and what a network is.

use crate::cpu::activation::tanh;
use crate::cpu::lanes::{Kernel, LANES, Lanes, dispatch};
use crate::cpu::optimizer::{AdamStep, Factors, sum_of_squares as sum_squares};
use crate::device::AdamW;

/// The sizes of a product `C = A·B` with `A` `[rows, inner]`, `B` `[inner, columns]`, `C` `[rows, columns]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProductShape {
    /// Rows of A and C.
    pub rows: usize,
    /// Columns of A, rows of B.
    pub inner: usize,
    /// Columns of B and C.
    pub columns: usize,
}

/// What C holds before the products are added.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// 0.
    Zero,
    /// This row in every row; `[columns]`.
    Bias(&'a [f32]),
    /// What it holds.
    Kept,
}

/// `c = start + a·b`.
///
/// # Panics
/// If a slice is not of its shape.
pub fn product(shape: ProductShape, a: &[f32], b: &[f32], start: Start<'_>, c: &mut [f32]) {
    let ProductShape { rows, inner, columns } = shape;
    assert_eq!(a.len(), rows * inner, "a: rows × inner");
    assert_eq!(b.len(), inner * columns, "b: inner × columns");
    assert_eq!(c.len(), rows * columns, "c: rows × columns");
    dispatch(Product { shape, a, strides: (inner, 1), b, start, c });
}

/// `c = start + aᵀ·b`, with `a` `[inner, rows]`: the gradient of a weight.
///
/// # Panics
/// If a slice is not of its shape.
pub fn transposed_product(
    shape: ProductShape,
    a: &[f32],
    b: &[f32],
    start: Start<'_>,
    c: &mut [f32],
) {
    let ProductShape { rows, inner, columns } = shape;
    assert_eq!(a.len(), rows * inner, "a: inner × rows");
    assert_eq!(b.len(), inner * columns, "b: inner × columns");
    assert_eq!(c.len(), rows * columns, "c: rows × columns");
    dispatch(Product { shape, a, strides: (1, rows), b, start, c });
}

struct Product<'a> {
    shape: ProductShape,
    a: &'a [f32],
    /// From one row of A to the next, and from one element of a row to the next.
    strides: (usize, usize),
    b: &'a [f32],
    start: Start<'a>,
    c: &'a mut [f32],
}

impl Kernel for Product<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(mut self) {
        if let Start::Bias(bias) = self.start {
            assert_eq!(bias.len(), self.shape.columns, "bias: one per column");
        }
        let columns = self.shape.columns;
        let mut column = 0;
        // Sums of a block are in registers: 24 of 32, or 6 of 8.
        if S::MANY {
            while column + 4 * LANES <= columns {
                self.rows::<S, 6, 4>(column);
                column += 4 * LANES;
            }
        }
        while column + 2 * LANES <= columns {
            self.rows::<S, 3, 2>(column);
            column += 2 * LANES;
        }
        while column + LANES <= columns {
            self.rows::<S, 4, 1>(column);
            column += LANES;
        }
        if column < columns {
            self.last_columns::<S>(column);
        }
    }
}

impl Product<'_> {
    #[inline(always)]
    fn rows<S: Lanes, const R: usize, const V: usize>(&mut self, column: usize) {
        let rows = self.shape.rows;
        let mut row = 0;
        while row + R <= rows {
            self.block::<S, R, V>(row, column);
            row += R;
        }
        while row + 2 <= rows {
            self.block::<S, 2, V>(row, column);
            row += 2;
        }
        if row < rows {
            self.block::<S, 1, V>(row, column);
        }
    }

    /// R rows of V vectors of C.
    #[inline(always)]
    fn block<S: Lanes, const R: usize, const V: usize>(&mut self, row: usize, column: usize) {
        let ProductShape { inner, columns, .. } = self.shape;
        let at = |r: usize, v: usize| (row + r) * columns + column + v * LANES;
        let mut sums = [[S::splat(0.0); V]; R];
        // SAFETY: `product` has compared the lengths of the slices with the shape, row + R ≤ rows, and
        // column + 16·V ≤ columns.
        unsafe {
            for r in 0..R {
                for v in 0..V {
                    match self.start {
                        Start::Zero => {}
                        Start::Bias(bias) => {
                            sums[r][v] = S::load_at(bias.as_ptr().add(column + v * LANES));
                        }
                        Start::Kept => sums[r][v] = S::load_at(self.c.as_ptr().add(at(r, v))),
                    }
                }
            }
            let (row_stride, inner_stride) = self.strides;
            let a = self.a.as_ptr().add(row * row_stride);
            let b = self.b.as_ptr().add(column);
            for i in 0..inner {
                let mut line = [S::splat(0.0); V];
                for v in 0..V {
                    line[v] = S::load_at(b.add(i * columns + v * LANES));
                }
                for r in 0..R {
                    let factor = S::splat(*a.add(r * row_stride + i * inner_stride));
                    for v in 0..V {
                        sums[r][v] = factor.mul_add(line[v], sums[r][v]);
                    }
                }
            }
            for r in 0..R {
                for v in 0..V {
                    sums[r][v].store_at(self.c.as_mut_ptr().add(at(r, v)));
                }
            }
        }
    }

    /// The columns behind the last whole vector, fewer than sixteen.
    #[inline(always)]
    fn last_columns<S: Lanes>(&mut self, column: usize) {
        let rows = self.shape.rows;
        let mut row = 0;
        while row + 8 <= rows {
            self.partial_block::<S, 8>(row, column);
            row += 8;
        }
        while row < rows {
            self.partial_block::<S, 1>(row, column);
            row += 1;
        }
    }

    #[inline(always)]
    fn partial_block<S: Lanes, const R: usize>(&mut self, row: usize, column: usize) {
        let ProductShape { inner, columns, .. } = self.shape;
        let width = columns - column;
        let mut sums = [S::splat(0.0); R];
        for r in 0..R {
            let at = (row + r) * columns + column;
            match self.start {
                Start::Zero => {}
                Start::Bias(bias) => sums[r] = S::load_partial(&bias[column..]),
                Start::Kept => sums[r] = S::load_partial(&self.c[at..at + width]),
            }
        }
        let (row_stride, inner_stride) = self.strides;
        for i in 0..inner {
            let at = i * columns + column;
            let line = S::load_partial(&self.b[at..at + width]);
            for r in 0..R {
                let factor = self.a[(row + r) * row_stride + i * inner_stride];
                sums[r] = S::splat(factor).mul_add(line, sums[r]);
            }
        }
        for r in 0..R {
            let at = (row + r) * columns + column;
            sums[r].store_partial(&mut self.c[at..at + width]);
        }
    }
}

/// `y = xᵀ`, with `x` `[rows, columns]`.
///
/// # Panics
/// If a slice is not of this shape.
pub fn transpose(x: &[f32], rows: usize, columns: usize, y: &mut [f32]) {
    assert_eq!([x.len(), y.len()], [rows * columns; 2], "x and y: rows × columns");
    dispatch(Transpose { x, rows, columns, y });
}

struct Transpose<'a> {
    x: &'a [f32],
    rows: usize,
    columns: usize,
    y: &'a mut [f32],
}

impl Kernel for Transpose<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        let Self { x, rows, columns, y } = self;
        let (whole_rows, whole_columns) = (rows / LANES * LANES, columns / LANES * LANES);
        for row in (0..whole_rows).step_by(LANES) {
            for column in (0..whole_columns).step_by(LANES) {
                let mut block = [S::splat(0.0); LANES];
                for i in 0..LANES {
                    // SAFETY: row + 16 ≤ rows and column + 16 ≤ columns.
                    block[i] = unsafe { S::load_at(x.as_ptr().add((row + i) * columns + column)) };
                }
                for (i, line) in S::transpose(&block).into_iter().enumerate() {
                    // SAFETY: as above, with rows and columns exchanged.
                    unsafe { line.store_at(y.as_mut_ptr().add((column + i) * rows + row)) }
                }
            }
        }
        for row in 0..rows {
            let first = if row < whole_rows { whole_columns } else { 0 };
            for column in first..columns {
                y[column * rows + row] = x[row * columns + column];
            }
        }
    }
}

/// `sums += Σ_rows x`, with `x` `[rows, sums.len()]`: the gradient of a bias.
///
/// # Panics
/// If `x` is not whole rows.
pub fn add_rows(x: &[f32], sums: &mut [f32]) {
    assert_eq!(x.len() % sums.len(), 0, "x: whole rows");
    for row in x.chunks_exact(sums.len()) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += value;
        }
    }
}

/// What stands between the layers of a small network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nonlinearity {
    /// The hyperbolic tangent.
    Tanh,
    /// max(x, 0).
    Relu,
    /// max(x, 0.01·x).
    LeakyRelu,
}

/// Slope of the leaky rectifier below 0.
const LEAK: f32 = 0.01;

/// Replaces x by its activation.
pub fn activate(nonlinearity: Nonlinearity, x: &mut [f32]) {
    match nonlinearity {
        Nonlinearity::Tanh => dispatch(TanhInPlace(x)),
        Nonlinearity::Relu => {
            for x in x {
                *x = if 0.0 < *x { *x } else { 0.0 };
            }
        }
        Nonlinearity::LeakyRelu => {
            for x in x {
                *x = if 0.0 < *x { *x } else { LEAK * *x };
            }
        }
    }
}

struct TanhInPlace<'a>(&'a mut [f32]);

impl Kernel for TanhInPlace<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        let (chunks, rest) = self.0.as_chunks_mut::<LANES>();
        for chunk in chunks {
            tanh(S::load(chunk)).store(chunk);
        }
        if !rest.is_empty() {
            tanh(S::load_partial(rest)).store_partial(rest);
        }
    }
}

/// Multiplies a derivative with respect to activations `y` by that of the activation.
///
/// # Panics
/// If the lengths differ.
pub fn activate_backward(nonlinearity: Nonlinearity, y: &[f32], dy: &mut [f32]) {
    assert_eq!(y.len(), dy.len(), "dy: one per activation");
    match nonlinearity {
        Nonlinearity::Tanh => dispatch(TanhBackward { y, dy }),
        Nonlinearity::Relu => {
            dy.iter_mut().zip(y).for_each(|(dy, y)| *dy = if 0.0 < *y { *dy } else { 0.0 });
        }
        Nonlinearity::LeakyRelu => {
            dy.iter_mut().zip(y).for_each(|(dy, y)| *dy *= if 0.0 < *y { 1.0 } else { LEAK });
        }
    }
}

struct TanhBackward<'a> {
    y: &'a [f32],
    dy: &'a mut [f32],
}

impl Kernel for TanhBackward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        for (dy, y) in self.dy.iter_mut().zip(self.y) {
            *dy *= 1.0 - y * y;
        }
    }
}

/// Σx², in `f64`.
pub fn sum_of_squares(x: &[f32]) -> f64 {
    sum_squares(x)
}

/// One step of `AdamW` in place.
///
/// # Panics
/// If the lengths differ.
pub fn adamw(step: AdamW, values: &mut [f32], grad: &[f32], [first, second]: [&mut [f32]; 2]) {
    let len = values.len();
    assert_eq!([grad.len(), first.len(), second.len()], [len; 3], "one of each per parameter");
    let factors = Factors::new(step);
    dispatch(AdamStep { factors, parameter: values, grad, first, second });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(seed: u32, len: usize) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2_654_435_761) | 1;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..len).map(|_| next()).collect()
    }

    fn naive(shape: ProductShape, a: &[f32], b: &[f32], start: &dyn Fn(usize) -> f32) -> Vec<f64> {
        let ProductShape { rows, inner, columns } = shape;
        let mut c = vec![0.0; rows * columns];
        for (at, c) in c.iter_mut().enumerate() {
            let (row, column) = (at / columns, at % columns);
            let term = |i| f64::from(a[row * inner + i]) * f64::from(b[i * columns + column]);
            *c = f64::from(start(at)) + (0..inner).map(term).sum::<f64>();
        }
        c
    }

    fn assert_close(found: &[f32], expected: &[f64]) {
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-5, "{found}, {expected}");
        }
    }

    #[test]
    fn products_of_any_shape_are_those_of_their_definition() {
        for (rows, inner, columns) in
            [(1, 1, 1), (7, 3, 2), (64, 64, 64), (65, 5, 83), (13, 70, 48), (9, 4, 31), (8, 64, 1)]
        {
            let shape = ProductShape { rows, inner, columns };
            let (a, b) = (numbers(1, rows * inner), numbers(2, inner * columns));
            let (bias, kept) = (numbers(3, columns), numbers(4, rows * columns));
            let mut c = vec![9.0; rows * columns];
            product(shape, &a, &b, Start::Zero, &mut c);
            assert_close(&c, &naive(shape, &a, &b, &|_| 0.0));
            product(shape, &a, &b, Start::Bias(&bias), &mut c);
            assert_close(&c, &naive(shape, &a, &b, &|at| bias[at % columns]));
            c.copy_from_slice(&kept);
            product(shape, &a, &b, Start::Kept, &mut c);
            let expected = naive(shape, &a, &b, &|at| kept[at]);
            assert_close(&c, &expected);
            let mut turned = vec![0.0; rows * inner];
            transpose(&a, rows, inner, &mut turned);
            c.copy_from_slice(&kept);
            transposed_product(shape, &turned, &b, Start::Kept, &mut c);
            assert_close(&c, &expected);
        }
    }

    #[test]
    fn a_row_is_the_same_whatever_rows_are_computed_with_it() {
        let (a, b) = (numbers(5, 20 * 64), numbers(6, 64 * 67));
        let all = ProductShape { rows: 20, inner: 64, columns: 67 };
        let mut together = vec![0.0; 20 * 67];
        product(all, &a, &b, Start::Zero, &mut together);
        for row in 0..20 {
            let mut alone = vec![0.0; 67];
            let one = ProductShape { rows: 1, ..all };
            product(one, &a[row * 64..][..64], &b, Start::Zero, &mut alone);
            assert_eq!(alone, together[row * 67..][..67]);
        }
    }

    #[test]
    fn derivatives_of_activations_are_those_of_central_differences() {
        for nonlinearity in [Nonlinearity::Tanh, Nonlinearity::Relu, Nonlinearity::LeakyRelu] {
            let x: Vec<f32> = numbers(7, 40).iter().map(|x| 3.0 * x).collect();
            let of = |by: f32| {
                let mut y: Vec<f32> = x.iter().map(|x| x + by).collect();
                activate(nonlinearity, &mut y);
                y
            };
            let mut dy = vec![1.0; 40];
            activate_backward(nonlinearity, &of(0.0), &mut dy);
            for (i, dy) in dy.iter().enumerate() {
                let difference = (of(1e-2)[i] - of(-1e-2)[i]) / 2e-2;
                assert!((dy - difference).abs() < 1e-3 || x[i].abs() < 1e-2, "{}", x[i]);
            }
        }
    }
}
