//! Matrix products: in bfloat16 by [`bf16`], else in f32 by [`blocked`], or by [`mod@few_rows`] where those are
//! faster.

use std::ops::Range;
use std::sync::Arc;

use super::bf16;
use super::blocked;
use super::buffer::{Buffer, BufferPool};
use super::few_rows::{self, few_rows};
use super::int8::{self, Int8};
use super::prepared::Prepared;
use super::rows::{Input, Output, Source, for_chunks};
use crate::device::{LinearPart, Precision, Rows, View, Weight, WeightLayout, WeightShape, Write};

/// The order of a weight in memory, seen from a product `y = x·B` with B `[inner, outputs]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WeightOrder {
    /// B itself: an element of x meets consecutive outputs.
    InnerByOutputs,
    /// Bᵀ: an output is the product of two consecutive runs.
    OutputsByInner,
}

impl WeightOrder {
    /// A weight in this order, as a factor.
    fn source(self, weight: &[f32], inner: usize, outputs: usize) -> Source<'_> {
        match self {
            Self::InnerByOutputs => Source::Inner(Input::of(weight, Rows::dense(inner, outputs))),
            Self::OutputsByInner => Source::Outer(Input::of(weight, Rows::dense(outputs, inner))),
        }
    }
}

/// `y (+)= x·B (+ bias)` in f32.
fn product(
    pool: &Arc<BufferPool>,
    x: Input<'_>,
    weight: &[f32],
    order: WeightOrder,
    bias: Option<&[f32]>,
    y: Output<'_>,
    write: Write,
) {
    let (inner, outputs) = (x.rows.width, y.rows.width);
    assert_eq!(x.rows.rows, y.rows.rows, "x and y: as many rows");
    assert_eq!(weight.len(), inner * outputs, "weight: {outputs} × {inner}");
    if few_rows::are_faster(x.rows.rows) {
        let write = bias.map_or(write, |bias| {
            bias_rows(bias, y, write);
            Write::Add
        });
        few_rows(x, weight, order, y, write);
        return;
    }
    let right = order.source(weight, inner, outputs);
    let left = blocked::Left::of(pool, Source::Outer(x));
    blocked::products(&left, &[blocked::RightFactor { right: &right, bias, out: y }], write);
}

/// `out += leftᵀ·right`: sums over rows of products of their elements.
fn transposed_product(pool: &Arc<BufferPool>, left: Input<'_>, right: Input<'_>, out: Output<'_>) {
    let inner = left.rows.rows;
    assert_eq!(inner, right.rows.rows, "left and right: as many rows");
    assert_eq!(out.rows.rows, left.rows.width, "out: a row for each column of left");
    assert_eq!(out.rows.width, right.rows.width, "out: a column for each column of right");
    if inner == 0 {
        return;
    }
    let left = blocked::Left::of(pool, Source::Inner(left));
    let right = Source::Inner(right);
    blocked::products(
        &left,
        &[blocked::RightFactor { right: &right, bias: None, out }],
        Write::Add,
    );
}

/// The order of a weight in a product with its transpose.
fn order(layout: WeightLayout) -> WeightOrder {
    match layout {
        WeightLayout::OutputsByInputs => WeightOrder::OutputsByInner,
        WeightLayout::InputsByOutputs => WeightOrder::InnerByOutputs,
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
pub(crate) fn prepare(pool: &Arc<BufferPool>, weight: Weight<'_, Buffer, Prepared>) -> bool {
    if weight.shape.precision == Precision::Bf16 {
        weight.prepared.forward(pool, weight.values, weight.shape);
        return true;
    }
    false
}

/// The values that products read: those of a packed copy, or the master values.
pub(crate) fn read_weight(
    pool: &Arc<BufferPool>,
    weight: Weight<'_, Buffer, Prepared>,
    out: &mut Buffer,
) {
    let shape = weight.shape;
    assert_eq!(out.len(), shape.inputs * shape.outputs, "out: outputs × inputs");
    if let Some(int8) = weight.prepared.int8() {
        match shape.layout {
            WeightLayout::OutputsByInputs => int8.widen(0..shape.outputs, out),
            WeightLayout::InputsByOutputs => {
                for (input, row) in out.chunks_exact_mut(shape.outputs).enumerate() {
                    for (output, value) in row.iter_mut().enumerate() {
                        *value = int8.value(output, input);
                    }
                }
            }
        }
        if shape.precision == Precision::Bf16 {
            super::rounding::round(out);
        }
        return;
    }
    match shape.precision {
        Precision::Bf16 => weight.prepared.unpack(pool, weight.values, shape, out),
        Precision::F32 => super::vector::copy(weight.values, out),
    }
}

/// Elements of a weight in eight bits that are widened at a time: they stay in a cache until they are read.
const WIDENED: usize = 1 << 18;

/// Calls `work` with the values of some outputs after the other. How many at a time follows from the
/// weight's shape alone, and so do sums over outputs.
fn for_widened(pool: &Arc<BufferPool>, int8: &Int8, mut work: impl FnMut(Range<usize>, &[f32])) {
    let (inputs, outputs) = (int8.inputs(), int8.outputs());
    // Whole panels of a packed factor.
    let step = (WIDENED / inputs.max(1)).next_multiple_of(32).max(32).min(outputs.max(1));
    let mut values = Buffer::scratch(pool, step * inputs);
    for first in (0..outputs).step_by(step) {
        let outputs = first..(first + step).min(outputs);
        let values = &mut values[..outputs.len() * inputs];
        int8.widen(outputs.clone(), values);
        work(outputs, values);
    }
}

/// [`backward_input`] with a weight in eight bits.
fn backward_int8(
    pool: &Arc<BufferPool>,
    dy: Input<'_>,
    int8: &Int8,
    precision: Precision,
    dx: Output<'_>,
    write: Write,
) {
    let mut write = write;
    for_widened(pool, int8, |outputs, values| {
        let dy = dy.columns(outputs.clone());
        match precision {
            Precision::F32 => {
                product(pool, dy, values, WeightOrder::InnerByOutputs, None, dx, write);
            }
            Precision::Bf16 => {
                let rows = Rows::dense(outputs.len(), dx.rows.width);
                let right = bf16::Right::pack(pool, Source::Inner(Input::of(values, rows)));
                let left = bf16::Left::pack(pool, Source::Outer(dy));
                let part = bf16::Bf16Product { right: &right, bias: None, out: dx };
                bf16::products(&left, &[part], write);
            }
        }
        write = Write::Add;
    });
}

/// y (+)= x·Wᵀ (+ bias).
pub(crate) fn forward(
    pool: &Arc<BufferPool>,
    x: Input<'_>,
    weight: Weight<'_, Buffer, Prepared>,
    bias: Option<&[f32]>,
    y: Output<'_>,
    write: Write,
) {
    assert_eq!(x.rows.width, weight.shape.inputs, "x: as wide as the weight's inputs");
    assert_eq!(y.rows.width, weight.shape.outputs, "y: as wide as the weight's outputs");
    assert_eq!(x.rows.rows, y.rows.rows, "x and y: as many rows");
    if let Some(int8) = weight.prepared.int8() {
        let left = int8::Left::pack(pool, x);
        int8::products(&left, &[int8::Int8Product { right: int8, bias, out: y }], write);
        return;
    }
    if weight.shape.precision == Precision::Bf16 {
        let right = weight.prepared.forward(pool, weight.values, weight.shape);
        let left = bf16::Left::pack(pool, Source::Outer(x));
        bf16::products(&left, &[bf16::Bf16Product { right, bias, out: y }], write);
        return;
    }
    let order = order(weight.shape.layout);
    product(pool, x, weight.values, order, bias, y, write);
}

/// [`forward`] of the same rows for several weights, into parts of `y`. Where all are of one kind, the rows
/// are packed once and all products are divided among the threads together.
pub(crate) fn forward_parts(
    pool: &Arc<BufferPool>,
    x: Input<'_>,
    parts: &[LinearPart<'_, Buffer, Prepared>],
    y: &mut [f32],
    write: Write,
) {
    let outs = Output::disjoint(y, parts.iter().map(|part| part.y));
    let is_packed = |part: &LinearPart<'_, Buffer, Prepared>| {
        part.weight.shape.precision == Precision::Bf16 && part.weight.prepared.int8().is_none()
    };
    if parts.iter().all(is_packed) {
        let left = bf16::Left::pack(pool, Source::Outer(x));
        let mut products = Vec::with_capacity(parts.len());
        for (LinearPart { weight, bias, .. }, out) in parts.iter().zip(outs) {
            let right = weight.prepared.forward(pool, weight.values, weight.shape);
            products.push(bf16::Bf16Product { right, bias: bias.map(|bias| &bias[..]), out });
        }
        bf16::products(&left, &products, write);
        return;
    }
    let is_f32 = |part: &LinearPart<'_, Buffer, Prepared>| {
        part.weight.shape.precision == Precision::F32 && part.weight.prepared.int8().is_none()
    };
    if parts.iter().all(is_f32) {
        let left = blocked::Left::of(pool, Source::Outer(x));
        let rights: Vec<Source<'_>> = parts
            .iter()
            .map(|part| {
                let WeightShape { inputs, outputs, layout, .. } = part.weight.shape;
                order(layout).source(part.weight.values, inputs, outputs)
            })
            .collect();
        let mut products = Vec::with_capacity(parts.len());
        for ((part, right), out) in parts.iter().zip(&rights).zip(outs) {
            products.push(blocked::RightFactor {
                right,
                bias: part.bias.map(|bias| &bias[..]),
                out,
            });
        }
        blocked::products(&left, &products, write);
        return;
    }
    if parts.iter().all(|part| part.weight.prepared.int8().is_some()) {
        let left = int8::Left::pack(pool, x);
        let mut products = Vec::with_capacity(parts.len());
        for (LinearPart { weight, bias, .. }, out) in parts.iter().zip(outs) {
            let right = weight.prepared.int8().expect("invariant: all have such a copy");
            products.push(int8::Int8Product { right, bias: bias.map(|bias| &bias[..]), out });
        }
        int8::products(&left, &products, write);
        return;
    }
    for (part, out) in parts.iter().zip(outs) {
        forward(pool, x, part.weight, part.bias.map(|bias| &bias[..]), out, write);
    }
}

/// dx (+)= dy·W.
pub(crate) fn backward_input(
    pool: &Arc<BufferPool>,
    dy: Input<'_>,
    weight: Weight<'_, Buffer, Prepared>,
    dx: Output<'_>,
    write: Write,
) {
    assert_eq!(dy.rows.width, weight.shape.outputs, "dy: as wide as the weight's outputs");
    assert_eq!(dx.rows.width, weight.shape.inputs, "dx: as wide as the weight's inputs");
    assert_eq!(dy.rows.rows, dx.rows.rows, "dy and dx: as many rows");
    if let Some(int8) = weight.prepared.int8() {
        backward_int8(pool, dy, int8, weight.shape.precision, dx, write);
        return;
    }
    if weight.shape.precision == Precision::Bf16 {
        let right = weight.prepared.backward(pool, weight.values, weight.shape);
        let left = bf16::Left::pack(pool, Source::Outer(dy));
        bf16::products(&left, &[bf16::Bf16Product { right, bias: None, out: dx }], write);
        return;
    }
    let order = match weight.shape.layout {
        WeightLayout::OutputsByInputs => WeightOrder::InnerByOutputs,
        WeightLayout::InputsByOutputs => WeightOrder::OutputsByInner,
    };
    product(pool, dy, weight.values, order, None, dx, write);
}

/// dW += dyᵀ·x, in the weight's layout.
pub(crate) fn backward_weight(
    pool: &Arc<BufferPool>,
    dy: Input<'_>,
    x: Input<'_>,
    shape: WeightShape,
    dweight: &mut [f32],
) {
    assert_eq!(dweight.len(), shape.inputs * shape.outputs, "dweight: outputs × inputs");
    assert_eq!(dy.rows.rows, x.rows.rows, "dy and x: as many rows");
    let (left, right) = match shape.layout {
        WeightLayout::OutputsByInputs => (dy, x),
        WeightLayout::InputsByOutputs => (x, dy),
    };
    let out = Output::of(dweight, Rows::dense(left.rows.width, right.rows.width));
    if shape.precision == Precision::Bf16 {
        let left = bf16::Left::pack(pool, Source::Inner(left));
        let right = bf16::Right::pack(pool, Source::Inner(right));
        bf16::products(&left, &[bf16::Bf16Product { right: &right, bias: None, out }], Write::Add);
        return;
    }
    transposed_product(pool, left, right, out);
}

/// dbias += the sum of the rows of dy.
pub(crate) fn sum_rows(dy: View<'_, Buffer>, dbias: &mut Buffer) {
    /// Rows that are summed before they meet the total, so that rounding grows slowly.
    const BLOCK: usize = 64;
    const COLUMNS: usize = 128;
    let dy = Input::new(dy);
    let Rows { rows, width, .. } = dy.rows;
    assert_eq!(dbias.len(), width, "dbias: as wide as dy");
    let dbias = super::rows::SharedElements::new(dbias);
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
