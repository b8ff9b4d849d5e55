//! What one token's loss weighs in the loss of an optimizer step.

/// How much there is in the whole optimizer step, over all microbatches and ranks. Completions that are
/// dropped or masked count in neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepCounts {
    /// Completions.
    pub completions: usize,
    /// Tokens of all completions that are trained on.
    pub tokens: usize,
}

impl StepCounts {
    /// Counts completions of the given lengths.
    ///
    /// ```
    /// use hearken_objective::aggregation::StepCounts;
    /// assert_eq!(StepCounts::of([2, 4]), StepCounts { completions: 2, tokens: 6 });
    /// ```
    pub fn of(tokens: impl IntoIterator<Item = usize>) -> Self {
        let zero = Self { completions: 0, tokens: 0 };
        tokens
            .into_iter()
            .fold(zero, |c, n| Self { completions: c.completions + 1, tokens: c.tokens + n })
    }
}

/// From losses of tokens to the loss of an optimizer step.
///
/// ```text
/// loss = Σ_i weight_i·Σ_t ℓ_{i,t}
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregation {
    /// Mean over all tokens: 1/tokens. Yu et al. 2025, arXiv:2503.14476 (DAPO).
    PerToken,
    /// Mean over a completion's tokens, then over completions: 1/(completions·T_i). Shao et al. 2024,
    /// arXiv:2402.03300 (GRPO).
    PerCompletion,
    /// Sum over a completion's tokens, mean over completions: 1/completions.
    PerCompletionSum,
    /// Sum over all tokens, divided by a constant: 1/(completions·L). Liu et al. 2025,
    /// arXiv:2503.20783 (Dr. GRPO).
    Constant {
        /// L: the greatest length a completion may have.
        completion_tokens_max: usize,
    },
}

impl Aggregation {
    /// Weight of every token of a completion of `completion_tokens` tokens; 0 for a completion
    /// without tokens.
    ///
    /// The weights depend on the counts of the whole step alone, so any split into microbatches gives
    /// the same gradient.
    ///
    /// ```
    /// use hearken_objective::aggregation::{Aggregation, StepCounts};
    /// let step = StepCounts::of([4, 7]);
    /// assert_eq!(Aggregation::PerToken.token_weight(4, step), 1.0 / 11.0);
    /// assert_eq!(Aggregation::PerCompletion.token_weight(4, step), 0.25 / 2.0);
    /// let constant = Aggregation::Constant { completion_tokens_max: 7 };
    /// assert_eq!(constant.token_weight(4, step), 1.0 / 14.0);
    /// ```
    pub fn token_weight(self, completion_tokens: usize, step: StepCounts) -> f64 {
        if completion_tokens == 0 {
            return 0.0;
        }
        let completions = step.completions as f64;
        let divisor = match self {
            Self::PerToken => step.tokens as f64,
            Self::PerCompletion => completions * completion_tokens as f64,
            Self::PerCompletionSum => completions,
            Self::Constant { completion_tokens_max } => completions * completion_tokens_max as f64,
        };
        1.0 / divisor
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_difference::assert_close;

    const CONSTANT: Aggregation = Aggregation::Constant { completion_tokens_max: 8 };

    fn aggregate(aggregation: Aggregation, losses: &[&[f64]]) -> f64 {
        let step = StepCounts::of(losses.iter().map(|l| l.len()));
        losses.iter().map(|l| aggregation.token_weight(l.len(), step) * l.iter().sum::<f64>()).sum()
    }

    #[test]
    fn two_completions_have_their_known_aggregates() {
        let losses: [&[f64]; 2] = [&[1.0; 2], &[2.0; 4]];
        for (aggregation, expected) in [
            (Aggregation::PerCompletion, 1.5),
            (Aggregation::PerToken, 1.666_667),
            (CONSTANT, 0.625),
            (Aggregation::PerCompletionSum, 5.0),
        ] {
            assert_close(&[aggregate(aggregation, &losses)], &[expected], 5e-7);
        }
    }

    #[test]
    fn token_weights_have_their_known_values() {
        let step = StepCounts::of([4, 7]);
        let weights = |a: Aggregation| [4, 7].map(|n| a.token_weight(n, step));
        assert_close(&weights(Aggregation::PerToken), &[0.090_909; 2], 5e-7);
        let halved = [0.25 / 2.0, 0.142_857 / 2.0];
        assert_close(&weights(Aggregation::PerCompletion), &halved, 5e-7);
    }

    #[test]
    fn completions_of_one_length_weigh_the_same_everywhere() {
        let step = StepCounts::of([8, 8, 8]);
        let weight = Aggregation::PerToken.token_weight(8, step);
        assert_eq!(Aggregation::PerCompletion.token_weight(8, step), weight);
        assert_eq!(CONSTANT.token_weight(8, step), weight);
    }

    #[test]
    fn a_constant_loss_is_its_own_mean() {
        let losses: [&[f64]; 3] = [&[3.0; 1], &[3.0; 5], &[3.0; 2]];
        for aggregation in [Aggregation::PerToken, Aggregation::PerCompletion] {
            assert_close(&[aggregate(aggregation, &losses)], &[3.0], 1e-14);
        }
    }

    #[test]
    fn an_empty_completion_weighs_nothing() {
        let step = StepCounts::of([0, 3]);
        assert_eq!(Aggregation::PerCompletion.token_weight(0, step), 0.0);
    }
}
