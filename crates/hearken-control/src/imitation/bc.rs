//! Behavior cloning: a policy of maximum likelihood on demonstrations, with no environment in it.

use hearken_env::{EnvironmentSetup, Spaces};
use hearken_run::seeds::Seeds;
use serde::Serialize;
use serde_json::{Map, Value};

use super::cloning::{Cloning, Pairs};
use crate::config::ControlConfig;
use crate::demonstrations::{DemonstratedEpisode, Transitions};
use crate::kept::LearnerState;
use crate::learner::{AdvanceError, Learner, fields};
use crate::network::Network;
use crate::saved::Acting;

/// A policy that is fitted to demonstrations, one pass over them in an iteration.
#[derive(Clone, Debug)]
pub struct BcLearner {
    cloning: Cloning,
    environment: EnvironmentSetup,
    learned: Transitions,
    checked: Transitions,
    epochs: u64,
    patience: Option<u64>,
    /// The policy with the least loss on what is held out.
    best: Network,
    best_loss: Option<f64>,
    /// Epochs since it was found.
    since: u64,
}

/// What an epoch came to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct EpochMetrics {
    /// −mean log π of what it learned from.
    #[serde(rename = "imitation/loss")]
    loss: f64,
    /// The same of what is held out.
    #[serde(rename = "imitation/held_out_loss", skip_serializing_if = "Option::is_none")]
    held_out_loss: Option<f64>,
}

impl BcLearner {
    /// As the configuration says. Of the episodes, the last ones are held out, at most all but one.
    ///
    /// # Panics
    /// If there is no episode.
    pub fn new(
        config: &ControlConfig,
        environment: EnvironmentSetup,
        spaces: Spaces,
        episodes: &[DemonstratedEpisode],
        seeds: Seeds,
    ) -> Self {
        assert!(!episodes.is_empty(), "there are demonstrations");
        let held_out = (*config.imitation.held_out * episodes.len() as f64).ceil() as usize;
        let (learned, checked) =
            episodes.split_at(episodes.len() - held_out.min(episodes.len() - 1));
        let (space, len) = (spaces.actions, spaces.observation.len());
        let learned = Transitions::of(learned, space, len);
        let epochs = config.imitation.epochs.get();
        let per_epoch = learned.len().div_ceil(*config.imitation.batch) as u64;
        let mut rng = seeds.stream("weights", 0);
        let mut cloning = Cloning::new(config, spaces, epochs * per_epoch, &mut rng);
        cloning.note(&learned.seen);
        Self {
            best: cloning.policy.network.clone(),
            cloning,
            environment,
            learned,
            checked: Transitions::of(checked, space, len),
            epochs,
            patience: config.imitation.patience,
            best_loss: None,
            since: 0,
        }
    }
}

impl Learner for BcLearner {
    fn advance(
        &mut self,
        seeds: Seeds,
        iteration: u64,
    ) -> Result<Map<String, Value>, AdvanceError> {
        let mut entries: Vec<usize> = (0..self.learned.len()).collect();
        let pairs = Pairs { seen: &self.learned.seen, actions: &self.learned.actions };
        let mut rng = seeds.stream("minibatches", iteration);
        let loss = self.cloning.epoch(pairs, &mut entries, &mut rng)?;
        let mut metrics = EpochMetrics { loss, held_out_loss: None };
        if !self.checked.is_empty() {
            let entries: Vec<usize> = (0..self.checked.len()).collect();
            let pairs = Pairs { seen: &self.checked.seen, actions: &self.checked.actions };
            let loss = self.cloning.loss(pairs, &entries);
            metrics.held_out_loss = Some(loss);
            self.since += 1;
            if self.best_loss.is_none_or(|best| loss < best) {
                (self.best_loss, self.since) = (Some(loss), 0);
                self.best.values_mut().copy_from_slice(self.cloning.policy.network.values());
            }
        }
        Ok(fields(&metrics))
    }

    fn iterations(&self, _environment_steps: u64) -> u64 {
        self.epochs
    }

    fn is_done(&self) -> bool {
        self.patience.is_some_and(|patience| patience <= self.since)
    }

    fn steps_per_iteration(&self) -> u64 {
        0
    }

    fn step(&self) -> u64 {
        self.cloning.step
    }

    fn acting(&self) -> Acting {
        let mut policy = self.cloning.policy.clone();
        if self.patience.is_some() && self.best_loss.is_some() {
            policy.network.values_mut().copy_from_slice(self.best.values());
        }
        let moments = self.cloning.moments.clone();
        Acting { environment: self.environment.clone(), policy, moments }
    }

    fn networks(&self) -> Vec<(&'static str, &Network)> {
        vec![("policy", &self.cloning.policy.network), ("best", &self.best)]
    }

    fn networks_mut(&mut self) -> Vec<(&'static str, &mut Network)> {
        vec![("policy", &mut self.cloning.policy.network), ("best", &mut self.best)]
    }

    fn kept(&self) -> LearnerState {
        let mut own = vec![self.since as f64];
        own.extend(self.best_loss);
        let observation_moments = self.cloning.moments.clone();
        LearnerState {
            step: self.cloning.step,
            observation_moments,
            own,
            ..LearnerState::default()
        }
    }

    fn restore(&mut self, kept: LearnerState) -> Result<(), String> {
        let (since, best_loss) = match kept.own[..] {
            [since] => (since, None),
            [since, best] => (since, Some(best)),
            _ => return Err(format!("found {} numbers, expected 1 or 2", kept.own.len())),
        };
        (self.since, self.best_loss) = (since as u64, best_loss);
        (self.cloning.step, self.cloning.moments) = (kept.step, kept.observation_moments);
        Ok(())
    }
}
