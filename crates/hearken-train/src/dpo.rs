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
mod records;
mod reference;
mod reference_cache;
mod section;
mod tree;

use std::borrow::Cow;

use hearken_model::{Gradients, Keep, Model, Tokenizer};
use hearken_objective::dpo::unpaired::RewardShift;
use hearken_tensor::Device;
use serde::{Deserialize, Serialize};

use crate::checkpoint::{Checkpoint, NamedModel, Snapshot};
use crate::config::Loaded;
use crate::error::TrainError;
use crate::metrics::{Cost, Stopwatch};
use crate::optimizer::{Optimizer, Trained, check_loss};
use crate::order::{Cursor, Order};
use crate::plan::{BatchPlan, MemoryPlan, parameters_note};
use crate::progress::{Progress, StepReport};
use crate::run_dir::{RunDir, Start};
use crate::samples::sample_completions;
use crate::schedule::Schedule;
use crate::seeds::Seeds;
use crate::trained_model::{Outcome, Status, freeze, load_tokenizer};
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

/// What a checkpoint keeps besides weights and moments.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Counters {
    cursor: Cursor,
    /// The lowest evaluation loss so far.
    best: Option<f64>,
    /// BCO's δ.
    reward_shift: f64,
    cost: Cost,
}

/// What a run reads before its model.
struct Inputs {
    seeds: Seeds,
    tokenizer: Option<Tokenizer>,
    records: Records,
}

/// A run between two optimizer steps.
struct Session<'a, D: Device> {
    config: &'a DpoConfig,
    run: RunDir,
    inputs: Inputs,
    model: Model<D>,
    references: References<D>,
    gradients: Gradients<D>,
    optimizer: Optimizer<D>,
    counters: Counters,
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
    let config = &loaded.config;
    let (run, checkpoint) = RunDir::open(&config.run, &loaded.frozen, start)?;
    progress.stage("read data", None);
    let seeds = Seeds::new(config.run.seed);
    let tokenizer = load_tokenizer(&config.model.path)?;
    let records = Records::read(config, tokenizer.as_ref(), seeds, progress)?;
    let inputs = Inputs { seeds, tokenizer, records };
    let (examples, batch_size) = (inputs.records.train.len(), config.train.batch_size);
    let mut order = match config.data.shuffle {
        true => Order::shuffled(examples, batch_size, seeds),
        false => Order::sequential(examples, batch_size),
    };
    let total = config.length.steps(order.batches_per_epoch());
    if let Some(outcome) = already_finished(&run, checkpoint.as_ref(), total, progress)? {
        return Ok(outcome);
    }
    let done = checkpoint.as_ref().map_or(0, Checkpoint::step);
    let mut session = Session::open(device, config, run, checkpoint.as_ref(), inputs, progress)?;
    session.announce(total, done, progress);
    progress.stage("dpo", Some(total));
    if done == 0 {
        session.evaluate(0)?;
    }
    let schedule = Schedule::new(&config.optimizer, total);
    for step in done + 1..=total {
        let watch = Stopwatch::start();
        let batch = order.next_batch(&mut session.counters.cursor);
        let record = session.step(step, schedule.learning_rate(step), &batch, watch)?;
        progress.step(&report(&record, total, &key_figures(&record.figures)));
        let stop = progress.stop_requested();
        session.after_step(step, total, stop)?;
        if stop && step < total {
            let path = session.run.root().display();
            progress.note(&format!(
                "stopped after step {step} of {total}; {path} has a checkpoint, and the same \
                 command goes on from there"
            ));
            return Ok(session.outcome(Status::Stopped, step));
        }
    }
    session.save_model("final")?;
    Ok(session.outcome(Status::Finished, total))
}

fn already_finished(
    run: &RunDir,
    checkpoint: Option<&Checkpoint>,
    total: u64,
    progress: &mut dyn Progress,
) -> Result<Option<Outcome>, TrainError> {
    let Some(checkpoint) = checkpoint.filter(|checkpoint| total <= checkpoint.step()) else {
        return Ok(None);
    };
    if !run.has_final() {
        return Ok(None);
    }
    let counters: Counters = checkpoint.counters()?;
    let steps = checkpoint.step();
    progress.note(&format!("{}: finished after {steps} steps already", run.root().display()));
    let model_dir = run.path("final");
    Ok(Some(Outcome { status: Status::AlreadyFinished, steps, cost: counters.cost, model_dir }))
}

fn key_figures(figures: &DpoFigures) -> Vec<(&'static str, f64)> {
    let figures = [("accuracy", figures.accuracy), ("margin", figures.margin), ("kl", figures.kl)];
    figures.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn report<'a>(record: &DpoStep, total: u64, figures: &'a [(&'a str, f64)]) -> StepReport<'a> {
    StepReport {
        step: record.step,
        total,
        tokens: record.tokens as u64,
        tokens_per_s: record.timing.tokens_per_s,
        loss: record.loss,
        figures,
    }
}

impl<'a, D: Device> Session<'a, D> {
    fn open(
        device: D,
        config: &'a DpoConfig,
        run: RunDir,
        checkpoint: Option<&Checkpoint>,
        inputs: Inputs,
        progress: &mut dyn Progress,
    ) -> Result<Self, TrainError> {
        let dir = checkpoint.map_or(config.model.path.clone(), |found| found.model_dir(None));
        let mut model = load(device, config, &dir)?;
        let place = Place { config, run: &run, inputs: &inputs };
        let references = place.references(&model, checkpoint, progress)?;
        freeze(&mut model, &config.model.freeze)?;
        let optimizer = match checkpoint {
            Some(checkpoint) => checkpoint.optimizer(&config.optimizer, &[&model])?,
            None => Optimizer::new(&config.optimizer, &[&model]),
        };
        let counters = checkpoint.map(Checkpoint::counters).transpose()?.unwrap_or_default();
        let gradients = model.gradients();
        Ok(Self { config, run, inputs, model, references, gradients, optimizer, counters })
    }

    /// Batch arithmetic and memory, before the first step.
    fn announce(&self, total: u64, done: u64, progress: &mut dyn Progress) {
        let objective = &self.config.dpo.objective;
        let branches = objective.grad_reading().branches;
        let rows: Vec<usize> =
            self.inputs.records.train.iter().map(|tree| tree.rows(branches)).collect();
        let plan = BatchPlan {
            rows: &rows,
            batch_size: self.config.train.batch_size,
            microbatch_tokens: self.config.train.microbatch_tokens,
            steps: total,
        };
        progress.note(&plan.note());
        if objective.couples_batch() {
            progress.note("the loss couples the records of a step: each goes forward twice");
        }
        for key in &self.config.dpo.unused {
            progress.note(&format!("`{key}` means nothing to this loss and is not used"));
        }
        progress.note(&parameters_note(&self.model));
        let recompute = self.config.model.recompute.into();
        let mut memory = MemoryPlan::new(&self.model, plan.microbatch_rows_max(), recompute);
        if let References::Live { model, .. } = &self.references {
            memory.weights += 4 * model.parameter_counts().1 as u64;
        }
        progress.note(&memory.note());
        if 0 < done {
            progress.note(&format!("going on from the checkpoint of step {done}"));
        }
    }

    /// One optimizer step: gradients of the whole batch, update, record.
    fn step(
        &mut self,
        step: u64,
        lr: f64,
        batch: &[usize],
        watch: Stopwatch,
    ) -> Result<DpoStep, TrainError> {
        let objective = &self.config.dpo.objective;
        let trees: Vec<&Tree> =
            batch.iter().map(|&index| &self.inputs.records.train[index]).collect();
        let references = self.references.of_training(batch, &trees, portions(self.config));
        let keep = if self.config.model.recompute { Keep::BlockInputs } else { Keep::Activations };
        let options = PassOptions { tokens_max: self.config.train.microbatch_tokens, keep };
        let value = self.counters.reward_shift;
        let mut shift = objective.shift_decay.map(|decay| RewardShift { decay, value });
        let branches = objective.grad_reading().branches;
        let tokens: usize = trees.iter().map(|tree| tree.rows(branches)).sum();
        let batch = StepBatch { trees, references };
        let gradients = &mut self.gradients;
        let found = step_gradients(&self.model, objective, &batch, options, &mut shift, gradients);
        drop(batch);
        check_loss(found.loss, &[&self.model]).map_err(|reason| reason.at(step))?;
        let trained = Trained { model: &mut self.model, gradients: &self.gradients, lr };
        let update = self.optimizer.step(&mut [trained]).map_err(|reason| reason.at(step))?;
        self.counters.reward_shift = shift.map_or(0.0, RewardShift::delta);
        self.move_reference(step);

        let timing = watch.timing(tokens as u64);
        let cost = Cost { tokens: tokens as u64, flops: found.flops, seconds: timing.seconds };
        self.counters.cost.add(cost);
        let record = DpoStep {
            step,
            learning_rate: lr,
            grad_norm: update.grad_norm,
            reward_shift: shift.map(RewardShift::delta),
            tokens,
            timing,
            ..self.record(&found)
        };
        if step.is_multiple_of(self.config.train.log_every) {
            self.run.metrics.append(&record)?;
        }
        Ok(record)
    }

    /// The fields that follow from a step's losses; all others are 0.
    fn record(&self, found: &StepResult) -> DpoStep {
        let cursor = self.counters.cursor;
        let passes = cursor.index as f64 / self.inputs.records.train.len() as f64;
        DpoStep {
            epoch: cursor.epoch as f64 + passes,
            loss: found.loss,
            figures: DpoFigures::new(&found.losses, found.nll_loss),
            entropy: found.entropy(&self.config.dpo.objective),
            mean_token_accuracy: found.token_accuracy(),
            ..DpoStep::default()
        }
    }

    fn move_reference(&mut self, step: u64) {
        if let References::Live { model, sync } = &mut self.references
            && step.is_multiple_of(sync.every)
        {
            reference::follow(model, &self.model, sync.mix);
        }
    }

    /// Evaluation, samples and checkpoint, where they are due.
    fn after_step(&mut self, step: u64, total: u64, stop: bool) -> Result<(), TrainError> {
        let due = |every: Option<u64>| every.is_some_and(|every| step.is_multiple_of(every));
        let train = &self.config.train;
        if due(train.eval_every) || step == total {
            self.evaluate(step)?;
        }
        if due(train.sample_every) {
            self.sample(step)?;
        }
        if due(train.save_every) || step == total || stop {
            let mut models = vec![NamedModel { name: "policy", model: &self.model }];
            if let References::Live { model, .. } = &self.references {
                models.push(NamedModel { name: REFERENCE, model });
            }
            self.run.save_checkpoint(&Snapshot {
                step,
                models: &models,
                optimizer: &self.optimizer,
                tokenizer: self.inputs.tokenizer.as_ref(),
                counters: &self.counters,
            })?;
        }
        Ok(())
    }

    fn evaluate(&mut self, step: u64) -> Result<(), TrainError> {
        let trees = &self.inputs.records.eval;
        let portions = portions(self.config);
        let references = match &self.references {
            References::None => Cow::Owned(vec![Vec::new(); trees.len()]),
            References::Known { eval, .. } => Cow::Borrowed(eval),
            References::Live { model, .. } => {
                let trees: Vec<&Tree> = trees.iter().collect();
                Cow::Owned(reference::logprobs(model, &trees, portions))
            }
        };
        let objective = &self.config.dpo.objective;
        let how = (portions, self.counters.reward_shift);
        let found = evaluation::evaluate(&self.model, trees, &references, objective, how);
        let kl = self.distance(step)?;
        let Some(evaluation) = found else {
            return kl.map_or(Ok(()), |kl| Ok(self.run.metrics.append(&kl.at(step))?));
        };
        self.run.metrics.append(&DpoEvaluation { kl, ..evaluation }.at(step))?;
        let loss = evaluation.eval_loss.value;
        if self.config.train.keep_best && self.counters.best.is_none_or(|best| loss < best) {
            self.counters.best = Some(loss);
            self.save_model("best")?;
        }
        Ok(())
    }

    /// The distance from the reference on fresh completions, where it is asked for.
    fn distance(&self, step: u64) -> Result<Option<PolicyKl>, TrainError> {
        let count = self.config.dpo.kl_prompts;
        if count == 0 {
            return Ok(None);
        }
        let source = self.config.dpo.reference.path.as_ref().unwrap_or(&self.config.model.path);
        let loaded;
        let reference = if let References::Live { model, .. } = &self.references {
            model.as_ref()
        } else {
            loaded = load(self.model.device().clone(), self.config, source)?;
            &loaded
        };
        let records = &self.inputs.records;
        let from = if records.eval.is_empty() { &records.train } else { &records.eval };
        let prompts: Vec<&[u32]> = from.iter().take(count).map(Tree::prompt).collect();
        let sampling = Completing {
            max_new_tokens: self.config.samples.max_new_tokens,
            seed: self.inputs.seeds.derive("kl", step, 0),
            portions: portions(self.config),
        };
        distance::from_reference(&self.model, reference, &prompts, sampling)
    }

    fn sample(&mut self, step: u64) -> Result<(), TrainError> {
        let Some(tokenizer) = &self.inputs.tokenizer else { return Ok(()) };
        let records = &self.inputs.records;
        let from = if records.eval.is_empty() { &records.train } else { &records.eval };
        let prompts: Vec<&[u32]> =
            from.iter().take(self.config.samples.count).map(Tree::prompt).collect();
        let seed = self.inputs.seeds.derive("samples", step, 0);
        let samples =
            sample_completions(&self.model, tokenizer, &prompts, &self.config.samples, seed)?;
        samples.iter().try_for_each(|sample| self.run.samples.append(&sample.at(step)))?;
        Ok(())
    }

    fn save_model(&self, name: &str) -> Result<(), TrainError> {
        self.run.save_model(name, &self.model, self.inputs.tokenizer.as_ref(), |_| Ok(()))
    }

    fn outcome(&self, status: Status, steps: u64) -> Outcome {
        Outcome { status, steps, cost: self.counters.cost, model_dir: self.run.path("final") }
    }
}
