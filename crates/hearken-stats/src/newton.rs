//! Newton's method for concave log-likelihoods.

use crate::linear::Symmetric;

/// A log-likelihood to second order.
pub(crate) struct Curve {
    pub(crate) value: f64,
    pub(crate) gradient: Vec<f64>,
    /// The negative Hessian.
    pub(crate) information: Symmetric,
}

/// Where the maximum is.
pub(crate) struct Maximum {
    pub(crate) at: Vec<f64>,
    pub(crate) curve: Curve,
}

/// Why there is no maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoMaximum {
    /// The information matrix is singular: some direction changes nothing.
    Singular,
    /// The likelihood keeps rising.
    Unbounded,
}

/// Enough for quadratic convergence from anywhere sensible; a likelihood that still rises has no maximum.
const ROUNDS_MAX: usize = 100;
/// Halvings of a step before it is taken to be lost in rounding.
const HALVINGS_MAX: i32 = 50;
/// Newton decrement (twice the log-likelihood still to be gained), relative to the log-likelihood.
const DECREMENT: f64 = 1e-14;
/// Towards a maximum the decrement falls quadratically. Where the likelihood rises towards infinite parameters each
/// step gains 1/e of the one before, and the decrement becomes as small without a maximum.
const FALL_MAX: f64 = 0.01;

/// Maximizes `curve` from `start` by Newton steps, halved until the value does not fall. `curve` returns `None`
/// outside its domain.
pub(crate) fn maximize(
    start: Vec<f64>,
    curve: impl Fn(&[f64]) -> Option<Curve>,
) -> Result<Maximum, NoMaximum> {
    let mut at = start;
    let mut here = curve(&at).ok_or(NoMaximum::Unbounded)?;
    let mut before = f64::INFINITY;
    for _ in 0..ROUNDS_MAX {
        let step = here.information.cholesky().ok_or(NoMaximum::Singular)?.solve(&here.gradient);
        let decrement: f64 = step.iter().zip(&here.gradient).map(|(s, g)| s * g).sum();
        let converged = decrement <= DECREMENT * (1.0 + here.value.abs());
        // Rounding of the sum may make the last, tiny step look like a loss.
        let floor = here.value - 1e-12 * (1.0 + here.value.abs());
        let next = (0..HALVINGS_MAX).find_map(|halvings| {
            let scale = 0.5_f64.powi(halvings);
            let there: Vec<f64> = at.iter().zip(&step).map(|(x, s)| x + scale * s).collect();
            curve(&there).filter(|c| c.value >= floor).map(|c| (there, c))
        });
        let Some((there, c)) = next else { return Err(NoMaximum::Unbounded) };
        (at, here) = (there, c);
        if converged {
            let falling = decrement <= FALL_MAX * before;
            return if falling {
                Ok(Maximum { at, curve: here })
            } else {
                Err(NoMaximum::Unbounded)
            };
        }
        before = decrement;
    }
    Err(NoMaximum::Unbounded)
}
