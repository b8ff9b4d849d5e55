//! How a difference of strengths becomes the probabilities of left, tie and right.

use serde::{Deserialize, Serialize};

use crate::comparison::Outcome;

/// The model of ties.
///
/// With d the difference of strengths (plus the order effect, if any) and p = e^θ for either side:
///
/// ```text
/// Half:       P(left) = σ(d)                  P(tie) = 0
/// Davidson:   P(left) = p_left/Z              P(tie) = ν√(p_left·p_right)/Z     Z makes the sum 1
/// Rao–Kupper: P(left) = p_left/(p_left + η·p_right), P(right) the same with sides exchanged
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ties {
    /// A tie is half a win for either side; the parameter is unused.
    Half,
    /// Davidson 1970; the parameter is ν ≥ 0.
    Davidson,
    /// Rao and Kupper 1967; the parameter is η ≥ 1.
    RaoKupper,
}

/// The log-likelihood of an outcome with its derivatives with respect to d and to t, the logarithm of the tie
/// parameter; second derivatives are negated.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Term {
    pub(crate) value: f64,
    pub(crate) by_d: f64,
    pub(crate) by_t: f64,
    pub(crate) dd: f64,
    pub(crate) dt: f64,
    pub(crate) tt: f64,
}

impl Ties {
    /// Probabilities of left, tie and right at difference `d` and tie parameter `parameter`.
    ///
    /// ```
    /// # use hearken_stats::ties::Ties;
    /// assert_eq!(Ties::Davidson.probabilities(0.0, 2.0), [0.25, 0.5, 0.25]);
    /// assert_eq!(Ties::RaoKupper.probabilities(0.0, 3.0), [0.25, 0.5, 0.25]);
    /// assert_eq!(Ties::Half.probabilities(0.0, 1.0), [0.5, 0.0, 0.5]);
    /// ```
    pub fn probabilities(self, d: f64, parameter: f64) -> [f64; 3] {
        match self {
            Self::Half => [sigmoid(d), 0.0, sigmoid(-d)],
            Self::Davidson => davidson(d, parameter),
            Self::RaoKupper => {
                let t = parameter.ln();
                let (left, right) = (sigmoid(d - t), sigmoid(-d - t));
                [left, (parameter * parameter - 1.0) * left * right, right]
            }
        }
    }

    /// [`Term`] of one vote; `None` if t is outside its domain.
    pub(crate) fn term(self, outcome: Outcome, d: f64, t: f64) -> Option<Term> {
        match self {
            Self::Half => Some(half_term(outcome, d)),
            Self::Davidson => Some(davidson_term(outcome, d, t)),
            Self::RaoKupper => (t > 0.0).then(|| rao_kupper_term(outcome, d, t)),
        }
    }

    /// t at which the share of ties between equals is `share`, in (0, 1).
    pub(crate) fn start(self, share: f64) -> f64 {
        match self {
            Self::Half => 0.0,
            Self::Davidson => (2.0 * share / (1.0 - share)).ln(),
            Self::RaoKupper => ((1.0 + share) / (1.0 - share)).ln(),
        }
    }

    /// The tie parameter under which nothing but ties happens.
    pub(crate) fn always(self) -> f64 {
        match self {
            Self::Half => self.never(),
            Self::Davidson | Self::RaoKupper => f64::INFINITY,
        }
    }

    /// The tie parameter under which ties never happen.
    pub(crate) fn never(self) -> f64 {
        match self {
            Self::Half | Self::Davidson => 0.0,
            Self::RaoKupper => 1.0,
        }
    }
}

/// σ(x) without overflow.
pub(crate) fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

/// log σ(x) without cancellation.
pub(crate) fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

fn half_term(outcome: Outcome, d: f64) -> Term {
    let p = sigmoid(d);
    let (value, target) = match outcome {
        Outcome::Left => (log_sigmoid(d), 1.0),
        Outcome::Tie => (f64::midpoint(log_sigmoid(d), log_sigmoid(-d)), 0.5),
        Outcome::Right => (log_sigmoid(-d), 0.0),
    };
    Term { value, by_d: target - p, dd: p * (1.0 - p), ..Term::default() }
}

/// Softmax of (d/2, ln ν, −d/2).
fn davidson(d: f64, nu: f64) -> [f64; 3] {
    let shift = d.abs() / 2.0;
    let weights = [(d / 2.0 - shift).exp(), nu * (-shift).exp(), (-d / 2.0 - shift).exp()];
    let total: f64 = weights.iter().sum();
    weights.map(|w| w / total)
}

fn davidson_term(outcome: Outcome, d: f64, t: f64) -> Term {
    let [left, tie, right] = davidson(d, t.exp());
    let shift = d.abs() / 2.0;
    let log_total = shift + (1.0 + (-d.abs()).exp() + (t - shift).exp()).ln();
    let (logit, feature_d, feature_t) = match outcome {
        Outcome::Left => (d / 2.0, 0.5, 0.0),
        Outcome::Tie => (t, 0.0, 1.0),
        Outcome::Right => (-d / 2.0, -0.5, 0.0),
    };
    let mean_d = (left - right) / 2.0;
    Term {
        value: logit - log_total,
        by_d: feature_d - mean_d,
        by_t: feature_t - tie,
        dd: (left + right) / 4.0 - mean_d * mean_d,
        dt: -mean_d * tie,
        tt: tie * (1.0 - tie),
    }
}

fn rao_kupper_term(outcome: Outcome, d: f64, t: f64) -> Term {
    let (miss_left, miss_right) = (sigmoid(t - d), sigmoid(t + d));
    let (bend_left, bend_right) = (miss_left * (1.0 - miss_left), miss_right * (1.0 - miss_right));
    let left = Term {
        value: log_sigmoid(d - t),
        by_d: miss_left,
        by_t: -miss_left,
        dd: bend_left,
        dt: -bend_left,
        tt: bend_left,
    };
    let right = Term {
        value: log_sigmoid(-d - t),
        by_d: -miss_right,
        by_t: -miss_right,
        dd: bend_right,
        dt: bend_right,
        tt: bend_right,
    };
    match outcome {
        Outcome::Left => left,
        Outcome::Right => right,
        Outcome::Tie => {
            // P(tie) = (η² − 1)·P(left)·P(right), η = e^t.
            let rest = -(-2.0 * t).exp_m1();
            Term {
                value: left.value + right.value + 2.0 * t + rest.ln(),
                by_d: left.by_d + right.by_d,
                by_t: left.by_t + right.by_t + 2.0 / rest,
                dd: left.dd + right.dd,
                dt: left.dt + right.dt,
                tt: left.tt + right.tt + 4.0 * (-2.0 * t).exp() / (rest * rest),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTCOMES: [Outcome; 3] = [Outcome::Left, Outcome::Tie, Outcome::Right];

    #[test]
    fn derivatives_are_those_of_the_log_probability() {
        let h = 1e-5;
        for model in [Ties::Davidson, Ties::RaoKupper] {
            for outcome in OUTCOMES {
                let at = |d, t| model.term(outcome, d, t).unwrap();
                let (d, t) = (0.7, 0.4);
                let here = at(d, t);
                let probability = model.probabilities(d, t.exp())[outcome as usize];
                assert!((here.value - probability.ln()).abs() < 1e-12);
                let slope = |high: f64, low: f64| (high - low) / (2.0 * h);
                let (right, left) = (at(d + h, t), at(d - h, t));
                let (above, below) = (at(d, t + h), at(d, t - h));
                assert!((here.by_d - slope(right.value, left.value)).abs() < 1e-9);
                assert!((here.by_t - slope(above.value, below.value)).abs() < 1e-9);
                assert!((here.dd + slope(right.by_d, left.by_d)).abs() < 1e-9);
                assert!((here.dt + slope(above.by_d, below.by_d)).abs() < 1e-9);
                assert!((here.tt + slope(above.by_t, below.by_t)).abs() < 1e-8);
            }
        }
    }

    #[test]
    fn probabilities_sum_to_one_even_far_out() {
        for d in [-500.0, -3.0, 0.0, 40.0] {
            for (model, parameter) in
                [(Ties::Half, 1.0), (Ties::Davidson, 0.3), (Ties::RaoKupper, 1.4)]
            {
                let total: f64 = model.probabilities(d, parameter).iter().sum();
                assert!((total - 1.0).abs() < 1e-12, "{model:?} at {d}: {total}");
            }
        }
    }
}
