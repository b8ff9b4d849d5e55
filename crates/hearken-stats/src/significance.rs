//! Two-sided tests against a null hypothesis.

use serde::{Deserialize, Serialize};
use statrs::distribution::{Binomial, ChiSquared, ContinuousCDF, Discrete, DiscreteCDF, Normal};

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

/// Exact one-sided binomial test: the probability of at most `hits` out of `n` if each has probability `p`; the
/// statistic is z = (hits − np)/√(np(1−p)). `None` when there is nothing to test: no trials, or p is 0 or 1.
///
/// # Panics
/// If `hits` exceeds `n` or `p` is not in [0, 1].
///
/// ```
/// // At most 1 of 3 at one half: (1 + 3)/8.
/// let test = hearken_stats::significance::at_most(1, 3, 0.5).unwrap();
/// assert!((test.p_value - 0.5).abs() < 1e-12);
/// ```
pub fn at_most(hits: u64, n: u64, p: f64) -> Option<Significance> {
    assert!(hits <= n, "{hits} hits out of {n}");
    assert!((0.0..=1.0).contains(&p), "{p} is a probability");
    if n == 0 || p <= 0.0 || p >= 1.0 {
        return None;
    }
    let trials = n as f64;
    let statistic = (hits as f64 - trials * p) / (trials * p * (1.0 - p)).sqrt();
    let trial = Binomial::new(p, n).expect("p is a probability");
    Some(Significance { statistic, p_value: trial.cdf(hits).min(1.0) })
}
