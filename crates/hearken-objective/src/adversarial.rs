//! Adversarial imitation: a discriminator that tells demonstrations from what a policy does, and the rewards that it gives.
//!
//! L is its logit: the log-odds that a step was demonstrated. GAIL (Ho and Ermon 2016, arXiv:1606.03476) learns L(s, a)
//! itself; AIRL (Fu, Luo and Levine 2018, arXiv:1710.11248) learns a reward g and a potential h, and L is what these and the
//! policy say.
//!
//! Not here: the networks behind L, g and h.

use crate::numerics::{log_sigmoid, softplus};
use crate::process::binary_cross_entropy;

/// What a policy is paid for a step, by the logit of the discriminator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdversarialReward {
    /// softplus(L) = −log(1 − D), above 0: whoever lives long earns much, so episodes that should end soon do not.
    Positive,
    /// −softplus(−L) = log D, below 0: whoever dies soon pays little, so episodes that should last do not.
    Negative,
    /// L: of either sign. AIRL's, since there it is g + γh' − h − log π.
    Logit,
}

impl AdversarialReward {
    /// The reward of a step.
    ///
    /// ```
    /// use hearken_objective::adversarial::AdversarialReward;
    /// assert!(AdversarialReward::Positive.of(-3.0) > 0.0 && AdversarialReward::Negative.of(3.0) < 0.0);
    /// assert_eq!(AdversarialReward::Logit.of(1.5), 1.5);
    /// ```
    pub fn of(self, logit: f64) -> f64 {
        match self {
            Self::Positive => softplus(logit),
            Self::Negative => log_sigmoid(logit),
            Self::Logit => logit,
        }
    }
}

/// The loss of a discriminator, and its derivatives with respect to the logits.
#[derive(Clone, Debug, PartialEq)]
pub struct DiscriminatorLoss {
    /// The mean over demonstrated steps and the mean over the policy's, half of each.
    pub loss: f64,
    /// d loss / d L of each demonstrated step.
    pub grad_demonstrated: Vec<f64>,
    /// d loss / d L of each step of the policy.
    pub grad_own: Vec<f64>,
}

/// Binary cross-entropy in which both sides count the same, however many steps each has.
///
/// ```text
/// loss = −½·mean log σ(L_demonstrated) − ½·mean log σ(−L_own)
/// ```
///
/// | argument | length | meaning |
/// |---|---|---|
/// | `demonstrated` | N ≥ 1 | logits of demonstrated steps |
/// | `own` | M ≥ 1 | logits of the policy's steps |
///
/// # Panics
/// If a side has no step.
///
/// ```
/// use hearken_objective::adversarial::discriminator_loss;
/// let found = discriminator_loss(&[0.0], &[0.0, 0.0]);
/// assert!((found.loss - 2f64.ln()).abs() < 1e-15);
/// assert_eq!((found.grad_demonstrated, found.grad_own), (vec![-0.25], vec![0.125; 2]));
/// ```
pub fn discriminator_loss(demonstrated: &[f64], own: &[f64]) -> DiscriminatorLoss {
    assert!(!demonstrated.is_empty() && !own.is_empty(), "each side has a step");
    let mut loss = 0.0;
    let mut side = |logits: &[f64], right: f64| -> Vec<f64> {
        let share = 0.5 / logits.len() as f64;
        let grads = logits.iter().map(|&logit| {
            let (of, grad) = binary_cross_entropy(logit, right);
            loss += share * of;
            share * grad
        });
        grads.collect()
    };
    let (grad_demonstrated, grad_own) = (side(demonstrated, 1.0), side(own, 0.0));
    DiscriminatorLoss { loss, grad_demonstrated, grad_own }
}

/// What AIRL's networks say of a step from s to s'.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShapedStep {
    /// g: the reward that is to be found.
    pub reward: f64,
    /// h(s).
    pub potential: f64,
    /// h(s'); `None` where the task ended, since nothing follows.
    pub next_potential: Option<f64>,
    /// log π(a|s) of the policy that the discriminator is set against.
    pub logprob: f64,
}

impl ShapedStep {
    /// The logit, with D = exp f / (exp f + π).
    ///
    /// ```text
    /// f = g + γ·h(s') − h(s)        L = f − log π(a|s)
    /// ∂L/∂g = 1        ∂L/∂h(s) = −1        ∂L/∂h(s') = γ
    /// ```
    ///
    /// ```
    /// use hearken_objective::adversarial::ShapedStep;
    /// let step = ShapedStep { reward: 1.0, potential: 2.0, next_potential: Some(4.0), logprob: -1.0 };
    /// assert_eq!(step.logit(0.5), 2.0);
    /// ```
    pub fn logit(self, gamma: f64) -> f64 {
        let next = self.next_potential.map_or(0.0, |potential| gamma * potential);
        self.reward + next - self.potential - self.logprob
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_difference::{assert_gradient, uniform};

    #[test]
    fn the_gradient_of_a_discriminator_is_that_of_central_differences() {
        for seed in 0..5 {
            let logits: Vec<f64> = uniform(seed, 8).iter().map(|x| 6.0 * x).collect();
            let of = |x: &[f64]| discriminator_loss(&x[..3], &x[3..]);
            let found = of(&logits);
            let gradient = [found.grad_demonstrated, found.grad_own].concat();
            assert_gradient(|x| of(x).loss, &logits, &gradient);
        }
    }

    #[test]
    fn the_gradient_goes_through_reward_and_potentials() {
        const GAMMA: f64 = 0.9;
        // g, h and h' of two steps, the first demonstrated; the second one's task ended.
        let of = |x: &[f64]| {
            let step = |x: &[f64], next_potential, logprob| {
                ShapedStep { reward: x[0], potential: x[1], next_potential, logprob }.logit(GAMMA)
            };
            discriminator_loss(&[step(&x[..2], Some(x[2]), -0.7)], &[step(&x[3..], None, -1.3)])
        };
        let x = uniform(3, 5);
        let found = of(&x);
        let (one, other) = (found.grad_demonstrated[0], found.grad_own[0]);
        assert_gradient(|x| of(x).loss, &x, &[one, -one, GAMMA * one, other, -other]);
    }

    #[test]
    fn a_step_makes_demonstrated_steps_likelier_and_the_policys_less_likely() {
        let found = discriminator_loss(&[-0.3], &[0.8]);
        assert!(found.grad_demonstrated[0] < 0.0 && 0.0 < found.grad_own[0]);
    }

    #[test]
    fn rewards_rise_with_the_logit_and_differ_by_it() {
        for logit in [-30.0, -1.0, 0.0, 2.0, 30.0] {
            let of = |how: AdversarialReward| how.of(logit);
            let [positive, negative] =
                [AdversarialReward::Positive, AdversarialReward::Negative].map(of);
            assert!(0.0 < positive && negative < 0.0);
            assert!((positive + negative - logit).abs() < 1e-12);
        }
    }

    #[test]
    fn a_potential_changes_no_return_of_an_episode_that_ends() {
        // Σ γᵗ(γh(s_{t+1}) − h(s_t)) = −h(s₀), whatever lies between.
        let potentials = [0.4, -2.0, 7.0];
        let mut total = 0.0;
        for t in 0..3 {
            let next_potential = potentials.get(t + 1).copied();
            let step =
                ShapedStep { reward: 0.0, potential: potentials[t], next_potential, logprob: 0.0 };
            total += 0.9_f64.powf(t as f64) * step.logit(0.9);
        }
        assert!((total + potentials[0]).abs() < 1e-12);
    }
}
