//! How far an update has moved the policy from the one that sampled.

use serde::{Deserialize, Serialize};

use super::{Clip, PolicyTerms};
use crate::kl;
use crate::mean::Mean;

/// Counts and sums over tokens; they add up over microbatches.
///
/// ```
/// use hearken_objective::surrogate::{Clip, PolicyTerms};
/// use hearken_objective::surrogate::metrics::RatioMetrics;
/// let terms = PolicyTerms { logprobs: &[-1.0], old_logprobs: &[-1.0], advantages: &[2.0] };
/// let metrics = RatioMetrics::of(terms, Clip::symmetric(0.2));
/// assert_eq!(metrics.ratio.value(), Some(1.0));
/// assert_eq!(metrics.clipped().value(), Some(0.0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RatioMetrics {
    /// ρ_t.
    pub ratio: Mean,
    /// Largest ρ_t seen.
    pub ratio_max: Option<f64>,
    /// Least ρ_t seen.
    pub ratio_min: Option<f64>,
    /// Tokens with ρ < 1 − low and Â < 0: counted as 1, others as 0.
    pub clipped_low: Mean,
    /// Tokens with 1 + high < ρ and Â > 0, likewise.
    pub clipped_high: Mean,
    /// ½·log²ρ: k2 of KL(π_old ‖ π_θ), TRL's `approxkl`.
    pub approx_kl_k2: Mean,
    /// ρ − 1 − log ρ: k3 of KL(π_old ‖ π_θ).
    pub approx_kl_k3: Mean,
}

impl RatioMetrics {
    /// The metrics of one completion, token by token.
    ///
    /// # Panics
    /// If the lengths of `terms` differ.
    pub fn of(terms: PolicyTerms<'_>, clip: Clip) -> Self {
        terms.assert_lengths();
        let mut metrics = Self::default();
        for (log_ratio, advantage) in terms.log_ratios().zip(terms.advantages) {
            let ratio = log_ratio.exp();
            metrics.ratio.push(ratio);
            metrics.ratio_max = larger(metrics.ratio_max, Some(ratio));
            metrics.ratio_min = smaller(metrics.ratio_min, Some(ratio));
            let low = ratio < 1.0 - clip.low && *advantage < 0.0;
            let high = 1.0 + clip.high < ratio && 0.0 < *advantage;
            metrics.clipped_low.push(f64::from(u8::from(low)));
            metrics.clipped_high.push(f64::from(u8::from(high)));
            metrics.approx_kl_k2.push(kl::k2(log_ratio));
            // The tokens come from π_old, so the roles are swapped: the log-ratio of k3 is −log ρ.
            metrics.approx_kl_k3.push(kl::k3(-log_ratio));
        }
        metrics
    }

    /// Share of tokens clipped on either side.
    pub fn clipped(&self) -> Mean {
        Mean { sum: self.clipped_low.sum + self.clipped_high.sum, count: self.clipped_low.count }
    }

    /// The metrics of both sets of tokens together.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self {
            ratio: self.ratio + other.ratio,
            ratio_max: larger(self.ratio_max, other.ratio_max),
            ratio_min: smaller(self.ratio_min, other.ratio_min),
            clipped_low: self.clipped_low + other.clipped_low,
            clipped_high: self.clipped_high + other.clipped_high,
            approx_kl_k2: self.approx_kl_k2 + other.approx_kl_k2,
            approx_kl_k3: self.approx_kl_k3 + other.approx_kl_k3,
        }
    }
}

fn larger(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    a.into_iter().chain(b).reduce(f64::max)
}

fn smaller(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    a.into_iter().chain(b).reduce(f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_difference::assert_close;

    #[test]
    fn nothing_has_moved_before_the_first_update() {
        let logprobs = [-1.0, -2.5];
        let terms =
            PolicyTerms { logprobs: &logprobs, old_logprobs: &logprobs, advantages: &[1.0, -1.0] };
        let metrics = RatioMetrics::of(terms, Clip::symmetric(0.2));
        assert_eq!(metrics.ratio.value(), Some(1.0));
        assert_eq!(metrics.approx_kl_k2.sum, 0.0);
        assert_eq!(metrics.approx_kl_k3.sum, 0.0);
        assert_eq!(metrics.clipped().sum, 0.0);
    }

    #[test]
    fn only_clips_that_stop_a_gradient_count() {
        let logprobs = [1.5f64.ln(), 1.5f64.ln(), 0.5f64.ln(), 0.5f64.ln()];
        let terms = PolicyTerms {
            logprobs: &logprobs,
            old_logprobs: &[0.0; 4],
            advantages: &[1.0, -1.0, 1.0, -1.0],
        };
        let metrics = RatioMetrics::of(terms, Clip::symmetric(0.2));
        assert_eq!((metrics.clipped_high.sum, metrics.clipped_low.sum), (1.0, 1.0));
        assert_eq!(metrics.clipped().value(), Some(0.5));
        assert_close(&[metrics.ratio.value().unwrap()], &[1.0], 1e-15);
        assert_close(&[metrics.approx_kl_k3.sum], &[-2.0 * 0.75f64.ln()], 1e-14);
    }

    #[test]
    fn microbatches_merge_to_the_whole() {
        let (new, old, advantages) = ([-1.0, -0.2, -3.0], [-1.1, -0.5, -2.0], [1.0, 1.0, -1.0]);
        let of = |range: std::ops::Range<usize>| {
            let terms = PolicyTerms {
                logprobs: &new[range.clone()],
                old_logprobs: &old[range.clone()],
                advantages: &advantages[range],
            };
            RatioMetrics::of(terms, Clip::symmetric(0.2))
        };
        assert_eq!(of(0..1).merge(of(1..3)), of(0..3));
    }
}
