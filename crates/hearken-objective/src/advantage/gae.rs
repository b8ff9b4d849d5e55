//! Generalized advantage estimation, returns, and how well values explain them.

use crate::moments::{Moments, Variance};

/// Discount and trace decay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gae {
    /// γ: 1 for language models, whose reward comes at the end.
    pub gamma: f64,
    /// λ: 1 is the Monte-Carlo return minus the value, 0 the one-step error.
    pub lambda: f64,
}

/// Generalized advantage estimation for one completed trajectory.
///
/// ```text
/// δ_t = r_t + γ·V_{t+1} − V_t          V_T = bootstrap
/// Â_t = δ_t + γλ·Â_{t+1}               Â_T = 0
/// ```
///
/// Schulman et al. 2016, arXiv:1506.02438, eq. 16. Not whitened: see
/// [`whiten`](crate::advantage::whiten::whiten).
///
/// | argument    | length | meaning                                               |
/// |-------------|--------|-------------------------------------------------------|
/// | `rewards`   | T      | r_t, received after action t                          |
/// | `values`    | T      | V(s_t), before action t                               |
/// | `bootstrap` | scalar | V(s_T); 0 if the trajectory terminated, not truncated |
///
/// # Panics
/// If `rewards` and `values` differ in length.
///
/// ```
/// use hearken_objective::advantage::gae::{Gae, gae};
/// // One reward of 1 at the end, no baseline: Â is the discounted return.
/// let a = gae(&[0.0, 0.0, 1.0], &[0.0; 3], 0.0, Gae { gamma: 0.5, lambda: 1.0 });
/// assert_eq!(a, [0.25, 0.5, 1.0]);
/// ```
pub fn gae(rewards: &[f64], values: &[f64], bootstrap: f64, gae: Gae) -> Vec<f64> {
    assert_eq!(rewards.len(), values.len(), "rewards and values: one per step");
    let mut advantages = vec![0.0; rewards.len()];
    let (mut next_value, mut next_advantage) = (bootstrap, 0.0);
    for t in (0..rewards.len()).rev() {
        let delta = rewards[t] + gae.gamma * next_value - values[t];
        next_advantage = delta + gae.gamma * gae.lambda * next_advantage;
        next_value = values[t];
        advantages[t] = next_advantage;
    }
    advantages
}

/// Targets of the value function: R_t = Â_t + V_t, with Â as [`gae`] leaves it, before any whitening.
///
/// # Panics
/// If the lengths differ.
///
/// ```
/// use hearken_objective::advantage::gae::returns;
/// assert_eq!(returns(&[0.5, -1.0], &[1.0, 2.0]), [1.5, 1.0]);
/// ```
pub fn returns(advantages: &[f64], values: &[f64]) -> Vec<f64> {
    assert_eq!(advantages.len(), values.len(), "advantages and values: one per step");
    advantages.iter().zip(values).map(|(a, v)| a + v).collect()
}

/// Discounted sum of the rewards from each step on: G_t = r_t + γ·G_{t+1}.
///
/// ```
/// use hearken_objective::advantage::gae::rewards_to_go;
/// assert_eq!(rewards_to_go(&[1.0, 2.0, 4.0], 0.5), [3.0, 4.0, 4.0]);
/// ```
pub fn rewards_to_go(rewards: &[f64], gamma: f64) -> Vec<f64> {
    let mut sums = rewards.to_vec();
    for t in (1..sums.len()).rev() {
        sums[t - 1] += gamma * sums[t];
    }
    sums
}

/// Share of the returns' variance that the values explain: 1 − Var(R − V) / Var(R).
///
/// 1 is a perfect critic, 0 one no better than a constant, negative one that is worse. `None` where
/// the returns do not vary.
///
/// # Panics
/// If the lengths differ.
///
/// ```
/// use hearken_objective::advantage::gae::explained_variance;
/// assert_eq!(explained_variance(&[1.0, 2.0], &[1.0, 2.0]), Some(1.0));
/// assert_eq!(explained_variance(&[1.0, 2.0], &[0.0, 0.0]), Some(0.0));
/// ```
pub fn explained_variance(returns: &[f64], values: &[f64]) -> Option<f64> {
    assert_eq!(returns.len(), values.len(), "returns and values: one per step");
    let errors: Vec<f64> = returns.iter().zip(values).map(|(r, v)| r - v).collect();
    let total = Moments::of(returns).variance(Variance::Population)?;
    let left = Moments::of(&errors).variance(Variance::Population)?;
    (0.0 < total).then(|| 1.0 - left / total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_difference::{assert_close, uniform};

    const REWARDS: [f64; 4] = [-0.01, 0.02, -0.03, 1.0];
    const VALUES: [f64; 4] = [0.3, 0.2, 0.5, 0.7];

    #[test]
    fn the_worked_example_has_its_known_advantages_and_returns() {
        let advantages = gae(&REWARDS, &VALUES, 0.0, Gae { gamma: 1.0, lambda: 0.95 });
        assert_close(&advantages, &[0.604_637_5, 0.752_25, 0.455, 0.3], 1e-12);
        let expected = [0.904_637_5, 0.952_25, 0.955, 1.0];
        assert_close(&returns(&advantages, &VALUES), &expected, 1e-12);
    }

    #[test]
    fn lambda_one_is_monte_carlo_minus_baseline() {
        let advantages = gae(&REWARDS, &VALUES, 0.0, Gae { gamma: 0.9, lambda: 1.0 });
        let expected: Vec<f64> =
            rewards_to_go(&REWARDS, 0.9).iter().zip(VALUES).map(|(g, v)| g - v).collect();
        assert_close(&advantages, &expected, 1e-14);
    }

    #[test]
    fn lambda_zero_is_the_one_step_error() {
        let advantages = gae(&REWARDS, &VALUES, 0.4, Gae { gamma: 0.5, lambda: 0.0 });
        assert_close(&advantages, &[-0.21, 0.07, -0.18, 0.5], 1e-14);
    }

    /// The λ-return: G^λ_t = (1−λ) Σ_n λ^{n−1} G^{(n)}_t, the rest of the weight on the full return.
    #[test]
    fn advantages_are_brute_force_lambda_returns_minus_values() {
        for (seed, steps) in [(1, 1), (2, 5), (3, 17)] {
            let (rewards, values) = (uniform(seed, steps), uniform(seed + 10, steps));
            let (gamma, lambda, bootstrap) = (0.97_f64, 0.9_f64, 0.37);
            let power = |x: f64, k: usize| (0..k).map(|_| x).product::<f64>();
            let value_at = |t: usize| if t == steps { bootstrap } else { values[t] };
            let n_step = |t: usize, n: usize| -> f64 {
                (0..n).map(|k| power(gamma, k) * rewards[t + k]).sum::<f64>()
                    + power(gamma, n) * value_at(t + n)
            };
            let expected: Vec<f64> = (0..steps)
                .map(|t| {
                    let last = steps - t;
                    let mix: f64 = (1..last)
                        .map(|n| (1.0 - lambda) * power(lambda, n - 1) * n_step(t, n))
                        .sum();
                    mix + power(lambda, last - 1) * n_step(t, last) - values[t]
                })
                .collect();
            let found = gae(&rewards, &values, bootstrap, Gae { gamma, lambda });
            assert_close(&found, &expected, 1e-14);
        }
    }

    #[test]
    fn a_truncated_trajectory_continues_where_its_bootstrap_says() {
        let all = gae(&REWARDS, &VALUES, 0.0, Gae { gamma: 0.9, lambda: 0.0 });
        let cut = gae(&REWARDS[..2], &VALUES[..2], VALUES[2], Gae { gamma: 0.9, lambda: 0.0 });
        assert_eq!(cut, all[..2]);
    }

    #[test]
    fn explained_variance_falls_with_the_error() {
        let targets = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(explained_variance(&targets, &[4.0, 3.0, 2.0, 1.0]), Some(-3.0));
        assert_eq!(explained_variance(&[1.0, 1.0], &[0.0, 1.0]), None);
        assert_eq!(explained_variance(&[], &[]), None);
    }
}
