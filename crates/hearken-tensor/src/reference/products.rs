//! Products of rows with weights.

use super::{Values, put, read_as};
use crate::device::{Layout, View, ViewMut, Weight, WeightShape, Write};

/// Where the element of an output and an input lies.
fn at(shape: WeightShape, output: usize, input: usize) -> usize {
    match shape.layout {
        Layout::OutputsByInputs => output * shape.inputs + input,
        Layout::InputsByOutputs => input * shape.outputs + output,
    }
}

fn element(weight: Weight<'_, Values, ()>, output: usize, input: usize) -> f64 {
    read_as(weight.values.0[at(weight.shape, output, input)], weight.shape.precision)
}

pub(super) fn forward(
    x: View<'_, Values>,
    weight: Weight<'_, Values, ()>,
    bias: Option<&Values>,
    y: ViewMut<'_, Values>,
    write: Write,
) {
    let shape = weight.shape;
    for row in 0..x.rows.rows {
        let inputs = x.buffer.row(x.rows, row);
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
    weight: Weight<'_, Values, ()>,
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
