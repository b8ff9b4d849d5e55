//! Strengths from paired comparisons: Bradley–Terry with ties, order effect and three kinds of interval.
//!
//! ```text
//! P(left) = σ(d)     d = θ_left − θ_right + γ
//! ```
//!
//! Bradley and Terry 1952. γ is the order effect, the advantage of being shown on the left (or of playing at
//! home); [`Ties`] says what a tie is. Strengths θ sum to zero. All models here are concave and fitted by Newton's
//! method to rounding.

mod intervals;
mod likelihood;

pub use intervals::{Intervals, RankBounds, Replicates, bootstrap, rank_bounds};
use serde::{Deserialize, Serialize};

use likelihood::Likelihood;

use crate::IntervalMethod;
use crate::comparison::{Separation, Tally};
use crate::linear::Symmetric;
use crate::newton::{self, NoMaximum};
use crate::significance::{self, Significance};
use crate::ties::Ties;

/// Whether being shown on the left has an effect of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderEffect {
    /// γ = 0.
    Absent,
    /// γ is estimated.
    Estimated,
}

/// What each vote weighs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weighting {
    /// One.
    Equal,
    /// 1/max(votes on the unordered pair, floor): every pair counts the same, however often it was shown.
    InversePropensity {
        /// Pairs with fewer votes than this are not given more weight.
        floor: f64,
    },
}

/// The model to fit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// The model of ties.
    pub ties: Ties,
    /// The order effect.
    pub order_effect: OrderEffect,
    /// The weights of votes.
    pub weighting: Weighting,
    /// Precision of a normal prior with mean 0 on every θ: the log-likelihood loses ridge·Σθ²/2. With 0 the estimate
    /// is the maximum of the likelihood, which need not exist.
    pub ridge: f64,
}

impl Model {
    /// Maximum likelihood, ties as half, no order effect, equal weights.
    pub const PLAIN: Self = Self {
        ties: Ties::Half,
        order_effect: OrderEffect::Absent,
        weighting: Weighting::Equal,
        ridge: 0.0,
    };
}

/// Why a model cannot be fitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FitError {
    /// There is nothing to compare.
    #[error("no comparisons of at least two items")]
    Empty,
    /// The graph of wins is not strongly connected, so some strengths are infinite.
    #[error(
        "the comparisons fall into {} groups with no win from some group over the others; \
         more comparisons or a ridge above 0 make strengths finite",
        components.len()
    )]
    NotConnected {
        /// The strongly connected components.
        components: Vec<Vec<usize>>,
    },
    /// The likelihood keeps rising towards infinite parameters.
    #[error("the likelihood has no maximum: some parameter grows without bound")]
    Unbounded,
    /// Some combination of parameters has no influence on the likelihood.
    #[error("the parameters are not identified by these comparisons")]
    NotIdentified,
}

impl From<NoMaximum> for FitError {
    fn from(reason: NoMaximum) -> Self {
        match reason {
            NoMaximum::Singular => Self::NotIdentified,
            NoMaximum::Unbounded => Self::Unbounded,
        }
    }
}

/// Where the intervals of a [`Fit`] come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Covariance {
    /// H⁻¹, right if the model is.
    Information,
    /// H⁻¹·G·H⁻¹ with G the sum over votes of the outer products of their scores: right for the best fitting model
    /// even if it is not the true one.
    Sandwich,
}

/// A fitted model.
#[derive(Clone, Debug)]
pub struct Fit {
    model: Model,
    items: usize,
    /// θ (sum 0), then γ and t where they are estimated.
    parameters: Vec<f64>,
    tie_parameter: f64,
    information: Symmetric,
    scores: Symmetric,
    votes_on: Vec<f64>,
    votes: f64,
    log_likelihood: f64,
    deviance: Deviance,
    separation: Separation,
}

/// The distance of a fit from the model that gives every ordered pair its own probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deviance {
    /// Twice the difference of the log-likelihoods.
    pub value: f64,
    /// Difference of the numbers of parameters.
    pub degrees: usize,
}

/// Fits `model` to the votes.
///
/// # Errors
/// [`FitError`] if there is no unique finite estimate.
///
/// ```
/// # use hearken_stats::bradley_terry::{Model, fit};
/// # use hearken_stats::comparison::{Comparison, Outcome, Tally};
/// let vote = |outcome, weight| Comparison { left: 0, right: 1, outcome, weight };
/// let tally = Tally::new(2, [vote(Outcome::Left, 3.0), vote(Outcome::Right, 1.0)])?;
/// let fit = fit(&tally, Model::PLAIN)?;
/// assert!((fit.strengths()[0] - 3.0_f64.ln() / 2.0).abs() < 1e-12);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn fit(tally: &Tally, model: Model) -> Result<Fit, FitError> {
    let k = tally.items();
    if k < 2 || tally.pairs().is_empty() {
        return Err(FitError::Empty);
    }
    let separation = tally.separation();
    if model.ridge == 0.0 && separation.components.len() > 1 {
        return Err(FitError::NotConnected { components: separation.components });
    }
    let likelihood = Likelihood::new(tally, model);
    let mut start = vec![0.0; likelihood.parameters()];
    if let Some(t) = likelihood.tie_index {
        start[t] = model.ties.start(likelihood.tie_share);
    }
    let maximum = newton::maximize(start, |x| likelihood.curve(x))?;
    let mut parameters = maximum.at;
    // Rounding lets the strengths drift from their gauge.
    let drift = parameters[..k].iter().sum::<f64>() / k as f64;
    parameters[..k].iter_mut().for_each(|x| *x -= drift);
    let limit = if likelihood.tie_share < 1.0 { model.ties.never() } else { model.ties.always() };
    let tie_parameter = likelihood.tie_index.map_or(limit, |t| parameters[t].exp());
    let (log_likelihood, deviance) = likelihood.deviance(&parameters, tie_parameter);
    Ok(Fit {
        model,
        items: k,
        scores: likelihood.scores(&parameters),
        information: maximum.curve.information,
        parameters,
        tie_parameter,
        votes_on: (0..k).map(|item| tally.votes_on(item)).collect(),
        votes: tally.total(),
        log_likelihood,
        deviance,
        separation,
    })
}

impl Fit {
    /// θ, one per item, summing to zero. For intervals see [`Fit::intervals`].
    pub fn strengths(&self) -> &[f64] {
        &self.parameters[..self.items]
    }

    /// e^θ normalized to sum 1.
    pub fn shares(&self) -> Vec<f64> {
        let largest = self.strengths().iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = self.strengths().iter().map(|x| (x - largest).exp()).collect();
        let total: f64 = weights.iter().sum();
        weights.into_iter().map(|w| w / total).collect()
    }

    /// Probabilities of left, tie and right when `left` is shown against `right`.
    pub fn probabilities(&self, left: usize, right: usize) -> [f64; 3] {
        let gamma = self.order_index().map_or(0.0, |g| self.parameters[g]);
        let d = self.parameters[left] - self.parameters[right] + gamma;
        self.model.ties.probabilities(d, self.tie_parameter)
    }

    /// ν of [`Ties::Davidson`] or η of [`Ties::RaoKupper`]; without ties its limit, 0 or 1, and infinite with nothing else.
    pub fn tie_parameter(&self) -> f64 {
        self.tie_parameter
    }

    /// Log-likelihood of the votes, unweighted and without the ridge.
    pub fn log_likelihood(&self) -> f64 {
        self.log_likelihood
    }

    /// Distance from the saturated model, unweighted.
    pub fn deviance(&self) -> Deviance {
        self.deviance
    }

    /// Likelihood-ratio test of this fit against `smaller`, a special case of its model on the same votes.
    ///
    /// # Panics
    /// If `smaller` has no fewer parameters.
    pub fn likelihood_ratio(&self, smaller: &Self) -> Significance {
        let degrees = self.parameters.len().checked_sub(smaller.parameters.len());
        let degrees = degrees.expect("the smaller model has fewer parameters");
        significance::chi_squared(2.0 * (self.log_likelihood - smaller.log_likelihood), degrees)
    }

    /// Intervals on every quantity of the fit. Where the votes do not bound a strength, and only the ridge keeps it finite, its
    /// interval is unbounded.
    ///
    /// # Panics
    /// Never: the information was positive definite where the fit stopped.
    pub fn intervals(&self, covariance: Covariance) -> Intervals<'_> {
        let inverse = self.information.cholesky().map(|c| c.inverse());
        let inverse = inverse.expect("Newton's method stopped at a positive definite information");
        let (covariance, method) = match covariance {
            Covariance::Information => (inverse, IntervalMethod::Information),
            Covariance::Sandwich => (inverse.sandwich(&self.scores), IntervalMethod::Sandwich),
        };
        // The gauge term 11ᵀ of the information contributes 11ᵀ/k² to its inverse and to nothing else; it cancels in
        // differences and is taken off for single strengths.
        let gauge = match method {
            IntervalMethod::Information if self.model.ridge == 0.0 => (self.items as f64).powi(-2),
            _ => 0.0,
        };
        Intervals { fit: self, covariance, gauge, method }
    }

    fn order_index(&self) -> Option<usize> {
        (self.model.order_effect == OrderEffect::Estimated).then_some(self.items)
    }
}

/// A strength as a chess rating: 400/ln 10 points per unit, 1000 in the middle.
///
/// ```
/// assert_eq!(hearken_stats::bradley_terry::rating(10.0_f64.ln()), 1400.0);
/// ```
pub fn rating(strength: f64) -> f64 {
    400.0 * strength / std::f64::consts::LN_10 + 1000.0
}
