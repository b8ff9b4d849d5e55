//! Two-sided tests against a null hypothesis.

use serde::{Deserialize, Serialize};
use statrs::distribution::{Binomial, ChiSquared, ContinuousCDF, Discrete, Normal};

/// The outcome of a test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Significance {
    /// The test statistic: z for normal tests, χ² for likelihood ratios.
    pub statistic: f64,
    /// The probability of a statistic at least as far out if the null hypothesis holds.
    pub p_value: f64,
}

/// Two-sided test of a statistic that is standard normal under the null hypothesis.
///
/// ```
/// let test = hearken_stats::significance::normal(1.959_964);
/// assert!((test.p_value - 0.05).abs() < 1e-7);
/// ```
pub fn normal(z: f64) -> Significance {
    Significance { statistic: z, p_value: 2.0 * Normal::standard().sf(z.abs()) }
}

/// Upper tail of χ² with `degrees` degrees of freedom: likelihood-ratio and deviance tests.
///
/// # Panics
/// If `degrees` is 0.
pub fn chi_squared(statistic: f64, degrees: usize) -> Significance {
    assert!(degrees > 0, "a χ² test needs at least one degree of freedom");
    let distribution = ChiSquared::new(degrees as f64).expect("degrees are positive");
    Significance { statistic, p_value: distribution.sf(statistic.max(0.0)) }
}

/// Exact two-sided binomial test of `hits` out of `n` against a fair coin; the statistic is
/// z = (hits − n/2)/√(n/4). `None` when there is nothing to test.
///
/// # Panics
/// If `hits` exceeds `n`.
///
/// ```
/// // 9 of 10: p = 2·(1 + 10)/2¹⁰.
/// let test = hearken_stats::significance::fair_coin(9, 10).unwrap();
/// assert!((test.p_value - 22.0 / 1024.0).abs() < 1e-12);
/// ```
pub fn fair_coin(hits: u64, n: u64) -> Option<Significance> {
    assert!(hits <= n, "{hits} hits out of {n}");
    if n == 0 {
        return None;
    }
    let half = n as f64 / 2.0;
    let statistic = (hits as f64 - half) / (half / 2.0).sqrt();
    let coin = Binomial::new(0.5, n).expect("0.5 is a probability");
    let tail: f64 = (0..=hits.min(n - hits)).map(|k| coin.pmf(k)).sum();
    Some(Significance { statistic, p_value: (2.0 * tail).min(1.0) })
}
