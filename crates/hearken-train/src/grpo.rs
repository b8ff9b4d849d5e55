//! Reinforcement learning from scores that are compared within the completions of one prompt.
//!
//! ```text
//! prompts ─► sample groups ─► grade ─► credit ─► epochs × minibatches of updates ─┐
//!    ▲                                                                            │
//!    └─────────────────────────── new policy ◄────────────────────────────────────┘
//! ```
//!
//! Per iteration: every prompt gets a group of completions; each is scored; groups whose scores are all
//! equal may leave; advantages come from the scores of the group; the policy follows a surrogate. Which
//! of GRPO, RLOO, DAPO, GSPO … that is, an [`Algorithm`]
//! says: the loop never asks for a name.
//!
//! Checkpoints are made between iterations, where nothing but the policy, the optimizer and a few
//! counters is needed to go on bit for bit. Not here: a critic; see [`crate::ppo`].

mod config;

mod axes;

mod section;

mod kl;

mod metrics;

mod grade;

mod gather;

mod idle;

mod credit;

mod update;

use hearken_model::Head;
use hearken_objective::grpo::Algorithm;
use hearken_reward_source::judging::local_judges;
use hearken_run::budget::{BudgetModel, Purpose, Tape, fit};
use hearken_run::error::TrainError;
use hearken_run::ranks::Shares;
use hearken_tensor::Device;

use crate::rollout::guard::{Signs, measures};
use crate::rollout::session::RolloutSession;
use crate::rollout::train::{
    Configurable, MeanKl, RolloutSetup, RolloutStep, RolloutTrainer, run_rollouts,
};
use crate::rollout::{Heads, read_together};

use credit::{Experience, credit, trained};
use idle::{Idle, Idleness};
use metrics::{Gathered, GrpoStepSums};

pub use config::GrpoConfig;
pub use metrics::{ClipMetrics, GrpoIteration, GrpoStep, SamplerMetrics};
pub use section::{Groups, GrpoSettings, Resolved};

run_rollouts!(GrpoConfig, Grpo);

/// The policy follows a surrogate whose advantages compare the completions of a group.
pub struct Grpo {
    config: GrpoConfig,
    idleness: Idleness,
}

/// What one iteration learns from.
pub struct GroupedRollouts {
    /// What is trained on; nothing where all of it was left out.
    pub(crate) trained: Vec<Experience>,
    pub(crate) metrics: GrpoIteration,
}

impl<D: Device> Configurable<D> for Grpo {
    type Config = GrpoConfig;

    fn within_memory(config: &GrpoConfig) -> Result<GrpoConfig, TrainError> {
        let GrpoConfig { shared, scores, .. } = config;
        let policy = BudgetModel::trained(&shared.model, Head::LanguageModel);
        let mut parts = vec![policy, BudgetModel { purpose: Purpose::Read, ..policy }];
        parts.extend(BudgetModel::scores(scores));
        let judges = local_judges(scores)?;
        parts.extend(judges.iter().map(BudgetModel::judge));
        let tape = Tape::new(&shared.model, true).sampling(config.rollout.dtype);
        Ok(GrpoConfig { shared: fit(shared, tape, &parts)?, ..config.clone() })
    }

    fn new(config: GrpoConfig) -> Self {
        Self { config, idleness: Idleness::default() }
    }
}

impl<D: Device> RolloutTrainer<D> for Grpo {
    const STAGE: &'static str = "grpo";
    type Own = ();
    type Iteration = GroupedRollouts;
    type Sums = GrpoStepSums;
    type Record = GrpoStep;

    /// The algorithm, and keys without meaning.
    fn notes(&self) -> Vec<String> {
        let (preset, unused) = (&self.config.grpo.preset, &self.config.resolved.unused);
        let mut notes = vec![format!("algorithm: {preset}")];
        if !unused.is_empty() {
            let keys = unused.join("`, `");
            notes.push(format!("`{keys}`: without effect on this algorithm"));
        }
        notes
    }

    /// Samples (or replays), grades and credits the rollouts of an iteration.
    fn roll_out(&mut self, at: RolloutSetup<'_, '_, D, ()>) -> Result<GroupedRollouts, TrainError> {
        let RolloutSetup { session, sources, progress } = at;
        let (sampled, mut kept) = self.gather(session, sources)?;
        let all_left = kept.is_empty();
        if all_left {
            // Their KL is measured, and nothing is learned of them.
            kept.clone_from(&sampled);
        }
        let sequences: Vec<_> = kept.iter().map(|one| one.rollout.sequence()).collect();
        session.book_reading(&sequences);
        let forward = session.forward_options();
        let ranks = &session.run.ranks;
        let read = |model| read_together(ranks, model, &sequences, Heads::LogProbs, forward);
        let (reading, ref_logprobs) =
            (read(&session.run.model), read(session.reference()).logprobs);
        let algorithm = self.algorithm(session.kl.beta());
        let credited = credit(kept, reading, ref_logprobs, &algorithm);
        let trained = match all_left {
            true => Vec::new(),
            false => trained(&credited, self.config.resolved.groups, algorithm.overlong),
        };
        let idle = Idle::of(&sampled, trained.is_empty(), algorithm.overlong);
        if let Some(note) = self.idleness.note(session.iteration(), idle) {
            progress.note(&note);
        }
        let gathered = Gathered {
            sampled: &sampled,
            experience: &credited,
            trained: trained.len(),
            measures: &sources.measures(),
            beta: algorithm.kl.beta().unwrap_or(0.0),
            correction: algorithm.correction,
        };
        let staleness = session.staleness(sampled.iter().map(|one| &one.rollout));
        Ok(GroupedRollouts { metrics: GrpoIteration { staleness, ..gathered.metrics() }, trained })
    }

    fn kl(iteration: &GroupedRollouts) -> MeanKl {
        let GrpoIteration { kl_k1_nats, sampled, .. } = iteration.metrics;
        MeanKl { nats: kl_k1_nats, completions: sampled }
    }

    fn signs(iteration: &GroupedRollouts) -> Option<Signs> {
        let metrics = &iteration.metrics;
        Some(Signs {
            score: Some(metrics.reward),
            kl_nats: metrics.kl_k1_nats,
            length: metrics.lengths.mean,
            repeated: metrics.lengths.repeated_share,
            flat: Some(metrics.frac_reward_zero_std),
            sources: measures(&metrics.sources, "rewards/", "/mean"),
        })
    }

    /// The completions of a group share a minibatch.
    fn together(iteration: &GroupedRollouts) -> Vec<u64> {
        iteration.trained.iter().map(|one| one.graded.rollout.group).collect()
    }

    fn tree(iteration: &GroupedRollouts, index: usize) -> (u64, usize) {
        iteration.trained[index].graded.rollout.in_tree()
    }

    fn learn(
        &self,
        on: &mut RolloutSession<D>,
        of: &GroupedRollouts,
        part: &[usize],
        own: &Shares,
    ) -> GrpoStepSums {
        let minibatch: Vec<&Experience> = part.iter().map(|&index| &of.trained[index]).collect();
        let algorithm = self.algorithm(on.kl.beta());
        update::accumulate(on, &minibatch, own, &algorithm, *self.config.grpo.entropy_coef)
    }

    fn loss(&self, _session: &RolloutSession<D>, sums: &GrpoStepSums) -> f64 {
        sums.policy - *self.config.grpo.entropy_coef * sums.entropy.value().unwrap_or(0.0)
    }

    fn of_nothing() -> Option<GrpoStepSums> {
        Some(GrpoStepSums::default())
    }

    fn record(&self, step: RolloutStep<'_, GroupedRollouts, GrpoStepSums>) -> GrpoStep {
        let surrogate = self.config.resolved.algorithm.surrogate;
        GrpoStep::new(&step, surrogate)
    }

    fn figures(record: &GrpoStep) -> Vec<(&'static str, f64)> {
        let GrpoIteration { reward, kl_k1_nats, frac_reward_zero_std, lengths, .. } =
            record.iteration_metrics;
        let flat = frac_reward_zero_std;
        vec![("reward", reward), ("kl", kl_k1_nats), ("flat", flat), ("length", lengths.mean)]
    }
}

impl Grpo {
    /// The algorithm with the coefficient of the KL penalty in force.
    fn algorithm(&self, beta: f64) -> Algorithm {
        let algorithm = self.config.resolved.algorithm;
        Algorithm { kl: algorithm.kl.with_beta(beta), ..algorithm }
    }
}
