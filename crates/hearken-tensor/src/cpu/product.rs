//! Matrix products: in bfloat16 where it is wanted and there is a kernel for it, else in f32, by `gemm`
//! for many rows and by kernels that run at the speed of memory for few.

use std::sync::Arc;

use super::Cpu;
#[cfg(target_arch = "x86_64")]
use super::bf16;
use super::buffer::{Buffer, Pool};
use super::few_rows::{ROWS_MAX, few_rows};
use super::rows::{Input, Output, for_chunks};
use crate::device::{Layout, LinearPart, Precision, Rows, View, Weight, WeightShape, Write};

/// Multiplications below which a product runs on the calling thread.
const PARALLEL_MIN: usize = 1 << 18;

/// A matrix as products read it: element (r, c) is `pointer[r·row + c·column]`.
#[derive(Clone, Copy)]
struct Strided {
    pointer: *const f32,
    row: usize,
    column: usize,
}

impl Strided {
    fn of(input: Input<'_>) -> Self {
        Self { pointer: input.pointer(), row: input.rows.stride, column: 1 }
    }

    fn transposed(self) -> Self {
        Self { pointer: self.pointer, row: self.column, column: self.row }
    }
}

/// `out (+)= left·right` with inner dimension `inner`.
///
/// # Safety
/// `left` is readable for `out.rows.rows` × `inner`, `right` for `inner` × `out.rows.width`.
unsafe fn multiply(left: Strided, right: Strided, inner: usize, out: Output<'_>, write: Write) {
    let Rows { rows, width, stride, .. } = out.rows;
    if rows == 0 || width == 0 {
        return;
    }
    let parallelism = if rows * width * inner < PARALLEL_MIN {
        gemm::Parallelism::None
    } else {
        gemm::Parallelism::Rayon(0)
    };
    // SAFETY: the caller vouches for the factors; `Output` has checked its own bounds.
    unsafe {
        gemm::gemm(
            rows,
            width,
            inner,
            out.pointer(),
            1,
            stride as isize,
            write == Write::Add,
            left.pointer,
            left.column as isize,
            left.row as isize,
            right.pointer,
            right.column as isize,
            right.row as isize,
            1.0_f32,
            1.0_f32,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// The order of a weight in memory, seen from a product `y = x·B` with B `[inner, outputs]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// B itself: an element of x meets consecutive outputs.
    InnerByOutputs,
    /// Bᵀ: an output is the product of two consecutive runs.
    OutputsByInner,
}

/// `y (+)= x·B` in f32.
pub(crate) fn product(x: Input<'_>, weight: &[f32], order: Order, y: Output<'_>, write: Write) {
    let (inner, outputs) = (x.rows.width, y.rows.width);
    assert_eq!(x.rows.rows, y.rows.rows, "x and y: as many rows");
    assert_eq!(weight.len(), inner * outputs, "weight: {outputs} × {inner}");
    if x.rows.rows <= ROWS_MAX {
        few_rows(x, weight, order, y, write);
        return;
    }
    let right = match order {
        Order::InnerByOutputs => Strided { pointer: weight.as_ptr(), row: outputs, column: 1 },
        Order::OutputsByInner => Strided { pointer: weight.as_ptr(), row: 1, column: inner },
    };
    // SAFETY: `Input` has checked x; the weight's length is checked above.
    unsafe { multiply(Strided::of(x), right, inner, y, write) }
}

/// `out += leftᵀ·right`: sums over rows of products of their elements.
pub(crate) fn transposed_product(left: Input<'_>, right: Input<'_>, out: Output<'_>) {
    let inner = left.rows.rows;
    assert_eq!(inner, right.rows.rows, "left and right: as many rows");
    assert_eq!(out.rows.rows, left.rows.width, "out: a row for each column of left");
    assert_eq!(out.rows.width, right.rows.width, "out: a column for each column of right");
    if inner == 0 {
        return;
    }
    // SAFETY: `Input` has checked both factors.
    unsafe {
        multiply(Strided::of(left).transposed(), Strided::of(right), inner, out, Write::Add);
    }
}

/// Adds `bias` to each row, or writes it there.
fn bias_rows(bias: &[f32], y: Output<'_>, write: Write) {
    assert_eq!(bias.len(), y.rows.width, "bias: one per output");
    for_chunks(y.rows.rows, y.rows.width, |range| {
        for row in range {
            // SAFETY: the ranges partition the rows.
            let y = unsafe { y.row(row) };
            match write {
                Write::Overwrite => y.copy_from_slice(bias),
                Write::Add => y.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias),
            }
        }
    });
}

/// Packs a weight if [`forward`] reads a packed copy; gives whether it does.
pub(crate) fn prepare(pool: &Arc<Pool>, weight: Weight<'_, Cpu>) -> bool {
    #[cfg(target_arch = "x86_64")]
    if weight.shape.precision == Precision::Bf16 && bf16::available() {
        weight.prepared.forward(pool, weight.values, weight.shape);
        return true;
    }
    let _ = (pool, weight);
    false
}

/// y (+)= x·Wᵀ (+ bias).
pub(crate) fn forward(
    pool: &Arc<Pool>,
    x: Input<'_>,
    weight: Weight<'_, Cpu>,
    bias: Option<&[f32]>,
    (y, write): (Output<'_>, Write),
) {
    assert_eq!(x.rows.width, weight.shape.inputs, "x: as wide as the weight's inputs");
    assert_eq!(y.rows.width, weight.shape.outputs, "y: as wide as the weight's outputs");
    assert_eq!(x.rows.rows, y.rows.rows, "x and y: as many rows");
    #[cfg(target_arch = "x86_64")]
    if weight.shape.precision == Precision::Bf16 && bf16::available() {
        let right = weight.prepared.forward(pool, weight.values, weight.shape);
        let left = bf16::Left::pack(pool, bf16::Source::Outer(x));
        bf16::products(&left, &[bf16::Part { right, bias, out: y }], write);
        return;
    }
    let order = match weight.shape.layout {
        Layout::OutputsByInputs => Order::OutputsByInner,
        Layout::InputsByOutputs => Order::InnerByOutputs,
    };
    let write = bias.map_or(write, |bias| {
        bias_rows(bias, y, write);
        Write::Add
    });
    product(x, weight.values, order, y, write);
}

/// [`forward`] of the same rows for several weights, into parts of `y`. In bfloat16, the rows are
/// packed once and all products are divided among the threads together.
pub(crate) fn forward_parts(
    pool: &Arc<Pool>,
    x: Input<'_>,
    parts: &[LinearPart<'_, Cpu>],
    y: &mut [f32],
    write: Write,
) {
    let outs = Output::disjoint(y, parts.iter().map(|part| part.y));
    #[cfg(target_arch = "x86_64")]
    if bf16::available() && parts.iter().all(|part| part.weight.shape.precision == Precision::Bf16)
    {
        let left = bf16::Left::pack(pool, bf16::Source::Outer(x));
        let mut products = Vec::with_capacity(parts.len());
        for (LinearPart { weight, bias, .. }, out) in parts.iter().zip(outs) {
            let right = weight.prepared.forward(pool, weight.values, weight.shape);
            products.push(bf16::Part { right, bias: bias.map(|bias| &bias[..]), out });
        }
        bf16::products(&left, &products, write);
        return;
    }
    for (part, out) in parts.iter().zip(outs) {
        forward(pool, x, part.weight, part.bias.map(|bias| &bias[..]), (out, write));
    }
}

/// dx (+)= dy·W.
pub(crate) fn backward_input(
    pool: &Arc<Pool>,
    dy: Input<'_>,
    weight: Weight<'_, Cpu>,
    dx: Output<'_>,
    write: Write,
) {
    assert_eq!(dy.rows.width, weight.shape.outputs, "dy: as wide as the weight's outputs");
    assert_eq!(dx.rows.width, weight.shape.inputs, "dx: as wide as the weight's inputs");
    assert_eq!(dy.rows.rows, dx.rows.rows, "dy and dx: as many rows");
    #[cfg(target_arch = "x86_64")]
    if weight.shape.precision == Precision::Bf16 && bf16::available() {
        let right = weight.prepared.backward(pool, weight.values, weight.shape);
        let left = bf16::Left::pack(pool, bf16::Source::Outer(dy));
        bf16::products(&left, &[bf16::Part { right, bias: None, out: dx }], write);
        return;
    }
    let order = match weight.shape.layout {
        Layout::OutputsByInputs => Order::InnerByOutputs,
        Layout::InputsByOutputs => Order::OutputsByInner,
    };
    product(dy, weight.values, order, dx, write);
}

/// dW += dyᵀ·x, in the weight's layout.
pub(crate) fn backward_weight(
    pool: &Arc<Pool>,
    dy: Input<'_>,
    x: Input<'_>,
    shape: WeightShape,
    dweight: &mut [f32],
) {
    assert_eq!(dweight.len(), shape.inputs * shape.outputs, "dweight: outputs × inputs");
    assert_eq!(dy.rows.rows, x.rows.rows, "dy and x: as many rows");
    let (left, right) = match shape.layout {
        Layout::OutputsByInputs => (dy, x),
        Layout::InputsByOutputs => (x, dy),
    };
    let out = Output::of(dweight, Rows::dense(left.rows.width, right.rows.width));
    #[cfg(target_arch = "x86_64")]
    if shape.precision == Precision::Bf16 && bf16::available() {
        let left = bf16::Left::pack(pool, bf16::Source::Inner(left));
        let right = bf16::Right::pack(pool, bf16::Source::Inner(right));
        bf16::products(&left, &[bf16::Part { right: &right, bias: None, out }], Write::Add);
        return;
    }
    let _ = pool;
    transposed_product(left, right, out);
}

/// dbias += the sum of the rows of dy.
pub(crate) fn sum_rows(dy: View<'_, Buffer>, dbias: &mut Buffer) {
    /// Rows that are summed before they meet the total, so that rounding grows slowly.
    const BLOCK: usize = 64;
    const COLUMNS: usize = 128;
    let dy = Input::new(dy);
    let Rows { rows, width, .. } = dy.rows;
    assert_eq!(dbias.len(), width, "dbias: as wide as dy");
    let dbias = super::rows::Shared::new(dbias);
    for_chunks(width.div_ceil(COLUMNS), rows * COLUMNS, |range| {
        for block in range {
            let columns = block * COLUMNS..(block * COLUMNS + COLUMNS).min(width);
            // SAFETY: the column blocks do not overlap.
            let target = unsafe { dbias.slice(columns.start, columns.len()) };
            for first in (0..rows).step_by(BLOCK) {
                let mut sums = [0.0_f32; COLUMNS];
                for row in first..(first + BLOCK).min(rows) {
                    let values = &dy.row(row)[columns.clone()];
                    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
                }
                target.iter_mut().zip(sums).for_each(|(target, sum)| *target += sum);
            }
        }
    });
}
