//! Every kernel of the processor against slow references in f64, and its backward pass against
//! central differences of the reference.

mod activations;
mod attention;
mod attention_bits;
mod bf16;
mod cached_attention;
#[path = "../support/families.rs"]
mod families;
mod head;
mod int8;
mod norms;
mod optimizer;
mod products;
mod reference;
mod rotary;
mod threads;
mod vectors;

use hearken_tensor::{Cpu, Device, cpu::Buffer};

/// Values in −1..1 that depend on the seed alone (the generator is Marsaglia's xorshift64).
pub(crate) fn random(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
    };
    (0..4).for_each(|_| {
        next();
    });
    (0..len).map(|_| next()).collect()
}

#[test]
fn kernels_of_every_family_pass_these_tests() {
    families::pass_under_every_family(&[]);
}

pub(crate) fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

pub(crate) fn all(cpu: &Cpu, buffer: &Buffer) -> Vec<f32> {
    let mut values = vec![0.0; cpu.len(buffer)];
    cpu.download(buffer, 0, &mut values);
    values
}

/// Each element within `tolerance` of what is expected, relative to the largest magnitude.
#[track_caller]
pub(crate) fn assert_close(found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "lengths");
    let scale = expected.iter().fold(1e-3_f64, |max, x| max.max(x.abs()));
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - expected).abs();
        assert!(error <= tolerance * scale, "element {i}: {found} instead of {expected}");
    }
}

/// The gradient of `loss` at `at`, by central differences.
pub(crate) fn numeric_gradient(loss: impl Fn(&[f64]) -> f64, at: &[f64]) -> Vec<f64> {
    const STEP: f64 = 1e-5;
    let mut point = at.to_vec();
    let mut gradient = Vec::new();
    for i in 0..at.len() {
        point[i] = at[i] + STEP;
        let above = loss(&point);
        point[i] = at[i] - STEP;
        gradient.push((above - loss(&point)) / (2.0 * STEP));
        point[i] = at[i];
    }
    gradient
}

/// Σ a·b.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
