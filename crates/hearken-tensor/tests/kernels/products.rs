use hearken_tensor::cpu::Prepared;
use hearken_tensor::device::{
    Precision, Rows, View, ViewMut, Weight, WeightLayout, WeightShape, Write,
};
use hearken_tensor::{Device, KernelFamily};

use crate::{all, assert_close, random};

/// W as [outputs][inputs], whatever its layout.
fn weight_at(weight: &[f32], shape: WeightShape, output: usize, input: usize) -> f64 {
    f64::from(match shape.layout {
        WeightLayout::OutputsByInputs => weight[output * shape.inputs + input],
        WeightLayout::InputsByOutputs => weight[input * shape.outputs + output],
    })
}

fn shapes() -> impl Iterator<Item = (usize, WeightShape)> {
    let sizes = [(5, 7), (16, 16), (33, 70), (129, 65), (64, 600)];
    let layouts = [WeightLayout::OutputsByInputs, WeightLayout::InputsByOutputs];
    sizes.into_iter().flat_map(move |(inputs, outputs)| {
        layouts.into_iter().flat_map(move |layout| {
            [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 21, 40].into_iter().map(move |rows| {
                (rows, WeightShape { inputs, outputs, layout, precision: Precision::F32 })
            })
        })
    })
}

/// Rows inside a wider matrix: columns on both sides must neither be read nor written.
fn strided(rows: usize, width: usize) -> Rows {
    Rows { rows, width, offset: 3, stride: width + 5 }
}

#[test]
fn linear_is_the_product_with_the_transposed_weight() {
    let cpu = crate::families::cpu();
    for (rows, shape) in shapes() {
        for write in [Write::Overwrite, Write::Add] {
            for with_bias in [false, true] {
                let (x_rows, y_rows) = (strided(rows, shape.inputs), strided(rows, shape.outputs));
                let x = random(1, x_rows.end() + 2);
                let weight = random(2, shape.inputs * shape.outputs);
                let bias = random(3, shape.outputs);
                let before = random(4, y_rows.end() + 2);
                let mut expected = crate::wide(&before);
                for r in 0..rows {
                    for o in 0..shape.outputs {
                        let at = y_rows.offset + r * y_rows.stride + o;
                        if write == Write::Overwrite {
                            expected[at] = 0.0;
                        }
                        if with_bias {
                            expected[at] += f64::from(bias[o]);
                        }
                        for i in 0..shape.inputs {
                            let x = x[x_rows.offset + r * x_rows.stride + i];
                            expected[at] += f64::from(x) * weight_at(&weight, shape, o, i);
                        }
                    }
                }
                let (x, values) = (cpu.upload(&x), cpu.upload(&weight));
                let (bias, mut y) = (cpu.upload(&bias), cpu.upload(&before));
                let weight = Weight { values: &values, prepared: &Prepared::default(), shape };
                cpu.linear(
                    View::new(&x, x_rows),
                    weight,
                    with_bias.then_some(&bias),
                    ViewMut::new(&mut y, y_rows),
                    write,
                );
                assert_close(&all(&cpu, &y), &expected, 1e-6);
            }
        }
    }
}

#[test]
fn the_input_gradient_is_the_product_with_the_weight() {
    let cpu = crate::families::cpu();
    for (rows, shape) in shapes() {
        for write in [Write::Overwrite, Write::Add] {
            let (dy_rows, dx_rows) = (strided(rows, shape.outputs), strided(rows, shape.inputs));
            let dy = random(5, dy_rows.end());
            let weight = random(6, shape.inputs * shape.outputs);
            let before = random(7, dx_rows.end());
            let mut expected = crate::wide(&before);
            for r in 0..rows {
                for i in 0..shape.inputs {
                    let at = dx_rows.offset + r * dx_rows.stride + i;
                    if write == Write::Overwrite {
                        expected[at] = 0.0;
                    }
                    for o in 0..shape.outputs {
                        let dy = dy[dy_rows.offset + r * dy_rows.stride + o];
                        expected[at] += f64::from(dy) * weight_at(&weight, shape, o, i);
                    }
                }
            }
            let (dy, values) = (cpu.upload(&dy), cpu.upload(&weight));
            let mut dx = cpu.upload(&before);
            let weight = Weight { values: &values, prepared: &Prepared::default(), shape };
            let dx_view = ViewMut::new(&mut dx, dx_rows);
            cpu.linear_backward_input(View::new(&dy, dy_rows), weight, dx_view, write);
            assert_close(&all(&cpu, &dx), &expected, 1e-6);
        }
    }
}

#[test]
fn weight_and_bias_gradients_are_added_up_over_rows() {
    let cpu = crate::families::cpu();
    for (rows, shape) in shapes() {
        let (dy_rows, x_rows) = (strided(rows, shape.outputs), strided(rows, shape.inputs));
        let (dy, x) = (random(8, dy_rows.end()), random(9, x_rows.end()));
        let before = random(10, shape.inputs * shape.outputs);
        let bias_before = random(11, shape.outputs);
        let mut expected = crate::wide(&before);
        let mut bias_expected = crate::wide(&bias_before);
        for r in 0..rows {
            for o in 0..shape.outputs {
                let dy = f64::from(dy[dy_rows.offset + r * dy_rows.stride + o]);
                bias_expected[o] += dy;
                for i in 0..shape.inputs {
                    let x = f64::from(x[x_rows.offset + r * x_rows.stride + i]);
                    let at = match shape.layout {
                        WeightLayout::OutputsByInputs => o * shape.inputs + i,
                        WeightLayout::InputsByOutputs => i * shape.outputs + o,
                    };
                    expected[at] += dy * x;
                }
            }
        }
        let (dy, x) = (cpu.upload(&dy), cpu.upload(&x));
        let (mut dweight, mut dbias) = (cpu.upload(&before), cpu.upload(&bias_before));
        let dy = View::new(&dy, dy_rows);
        cpu.linear_backward_weight(dy, View::new(&x, x_rows), shape, &mut dweight);
        cpu.sum_rows(dy, &mut dbias);
        assert_close(&all(&cpu, &dweight), &expected, 1e-6);
        assert_close(&all(&cpu, &dbias), &bias_expected, 1e-6);
    }
}

/// Adam would turn noise into steps.
#[test]
fn the_gradient_of_what_no_row_touches_is_exactly_zero() {
    let cpu = crate::families::cpu();
    let (inputs, outputs, rows) = (40, 50, 30);
    let mut dy = random(12, rows * outputs);
    dy.iter_mut().skip(7).step_by(outputs).for_each(|dy| *dy = 0.0);
    let shape = WeightShape {
        inputs,
        outputs,
        layout: WeightLayout::OutputsByInputs,
        precision: Precision::F32,
    };
    let (dy, x) = (cpu.upload(&dy), cpu.upload(&random(13, rows * inputs)));
    let mut dweight = cpu.zeros(inputs * outputs);
    let x = View::new(&x, Rows::dense(rows, inputs));
    cpu.linear_backward_weight(View::new(&dy, Rows::dense(rows, outputs)), x, shape, &mut dweight);
    let dweight = all(&cpu, &dweight);
    for (output, row) in dweight.chunks(inputs).enumerate() {
        assert_eq!(row.iter().all(|&x| x == 0.0), output == 7, "output {output}");
    }
}

/// Panels and tiles are padded, and what lies behind one is another's: 0 times infinity is no number.
#[test]
fn an_infinite_weight_stays_in_its_own_output() {
    let cpu = crate::families::cpu();
    for (inputs, outputs, precision) in [40, 33, 96, 7].into_iter().flat_map(|inputs| {
        [Precision::F32, Precision::Bf16].map(|precision| (inputs, 100, precision))
    }) {
        let shape =
            WeightShape { inputs, outputs, layout: WeightLayout::OutputsByInputs, precision };
        let infinite = [33, 64, 99];
        let mut values = random(21, inputs * outputs);
        for output in infinite {
            values[output * inputs..(output + 1) * inputs].fill(f32::INFINITY);
        }
        let values = cpu.upload(&values);
        for rows in [1, 5, 17, 70] {
            let x = cpu.upload(&vec![1.0; rows * inputs]);
            let mut y = cpu.upload(&vec![f32::NAN; rows * outputs]);
            let weight = Weight { values: &values, prepared: &Prepared::default(), shape };
            let to = ViewMut::new(&mut y, Rows::dense(rows, outputs));
            let x = View::new(&x, Rows::dense(rows, inputs));
            cpu.linear(x, weight, None, to, Write::Overwrite);
            for row in all(&cpu, &y).chunks(outputs) {
                let found: Vec<usize> =
                    (0..outputs).filter(|&output| !row[output].is_finite()).collect();
                assert_eq!(found, infinite, "{rows} rows of {inputs} in {precision:?}");
                assert!(infinite.iter().all(|&output| row[output] == f32::INFINITY));
            }
        }
    }
}

/// What makes log-probabilities of the sampler and of the trainer equal. On processors with AVX-512,
/// products of few rows in f32 have an order of sums of their own.
#[test]
fn in_f32_a_row_alone_gives_the_bits_that_it_gives_among_others() {
    let cpu = crate::families::cpu();
    let of_512 = [KernelFamily::Avx512, KernelFamily::Avx512Bf16, KernelFamily::Amx];
    if of_512.contains(&KernelFamily::current()) {
        return;
    }
    let (inputs, outputs, rows) = (700, 90, 300);
    for layout in [WeightLayout::OutputsByInputs, WeightLayout::InputsByOutputs] {
        let shape = WeightShape { inputs, outputs, layout, precision: Precision::F32 };
        let (x, values) = (random(1, rows * inputs), cpu.upload(&random(2, inputs * outputs)));
        let bias = cpu.upload(&random(3, outputs));
        let weight = Weight { values: &values, prepared: &Prepared::default(), shape };
        let product = |first: usize, rows: usize| {
            let x = cpu.upload(&x[first * inputs..(first + rows) * inputs]);
            let mut y = cpu.upload(&vec![f32::NAN; rows * outputs]);
            let to = ViewMut::new(&mut y, Rows::dense(rows, outputs));
            let x = View::new(&x, Rows::dense(rows, inputs));
            cpu.linear(x, weight, Some(&bias), to, Write::Overwrite);
            all(&cpu, &y)
        };
        let whole = product(0, rows);
        for (first, count) in [(0, 1), (299, 1), (3, 2), (7, 3), (11, 6), (50, 13), (120, 64)] {
            assert_eq!(product(first, count), whole[first * outputs..(first + count) * outputs]);
        }
    }
}
