//! What tells demonstrated steps from the policy's own.
//!
//! GAIL has one network, whose output for what is seen and done is the logit. AIRL has two, a reward and a potential, and
//! the logit is what they and the policy say ([`ShapedStep`]); where the task ends, nothing follows and the potential of
//! what follows is 0.

use hearken_env::{EnvironmentId, ObservationSpace, Spaces};
use hearken_objective::adversarial::{AdversarialReward, ShapedStep, discriminator_loss};
use hearken_tensor::dense::Nonlinearity;
use hearken_tensor::device::AdamW;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::actions::Actions;
use crate::config::{ImitationConfig, Method};
use crate::network::{Down, Network, NetworkShape, Pass, Trunk, WeightDraw};
use crate::normalization::RunningMoments;
use crate::reward_model::{Output, RewardInput, RewardModel};

/// Steps of one side, with observations as the policy reads them.
#[derive(Clone, Debug)]
pub struct DiscriminatorSide<'a> {
    /// Before each action.
    pub observations: Vec<f32>,
    /// Behind each action.
    pub following: Vec<f32>,
    /// What was done.
    pub actions: &'a Actions,
    /// Whether the task goes on.
    pub goes_on: Vec<bool>,
    /// log π of what was done, of the policy that acts.
    pub logprobs: Vec<f64>,
}

/// One network or two, and what their updates need.
#[derive(Clone, Debug)]
pub struct Discriminator {
    /// GAIL's logit, or AIRL's reward g.
    pub reward: Network,
    /// AIRL's potential h.
    pub potential: Option<Network>,
    /// Updates made.
    pub step: u64,
    environment: EnvironmentId,
    spaces: Spaces,
    reads: RewardInput,
    form: AdversarialReward,
    gamma: f64,
    settings: ImitationConfig,
    work: DiscriminatorWorkspace,
}

#[derive(Clone, Debug, Default)]
struct DiscriminatorWorkspace {
    rows: Vec<f32>,
    /// What was seen of all steps, and behind it what was seen next.
    states: Vec<f32>,
    reward: Pass,
    potential: Pass,
}

/// Means over an iteration's updates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct DiscriminatorMetrics {
    /// Binary cross-entropy, both sides the same weight.
    #[serde(rename = "imitation/discriminator_loss")]
    pub loss: f64,
    /// Share of demonstrated steps that are taken for such.
    #[serde(rename = "imitation/demonstrated_accuracy")]
    pub demonstrated_accuracy: f64,
    /// Share of the policy's steps that are taken for such.
    #[serde(rename = "imitation/own_accuracy")]
    pub own_accuracy: f64,
}

impl Discriminator {
    /// Fresh networks for GAIL or AIRL.
    pub fn new(
        settings: &ImitationConfig,
        gamma: f64,
        environment: EnvironmentId,
        spaces: Spaces,
        rng: &mut ChaCha8Rng,
    ) -> Self {
        let is_shaped = settings.method == Method::Airl;
        let reads = if is_shaped && settings.state_only {
            RewardInput::State
        } else {
            RewardInput::StateAndAction
        };
        let trunk =
            Trunk { convolutions: &[], hidden: &settings.hidden, nonlinearity: Nonlinearity::Tanh };
        let mut network = |length: usize| {
            let shape = NetworkShape::of(trunk, ObservationSpace::Vector { length }, 0, 1);
            Network::new(&shape, WeightDraw::Uniform, rng)
        };
        let default =
            if is_shaped { AdversarialReward::Logit } else { AdversarialReward::Positive };
        Self {
            reward: network(reads.row_len(spaces)),
            potential: is_shaped.then(|| network(spaces.observation.len())),
            step: 0,
            environment,
            spaces,
            reads,
            form: settings.reward.map_or(default, AdversarialReward::from),
            gamma,
            settings: settings.clone(),
            work: DiscriminatorWorkspace::default(),
        }
    }

    /// The logits of entries of several sides, one side behind another.
    fn logits(&mut self, sides: &[(&DiscriminatorSide<'_>, &[usize])]) -> Vec<f64> {
        let len = self.spaces.observation.len();
        let Self { reward, potential, spaces, reads, gamma, work, .. } = self;
        work.rows.clear();
        work.states.clear();
        let all =
            || sides.iter().flat_map(|(side, entries)| entries.iter().map(move |&at| (side, at)));
        for (side, at) in all() {
            let observation = &side.observations[at * len..][..len];
            reads.row(observation, side.actions, at, *spaces, &mut work.rows);
        }
        reward.forward(&work.rows, &mut work.reward);
        let output = work.reward.output();
        let Some(potential) = potential else {
            return output.iter().map(|&logit| f64::from(logit)).collect();
        };
        for (side, at) in all() {
            work.states.extend_from_slice(&side.observations[at * len..][..len]);
        }
        for (side, at) in all() {
            work.states.extend_from_slice(&side.following[at * len..][..len]);
        }
        potential.forward(&work.states, &mut work.potential);
        let (before, behind) = work.potential.output().split_at(output.len());
        let steps = all().zip(output).zip(before.iter().zip(behind));
        let steps = steps.map(|(((side, at), &reward), (&potential, &next))| ShapedStep {
            reward: f64::from(reward),
            potential: f64::from(potential),
            next_potential: side.goes_on[at].then_some(f64::from(next)),
            logprob: side.logprobs[at],
        });
        steps.map(|step| step.logit(*gamma)).collect()
    }

    /// One update, on entries of both sides; adds to `sums`.
    ///
    /// # Errors
    /// The name of what holds a NaN or an infinity.
    pub fn update(
        &mut self,
        demonstrated: (&DiscriminatorSide<'_>, &[usize]),
        own: (&DiscriminatorSide<'_>, &[usize]),
        sums: &mut DiscriminatorMetrics,
    ) -> Result<(), &'static str> {
        let logits = self.logits(&[demonstrated, own]);
        let (theirs, ours) = logits.split_at(demonstrated.1.len());
        let of = discriminator_loss(theirs, ours);
        sums.loss += of.loss;
        let share = |logits: &[f64], is_right: fn(f64) -> bool| {
            logits.iter().filter(|&&logit| is_right(logit)).count() as f64 / logits.len() as f64
        };
        sums.demonstrated_accuracy += share(theirs, |logit| 0.0 < logit);
        sums.own_accuracy += share(ours, |logit| logit < 0.0);
        let slopes = [of.grad_demonstrated, of.grad_own].concat();
        let Self { reward, potential, work, gamma, .. } = self;
        let doutput = work.reward.doutput();
        doutput.clear();
        doutput.extend(slopes.iter().map(|&slope| slope as f32));
        reward.backward(&work.rows, &mut work.reward, Down::ToParameters);
        if let Some(potential) = potential {
            let sides = [demonstrated, own];
            let goes_on = sides.iter().flat_map(|(side, at)| at.iter().map(|&at| side.goes_on[at]));
            let doutput = work.potential.doutput();
            doutput.clear();
            doutput.extend(slopes.iter().map(|&slope| -slope as f32));
            doutput.extend(
                slopes.iter().zip(goes_on).map(
                    |(&slope, goes_on)| {
                        if goes_on { (*gamma * slope) as f32 } else { 0.0 }
                    },
                ),
            );
            potential.backward(&work.states, &mut work.potential, Down::ToParameters);
        }
        self.step()
    }

    fn step(&mut self) -> Result<(), &'static str> {
        self.step += 1;
        let step = AdamW {
            lr: *self.settings.lr,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            step: self.step,
            grad_scale: 1.0,
        };
        for network in std::iter::once(&mut self.reward).chain(&mut self.potential) {
            network.add_penalty(*self.settings.penalty as f32);
            if !network.gradient_squares().is_finite() {
                return Err("the gradients of the discriminator");
            }
            network.update(step);
        }
        Ok(())
    }

    /// What the policy is paid for its steps.
    pub fn rewards(&mut self, own: &DiscriminatorSide<'_>) -> Vec<f64> {
        let entries: Vec<usize> = (0..own.goes_on.len()).collect();
        let logits = self.logits(&[(own, &entries)]);
        logits.into_iter().map(|logit| self.form.of(logit)).collect()
    }

    /// The reward by itself: AIRL's g, or what GAIL's logit pays.
    pub fn reward_model(&self, moments: Option<RunningMoments>) -> RewardModel {
        let output =
            if self.potential.is_some() { Output::Reward } else { Output::from(self.form) };
        RewardModel {
            environment: self.environment.clone(),
            spaces: self.spaces,
            network: self.reward.clone(),
            reads: self.reads,
            output,
            moments,
        }
    }
}
