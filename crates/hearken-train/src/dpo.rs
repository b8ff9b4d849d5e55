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
pub(crate) mod benchmark;
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

use hearken_model::{Head, Masters};
use hearken_objective::dpo::unpaired::RewardShift;
use hearken_tensor::Device;
use serde::{Deserialize, Serialize};

use crate::budget::{Part, Purpose, Tape, fit};
use crate::checkpoint::NamedModel;
use crate::config::Loaded;
use crate::error::TrainError;
use crate::metrics::Stopwatch;
use crate::progress::Progress;
use crate::record_run::{Opening, RecordRun};
use crate::run_dir::Start;
use crate::trained_model::{Outcome, Status};
use batch::{PassOptions, StepBatch, StepResult, step_gradients};
use distance::Completing;
use records::Records;
use reference::{Place, References, load, portions};
use tree::Tree;

pub use config::DpoConfig;
pub use metrics::{DpoEvaluation, DpoFigures, DpoStep, EvaluationRecord, PolicyKl};
pub use objective::{Kind, Objective, ReferenceConfig, ReferenceSync, Reported};
pub use section::DpoSection;

/// The folder of a moving reference in a checkpoint.
const REFERENCE: &str = "reference";

/// What a checkpoint keeps of the loss.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Counters {
    /// BCO's δ.
    reward_shift: f64,
}

/// A run between two optimizer steps.
struct Dpo<'a, D: Device> {
    config: &'a DpoConfig,
    records: Records,
    references: References<D>,
    run: RecordRun<'a, D, Counters>,
}

/// Runs the configuration to its end, or until `progress` asks to stop; goes on from the last
/// checkpoint where there is one.
///
/// # Errors
/// If an input is not usable, a file cannot be written, or a number becomes NaN or infinite.
pub fn run<D: Device>(
    device: D,
    loaded: &Loaded<DpoConfig>,
    start: Start,
    progress: &mut dyn Progress,
) -> Result<Outcome, TrainError> {
    if let Some(online) = &loaded.config.online {
        return online::run(device, loaded, online, start, progress);
    }
    let config = &within_memory(&loaded.config)?;
    let opening = Opening::new(config.settings(), &loaded.frozen, start, progress)?;
    let records = Records::read(config, opening.tokenizer.as_ref(), opening.seeds, progress)?;
    if let Some(outcome) = opening.already_finished::<Counters>(records.train.len(), progress)? {
        return Ok(outcome);
    }
    let mut dpo = Dpo::open(device, config, opening, records, progress)?;
    dpo.announce(progress)?;
    progress.stage("dpo", Some(dpo.run.total));
    if dpo.run.step == 0 {
        dpo.evaluate()?;
    }
    while !dpo.run.is_finished() {
        let record = dpo.step(Stopwatch::start())?;
        let figures = key_figures(&record.figures);
        dpo.run.report((record.tokens, record.loss), record.timing, &figures, progress);
        let stop = progress.stop_requested();
        dpo.after_step(stop)?;
        if stop && !dpo.run.is_finished() {
            return Ok(dpo.run.stopped(progress));
        }
    }
    dpo.run.save_model("final")?;
    Ok(dpo.run.outcome(Status::Finished))
}

/// The configuration with microbatches as large as memory has room for.
fn within_memory(config: &DpoConfig) -> Result<DpoConfig, TrainError> {
    let mut fitted = config.clone();
    let DpoConfig { run, model, dpo, online, .. } = config;
    let mut parts = vec![Part::trained(model, Head::LanguageModel)];
    if let Some(online) = online {
        let reference = Part { purpose: Purpose::Follow, ..parts[0] };
        parts.push(reference);
        parts.extend(Part::scores(&online.scores));
    } else if dpo.objective.needs_reference() && dpo.reference.sync.is_some() {
        let path = dpo.reference.path.as_ref().unwrap_or(&model.path);
        parts.push(Part { path, purpose: Purpose::Follow, ..parts[0] });
    }
    let tape = Tape::new(model, !dpo.objective.couples_batch());
    let tape = if online.is_some() { tape.sampling() } else { tape };
    fit(&mut fitted.train, run, tape, &parts)?;
    Ok(fitted)
}

fn key_figures(figures: &DpoFigures) -> Vec<(&'static str, f64)> {
    let figures = [("accuracy", figures.accuracy), ("margin", figures.margin), ("kl", figures.kl)];
    figures.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

impl<'a, D: Device> Dpo<'a, D> {
    fn open(
        device: D,
        config: &'a DpoConfig,
        opening: Opening<'a>,
        records: Records,
        progress: &mut dyn Progress,
    ) -> Result<Self, TrainError> {
        let checkpoint = opening.checkpoint.as_ref();
        let dir = checkpoint.map_or(config.model.path.clone(), |found| found.model_dir(None));
        let model = load(device, config, &dir, Masters::Keep)?;
        let place = Place { config, opening: &opening, records: &records };
        let references = place.references(&model, progress)?;
        let run = opening.run(model, records.train.len())?;
        Ok(Self { config, records, references, run })
    }

    /// Batch arithmetic, memory and keys without meaning, before the first step.
    fn announce(&self, progress: &mut dyn Progress) -> Result<(), TrainError> {
        let objective = &self.config.dpo.objective;
        let branches = objective.grad_reading().branches;
        let rows: Vec<usize> = self.records.train.iter().map(|tree| tree.rows(branches)).collect();
        if objective.couples_batch() {
            progress.note("the loss couples the records of a step: each goes forward twice");
        }
        for key in &self.config.dpo.unused {
            progress.note(&format!("`{key}` means nothing to this loss and is not used"));
        }
        let reference = match &self.references {
            References::Live { model, .. } => Some(&**model),
            _ => None,
        };
        self.run.announce(&rows, reference, progress)
    }

    /// One optimizer step: gradients of the whole batch, update, record.
    fn step(&mut self, watch: Stopwatch) -> Result<DpoStep, TrainError> {
        let batch = self.run.next_batch();
        let objective = &self.config.dpo.objective;
        let trees: Vec<&Tree> = batch.iter().map(|&index| &self.records.train[index]).collect();
        let references = self.references.of_training(&batch, &trees, portions(self.config));
        let run = &mut self.run;
        let options = PassOptions::new(&self.config.train, run.keep());
        let value = run.counters.own.reward_shift;
        let mut shift = objective.shift_decay.map(|decay| RewardShift { decay, value });
        let branches = objective.grad_reading().branches;
        let tokens: usize = trees.iter().map(|tree| tree.rows(branches)).sum();
        let batch = StepBatch { trees, references };
        let gradients = &mut run.gradients;
        let found = step_gradients(&run.model, objective, &batch, options, &mut shift, gradients);
        drop(batch);
        let (learning_rate, grad_norm) = run.apply(found.loss)?;
        run.counters.own.reward_shift = shift.map_or(0.0, RewardShift::delta);
        self.references.follow(&run.model, run.step);

        let timing = watch.timing(tokens as u64);
        run.book(tokens, found.flops, timing);
        let record = DpoStep {
            step: run.step,
            learning_rate,
            grad_norm,
            reward_shift: shift.map(RewardShift::delta),
            tokens,
            timing,
            ..self.record(&found)
        };
        self.run.log(&record)?;
        Ok(record)
    }

    /// The fields that follow from a step's losses; all others are 0.
    fn record(&self, found: &StepResult) -> DpoStep {
        DpoStep {
            epoch: self.run.epoch(),
            loss: found.loss,
            figures: DpoFigures::new(&found.losses, found.nll_loss),
            entropy: found.entropy(&self.config.dpo.objective),
            mean_token_accuracy: found.token_accuracy(),
            ..DpoStep::default()
        }
    }

    /// Evaluation, samples and checkpoint, where they are due.
    fn after_step(&mut self, stop: bool) -> Result<(), TrainError> {
        let train = &self.config.train;
        if self.run.is_due(train.eval_every) || self.run.is_finished() {
            self.evaluate()?;
        }
        if self.run.is_due(train.sample_every) {
            let prompts = self.records.prompts(self.config.samples.count);
            self.run.write_samples(&prompts, &self.config.samples)?;
        }
        let reference = match &self.references {
            References::Live { model, .. } => Some(NamedModel { name: REFERENCE, model: &**model }),
            _ => None,
        };
        self.run.checkpoint(stop, reference)
    }

    fn evaluate(&mut self) -> Result<(), TrainError> {
        let trees = &self.records.eval;
        let portions = portions(self.config);
        let references = match &self.references {
            References::None => Cow::Owned(vec![Vec::new(); trees.len()]),
            References::Known { eval, .. } => Cow::Borrowed(eval),
            References::Live { model, .. } => {
                let trees: Vec<&Tree> = trees.iter().collect();
                Cow::Owned(reference::logprobs(model, &trees, portions))
            }
        };
        let (objective, shift) = (&self.config.dpo.objective, self.run.counters.own.reward_shift);
        let model = &self.run.model;
        let found = evaluation::evaluate(model, trees, &references, objective, (portions, shift));
        let kl = self.distance()?;
        let run = &mut self.run;
        let Some(evaluation) = found else {
            return kl.map_or(Ok(()), |kl| Ok(run.run.metrics.append(&kl.at(run.step))?));
        };
        run.run.metrics.append(&DpoEvaluation { kl, ..evaluation }.at(run.step))?;
        if run.is_best(evaluation.eval_loss.value) {
            run.save_model("best")?;
        }
        Ok(())
    }

    /// The distance from the reference on fresh completions, where it is asked for.
    fn distance(&self) -> Result<Option<PolicyKl>, TrainError> {
        let count = self.config.dpo.kl_prompts;
        if count == 0 {
            return Ok(None);
        }
        let source = self.config.dpo.reference.path.as_ref().unwrap_or(&self.config.model.path);
        let loaded;
        let reference = if let References::Live { model, .. } = &self.references {
            model.as_ref()
        } else {
            loaded = load(self.run.model.device().clone(), self.config, source, Masters::Drop)?;
            &loaded
        };
        let prompts = self.records.prompts(count);
        let sampling = Completing {
            max_new_tokens: self.config.samples.max_new_tokens,
            seed: self.run.seeds.derive("kl", self.run.step, 0),
            portions: portions(self.config),
        };
        distance::from_reference(&self.run.model, reference, &prompts, sampling)
    }
}
