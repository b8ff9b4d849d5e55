//! PPO on a reward that was learned elsewhere, in place of the environment's.

use hearken_run::seeds::Seeds;
use serde_json::{Map, Value, json};

use crate::config::ControlConfig;
use crate::kept::LearnerState;
use crate::learner::{AdvanceError, Learner};
use crate::network::Network;
use crate::ppo::PpoLearner;
use crate::preference::questions::correlation;
use crate::reward_model::RewardModel;
use crate::rollout::Stage;
use crate::saved::Acting;

/// A policy, and the reward that it is trained on, which stays as it is.
#[derive(Debug)]
pub struct RewardedLearner {
    inner: PpoLearner,
    reward: RewardModel,
}

impl RewardedLearner {
    /// As the configuration says.
    pub fn new(config: &ControlConfig, reward: RewardModel, stage: Stage, seeds: Seeds) -> Self {
        Self { inner: PpoLearner::new(config, stage, seeds), reward }
    }
}

impl Learner for RewardedLearner {
    fn advance(
        &mut self,
        seeds: Seeds,
        iteration: u64,
    ) -> Result<Map<String, Value>, AdvanceError> {
        let PpoLearner { ppo, stage, rollout } = &mut self.inner;
        ppo.collect(stage, rollout, seeds, iteration)?;
        let rewards = self.reward.rewards(&rollout.seen, &rollout.actions);
        let agreement = correlation(&rewards, &rollout.rewards);
        rollout.rewards = rewards;
        let update = ppo.update(rollout, seeds, iteration)?;
        let mut record = self.inner.record(Some(&update));
        record.insert("imitation/reward_correlation".to_owned(), json!(agreement));
        Ok(record)
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
        self.inner.networks()
    }

    fn networks_mut(&mut self) -> Vec<(&'static str, &mut Network)> {
        self.inner.networks_mut()
    }

    fn kept(&self) -> LearnerState {
        self.inner.kept()
    }

    fn restore(&mut self, kept: LearnerState) -> Result<(), String> {
        self.inner.restore(kept)
    }
}
