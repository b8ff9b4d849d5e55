//! Weights in eight bits: how near they are to what was rounded, and products with them, whose rows are
//! rounded, too.

use hearken_tensor::cpu::Prepared;
use hearken_tensor::device::{
    Int8Scales, Precision, Rows, View, ViewMut, Weight, WeightLayout, WeightShape, Write,
};
use hearken_tensor::{Cpu, Device, KernelFamily, Reference};

use crate::random;

const LAYOUTS: [WeightLayout; 2] = [WeightLayout::OutputsByInputs, WeightLayout::InputsByOutputs];
const SCALES: [Int8Scales; 2] = [Int8Scales::PerOutput, Int8Scales::PerGroup];

/// Product, gradient of the input and values of a rounded weight.
fn products<D: Device>(
    device: &D,
    rows: usize,
    shape: WeightShape,
    scales: Int8Scales,
) -> [Vec<f32>; 3] {
    let WeightShape { inputs, outputs, .. } = shape;
    let (values, prepared) = (device.upload(&random(1, inputs * outputs)), D::Prepared::default());
    let weight = Weight { values: &values, prepared: &prepared, shape };
    device.round_to_int8(weight, scales);
    // Only the copy is read.
    let none = device.zeros(0);
    let weight = Weight { values: &none, ..weight };
    let bias = device.upload(&random(2, outputs));
    let (x, dy) =
        (device.upload(&random(3, rows * inputs)), device.upload(&random(4, rows * outputs)));
    let (x_rows, y_rows) = (Rows::dense(rows, inputs), Rows::dense(rows, outputs));
    let mut y = device.upload(&random(5, rows * outputs));
    let to = ViewMut::new(&mut y, y_rows);
    device.linear(View::new(&x, x_rows), weight, Some(&bias), to, Write::Add);
    let mut dx = device.upload(&random(6, rows * inputs));
    let to = ViewMut::new(&mut dx, x_rows);
    device.linear_backward_input(View::new(&dy, y_rows), weight, to, Write::Add);
    let mut read = device.scratch(inputs * outputs);
    device.read_weight(weight, &mut read);
    [&y, &dx, &read].map(|buffer| device.read(buffer).into_owned())
}

/// The large shape is widened in several parts.
#[test]
fn products_with_eight_bits_are_those_of_the_values_that_both_factors_stand_for() {
    let cpu = crate::families::cpu();
    for (inputs, outputs) in [(70, 45), (64, 33), (1, 1), (4100, 150)] {
        for layout in LAYOUTS {
            for scales in SCALES {
                for precision in [Precision::F32, Precision::Bf16] {
                    for rows in if inputs < 1000 { &[1, 9, 40][..] } else { &[2, 34][..] } {
                        let shape = WeightShape { inputs, outputs, layout, precision };
                        let found = products(&cpu, *rows, shape, scales);
                        let expected = products(&Reference, *rows, shape, scales);
                        for (found, expected) in found.iter().zip(&expected) {
                            crate::assert_close(found, &crate::wide(expected), 3e-6);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_value_is_within_half_a_step_of_what_was_rounded() {
    let cpu = Cpu::new();
    let (inputs, outputs) = (200, 6);
    // Every output has a magnitude of its own, and one is nothing but zeros.
    let mut values = random(7, inputs * outputs);
    for (output, row) in values.chunks_exact_mut(inputs).enumerate() {
        for value in row {
            *value *= (output as f32).powi(5);
        }
    }
    for scales in SCALES {
        let shape = WeightShape {
            inputs,
            outputs,
            layout: WeightLayout::OutputsByInputs,
            precision: Precision::F32,
        };
        let (buffer, prepared) = (cpu.upload(&values), Prepared::default());
        let weight = Weight { values: &buffer, prepared: &prepared, shape };
        cpu.round_to_int8(weight, scales);
        let mut read = cpu.scratch(inputs * outputs);
        cpu.read_weight(weight, &mut read);
        for (found, row) in read.chunks_exact(inputs).zip(values.chunks_exact(inputs)) {
            let group = scales.group(inputs);
            for (found, part) in found.chunks(group).zip(row.chunks(group)) {
                let largest = part.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
                for (found, value) in found.iter().zip(part) {
                    assert!((found - value).abs() <= largest / 127.0 * 0.500_01);
                }
            }
        }
    }
}

/// What the sampler and the trainer read is the same.
#[test]
fn with_eight_bits_a_row_alone_gives_the_bits_that_it_gives_among_others() {
    let cpu = crate::families::cpu();
    let shape = WeightShape {
        inputs: 700,
        outputs: 400,
        layout: WeightLayout::OutputsByInputs,
        precision: Precision::F32,
    };
    let (values, prepared) = (cpu.upload(&random(2, 700 * 400)), Prepared::default());
    let weight = Weight { values: &values, prepared: &prepared, shape };
    cpu.round_to_int8(weight, Int8Scales::PerGroup);
    let x = random(1, 29 * 700);
    let product = |first: usize, rows: usize| {
        let x = cpu.upload(&x[first * 700..(first + rows) * 700]);
        let mut y = cpu.upload(&vec![f32::NAN; rows * 400]);
        let to = ViewMut::new(&mut y, Rows::dense(rows, 400));
        cpu.linear(View::new(&x, Rows::dense(rows, 700)), weight, None, to, Write::Overwrite);
        crate::all(&cpu, &y)
    };
    let all = product(0, 29);
    for row in 0..29 {
        assert_eq!(product(row, 1), all[row * 400..(row + 1) * 400]);
    }
    for (first, rows) in [(3, 2), (7, 5), (11, 7), (1, 13), (4, 25)] {
        assert_eq!(product(first, rows), all[first * 400..(first + rows) * 400]);
    }
}

/// Codes and scale of neighbors that share one.
fn rounded(values: &[f32]) -> (Vec<i32>, f32) {
    let largest = values.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    let codes = values.iter().map(|value| (value * (127.0 / largest)).round_ties_even() as i32);
    (codes.collect(), largest / 127.0)
}

/// Whole numbers are summed as such: no family may cut off a sum that is large, and all give the same
/// bits where a multiply-add rounds once.
#[test]
fn the_largest_codes_are_summed_exactly_by_every_family() {
    let cpu = crate::families::cpu();
    let (inputs, outputs, rows) = (150, 40, 13);
    // As large as they can be, of all signs: sums of a block reach 64·127².
    let sign = |i: usize| if (i / 7 + i / inputs).is_multiple_of(3) { -1.0 } else { 1.0 };
    let extremes = |len: usize, factor: f32| (0..len).map(|i| sign(i) * factor).collect::<Vec<_>>();
    for (w, x) in [
        (extremes(inputs * outputs, 0.3), extremes(rows * inputs, 2.0)),
        (extremes(inputs * outputs, 0.3), vec![-2.0; rows * inputs]),
        (random(1, inputs * outputs), random(2, rows * inputs)),
    ] {
        let layout = WeightLayout::OutputsByInputs;
        let shape = WeightShape { inputs, outputs, layout, precision: Precision::F32 };
        let (values, prepared) = (cpu.upload(&w), Prepared::default());
        let weight = Weight { values: &values, prepared: &prepared, shape };
        cpu.round_to_int8(weight, Int8Scales::PerGroup);
        let (x_buffer, mut y) = (cpu.upload(&x), cpu.upload(&vec![f32::NAN; rows * outputs]));
        let to = ViewMut::new(&mut y, Rows::dense(rows, outputs));
        let from = View::new(&x_buffer, Rows::dense(rows, inputs));
        cpu.linear(from, weight, None, to, Write::Overwrite);
        let y = crate::all(&cpu, &y);
        for (row, x) in x.chunks(inputs).enumerate() {
            for (output, w) in w.chunks(inputs).enumerate() {
                let (mut once, mut twice) = (0.0_f32, 0.0_f32);
                for (x, w) in x.chunks(64).zip(w.chunks(64)) {
                    let ((x, x_scale), (w, w_scale)) = (rounded(x), rounded(w));
                    let sum: i32 = x.iter().zip(&w).map(|(x, w)| x * w).sum();
                    once = (sum as f32 * x_scale).mul_add(w_scale, once);
                    twice += sum as f32 * x_scale * w_scale;
                }
                let found = y[row * outputs + output];
                let expected =
                    if KernelFamily::current() == KernelFamily::Portable { twice } else { once };
                assert_eq!(found.to_bits(), expected.to_bits(), "{found}, not {expected}");
            }
        }
    }
}

#[test]
fn a_row_that_is_not_finite_is_so_afterwards_and_no_other_is() {
    let cpu = crate::families::cpu();
    let (inputs, outputs) = (130, 20);
    let layout = WeightLayout::OutputsByInputs;
    let shape = WeightShape { inputs, outputs, layout, precision: Precision::F32 };
    let (values, prepared) = (cpu.upload(&random(1, inputs * outputs)), Prepared::default());
    let weight = Weight { values: &values, prepared: &prepared, shape };
    cpu.round_to_int8(weight, Int8Scales::PerOutput);
    let mut x = random(2, 4 * inputs);
    x[inputs + 70] = f32::NAN;
    x[2 * inputs + 3] = f32::NEG_INFINITY;
    x[3 * inputs..].fill(1e-42);
    let (x, mut y) = (cpu.upload(&x), cpu.zeros(4 * outputs));
    let to = ViewMut::new(&mut y, Rows::dense(4, outputs));
    cpu.linear(View::new(&x, Rows::dense(4, inputs)), weight, None, to, Write::Overwrite);
    let finite: Vec<bool> =
        crate::all(&cpu, &y).chunks(outputs).map(|row| row.iter().all(|y| y.is_finite())).collect();
    assert_eq!(finite, [true, false, false, true]);
}

#[test]
fn what_is_not_finite_stays_so() {
    let cpu = Cpu::new();
    let mut values = random(1, 4 * 128);
    values[130] = f32::INFINITY;
    let shape = WeightShape {
        inputs: 128,
        outputs: 4,
        layout: WeightLayout::OutputsByInputs,
        precision: Precision::F32,
    };
    let (values, prepared) = (cpu.upload(&values), Prepared::default());
    let weight = Weight { values: &values, prepared: &prepared, shape };
    cpu.round_to_int8(weight, Int8Scales::PerGroup);
    let mut read = cpu.scratch(4 * 128);
    cpu.read_weight(weight, &mut read);
    let nan: Vec<usize> = (0..512).filter(|&at| read[at].is_nan()).collect();
    assert_eq!(nan, (128..192).collect::<Vec<_>>());
}
