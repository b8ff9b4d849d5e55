use hearken_tensor::Device;
use hearken_tensor::cpu::Prepared;
use hearken_tensor::device::{
    HeadOptions, Precision, Prediction, PredictionGrad, Rows, View, ViewMut, Weight, WeightLayout,
    WeightShape, Write,
};

use crate::{all, assert_close, random};

/// To the nearest bfloat16, halves to even.
fn rounded(values: &[f32]) -> Vec<f64> {
    let round = |x: f32| {
        let bits = x.to_bits();
        f64::from(f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000))
    };
    values.iter().map(|&x| round(x)).collect()
}

fn shape(inputs: usize, outputs: usize, layout: WeightLayout) -> WeightShape {
    WeightShape { inputs, outputs, layout, precision: Precision::Bf16 }
}

const LAYOUTS: [WeightLayout; 2] = [WeightLayout::OutputsByInputs, WeightLayout::InputsByOutputs];

/// Rows around panels, inner dimensions around pairs, registers and blocks.
fn cases() -> impl Iterator<Item = (usize, WeightShape)> {
    let sizes = [(1, 1), (5, 7), (31, 33), (32, 32), (70, 300), (257, 40), (600, 35)];
    let rows = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 30];
    LAYOUTS.into_iter().flat_map(move |layout| {
        sizes.into_iter().flat_map(move |(inputs, outputs)| {
            rows.into_iter().map(move |rows| (rows, shape(inputs, outputs, layout)))
        })
    })
}

fn strided(rows: usize, width: usize) -> Rows {
    Rows { rows, width, offset: 3, stride: width + 5 }
}

#[test]
fn products_of_rounded_factors_are_summed_in_f32() {
    let cpu = crate::families::cpu();
    for (rows, shape) in cases() {
        let (x_rows, y_rows) = (strided(rows, shape.inputs), strided(rows, shape.outputs));
        let (x, dy) = (random(1, x_rows.end()), random(2, y_rows.end()));
        let (weight, bias) = (random(3, shape.inputs * shape.outputs), random(4, shape.outputs));
        let (x_wide, dy_wide, w_wide) = (rounded(&x), rounded(&dy), rounded(&weight));
        let (mut y, mut dx) = (crate::wide(&dy), crate::wide(&x));
        let dweight_before = random(5, weight.len());
        let mut dweight = crate::wide(&dweight_before);
        for r in 0..rows {
            for o in 0..shape.outputs {
                let y_at = y_rows.offset + r * y_rows.stride + o;
                y[y_at] += f64::from(bias[o]);
                for i in 0..shape.inputs {
                    let x_at = x_rows.offset + r * x_rows.stride + i;
                    let w_at = match shape.layout {
                        WeightLayout::OutputsByInputs => o * shape.inputs + i,
                        WeightLayout::InputsByOutputs => i * shape.outputs + o,
                    };
                    y[y_at] += x_wide[x_at] * w_wide[w_at];
                    dx[x_at] += dy_wide[y_at] * w_wide[w_at];
                    dweight[w_at] += dy_wide[y_at] * x_wide[x_at];
                }
            }
        }
        let (x_buffer, dy_buffer) = (cpu.upload(&x), cpu.upload(&dy));
        let (values, bias) = (cpu.upload(&weight), cpu.upload(&bias));
        let weight = Weight { values: &values, prepared: &Prepared::default(), shape };
        let (x_view, dy_view) = (View::new(&x_buffer, x_rows), View::new(&dy_buffer, y_rows));
        let mut found = cpu.upload(&dy);
        let view = ViewMut::new(&mut found, y_rows);
        cpu.linear(x_view, weight, Some(&bias), view, Write::Add);
        assert_close(&all(&cpu, &found), &y, 2e-6);
        let mut found = cpu.upload(&x);
        cpu.linear_backward_input(dy_view, weight, ViewMut::new(&mut found, x_rows), Write::Add);
        assert_close(&all(&cpu, &found), &dx, 2e-6);
        let mut found = cpu.upload(&dweight_before);
        cpu.linear_backward_weight(dy_view, x_view, shape, &mut found);
        assert_close(&all(&cpu, &found), &dweight, 2e-6);
    }
}

/// What makes log-probabilities of the sampler and of the trainer equal.
#[test]
fn a_row_alone_gives_the_bits_that_it_gives_among_others() {
    let cpu = crate::families::cpu();
    for layout in LAYOUTS {
        let shape = shape(700, 90, layout);
        let (rows, x) = (29, random(1, 29 * 700));
        let values = cpu.upload(&random(2, 700 * 90));
        let bias = cpu.upload(&random(3, 90));
        let weight = Weight { values: &values, prepared: &Prepared::default(), shape };
        let product = |first: usize, rows: usize| {
            let x = cpu.upload(&x[first * 700..(first + rows) * 700]);
            let mut y = cpu.upload(&vec![f32::NAN; rows * 90]);
            cpu.linear(
                View::new(&x, Rows::dense(rows, 700)),
                weight,
                Some(&bias),
                ViewMut::new(&mut y, Rows::dense(rows, 90)),
                Write::Overwrite,
            );
            all(&cpu, &y)
        };
        let whole = product(0, rows);
        for (first, count) in [(0, 1), (28, 1), (3, 2), (7, 8), (11, 13)] {
            assert_eq!(product(first, count), whole[first * 90..(first + count) * 90]);
        }
    }
}

#[test]
fn the_head_is_near_its_f32_self() {
    let cpu = crate::families::cpu();
    let (rows, width, vocabulary) = (40, 64, 500);
    let hidden = cpu.upload(&random(1, rows * width));
    let values = cpu.upload(&random(2, vocabulary * width));
    let predictions: Vec<Prediction> =
        (0..rows as u32).map(|row| Prediction { row, token: row * 3 }).collect();
    let grads = vec![PredictionGrad { logprob: -0.1, entropy: 0.02 }; rows];
    let run = |precision| {
        let shape =
            WeightShape { precision, ..shape(width, vocabulary, WeightLayout::OutputsByInputs) };
        let weight = Weight { values: &values, prepared: &Prepared::default(), shape };
        let (mut dhidden, mut dweight) = (cpu.scratch(rows * width), cpu.zeros(vocabulary * width));
        let options = HeadOptions { chunk_bytes: 10 * 4 * vocabulary, ..HeadOptions::default() };
        let output = cpu.logprob_head_backward(
            &hidden,
            weight,
            &predictions,
            &grads,
            options,
            None,
            &mut dhidden,
            Some(&mut dweight),
        );
        [output.logprobs, all(&cpu, &dhidden), all(&cpu, &dweight)]
    };
    for (found, expected) in run(Precision::Bf16).iter().zip(run(Precision::F32)) {
        assert_close(found, &crate::wide(&expected), 0.02);
    }
}

/// A base that is only read may lose its master values: what is left gives the same products.
#[test]
fn a_copy_without_masters_is_read_back_and_multiplies_both_ways() {
    let cpu = crate::families::cpu();
    for layout in [WeightLayout::OutputsByInputs, WeightLayout::InputsByOutputs] {
        let shape = shape(45, 37, layout);
        let values = cpu.upload(&random(1, 45 * 37));
        let (whole, lone) = (Prepared::default(), Prepared::default());
        let weight = Weight { values: &values, prepared: &whole, shape };
        assert!(cpu.prepare(Weight { prepared: &lone, ..weight }));
        let dropped = cpu.zeros(0);
        let without = Weight { values: &dropped, prepared: &lone, shape };

        let mut read = cpu.zeros(45 * 37);
        cpu.read_weight(without, &mut read);
        for (found, expected) in all(&cpu, &read).iter().zip(rounded(&all(&cpu, &values))) {
            assert_eq!(f64::from(*found), expected);
        }
        let dy = cpu.upload(&random(2, 5 * 37));
        let product = |weight| {
            let mut dx = cpu.zeros(5 * 45);
            let (dy, out) = (View::new(&dy, Rows::dense(5, 37)), Rows::dense(5, 45));
            cpu.linear_backward_input(dy, weight, ViewMut::new(&mut dx, out), Write::Overwrite);
            all(&cpu, &dx)
        };
        assert_eq!(product(without), product(weight));
    }
}
