//! DAgger: an expert says what it would do wherever the policy gets, and the policy is fitted to all that it has said.
//!
//! Ross, Gordon and Bagnell 2011, arXiv:1011.0686. In round i each action is the expert's with probability β_i; every state
//! that is visited is labelled, whoever acted, and each label is a call of the expert.

use hearken_run::seeds::Seeds;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::cloning::{Cloning, Pairs};
use crate::actions::Actions;
use crate::config::{ControlConfig, ExpertSchedule, ImitationConfig};
use crate::demonstrations::{DemonstratedEpisode, Transitions};
use crate::kept::{Episode, LearnerState};
use crate::learner::{AdvanceError, Learner, fields};
use crate::network::{Network, Pass};
use crate::normalization::normalize;
use crate::rollout::Stage;
use crate::saved::Acting;
use hearken_env::{ServerError, StepEnd};

/// A policy, its expert, and all that the expert has said.
#[derive(Debug)]
pub struct DaggerLearner {
    cloning: Cloning,
    expert: Acting,
    stage: Stage,
    settings: ImitationConfig,
    /// What was seen and what the expert would do there.
    seen: Vec<f32>,
    labels: Actions,
    expert_calls: u64,
}

/// What a round came to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct RoundMetrics {
    /// −mean log π of what the expert has said, over the round's updates.
    #[serde(rename = "imitation/loss")]
    loss: f64,
    /// The expert's share of the round's actions.
    #[serde(rename = "imitation/expert_share")]
    expert_share: f64,
    /// States that the expert has labelled so far.
    #[serde(rename = "imitation/expert_calls")]
    expert_calls: u64,
}

/// β of round `round`, counted from 0.
///
/// ```text
/// linear: max(0, 1 − round/rounds)        exponential: decay^round
/// ```
fn expert_share(settings: &ImitationConfig, round: u64) -> f64 {
    match settings.expert_schedule {
        ExpertSchedule::Linear => {
            (1.0 - round as f64 / settings.expert_rounds.get() as f64).max(0.0)
        }
        ExpertSchedule::Exponential => settings.expert_decay.powf(round as f64),
    }
}

impl DaggerLearner {
    /// As the configuration says; `episodes` are there from the first round on.
    ///
    /// # Panics
    /// If the expert is of another task.
    pub fn new(
        config: &ControlConfig,
        expert: Acting,
        episodes: &[DemonstratedEpisode],
        stage: Stage,
        seeds: Seeds,
    ) -> Self {
        let spaces = stage.spaces();
        assert_eq!(expert.policy.spaces(), spaces, "the expert knows the task");
        let len = spaces.observation.len();
        let Transitions { seen, actions: labels, .. } =
            Transitions::of(episodes, spaces.actions, len);
        let settings = config.imitation.clone();
        let per_round = *settings.steps * stage.len();
        let rounds = settings.rounds.get();
        let updates = |round: u64| {
            let pairs = labels.len() as u64 + round * per_round as u64;
            settings.round_epochs.get() * pairs.div_ceil(*settings.batch as u64)
        };
        let total = (1..=rounds).map(updates).sum();
        let mut cloning = Cloning::new(config, spaces, total, &mut seeds.stream("weights", 0));
        cloning.note(&seen);
        Self { cloning, expert, stage, settings, seen, labels, expert_calls: 0 }
    }

    /// Acts for a round, and asks the expert about every state.
    fn collect(&mut self, share: f64, rng: &mut ChaCha8Rng) -> Result<Vec<Episode>, ServerError> {
        let len = self.stage.spaces().observation.len();
        let (mut seen, mut row, mut pass) = (vec![0.0; len], Vec::new(), Pass::default());
        let mut own = self.labels.clone();
        let mut episodes = Vec::new();
        for _ in 0..*self.settings.steps {
            for copy in 0..self.stage.len() {
                self.stage.environments.observe(copy, &mut seen);
                self.seen.extend_from_slice(&seen);
                self.expert.choose(&seen, &mut self.labels, &mut row, &mut pass);
                self.expert_calls += 1;
                let last = self.labels.len() - 1;
                let is_expert = rng.random::<f64>() < share;
                let end = if is_expert {
                    self.stage.step(copy, &self.labels, last)?.end
                } else {
                    own.clear();
                    row.resize(len, 0.0);
                    normalize(self.cloning.moments.as_ref(), &seen, &mut row);
                    self.cloning.policy.network.forward(&row, &mut pass);
                    self.cloning.policy.choose(pass.output(), &mut own);
                    self.stage.step(copy, &own, 0)?.end
                };
                if end != StepEnd::Running {
                    episodes.push(self.stage.episodes[copy]);
                    self.stage.reset(copy)?;
                }
            }
        }
        // Checkpoints keep labels in f32, so that is what is learned from.
        if let Actions::Continuous { values, .. } = &mut self.labels {
            for value in values {
                *value = f64::from(value.clamp(-1.0, 1.0) as f32);
            }
        }
        Ok(episodes)
    }
}

impl Learner for DaggerLearner {
    fn advance(
        &mut self,
        seeds: Seeds,
        iteration: u64,
    ) -> Result<Map<String, Value>, AdvanceError> {
        let share = expert_share(&self.settings, iteration);
        let before = self.seen.len();
        let episodes = self.collect(share, &mut seeds.stream("actions", iteration))?;
        self.cloning.note(&self.seen[before..]);
        let mut rng = seeds.stream("minibatches", iteration);
        let mut entries: Vec<usize> = (0..self.labels.len()).collect();
        let epochs = self.settings.round_epochs.get();
        let mut loss = 0.0;
        for _ in 0..epochs {
            let pairs = Pairs { seen: &self.seen, actions: &self.labels };
            loss += self.cloning.epoch(pairs, &mut entries, &mut rng)? / epochs as f64;
        }
        let metrics = RoundMetrics { loss, expert_share: share, expert_calls: self.expert_calls };
        let mut record = fields(&metrics);
        if !episodes.is_empty() {
            let count = episodes.len() as f64;
            let total: f64 = episodes.iter().map(|episode| episode.total).sum();
            record.insert("episode_return".to_owned(), json!(total / count));
        }
        Ok(record)
    }

    fn iterations(&self, _environment_steps: u64) -> u64 {
        self.settings.rounds.get()
    }

    fn steps_per_iteration(&self) -> u64 {
        (*self.settings.steps * self.stage.len()) as u64
    }

    fn step(&self) -> u64 {
        self.cloning.step
    }

    fn acting(&self) -> Acting {
        let (policy, moments) = (self.cloning.policy.clone(), self.cloning.moments.clone());
        Acting { environment: self.stage.environments.setup().clone(), policy, moments }
    }

    fn networks(&self) -> Vec<(&'static str, &Network)> {
        vec![("policy", &self.cloning.policy.network)]
    }

    fn networks_mut(&mut self) -> Vec<(&'static str, &mut Network)> {
        vec![("policy", &mut self.cloning.policy.network)]
    }

    fn kept(&self) -> LearnerState {
        let own = vec![self.expert_calls as f64, self.labels.len() as f64];
        let observation_moments = self.cloning.moments.clone();
        LearnerState { step: self.cloning.step, observation_moments, own, ..self.stage.kept() }
    }

    fn restore(&mut self, kept: LearnerState) -> Result<(), String> {
        let [calls, labels] = kept.own[..] else {
            return Err(format!("found {} numbers of DAgger, expected 2", kept.own.len()));
        };
        self.expert_calls = calls as u64;
        let (labels, space) = (labels as usize, self.cloning.policy.space());
        self.seen = vec![0.0; labels * self.cloning.policy.network.inputs()];
        self.labels = Actions::new(space);
        let each =
            if let Actions::Continuous { dimensions, .. } = self.labels { dimensions } else { 1 };
        self.labels.set_numbers(&vec![0.0; labels * each]);
        self.cloning.step = kept.step;
        self.cloning.moments.clone_from(&kept.observation_moments);
        self.stage.restore(kept)
    }

    fn vectors(&self) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        let labels = self.labels.numbers();
        vec![
            ("seen".to_owned(), vec![self.seen.len()], self.seen.clone()),
            ("labels".to_owned(), vec![labels.len()], labels),
        ]
    }

    fn restore_vectors<E>(
        &mut self,
        read: impl Fn(&str, &[usize]) -> Result<Vec<f32>, E>,
    ) -> Result<(), E> {
        self.seen = read("seen", &[self.seen.len()])?;
        let labels = read("labels", &[self.labels.numbers().len()])?;
        self.labels.set_numbers(&labels);
        Ok(())
    }
}
