//! Maximum causal entropy inverse reinforcement learning on tasks that are small enough to be written down.
//!
//! Ziebart, Bagnell and Dey 2010, "Modeling Interaction via the Principle of Maximum Causal Entropy": the reward under which
//! a softly optimal policy visits states as often as demonstrations do. Everything is computed, nothing sampled.

use hearken_objective::numerics::log_sum_exp;

/// A task with numbered states and actions and a horizon.
#[derive(Clone, Debug, PartialEq)]
pub struct TabularTask {
    /// How many states there are.
    pub states: usize,
    /// How many actions.
    pub actions: usize,
    /// Steps of an episode: that many actions, and one state more.
    pub horizon: usize,
    /// Discount.
    pub gamma: f64,
    /// Probability of each state at the start.
    pub initial: Vec<f64>,
    /// P(s'|s, a) at `(s·actions + a)·states + s'`.
    pub transitions: Vec<f64>,
}

/// What is in a softly optimal policy: π(a|s) at each step, `steps[t][s·actions + a]`.
#[derive(Clone, Debug, PartialEq)]
pub struct SoftPolicy {
    /// Probabilities of actions, step by step.
    pub steps: Vec<Vec<f64>>,
}

impl TabularTask {
    /// The five rows of five cells of `Gridworld-v0`, without an end: what is in the goal stays there. With probability
    /// `slip` an action is replaced by one of the four at random.
    ///
    /// # Panics
    /// If `slip` is no probability.
    pub fn gridworld(slip: f64, horizon: usize) -> Self {
        assert!((0.0..=1.0).contains(&slip), "slip: a probability");
        let (states, actions) = (hearken_env::gridworld::CELLS, 4);
        let goal = states - 1;
        let mut transitions = vec![0.0; states * actions * states];
        for state in 0..states {
            for action in 0..actions {
                let row = &mut transitions[(state * actions + action) * states..][..states];
                if state == goal {
                    row[goal] = 1.0;
                    continue;
                }
                row[hearken_env::gridworld::moved(state, action)] += 1.0 - slip;
                for other in 0..actions {
                    row[hearken_env::gridworld::moved(state, other)] += slip / actions as f64;
                }
            }
        }
        let share = 1.0 / goal as f64;
        let initial = (0..states).map(|state| if state == goal { 0.0 } else { share }).collect();
        Self { states, actions, horizon, gamma: 1.0, initial, transitions }
    }

    /// The policy that maximizes the sum of rewards and entropies.
    ///
    /// ```text
    /// Q_t(s, a) = r(s) + γ Σ_s' P(s'|s, a) V_{t+1}(s')        V_t = log Σ_a exp Q_t(·, a)        V_H = r
    /// π_t = exp(Q_t − V_t)
    /// ```
    ///
    /// # Panics
    /// If there is not one reward for each state.
    pub fn soft_policy(&self, rewards: &[f64]) -> SoftPolicy {
        assert_eq!(rewards.len(), self.states, "rewards: one per state");
        let mut value = rewards.to_vec();
        let mut steps = vec![vec![0.0; self.states * self.actions]; self.horizon];
        for step in steps.iter_mut().rev() {
            let mut earlier = vec![0.0; self.states];
            for state in 0..self.states {
                let q = &mut step[state * self.actions..][..self.actions];
                for (action, q) in q.iter_mut().enumerate() {
                    let row = self.row(state, action);
                    let next: f64 = row.iter().zip(&value).map(|(p, v)| p * v).sum();
                    *q = rewards[state] + self.gamma * next;
                }
                earlier[state] = log_sum_exp(q);
                for q in q.iter_mut() {
                    *q = (*q - earlier[state]).exp();
                }
            }
            value = earlier;
        }
        SoftPolicy { steps }
    }

    fn row(&self, state: usize, action: usize) -> &[f64] {
        &self.transitions[(state * self.actions + action) * self.states..][..self.states]
    }

    /// How often a policy visits each state, all steps of an episode together, discounted.
    ///
    /// ```text
    /// D_{t+1}(s') = Σ_{s,a} D_t(s) π_t(a|s) P(s'|s, a)        D(s) = Σ_{t=0}^{H} γᵗ D_t(s)
    /// ```
    pub fn visitation(&self, policy: &SoftPolicy) -> Vec<f64> {
        let mut now = self.initial.clone();
        let mut total = now.clone();
        let mut discount = 1.0;
        for step in &policy.steps {
            let mut next = vec![0.0; self.states];
            for state in 0..self.states {
                for action in 0..self.actions {
                    let weight = now[state] * step[state * self.actions + action];
                    let row = self.row(state, action);
                    next.iter_mut().zip(row).for_each(|(next, p)| *next += weight * p);
                }
            }
            discount *= self.gamma;
            total.iter_mut().zip(&next).for_each(|(total, next)| *total += discount * next);
            now = next;
        }
        total
    }

    /// Negative log-likelihood of demonstrations up to a constant of the task, and its derivative with respect to each reward.
    ///
    /// ```text
    /// L(r) = E_{s₀}[V₀(s₀)] − Σ_s D_demo(s) r(s)        ∂L/∂r(s) = D_π(s) − D_demo(s)
    /// ```
    ///
    /// # Panics
    /// If the lengths are not those of the task.
    pub fn loss(&self, rewards: &[f64], demonstrated: &[f64]) -> (f64, Vec<f64>) {
        assert_eq!(demonstrated.len(), self.states, "demonstrated: one per state");
        let policy = self.soft_policy(rewards);
        let visited = self.visitation(&policy);
        let gradient = visited.iter().zip(demonstrated).map(|(own, theirs)| own - theirs).collect();
        let value: f64 = self.initial.iter().zip(self.values(rewards)).map(|(p, v)| p * v).sum();
        let explained: f64 = demonstrated.iter().zip(rewards).map(|(d, r)| d * r).sum();
        (value - explained, gradient)
    }

    /// V₀.
    fn values(&self, rewards: &[f64]) -> Vec<f64> {
        let mut value = rewards.to_vec();
        for _ in 0..self.horizon {
            let of = |state: usize| {
                let q = |action: usize| {
                    let row = self.row(state, action);
                    let next: f64 = row.iter().zip(&value).map(|(p, v)| p * v).sum();
                    rewards[state] + self.gamma * next
                };
                log_sum_exp(&(0..self.actions).map(q).collect::<Vec<f64>>())
            };
            value = (0..self.states).map(of).collect();
        }
        value
    }

    /// The rewards under which a softly optimal policy visits states as `demonstrated`, to within `tolerance` in each; and
    /// how many steps of gradient descent that took. `None` where `steps_max` did not reach it.
    ///
    /// # Panics
    /// If the lengths are not those of the task.
    pub fn rewards_of(
        &self,
        demonstrated: &[f64],
        tolerance: f64,
        steps_max: usize,
    ) -> Option<(Vec<f64>, usize)> {
        let mut rewards = vec![0.0; self.states];
        let mut rate = 1.0;
        let (mut loss, mut gradient) = self.loss(&rewards, demonstrated);
        for step in 0..steps_max {
            if gradient.iter().all(|gap| gap.abs() < tolerance) {
                return Some((rewards, step));
            }
            let moved: Vec<f64> =
                rewards.iter().zip(&gradient).map(|(r, g)| r - rate * g).collect();
            let (new_loss, new_gradient) = self.loss(&moved, demonstrated);
            // The loss is convex: a step that raises it was too long.
            if new_loss <= loss {
                (rewards, loss, gradient) = (moved, new_loss, new_gradient);
                rate *= 1.2;
            } else {
                rate *= 0.5;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demonstrated(task: &TabularTask, rewards: &[f64]) -> Vec<f64> {
        task.visitation(&task.soft_policy(rewards))
    }

    fn goal_rewards(task: &TabularTask) -> Vec<f64> {
        (0..task.states).map(|state| if state + 1 == task.states { 1.0 } else { -0.2 }).collect()
    }

    #[test]
    fn visits_are_as_many_as_there_are_states_in_an_episode() {
        let task = TabularTask::gridworld(0.2, 12);
        let total: f64 = demonstrated(&task, &goal_rewards(&task)).iter().sum();
        assert!((total - 13.0).abs() < 1e-12);
        let discounted = TabularTask { gamma: 0.9, ..task };
        let total: f64 = demonstrated(&discounted, &goal_rewards(&discounted)).iter().sum();
        assert!((total - (1.0 - 0.9_f64.powi(13)) / 0.1).abs() < 1e-12);
    }

    #[test]
    fn the_gradient_is_that_of_central_differences() {
        const STEP: f64 = 1e-5;
        for gamma in [1.0, 0.9] {
            let task = TabularTask { gamma, ..TabularTask::gridworld(0.1, 8) };
            let wanted = demonstrated(&task, &goal_rewards(&task));
            let rewards: Vec<f64> = (0..task.states).map(|s| (s as f64).sin()).collect();
            let (_, gradient) = task.loss(&rewards, &wanted);
            for state in 0..task.states {
                let at = |by: f64| {
                    let mut rewards = rewards.clone();
                    rewards[state] += by;
                    task.loss(&rewards, &wanted).0
                };
                let difference = (at(STEP) - at(-STEP)) / (2.0 * STEP);
                assert!((gradient[state] - difference).abs() < 1e-6, "{gamma}, state {state}");
            }
        }
    }

    #[test]
    fn what_demonstrations_visit_is_visited() {
        let task = TabularTask::gridworld(0.1, 12);
        let wanted = demonstrated(&task, &goal_rewards(&task));
        let (rewards, steps) = task.rewards_of(&wanted, 1e-3, 20_000).expect("it is reached");
        let found = demonstrated(&task, &rewards);
        for (found, wanted) in found.iter().zip(&wanted) {
            assert!((found - wanted).abs() < 1e-3, "after {steps} steps");
        }
        let best = (0..task.states).max_by(|&a, &b| rewards[a].total_cmp(&rewards[b]));
        assert_eq!(best, Some(task.states - 1), "the goal is found");
    }
}
