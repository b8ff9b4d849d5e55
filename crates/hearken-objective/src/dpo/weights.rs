//! Weights of tokens and of pairs.

/// Token weights that keep the longer completion's surplus from deciding: 1 up to the length of the
/// shorter one, `tail_weight` beyond.
///
/// Liu et al. 2024, arXiv:2409.06411 (LD-DPO), where `tail_weight` is α; 1 is DPO.
///
/// ```
/// use hearken_objective::dpo::weights::length_desensitized;
/// assert_eq!(length_desensitized([3, 2], 0.5), [vec![1.0, 1.0, 0.5], vec![1.0, 1.0]]);
/// ```
pub fn length_desensitized(tokens: [usize; 2], tail_weight: f64) -> [Vec<f64>; 2] {
    let shared = tokens[0].min(tokens[1]);
    tokens.map(|n| (0..n).map(|t| if t < shared { 1.0 } else { tail_weight }).collect())
}

/// Weight of one completion by how likely the policy is to sample it.
///
/// ```text
/// w = exp(mean_t [log π(a_t) − log Σ_a π(a)²])
/// ```
///
/// Zhou et al. 2024, arXiv:2406.11827, eq. 2 (WPO). A pair's weight is the product of both; it is held
/// constant in the derivative. 1 where every distribution is uniform over its support, and for an empty
/// completion.
///
/// | argument | length | meaning                                    |
/// |----------|--------|--------------------------------------------|
/// | `tokens` | T      | log π(a_t) with log Σ_a π(a)² of its row   |
///
/// ```
/// use hearken_objective::dpo::weights::{TokenLikelihood, wpo};
/// let quarter = 0.25f64.ln();
/// let uniform = TokenLikelihood { logprob: quarter, log_square_sum: quarter };
/// assert_eq!(wpo(&[uniform; 5]), 1.0);
/// ```
pub fn wpo(tokens: &[TokenLikelihood]) -> f64 {
    let excess: crate::Mean = tokens.iter().map(|t| t.logprob - t.log_square_sum).collect();
    excess.value().map_or(1.0, f64::exp)
}

/// A token against what its distribution expects of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLikelihood {
    /// log π(a_t).
    pub logprob: f64,
    /// log Σ_a π(a)² of the distribution that a_t was predicted by.
    pub log_square_sum: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greedy_token_of_a_peaked_distribution_weighs_more_than_one_and_a_rare_one_less() {
        let log_square_sum = (0.9f64.powi(2) + 0.1f64.powi(2)).ln();
        let likely = TokenLikelihood { logprob: 0.9f64.ln(), log_square_sum };
        let rare = TokenLikelihood { logprob: 0.1f64.ln(), log_square_sum };
        assert!(1.0 < wpo(&[likely]) && wpo(&[rare]) < 1.0);
    }

    #[test]
    fn an_empty_completion_has_weight_one() {
        assert_eq!(wpo(&[]), 1.0);
    }
}
