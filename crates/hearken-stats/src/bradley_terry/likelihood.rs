//! The log-likelihood of votes, to second order.

use std::collections::BTreeMap;

use super::{Deviance, Model, OrderEffect, Weighting};
use crate::comparison::{Outcome, PairCount, Tally};
use crate::linear::Symmetric;
use crate::newton::Curve;
use crate::ties::{Term, Ties};

const OUTCOMES: [Outcome; 3] = [Outcome::Left, Outcome::Tie, Outcome::Right];

/// The votes and the layout of parameters.
pub(super) struct Likelihood<'a> {
    tally: &'a Tally,
    model: Model,
    /// Weight of a vote, per row of the tally.
    weights: Vec<f64>,
    pub(super) tie_share: f64,
    order_index: Option<usize>,
    pub(super) tie_index: Option<usize>,
}

impl<'a> Likelihood<'a> {
    pub(super) fn new(tally: &'a Tally, model: Model) -> Self {
        let tie_share = tally.pairs().iter().map(|p| p.votes[1]).sum::<f64>() / tally.total();
        let order_index = (model.order_effect == OrderEffect::Estimated).then_some(tally.items());
        // Without ties the parameter's estimate is its limit, and the model is the plain one.
        let estimated = model.ties != Ties::Half && 0.0 < tie_share && tie_share < 1.0;
        let tie_index = estimated.then(|| tally.items() + usize::from(order_index.is_some()));
        Self {
            tally,
            model,
            weights: weights(tally, model.weighting),
            tie_share,
            order_index,
            tie_index,
        }
    }

    pub(super) fn parameters(&self) -> usize {
        self.tally.items()
            + usize::from(self.order_index.is_some())
            + usize::from(self.tie_index.is_some())
    }

    /// d and t of a row.
    fn position(&self, pair: &PairCount, x: &[f64]) -> (f64, f64) {
        let gamma = self.order_index.map_or(0.0, |g| x[g]);
        (x[pair.left] - x[pair.right] + gamma, self.tie_index.map_or(0.0, |t| x[t]))
    }

    fn ties(&self) -> Ties {
        if self.tie_index.is_some() { self.model.ties } else { Ties::Half }
    }

    /// The derivative of d with respect to the parameters.
    fn direction(&self, pair: &PairCount) -> Vec<(usize, f64)> {
        let mut direction = vec![(pair.left, 1.0), (pair.right, -1.0)];
        direction.extend(self.order_index.map(|g| (g, 1.0)));
        direction
    }

    pub(super) fn curve(&self, x: &[f64]) -> Option<Curve> {
        let k = self.tally.items();
        let mut value = 0.0;
        let mut gradient = vec![0.0; x.len()];
        let mut information = Symmetric::zeros(x.len());
        for (pair, weight) in self.tally.pairs().iter().zip(&self.weights) {
            let sum = self.row(pair, *weight, x)?;
            value += sum.value;
            let direction = self.direction(pair);
            for &(i, sign) in &direction {
                gradient[i] += sign * sum.by_d;
            }
            information.add_outer(&direction, sum.dd);
            if let Some(t) = self.tie_index {
                gradient[t] += sum.by_t;
                information.add(t, t, sum.tt);
                for &(i, sign) in &direction {
                    information.add(i, t, sign * sum.dt);
                    information.add(t, i, sign * sum.dt);
                }
            }
        }
        let ridge = self.model.ridge;
        for i in 0..k {
            value -= ridge * x[i] * x[i] / 2.0;
            gradient[i] -= ridge * x[i];
            information.add(i, i, ridge);
        }
        if ridge == 0.0 {
            // Adding a constant to all strengths changes nothing: pin their sum.
            for i in 0..k {
                for j in 0..k {
                    information.add(i, j, 1.0);
                }
            }
        }
        Some(Curve { value, gradient, information })
    }

    /// The weighted sum of a row's terms.
    fn row(&self, pair: &PairCount, weight: f64, x: &[f64]) -> Option<Term> {
        let (d, t) = self.position(pair, x);
        let mut sum = Term::default();
        for outcome in OUTCOMES {
            let votes = weight * pair.votes[outcome as usize];
            if votes > 0.0 {
                let term = self.ties().term(outcome, d, t)?;
                sum.value += votes * term.value;
                sum.by_d += votes * term.by_d;
                sum.by_t += votes * term.by_t;
                sum.dd += votes * term.dd;
                sum.dt += votes * term.dt;
                sum.tt += votes * term.tt;
            }
        }
        Some(sum)
    }

    /// Σ over votes of the outer product of the weighted score.
    pub(super) fn scores(&self, x: &[f64]) -> Symmetric {
        let mut scores = Symmetric::zeros(x.len());
        for (pair, weight) in self.tally.pairs().iter().zip(&self.weights) {
            let (d, t) = self.position(pair, x);
            for outcome in OUTCOMES {
                let Some(term) = self.ties().term(outcome, d, t) else { continue };
                let mut score = self.direction(pair);
                for (_, s) in &mut score {
                    *s *= term.by_d;
                }
                score.extend(self.tie_index.map(|t| (t, term.by_t)));
                scores.add_outer(&score, pair.votes[outcome as usize] * weight * weight);
            }
        }
        scores
    }

    /// Unweighted log-likelihood and deviance.
    pub(super) fn deviance(&self, x: &[f64], tie_parameter: f64) -> (f64, Deviance) {
        let (mut fitted, mut saturated) = (0.0, 0.0);
        for pair in self.tally.pairs() {
            let (d, _) = self.position(pair, x);
            let [left, tie, right] = self.ties().probabilities(d, tie_parameter);
            let [half_left, half_right] = pair.halves();
            let cells = match self.ties() {
                Ties::Half => vec![(half_left, left), (half_right, right)],
                _ => pair.votes.into_iter().zip([left, tie, right]).collect(),
            };
            for (votes, p) in cells.into_iter().filter(|(votes, _)| *votes > 0.0) {
                fitted += votes * p.ln();
                saturated += votes * (votes / pair.total()).ln();
            }
        }
        let per_pair = if self.ties() == Ties::Half { 1 } else { 2 };
        let free = x.len() - 1;
        let degrees = (per_pair * self.tally.pairs().len()).saturating_sub(free);
        (fitted, Deviance { value: 2.0 * (saturated - fitted), degrees })
    }
}

fn weights(tally: &Tally, weighting: Weighting) -> Vec<f64> {
    let Weighting::InversePropensity { floor } = weighting else {
        return vec![1.0; tally.pairs().len()];
    };
    let mut shown = BTreeMap::new();
    for p in tally.pairs() {
        *shown.entry((p.left.min(p.right), p.left.max(p.right))).or_insert(0.0) += p.total();
    }
    let votes = |p: &PairCount| shown[&(p.left.min(p.right), p.left.max(p.right))];
    tally.pairs().iter().map(|p| 1.0 / f64::max(votes(p), floor)).collect()
}
