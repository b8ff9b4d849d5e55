//! Products of rows with weights.

use super::{Prepared, Values, put, read_as};
use crate::device::{Int8Scales, View, ViewMut, Weight, WeightLayout, WeightShape, Write};

/// Where the element of an output and an input lies.
fn at(shape: WeightShape, output: usize, input: usize) -> usize {
    match shape.layout {
        WeightLayout::OutputsByInputs => output * shape.inputs + input,
        WeightLayout::InputsByOutputs => input * shape.outputs + output,
    }
}

fn element(weight: Weight<'_, Values, Prepared>, output: usize, input: usize) -> f64 {
    read_as(read(weight)[at(weight.shape, output, input)], weight.shape.precision)
}

/// The values that products read, before they are rounded to a precision.
pub(super) fn read(weight: Weight<'_, Values, Prepared>) -> &[f64] {
    weight.prepared.get().map_or(&weight.values.0, |rounded| &rounded.0)
}

/// What products with a weight in eight bits read of a row: of each [`Int8Scales::GROUP`] neighbors the
/// nearest of 255 multiples of a scale, found in f32, so that halves fall to the side to which they fall there.
fn row_rounded_to_int8(row: &[f64]) -> Vec<f64> {
    let mut rounded = Vec::with_capacity(row.len());
    for values in row.chunks(Int8Scales::GROUP) {
        let magnitudes = || values.iter().map(|&value| (value as f32).abs());
        let largest = magnitudes().fold(0.0, f32::max);
        let (scale, factor) = (largest / 127.0, 127.0 / largest);
        let is_finite = magnitudes().all(f32::is_finite);
        rounded.extend(values.iter().map(|&value| match (is_finite, factor.is_finite()) {
            (true, true) => f64::from((value as f32 * factor).round_ties_even()) * f64::from(scale),
            (true, false) => 0.0,
            (false, _) => f64::NAN,
        }));
    }
    rounded
}

/// Each value as the nearest of 255 multiples of a scale, the largest of which is the largest magnitude.
pub(super) fn rounded_to_int8(values: &Values, shape: WeightShape, scales: Int8Scales) -> Values {
    let mut rounded = values.clone();
    let group = scales.group(shape.inputs);
    for output in 0..shape.outputs {
        for first in (0..shape.inputs).step_by(group) {
            let places =
                || (first..(first + group).min(shape.inputs)).map(|i| at(shape, output, i));
            let largest = places().map(|at| values.0[at].abs()).fold(0.0, f64::max);
            let scale = f64::from((largest / 127.0) as f32);
            for at in places().filter(|_| 0.0 < scale) {
                rounded.0[at] = (values.0[at] / scale).round_ties_even() * scale;
            }
        }
    }
    rounded
}

pub(super) fn forward(
    x: View<'_, Values>,
    weight: Weight<'_, Values, Prepared>,
    bias: Option<&Values>,
    y: ViewMut<'_, Values>,
    write: Write,
) {
    let shape = weight.shape;
    let rounded = weight.prepared.get();
    for row in 0..x.rows.rows {
        let inputs = x.buffer.row(x.rows, row);
        if let Some(weight) = rounded {
            let inputs = row_rounded_to_int8(inputs);
            for (output, y) in y.buffer.row_mut(y.rows, row).iter_mut().enumerate() {
                let products =
                    inputs.iter().enumerate().map(|(i, x)| x * weight.0[at(shape, output, i)]);
                put(y, products.sum::<f64>() + bias.map_or(0.0, |bias| bias.0[output]), write);
            }
            continue;
        }
        for (output, y) in y.buffer.row_mut(y.rows, row).iter_mut().enumerate() {
            let products = inputs
                .iter()
                .enumerate()
                .map(|(input, &x)| read_as(x, shape.precision) * element(weight, output, input));
            let sum = products.sum::<f64>() + bias.map_or(0.0, |bias| bias.0[output]);
            put(y, sum, write);
        }
    }
}

pub(super) fn backward_input(
    dy: View<'_, Values>,
    weight: Weight<'_, Values, Prepared>,
    dx: ViewMut<'_, Values>,
    write: Write,
) {
    let shape = weight.shape;
    for row in 0..dy.rows.rows {
        let outputs = dy.buffer.row(dy.rows, row);
        for (input, dx) in dx.buffer.row_mut(dx.rows, row).iter_mut().enumerate() {
            let products = outputs
                .iter()
                .enumerate()
                .map(|(output, &dy)| read_as(dy, shape.precision) * element(weight, output, input));
            put(dx, products.sum(), write);
        }
    }
}

pub(super) fn backward_weight(
    dy: View<'_, Values>,
    x: View<'_, Values>,
    shape: WeightShape,
    dweight: &mut Values,
) {
    for row in 0..dy.rows.rows {
        let inputs = x.buffer.row(x.rows, row);
        for (output, &dy) in dy.buffer.row(dy.rows, row).iter().enumerate() {
            let dy = read_as(dy, shape.precision);
            for (input, &x) in inputs.iter().enumerate() {
                dweight.0[at(shape, output, input)] += dy * read_as(x, shape.precision);
            }
        }
    }
}
