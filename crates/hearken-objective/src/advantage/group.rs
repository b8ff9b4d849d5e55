//! One advantage per completion, from the scores of its group.

use crate::moments::{Moments, Variance};

/// r_i − mean(r).
///
/// Liu et al. 2025, arXiv:2503.20783 (Dr. GRPO).
///
/// ```
/// use hearken_objective::advantage::group::minus_mean;
/// assert_eq!(minus_mean(&[1.0, 2.0, 6.0]), [-2.0, -1.0, 3.0]);
/// ```
pub fn minus_mean(scores: &[f64]) -> Vec<f64> {
    let mean = Moments::of(scores).mean;
    scores.iter().map(|r| r - mean).collect()
}

/// How a group's scores are standardized.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standardization {
    /// Added to the standard deviation: 0 in the paper, 1e-4 in TRL, 1e-6 in verl.
    pub eps: f64,
    /// All three divide the squares by n − 1.
    pub variance: Variance,
}

/// (r_i − mean(r)) / (std(r) + eps); 0 for every completion of a group whose scores are all equal,
/// whatever `eps` is.
///
/// Shao et al. 2024, arXiv:2402.03300, section 4.1.2 (GRPO, outcome supervision).
///
/// ```
/// use hearken_objective::advantage::group::{Standardization, standardized};
/// use hearken_objective::moments::Variance;
/// let how = Standardization { eps: 1e-4, variance: Variance::Sample };
/// let a = standardized(&[0.0, 1.0, 1.0, 0.0], how);
/// assert!((a[1] - 0.865875).abs() < 1e-6);
/// ```
pub fn standardized(scores: &[f64], how: Standardization) -> Vec<f64> {
    divided_by_std(minus_mean(scores), Moments::of(scores), how)
}

/// r_i minus the mean of the others' scores.
///
/// ```text
/// Â_i = r_i − 1/(G−1)·Σ_{j≠i} r_j = G/(G−1)·(r_i − mean(r))
/// ```
///
/// Ahmadian et al. 2024, arXiv:2402.14740 (RLOO). A group of one has no others: its advantage is 0.
///
/// ```
/// use hearken_objective::advantage::group::leave_one_out;
/// let a = leave_one_out(&[1.0, 2.0, 5.0, 8.0]);
/// assert!((a[0] + 4.0).abs() < 1e-12 && (a[3] - 16.0 / 3.0).abs() < 1e-12);
/// ```
pub fn leave_one_out(scores: &[f64]) -> Vec<f64> {
    let n = scores.len() as f64;
    let factor = if scores.len() < 2 { 0.0 } else { n / (n - 1.0) };
    minus_mean(scores).iter().map(|a| a * factor).collect()
}

/// r_i minus the score of the greedy completion to the same prompt.
///
/// Li et al. 2023, arXiv:2310.10505 (ReMax).
///
/// ```
/// use hearken_objective::advantage::group::minus_greedy;
/// assert_eq!(minus_greedy(&[1.0, 0.25], 0.25), [0.75, 0.0]);
/// ```
pub fn minus_greedy(scores: &[f64], greedy_score: f64) -> Vec<f64> {
    scores.iter().map(|r| r - greedy_score).collect()
}

/// Each group's scores minus their mean, divided by the standard deviation of *all* scores + eps.
///
/// Liu et al. 2025, arXiv:2508.08221 (Lite PPO); `scale_rewards = "batch"` in TRL. All 0 where the
/// scores of the whole batch are equal.
///
/// | argument | length         | meaning        |
/// |----------|----------------|----------------|
/// | `groups` | groups, each G | scores         |
///
/// ```
/// use hearken_objective::advantage::group::{Standardization, over_batch_std};
/// use hearken_objective::moments::Variance;
/// let groups = [vec![0.0, 1.0, 1.0, 0.0], vec![1.0, 2.0, 3.0, 6.0]];
/// let a = over_batch_std(&groups, Standardization { eps: 1e-4, variance: Variance::Sample });
/// assert!((a[1][3] - 1.513499).abs() < 1e-6);
/// ```
pub fn over_batch_std(groups: &[Vec<f64>], how: Standardization) -> Vec<Vec<f64>> {
    let all = Moments::of_rows(groups);
    groups.iter().map(|scores| divided_by_std(minus_mean(scores), all, how)).collect()
}

/// Mean of several rewards' advantages, each standardized within the group first.
///
/// ```text
/// Â_i = Σ_k w_k·standardized(r^k)_i
/// ```
///
/// Liu et al. 2026, arXiv:2601.05242 (GDPO): a sum of rewards that is standardized once lets the one
/// with the largest spread decide; this does not.
///
/// | argument  | length          | meaning                     |
/// |-----------|-----------------|-----------------------------|
/// | `rewards` | K, each G       | one row per reward          |
/// | `weights` | K               | weight of each reward       |
///
/// # Panics
/// If there is not one weight per reward, or the rows differ in length.
///
/// ```
/// use hearken_objective::advantage::group::{Standardization, decoupled};
/// use hearken_objective::moments::Variance;
/// let how = Standardization { eps: 0.0, variance: Variance::Population };
/// let a = decoupled(&[vec![0.0, 1.0], vec![100.0, 0.0]], &[1.0, 1.0], how);
/// assert_eq!(a, [0.0, 0.0]);
/// ```
pub fn decoupled(rewards: &[Vec<f64>], weights: &[f64], how: Standardization) -> Vec<f64> {
    assert_eq!(rewards.len(), weights.len(), "weights: one per reward");
    let mut sums = vec![0.0; rewards.first().map_or(0, Vec::len)];
    for (row, weight) in rewards.iter().zip(weights) {
        assert_eq!(row.len(), sums.len(), "rewards: one per completion of the group");
        for (sum, a) in sums.iter_mut().zip(standardized(row, how)) {
            *sum += weight * a;
        }
    }
    sums
}

/// Whether a group's scores differ at all: a group whose scores are equal has no gradient, and dynamic
/// sampling draws another one in its place.
///
/// Yu et al. 2025, arXiv:2503.14476, section 3.2 (DAPO).
///
/// ```
/// use hearken_objective::advantage::group::has_spread;
/// assert!(has_spread(&[0.0, 1.0]));
/// assert!(!has_spread(&[1.0, 1.0]) && !has_spread(&[]));
/// ```
pub fn has_spread(scores: &[f64]) -> bool {
    scores.iter().any(|r| *r < scores[0] || scores[0] < *r)
}

fn divided_by_std(mut centered: Vec<f64>, of: Moments, how: Standardization) -> Vec<f64> {
    let std = of.std(how.variance).unwrap_or(0.0);
    // Equal scores leave rounding errors in the numerator; without this guard eps = 0 divides 0 by 0.
    let scale = if std <= f64::EPSILON * of.mean.abs() { 0.0 } else { 1.0 / (std + how.eps) };
    for a in &mut centered {
        *a *= scale;
    }
    centered
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_difference::assert_close;

    const TRL: Standardization = Standardization { eps: 1e-4, variance: Variance::Sample };
    const TWO_OF_EIGHT: [f64; 8] = [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];

    fn check(scores: &[f64], how: Standardization, expected: &[f64]) {
        assert_close(&standardized(scores, how), expected, 5e-7);
    }

    #[test]
    fn standardized_scores_have_their_known_values() {
        check(&[0.0, 1.0, 1.0, 0.0], TRL, &[-0.865_875, 0.865_875, 0.865_875, -0.865_875]);
        check(&[1.0, 2.0, 3.0, 6.0], TRL, &[-0.925_777, -0.462_889, 0.0, 1.388_666]);
        for (eps, variance, one, zero) in [
            (0.0, Variance::Sample, 1.620_185, -0.540_062),
            (0.0, Variance::Population, 1.732_051, -0.577_350),
            (1e-6, Variance::Sample, 1.620_182, -0.540_061),
            (1e-4, Variance::Sample, 1.619_835, -0.539_945),
        ] {
            let expected = TWO_OF_EIGHT.map(|r| if r == 1.0 { one } else { zero });
            check(&TWO_OF_EIGHT, Standardization { eps, variance }, &expected);
        }
    }

    #[test]
    fn scores_over_the_batch_std_have_their_known_values() {
        let groups = [vec![0.0, 1.0, 1.0, 0.0], vec![1.0, 2.0, 3.0, 6.0]];
        let found = over_batch_std(&groups, TRL);
        assert_close(&found[0], &[-0.252_250, 0.252_250, 0.252_250, -0.252_250], 5e-7);
        assert_close(&found[1], &[-1.008_999, -0.504_500, 0.0, 1.513_499], 5e-7);
    }

    #[test]
    fn leave_one_out_has_its_known_values() {
        let expected = [-4.0, -2.666_667, 1.333_333, 5.333_333];
        assert_close(&leave_one_out(&[1.0, 2.0, 5.0, 8.0]), &expected, 5e-7);
        let found = leave_one_out(&TWO_OF_EIGHT);
        assert_close(&[found[0], found[7]], &[0.857_143, -0.285_714], 5e-7);
    }

    #[test]
    fn dr_grpo_is_a_fixed_share_of_leave_one_out() {
        let scores = [0.3, -1.0, 2.0, 0.9, 0.0];
        let scaled: Vec<f64> = leave_one_out(&scores).iter().map(|a| a * 4.0 / 5.0).collect();
        assert_close(&minus_mean(&scores), &scaled, 1e-14);
    }

    #[test]
    fn a_constant_added_to_a_group_changes_nothing() {
        let scores = [0.3, -1.0, 2.0, 0.9];
        let shifted = scores.map(|r| r + 17.0);
        assert_close(&minus_mean(&shifted), &minus_mean(&scores), 1e-13);
        assert_close(&leave_one_out(&shifted), &leave_one_out(&scores), 1e-13);
        assert_close(&standardized(&shifted, TRL), &standardized(&scores, TRL), 1e-13);
    }

    #[test]
    fn advantages_of_a_group_sum_to_zero() {
        let scores = [0.3, -1.0, 2.0, 0.9];
        for advantages in [minus_mean(&scores), leave_one_out(&scores), standardized(&scores, TRL)]
        {
            assert_close(&[advantages.iter().sum()], &[0.0], 1e-14);
        }
    }

    #[test]
    fn equal_scores_have_no_advantage_even_without_eps() {
        let how = Standardization { eps: 0.0, variance: Variance::Sample };
        assert_eq!(standardized(&[0.1, 0.1, 0.1], how), [0.0; 3]);
        assert_eq!(standardized(&[0.0, 0.0], how), [0.0; 2]);
        assert_eq!(standardized(&[3.0], how), [0.0]);
        assert_eq!(leave_one_out(&[3.0]), [0.0]);
        assert_eq!(over_batch_std(&[vec![2.0], vec![2.0, 2.0]], how).concat(), [0.0; 3]);
    }

    #[test]
    fn the_greedy_completion_has_advantage_zero() {
        assert_eq!(minus_greedy(&[0.7, 0.2], 0.7)[0], 0.0);
    }
}
