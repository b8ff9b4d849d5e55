//! The stages in order: demonstrations, labels by models where there are to be such, reward model, reinforcement learning, evaluation.
//!
//! ```text
//! [quickstart] ─► data, base ─► sft ─► [labels] ─► reward ─► ppo ─► evaluation ─► outcome.json, report.html
//! ```
//!
//! A stage is its trainer with a configuration put together from the run's file; it is skipped when
//! its output is there and neither its configuration nor the contents of its inputs have changed, and
//! goes on from its last checkpoint when it was interrupted.

mod config;

pub(crate) mod stage_config;

mod stage;

mod labels;

mod evaluation;

use std::path::{Path, PathBuf};

use hearken_config::{DataConfig, Frozen, LoadedConfig, ScoreConfig, SourceConfig};
use hearken_model::{LoadOptions, Model};
use hearken_report::outcome::{Evaluation, Figure, PolicyComparisons, StageSummary};
use hearken_reward_source::judging::JudgingConfig;
use hearken_run::error::TrainError;
use hearken_run::metrics::{Cost, Stopwatch};
use hearken_run::progress::Progress;
use hearken_run::run::{self, Status};
use hearken_run::run_dir::{RunDirError, Start, lock, refuse_foreign, write_atomically};
use hearken_run::seeds::Seeds;
use hearken_tensor::Device;
use hearken_train::{ppo, reward, sft};
use serde_json::Value;

use crate::memory;
use crate::quickstart::{Corpus, CorpusFiles, write_base};

use config::LABELS;
pub(crate) use config::fingerprint_text;
pub(crate) use evaluation::{Sampled, complete, prompts_of};
pub(crate) use labels::{TOGETHER, judgements_by};
pub(crate) use stage::{Stage, Todo};

pub use config::{EvaluationConfig, LabelsConfig, QuickstartConfig, RlhfConfig};

/// How a run of several stages ended.
#[derive(Clone, Debug, PartialEq)]
pub struct RlhfOutcome {
    /// Whether it came to its end.
    pub status: Status,
    /// What every stage so far cost and bought.
    pub outcome: PolicyComparisons,
    /// The page about the run, if it came to its end.
    pub report: Option<PathBuf>,
}

/// A run between two stages.
struct RlhfRun<'a, D: Device> {
    device: D,
    config: &'a RlhfConfig,
    start: Start,
    outcome: PolicyComparisons,
}

/// Runs all stages, or until `progress` asks to stop.
///
/// # Errors
/// Of the stages; those that are done are kept.
pub fn run<D: Device>(
    device: D,
    loaded: &LoadedConfig<RlhfConfig>,
    start: Start,
    progress: &mut dyn Progress,
) -> Result<RlhfOutcome, TrainError> {
    let config = &loaded.config;
    let root = &config.run.dir;
    refuse_others(root)?;
    std::fs::create_dir_all(root).map_err(RunDirError::io(root, "be created"))?;
    let _held = lock(root)?;
    write_atomically(&root.join("config.toml"), loaded.frozen.to_toml().as_bytes())?;
    let mut session = RlhfRun { device, config, start, outcome: PolicyComparisons::default() };
    let mut status = session.quickstart(progress)?;
    for stage in [RlhfRun::sft, RlhfRun::labels, RlhfRun::reward, RlhfRun::ppo] {
        if status != Status::Stopped {
            status = stage(&mut session, progress)?;
        }
    }
    if status == Status::Stopped {
        return Ok(RlhfOutcome { status, outcome: session.outcome, report: None });
    }
    session.evaluate(progress)?;
    let text = serde_json::to_vec_pretty(&session.outcome).expect("an outcome is plain data");
    write_atomically(&root.join("outcome.json"), &text)?;
    let report =
        hearken_report::write(root).map_err(|error| TrainError::Other(error.to_string()))?;
    Ok(RlhfOutcome { status, outcome: session.outcome, report: Some(report) })
}

/// Refuses a folder that is no run's of several stages.
pub(crate) fn refuse_others(root: &Path) -> Result<(), RunDirError> {
    if !root.join("lock").exists() {
        refuse_foreign(root, &["config.toml", "outcome.json", "report.html"])?;
    }
    Ok(())
}

impl<D: Device> RlhfRun<'_, D> {
    /// Data and a model without knowledge.
    fn quickstart(&mut self, progress: &mut dyn Progress) -> Result<Status, TrainError> {
        let Some(quickstart) = &self.config.quickstart else { return Ok(Status::Finished) };
        let root = &self.config.run.dir;
        let stage = stage_of_data(self.config, quickstart)?;
        if stage.is_foreign(&[root.join("base")])? {
            return Err(RunDirError::Foreign { dir: root.clone(), name: "data or base" }.into());
        }
        let (corpus_options, base) = (&quickstart.corpus(), &quickstart.model);
        let (device, seed) = (self.device.clone(), self.config.run.seed);
        self.stage(&stage, "data", progress, |_, _| {
            // A base without its corpus, or the other way round, is made anew.
            let seeds = Seeds::new(seed);
            let corpus = Corpus::generate(corpus_options, seeds);
            write_base(device, base, &corpus, seeds, &root.join("base"))?;
            let files: CorpusFiles = corpus.write(&root.join("data")).map_err(other)?;
            let bought = vec![
                Figure::new("demonstrations", corpus.demonstrations.len() as f64),
                Figure::new("comparisons", corpus.preferences.len() as f64),
                Figure::new("prompts", corpus.prompts.len() as f64),
                Figure::new("held-out prompts", corpus.prompts_eval.len() as f64),
            ];
            let model_dir = files.demonstrations.with_file_name("");
            let status = Status::Finished;
            Ok((run::RunOutcome { status, steps: 0, cost: Cost::default(), model_dir }, bought))
        })
    }

    fn sft(&mut self, progress: &mut dyn Progress) -> Result<Status, TrainError> {
        let Some(loaded) = &self.config.sft else { return Ok(Status::Finished) };
        let (folder, stage) = (loaded.config.shared.run.dir.clone(), stage_of_sft(loaded)?);
        let device = self.device.clone();
        self.stage(&stage, "sft", progress, |start, progress| {
            let outcome = sft::run(device, loaded, start, progress)?;
            let keys = ["eval_loss", "eval_mean_token_accuracy", "loss"];
            Ok((outcome, last_figures(&folder, &keys)?))
        })
    }

    fn labels(&mut self, progress: &mut dyn Progress) -> Result<Status, TrainError> {
        let config = self.config;
        let (Some(labels), Some(judges)) = (&config.labels, &config.judge) else {
            return Ok(Status::Finished);
        };
        let stage = stage_of_labels(config, labels, judges)?;
        let (device, folder) = (self.device.clone(), stage.folder().to_owned());
        self.stage(&stage, "labels", progress, |start, progress| {
            if start == Start::Fresh {
                labels::forget(&folder)?;
            }
            labels::label(&device, config, labels, &judges.config, &folder, progress)
        })
    }

    fn reward(&mut self, progress: &mut dyn Progress) -> Result<Status, TrainError> {
        let Some(loaded) = &self.config.reward else { return Ok(Status::Finished) };
        let (folder, stage) = (loaded.config.shared.run.dir.clone(), stage_of_reward(loaded)?);
        let device = self.device.clone();
        self.stage(&stage, "reward", progress, |start, progress| {
            let outcome = reward::run(device, loaded, start, progress)?;
            let keys = ["eval_accuracy", "eval_loss", "eval_calibration_error", "loss"];
            Ok((outcome, last_figures(&folder, &keys)?))
        })
    }

    fn ppo(&mut self, progress: &mut dyn Progress) -> Result<Status, TrainError> {
        let Some(loaded) = &self.config.ppo else { return Ok(Status::Finished) };
        let (folder, stage) = (loaded.config.shared.run.dir.clone(), stage_of_ppo(loaded)?);
        let device = self.device.clone();
        self.stage(&stage, "ppo", progress, |start, progress| {
            let outcome = ppo::run(device, loaded, start, progress)?;
            let keys = ["objective/scores", "objective/kl", "completions/mean_length"];
            Ok((outcome, last_figures(&folder, &keys)?))
        })
    }

    /// Runs a stage unless it is done, and notes what it cost.
    fn stage(
        &mut self,
        stage: &Stage,
        name: &str,
        progress: &mut dyn Progress,
        run: impl FnOnce(Start, &mut dyn Progress) -> Result<(run::RunOutcome, Vec<Figure>), TrainError>,
    ) -> Result<Status, TrainError> {
        let start = match stage.todo(self.start)? {
            Todo::Run(start) => start,
            Todo::Skip(summary) => {
                let folder = stage.folder().display();
                progress.note(&format!("{name}: done already, nothing has changed ({folder})"));
                self.outcome.stages.push(summary);
                return Ok(Status::AlreadyFinished);
            }
        };
        memory::reset_peak();
        let watch = Stopwatch::start();
        let (ended, bought) = run(start, progress)?;
        let summary = StageSummary {
            name: name.to_owned(),
            tokens: ended.cost.tokens,
            flops: ended.cost.flops,
            seconds: watch.seconds().max(ended.cost.seconds),
            peak_memory_bytes: memory::peak_bytes(),
            bought,
        };
        if ended.status != Status::Stopped {
            stage.done(&summary)?;
        }
        self.outcome.stages.push(summary);
        Ok(ended.status)
    }

    /// Both policies on held-out prompts, where there are prompts.
    fn evaluate(&mut self, progress: &mut dyn Progress) -> Result<(), TrainError> {
        let Some(ppo) = &self.config.ppo else { return Ok(()) };
        let has_prompts = ppo
            .config
            .prompts()
            .is_some_and(|data| !data.eval.is_empty() || 0.0 < *data.eval_fraction);
        if !has_prompts {
            progress.note("no held-out prompts (`ppo.data.eval`): the policies are not compared");
            return Ok(());
        }
        progress.stage("evaluation", None);
        let load = |path: &Path| -> Result<Model<D>, TrainError> {
            let precision = ppo.config.shared.model.dtype.into();
            let options = LoadOptions { precision, ..LoadOptions::language_model() };
            Ok(Model::load(self.device.clone(), path, &options)?.0)
        };
        let policies = evaluation::Policies {
            before: load(&self.config.start)?,
            after: load(&ppo.config.shared.run.dir.join("final"))?,
        };
        let found: Option<Evaluation> =
            evaluation::compare(&policies, &ppo.config, &self.config.evaluation, progress)?;
        self.outcome.evaluation = found;
        Ok(())
    }
}

/// The stage that makes the quickstart's data and its base.
pub(crate) fn stage_of_data(
    config: &RlhfConfig,
    quickstart: &QuickstartConfig,
) -> Result<Stage, TrainError> {
    let text = format!(
        "QuickstartConfig {{ corpus: {:?}, base: {:?} }} {}",
        quickstart.corpus(),
        quickstart.model,
        config.run.seed
    );
    Stage::new(config.run.dir.join("data"), "prompts_eval.jsonl", &text, &[])
}

/// The stage of supervised fine-tuning.
pub(crate) fn stage_of_sft(loaded: &LoadedConfig<sft::SftConfig>) -> Result<Stage, TrainError> {
    let config = &loaded.config;
    let inputs = with_data(&config.shared.model.path, &config.shared.data);
    trained_stage(&config.shared.run.dir, &loaded.frozen, &inputs)
}

/// The stage of labels by models.
pub(crate) fn stage_of_labels(
    config: &RlhfConfig,
    labels: &LabelsConfig,
    judges: &LoadedConfig<JudgingConfig>,
) -> Result<Stage, TrainError> {
    let seed = config.run.seed;
    let text = format!("{labels:?} {seed} {}", fingerprint_text(&judges.frozen));
    let inputs = labels::inputs(config, labels, judges);
    Stage::new(config.run.dir.join("labels"), LABELS, &text, &inputs)
}

/// The stage of the reward model.
pub(crate) fn stage_of_reward(
    loaded: &LoadedConfig<reward::RewardConfig>,
) -> Result<Stage, TrainError> {
    let config = &loaded.config;
    let mut inputs = with_data(&config.shared.model.path, &config.shared.data);
    inputs.extend(config.reward.normalize_on.clone());
    trained_stage(&config.shared.run.dir, &loaded.frozen, &inputs)
}

/// The stage of reinforcement learning.
pub(crate) fn stage_of_ppo(loaded: &LoadedConfig<ppo::PpoConfig>) -> Result<Stage, TrainError> {
    let config = &loaded.config;
    let mut inputs = match config.prompts() {
        Some(data) => with_data(&config.shared.model.path, data),
        None => vec![config.shared.model.path.clone()],
    };
    inputs.extend(config.rollout.replay.clone());
    inputs.extend(config.scores.iter().flat_map(score_inputs));
    if let ppo::CriticSource::Checkpoint(path) = &config.ppo.critic {
        inputs.push(path.clone());
    }
    trained_stage(&config.shared.run.dir, &loaded.frozen, &inputs)
}

fn trained_stage(folder: &Path, frozen: &Frozen, inputs: &[PathBuf]) -> Result<Stage, TrainError> {
    Stage::new(folder.to_owned(), "final", &fingerprint_text(frozen), inputs)
}

/// What a score is made of: reward models, the completions of a baseline, or the configuration of judges.
pub(crate) fn score_inputs(score: &ScoreConfig) -> Vec<PathBuf> {
    match &score.source {
        SourceConfig::Model { path, .. } | SourceConfig::Process { path, .. } => vec![path.clone()],
        SourceConfig::Ensemble { paths, .. } => paths.clone(),
        SourceConfig::Distance { path, baseline, .. } => vec![path.clone(), baseline.clone()],
        SourceConfig::Judge { config, .. } => vec![config.clone()],
        _ => Vec::new(),
    }
}

/// The inputs that every trainer has.
fn with_data(model: &Path, data: &DataConfig) -> Vec<PathBuf> {
    std::iter::once(model)
        .chain(data.training_files().chain(&data.eval).map(PathBuf::as_path))
        .map(Path::to_owned)
        .collect()
}

/// The last value of each key in a stage's metrics, those that are there.
fn last_figures(folder: &Path, keys: &[&str]) -> Result<Vec<Figure>, TrainError> {
    let path = folder.join("metrics.jsonl");
    let text = std::fs::read_to_string(&path).map_err(RunDirError::io(&path, "be read"))?;
    let records: Vec<Value> =
        text.lines().rev().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let number = |value: &Value| value.as_f64().or_else(|| value.get("value")?.as_f64());
    let last = |key: &&str| {
        let value = records.iter().find_map(|record| number(record.get(*key)?))?;
        Some(Figure::new(*key, value))
    };
    Ok(keys.iter().filter_map(last).collect())
}

fn other(error: impl std::fmt::Display) -> TrainError {
    TrainError::Other(error.to_string())
}
