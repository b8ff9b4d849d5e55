//! The negative log-likelihood of chosen completions, added to a loss of pairs.

use crate::aggregation::{Aggregation, StepCounts};

/// Which tokens the likelihood covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NllTokens {
    /// The chosen completion's.
    Completion,
    /// The prompt's and the chosen completion's: ORPO in TRL. The first token of the prompt is
    /// predicted by nothing and does not count.
    PromptAndCompletion,
}

/// An added likelihood term.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Nll {
    /// α: weight of the term against the mean of the pairs' losses.
    pub weight: f64,
    /// What it covers.
    pub tokens: NllTokens,
    /// How tokens average. [`Aggregation::PerToken`] over the step: CPO and ORPO in TRL;
    /// [`Aggregation::PerCompletion`]: Pang et al. 2024, arXiv:2404.19733 (iterative RPO);
    /// [`Aggregation::PerCompletionSum`]: Liu et al. 2024, arXiv:2405.16436.
    pub aggregation: Aggregation,
}

impl Nll {
    /// What −log π of each covered token of one chosen sequence weighs in the loss of the step; the
    /// derivative with respect to its log-probability is minus that.
    ///
    /// ```text
    /// loss += Σ_i weight_i·Σ_t −log π(a_{i,t})
    /// ```
    ///
    /// | argument | meaning                                                           |
    /// |----------|-------------------------------------------------------------------|
    /// | `tokens` | covered tokens of this chosen sequence                            |
    /// | `step`   | chosen sequences of the whole step and their covered tokens       |
    ///
    /// ```
    /// use hearken_objective::aggregation::{Aggregation, StepCounts};
    /// use hearken_objective::dpo::nll::{Nll, NllTokens};
    /// let nll = Nll {
    ///     weight: 0.5,
    ///     tokens: NllTokens::Completion,
    ///     aggregation: Aggregation::PerToken,
    /// };
    /// assert_eq!(nll.token_weight(3, StepCounts::of([3, 7])), 0.05);
    /// ```
    pub fn token_weight(self, tokens: usize, step: StepCounts) -> f64 {
        self.weight * self.aggregation.token_weight(tokens, step)
    }
}
