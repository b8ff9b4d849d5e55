//! What is done about completions that are too long and about samplers that disagree with the trainer.

use crate::numerics::at_most;
use crate::surrogate::RatioLevel;

/// What becomes of completions that are too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlong {
    /// Nothing.
    Keep,
    /// Their score falls with every token in a zone before the limit.
    Penalize(OverlongPenalty),
    /// Those cut off by the limit are not trained on; they still count in their group's mean.
    Mask,
}

/// A penalty that grows from 0 to −1 over the last tokens before a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverlongPenalty {
    /// L_max.
    pub completion_tokens_max: usize,
    /// L_cache: length of the zone before L_max.
    pub zone_tokens: usize,
}

impl OverlongPenalty {
    /// The penalty of a completion.
    ///
    /// ```text
    /// 0                                     n ≤ L_max − L_cache
    /// (L_max − L_cache − n) / L_cache       n ≤ L_max
    /// −1                                    beyond
    /// ```
    ///
    /// Yu et al. 2025, arXiv:2503.14476, eq. 13 (DAPO).
    ///
    /// ```
    /// use hearken_objective::grpo::shaping::OverlongPenalty;
    /// let penalty = OverlongPenalty { completion_tokens_max: 20_480, zone_tokens: 4_096 };
    /// assert_eq!(penalty.of(18_432), -0.5);
    /// ```
    pub fn of(self, completion_tokens: usize) -> f64 {
        let free = self.completion_tokens_max.saturating_sub(self.zone_tokens);
        if completion_tokens <= free {
            0.0
        } else if completion_tokens <= self.completion_tokens_max {
            -((completion_tokens - free) as f64) / self.zone_tokens as f64
        } else {
            -1.0
        }
    }
}

impl Overlong {
    /// The score with its penalty, if there is one.
    ///
    /// ```
    /// use hearken_objective::grpo::shaping::Overlong;
    /// assert_eq!(Overlong::Mask.score(0.7, 100), 0.7);
    /// ```
    pub fn score(self, score: f64, completion_tokens: usize) -> f64 {
        match self {
            Self::Keep | Self::Mask => score,
            Self::Penalize(penalty) => score + penalty.of(completion_tokens),
        }
    }
}

/// What becomes of tokens whose log-probability when sampled differs from the one recomputed by the
/// trainer, c = exp(log π_old − log π_sampled).
///
/// Yao et al. 2025, "Your efficient RL framework secretly brings you off-policy RL training".
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum SamplerCorrection {
    /// Nothing: sampler and trainer agree.
    #[default]
    None,
    /// The loss is multiplied by min(c, max).
    Truncate {
        /// What c covers.
        level: RatioLevel,
        /// Largest weight; 2 is usual.
        max: f64,
    },
    /// The loss is multiplied by c where min ≤ c ≤ max, else by 0.
    Mask {
        /// What c covers.
        level: RatioLevel,
        /// Least weight that counts.
        min: f64,
        /// Largest weight that counts.
        max: f64,
    },
    /// Ratios are those to the sampler, ρ = π_θ/π_sampled, at the algorithm's own level: what stops the gradient of a
    /// policy that has moved counts the way since the tokens were sampled, and not since π_old. PPO's own objective on
    /// samples that are stale; the corrections above are the decoupled one, whose ratio starts from π_old. Hilton et al.
    /// 2021, arXiv:2110.00641, eq. 2 and 5; Fu et al. 2025, arXiv:2505.24298 (AReaL), section 5.2.
    Ratio,
}

/// Log-probabilities of one completion as trainer and sampler saw them.
#[derive(Clone, Copy, Debug)]
pub struct SamplerTerms<'a> {
    /// log π_old(a_t | s_t), recomputed by the trainer.
    pub old_logprobs: &'a [f64],
    /// As the generation engine recorded them.
    pub sampled_logprobs: &'a [f64],
}

impl SamplerCorrection {
    /// What each token's loss is multiplied by.
    ///
    /// # Panics
    /// If there is a correction and the lengths differ.
    ///
    /// ```
    /// use hearken_objective::grpo::shaping::{SamplerCorrection, SamplerTerms};
    /// use hearken_objective::surrogate::RatioLevel;
    /// let truncate = SamplerCorrection::Truncate { level: RatioLevel::Token, max: 2.0 };
    /// let terms = SamplerTerms { old_logprobs: &[-1.0, -1.0], sampled_logprobs: &[-1.0, -9.0] };
    /// assert_eq!(truncate.weights(terms), [1.0, 2.0]);
    /// ```
    pub fn weights(self, terms: SamplerTerms<'_>) -> Vec<f64> {
        match self {
            Self::None | Self::Ratio => vec![1.0; terms.old_logprobs.len()],
            Self::Truncate { level, max } => {
                terms.ratios(level).into_iter().map(|c| at_most(c, max)).collect()
            }
            Self::Mask { level, min, max } => {
                let keep = |c: f64| if c < min || max < c { 0.0 } else { c };
                terms.ratios(level).into_iter().map(keep).collect()
            }
        }
    }
}

impl<'a> SamplerTerms<'a> {
    /// What the ratios of a loss start from: log π_old, or log π_sampled under [`SamplerCorrection::Ratio`].
    ///
    /// # Panics
    /// If they start from the sampler, and the lengths differ.
    ///
    /// ```
    /// use hearken_objective::grpo::shaping::{SamplerCorrection, SamplerTerms};
    /// let terms = SamplerTerms { old_logprobs: &[-1.0], sampled_logprobs: &[-3.0] };
    /// assert_eq!(terms.base(SamplerCorrection::Ratio), [-3.0]);
    /// assert_eq!(terms.base(SamplerCorrection::None), [-1.0]);
    /// ```
    pub fn base(self, correction: SamplerCorrection) -> &'a [f64] {
        if correction != SamplerCorrection::Ratio {
            return self.old_logprobs;
        }
        assert_eq!(
            self.sampled_logprobs.len(),
            self.old_logprobs.len(),
            "sampled_logprobs: one per token"
        );
        self.sampled_logprobs
    }

    fn ratios(self, level: RatioLevel) -> Vec<f64> {
        let n = self.old_logprobs.len();
        assert_eq!(self.sampled_logprobs.len(), n, "sampled_logprobs: one per token");
        let log_ratios = || self.old_logprobs.iter().zip(self.sampled_logprobs).map(|(a, b)| a - b);
        match level {
            RatioLevel::Token => log_ratios().map(f64::exp).collect(),
            RatioLevel::CompletionMean => vec![(log_ratios().sum::<f64>() / n as f64).exp(); n],
            RatioLevel::CompletionSum => vec![log_ratios().sum::<f64>().exp(); n],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_difference::assert_close;

    #[test]
    fn the_penalty_has_its_known_values() {
        let penalty = OverlongPenalty { completion_tokens_max: 20_480, zone_tokens: 4_096 };
        for (tokens, expected) in
            [(1, 0.0), (16_384, 0.0), (18_432, -0.5), (20_480, -1.0), (20_481, -1.0)]
        {
            assert_eq!(penalty.of(tokens), expected);
            assert_eq!(Overlong::Penalize(penalty).score(1.0, tokens), 1.0 + expected);
        }
    }

    #[test]
    fn a_sampler_that_agrees_is_not_corrected() {
        let terms = SamplerTerms { old_logprobs: &[-1.0, -2.0], sampled_logprobs: &[-1.0, -2.0] };
        for level in [RatioLevel::Token, RatioLevel::CompletionMean, RatioLevel::CompletionSum] {
            let truncate = SamplerCorrection::Truncate { level, max: 2.0 };
            let mask = SamplerCorrection::Mask { level, min: 0.5, max: 2.0 };
            assert_eq!(truncate.weights(terms), [1.0, 1.0]);
            assert_eq!(mask.weights(terms), [1.0, 1.0]);
        }
    }

    #[test]
    fn masks_drop_both_tails_and_levels_share_one_weight() {
        let terms = SamplerTerms {
            old_logprobs: &[0.0, 0.0, 0.0],
            sampled_logprobs: &[-1.5f64.ln(), -3f64.ln(), 4f64.ln()],
        };
        let mask = |level| SamplerCorrection::Mask { level, min: 0.5, max: 2.0 }.weights(terms);
        assert_close(&mask(RatioLevel::Token), &[1.5, 0.0, 0.0], 1e-14);
        assert_close(&mask(RatioLevel::CompletionSum), &[1.125; 3], 1e-14);
        assert_close(&mask(RatioLevel::CompletionMean), &[1.125f64.cbrt(); 3], 1e-14);
    }
}
