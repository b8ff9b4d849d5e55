//! Drawing N completions and keeping the best, as a policy.
//!
//! What is not here: sampling. These are the quantities that a trained policy is compared with.

/// Probability that the best of `n` independent draws is each outcome; draws of equal score are as one.
///
/// ```text
/// P(a) = F(r_a)^n − F(r_a⁻)^n            shared among equal scores in proportion to π
/// ```
///
/// Beirami et al. 2024, arXiv:2401.01879.
///
/// | argument        | length | meaning                               |
/// |-----------------|--------|---------------------------------------|
/// | `probabilities` | A      | π of each outcome                     |
/// | `scores`        | A      | score of each outcome                 |
/// | `n`             | scalar | draws, at least 1                     |
///
/// # Panics
/// If the lengths differ.
///
/// ```
/// use hearken_objective::best_of_n::distribution;
/// assert_eq!(distribution(&[0.5, 0.5], &[0.0, 1.0], 2), [0.25, 0.75]);
/// ```
pub fn distribution(probabilities: &[f64], scores: &[f64], n: u32) -> Vec<f64> {
    assert_eq!(probabilities.len(), scores.len(), "scores: one per outcome");
    let mass = |counts: &dyn Fn(f64) -> bool| -> f64 {
        probabilities.iter().zip(scores).filter(|(_, r)| counts(**r)).map(|(p, _)| p).sum()
    };
    let power = |x: f64| x.powi(i32::try_from(n).unwrap_or(i32::MAX));
    probabilities
        .iter()
        .zip(scores)
        .map(|(p, score)| {
            let (below, up_to) = (mass(&|r| r < *score), mass(&|r| r <= *score));
            let equal = up_to - below;
            if *p == 0.0 { 0.0 } else { p / equal * (power(up_to) - power(below)) }
        })
        .collect()
}

/// ln N − (N − 1)/N: the KL of best-of-N from the policy it draws from, in nats, if no two scores are
/// equal; an upper bound otherwise.
///
/// Stiennon et al. 2020, arXiv:2009.01325; Beirami et al. 2024, arXiv:2401.01879.
///
/// ```
/// use hearken_objective::best_of_n::kl_bound;
/// assert!((kl_bound(4) - 0.6363).abs() < 1e-4);
/// ```
pub fn kl_bound(n: u32) -> f64 {
    let n = f64::from(n);
    n.ln() - (n - 1.0) / n
}

/// Expected gold score of best-of-n, estimated without bias from M ≥ n scored draws.
///
/// ```text
/// Σ_k C(M−k, n−1)/C(M, n)·gold_(k)        k = 1 for the draw with the best proxy score
/// ```
///
/// Nakano et al. 2021, arXiv:2112.09332.
///
/// | argument | length | meaning                                               |
/// |----------|--------|-------------------------------------------------------|
/// | `gold`   | M      | gold scores, ordered from best to worst *proxy* score |
/// | `n`      | scalar | draws, between 1 and M; else `None`                   |
///
/// ```
/// use hearken_objective::best_of_n::expected_score;
/// assert_eq!(expected_score(&[3.0, 1.0, 2.0], 1), Some(2.0));
/// assert_eq!(expected_score(&[3.0, 1.0, 2.0], 3), Some(3.0));
/// ```
pub fn expected_score(gold: &[f64], n: usize) -> Option<f64> {
    let m = gold.len();
    if n == 0 || m < n {
        return None;
    }
    // C(M−k, n−1)/C(M, n) is n/M at k = 1 and shrinks by (M−k−n+1)/(M−k) from k to k+1.
    let mut probability = n as f64 / m as f64;
    let mut sum = 0.0;
    for (index, score) in gold.iter().enumerate().take(m - n + 1) {
        sum += probability * score;
        let left = (m - index - 1) as f64;
        if 0.0 < left {
            probability *= (left - (n - 1) as f64) / left;
        }
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_difference::assert_close;

    const REFERENCE: [f64; 4] = [0.5, 0.3, 0.15, 0.05];
    const SCORES: [f64; 4] = [0.0, 0.5, 1.0, 2.0];

    #[test]
    fn best_of_four_has_its_known_distribution_and_kl() {
        let best = distribution(&REFERENCE, &SCORES, 4);
        assert_close(&best, &[0.0625, 0.3471, 0.404_91, 0.185_49], 5e-6);
        let kl: f64 = best.iter().zip(REFERENCE).map(|(p, q)| p * (p / q).ln()).sum();
        assert_close(&[kl], &[0.565_91], 5e-6);
        assert!(kl < kl_bound(4));
    }

    #[test]
    fn bounds_have_their_known_values() {
        for (n, expected) in [(2, 0.1931), (4, 0.6363), (16, 1.8351), (64, 3.1745), (1860, 6.5289)]
        {
            assert!((kl_bound(n) - expected).abs() < 5e-5, "{n}: {}", kl_bound(n));
        }
    }

    #[test]
    fn one_draw_is_the_policy_itself_and_equal_scores_share() {
        assert_close(&distribution(&REFERENCE, &SCORES, 1), &REFERENCE, 1e-15);
        assert_close(&distribution(&REFERENCE, &[1.0; 4], 9), &REFERENCE, 1e-15);
        let total: f64 = distribution(&REFERENCE, &[0.0, 1.0, 1.0, 0.0], 5).iter().sum();
        assert_close(&[total], &[1.0], 1e-14);
    }

    /// All subsets of size n, each with its best member.
    #[test]
    fn the_unbiased_estimate_is_the_mean_over_all_subsets() {
        let gold = [0.3, 2.0, -1.0, 0.9, 1.1, 0.0];
        for n in 1..=6 {
            let best_of_subsets: Vec<f64> = (1_u32..64)
                .filter(|subset| subset.count_ones() as usize == n)
                .map(|subset| gold[subset.trailing_zeros() as usize])
                .collect();
            let mean = best_of_subsets.iter().sum::<f64>() / best_of_subsets.len() as f64;
            assert_close(&[expected_score(&gold, n).unwrap()], &[mean], 1e-14);
        }
        assert_eq!(expected_score(&gold, 7), None);
        assert_eq!(expected_score(&gold, 0), None);
    }
}
