use hearken_tensor::Device;
use hearken_tensor::device::Gelu;

use crate::{all, assert_close, numeric_gradient, random};

/// erf by its series, in f64; exact to 1e-14 for |x| ≤ 3.5, and 1 − tiny beyond 6.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    // erf x = 2/√π · e^{−x²} Σ 2ⁿ x^{2n+1} / (1·3·…·(2n+1)): all terms of one sign.
    let (mut term, mut sum, mut n) = (x, x, 1.0);
    while term.abs() > 1e-18 * sum.abs() && n < 400.0 {
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
        n += 1.0;
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

fn gelu(kind: Gelu, x: f64) -> f64 {
    match kind {
        Gelu::Erf => 0.5 * x * (1.0 + erf(x / 2.0_f64.sqrt())),
        Gelu::Tanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        }
    }
}

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
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
            let row = |x: &[f64]| {
                let (gate, up) = x.split_at(inner);
                gate.iter().zip(up).map(|(g, u)| silu(*g) * u).collect::<Vec<_>>()
            };
            x.chunks(2 * inner).flat_map(row).collect::<Vec<_>>()
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
