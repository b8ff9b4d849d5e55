//! GAIL and AIRL: PPO on the rewards of a discriminator that is trained at the same time.

use std::path::Path;

use hearken_env::StepEnd;
use hearken_run::seeds::Seeds;
use rand::RngExt;
use serde_json::{Map, Value, json};

use super::discriminator::{Discriminator, DiscriminatorMetrics, DiscriminatorSide};
use crate::actions::Actions;
use crate::config::{ControlConfig, ImitationConfig};
use crate::demonstrations::{DemonstratedEpisode, Transitions};
use crate::kept::LearnerState;
use crate::learner::{AdvanceError, Learner, fields};
use crate::network::{Network, Pass};
use crate::normalization::normalize;
use crate::policy::Judgements;
use crate::ppo::PpoLearner;
use crate::preference::questions::correlation;
use crate::rollout::Stage;
use crate::saved::{Acting, SavedError};

/// A policy, and what tells it from the demonstrator.
#[derive(Debug)]
pub struct AdversarialLearner {
    inner: PpoLearner,
    discriminator: Discriminator,
    demonstrated: Transitions,
    settings: ImitationConfig,
}

impl AdversarialLearner {
    /// As the configuration says.
    ///
    /// # Panics
    /// If there is no demonstration.
    pub fn new(
        config: &ControlConfig,
        episodes: &[DemonstratedEpisode],
        stage: Stage,
        seeds: Seeds,
    ) -> Self {
        let spaces = stage.spaces();
        let len = spaces.observation.len();
        let demonstrated = Transitions::of(episodes, spaces.actions, len);
        assert!(!demonstrated.is_empty(), "there are demonstrations");
        let id = stage.environments.id().clone();
        let mut inner = PpoLearner::new(config, stage, seeds);
        inner.rollout.wants_following = true;
        let mut rng = seeds.stream("discriminator weights", 0);
        let (settings, gamma) = (&config.imitation, *config.ppo.gamma);
        let discriminator = Discriminator::new(settings, gamma, id, spaces, &mut rng);
        Self { inner, discriminator, demonstrated, settings: config.imitation.clone() }
    }

    /// Observations as the policy reads them.
    fn at_scale(&self, seen: &[f32]) -> Vec<f32> {
        let moments = self.inner.ppo.observation_moments.as_ref();
        let len = self.inner.ppo.critic.inputs();
        let mut observations = vec![0.0; seen.len()];
        for (seen, row) in seen.chunks(len).zip(observations.chunks_mut(len)) {
            normalize(moments, seen, row);
        }
        observations
    }

    /// log π of demonstrated steps, which only AIRL needs.
    fn logprobs(&self, observations: &[f32], actions: &Actions) -> Vec<f64> {
        if self.discriminator.potential.is_none() {
            return Vec::new();
        }
        let (mut pass, mut judgements) = (Pass::default(), Judgements::default());
        let policy = &self.inner.ppo.policy;
        policy.network.forward(observations, &mut pass);
        let entries: Vec<usize> = (0..actions.len()).collect();
        policy.judge(pass.output(), actions, &entries, &mut judgements);
        judgements.judged.iter().map(|judged| judged.logprob).collect()
    }
}

impl Learner for AdversarialLearner {
    fn advance(
        &mut self,
        seeds: Seeds,
        iteration: u64,
    ) -> Result<Map<String, Value>, AdvanceError> {
        let PpoLearner { ppo, stage, rollout } = &mut self.inner;
        ppo.collect(stage, rollout, seeds, iteration)?;
        let observations = self.at_scale(&self.demonstrated.seen);
        let logprobs = self.logprobs(&observations, &self.demonstrated.actions);
        let demonstrated = DiscriminatorSide {
            observations,
            following: self.at_scale(&self.demonstrated.following),
            actions: &self.demonstrated.actions,
            goes_on: self.demonstrated.goes_on.clone(),
            logprobs,
        };
        let rollout = &self.inner.rollout;
        let own = DiscriminatorSide {
            observations: self.at_scale(&rollout.seen),
            following: self.at_scale(&rollout.following),
            actions: &rollout.actions,
            goes_on: rollout.ends.iter().map(|end| *end != StepEnd::Terminated).collect(),
            logprobs: rollout.logprobs.clone(),
        };
        let mut rng = seeds.stream("discriminator", iteration);
        let (half, updates) = (*self.settings.batch / 2, self.settings.updates.get());
        let mut sums = DiscriminatorMetrics::default();
        for _ in 0..updates {
            let mut draw = |side: &DiscriminatorSide<'_>| -> Vec<usize> {
                (0..half).map(|_| rng.random_range(0..side.goes_on.len())).collect()
            };
            let (theirs, ours) = (draw(&demonstrated), draw(&own));
            self.discriminator.update((&demonstrated, &theirs), (&own, &ours), &mut sums)?;
        }
        let rewards = self.discriminator.rewards(&own);
        let agreement = correlation(&rewards, &self.inner.rollout.rewards);
        let mean = rewards.iter().sum::<f64>() / rewards.len() as f64;
        self.inner.rollout.rewards = rewards;
        let update = self.inner.ppo.update(&self.inner.rollout, seeds, iteration)?;
        let mut record = self.inner.record(Some(&update));
        let updates = updates as f64;
        record.extend(fields(&DiscriminatorMetrics {
            loss: sums.loss / updates,
            demonstrated_accuracy: sums.demonstrated_accuracy / updates,
            own_accuracy: sums.own_accuracy / updates,
        }));
        record.insert("imitation/reward".to_owned(), json!(mean));
        record.insert("imitation/reward_correlation".to_owned(), json!(agreement));
        Ok(record)
    }

    fn save_beside(&self, dir: &Path) -> Result<(), SavedError> {
        let moments = self.inner.ppo.observation_moments.clone();
        self.discriminator.reward_model(moments).save(&dir.join("reward"))
    }

    fn steps_per_iteration(&self) -> u64 {
        self.inner.steps_per_iteration()
    }

    fn step(&self) -> u64 {
        self.inner.step()
    }

    fn acting(&self) -> Acting {
        self.inner.acting()
    }

    fn networks(&self) -> Vec<(&'static str, &Network)> {
        let Discriminator { reward, potential, .. } = &self.discriminator;
        let mut networks = self.inner.networks();
        networks.push(("reward", reward));
        networks.extend(potential.iter().map(|network| ("potential", network)));
        networks
    }

    fn networks_mut(&mut self) -> Vec<(&'static str, &mut Network)> {
        let Discriminator { reward, potential, .. } = &mut self.discriminator;
        let mut networks = self.inner.networks_mut();
        networks.push(("reward", reward));
        networks.extend(potential.iter_mut().map(|network| ("potential", network)));
        networks
    }

    fn kept(&self) -> LearnerState {
        LearnerState { own: vec![self.discriminator.step as f64], ..self.inner.kept() }
    }

    fn restore(&mut self, kept: LearnerState) -> Result<(), String> {
        let [step] = kept.own[..] else {
            return Err(format!(
                "found {} numbers, expected the discriminator's step",
                kept.own.len()
            ));
        };
        self.discriminator.step = step as u64;
        self.inner.restore(kept)
    }
}
