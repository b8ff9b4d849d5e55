use hearken_tensor::device::{Activation, Gate, Gelu};
use hearken_tensor::reference::Values;
use hearken_tensor::{Device, Reference};

use crate::{all, assert_close, numeric_gradient, random};

fn reference(activation: Activation, x: f64) -> f64 {
    let (x, mut y) = (Values(vec![x]), Values(vec![0.0]));
    Reference.activation(activation, &x, &mut y);
    y.0[0]
}

#[test]
fn activations_and_their_derivatives_over_the_whole_line() {
    let cpu = crate::families::cpu();
    let gelus = [Gelu::Tanh, Gelu::Erf].map(Activation::Gelu);
    for kind in gelus.into_iter().chain([Activation::Tanh, Activation::Relu]) {
        let x: Vec<f32> =
            (-4000..=4003).map(|i| (i as f32 + 0.5) * 0.003).chain([40.0, -40.0]).collect();
        let dy = vec![1.0; x.len()];
        let (input, dy) = (cpu.upload(&x), cpu.upload(&dy));
        let (mut y, mut dx) = (cpu.scratch(x.len()), cpu.scratch(x.len()));
        cpu.activation(kind, &input, &mut y);
        cpu.activation_backward(kind, &input, &dy, &mut dx);
        let slow = Reference.upload(&x);
        let mut derived = Reference.scratch(x.len());
        Reference.activation_backward(kind, &slow, &Values(vec![1.0; x.len()]), &mut derived);
        let found = x.iter().zip(all(&cpu, &y)).zip(all(&cpu, &dx)).zip(&derived.0);
        for (((&x, y), dx), derived) in found {
            let x = f64::from(x);
            let slope = (reference(kind, x + 1e-5) - reference(kind, x - 1e-5)) / 2e-5;
            let (expected, tolerance) = (reference(kind, x), 2e-7 * (1.0 + x.abs()));
            assert!((f64::from(y) - expected).abs() < tolerance, "{kind:?}({x}) = {y}");
            assert!((f64::from(dx) - slope).abs() < 2.0 * tolerance, "{kind:?}'({x}) = {dx}");
            assert!((derived - slope).abs() < 1e-8, "{kind:?}'({x}) = {derived}");
        }
    }
}

/// Where 2σ(2x) − 1 would be all rounding.
#[test]
fn small_numbers_keep_their_digits_in_tanh() {
    let cpu = crate::families::cpu();
    let x: Vec<f32> = (-60_i32..60)
        .map(|i| 1.5_f32.powi(i.abs() - 59) * if i < 0 { -0.5 } else { 0.5 })
        .collect();
    let mut y = cpu.scratch(x.len());
    cpu.activation(Activation::Tanh, &cpu.upload(&x), &mut y);
    for (x, y) in x.iter().zip(all(&cpu, &y)) {
        let expected = f64::from(*x).tanh();
        assert!((f64::from(y) / expected - 1.0).abs() < 2e-6, "tanh({x}) = {y}");
    }
}

#[test]
fn gated_parts_forward_and_backward() {
    for gate in [Gate::Silu, Gate::Gelu(Gelu::Tanh), Gate::Gelu(Gelu::Erf)] {
        for (rows, inner) in [(1, 1), (3, 16), (2, 37), (5, 64)] {
            check_gated(gate, rows, inner);
        }
    }
}

fn check_gated(gate: Gate, rows: usize, inner: usize) {
    let cpu = crate::families::cpu();
    let gate_up: Vec<f32> = random(1, rows * 2 * inner).iter().map(|x| x * 6.0).collect();
    let dy = random(2, rows * inner);
    let forward = |x: &[f64]| {
        let (x, mut y) = (Values(x.to_vec()), Values(vec![0.0; rows * inner]));
        Reference.gated(gate, &x, inner, &mut y);
        y.0
    };
    let (input, mut y) = (cpu.upload(&gate_up), cpu.scratch(rows * inner));
    cpu.gated(gate, &input, inner, &mut y);
    let gate_up = crate::wide(&gate_up);
    assert_close(&all(&cpu, &y), &forward(&gate_up), 1e-6);
    let mut dgate_up = cpu.scratch(rows * 2 * inner);
    cpu.gated_backward(gate, &input, inner, &cpu.upload(&dy), &mut dgate_up);
    let loss = |x: &[f64]| crate::dot(&forward(x), &crate::wide(&dy));
    let numeric = numeric_gradient(loss, &gate_up);
    let tolerance = if gate == Gate::Silu { 1e-6 } else { 3e-6 };
    assert_close(&all(&cpu, &dgate_up), &numeric, tolerance);
    let (gate_up, mut derived) = (Values(gate_up), Reference.scratch(rows * 2 * inner));
    Reference.gated_backward(gate, &gate_up, inner, &Reference.upload(&dy), &mut derived);
    let derived: Vec<f32> = derived.0.iter().map(|&x| x as f32).collect();
    assert_close(&derived, &numeric, 1e-6);
}

#[test]
fn what_is_bounded_stays_within_its_cap_and_small_numbers_stay_themselves() {
    let cpu = crate::families::cpu();
    let x: Vec<f32> = (-2000..=2003).map(|i| (i as f32 + 0.5) * 0.1).chain([1e30, -1e30]).collect();
    for cap in [0.5, 30.0, 50.0] {
        let mut bounded = cpu.upload(&x);
        cpu.softcap(cap, &mut bounded);
        for (&x, y) in x.iter().zip(all(&cpu, &bounded)) {
            let expected = f64::from(cap) * (f64::from(x) / f64::from(cap)).tanh();
            assert!((f64::from(y) - expected).abs() < 3e-7 * f64::from(cap), "{cap}, {x}: {y}");
            assert!(y.abs() <= cap);
        }
    }
    let mut small = cpu.upload(&[1e-6, -3e-5]);
    cpu.softcap(30.0, &mut small);
    for (y, x) in all(&cpu, &small).iter().zip([1e-6_f32, -3e-5]) {
        assert!((y / x - 1.0).abs() < 1e-6, "{y}, {x}");
    }
}
