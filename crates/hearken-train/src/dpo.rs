//! Preference optimization without a reward model: DPO and its family, on pairs and on single
//! completions.
//!
//! A pair is one tree: the tokens that both sequences begin with, and two branches. The loss of an
//! optimizer step is the mean over its trees of a function of the completions' log-probabilities
//! under the policy and under a reference, as `hearken_objective::dpo` has them, plus, for some, the
//! likelihood of the chosen completions. The reference's log-probabilities are computed before the
//! first step and stored; where the reference is the model that training starts from, there is never
//! a second copy of its weights.

mod batch;
mod config;
mod distance;
mod evaluation;
mod loss;
mod metrics;
mod objective;
pub mod online;
mod records;
mod reference;
mod reference_cache;
mod section;
mod tree;

use std::borrow::Cow;

use hearken_config::{LoadedConfig, SharedSections};
use hearken_model::{Head, Model};
use hearken_objective::guard::{Observation, Watched};
use hearken_run::budget::{BudgetModel, Purpose, Tape, fit};
use hearken_run::error::TrainError;
use hearken_run::progress::Progress;
use hearken_run::ranks::Shares;
use hearken_run::run::{Opening, Run, RunOutcome, TrainerState, load_language_model, start_of};
use hearken_run::run_dir::OpenFor;
use hearken_run::run_dir::checkpoint::NamedModel;
use hearken_run::stream::Drawn;
use hearken_tensor::Device;
use serde::{Deserialize, Serialize};

use crate::records::{EvaluationRecord, RecordStep, RecordTrainer, TrainingRows, train};
use crate::rollout::guard::judge;
use batch::{StepBatch, StepResult, learn};
use distance::Completing;
use records::TreeRecords;
use reference::{OfTrees, ReferencePlace, References, portions};
use tree::Tree;

pub use config::DpoConfig;
pub use metrics::{DpoEvaluation, DpoFigures, DpoStep, PolicyKl};
pub use objective::{Objective, ObjectiveKind, ReferenceConfig, ReferenceSync, Reported};
pub use section::DpoSettings;

/// The folder of a moving reference in a checkpoint.
const REFERENCE: &str = "reference";

/// What a checkpoint keeps of the loss.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct LossState {
    /// BCO's δ.
    reward_shift: f64,
}

/// What a checkpoint keeps of a run over records.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct RecordsState {
    /// What is remembered of the signs of over-optimization.
    #[serde(default)]
    watched: Watched,
    /// Whether they have ended the run.
    #[serde(default)]
    is_stopped: bool,
    /// What they have multiplied the learning rate by; `None` is nothing.
    #[serde(default)]
    slowed: Option<f64>,
    #[serde(default)]
    own: LossState,
}

impl TrainerState for RecordsState {
    fn is_over(&self) -> bool {
        self.is_stopped
    }

    fn rate(&self) -> f64 {
        self.slowed.unwrap_or(1.0)
    }
}

/// A run that keeps the state of the loss.
type Running<D> = Run<D, RecordsState>;

/// Preferences as trees, and what the reference says of them.
pub struct Dpo<D: Device> {
    config: DpoConfig,
    records: TreeRecords,
    references: References<D>,
}

/// Runs the configuration to its end, or until `progress` asks to stop; goes on from the last
/// checkpoint where there is one.
///
/// # Errors
/// If an input is not usable, a source or judge of `dpo.online` fails, a file cannot be written, or a
/// number becomes NaN or infinite.
pub fn run<D: Device>(
    device: D,
    loaded: &LoadedConfig<DpoConfig>,
    entry: impl Into<OpenFor>,
    progress: &mut dyn Progress,
) -> Result<RunOutcome, TrainError> {
    if loaded.config.method().is_some() {
        return online::run(device, loaded, entry, progress);
    }
    train::<D, Dpo<D>>(device, loaded, entry, progress)
}

impl<D: Device> RecordTrainer<D> for Dpo<D> {
    const STAGE: &'static str = "dpo";
    type Config = DpoConfig;
    type Kept = RecordsState;
    type Sums = StepResult;
    type Record = DpoStep;

    fn within_memory(config: &DpoConfig) -> Result<DpoConfig, TrainError> {
        let DpoConfig { shared: SharedSections { model, data, .. }, resolved, .. } = config;
        let policy = BudgetModel::trained(model, Head::LanguageModel);
        let path = resolved.reference.path.as_ref().unwrap_or(&model.path);
        // An adapter's reference is its base, which is there.
        let is_beside = data.streaming && model.lora.is_none();
        let moves = resolved.objective.needs_reference()
            && (resolved.reference.sync.is_some() || is_beside);
        let reference = moves.then_some(BudgetModel { path, purpose: Purpose::Follow, ..policy });
        let parts: Vec<_> = [policy].into_iter().chain(reference).collect();
        let tape = Tape::new(model, !resolved.objective.couples_batch());
        Ok(DpoConfig { shared: fit(&config.shared, tape, &parts)?, ..config.clone() })
    }

    fn read(config: DpoConfig, opening: &mut Opening<'_>) -> Result<Self, TrainError> {
        let records = TreeRecords::read(&config, opening)?;
        Ok(Self { config, records, references: References::None })
    }

    fn training(&self) -> TrainingRows<'_> {
        let branches = self.config.resolved.objective.grad_reading().branches;
        let rows = self.records.train.iter().map(|tree| tree.rows(branches)).collect();
        let stream = self.records.stream.as_ref();
        let rows_max = stream.map(|stream| 2 * stream.tokens_max());
        TrainingRows { rows, mix: &self.records.mix, rows_max }
    }

    fn evaluation_rows(&self) -> usize {
        self.records.eval.iter().map(|tree| tree.rows(2)).sum()
    }

    fn rows_read_first(&self) -> usize {
        self.references.rows_wanted()
    }

    fn load(&mut self, device: D, opening: &mut Opening<'_>) -> Result<Model<D>, TrainError> {
        let policy = opening.load(device, &opening.model_dir())?;
        let mut place = ReferencePlace { config: &self.config, opening, records: &self.records };
        self.references = place.references(&policy)?;
        Ok(policy)
    }

    fn follower(&self) -> Option<NamedModel<'_, D>> {
        match &self.references {
            References::Live { model, .. } => Some(NamedModel { name: REFERENCE, model }),
            References::None | References::Known { .. } => None,
        }
    }

    fn notes(&self) -> Vec<String> {
        self.config.resolved.notes()
    }

    fn draw(&mut self, run: &mut Running<D>) -> Result<Option<Drawn>, TrainError> {
        let Run { tokenizer, counters, .. } = run;
        self.records.draw(&self.config, tokenizer.as_ref(), &mut counters.cursor)
    }

    fn reader(&self) -> Option<&Model<D>> {
        match &self.references {
            // An adapter's base is shared with the policy.
            References::Known { live: Some(model), .. }
                if self.config.shared.model.lora.is_none() =>
            {
                Some(model)
            }
            _ => None,
        }
    }

    fn rows(&self, index: usize) -> usize {
        let branches = self.config.resolved.objective.grad_reading().branches;
        self.records.training(index).rows(branches)
    }

    fn learn(&self, run: &mut Running<D>, batch: &[usize], shares: &Shares) -> StepResult {
        let trees: Vec<&Tree> = batch.iter().map(|&index| self.records.training(index)).collect();
        let of_trees = OfTrees { ranks: &run.ranks, shares, portions: portions(&self.config) };
        let references = self.references.of_training(batch, &trees, of_trees);
        learn(run, &self.config.resolved.objective, &StepBatch { trees, references, shares })
    }

    fn loss(&self, sums: &StepResult) -> f64 {
        StepResult::loss(sums)
    }

    fn follow(&mut self, run: &Running<D>) {
        self.references.follow(&run.model, run.step);
    }

    fn record(&self, step: RecordStep<StepResult>) -> DpoStep {
        DpoStep::new(&step, &self.config.resolved.objective)
    }

    fn figures(record: &DpoStep) -> Vec<(&'static str, f64)> {
        let DpoFigures { accuracy, margin, kl, .. } = record.figures;
        let figures = [("accuracy", accuracy), ("margin", margin), ("kl", kl)];
        figures.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    fn evaluate(&self, run: &mut Running<D>) -> Result<Option<f64>, TrainError> {
        let (trees, portions) = (&self.records.eval, portions(&self.config));
        let references = match &self.references {
            References::None => Cow::Owned(vec![Vec::new(); trees.len()]),
            References::Known { eval, .. } => Cow::Borrowed(eval),
            References::Live { model, .. } => {
                let trees: Vec<&Tree> = trees.iter().collect();
                Cow::Owned(reference::logprobs(model, &trees, portions))
            }
        };
        let (loss, shift) = (&self.config.resolved.objective, run.counters.own.own.reward_shift);
        let model = &run.model;
        let found = evaluation::evaluate(model, trees, &references, loss, portions, shift);
        let (kl, step) = (self.distance(run)?, run.step);
        self.watch(run, found.as_ref(), kl.as_ref());
        match (found, kl) {
            (Some(found), kl) => {
                run.dir.metrics.append(&EvaluationRecord {
                    step,
                    evaluation: DpoEvaluation { kl, ..found },
                })?;
            }
            (None, Some(kl)) => {
                run.dir.metrics.append(&EvaluationRecord { step, evaluation: kl })?;
            }
            (None, None) => {}
        }
        Ok(found.map(|found| found.eval_loss.value))
    }

    fn prompts(&self, count: usize) -> Vec<&[u32]> {
        self.records.prompts(count)
    }
}

impl<D: Device> Dpo<D> {
    /// Watches an evaluation: of held-out pairs the accuracy falls while the margin, which is trained, does not; what the policy writes
    /// moves away.
    fn watch(&self, run: &mut Running<D>, found: Option<&DpoEvaluation>, kl: Option<&PolicyKl>) {
        let pairs = found.and_then(|found| found.margin.zip(found.accuracy));
        if pairs.is_none() && kl.is_none() {
            return;
        }
        let seen = Observation {
            step: run.step,
            score: pairs.map(|(margin, _)| margin.value),
            held_out: pairs.map(|(_, accuracy)| accuracy.value),
            kl_nats: kl.map(|kl| kl.eval_kl.value),
            length: kl.map(|kl| kl.eval_length.value),
            repeated: kl.map(|kl| kl.eval_repeated.value),
            ..Observation::default()
        };
        let verdict = judge(&run.counters.own.watched, &seen, &self.config.guard);
        let kept = &mut run.counters.own;
        kept.watched = verdict.watched;
        kept.is_stopped |= verdict.ends;
        if verdict.factor < 1.0 {
            kept.slowed = Some(kept.rate() * verdict.factor);
        }
        for says in verdict.says {
            run.say(format!("step {}: {says}", run.step));
        }
    }

    /// The distance from the reference on fresh completions, where it is asked for.
    fn distance(&self, run: &Running<D>) -> Result<Option<PolicyKl>, TrainError> {
        let count = self.config.dpo.kl_prompts;
        if count == 0 {
            return Ok(None);
        }
        let DpoConfig { shared: SharedSections { model: source, .. }, resolved, .. } = &self.config;
        let loaded;
        let reference = if let References::Live { model, .. } = &self.references {
            model.as_ref()
        } else {
            let device = run.model.device().clone();
            let path = resolved.reference.path.as_ref().unwrap_or(&source.path);
            loaded = match &source.lora {
                // The base is there already.
                Some(_) if *path == source.path => start_of(run.model.without_adapter(), source)?,
                _ => load_language_model(device, source, path, source.base.into())?,
            };
            &loaded
        };
        let sampling = Completing {
            max_new_tokens: *self.config.samples.max_new_tokens,
            seed: run.seeds.derive("kl", run.step, 0),
            portions: portions(&self.config),
        };
        let prompts = self.records.prompts(count);
        distance::from_reference(&run.model, reference, &prompts, sampling)
    }
}
