//! On-policy distillation: a student follows a teacher's distribution at every token of its own completions.
//!
//! ```text
//! prompts ─► sample, or the data's own completions ─► epochs × minibatches of updates ─┐
//!    ▲                                                                                 │
//!    └──────────────────────────────── new student ◄──────────────────────────────────┘
//! ```
//!
//! Per iteration: with the probability λ the student completes the prompts, else the completions are those of the
//! data, or the teacher completes the prompts (Kim and Rush 2016, arXiv:1606.07947). At every token of them the divergence of the student's distribution from the teacher's is minimized, the
//! mean over the tokens of an optimizer step; that the completions are the student's own has no derivative. Agarwal et al. 2024,
//! arXiv:2306.13649 (GKD).
//!
//! The teacher is in this process, where whole distributions are compared, or behind a server, which says the
//! log-probabilities of its likeliest tokens. Not here: teachers with another tokenizer.

mod config;

mod metrics;

mod teacher;

mod update;

use std::cmp::Ordering;

use hearken_config::TeacherPlace;
use hearken_data::{Completion, StopReason};
use hearken_model::{Head, Model, Tokenizer};
use hearken_objective::distillation::Divergence;
use hearken_reward_source::WeightedSum;
use hearken_run::budget::{BudgetModel, Purpose, Tape, fit};
use hearken_run::error::TrainError;
use hearken_run::ranks::Shares;
use hearken_run::run::Opening;
use hearken_tensor::Device;
use rand::RngExt;

use crate::rollout::session::{ROLLOUT, RolloutSession};
use crate::rollout::source::RolloutSource as _;
use crate::rollout::train::{
    Configurable, MeanKl, RolloutSetup, RolloutStep, RolloutTrainer, run_rollouts,
};
use crate::rollout::{Heads, HeldOutEvaluation, Rollout, RolloutOrigin, Sequence, read_together};

use metrics::DistillStepSums;
use teacher::{ServedTeacher, TeacherToken};
use update::DistributionComparison;

pub use config::{DistillConfig, DistillSettings};
pub use metrics::{DistillIteration, DistillStep};

run_rollouts!(DistillConfig, Distill);

/// A student follows a teacher.
pub struct Distill {
    config: DistillConfig,
    /// `None` where the teacher is in this process.
    served: Option<ServedTeacher>,
}

/// The completions that an iteration learns from.
pub struct Completed {
    rollouts: Vec<Rollout>,
    /// What a teacher behind a server says of each token of each; empty where the teacher is here.
    told: Vec<Vec<TeacherToken>>,
    metrics: DistillIteration,
}

impl<D: Device> Configurable<D> for Distill {
    type Config = DistillConfig;

    fn within_memory(config: &DistillConfig) -> Result<DistillConfig, TrainError> {
        let student = BudgetModel::trained(&config.shared.model, Head::LanguageModel);
        let mut parts = vec![student];
        let mut tape = Tape::new(&config.shared.model, true);
        if let TeacherPlace::Here(path) = config.place() {
            let lora = student.lora.filter(|_| path == config.shared.model.path);
            parts.push(BudgetModel { path, purpose: Purpose::Read, lora, ..student });
            // Logits are used up, chunk by chunk.
            tape = Tape::new(&config.shared.model, false);
        }
        parts.extend(BudgetModel::scores(&config.scores));
        let tape = tape.sampling(config.rollout.dtype);
        Ok(DistillConfig { shared: fit(&config.shared, tape, &parts)?, ..config.clone() })
    }

    fn new(config: DistillConfig) -> Self {
        Self { config, served: None }
    }
}

impl<D: Device> RolloutTrainer<D> for Distill {
    const STAGE: &'static str = "distill";
    /// The distance from the teacher.
    const BETTER: Ordering = Ordering::Less;
    type Own = ();
    type Iteration = Completed;
    type Sums = DistillStepSums;
    type Record = DistillStep;

    fn figure(found: &HeldOutEvaluation) -> Option<f64> {
        Some(found.eval_kl.value)
    }

    fn notes(&self) -> Vec<String> {
        self.config.notes()
    }

    fn open(&mut self, _opening: &Opening<'_>) -> Result<(), TrainError> {
        if let TeacherPlace::Served(url) = self.config.place() {
            self.served = Some(ServedTeacher::open(&self.config.teacher, url)?);
        }
        Ok(())
    }

    fn ref_logprobs(
        &self,
        session: &RolloutSession<D>,
        sequences: &[Sequence<'_>],
    ) -> Result<Vec<Vec<f64>>, TrainError> {
        let (ranks, forward) = (&session.run.ranks, session.forward_options());
        let Some(served) = &self.served else {
            let teacher = session.reference();
            self.check_positions(teacher, sequences)?;
            return Ok(read_together(ranks, teacher, sequences, Heads::LogProbs, forward).logprobs);
        };
        let student = (&session.run.model, session.run.tokenizer.as_ref());
        served.logprobs(student, sequences, ranks, forward.temperature)
    }

    /// Has the student or the teacher complete prompts, or takes the completions of the data, and asks a teacher that is served.
    fn roll_out(&mut self, at: RolloutSetup<'_, '_, D, ()>) -> Result<Completed, TrainError> {
        let RolloutSetup { session, .. } = at;
        let (is_on_policy, rollouts) = self.completions(session)?;
        let sequences: Vec<Sequence<'_>> = rollouts.iter().map(Rollout::sequence).collect();
        let told = match &self.served {
            None => {
                self.check_positions(session.reference(), &sequences)?;
                Vec::new()
            }
            Some(served) => {
                let student = (&session.run.model, session.run.tokenizer.as_ref());
                let temperature = *self.config.distill.temperature;
                served.told(student, &sequences, &session.run.ranks, temperature)?
            }
        };
        let metrics = DistillIteration::of(&rollouts, is_on_policy);
        Ok(Completed { rollouts, told, metrics })
    }

    /// The distance is part of every step, and limits nothing.
    fn kl(_: &Completed) -> MeanKl {
        MeanKl { nats: 0.0, completions: 0 }
    }

    fn together(iteration: &Completed) -> Vec<u64> {
        iteration.rollouts.iter().map(|rollout| rollout.group).collect()
    }

    fn tree(iteration: &Completed, index: usize) -> (u64, usize) {
        iteration.rollouts[index].in_tree()
    }

    fn learn(
        &self,
        on: &mut RolloutSession<D>,
        of: &Completed,
        part: &[usize],
        own: &Shares,
    ) -> DistillStepSums {
        let tokens = part.iter().map(|&index| of.rollouts[index].completion.ids.len());
        let comparison = DistributionComparison {
            divergence: Divergence::of(*self.config.distill.beta),
            temperature: *self.config.distill.temperature,
            weight: 1.0 / tokens.sum::<usize>() as f64,
        };
        let part = own.pick(part);
        let sequences: Vec<_> = part.iter().map(|&index| of.rollouts[index].sequence()).collect();
        if self.served.is_none() {
            return comparison.of_whole(on, &sequences);
        }
        let told: Vec<_> = part.iter().map(|&index| of.told[index].as_slice()).collect();
        comparison.of_told(on, &sequences, &told)
    }

    fn loss(&self, _session: &RolloutSession<D>, sums: &DistillStepSums) -> f64 {
        sums.loss.value().unwrap_or(0.0)
    }

    fn record(&self, step: RolloutStep<'_, Completed, DistillStepSums>) -> DistillStep {
        DistillStep::new(&step)
    }

    fn figures(record: &DistillStep) -> Vec<(&'static str, f64)> {
        let length = record.iteration_metrics.length_mean;
        vec![("kl", record.reverse_kl), ("entropy", record.entropy), ("length", length)]
    }
}

impl Distill {
    /// The next completions, and whether the student wrote them.
    fn completions<D: Device>(
        &self,
        session: &mut RolloutSession<D>,
    ) -> Result<(bool, Vec<Rollout>), TrainError> {
        let draw: f64 = session.run.seeds.stream("on-policy", session.iteration()).random();
        if draw < *self.config.distill.lambda {
            let prompts = session.next_prompts(session.settings.prompts);
            // Scores are of held-out completions: nothing is trained on them.
            let mut nobody = WeightedSum::new();
            let (rollouts, _) = session.sample(&prompts, ROLLOUT, &mut nobody)?;
            return Ok((true, rollouts));
        }
        if self.config.distill.seq_kd {
            let prompts = session.next_prompts(session.settings.prompts);
            let (teacher, options) = (session.reference(), session.sample_options(ROLLOUT));
            let mut teacher = session.source(teacher);
            let (rollouts, _) = teacher.rollouts(&prompts, &options, &mut WeightedSum::new())?;
            return Ok((false, rollouts));
        }
        let (count, cursor) = (session.settings.prompts, &mut session.run.counters.cursor);
        let drawn = session.feed.draw(count, cursor);
        let tokenizer = session.run.tokenizer.as_ref();
        let rollouts = drawn.iter().zip(0..).map(|(asked, group)| Rollout {
            prompt: asked.prompt.clone(),
            group,
            text: String::new(),
            completion: recorded(&asked.demonstration, tokenizer),
            origin: RolloutOrigin::Recorded,
        });
        Ok((false, rollouts.collect()))
    }

    /// Refuses sequences for which a teacher has no positions.
    fn check_positions<D: Device>(
        &self,
        teacher: &Model<D>,
        sequences: &[Sequence<'_>],
    ) -> Result<(), TrainError> {
        let positions = teacher.config().max_positions;
        let longest = sequences.iter().map(|sequence| sequence.tokens()).max().unwrap_or(0);
        if longest <= positions {
            return Ok(());
        }
        let path = self.config.teacher.path.as_deref().unwrap_or(&self.config.shared.model.path);
        Err(TrainError::Other(format!(
            "`teacher.path`: {} has {positions} positions, found a prompt with a completion of {longest} tokens; \
             expected a teacher with as many, or a smaller `rollout.max_new_tokens` or `data.max_tokens`",
            path.display()
        )))
    }
}

/// A completion of the data.
fn recorded(ids: &[u32], tokenizer: Option<&Tokenizer>) -> Completion {
    let ends = |id: &u32| tokenizer.is_some_and(|tokenizer| tokenizer.eos().contains(id));
    let stop_reason = match ids.last().is_some_and(ends) {
        true => StopReason::EndOfText,
        false => StopReason::Length,
    };
    Completion { ids: ids.to_vec(), logprobs: Vec::new(), stop_reason }
}
