//! Proximal policy optimization of a language model against scores, near a reference.
//!
//! ```text
//! prompts ─► sample ─► score ─► credit ─► epochs × minibatches of updates ─┐
//!    ▲                                                                     │
//!    └───────────────────────── new policy ◄───────────────────────────────┘
//! ```
//!
//! Per iteration: completions are sampled; the score of each falls on its last token, and every token
//! pays for its distance to the reference; advantages are estimated and whitened over the whole
//! iteration; policy and critic follow clipped losses, each a mean over the tokens of an optimizer
//! step. Schulman et al. 2017, arXiv:1707.06347; Ziegler et al. 2019, arXiv:1909.08593.
//!
//! Checkpoints are made between iterations, where nothing but the models, the optimizer and a few
//! counters is needed to go on bit for bit.

mod config;

mod metrics;

mod critic;

mod credit;

mod update;

use hearken_model::{Head, Model};
use hearken_reward_source::judging::local_judges;
use hearken_run::budget::{BudgetModel, Purpose, Tape, fit};
use hearken_run::error::TrainError;
use hearken_run::ranks::Shares;
use hearken_run::run::{Companion, Opening};
use hearken_tensor::Device;

use crate::rollout::guard::{Signs, measures};
use crate::rollout::session::RolloutSession;
use crate::rollout::train::{
    Configurable, MeanKl, RolloutSetup, RolloutStep, RolloutTrainer, run_rollouts,
};
use crate::rollout::{Scoring, score};

use credit::{Experience, credit, iteration_metrics};
use metrics::PpoStepSums;

pub use config::{CriticSource, PpoConfig, PpoSettings};
pub use metrics::{PpoIteration, PpoStep};

run_rollouts!(PpoConfig, Ppo);

/// Policy and critic follow clipped losses.
pub struct Ppo {
    config: PpoConfig,
}

/// Credited rollouts of one iteration.
pub struct Credited {
    pub(crate) experience: Vec<Experience>,
    pub(crate) metrics: PpoIteration,
}

impl<D: Device> Configurable<D> for Ppo {
    type Config = PpoConfig;

    fn within_memory(config: &PpoConfig) -> Result<PpoConfig, TrainError> {
        let policy = BudgetModel::trained(&config.shared.model, Head::LanguageModel);
        let reference = BudgetModel { purpose: Purpose::Read, ..policy };
        let critic = match &config.ppo.critic {
            CriticSource::ValueHead => None,
            CriticSource::Checkpoint(path) => Some(BudgetModel {
                path,
                head: Head::Score,
                purpose: Purpose::Train(&[]),
                ..policy
            }),
        };
        let scorers = BudgetModel::scores(&config.scores);
        let judges = local_judges(&config.scores)?;
        let mut parts: Vec<_> =
            [policy, reference].into_iter().chain(critic).chain(scorers).collect();
        parts.extend(judges.iter().map(BudgetModel::judge));
        let tape = Tape::new(&config.shared.model, true).sampling(config.rollout.dtype);
        Ok(PpoConfig { shared: fit(&config.shared, tape, &parts)?, ..config.clone() })
    }

    fn new(config: PpoConfig) -> Self {
        Self { config }
    }
}

impl<D: Device> RolloutTrainer<D> for Ppo {
    const STAGE: &'static str = "ppo";
    type Own = ();
    type Iteration = Credited;
    type Sums = PpoStepSums;
    type Record = PpoStep;

    fn accompany(
        &self,
        policy: &mut Model<D>,
        opening: &Opening<'_>,
    ) -> Result<Option<Companion<D>>, TrainError> {
        critic::open(&self.config, policy, opening)
    }

    /// Samples (or replays), scores and credits the rollouts of an iteration.
    fn roll_out(&mut self, at: RolloutSetup<'_, '_, D, ()>) -> Result<Credited, TrainError> {
        let RolloutSetup { session, sources, .. } = at;
        let (rollouts, scores) = session.rollouts(sources)?;
        let (forward, missing_end) =
            (session.forward_options(), self.config.ppo.learning.missing_end);
        let scoring = Scoring {
            reference: session.reference(),
            ranks: &session.run.ranks,
            forward,
            missing_end,
        };
        let (scored, summary) = score(rollouts, scores, &scoring);
        let sequences: Vec<_> = scored.iter().map(|one| one.rollout.sequence()).collect();
        session.book_reading(&sequences);
        let reading = critic::read_both(session, &sequences);
        let (beta, entropy) = (session.kl.beta(), reading.entropy);
        let experience = credit(scored, reading, beta, &self.config);
        let metrics = iteration_metrics(&experience, &summary, entropy, beta, &self.config);
        let staleness = session.staleness(experience.iter().map(|one| &one.scored.rollout));
        let metrics = PpoIteration { staleness, ..metrics };
        Ok(Credited { experience, metrics })
    }

    fn kl(iteration: &Credited) -> MeanKl {
        let Credited { experience, metrics } = iteration;
        MeanKl { nats: metrics.kl_k1_nats, completions: experience.len() }
    }

    fn signs(iteration: &Credited) -> Option<Signs> {
        let PpoIteration { scores, kl_k1_nats, lengths, ref sources, .. } = iteration.metrics;
        Some(Signs {
            score: Some(scores),
            kl_nats: kl_k1_nats,
            length: lengths.mean,
            repeated: lengths.repeated_share,
            flat: None,
            sources: measures(sources, "scores/", ""),
        })
    }

    /// Completions of one prompt need not share a minibatch.
    fn together(iteration: &Credited) -> Vec<u64> {
        (0..iteration.experience.len() as u64).collect()
    }

    fn tree(iteration: &Credited, index: usize) -> (u64, usize) {
        iteration.experience[index].scored.rollout.in_tree()
    }

    fn learn(
        &self,
        on: &mut RolloutSession<D>,
        from: &Credited,
        part: &[usize],
        shares: &Shares,
    ) -> PpoStepSums {
        let minibatch: Vec<&Experience> = part.iter().map(|&at| &from.experience[at]).collect();
        update::accumulate(on, &minibatch, shares, &self.config)
    }

    fn loss(&self, session: &RolloutSession<D>, sums: &PpoStepSums) -> f64 {
        let beta = session.kl.beta();
        let mean = |mean: hearken_objective::Mean| mean.value().unwrap_or(0.0);
        mean(sums.policy) + *self.config.ppo.value_coef * mean(sums.value)
            - *self.config.ppo.entropy_coef * mean(sums.entropy)
            + beta * mean(sums.kl)
    }

    fn record(&self, step: RolloutStep<'_, Credited, PpoStepSums>) -> PpoStep {
        PpoStep::new(&step)
    }

    fn figures(record: &PpoStep) -> Vec<(&'static str, f64)> {
        let iteration = &record.iteration_metrics;
        vec![
            ("score", iteration.scores),
            ("kl", iteration.kl_k1_nats),
            ("clipped", record.clip_fraction),
            ("length", iteration.lengths.mean),
        ]
    }
}
