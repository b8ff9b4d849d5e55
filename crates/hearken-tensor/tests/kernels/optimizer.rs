use hearken_tensor::Device;
use hearken_tensor::device::AdamW;

use crate::{all, assert_close, random, wide};

#[test]
fn adamw_follows_its_equations_for_several_steps() {
    let cpu = crate::families::cpu();
    let len = 5003;
    let initial = random(1, len);
    let mut parameter = cpu.upload(&initial);
    let (mut first, mut second) = (cpu.zeros(len), cpu.zeros(len));
    let (mut p, mut m, mut v) = (wide(&initial), vec![0.0; len], vec![0.0; len]);
    for step in 1..=5 {
        let options = AdamW {
            lr: 1e-2 / step as f64,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            step,
            grad_scale: 0.5,
        };
        let grad = random(step + 1, len);
        cpu.adamw(options, &mut parameter, &cpu.upload(&grad), &mut first, &mut second);
        for i in 0..len {
            let g = f64::from(grad[i]) * 0.5;
            p[i] *= 1.0 - options.lr * options.weight_decay;
            m[i] = 0.9 * m[i] + 0.1 * g;
            v[i] = 0.95 * v[i] + 0.05 * g * g;
            let (m_hat, v_hat) = (
                m[i] / (1.0 - 0.9_f64.powi(step as i32)),
                v[i] / (1.0 - 0.95_f64.powi(step as i32)),
            );
            p[i] -= options.lr * m_hat / (v_hat.sqrt() + options.eps);
        }
        assert_close(&all(&cpu, &parameter), &p, 1e-6);
        assert_close(&all(&cpu, &first), &m, 1e-6);
        assert_close(&all(&cpu, &second), &v, 1e-6);
    }
}

#[test]
fn a_parameter_without_gradient_only_decays() {
    let cpu = crate::families::cpu();
    let mut parameter = cpu.upload(&[2.0; 20]);
    let (mut first, mut second) = (cpu.zeros(20), cpu.zeros(20));
    let options = AdamW {
        lr: 0.5,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.5,
        step: 1,
        grad_scale: 1.0,
    };
    cpu.adamw(options, &mut parameter, &cpu.zeros(20), &mut first, &mut second);
    assert_eq!(all(&cpu, &parameter), [1.5; 20]);
}

#[test]
fn sums_of_squares_are_accurate_beyond_the_range_of_f32() {
    let cpu = crate::families::cpu();
    let values = |len| random(1, len).iter().map(|x| x * 1e25).collect::<Vec<f32>>();
    let each = [0, 1, 17, 100_001, 40_000].map(values);
    let buffers = each.each_ref().map(|values| cpu.upload(values));
    let found = cpu.sums_of_squares(buffers.iter().collect());
    for (values, found) in each.iter().zip(found) {
        let expected: f64 = values.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        assert!((found - expected).abs() <= 1e-12 * expected, "{found} {expected}");
        assert_eq!(cpu.sums_of_squares(vec![&cpu.upload(values)]), [found]);
    }
}

#[test]
fn the_first_element_that_is_not_finite_is_found() {
    let cpu = crate::families::cpu();
    let mut values = random(1, 100_000);
    values[5] = f32::MAX;
    let fine = cpu.upload(&values);
    assert_eq!(cpu.first_non_finite(vec![&fine, &fine]), None);
    for (at, value) in [(99_999, f32::NAN), (70_000, f32::INFINITY), (3, f32::NEG_INFINITY)] {
        values[at] = value;
        let bad = cpu.upload(&values);
        assert_eq!(cpu.first_non_finite(vec![&fine, &bad, &bad]), Some((1, at)));
    }
}
