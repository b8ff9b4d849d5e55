//! The loss of one completion under an algorithm.

use super::shaping::{SamplerCorrection, SamplerTerms};
use super::{Algorithm, KlPlacement, KlWeight};
use crate::kl::{KlEstimator, ReferenceTerms};
use crate::mean::Mean;
use crate::numerics::at_least;
use crate::surrogate::{PolicyTerms, RatioLevel, Surrogate};

/// Least sampler correction whose logarithm enters VESPO's weight: a masked token has none.
const CORRECTION_MIN: f64 = 1e-8;

/// What is known of a completion's tokens when its loss is computed.
#[derive(Clone, Copy, Debug)]
pub struct CompletionTerms<'a> {
    /// log π_θ(a_t | s_t), the policy being updated.
    pub logprobs: &'a [f64],
    /// log π_old(a_t | s_t), the policy before this iteration's first update.
    pub old_logprobs: &'a [f64],
    /// As the generation engine recorded them; read where the sampler is corrected for, else may be
    /// empty.
    pub sampled_logprobs: &'a [f64],
    /// log π_ref(a_t | s_t); read where the KL penalty is in the loss, else may be empty.
    pub ref_logprobs: &'a [f64],
    /// Â_t.
    pub advantages: &'a [f64],
}

/// A completion's loss: sums over its tokens, and the derivative of their total.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CompletionLoss {
    /// Σ_t of surrogate and weighted KL.
    pub sum: f64,
    /// d sum / d log π_θ(a_t | s_t).
    pub grad_logprobs: Vec<f64>,
    /// The estimator's values before β and any ratio; empty where the penalty is not in the loss.
    pub kl: Mean,
    /// Tokens whose ratio left the range below, where that stops the gradient.
    pub clipped_low: usize,
    /// Tokens whose ratio left the range above, likewise.
    pub clipped_high: usize,
}

impl Algorithm {
    /// The loss of one completion, to be multiplied by its
    /// [`token_weight`](crate::aggregation::Aggregation::token_weight).
    ///
    /// ```text
    /// sum = Σ_t c_t·ℓ(ρ_t, Â_t) + β·Σ_t k(log π_θ − log π_ref)_t·(ρ_t or 1)
    /// ```
    ///
    /// `c_t` is the sampler's correction, 1 without; with [`SamplerCorrection::Ratio`] every ρ is π_θ/π_sampled
    /// instead. All slices that are read have length T.
    ///
    /// # Panics
    /// If the lengths differ.
    ///
    /// ```
    /// use hearken_objective::grpo::{CompletionTerms, preset};
    /// let logprobs = [-1.0, -2.0];
    /// let loss = preset::named("grpo", 8).unwrap().loss(CompletionTerms {
    ///     logprobs: &logprobs,
    ///     old_logprobs: &logprobs,
    ///     sampled_logprobs: &[],
    ///     ref_logprobs: &logprobs,
    ///     advantages: &[0.5, 0.5],
    /// });
    /// assert_eq!((loss.sum, loss.grad_logprobs), (-1.0, vec![-0.5, -0.5]));
    /// ```
    pub fn loss(&self, terms: CompletionTerms<'_>) -> CompletionLoss {
        let terms =
            CompletionTerms { old_logprobs: terms.sampler().base(self.correction), ..terms };
        let policy = self.policy_loss(terms);
        let mut loss = CompletionLoss {
            sum: policy.sum,
            grad_logprobs: policy.grad_logprobs,
            kl: Mean::default(),
            clipped_low: policy.clipped_low,
            clipped_high: policy.clipped_high,
        };
        if let KlPlacement::InLoss { beta, estimator, weight } = self.kl {
            let penalty = Penalty { beta, estimator };
            match weight {
                KlWeight::One => penalty.add(&mut loss, terms),
                KlWeight::Ratio => penalty.add_times_ratio(&mut loss, terms, self.ratio),
            }
        }
        loss
    }

    fn policy_loss(&self, terms: CompletionTerms<'_>) -> crate::surrogate::TokenLoss {
        let CompletionTerms { logprobs, old_logprobs, advantages, .. } = terms;
        let plain = PolicyTerms { logprobs, old_logprobs, advantages };
        if matches!(self.correction, SamplerCorrection::None | SamplerCorrection::Ratio) {
            return self.surrogate.loss(self.ratio, plain);
        }
        let weights = self.correction.weights(terms.sampler());
        if let Surrogate::Vespo { .. } = self.surrogate {
            // VESPO's weight is of π_θ against the sampler: the correction belongs inside it.
            let old_logprobs: Vec<f64> = old_logprobs
                .iter()
                .zip(&weights)
                .map(|(old, c)| old - at_least(*c, CORRECTION_MIN).ln())
                .collect();
            return self
                .surrogate
                .loss(self.ratio, PolicyTerms { old_logprobs: &old_logprobs, ..plain });
        }
        // Every other surrogate is linear in an advantage of given sign, so that weighting the
        // advantage weights the loss.
        let advantages: Vec<f64> = advantages.iter().zip(&weights).map(|(a, c)| a * c).collect();
        self.surrogate.loss(self.ratio, PolicyTerms { advantages: &advantages, ..plain })
    }
}

impl<'a> CompletionTerms<'a> {
    /// What the sampler saw against what the trainer sees.
    pub fn sampler(&self) -> SamplerTerms<'a> {
        SamplerTerms { old_logprobs: self.old_logprobs, sampled_logprobs: self.sampled_logprobs }
    }
}

struct Penalty {
    beta: f64,
    estimator: KlEstimator,
}

impl Penalty {
    fn add(&self, loss: &mut CompletionLoss, terms: CompletionTerms<'_>) {
        let log_ratios = reference(terms).log_ratios();
        for (grad, x) in loss.grad_logprobs.iter_mut().zip(log_ratios) {
            let value = self.estimator.value(x);
            loss.kl.push(value);
            loss.sum += self.beta * value;
            *grad += self.beta * self.estimator.derivative(x);
        }
    }

    fn add_times_ratio(
        &self,
        loss: &mut CompletionLoss,
        terms: CompletionTerms<'_>,
        level: RatioLevel,
    ) {
        let n = terms.logprobs.len();
        let log_rho: Vec<f64> =
            terms.logprobs.iter().zip(terms.old_logprobs).map(|(a, b)| a - b).collect();
        let (of_completion, slope) = match level {
            RatioLevel::Token => (0.0, 0.0),
            RatioLevel::CompletionMean => (log_rho.iter().sum::<f64>() / n as f64, 1.0 / n as f64),
            RatioLevel::CompletionSum => (log_rho.iter().sum::<f64>(), 1.0),
        };
        let mut shared = 0.0;
        for (t, x) in reference(terms).log_ratios().enumerate() {
            let value = self.estimator.value(x);
            let log_ratio = if level == RatioLevel::Token { log_rho[t] } else { of_completion };
            let ratio = log_ratio.exp();
            loss.kl.push(value);
            loss.sum += self.beta * value * ratio;
            loss.grad_logprobs[t] += self.beta * self.estimator.derivative(x) * ratio;
            // The ratio's own derivative: at this token, or at every token of the completion.
            if level == RatioLevel::Token {
                loss.grad_logprobs[t] += self.beta * value * ratio;
            } else {
                shared += self.beta * value * ratio * slope;
            }
        }
        for grad in &mut loss.grad_logprobs {
            *grad += shared;
        }
    }
}

fn reference(terms: CompletionTerms<'_>) -> ReferenceTerms<'_> {
    ReferenceTerms { logprobs: terms.logprobs, ref_logprobs: terms.ref_logprobs }
}
