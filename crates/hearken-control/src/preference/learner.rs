//! A policy on a reward that is learned from comparisons while it acts: PPO here, SAC in [`super::pebble`].

use hearken_run::seeds::Seeds;
use serde_json::{Map, Value};

use super::questions::Questions;
use crate::config::ControlConfig;
use crate::kept::LearnerState;
use crate::learner::{AdvanceError, Awaited, Learner};
use crate::network::Network;
use crate::ppo::PpoLearner;
use crate::rollout::Stage;
use crate::saved::Acting;

/// A learner of policies whose reward the answers to questions about its own steps decide.
pub trait Rewardable: Learner + Sized {
    /// How many numbers of its own its checkpoints keep.
    const OWN_NUMBERS: usize;

    /// The learner, and the iteration in which the first questions are asked, of how many.
    fn start(config: &ControlConfig, stage: Stage, seeds: Seeds) -> (Self, [u64; 2]);

    /// Takes note of a reward model that has changed since the last iteration: experience that is learned from again is paid anew.
    fn take_reward(&mut self, _questions: &mut Questions) {}

    /// Acts, asks what is due, and updates, once; returns what is to be written down.
    ///
    /// # Errors
    /// As [`Learner::advance`].
    fn advance_asking(
        &mut self,
        questions: &mut Questions,
        seeds: Seeds,
        iteration: u64,
    ) -> Result<Map<String, Value>, AdvanceError>;
}

/// A policy, a reward model, and the comparisons between them.
#[derive(Debug)]
pub struct PreferenceLearner<L> {
    inner: L,
    questions: Questions,
}

impl<L: Rewardable> PreferenceLearner<L> {
    /// As the configuration says.
    pub fn new(config: &ControlConfig, stage: Stage, seeds: Seeds) -> Self {
        let spaces = stage.spaces();
        let (inner, iterations) = L::start(config, stage, seeds);
        let questions = Questions::new(config, spaces, iterations, seeds);
        Self { inner, questions }
    }
}

impl Rewardable for PpoLearner {
    const OWN_NUMBERS: usize = 0;

    fn start(config: &ControlConfig, stage: Stage, seeds: Seeds) -> (Self, [u64; 2]) {
        let learner = Self::new(config, stage, seeds);
        let total = learner.iterations(*config.train.environment_steps);
        (learner, [0, total])
    }

    fn advance_asking(
        &mut self,
        questions: &mut Questions,
        seeds: Seeds,
        iteration: u64,
    ) -> Result<Map<String, Value>, AdvanceError> {
        let Self { ppo, stage, rollout } = self;
        ppo.collect(stage, rollout, seeds, iteration)?;
        let round = questions.ask_about(&*rollout, &stage.environments, seeds, iteration)?;
        rollout.rewards = questions.rewards(&round.rows);
        let has_learned = questions.has_learned();
        let update = has_learned.then(|| ppo.update(rollout, seeds, iteration)).transpose()?;
        let mut record = self.record(update.as_ref());
        record.extend(round.record);
        Ok(record)
    }
}

impl<L: Rewardable> Learner for PreferenceLearner<L> {
    fn advance(
        &mut self,
        seeds: Seeds,
        iteration: u64,
    ) -> Result<Map<String, Value>, AdvanceError> {
        if self.questions.hear(seeds, iteration)? {
            self.inner.take_reward(&mut self.questions);
        }
        self.inner.advance_asking(&mut self.questions, seeds, iteration)
    }

    fn awaited(&mut self) -> Result<Option<Awaited>, AdvanceError> {
        self.questions.awaited()
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
        let inner = self.inner.kept();
        let (numbers, moments) = self.questions.kept();
        let own = [inner.own.as_slice(), &numbers].concat();
        LearnerState { moments, own, ..inner }
    }

    fn restore(&mut self, mut kept: LearnerState) -> Result<(), String> {
        let moments = std::mem::take(&mut kept.moments);
        let own = kept.own.split_off(L::OWN_NUMBERS.min(kept.own.len()));
        self.questions.restore(&own, moments)?;
        self.inner.restore(kept)
    }

    fn vectors(&self) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        let mut vectors = self.inner.vectors();
        vectors.extend(self.questions.vectors());
        vectors
    }

    fn restore_vectors<E>(
        &mut self,
        read: impl Fn(&str, &[usize]) -> Result<Vec<f32>, E>,
    ) -> Result<(), E> {
        self.inner.restore_vectors(&read)?;
        self.questions.restore_vectors(&read)
    }
}
