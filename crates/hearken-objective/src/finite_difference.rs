//! Central differences: what every analytic derivative is compared with.

/// Derivative of `f` at `x`, one coordinate at a time, by central differences of step 1e-6.
pub(crate) fn central_difference(f: impl Fn(&[f64]) -> f64, x: &[f64]) -> Vec<f64> {
    const STEP: f64 = 1e-6;
    let mut at = x.to_vec();
    (0..x.len())
        .map(|i| {
            at[i] = x[i] + STEP;
            let above = f(&at);
            at[i] = x[i] - STEP;
            let below = f(&at);
            at[i] = x[i];
            (above - below) / (2.0 * STEP)
        })
        .collect()
}

/// Asserts that two vectors agree within `tolerance`, absolutely for small entries and relatively
/// for large ones.
#[track_caller]
pub(crate) fn assert_close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "lengths differ: {found:?} against {expected:?}");
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!(
            (a - b).abs() <= tolerance * (1.0 + b.abs()),
            "entry {i}: found {a}, expected {b}\nfound    {found:?}\nexpected {expected:?}"
        );
    }
}

/// Asserts that `gradient` is the derivative of `f` at `x`.
#[track_caller]
pub(crate) fn assert_gradient(f: impl Fn(&[f64]) -> f64, x: &[f64], gradient: &[f64]) {
    assert_close(gradient, &central_difference(f, x), 2e-6);
}

/// Reproducible numbers in [-1, 1) from a linear congruential generator (Knuth's MMIX constants).
pub(crate) fn uniform(seed: u64, n: usize) -> Vec<f64> {
    let mut state = seed.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(3_037_000_493);
    (0..n)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
        })
        .collect()
}
