//! Preference optimization of completions that the policy samples during training.
//!
//! ```text
//! prompts ─► sample ─► judge ─► records ─► epochs × minibatches of updates ─┐
//!    ▲                                                                      │
//!    └──────────────────────────── new policy ◄─────────────────────────────┘
//! ```
//!
//! Which completions are sampled, whom they are compared with and what is minimized, a [`SelectionMethod`] says:
//! online DPO, XPO, Nash-MD, SPIN, best-of-n, RAFT. Scores say which is better, or a judge that sees
//! both. Records and losses are those of offline training.

mod gather;
mod judged;
mod metrics;
mod section;
mod selection;

use std::borrow::Cow;

use hearken_config::{LoadedConfig, SharedSections};
use hearken_judge::pairwise::PairwiseJudge;
use hearken_model::Head;
use hearken_reward_source::RewardSource;
use hearken_reward_source::judging::local_judges;
use hearken_reward_source::scorers::{look_at_judge, open_judge};
use hearken_run::budget::{BudgetModel, Purpose, Tape, fit};
use hearken_run::error::TrainError;
use hearken_run::progress::Progress;
use hearken_run::ranks::Shares;
use hearken_run::run::RunOutcome;
use hearken_run::run_dir::OpenFor;
use hearken_run::trained_model::load_tokenizer;
use hearken_tensor::Device;

use super::batch::{StepBatch, StepResult, learn};
use super::loss::RefLogprobs;
use super::reference::{OfTrees, portions};
use super::tree::Tree;
use super::{DpoConfig, LossState};
use crate::rollout::guard::{Signs, measures};
use crate::rollout::session::RolloutSession;
use crate::rollout::settings::RolloutSettings;
use crate::rollout::train::{
    Inputs, MeanKl, RolloutSetup, RolloutStep, RolloutTrainer, look_at_sources, open_sources, train,
};

use gather::Gathered;
pub use metrics::{OnlineIteration, OnlineStep};
pub use section::{KlCreditName, Labels, MethodName, OnlineSettings, Selection, SelectionMethod};

/// The policy follows preferences among completions of its own.
pub struct Online<'j> {
    config: DpoConfig,
    method: SelectionMethod,
    judge: Option<&'j mut dyn PairwiseJudge>,
}

/// Runs the configuration with the scores of its `[[score]]` sections and its `[judge]`; see
/// [`run_with`].
///
/// # Errors
/// As [`run_with`]; also if a source or judge cannot be opened, or there is none that counts where the
/// method compares scores.
pub(super) fn run<D: Device>(
    device: D,
    loaded: &LoadedConfig<DpoConfig>,
    entry: impl Into<OpenFor>,
    progress: &mut dyn Progress,
) -> Result<RunOutcome, TrainError> {
    let (config, method) = within_memory(&loaded.config)?;
    let (shared, settings) = (config.shared.clone(), config.sampling_settings(method));
    let mut sources = open_sources(&shared, &settings, &device, loaded.frozen.file())?;
    let mut judge = open_judge(&config.judge)?;
    refuse_unreadable(&config)?;
    let opinions = Opinions { sources: &mut sources, judge: judge.as_deref_mut() };
    run_with(device, loaded, entry, opinions, progress)
}

/// Refuses a judge where there is no text to judge.
fn refuse_unreadable(config: &DpoConfig) -> Result<(), TrainError> {
    if config.judge.who.is_none() || load_tokenizer(&config.shared.model.path)?.is_some() {
        return Ok(());
    }
    Err(TrainError::Other(format!(
        "{}: found no tokenizer.json, expected one: `judge` compares texts",
        config.shared.model.path.display()
    )))
}

/// A trainer that is only looked at, with its settings; who scores and judges is looked at too.
///
/// # Errors
/// Those of the run before its first step, but for programs that are there and do not work.
pub fn look<D: Device>(
    device: &D,
    loaded: &LoadedConfig<DpoConfig>,
) -> Result<(Online<'static>, (SharedSections, RolloutSettings)), TrainError> {
    let (config, method) = within_memory(&loaded.config)?;
    let (shared, settings) = (config.shared.clone(), config.sampling_settings(method));
    look_at_sources(&shared, &settings, device, loaded.frozen.file())?;
    look_at_judge(&config.judge)?;
    refuse_unreadable(&config)?;
    Ok((Online { config, method, judge: None }, (shared, settings)))
}

/// Who says which completions are better.
pub struct Opinions<'o, 's> {
    /// Scores; where there is a judge they are only measured.
    pub sources: &'o mut (dyn RewardSource + 's),
    /// Compares two completions.
    pub judge: Option<&'o mut (dyn PairwiseJudge + 's)>,
}

impl<'o, 's, S: RewardSource + 's> From<&'o mut S> for Opinions<'o, 's> {
    fn from(sources: &'o mut S) -> Self {
        Self { sources, judge: None }
    }
}

/// Runs a configuration with `dpo.online` to its end, or until `progress` asks to stop; goes on from
/// the last checkpoint where there is one. What is better, `opinions` say.
///
/// # Errors
/// If an input is not usable, a source or judge fails, a file cannot be written, or a number becomes NaN or
/// infinite.
///
/// # Panics
/// If the configuration has no `dpo.online`.
pub fn run_with<D: Device>(
    device: D,
    loaded: &LoadedConfig<DpoConfig>,
    entry: impl Into<OpenFor>,
    opinions: Opinions<'_, '_>,
    progress: &mut dyn Progress,
) -> Result<RunOutcome, TrainError> {
    let Opinions { sources, judge } = opinions;
    let (config, method) = within_memory(&loaded.config)?;
    let settings = (config.shared.clone(), config.sampling_settings(method));
    let inputs = Inputs { frozen: &loaded.frozen, entry: entry.into(), sources };
    let judge = judge.map(|judge| -> &mut dyn PairwiseJudge { judge });
    train(device, Online { config, method, judge }, settings, inputs, progress)
}

/// The configuration with microbatches as large as memory has room for, and what is sampled.
fn within_memory(config: &DpoConfig) -> Result<(DpoConfig, SelectionMethod), TrainError> {
    let method = config.method().expect("a configuration with `dpo.online`");
    let policy = BudgetModel::trained(&config.shared.model, Head::LanguageModel);
    let other =
        config.resolved.reference.path.as_ref().filter(|path| **path != config.shared.model.path);
    let lora = policy.lora.filter(|_| other.is_none());
    let path = other.map_or(policy.path, |path| path.as_path());
    let mut parts = vec![policy, BudgetModel { path, purpose: Purpose::Follow, lora, ..policy }];
    parts.extend(BudgetModel::scores(&config.scores));
    let judges = local_judges(&config.scores)?;
    parts.extend(judges.iter().map(BudgetModel::judge));
    let tape = Tape::new(&config.shared.model, !config.resolved.objective.couples_batch());
    let tape = tape.sampling(config.rollout.dtype);
    let shared = fit(&config.shared, tape, &parts)?;
    Ok((DpoConfig { shared, ..config.clone() }, method))
}

impl<D: Device> RolloutTrainer<D> for Online<'_> {
    const STAGE: &'static str = "dpo";
    type Own = LossState;
    type Iteration = Gathered;
    type Sums = StepResult;
    type Record = OnlineStep;

    fn notes(&self) -> Vec<String> {
        self.config.resolved.notes()
    }

    fn roll_out(&mut self, at: RolloutSetup<'_, '_, D, LossState>) -> Result<Gathered, TrainError> {
        if self.method == SelectionMethod::Spin {
            // It plays against the policy as it is before the iteration.
            at.session.move_reference(1.0);
        }
        let gathered = self.gather(at.session, at.sources)?;
        if gathered.trees.is_empty() {
            at.progress.note(&format!(
                "iteration {}: no two completions were compared, so that there is nothing to learn \
                 from, and the policy stays as it is",
                at.session.iteration()
            ));
        }
        Ok(gathered)
    }

    fn kl(gathered: &Gathered) -> MeanKl {
        let metrics = &gathered.metrics;
        MeanKl { nats: metrics.kl_k1_nats, completions: metrics.sampled }
    }

    fn signs(gathered: &Gathered) -> Option<Signs> {
        let metrics = &gathered.metrics;
        Some(Signs {
            score: metrics.scores.or(metrics.win_probability),
            kl_nats: metrics.kl_k1_nats,
            length: metrics.length_mean,
            repeated: metrics.repeated_share,
            flat: metrics.ties,
            sources: measures(&metrics.sources, "scores/", ""),
        })
    }

    fn tree(gathered: &Gathered, index: usize) -> (u64, usize) {
        (index as u64, gathered.trees[index].rows(2))
    }

    fn together(gathered: &Gathered) -> Vec<u64> {
        (0..gathered.trees.len() as u64).collect()
    }

    fn learn(
        &self,
        session: &mut RolloutSession<D, LossState>,
        gathered: &Gathered,
        minibatch: &[usize],
        shares: &Shares,
    ) -> StepResult {
        let objective = &self.config.resolved.objective;
        let trees: Vec<&Tree> = minibatch.iter().map(|&index| &gathered.trees[index]).collect();
        let references = match objective.needs_reference() {
            true => OfTrees { ranks: &session.run.ranks, shares, portions: portions(&self.config) }
                .logprobs(session.reference(), &trees),
            false => vec![RefLogprobs::new(); trees.len()],
        };
        let references = references.into_iter().map(Cow::Owned).collect();
        learn(&mut session.run, objective, &StepBatch { trees, references, shares })
    }

    fn loss(&self, _session: &RolloutSession<D, LossState>, sums: &StepResult) -> f64 {
        sums.loss()
    }

    fn follow(&self, session: &mut RolloutSession<D, LossState>) {
        let sync = self.config.resolved.reference.sync;
        if let Some(sync) = sync.filter(|sync| session.run.step.is_multiple_of(sync.every)) {
            session.move_reference(sync.mix);
        }
    }

    fn record(&self, step: RolloutStep<'_, Gathered, StepResult>) -> OnlineStep {
        OnlineStep::new(&step, &self.config.resolved.objective)
    }

    fn figures(record: &OnlineStep) -> Vec<(&'static str, f64)> {
        let iteration = &record.iteration_metrics;
        let mut figures = vec![("kl", iteration.kl_k1_nats), ("length", iteration.length_mean)];
        figures.extend(iteration.scores.map(|scores| ("score", scores)));
        figures.extend(iteration.win_probability.map(|wins| ("wins", wins)));
        figures.extend(record.figures.accuracy.map(|accuracy| ("accuracy", accuracy)));
        figures
    }
}
