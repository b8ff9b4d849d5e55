//! Strengths beside covariates of the comparison: whether a model wins because of what it says or of how it says it.
//!
//! ```text
//! P(left) = σ(θ_left − θ_right + xᵀβ)
//! log L = Σ w·(y·log P + (1 − y)·log(1 − P)) − strengths·‖θ‖²/2 − covariates·‖β‖²/2
//! ```
//!
//! The leaderboard of LMArena controls for style in this way ("Does style matter?", 2024): each covariate is
//! (a − b)/(a + b + 1) for a count a on the left and b on the right ([`normalized_difference`]), standardized over all votes
//! ([`standardize`]), and the penalty is half the squared norm of ratings in units of ln 10 and of β ([`Penalty::LMARENA`]).

use crate::bradley_terry::{Covariance, FitError};
use crate::comparison::{Comparison, Outcome, Separation, Tally};
use crate::linear::Symmetric;
use crate::newton::{self, Curve};
use crate::significance::{self, Significance};
use crate::ties::{log_sigmoid, sigmoid};
use crate::{Estimate, IntervalMethod};

/// One vote, or several on the same two things, with its covariates.
#[derive(Clone, Debug, PartialEq)]
pub struct StyledVote {
    /// The item on the left.
    pub left: usize,
    /// The item on the right.
    pub right: usize,
    /// x, the same length in every vote; left against right.
    pub covariates: Vec<f64>,
    /// y in [0, 1]: 1 for left, ½ for a tie.
    pub outcome: f64,
    /// w, not negative. A row is one observation for the sandwich.
    pub weight: f64,
}

/// Precisions of the normal priors with mean 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Penalty {
    /// On every θ. With 0 strengths need not be finite.
    pub strengths: f64,
    /// On every β.
    pub covariates: f64,
}

impl Penalty {
    /// Half the squared norm of (θ/ln 10, β) in all.
    pub const LMARENA: Self = Self {
        strengths: 1.0 / (std::f64::consts::LN_10 * std::f64::consts::LN_10),
        covariates: 1.0,
    };
}

/// A fitted model.
#[derive(Clone, Debug)]
pub struct Styled {
    items: usize,
    /// Whether the sum of strengths is pinned, because no penalty does it.
    pinned: bool,
    parameters: Vec<f64>,
    inverse: Symmetric,
    scores: Symmetric,
    votes_on: Vec<f64>,
    votes: f64,
    separation: Separation,
}

/// (a − b)/(a + b + 1), LMArena's scale-free difference of two counts.
///
/// ```
/// assert_eq!(hearken_stats::style::normalized_difference(3.0, 0.0), 0.75);
/// ```
pub fn normalized_difference(a: f64, b: f64) -> f64 {
    (a - b) / (a + b + 1.0)
}

/// Shifts and scales each column in place to mean 0 and population standard deviation 1; a constant column becomes 0.
///
/// ```
/// # use hearken_stats::style::{StyledVote, standardize};
/// let vote = |x| StyledVote { left: 0, right: 1, covariates: vec![x, 7.0], outcome: 1.0, weight: 1.0 };
/// let mut votes = [vote(1.0), vote(3.0)];
/// standardize(&mut votes);
/// assert_eq!(votes[1].covariates, [1.0, 0.0]);
/// ```
pub fn standardize(votes: &mut [StyledVote]) {
    let total: f64 = votes.iter().map(|v| v.weight).sum();
    for column in 0..votes.first().map_or(0, |v| v.covariates.len()) {
        let mean = votes.iter().map(|v| v.weight * v.covariates[column]).sum::<f64>() / total;
        let square = |v: &StyledVote| v.weight * (v.covariates[column] - mean).powi(2);
        let deviation = (votes.iter().map(square).sum::<f64>() / total).sqrt();
        for vote in &mut *votes {
            let centered = vote.covariates[column] - mean;
            // A spread within rounding of the mean is none.
            let varies = deviation > 1e-12 * (1.0 + mean.abs());
            vote.covariates[column] = if varies { centered / deviation } else { 0.0 };
        }
    }
}

/// Fits by Newton's method; a vote touches two strengths and its covariates, whatever the number of items.
///
/// # Errors
/// [`FitError::Empty`] without votes, [`FitError::NotIdentified`] or [`FitError::Unbounded`] where the penalty leaves the
/// estimate undetermined.
///
/// # Panics
/// If votes differ in the number of covariates or name an item that does not exist.
pub fn fit(items: usize, votes: &[StyledVote], penalty: Penalty) -> Result<Styled, FitError> {
    let covariates = votes.first().ok_or(FitError::Empty)?.covariates.len();
    assert!(
        votes.iter().all(|v| v.covariates.len() == covariates && v.left.max(v.right) < items),
        "every vote is on two of {items} items and has {covariates} covariates"
    );
    let start = vec![0.0; items + covariates];
    let maximum = newton::maximize(start, |x| Some(curve(items, votes, penalty, x)))?;
    let inverse = maximum.curve.information.cholesky().ok_or(FitError::NotIdentified)?.inverse();
    let mut votes_on = vec![0.0; items];
    for vote in votes {
        votes_on[vote.left] += vote.weight;
        votes_on[vote.right] += vote.weight;
    }
    Ok(Styled {
        items,
        pinned: penalty.strengths == 0.0,
        scores: scores(items, votes, &maximum.at),
        parameters: maximum.at,
        inverse,
        votes: votes.iter().map(|v| v.weight).sum(),
        votes_on,
        separation: separation(items, votes),
    })
}

/// Which strengths the votes bound, whatever the penalty.
fn separation(items: usize, votes: &[StyledVote]) -> Separation {
    let sides = |v: &StyledVote| {
        [(Outcome::Left, v.outcome), (Outcome::Right, 1.0 - v.outcome)].map(|(outcome, share)| {
            Comparison { left: v.left, right: v.right, outcome, weight: v.weight * share }
        })
    };
    let between = votes.iter().filter(|v| v.left != v.right).flat_map(sides);
    Tally::new(items, between).expect("votes between items that exist").separation()
}

impl Styled {
    /// θ of every item; they sum to 0, and `n` is the number of votes on the item. Unbounded where the votes alone would leave it
    /// infinite and only the penalty does not.
    pub fn strengths(&self, covariance: Covariance) -> Vec<Estimate> {
        self.estimates(covariance, 0..self.items, |i| self.votes_on[i])
    }

    /// β: the log-odds that one standard deviation of a covariate is worth.
    pub fn effects(&self, covariance: Covariance) -> Vec<Estimate> {
        self.estimates(covariance, self.items..self.parameters.len(), |_| self.votes)
    }

    /// Wald tests of β against 0; a covariate that never varies has none.
    pub fn effect_tests(&self, covariance: Covariance) -> Vec<Option<Significance>> {
        let test = |e: Estimate| {
            let error = e.half_width() / crate::estimate::Z;
            let tested = e.value != 0.0 && error.is_finite();
            tested.then(|| significance::normal(e.value / error))
        };
        self.effects(covariance).into_iter().map(test).collect()
    }

    fn estimates(
        &self,
        covariance: Covariance,
        range: std::ops::Range<usize>,
        n: impl Fn(usize) -> f64,
    ) -> Vec<Estimate> {
        let (matrix, method) = match covariance {
            Covariance::Information => (self.inverse.clone(), IntervalMethod::Information),
            Covariance::Sandwich => (self.inverse.sandwich(&self.scores), IntervalMethod::Sandwich),
        };
        // The pinned sum contributes 11ᵀ/k² to the inverse of the information and nothing to the sandwich.
        let pinned = match covariance {
            Covariance::Information if self.pinned => (self.items as f64).powi(-2),
            _ => 0.0,
        };
        let estimate = |i: usize| {
            let gauge = if i < self.items { pinned } else { 0.0 };
            let bounded = i >= self.items || self.separation.bounds(i);
            let variance = if bounded { matrix.at(i, i) - gauge } else { 0.0 };
            let error = variance.max(0.0).sqrt();
            Estimate::symmetric(self.parameters[i], error, n(i).round() as usize, method)
        };
        range.map(estimate).collect()
    }
}

/// d and its derivative.
fn position(items: usize, vote: &StyledVote, x: &[f64]) -> (f64, Vec<(usize, f64)>) {
    let mut direction = vec![(vote.left, 1.0), (vote.right, -1.0)];
    direction.extend(vote.covariates.iter().enumerate().map(|(j, &c)| (items + j, c)));
    (direction.iter().map(|&(i, c)| c * x[i]).sum(), direction)
}

fn curve(items: usize, votes: &[StyledVote], penalty: Penalty, x: &[f64]) -> Curve {
    let mut value = 0.0;
    let mut gradient = vec![0.0; x.len()];
    let mut information = Symmetric::zeros(x.len());
    for vote in votes {
        let (d, direction) = position(items, vote, x);
        let (p, y) = (sigmoid(d), vote.outcome);
        value += vote.weight * (y * log_sigmoid(d) + (1.0 - y) * log_sigmoid(-d));
        for &(i, c) in &direction {
            gradient[i] += vote.weight * (y - p) * c;
        }
        information.add_outer(&direction, vote.weight * p * (1.0 - p));
    }
    for i in 0..x.len() {
        let precision = if i < items { penalty.strengths } else { penalty.covariates };
        value -= precision * x[i] * x[i] / 2.0;
        gradient[i] -= precision * x[i];
        information.add(i, i, precision);
    }
    if penalty.strengths == 0.0 {
        // Adding a constant to all strengths changes nothing: pin their sum.
        for i in 0..items {
            for j in 0..items {
                information.add(i, j, 1.0);
            }
        }
    }
    Curve { value, gradient, information }
}

fn scores(items: usize, votes: &[StyledVote], x: &[f64]) -> Symmetric {
    let mut scores = Symmetric::zeros(x.len());
    for vote in votes {
        let (d, direction) = position(items, vote, x);
        let residual = vote.weight * (vote.outcome - sigmoid(d));
        scores.add_outer(&direction, residual * residual);
    }
    scores
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::comparison::{Comparison, Outcome, Tally};
    use crate::{bradley_terry, logistic};

    fn vote(left: usize, right: usize, x: f64, outcome: f64) -> StyledVote {
        StyledVote { left, right, covariates: vec![x], outcome, weight: 1.0 }
    }

    fn votes() -> Vec<StyledVote> {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let truth = [0.8, 0.0, -0.8];
        let draw = |_| {
            let (left, right) = [(0, 1), (1, 2), (2, 0)][rng.random_range(0..3)];
            let x: f64 = rng.random_range(-1.5..1.5);
            let p = sigmoid(truth[left] - truth[right] + 0.7 * x);
            vote(left, right, x, f64::from(u8::from(rng.random::<f64>() < p)))
        };
        (0..6000).map(draw).collect()
    }

    #[test]
    fn without_covariates_it_is_bradley_terry() {
        let outcomes = [(0, 1, 1.0), (0, 1, 0.5), (1, 2, 1.0), (2, 0, 1.0), (0, 2, 1.0)];
        let votes: Vec<_> = outcomes
            .map(|(l, r, y)| StyledVote { covariates: vec![], ..vote(l, r, 0.0, y) })
            .into();
        let outcome = |y: f64| if y > 0.5 { Outcome::Left } else { Outcome::Tie };
        let comparisons = outcomes.map(|(left, right, y)| Comparison {
            left,
            right,
            outcome: outcome(y),
            weight: 1.0,
        });
        let tally = Tally::new(3, comparisons).unwrap();
        let plain = bradley_terry::fit(&tally, bradley_terry::Model::PLAIN).unwrap();
        let styled = fit(3, &votes, Penalty { strengths: 0.0, covariates: 0.0 }).unwrap();
        for (a, b) in styled.strengths(Covariance::Sandwich).iter().zip(plain.strengths()) {
            assert!((a.value - b).abs() < 1e-10);
        }
        let intervals = plain.intervals(Covariance::Information).strengths();
        for (a, b) in styled.strengths(Covariance::Information).iter().zip(intervals) {
            assert!((a.half_width() - b.half_width()).abs() < 1e-10, "{a} against {b}");
        }
    }

    #[test]
    fn it_is_the_logistic_regression_on_indicators_and_covariates() {
        let votes = votes();
        let row = |v: &StyledVote| {
            let mut features = vec![0.0; 3];
            features[v.left] += 1.0;
            features[v.right] -= 1.0;
            features.extend(&v.covariates);
            logistic::Observation { features, outcome: v.outcome, weight: v.weight }
        };
        let rows: Vec<_> = votes.iter().map(row).collect();
        let dense = logistic::fit(&rows, 0.5).unwrap();
        let sparse = fit(3, &votes, Penalty { strengths: 0.5, covariates: 0.5 }).unwrap();
        for (a, b) in sparse.parameters.iter().zip(dense.coefficients()) {
            assert!((a - b).abs() < 1e-10);
        }
        let (a, b) =
            (sparse.effects(Covariance::Sandwich)[0], dense.estimates(Covariance::Sandwich)[3]);
        assert!((a.low - b.low).abs() < 1e-10 && (a.high - b.high).abs() < 1e-10);
    }

    #[test]
    fn the_truth_lies_in_the_intervals() {
        let styled = fit(3, &votes(), Penalty { strengths: 1e-9, covariates: 0.0 }).unwrap();
        assert!(styled.effects(Covariance::Sandwich)[0].contains(0.7));
        for (e, truth) in styled.strengths(Covariance::Sandwich).iter().zip([0.8, 0.0, -0.8]) {
            assert!(e.contains(truth), "{e} for {truth}");
        }
        assert!(styled.effect_tests(Covariance::Sandwich)[0].unwrap().p_value < 1e-9);
    }
}
