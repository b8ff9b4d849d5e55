use hearken_tensor::device::Gelu;
use hearken_tensor::reference::Values;
use hearken_tensor::{Device, Reference};

use crate::{all, assert_close, numeric_gradient, random};

fn gelu(kind: Gelu, x: f64) -> f64 {
    let (x, mut y) = (Values(vec![x]), Values(vec![0.0]));
    Reference.gelu(kind, &x, &mut y);
    y.0[0]
}

#[test]
fn gelu_and_its_derivative_over_the_whole_line() {
    let cpu = crate::families::cpu();
    for kind in [Gelu::Tanh, Gelu::Erf] {
        let x: Vec<f32> = (-4000..=4003).map(|i| i as f32 * 0.003).chain([40.0, -40.0]).collect();
        let dy = vec![1.0; x.len()];
        let (input, dy) = (cpu.upload(&x), cpu.upload(&dy));
        let (mut y, mut dx) = (cpu.scratch(x.len()), cpu.scratch(x.len()));
        cpu.gelu(kind, &input, &mut y);
        cpu.gelu_backward(kind, &input, &dy, &mut dx);
        for ((&x, y), dx) in x.iter().zip(all(&cpu, &y)).zip(all(&cpu, &dx)) {
            let x = f64::from(x);
            let slope = (gelu(kind, x + 1e-5) - gelu(kind, x - 1e-5)) / 2e-5;
            let tolerance = 2e-7 * (1.0 + x.abs());
            assert!((f64::from(y) - gelu(kind, x)).abs() < tolerance, "{kind:?}({x}) = {y}");
            assert!((f64::from(dx) - slope).abs() < 2.0 * tolerance, "{kind:?}'({x}) = {dx}");
        }
    }
}

#[test]
fn silu_gated_forward_and_backward() {
    let cpu = crate::families::cpu();
    for (rows, inner) in [(1, 1), (3, 16), (2, 37), (5, 64)] {
        let gate_up: Vec<f32> = random(1, rows * 2 * inner).iter().map(|x| x * 6.0).collect();
        let dy = random(2, rows * inner);
        let forward = |x: &[f64]| {
            let (x, mut y) = (Values(x.to_vec()), Values(vec![0.0; rows * inner]));
            Reference.silu_gated(&x, inner, &mut y);
            y.0
        };
        let (input, mut y) = (cpu.upload(&gate_up), cpu.scratch(rows * inner));
        cpu.silu_gated(&input, inner, &mut y);
        let gate_up = crate::wide(&gate_up);
        assert_close(&all(&cpu, &y), &forward(&gate_up), 1e-6);
        let mut dgate_up = cpu.scratch(rows * 2 * inner);
        cpu.silu_gated_backward(&input, inner, &cpu.upload(&dy), &mut dgate_up);
        let loss = |x: &[f64]| crate::dot(&forward(x), &crate::wide(&dy));
        assert_close(&all(&cpu, &dgate_up), &numeric_gradient(loss, &gate_up), 1e-6);
    }
}
