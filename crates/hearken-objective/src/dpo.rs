//! Losses on preferences without a reward model: DPO and its family, pairs and single completions.
//!
//! A loss of a pair is a product of choices, all fields of [`PairObjective`]:
//!
//! 1. each completion's *log-ratio* h = Σ log π_θ − Σ log π_ref (or Σ log π_θ alone: [`Reference::Free`]);
//! 2. a [`Divergence`] maps h to a score; reverse KL leaves it;
//! 3. the score is divided by the number of tokens or is not ([`Length`]);
//! 4. a [`PairLoss`] of both scores gives loss and derivatives, margin and label probability included;
//! 5. losses add up with weights, and the chosen completion's [`Nll`] may join them.
//!
//! The derivatives are with respect to the two *sums* of log-probabilities; every token of a completion
//! receives that of its sum, times the token's weight where tokens are weighted ([`weights`]).
//!
//! [`unpaired`] holds KTO and relatives, [`preset`] the published names. Which completion was preferred
//! and where pairs come from is not known here.

mod aot;
mod kernel;
pub mod nll;
pub mod preset;
pub mod unpaired;
pub mod weights;

mod divergence;
mod objective;

pub use divergence::Divergence;
pub use kernel::{PairLoss, log_odds};
pub use nll::Nll;
pub use objective::{Length, PairObjective, Term};

use crate::kl::ReferenceTerms;

/// What is known of one completion when its loss is computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CompletionSums {
    /// Σ_t log π_θ(a_t | s_t), in nats.
    pub logprob: f64,
    /// Σ_t log π_ref(a_t | s_t); 0 for objectives without reference.
    pub ref_logprob: f64,
    /// Number of tokens summed over.
    pub tokens: usize,
}

impl CompletionSums {
    /// Sums over the tokens of a completion.
    ///
    /// # Panics
    /// If the log-probabilities differ in number.
    ///
    /// ```
    /// use hearken_objective::dpo::CompletionSums;
    /// use hearken_objective::kl::ReferenceTerms;
    /// let terms = ReferenceTerms { logprobs: &[-1.0, -2.0], ref_logprobs: &[-1.5, -2.0] };
    /// assert_eq!(CompletionSums::of(terms).log_ratio(), 0.5);
    /// ```
    pub fn of(terms: ReferenceTerms<'_>) -> Self {
        assert_eq!(terms.logprobs.len(), terms.ref_logprobs.len(), "ref_logprobs: one per token");
        Self {
            logprob: terms.logprobs.iter().sum(),
            ref_logprob: terms.ref_logprobs.iter().sum(),
            tokens: terms.logprobs.len(),
        }
    }

    /// Sums of weighted tokens. The derivative with respect to a token is that of the sum times its
    /// weight.
    ///
    /// # Panics
    /// If the log-probabilities and weights differ in number.
    pub fn weighted(terms: ReferenceTerms<'_>, weights: &[f64]) -> Self {
        assert_eq!(weights.len(), terms.logprobs.len(), "weights: one per token");
        let dot = |x: &[f64]| x.iter().zip(weights).map(|(x, w)| x * w).sum();
        Self {
            logprob: dot(terms.logprobs),
            ref_logprob: dot(terms.ref_logprobs),
            ..Self::of(terms)
        }
    }

    /// h = Σ log π_θ − Σ log π_ref.
    pub fn log_ratio(self) -> f64 {
        self.logprob - self.ref_logprob
    }
}

/// One preference, ready for a loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairTerms {
    /// The preferred completion.
    pub chosen: CompletionSums,
    /// The other one.
    pub rejected: CompletionSums,
    /// Probability that the chosen completion is the better one: 1 for a plain label.
    pub probability: f64,
    /// What β times the difference of scores must exceed; 0 without graded preferences.
    pub margin: f64,
    /// Multiplies the pair's loss; 1 but for [`weights::wpo`] and the like.
    pub weight: f64,
}

impl PairTerms {
    /// A plain label: probability 1, no margin, weight 1.
    pub fn new(chosen: CompletionSums, rejected: CompletionSums) -> Self {
        Self { chosen, rejected, probability: 1.0, margin: 0.0, weight: 1.0 }
    }
}

/// A pair's loss and its derivatives with respect to the sums of log-probabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PairValue {
    /// The loss, without NLL.
    pub loss: f64,
    /// d loss / d Σ log π_θ of the chosen completion.
    pub grad_chosen: f64,
    /// d loss / d Σ log π_θ of the rejected completion.
    pub grad_rejected: f64,
}

/// What a log-probability is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    /// The reference model: h = log π_θ − log π_ref.
    Model,
    /// Nothing: h = log π_θ.
    Free,
}

#[cfg(test)]
mod tests;
