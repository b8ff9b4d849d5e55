//! PPO on a reward that is learned from comparisons while the policy acts.

use hearken_run::seeds::Seeds;
use serde_json::{Map, Value};

use super::questions::Questions;
use crate::config::ControlConfig;
use crate::kept::LearnerState;
use crate::learner::{AdvanceError, Learner};
use crate::network::Network;
use crate::ppo::PpoLearner;
use crate::rollout::Stage;
use crate::saved::Acting;

/// A policy, a reward model, and the comparisons between them.
#[derive(Debug)]
pub struct PreferenceLearner {
    inner: PpoLearner,
    questions: Questions,
}

impl PreferenceLearner {
    /// As the configuration says.
    pub fn new(config: &ControlConfig, stage: Stage, seeds: Seeds) -> Self {
        let spaces = stage.spaces();
        let inner = PpoLearner::new(config, stage, seeds);
        let total = config.train.environment_steps.div_ceil(inner.steps_per_iteration());
        let questions = Questions::new(&config.preference, spaces, [0, total], seeds);
        Self { inner, questions }
    }
}

impl Learner for PreferenceLearner {
    fn advance(
        &mut self,
        seeds: Seeds,
        iteration: u64,
    ) -> Result<Map<String, Value>, AdvanceError> {
        let PpoLearner { ppo, stage, rollout } = &mut self.inner;
        ppo.collect(stage, rollout, (seeds, iteration))?;
        let of = (&*rollout, &stage.environments);
        let round = self.questions.ask_about(of, (seeds, iteration))?;
        rollout.rewards = self.questions.rewards(&round.rows);
        let update = ppo.update(rollout, (seeds, iteration))?;
        let mut record = self.inner.record(&update);
        record.extend(round.record);
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
        self.inner.networks().into_iter().chain(self.questions.networks()).collect()
    }

    fn networks_mut(&mut self) -> Vec<(&'static str, &mut Network)> {
        self.inner.networks_mut().into_iter().chain(self.questions.networks_mut()).collect()
    }

    fn kept(&self) -> LearnerState {
        let (own, moments) = self.questions.kept();
        LearnerState { moments, own, ..self.inner.kept() }
    }

    fn restore(&mut self, mut kept: LearnerState) -> Result<(), String> {
        let (own, moments) = (std::mem::take(&mut kept.own), std::mem::take(&mut kept.moments));
        self.questions.restore(&own, moments)?;
        self.inner.restore(kept)
    }

    fn vectors(&self) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        self.questions.vectors()
    }

    fn restore_vectors<E>(
        &mut self,
        read: impl Fn(&str, &[usize]) -> Result<Vec<f32>, E>,
    ) -> Result<(), E> {
        self.questions.restore_vectors(read)
    }
}
