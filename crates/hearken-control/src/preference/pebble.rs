//! SAC on a reward that is learned from comparisons: what is done is learned from again, under every new reward.
//!
//! Lee, Smith and Abbeel 2021, arXiv:2106.05091 (PEBBLE). Before the first question the policy may look for states that it has
//! not seen, so that the first segments differ ([`Novelty`]); whenever the reward model has learned, all rewards of the
//! replay are replaced by its own.

use hearken_run::seeds::Seeds;
use serde_json::{Map, Value};

use super::novelty::Novelty;
use super::questions::Questions;
use crate::config::ControlConfig;
use crate::kept::LearnerState;
use crate::learner::{AdvanceError, Learner};
use crate::network::Network;
use crate::replay::Experienced;
use crate::rollout::Stage;
use crate::sac::SacLearner;
use crate::saved::Acting;

/// A policy with its replay, a reward model, and the comparisons between them.
#[derive(Debug)]
pub struct PebbleLearner {
    inner: SacLearner,
    questions: Questions,
    /// Iterations in which new states are what is paid for.
    unsupervised: u64,
}

impl PebbleLearner {
    /// As the configuration says.
    pub fn new(config: &ControlConfig, stage: Stage, seeds: Seeds) -> Self {
        let spaces = stage.spaces();
        let mut inner = SacLearner::new(config, stage, seeds);
        inner.note_rollouts();
        let per_iteration = inner.steps_per_iteration();
        let total = config.train.environment_steps.div_ceil(per_iteration);
        let unsupervised = config.preference.unsupervised_steps.div_ceil(per_iteration).min(total);
        let iterations = [unsupervised, total];
        let questions = Questions::new(&config.preference, spaces, iterations, seeds);
        Self { inner, questions, unsupervised }
    }
}

/// The row that a reward model reads of a step.
fn row(step: &Experienced<'_>) -> Vec<f32> {
    [step.seen, step.action].concat()
}

impl Learner for PebbleLearner {
    fn advance(
        &mut self,
        seeds: Seeds,
        iteration: u64,
    ) -> Result<Map<String, Value>, AdvanceError> {
        let Self { inner, questions, unsupervised } = self;
        let mut record = if iteration < *unsupervised {
            let novelty = Novelty::of(inner.replay());
            inner.replay_mut().relabel(|step| novelty.reward(step.seen));
            inner.advance_with((seeds, iteration), &mut |step| novelty.reward(step.seen))?
        } else {
            if iteration == *unsupervised && 0 < iteration {
                // What critics have learned of new states is no beginning for a reward.
                inner.renew_critics(&mut seeds.stream("critics", iteration));
                inner.replay_mut().relabel(|step| questions.rewards(&row(&step))[0] as f32);
            }
            let reward = &mut |step: Experienced<'_>| questions.rewards(&row(&step))[0] as f32;
            inner.advance_with((seeds, iteration), reward)?
        };
        let round = questions.ask_about(inner.noted(), (seeds, iteration))?;
        if round.is_fitted {
            inner.replay_mut().relabel(|step| questions.rewards(&row(&step))[0] as f32);
        }
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
        let inner = self.inner.kept();
        let (numbers, moments) = self.questions.kept();
        let own = [inner.own.as_slice(), &numbers].concat();
        LearnerState { moments, own, ..inner }
    }

    fn restore(&mut self, mut kept: LearnerState) -> Result<(), String> {
        let moments = std::mem::take(&mut kept.moments);
        let own = kept.own.split_off(SacLearner::OWN_NUMBERS.min(kept.own.len()));
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
