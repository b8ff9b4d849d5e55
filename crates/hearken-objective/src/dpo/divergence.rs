//! The divergence that keeps the policy near the reference, as a map of log-ratios.

use std::f64::consts::LN_2;

use crate::numerics::{at_most, log_sigmoid, sigmoid};

/// Which f-divergence the preference objective penalizes: the log-ratio h is replaced by f′(e^h), which
/// is 0 at h = 0. The constant that this fixes cancels in a plain difference, but not where scores are
/// divided by their numbers of tokens first.
///
/// Wang et al. 2023, arXiv:2309.16240.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Divergence {
    /// h: the KL(π ‖ π_ref) of DPO.
    ReverseKl,
    /// 1 − e^{−h}: KL(π_ref ‖ π).
    ForwardKl,
    /// ln 2 + ln σ(h).
    JensenShannon,
    /// (e^{(α−1)h} − 1) / (α−1), h at α = 1. TRL's convention; the paper's α is 1 − this one.
    Alpha {
        /// α.
        alpha: f64,
    },
}

impl Divergence {
    /// Largest exponent that is exponentiated; beyond it the score is constant and its derivative 0.
    /// Reached only where policy and reference differ by a factor of e^80.
    pub const EXPONENT_MAX: f64 = 80.0;

    /// The score of a log-ratio, and its derivative.
    ///
    /// ```
    /// use hearken_objective::dpo::Divergence;
    /// assert_eq!(Divergence::ReverseKl.score(0.7), (0.7, 1.0));
    /// assert_eq!(Divergence::ForwardKl.score(0.0), (0.0, 1.0));
    /// ```
    pub fn score(self, log_ratio: f64) -> (f64, f64) {
        match self {
            Self::ReverseKl => (log_ratio, 1.0),
            Self::ForwardKl => power(-1.0, log_ratio),
            Self::JensenShannon => (LN_2 + log_sigmoid(log_ratio), sigmoid(-log_ratio)),
            // Nearer to 1 than this the quotient loses more digits than the limit does.
            Self::Alpha { alpha } if (alpha - 1.0).abs() < 1e-6 => (log_ratio, 1.0),
            Self::Alpha { alpha } => power(alpha - 1.0, log_ratio),
        }
    }
}

/// (e^{a·h} − 1)/a and its derivative e^{a·h}.
fn power(a: f64, log_ratio: f64) -> (f64, f64) {
    let exponent = a * log_ratio;
    let bounded = at_most(exponent, Divergence::EXPONENT_MAX);
    let slope = if exponent <= Divergence::EXPONENT_MAX { bounded.exp() } else { 0.0 };
    (bounded.exp_m1() / a, slope)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_difference::{assert_close, assert_gradient};

    #[test]
    fn derivatives_are_those_of_central_differences() {
        let all = [
            Divergence::ReverseKl,
            Divergence::ForwardKl,
            Divergence::JensenShannon,
            Divergence::Alpha { alpha: 0.5 },
            Divergence::Alpha { alpha: 2.0 },
        ];
        for divergence in all {
            for h in [-2.0, 0.0, 1.3] {
                assert_gradient(|x| divergence.score(x[0]).0, &[h], &[divergence.score(h).1]);
            }
        }
    }

    #[test]
    fn alpha_zero_is_forward_kl_and_alpha_one_reverse_kl() {
        for h in [-1.0, 0.4] {
            assert_eq!(Divergence::Alpha { alpha: 0.0 }.score(h), Divergence::ForwardKl.score(h));
            assert_eq!(Divergence::Alpha { alpha: 1.0 }.score(h), Divergence::ReverseKl.score(h));
            let near = Divergence::Alpha { alpha: 1.0 + 1e-5 };
            assert_close(&[near.score(h).0], &[h], 1e-4);
        }
    }

    /// f′(1) = 0 and f″(1) = 1 (½ for Jensen and Shannon): the policy that is the reference scores 0.
    #[test]
    fn the_reference_itself_scores_zero() {
        for (divergence, slope) in [
            (Divergence::ReverseKl, 1.0),
            (Divergence::ForwardKl, 1.0),
            (Divergence::JensenShannon, 0.5),
            (Divergence::Alpha { alpha: 0.5 }, 1.0),
        ] {
            let (score, found) = divergence.score(0.0);
            assert_close(&[score, found], &[0.0, slope], 1e-15);
        }
    }

    #[test]
    fn scores_have_their_known_values() {
        assert_close(&[Divergence::ForwardKl.score(1.0).0], &[0.632_120_558_8], 1e-10);
        assert_close(&[Divergence::JensenShannon.score(1.0).0], &[0.379_885_493_0], 1e-10);
        let half = Divergence::Alpha { alpha: 0.5 };
        assert_close(&[half.score(1.0).0], &[0.786_938_680_6], 1e-10);
    }

    #[test]
    fn a_policy_far_below_the_reference_stays_finite() {
        let (score, slope) = Divergence::ForwardKl.score(-1e4);
        assert!(score.is_finite() && slope == 0.0);
    }
}
