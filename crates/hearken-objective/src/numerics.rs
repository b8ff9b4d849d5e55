//! Logistic functions in forms that neither overflow nor lose small numbers.

/// σ(x) = 1 / (1 + e^{−x}).
///
/// ```
/// use hearken_objective::numerics::sigmoid;
/// assert_eq!(sigmoid(0.0), 0.5);
/// ```
pub fn sigmoid(x: f64) -> f64 {
    if 0.0 <= x {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

/// ln(1 + e^x).
///
/// ```
/// use hearken_objective::numerics::softplus;
/// assert_eq!(softplus(100.0), 100.0);
/// ```
pub fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// ln σ(x) = −ln(1 + e^{−x}). Its derivative is σ(−x).
///
/// ```
/// use hearken_objective::numerics::log_sigmoid;
/// assert_eq!(log_sigmoid(-100.0), -100.0);
/// ```
pub fn log_sigmoid(x: f64) -> f64 {
    -softplus(-x)
}

/// ln(e^a + e^b).
///
/// ```
/// use hearken_objective::numerics::log_add_exp;
/// assert_eq!(log_add_exp(1000.0, 1000.0), 1000.0 + std::f64::consts::LN_2);
/// ```
pub fn log_add_exp(a: f64, b: f64) -> f64 {
    let high = a.max(b);
    if high == f64::NEG_INFINITY { high } else { high + (-(a - b).abs()).exp().ln_1p() }
}

/// ln Σ e^{x_i}; −∞ for an empty slice.
///
/// ```
/// use hearken_objective::numerics::log_sum_exp;
/// assert!((log_sum_exp(&[0.0, 0.0, 0.0]) - 3f64.ln()).abs() < 1e-15);
/// ```
pub fn log_sum_exp(x: &[f64]) -> f64 {
    let high = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if high == f64::NEG_INFINITY {
        return high;
    }
    high + x.iter().map(|x| (x - high).exp()).sum::<f64>().ln()
}

/// ln(1 − e^x) for x < 0: the log-probability of what a log-probability leaves over.
///
/// ```
/// use hearken_objective::numerics::log_one_minus_exp;
/// assert!((log_one_minus_exp(0.25f64.ln()) - 0.75f64.ln()).abs() < 1e-15);
/// ```
pub fn log_one_minus_exp(x: f64) -> f64 {
    // Mächler's rule: below −ln 2 the exponential is the small number, above it the difference is.
    if x < -std::f64::consts::LN_2 { (-x.exp()).ln_1p() } else { (-x.exp_m1()).ln() }
}

/// The smaller of a number and a bound; a NaN stays NaN, where [`f64::min`] would hide it.
///
/// ```
/// use hearken_objective::numerics::at_most;
/// assert_eq!(at_most(3.0, 2.0), 2.0);
/// assert!(at_most(f64::NAN, 2.0).is_nan());
/// ```
pub fn at_most(x: f64, bound: f64) -> f64 {
    if bound < x { bound } else { x }
}

/// The larger of a number and a bound; a NaN stays NaN, where [`f64::max`] would hide it.
///
/// ```
/// use hearken_objective::numerics::at_least;
/// assert_eq!(at_least(-1.0, 0.0), 0.0);
/// assert!(at_least(f64::NAN, 0.0).is_nan());
/// ```
pub fn at_least(x: f64, bound: f64) -> f64 {
    if x < bound { bound } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_difference::{assert_close, assert_gradient};

    #[test]
    fn logistic_functions_survive_arguments_of_one_hundred() {
        assert_eq!(log_sigmoid(-100.0), -100.0);
        assert_close(&[log_sigmoid(100.0) * 1e43], &[-(-100f64).exp() * 1e43], 1e-12);
        assert_eq!(softplus(-1000.0), 0.0);
        assert_eq!(softplus(1000.0), 1000.0);
        assert_close(&[sigmoid(-100.0) * 1e43], &[(-100f64).exp() * 1e43], 1e-12);
        assert_eq!(sigmoid(-1000.0), 0.0);
        assert_eq!(sigmoid(1000.0), 1.0);
    }

    #[test]
    fn sigmoid_and_its_mirror_sum_to_one() {
        for x in [-30.0, -2.0, 0.0, 0.3, 7.0] {
            assert_close(&[sigmoid(x) + sigmoid(-x)], &[1.0], 1e-15);
        }
    }

    #[test]
    fn log_sigmoid_has_the_derivative_sigmoid_of_minus_x() {
        for x in [-5.0, -0.2, 0.0, 3.0] {
            assert_gradient(|x| log_sigmoid(x[0]), &[x], &[sigmoid(-x)]);
        }
    }

    #[test]
    fn sums_of_exponentials_shift_with_their_arguments() {
        assert_close(&[log_sum_exp(&[1000.0, 1001.0])], &[1000.0 + (1.0 + 1f64.exp()).ln()], 1e-15);
        assert_close(&[log_add_exp(-3.0, 1.0)], &[log_sum_exp(&[-3.0, 1.0])], 1e-15);
        assert_eq!(log_sum_exp(&[]), f64::NEG_INFINITY);
        assert_eq!(log_add_exp(f64::NEG_INFINITY, 2.0), 2.0);
        assert_eq!(log_add_exp(f64::NEG_INFINITY, f64::NEG_INFINITY), f64::NEG_INFINITY);
    }

    #[test]
    fn the_complement_of_a_log_probability_keeps_its_digits_at_both_ends() {
        assert_close(&[log_one_minus_exp(-1e-12)], &[1e-12f64.ln()], 1e-12);
        assert_close(&[log_one_minus_exp(-50.0) * 1e21], &[-(-50f64).exp() * 1e21], 1e-12);
    }
}
