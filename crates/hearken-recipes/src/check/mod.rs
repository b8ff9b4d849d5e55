//! What a run would do, without doing it.
//!
//! A configuration goes the way of its run up to the first step: the run directory is looked at, records
//! and models are read, memory is planned, by the functions that the run calls, so that errors are the
//! run's own. Then a few passes of its own model over its own data are timed. Nothing is written; programs
//! and servers that score are named and not asked.

mod records;
mod rollouts;
mod stages;

use hearken_config::{LoadedConfig, SharedSections, TrainConfig};
use hearken_model::{Head, Model, ModelConfig, ModelError};
use hearken_run::budget::BudgetModel;
use hearken_run::error::TrainError;
use hearken_run::metrics::Stopwatch;
use hearken_run::plan::{MemoryPlan, megabytes};
use hearken_run::progress::{Progress, StepReport};
use hearken_run::run::{Run, RunOutcome, TrainerState};
use hearken_run::run_dir::checkpoint::NamedModel;
use hearken_run::run_dir::{OpenFor, Start};
use hearken_tensor::Device;
use hearken_train::distill::{Distill, DistillConfig};
use hearken_train::dpo::{Dpo, DpoConfig, online};
use hearken_train::grpo::{Grpo, GrpoConfig};
use hearken_train::ppo::{Ppo, PpoConfig};
use hearken_train::reward::{Kind, OutcomeReward, ProcessReward, Reward, RewardConfig};
use hearken_train::sft::{Sft, SftConfig};

pub use stages::rlhf;

/// Passes, and samples, are timed for about so many seconds.
const ENOUGH_SECONDS: f64 = 1.0;
/// A forward pass in units of a forward and a backward pass.
const FORWARD: f64 = 1.0 / 3.0;

/// What a machine has to spare, in bytes; `None` where it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Of memory.
    pub memory_bytes: Option<u64>,
    /// On the disk of the run directory.
    pub disk_bytes: Option<u64>,
}

/// What a run would do.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// The kind of run, or the stage of one.
    pub name: &'static str,
    /// What speaks against starting it.
    pub doubts: Vec<String>,
    /// What there is to do.
    pub work: CheckMethod,
    /// What else is known, in the order of a report.
    pub facts: Vec<Fact>,
}

/// What there is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum CheckMethod {
    /// The run has come to its end before.
    Done,
    /// It was not found out: the model is too large for the machine.
    Unknown,
    /// Optimizer steps.
    Steps {
        /// Those that are left.
        left: u64,
        /// Those of the whole run.
        total: u64,
        /// How long they take; `None` where nothing was timed.
        time: Option<Time>,
    },
}

/// An estimate of a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Time {
    /// Seconds.
    pub seconds: f64,
    /// What the estimate is made of.
    pub basis: String,
    /// Whether it is the longest that the run can take, so that it may be far less.
    pub is_most: bool,
}

/// One thing that is known of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What it is about, in a word.
    pub about: &'static str,
    /// A sentence.
    pub text: String,
}

/// What supervised fine-tuning would do.
///
/// # Errors
/// Those of the run before its first step.
pub fn sft<D: Device>(
    device: &D,
    loaded: &LoadedConfig<SftConfig>,
    start: Start,
    machine: Machine,
) -> Result<Check, TrainError> {
    records::check::<D, Sft>(device, loaded, OpenFor::Look(start), machine)
}

/// What the training of a reward model would do.
///
/// # Errors
/// Those of the run before its first step.
pub fn reward<D: Device>(
    device: &D,
    loaded: &LoadedConfig<RewardConfig>,
    start: Start,
    machine: Machine,
) -> Result<Check, TrainError> {
    reward_entry(device, loaded, OpenFor::Look(start), machine)
}

/// The same of a stage of a run of several.
fn reward_entry<D: Device>(
    device: &D,
    loaded: &LoadedConfig<RewardConfig>,
    entry: OpenFor,
    machine: Machine,
) -> Result<Check, TrainError> {
    match loaded.config.reward.kind {
        Kind::Preference => records::check::<D, Reward>(device, loaded, entry, machine),
        Kind::Outcome => records::check::<D, OutcomeReward>(device, loaded, entry, machine),
        Kind::Process => records::check::<D, ProcessReward>(device, loaded, entry, machine),
    }
}

/// What preference optimization would do, on records or on its own samples.
///
/// # Errors
/// Those of the run before its first step.
pub fn dpo<D: Device>(
    device: &D,
    loaded: &LoadedConfig<DpoConfig>,
    start: Start,
    machine: Machine,
) -> Result<Check, TrainError> {
    let entry = OpenFor::Look(start);
    if loaded.config.method().is_none() {
        return records::check::<D, Dpo<D>>(device, loaded, entry, machine);
    }
    let looked = || online::look(device, loaded);
    let mut check = rollouts::check(device, &loaded.frozen, entry, machine, looked)?;
    if loaded.config.judge.who.is_some() {
        check.facts.push(Fact::new("judge", "the judge would be asked; it was not asked now"));
    }
    Ok(check)
}

/// What PPO would do.
///
/// # Errors
/// Those of the run before its first step, but for programs that are there and do not work.
pub fn ppo<D: Device>(
    device: &D,
    loaded: &LoadedConfig<PpoConfig>,
    start: Start,
    machine: Machine,
) -> Result<Check, TrainError> {
    rollouts::check_configured::<D, Ppo>(device, loaded, OpenFor::Look(start), machine, false)
}

/// What GRPO would do.
///
/// # Errors
/// Those of the run before its first step, but for programs that are there and do not work.
pub fn grpo<D: Device>(
    device: &D,
    loaded: &LoadedConfig<GrpoConfig>,
    start: Start,
    machine: Machine,
) -> Result<Check, TrainError> {
    rollouts::check_configured::<D, Grpo>(device, loaded, OpenFor::Look(start), machine, false)
}

/// What distillation would do.
///
/// # Errors
/// Those of the run before its first step, but for those of a teacher behind a server, which is not asked.
pub fn distill<D: Device>(
    device: &D,
    loaded: &LoadedConfig<DistillConfig>,
    start: Start,
    machine: Machine,
) -> Result<Check, TrainError> {
    let entry = OpenFor::Look(start);
    let mut check =
        rollouts::check_configured::<D, Distill>(device, loaded, entry, machine, false)?;
    if let Some(server) = &loaded.config.teacher.server {
        let text = format!("the server {server} would be asked; it was not asked now");
        check.facts.push(Fact::new("teacher", text));
    }
    Ok(check)
}

impl Fact {
    fn new(about: &'static str, text: impl Into<String>) -> Self {
        Self { about, text: text.into() }
    }
}

impl Check {
    fn new(name: &'static str) -> Self {
        Self { name, doubts: Vec::new(), work: CheckMethod::Unknown, facts: Vec::new() }
    }

    fn tell(&mut self, about: &'static str, text: impl Into<String>) {
        self.facts.push(Fact::new(about, text));
    }

    fn tell_all(&mut self, about: &'static str, texts: impl IntoIterator<Item = String>) {
        self.facts.extend(texts.into_iter().map(|text| Fact::new(about, text)));
    }

    /// The model that a run begins with, as its config.json has it.
    fn model(&mut self, settings: &SharedSections) -> Result<(), TrainError> {
        let source = &settings.model;
        let config = ModelConfig::read(&source.path).map_err(ModelError::from)?;
        let footprint = BudgetModel::trained(source, Head::LanguageModel).footprint()?;
        let family = config.raw.get("model_type").and_then(|name| name.as_str());
        let text = format!(
            "{}: {}, {} parameters, {} trained; {} tokens, {} positions; {}",
            source.path.display(),
            family.unwrap_or("unnamed"),
            millions(footprint.parameters),
            millions(footprint.trained),
            config.vocab,
            config.max_positions,
            format!("{:?}", source.dtype).to_lowercase(),
        );
        self.tell("model", text);
        Ok(())
    }

    /// Whether the weights, gradients and moments of the model alone are more than the machine has, so that
    /// they should not be loaded.
    fn is_too_large(
        &mut self,
        settings: &SharedSections,
        machine: Machine,
    ) -> Result<bool, TrainError> {
        let footprint = BudgetModel::trained(&settings.model, Head::LanguageModel).footprint()?;
        let held = MemoryPlan::trained(&footprint).held();
        let Some(free) = machine.memory_bytes.filter(|free| *free < held) else { return Ok(false) };
        self.doubts.push(format!(
            "training this model takes at least {}, and {} of memory are free; it was not loaded",
            megabytes(held),
            megabytes(free)
        ));
        Ok(true)
    }

    /// What holds of every run whose models are loaded.
    fn run<D: Device, K: TrainerState>(
        &mut self,
        run: &Run<D, K>,
        more: Option<NamedModel<'_, D>>,
        memory: &MemoryPlan,
        machine: Machine,
    ) -> Result<(), TrainError> {
        let told = run.dir.intentions((0 < run.step).then_some(run.step));
        let facts = told.into_iter().map(|text| Fact::new("run", text));
        self.facts.splice(0..0, facts);
        if run.tokenizer.is_none() {
            self.tell("model", "it has no tokenizer.json: records must be token ids");
        }
        self.memory(memory, run.settings.run.memory_bytes_max, machine.memory_bytes);
        let needed = run.disk_bytes(more);
        self.tell("disk", format!("up to {} for checkpoints and models", megabytes(needed)));
        if let Some(short) = run.dir.saves_short(needed)? {
            self.doubts.push(format!(
                "`run.disk_limit_gb` may be {} short of room for checkpoints and models",
                megabytes(short)
            ));
        }
        if let Some(free) = machine.disk_bytes.filter(|free| *free < needed) {
            self.doubts.push(format!(
                "checkpoints and models may take {}, and {} of disk are free",
                megabytes(needed),
                megabytes(free)
            ));
        }
        Ok(())
    }

    fn memory(&mut self, plan: &MemoryPlan, limit: Option<u64>, free: Option<u64>) {
        let note = plan.note();
        let limit = limit.map_or("no limit is set".to_owned(), |limit| {
            format!("the limit is {}", megabytes(limit))
        });
        let here =
            free.map_or(String::new(), |free| format!("; {} are free here", megabytes(free)));
        let text = note.strip_prefix("memory: ").unwrap_or(&note);
        self.tell("memory", format!("{text}; {limit}{here}"));
        if let Some(free) = free.filter(|free| *free < plan.total()) {
            self.doubts.push(format!(
                "the run is planned for {} of memory, and {} are free; `run.memory_limit_gb` makes it \
                 fit, as far as it can",
                megabytes(plan.total()),
                megabytes(free)
            ));
        }
    }

    /// Of a run that has come to its end before.
    fn done(mut self, notes: Notes, outcome: &RunOutcome) -> Self {
        self.work = CheckMethod::Done;
        notes.told_of("data", &mut self);
        self.tell("run", format!("its model is in {}", outcome.model_dir.display()));
        self
    }
}

/// Takes down what a run says before its first step.
#[derive(Debug, Default)]
struct Notes(Vec<String>);

impl Notes {
    /// Moves what was said, but for what the check says itself, to the facts.
    fn told_of(self, about: &'static str, check: &mut Check) {
        let own =
            |note: &String| !note.starts_with("memory: ") && !note.starts_with("going on from");
        check.tell_all(about, self.0.into_iter().filter(own));
    }
}

impl Progress for Notes {
    fn stage(&mut self, _: &str, _: Option<u64>) {}

    fn step(&mut self, _: &StepReport<'_>) {}

    fn note(&mut self, text: &str) {
        self.0.push(text.to_owned());
    }

    fn stop_requested(&self) -> bool {
        false
    }
}

/// Seconds of the fastest of a few passes. The first one prepares weights and buffers; it counts only where it
/// takes long itself.
fn fastest(mut pass: impl FnMut()) -> f64 {
    let (mut best, all) = (f64::INFINITY, Stopwatch::start());
    for _ in 0..3 {
        let watch = Stopwatch::start();
        pass();
        best = watch.seconds().min(best);
        if ENOUGH_SECONDS < all.seconds() {
            break;
        }
    }
    best
}

/// How often what is held out is read in the steps that are left.
fn evaluations(train: &TrainConfig, left: u64) -> u64 {
    1 + train.eval_every.map_or(1, |every| left.div_ceil(every))
}

/// How long the records are.
fn lengths(rows: &[usize], what: &str) -> String {
    let mean = rows.iter().sum::<usize>() as f64 / rows.len().max(1) as f64;
    let longest = rows.iter().copied().max().unwrap_or(0);
    format!("{mean:.1} tokens per {what} on average, {longest} at most")
}

fn millions(count: usize) -> String {
    match count {
        0..1_000_000 => count.to_string(),
        _ => format!("{:.1} M", count as f64 / 1e6),
    }
}

/// A time for people who read the basis of an estimate.
fn seconds(seconds: f64) -> String {
    if seconds < 0.1 { format!("{:.1} ms", 1000.0 * seconds) } else { format!("{seconds:.2} s") }
}

/// Elements of a model's parameters in units of those of another.
fn share<D: Device>(of: &Model<D>, unit: &Model<D>) -> f64 {
    of.parameter_counts().1 as f64 / unit.parameter_counts().1.max(1) as f64
}
