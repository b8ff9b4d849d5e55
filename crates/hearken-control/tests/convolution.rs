//! Networks with convolutions: against PyTorch's numbers, against their definition in f64, and its finite differences.

#![allow(clippy::unwrap_used, reason = "tests may panic")]
#![allow(clippy::float_cmp, reason = "the same sums are the same numbers")]

use hearken_control::convolution::{Convolution, fit};
use hearken_control::network::{Down, Network, NetworkShape, Pass, Trunk, WeightDraw};
use hearken_env::ObservationSpace;
use hearken_run::seeds::Seeds;
use hearken_tensor::dense::Nonlinearity;
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    image: [usize; 3],
    more: usize,
    convolutions: Vec<[usize; 3]>,
    hidden: usize,
    outputs: usize,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    activation: String,
    values: Vec<f32>,
    rows: Vec<f32>,
    slopes: Vec<f32>,
    outputs: Vec<f32>,
    gradients: Vec<f32>,
    row_gradients: Vec<f32>,
}

#[track_caller]
fn close(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let gap = (found - expected).abs();
        assert!(gap <= 2e-5 * expected.abs().max(1.0), "{what} {at}: {found}, {expected}");
    }
}

#[test]
fn outputs_and_gradients_are_those_of_pytorch() {
    let text = include_str!("fixtures/convolution.json");
    let fixture: Fixture = serde_json::from_str(text).unwrap();
    let [height, width, channels] = fixture.image;
    let layer = |&[outputs, kernel, stride]: &[usize; 3]| Convolution { outputs, kernel, stride };
    let convolutions: Vec<Convolution> = fixture.convolutions.iter().map(layer).collect();
    for case in &fixture.cases {
        let nonlinearity =
            if case.activation == "tanh" { Nonlinearity::Tanh } else { Nonlinearity::Relu };
        let trunk = Trunk { convolutions: &convolutions, hidden: &[fixture.hidden], nonlinearity };
        let seen = ObservationSpace::Image { channels, height, width };
        let shape = NetworkShape::of(trunk, seen, fixture.more, fixture.outputs);
        let mut rng = Seeds::new(0).stream("weights", 0);
        let mut network = Network::new(&shape, WeightDraw::Uniform, &mut rng);
        network.values_mut().copy_from_slice(&case.values);
        let mut pass = Pass::default();
        // What a pass leaves behind is no part of the next one.
        for _ in 0..2 {
            network.zero_gradients();
            network.forward(&case.rows, &mut pass);
            close("output", pass.output(), &case.outputs);
            pass.doutput().clone_from(&case.slopes);
            network.backward(&case.rows, &mut pass, Down::ToInput);
            close("gradient", network.gradients(), &case.gradients);
            close("derivative of row", pass.dinput(), &case.row_gradients);
        }
        let whole = network.gradients().to_vec();
        network.zero_gradients();
        network.forward(&case.rows, &mut pass);
        pass.doutput().clone_from(&case.slopes);
        network.backward(&case.rows, &mut pass, Down::ToParameters);
        assert_eq!(network.gradients(), whole);
    }
}

const SIDE: [usize; 3] = [6, 7, 2];
const LAYER: Convolution = Convolution { outputs: 3, kernel: 3, stride: 2 };
const PLACES: [usize; 2] = [2, 3];
const MORE: usize = 2;

/// Σ output·slope of one row, as the definition of a convolution and a dense layer reads, in f64.
fn loss(values: &[f64], row: &[f64], slopes: &[f64]) -> f64 {
    let [_, width, channels] = SIDE;
    let Convolution { outputs, kernel, stride } = LAYER;
    let (weight, rest) = values.split_at(kernel * kernel * channels * outputs);
    let (bias, rest) = rest.split_at(outputs);
    let mut features = Vec::new();
    for i in 0..PLACES[0] {
        for j in 0..PLACES[1] {
            for o in 0..outputs {
                let mut sum = bias[o];
                for a in 0..kernel {
                    for b in 0..kernel {
                        for c in 0..channels {
                            let x = row[((i * stride + a) * width + j * stride + b) * channels + c];
                            sum += x * weight[((a * kernel + b) * channels + c) * outputs + o];
                        }
                    }
                }
                features.push(sum.tanh());
            }
        }
    }
    features.extend_from_slice(&row[row.len() - MORE..]);
    let (weight, bias) = rest.split_at(features.len() * slopes.len());
    (0..slopes.len())
        .map(|o| {
            let terms = features.iter().enumerate().map(|(i, x)| x * weight[i * slopes.len() + o]);
            slopes[o] * (bias[o] + terms.sum::<f64>())
        })
        .sum()
}

#[test]
fn gradients_are_those_of_central_differences() {
    const STEP: f64 = 1e-6;
    let [height, width, channels] = SIDE;
    let seen = ObservationSpace::Image { channels, height, width };
    let trunk = Trunk { convolutions: &[LAYER], hidden: &[], nonlinearity: Nonlinearity::Tanh };
    let shape = NetworkShape::of(trunk, seen, MORE, 2);
    let mut rng = Seeds::new(4).stream("weights", 0);
    let mut network = Network::new(&shape, WeightDraw::Uniform, &mut rng);
    let row: Vec<f32> = (0..seen.len() + MORE).map(|i| (i as f32 * 0.7).sin() + 0.1).collect();
    let slopes = [0.8_f32, -1.3];
    let mut pass = Pass::default();
    network.forward(&row, &mut pass);
    *pass.doutput() = slopes.to_vec();
    network.backward(&row, &mut pass, Down::ToInput);
    let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|&x| f64::from(x)).collect() };
    let (values, row, slopes) = (wide(network.values()), wide(&row), wide(&slopes));
    let found: f64 = wide(pass.output()).iter().zip(&slopes).map(|(y, slope)| y * slope).sum();
    assert!((found - loss(&values, &row, &slopes)).abs() < 1e-5);
    let check = |what: &str, found: f32, of: &dyn Fn(f64) -> f64| {
        let numeric = (of(STEP) - of(-STEP)) / (2.0 * STEP);
        assert!((f64::from(found) - numeric).abs() < 1e-5, "{what}: {found}, {numeric}");
    };
    let moved = |of: &[f64], at: usize, by: f64| {
        let mut of = of.to_vec();
        of[at] += by;
        of
    };
    for at in 0..values.len() {
        let of = |by: f64| loss(&moved(&values, at, by), &row, &slopes);
        check("parameter", network.gradients()[at], &of);
    }
    for at in 0..row.len() {
        check("pixel", pass.dinput()[at], &|by| loss(&values, &moved(&row, at, by), &slopes));
    }
}

#[test]
fn convolutions_that_do_not_fit_what_is_seen_are_named() {
    let layer = |kernel: usize| Convolution { outputs: 4, kernel, stride: 2 };
    let seen = ObservationSpace::Image { channels: 1, height: 10, width: 14 };
    assert_eq!(fit(&[layer(4), layer(4)], seen), Ok(()));
    let error = fit(&[layer(4), layer(5)], seen).unwrap_err();
    assert_eq!(error, "found a kernel of 5, expected at most the 4 pixels that are left of a side");
    let error = fit(&[layer(5)], seen).unwrap_err();
    assert!(error.contains("a kernel of 5 every 2, which of a side of 10 leaves 1 out"), "{error}");
    assert!(fit(&[layer(0)], seen).unwrap_err().contains("expected integers from 1"));
    let error = fit(&[layer(2)], ObservationSpace::Vector { length: 4 }).unwrap_err();
    assert!(error.contains("observations of 4 numbers are no images"), "{error}");
}
