//! Soft actor-critic: off-policy, with a replay of what has been done.
//!
//! Haarnoja et al. 2018, arXiv:1812.05905: two critics with slowly following targets, a squashed Gaussian policy, a
//! temperature that is tuned to a target entropy. An episode that is cut off goes on in the critics' targets; one
//! that terminates does not.

use hearken_config::OptimizerConfig;
use hearken_env::{EnvironmentStep, Environments, ServerError, StepEnd};
use hearken_objective::distribution::Squashed;
use hearken_run::schedule::Schedule;
use hearken_run::seeds::Seeds;
use hearken_tensor::device::AdamW;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::actions::Actions;
use crate::config::{ControlConfig, SacConfig};
use crate::demonstrations::{DemonstratedEpisode, Transitions};
use crate::kept::LearnerState;
use crate::learner::{AdvanceError, Learner, adam, clipped_update, fields};
use crate::network::{Down, Network, NetworkShape, Pass, WeightDraw, normal};
use crate::policy::{Head, LOG_STD_RANGE, Policy, squashed};
use crate::replay::{Batch, Experienced, Replay};
use crate::rollout::{Rollout, Stage};
use crate::saved::Acting;

/// Steps of each copy from one record to the next.
const ITERATION_STEPS: usize = 200;
/// What may turn out not to be finite.
const GRADIENTS: &str = "the gradients of policy or critics";

/// What a step is worth.
type RewardOf<'a> = &'a mut dyn FnMut(Experienced<'_>) -> f32;

/// A policy, its critics, and what their updates need.
#[derive(Debug)]
pub struct SacLearner {
    policy: Policy,
    critics: [Network; 2],
    targets: [Network; 2],
    temperature: Temperature,
    stage: Stage,
    replay: Replay,
    /// What is done in an iteration, where that is wanted.
    noted: Option<Rollout>,
    /// What is demonstrated, with rewards of 1: half of every batch, while steps of its own are worth 0 (SQIL).
    demonstrated: Option<Replay>,
    step: u64,
    environment_steps: u64,
    settings: SacConfig,
    optimizer: OptimizerConfig,
    schedule: Schedule,
    work: SacWorkspace,
}

/// log α with Adam's moments.
#[derive(Clone, Copy, Debug, Default)]
struct Temperature {
    log: f64,
    first: f64,
    second: f64,
}

impl Temperature {
    fn update(&mut self, gradient: f64, step: AdamW) {
        let correction = |beta: f64| 1.0 - beta.powf(step.step as f64);
        self.first += (1.0 - step.beta1) * (gradient - self.first);
        self.second += (1.0 - step.beta2) * (gradient * gradient - self.second);
        let root = (self.second / correction(step.beta2)).sqrt() + step.eps;
        self.log -= step.lr * self.first / correction(step.beta1) / root;
    }
}

/// What an update writes into, kept from one to the next.
#[derive(Clone, Debug, Default)]
struct SacWorkspace {
    policy: Pass,
    critics: [Pass; 2],
    batch: Batch,
    joined: Vec<f32>,
    squashed: Vec<Squashed>,
    targets: Vec<f64>,
}

/// Means over an iteration's updates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
struct UpdateMetrics {
    /// α·log π − Q, of the policy.
    #[serde(rename = "loss/policy_avg")]
    policy_loss: f64,
    /// Half the mean squared error of both critics.
    #[serde(rename = "loss/value_avg")]
    value_loss: f64,
    /// −log π of what the policy does, in nats.
    entropy: f64,
    /// α.
    temperature: f64,
}

impl SacLearner {
    /// As the configuration says.
    ///
    /// # Panics
    /// If the environment has discrete actions.
    pub fn new(config: &ControlConfig, stage: Stage, seeds: Seeds) -> Self {
        let spaces = stage.spaces();
        let (len, space) = (spaces.observation.len(), spaces.actions);
        let trunk = config.network.trunk();
        let mut rng = seeds.stream("weights", 0);
        let shape = Policy::shape(spaces, trunk, Head::Squashed);
        let policy =
            Policy::of(Network::new(&shape, WeightDraw::Uniform, &mut rng), spaces, Head::Squashed);
        let shape = NetworkShape::of(trunk, spaces.observation, space.outputs(), 1);
        let critics = [0, 1].map(|_| Network::new(&shape, WeightDraw::Uniform, &mut rng));
        let steps = *config.train.environment_steps;
        let updates = steps.saturating_sub(*config.sac.start_steps) * config.sac.updates.get();
        Self {
            policy,
            targets: critics.clone(),
            critics,
            temperature: Temperature::default(),
            replay: Replay::new(*config.sac.replay, len, space.outputs()),
            stage,
            noted: None,
            demonstrated: None,
            step: 0,
            environment_steps: 0,
            settings: config.sac.clone(),
            optimizer: config.optimizer.clone(),
            schedule: Schedule::new(&config.optimizer, updates.max(1)),
            work: SacWorkspace::default(),
        }
    }

    /// The same as an imitator: soft Q imitation learning. Reddy, Dragan and Levine 2020, arXiv:1905.11108.
    ///
    /// # Panics
    /// If there is no demonstration, or one of another environment.
    #[must_use]
    pub fn imitating(mut self, episodes: &[DemonstratedEpisode]) -> Self {
        let (len, space) = (self.policy.network.inputs(), self.policy.space());
        let all = Transitions::of(episodes, space, len);
        assert!(!all.is_empty(), "there are demonstrations");
        let mut replay = Replay::new(all.len(), len, space.outputs());
        let rows = all.seen.chunks(len).zip(all.following.chunks(len)).zip(&all.goes_on);
        let mut action = Vec::new();
        for (entry, ((seen, following), goes_on)) in rows.enumerate() {
            action.clear();
            all.actions.encode(entry, space, &mut action);
            replay.push(seen, &action, following, 1.0, *goes_on);
        }
        self.demonstrated = Some(replay);
        self
    }

    /// Numbers of its own that a checkpoint keeps.
    pub const OWN_NUMBERS: usize = 6;

    /// The replay of what has been done.
    pub fn replay(&self) -> &Replay {
        &self.replay
    }

    /// The same, to change rewards.
    pub fn replay_mut(&mut self) -> &mut Replay {
        &mut self.replay
    }

    /// Keeps what is done in an iteration for [`SacLearner::noted`].
    pub fn note_rollouts(&mut self) {
        self.noted = Some(Rollout::new(self.policy.space()));
    }

    /// What was done in the last iteration, and where.
    ///
    /// # Panics
    /// If it is not kept.
    pub fn noted(&self) -> (&Rollout, &Environments) {
        (self.noted.as_ref().expect("rollouts are noted"), &self.stage.environments)
    }

    /// Begins anew with critics and their targets.
    pub fn renew_critics(&mut self, rng: &mut ChaCha8Rng) {
        for (critic, target) in self.critics.iter_mut().zip(&mut self.targets) {
            *critic = Network::new(&critic.shape().clone(), WeightDraw::Uniform, rng);
            *target = critic.clone();
        }
    }

    /// One step in copy `copy`, into the replay.
    fn act(
        &mut self,
        copy: usize,
        actions: &mut Actions,
        reward_of: RewardOf<'_>,
        rng: &mut ChaCha8Rng,
    ) -> Result<Option<f64>, ServerError> {
        let len = self.critics[0].inputs() - self.policy.space().outputs();
        let mut seen = vec![0.0; len];
        self.stage.environments.observe(copy, &mut seen);
        actions.clear();
        let Actions::Continuous { dimensions, values, .. } = actions else {
            unreachable!("SAC is for continuous actions")
        };
        if self.environment_steps < *self.settings.start_steps {
            values.extend((0..*dimensions).map(|_| rng.random_range(-1.0..1.0)));
        } else {
            self.policy.network.forward(&seen, &mut self.work.policy);
            let output = self.work.policy.output();
            for dimension in 0..*dimensions {
                values.push(squashed(output, dimension, *dimensions, normal(rng)).action);
            }
        }
        let given: Vec<f32> = values.iter().map(|&value| value as f32).collect();
        if let Some(rollout) = &mut self.noted {
            rollout.seen.extend_from_slice(&seen);
            rollout.states.extend_from_slice(self.stage.environments.state(copy));
            rollout.actions.extend(actions);
        }
        let EnvironmentStep { reward, end } = self.stage.step(copy, actions, 0)?;
        if let Some(rollout) = &mut self.noted {
            rollout.rewards.push(reward);
            rollout.ends.push(end);
        }
        let mut next = vec![0.0; len];
        self.stage.environments.observe(copy, &mut next);
        let goes_on = end != StepEnd::Terminated;
        let step = Experienced { seen: &seen, action: &given, reward: reward as f32 };
        let reward = reward_of(step);
        self.replay.push(&seen, &given, &next, reward, goes_on);
        self.environment_steps += 1;
        if end == StepEnd::Running {
            return Ok(None);
        }
        let total = self.stage.episodes[copy].total;
        self.stage.reset(copy)?;
        Ok(Some(total))
    }

    fn adam(&self) -> AdamW {
        adam(&self.optimizer, &self.schedule, self.step)
    }

    /// One update of critics, policy and temperature.
    fn update(
        &mut self,
        rng: &mut ChaCha8Rng,
        sums: &mut UpdateMetrics,
    ) -> Result<(), &'static str> {
        self.step += 1;
        let mut work = std::mem::take(&mut self.work);
        let batch = *self.settings.batch;
        let demonstrated = if self.demonstrated.is_some() { batch / 2 } else { 0 };
        self.replay.sample(batch - demonstrated, rng, &mut work.batch);
        if let Some(replay) = &self.demonstrated {
            replay.sample_more(demonstrated, rng, &mut work.batch);
        }
        self.update_critics(&mut work, rng, sums)?;
        self.update_policy(&mut work, rng, sums)?;
        for (target, critic) in self.targets.iter_mut().zip(&self.critics) {
            target.move_towards(critic, *self.settings.mix as f32);
        }
        self.work = work;
        Ok(())
    }

    /// Samples actions for the rows of `observations`, joins them to these, and returns their log-densities.
    fn propose(
        &self,
        observations: &[f32],
        work: &mut Proposal<'_>,
        rng: &mut ChaCha8Rng,
    ) -> Vec<f64> {
        let dimensions = self.policy.space().outputs();
        self.policy.network.forward(observations, work.pass);
        let len = self.policy.network.inputs();
        work.joined.clear();
        work.squashed.clear();
        let rows = observations.chunks(len).zip(work.pass.output().chunks(2 * dimensions));
        let rows = rows.map(|(observation, output)| {
            work.joined.extend_from_slice(observation);
            let mut logprob = 0.0;
            for dimension in 0..dimensions {
                let at = squashed(output, dimension, dimensions, normal(rng));
                work.joined.push(at.action as f32);
                work.squashed.push(at);
                logprob += at.logprob;
            }
            logprob
        });
        rows.collect()
    }

    fn update_critics(
        &mut self,
        work: &mut SacWorkspace,
        rng: &mut ChaCha8Rng,
        sums: &mut UpdateMetrics,
    ) -> Result<(), &'static str> {
        let next = std::mem::take(&mut work.batch.next);
        let mut proposal = work.proposal();
        let logprobs = self.propose(&next, &mut proposal, rng);
        work.batch.next = next;
        for (target, pass) in self.targets.iter().zip(&mut work.critics) {
            target.forward(&work.joined, pass);
        }
        let alpha = self.temperature.log.exp();
        work.targets.clear();
        for (row, logprob) in logprobs.iter().enumerate() {
            let [one, other] = [0, 1].map(|critic| f64::from(work.critics[critic].output()[row]));
            let value = one.min(other) - alpha * logprob;
            let goes_on = f64::from(work.batch.goes_on[row]);
            let reward = f64::from(work.batch.rewards[row]);
            work.targets.push(reward + *self.settings.gamma * goes_on * value);
        }
        work.batch.join(&mut work.joined, self.policy.network.inputs());
        let share = 1.0 / logprobs.len() as f64;
        let step = self.adam();
        for (critic, pass) in self.critics.iter_mut().zip(&mut work.critics) {
            critic.forward(&work.joined, pass);
            let errors = pass.output().iter().zip(&work.targets);
            let errors: Vec<f64> = errors.map(|(q, y)| f64::from(*q) - y).collect();
            sums.value_loss += share * errors.iter().map(|error| 0.25 * error * error).sum::<f64>();
            let doutput = pass.doutput();
            doutput.clear();
            doutput.extend(errors.iter().map(|error| (share * error) as f32));
            critic.backward(&work.joined, pass, Down::ToParameters);
            clipped_update(critic, step, &self.optimizer, GRADIENTS)?;
        }
        Ok(())
    }

    /// Minimizes α·log π(a|s) − min Q(s, a) through the sampled actions, and moves α.
    fn update_policy(
        &mut self,
        work: &mut SacWorkspace,
        rng: &mut ChaCha8Rng,
        sums: &mut UpdateMetrics,
    ) -> Result<(), &'static str> {
        let observations = std::mem::take(&mut work.batch.observations);
        let mut proposal = work.proposal();
        let logprobs = self.propose(&observations, &mut proposal, rng);
        let (rows, dimensions) = (logprobs.len(), self.policy.space().outputs());
        let (len, share) = (self.policy.network.inputs(), 1.0 / rows as f64);
        for (critic, pass) in self.critics.iter_mut().zip(&mut work.critics) {
            critic.forward(&work.joined, pass);
        }
        let lower: Vec<usize> = (0..rows)
            .map(|row| usize::from(work.critics[1].output()[row] < work.critics[0].output()[row]))
            .collect();
        for (index, (critic, pass)) in self.critics.iter_mut().zip(&mut work.critics).enumerate() {
            let doutput = pass.doutput();
            doutput.clear();
            doutput.extend(
                lower.iter().map(|&lower| if lower == index { -share as f32 } else { 0.0 }),
            );
            critic.backward(&work.joined, pass, Down::ToInput);
            // Only what flows to the actions is wanted.
            critic.zero_gradients();
        }
        let alpha = self.temperature.log.exp();
        let mut doutput = vec![0.0; rows * 2 * dimensions];
        for row in 0..rows {
            let q = f64::from(work.critics[lower[row]].output()[row]);
            sums.policy_loss += share * (alpha * logprobs[row] - q);
            let daction = &work.critics[lower[row]].dinput()[row * (len + dimensions) + len..];
            for dimension in 0..dimensions {
                let at = &work.squashed[row * dimensions + dimension];
                let output = &work.policy.output()[row * 2 * dimensions..];
                let daction = f64::from(daction[dimension]);
                let of =
                    |action: f64, logprob: f64| (daction * action + alpha * share * logprob) as f32;
                let doutput = &mut doutput[row * 2 * dimensions..];
                doutput[dimension] = of(at.action_by_mean, at.logprob_by_mean);
                let log_std = f64::from(output[dimensions + dimension]);
                if (LOG_STD_RANGE.0..=LOG_STD_RANGE.1).contains(&log_std) {
                    doutput[dimensions + dimension] =
                        of(at.action_by_log_std, at.logprob_by_log_std);
                }
            }
        }
        *work.policy.doutput() = doutput;
        self.policy.network.backward(&observations, &mut work.policy, Down::ToParameters);
        work.batch.observations = observations;
        let step = self.adam();
        clipped_update(&mut self.policy.network, step, &self.optimizer, GRADIENTS)?;
        let mean = share * logprobs.iter().sum::<f64>();
        let target = *self.settings.target_entropy * dimensions as f64;
        self.temperature.update(-(mean + target), step);
        sums.entropy -= mean;
        sums.temperature += alpha;
        Ok(())
    }
}

/// Where [`SacLearner::propose`] writes.
struct Proposal<'a> {
    pass: &'a mut Pass,
    joined: &'a mut Vec<f32>,
    squashed: &'a mut Vec<Squashed>,
}

impl SacWorkspace {
    fn proposal(&mut self) -> Proposal<'_> {
        Proposal { pass: &mut self.policy, joined: &mut self.joined, squashed: &mut self.squashed }
    }
}

impl SacLearner {
    /// Acts and updates, once; what is done is worth what `reward_of` says.
    ///
    /// # Errors
    /// If a number is not finite, or the environment's server fails.
    pub fn advance_with(
        &mut self,
        seeds: Seeds,
        iteration: u64,
        reward_of: RewardOf<'_>,
    ) -> Result<Map<String, Value>, AdvanceError> {
        if let Some(rollout) = &mut self.noted {
            rollout.clear();
            (rollout.steps, rollout.copies) = (ITERATION_STEPS, self.stage.len());
        }
        let mut rng = seeds.stream("actions", iteration);
        let mut actions = Actions::new(self.policy.space());
        let (mut sums, mut updates, mut totals) = (UpdateMetrics::default(), 0.0, Vec::new());
        for _ in 0..ITERATION_STEPS {
            for copy in 0..self.stage.len() {
                totals.extend(self.act(copy, &mut actions, &mut *reward_of, &mut rng)?);
                if self.environment_steps < *self.settings.start_steps {
                    continue;
                }
                for _ in 0..self.settings.updates.get() {
                    self.update(&mut rng, &mut sums)?;
                    updates += 1.0;
                }
            }
        }
        let mut record = Map::new();
        if 0.0 < updates {
            record.extend(fields(&UpdateMetrics {
                policy_loss: sums.policy_loss / updates,
                value_loss: sums.value_loss / updates,
                entropy: sums.entropy / updates,
                temperature: sums.temperature / updates,
            }));
        }
        if !totals.is_empty() {
            let mean = totals.iter().sum::<f64>() / totals.len() as f64;
            record.insert("episode_return".to_owned(), json!(mean));
        }
        Ok(record)
    }
}

impl Learner for SacLearner {
    fn advance(
        &mut self,
        seeds: Seeds,
        iteration: u64,
    ) -> Result<Map<String, Value>, AdvanceError> {
        // What an imitator does itself is worth nothing.
        let is_imitating = self.demonstrated.is_some();
        let of = &mut |step: Experienced<'_>| if is_imitating { 0.0 } else { step.reward };
        self.advance_with(seeds, iteration, of)
    }

    fn steps_per_iteration(&self) -> u64 {
        (ITERATION_STEPS * self.stage.len()) as u64
    }

    fn step(&self) -> u64 {
        self.step
    }

    fn acting(&self) -> Acting {
        let environment = self.stage.environments.setup().clone();
        Acting { environment, policy: self.policy.clone(), moments: None }
    }

    fn networks(&self) -> Vec<(&'static str, &Network)> {
        let ([c1, c2], [t1, t2]) = (&self.critics, &self.targets);
        vec![
            ("policy", &self.policy.network),
            ("critic_1", c1),
            ("critic_2", c2),
            ("target_1", t1),
            ("target_2", t2),
        ]
    }

    fn networks_mut(&mut self) -> Vec<(&'static str, &mut Network)> {
        let ([c1, c2], [t1, t2]) = (&mut self.critics, &mut self.targets);
        vec![
            ("policy", &mut self.policy.network),
            ("critic_1", c1),
            ("critic_2", c2),
            ("target_1", t1),
            ("target_2", t2),
        ]
    }

    fn kept(&self) -> LearnerState {
        let Temperature { log, first, second } = self.temperature;
        let [len, next] = self.replay.place();
        let own = vec![log, first, second, self.environment_steps as f64, len as f64, next as f64];
        LearnerState { step: self.step, own, ..self.stage.kept() }
    }

    fn restore(&mut self, kept: LearnerState) -> Result<(), String> {
        let [log, first, second, steps, len, next] = kept.own[..] else {
            return Err(format!(
                "found {} numbers of the learner, expected {}",
                kept.own.len(),
                Self::OWN_NUMBERS
            ));
        };
        self.step = kept.step;
        self.temperature = Temperature { log, first, second };
        self.environment_steps = steps as u64;
        self.replay.set_place([len as usize, next as usize])?;
        self.stage.restore(kept)
    }

    fn vectors(&self) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        self.replay.vectors()
    }

    fn restore_vectors<E>(
        &mut self,
        read: impl Fn(&str, &[usize]) -> Result<Vec<f32>, E>,
    ) -> Result<(), E> {
        self.replay.restore(read)
    }
}
