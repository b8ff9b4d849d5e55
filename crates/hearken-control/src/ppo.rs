//! Proximal policy optimization in copies of an environment.
//!
//! Schulman et al. 2017, arXiv:1707.06347, with what implementations have settled on (Huang et al. 2022, "The 37
//! Implementation Details of PPO"): orthogonal weights, a critic of its own, advantages whitened per minibatch, one norm
//! for the gradients of both networks. Losses and advantages are those of language models (`hearken-objective`).

use hearken_config::OptimizerConfig;
use hearken_env::{ServerError, Spaces};
use hearken_objective::advantage::gae::{Gae, explained_variance};
use hearken_objective::distribution::Slopes;
use hearken_objective::moments::{Moments, Variance};
use hearken_objective::surrogate::{Clip, PolicyTerms, RatioLevel, Surrogate};
use hearken_objective::value::{ValueLoss, ValueTerms};
use hearken_run::schedule::Schedule;
use hearken_run::seeds::Seeds;
use hearken_tensor::device::AdamW;
use rand::seq::SliceRandom as _;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::actions::Actions;
use crate::config::{ControlConfig, NetworkConfig, PpoConfig};
use crate::kept::LearnerState;
use crate::learner::{AdvanceError, Learner, adam, fields};
use crate::network::{Down, Network, NetworkShape, Pass, WeightDraw};
use crate::normalization::{RewardScale, RunningMoments};
use crate::policy::{Judgements, Policy};
use crate::rollout::{Buffers, Credit, Players, Rollout, Stage, collect, credit};
use crate::saved::Acting;

/// Added to the standard deviation of a minibatch's advantages.
const WHITENING_EPS: f64 = 1e-8;

/// A policy, its critic, and what their updates need.
#[derive(Clone, Debug)]
pub struct Ppo {
    /// π.
    pub policy: Policy,
    /// V.
    pub critic: Network,
    /// How observations are brought to scale, where they are.
    pub observation_moments: Option<RunningMoments>,
    /// How rewards are brought to scale, where they are.
    pub reward_scale: Option<RewardScale>,
    /// Optimizer steps made.
    pub step: u64,
    settings: PpoConfig,
    optimizer: OptimizerConfig,
    schedule: Schedule,
    workspace: PpoWorkspace,
}

/// What an update writes into, kept from one to the next.
#[derive(Clone, Debug, Default)]
struct PpoWorkspace {
    buffers: Buffers,
    policy: PolicyWork,
    critic: CriticWork,
    order: Vec<usize>,
    terms: Terms,
}

#[derive(Clone, Debug, Default)]
struct PolicyWork {
    pass: Pass,
    judgements: Judgements,
    logprobs: Vec<f64>,
}

#[derive(Clone, Debug, Default)]
struct CriticWork {
    pass: Pass,
    values: Vec<f64>,
}

/// The minibatch's columns.
#[derive(Clone, Debug, Default)]
struct Terms {
    observations: Vec<f32>,
    old_logprobs: Vec<f64>,
    advantages: Vec<f64>,
    old_values: Vec<f64>,
    returns: Vec<f64>,
}

/// Means over an iteration's updates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct UpdateMetrics {
    /// The policy's loss.
    #[serde(rename = "loss/policy_avg")]
    pub policy_loss: f64,
    /// The critic's loss: half the mean squared error.
    #[serde(rename = "loss/value_avg")]
    pub value_loss: f64,
    /// Entropy of the policy, in nats per action.
    pub entropy: f64,
    /// k3 estimate of the KL divergence to the policy that sampled, in nats per action.
    #[serde(rename = "policy/approxkl_avg")]
    pub approx_kl: f64,
    /// Share of actions whose ratio was clipped.
    #[serde(rename = "policy/clipfrac_avg")]
    pub clipped: f64,
    /// Norm of the gradients of both networks before clipping.
    pub grad_norm: f64,
    /// Share of the returns' variance that the critic explained before the updates.
    #[serde(rename = "val/explained_variance")]
    pub explained_variance: Option<f64>,
    /// The learning rate of the last update.
    pub lr: f64,
}

impl Ppo {
    /// Fresh networks for a run of `total` optimizer steps.
    pub fn new(
        settings: &PpoConfig,
        network: &NetworkConfig,
        copies: usize,
        optimizer: &OptimizerConfig,
        spaces: Spaces,
        total: u64,
        seeds: Seeds,
    ) -> Self {
        let mut rng = seeds.stream("weights", 0);
        let observation_len = spaces.observation.len();
        let policy = Policy::new(spaces, network.trunk(), &mut rng);
        let shape = NetworkShape::of(network.trunk(), spaces.observation, 0, 1);
        let critic = Network::new(&shape, WeightDraw::Orthogonal { last_gain: 1.0 }, &mut rng);
        Self {
            policy,
            critic,
            observation_moments: network
                .normalize_observations
                .then(|| RunningMoments::new(observation_len)),
            reward_scale: network.normalize_rewards.then(|| RewardScale::new(copies)),
            step: 0,
            settings: settings.clone(),
            optimizer: optimizer.clone(),
            schedule: Schedule::new(optimizer, total),
            workspace: PpoWorkspace::default(),
        }
    }

    /// Lets the policy act for an iteration.
    ///
    /// # Errors
    /// If a process serves the environment, and fails.
    pub fn collect(
        &mut self,
        stage: &mut Stage,
        rollout: &mut Rollout,
        seeds: Seeds,
        iteration: u64,
    ) -> Result<(), ServerError> {
        let mut rng = seeds.stream("actions", iteration);
        collect(
            Players { policy: &self.policy, critic: &self.critic },
            stage,
            *self.settings.steps,
            self.observation_moments.as_mut(),
            &mut rng,
            rollout,
            &mut self.workspace.buffers,
        )
    }

    /// Updates policy and critic on a rollout.
    ///
    /// # Errors
    /// The name of what holds a NaN or an infinity.
    pub fn update(
        &mut self,
        rollout: &Rollout,
        seeds: Seeds,
        iteration: u64,
    ) -> Result<UpdateMetrics, &'static str> {
        let gae = Gae { gamma: *self.settings.gamma, lambda: *self.settings.gae_lambda };
        let credit = credit(rollout, self.reward_scale.as_mut(), gae);
        let mut sums = UpdateMetrics::default();
        let mut count = 0.0;
        let mut rng = seeds.stream("minibatches", iteration);
        let mut order = std::mem::take(&mut self.workspace.order);
        order.clear();
        order.extend(0..rollout.len());
        for _ in 0..self.settings.epochs.get() {
            order.shuffle(&mut rng);
            for minibatch in order.chunks(*self.settings.minibatch) {
                self.minibatch(rollout, &credit, minibatch, &mut sums)?;
                count += 1.0;
            }
        }
        self.workspace.order = order;
        Ok(UpdateMetrics {
            policy_loss: sums.policy_loss / count,
            value_loss: sums.value_loss / count,
            entropy: sums.entropy / count,
            approx_kl: sums.approx_kl / count,
            clipped: sums.clipped / count,
            grad_norm: sums.grad_norm / count,
            explained_variance: explained_variance(&credit.returns, &rollout.values),
            lr: sums.lr,
        })
    }

    /// One optimizer step.
    fn minibatch(
        &mut self,
        rollout: &Rollout,
        credit: &Credit,
        entries: &[usize],
        sums: &mut UpdateMetrics,
    ) -> Result<(), &'static str> {
        self.step += 1;
        let decay = if self.settings.clip_decays { self.schedule.factor(self.step) } else { 1.0 };
        let Self { policy, critic, settings, workspace: work, .. } = self;
        work.terms.gather(rollout, credit, entries);
        whiten(&mut work.terms.advantages);
        let (terms, observations) = (&work.terms, work.terms.observations.as_slice());
        let policy_side = || {
            let clip = Clip::symmetric(*settings.clip * decay);
            let (actions, work) = (&rollout.actions, &mut work.policy);
            policy_gradient(policy, clip, *settings.entropy_coef, actions, entries, terms, work)
        };
        let critic_side =
            || critic_gradient(critic, settings, observations, terms, &mut work.critic);
        // The two have nothing in common but what they read.
        let (of_policy, value_loss) = rayon::join(policy_side, critic_side);
        sums.policy_loss += of_policy.loss;
        sums.entropy += of_policy.entropy;
        sums.approx_kl += of_policy.approx_kl;
        sums.clipped += of_policy.clipped;
        sums.value_loss += value_loss;
        self.apply(sums)
    }

    /// Clips the gradients of both networks together, and steps.
    fn apply(&mut self, sums: &mut UpdateMetrics) -> Result<(), &'static str> {
        let norm = (self.policy.network.gradient_squares() + self.critic.gradient_squares()).sqrt();
        if !norm.is_finite() {
            return Err("the gradients of policy or critic");
        }
        sums.grad_norm += norm;
        sums.lr = self.schedule.learning_rate(self.step);
        let max = self.optimizer.grad_norm_max;
        let grad_scale = max.map_or(1.0, |max| (*max / (norm + 1e-6)).min(1.0));
        let step = AdamW { grad_scale, ..adam(&self.optimizer, &self.schedule, self.step) };
        self.policy.network.update(step);
        self.critic.update(step);
        Ok(())
    }
}

/// Means over a minibatch.
#[derive(Clone, Copy, Debug, Default)]
struct PolicyMeans {
    loss: f64,
    entropy: f64,
    approx_kl: f64,
    clipped: f64,
}

/// Adds the gradient of the policy's loss.
fn policy_gradient(
    policy: &mut Policy,
    clip: Clip,
    entropy_coef: f64,
    actions: &Actions,
    entries: &[usize],
    terms: &Terms,
    work: &mut PolicyWork,
) -> PolicyMeans {
    policy.network.forward(&terms.observations, &mut work.pass);
    policy.judge(work.pass.output(), actions, entries, &mut work.judgements);
    work.logprobs.clear();
    work.logprobs.extend(work.judgements.judged.iter().map(|judged| judged.logprob));
    let loss = Surrogate::Clipped { clip }.loss(
        RatioLevel::Token,
        PolicyTerms {
            logprobs: &work.logprobs,
            old_logprobs: &terms.old_logprobs,
            advantages: &terms.advantages,
        },
    );
    let share = 1.0 / entries.len() as f64;
    let mut means = PolicyMeans { loss: share * loss.sum, ..PolicyMeans::default() };
    for (judged, old) in work.judgements.judged.iter().zip(&terms.old_logprobs) {
        let log_ratio = judged.logprob - old;
        let excess = log_ratio.exp() - 1.0;
        means.entropy += share * judged.entropy;
        means.approx_kl += share * (excess - log_ratio);
        means.clipped += share * f64::from(u8::from(clip.high < excess.abs()));
    }
    let entropy = -entropy_coef * share;
    let slopes = |at: usize| Slopes { logprob: share * loss.grad_logprobs[at], entropy };
    policy.backward(actions, entries, slopes, &mut work.judgements, work.pass.doutput());
    policy.network.backward(&terms.observations, &mut work.pass, Down::ToParameters);
    means
}

/// Adds the gradient of the critic's loss, and returns its mean.
fn critic_gradient(
    critic: &mut Network,
    settings: &PpoConfig,
    observations: &[f32],
    terms: &Terms,
    work: &mut CriticWork,
) -> f64 {
    critic.forward(observations, &mut work.pass);
    work.values.clear();
    work.values.extend(work.pass.output().iter().map(|&value| f64::from(value)));
    let of = match settings.value_clip {
        None => ValueLoss::Plain,
        Some(range) => ValueLoss::Clipped { range: *range },
    };
    let loss = of.loss(ValueTerms {
        values: &work.values,
        old_values: &terms.old_values,
        returns: &terms.returns,
    });
    let share = 1.0 / work.values.len() as f64;
    let slope = *settings.value_coef * share;
    let doutput = work.pass.doutput();
    doutput.clear();
    doutput.extend(loss.grad_values.iter().map(|gradient| (slope * gradient) as f32));
    critic.backward(observations, &mut work.pass, Down::ToParameters);
    share * loss.sum
}

impl Terms {
    fn gather(&mut self, rollout: &Rollout, credit: &Credit, entries: &[usize]) {
        let observations = rollout.observations();
        let len = observations.len() / rollout.len();
        self.observations.clear();
        for &entry in entries {
            self.observations.extend_from_slice(&observations[entry * len..][..len]);
        }
        let pick = |into: &mut Vec<f64>, from: &[f64]| {
            into.clear();
            into.extend(entries.iter().map(|&entry| from[entry]));
        };
        pick(&mut self.old_logprobs, &rollout.logprobs);
        pick(&mut self.advantages, &credit.advantages);
        pick(&mut self.old_values, &rollout.values);
        pick(&mut self.returns, &credit.returns);
    }
}

/// Brings a minibatch's advantages to mean 0 and standard deviation 1; one alone stays as it is.
fn whiten(advantages: &mut [f64]) {
    let moments = Moments::of(advantages);
    let Some(std) = moments.std(Variance::Sample) else { return };
    for advantage in advantages {
        *advantage = (*advantage - moments.mean) / (std + WHITENING_EPS);
    }
}

/// PPO in copies of an environment.
#[derive(Debug)]
pub struct PpoLearner {
    /// What is learned.
    pub ppo: Ppo,
    /// Where it acts.
    pub stage: Stage,
    /// The iteration's steps.
    pub rollout: Rollout,
}

impl PpoLearner {
    /// As the configuration says.
    pub fn new(config: &ControlConfig, stage: Stage, seeds: Seeds) -> Self {
        let (settings, spaces) = (&config.ppo, stage.spaces());
        let per_iteration = *settings.steps * *config.environment.copies;
        let iterations = config.train.environment_steps.div_ceil(per_iteration as u64);
        let per_epoch = per_iteration.div_ceil(*settings.minibatch) as u64;
        let total = iterations * per_epoch * settings.epochs.get();
        let copies = *config.environment.copies;
        let ppo =
            Ppo::new(settings, &config.network, copies, &config.optimizer, spaces, total, seeds);
        Self { ppo, stage, rollout: Rollout::new(spaces.actions) }
    }

    /// The record of an iteration, with or without an update.
    pub fn record(&self, update: Option<&UpdateMetrics>) -> Map<String, Value> {
        let mut record = update.map(fields).unwrap_or_default();
        if let Some((total, steps)) = mean_episode(&self.rollout) {
            record.insert("episode_return".to_owned(), json!(total));
            record.insert("episode_length".to_owned(), json!(steps));
        }
        record
    }
}

impl Learner for PpoLearner {
    fn advance(
        &mut self,
        seeds: Seeds,
        iteration: u64,
    ) -> Result<Map<String, Value>, AdvanceError> {
        self.ppo.collect(&mut self.stage, &mut self.rollout, seeds, iteration)?;
        let update = self.ppo.update(&self.rollout, seeds, iteration)?;
        Ok(self.record(Some(&update)))
    }

    fn steps_per_iteration(&self) -> u64 {
        (*self.ppo.settings.steps * self.stage.len()) as u64
    }

    fn step(&self) -> u64 {
        self.ppo.step
    }

    fn acting(&self) -> Acting {
        let (policy, moments) = (self.ppo.policy.clone(), self.ppo.observation_moments.clone());
        Acting { environment: self.stage.environments.setup().clone(), policy, moments }
    }

    fn networks(&self) -> Vec<(&'static str, &Network)> {
        vec![("policy", &self.ppo.policy.network), ("critic", &self.ppo.critic)]
    }

    fn networks_mut(&mut self) -> Vec<(&'static str, &mut Network)> {
        vec![("policy", &mut self.ppo.policy.network), ("critic", &mut self.ppo.critic)]
    }

    fn kept(&self) -> LearnerState {
        LearnerState {
            step: self.ppo.step,
            observation_moments: self.ppo.observation_moments.clone(),
            reward_scale: self.ppo.reward_scale.clone(),
            ..self.stage.kept()
        }
    }

    fn restore(&mut self, kept: LearnerState) -> Result<(), String> {
        self.ppo.step = kept.step;
        self.ppo.observation_moments.clone_from(&kept.observation_moments);
        self.ppo.reward_scale.clone_from(&kept.reward_scale);
        self.stage.restore(kept)
    }
}

/// The mean return and length of episodes that ended in a rollout; `None` where none did.
pub fn mean_episode(rollout: &Rollout) -> Option<(f64, f64)> {
    let count = rollout.episodes.len() as f64;
    let total: f64 = rollout.episodes.iter().map(|episode| episode.total).sum();
    let steps: f64 = rollout.episodes.iter().map(|episode| f64::from(episode.steps)).sum();
    (0.0 < count).then(|| (total / count, steps / count))
}
