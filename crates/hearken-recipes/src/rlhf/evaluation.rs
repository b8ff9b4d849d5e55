//! The policy before and after, on the same held-out prompts.

use std::sync::Arc;

use hearken_config::{DataConfig, ModelSource, RolloutConfig};
use hearken_generate::EngineOptions;
use hearken_model::{Model, Tokenizer};
use hearken_report::outcome::{Evaluation, Figure, PolicyComparison, SideBySide};
use hearken_reward_source::RewardSource;
use hearken_reward_source::scorers::{ScoreReading, open_scores};
use hearken_run::dataset::Dataset;
use hearken_run::encode::{Encoder, PromptExample};
use hearken_run::error::TrainError;
use hearken_run::progress::Progress;
use hearken_run::ranks::Ranks;
use hearken_run::seeds::Seeds;
use hearken_run::trained_model::tokenizer_of;
use hearken_stats::Estimate;
use hearken_stats::mean::normal_mean;
use hearken_stats::proportion::wilson;
use hearken_stats::win_rate::Outcomes;
use hearken_tensor::Device;
use hearken_train::ppo::PpoConfig;
use hearken_train::rollout::feed::room;
use hearken_train::rollout::session::sampling;
use hearken_train::rollout::{
    ForwardOptions, HeldOut, HeldOutCompletions, SampleOptions, complete_held_out,
};

use super::config::EvaluationConfig;

/// The two policies.
pub(super) struct Policies<D: Device> {
    pub(super) before: Model<D>,
    pub(super) after: Model<D>,
}

/// Completes held-out prompts with both and compares; `None` with fewer than two prompts.
pub(super) fn compare<D: Device>(
    policies: &Policies<D>,
    ppo: &PpoConfig,
    config: &EvaluationConfig,
    progress: &mut dyn Progress,
) -> Result<Option<Evaluation>, TrainError> {
    let tokenizer = tokenizer_of(&ppo.shared.model)?;
    let reading = ScoreReading {
        normalize: ppo.ppo.learning.normalize_scores,
        microbatch_tokens: ppo.shared.train.microbatch_tokens,
    };
    let device = policies.before.device();
    let mut sources = open_scores(&ppo.scores, device, tokenizer.as_ref(), reading)?;
    let prompts = held_out_prompts(ppo, config, tokenizer.as_ref())?;
    let sampled = Sampled::from(ppo);
    let mut complete = |policy: &Model<D>, stream: &str| {
        let tokenizer = tokenizer.as_ref();
        complete(&sampled, policy, &policies.before, tokenizer, &prompts, stream, &mut sources)
    };
    let before = complete(&policies.before, "evaluation/before")?;
    let after = complete(&policies.after, "evaluation/after")?;
    if let Some(label) = &config.win_by
        && !before.by_source.iter().any(|(name, _)| name == label)
    {
        let names: Vec<&str> = before.by_source.iter().map(|(name, _)| name.as_str()).collect();
        progress.note(&format!(
            "`evaluation.win_by` = {label:?} is no label of a score ({}): wins go by the optimized \
             sum",
            names.join(", ")
        ));
    }
    Ok(evaluation(&before, &after, ppo, config))
}

fn held_out_prompts(
    ppo: &PpoConfig,
    config: &EvaluationConfig,
    tokenizer: Option<&Tokenizer>,
) -> Result<Vec<Arc<PromptExample>>, TrainError> {
    let prompts = prompts_of(&Sampled::from(ppo), tokenizer)?.eval;
    Ok(prompts.into_iter().take(*config.prompts).map(Arc::new).collect())
}

/// What of a trainer's configuration says how it samples.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sampled<'a> {
    pub(crate) data: &'a DataConfig,
    pub(crate) model: &'a ModelSource,
    pub(crate) rollout: &'a RolloutConfig,
    pub(crate) microbatch_tokens: usize,
    pub(crate) seed: u64,
}

impl<'a> From<&'a PpoConfig> for Sampled<'a> {
    fn from(ppo: &'a PpoConfig) -> Self {
        Self {
            data: ppo.prompts().expect("held-out prompts are in [data]"),
            model: &ppo.shared.model,
            rollout: &ppo.rollout,
            microbatch_tokens: ppo.shared.train.microbatch_tokens,
            seed: ppo.shared.run.seed,
        }
    }
}

/// The prompts of reinforcement learning.
pub(crate) fn prompts_of(
    sampled: &Sampled<'_>,
    tokenizer: Option<&Tokenizer>,
) -> Result<Dataset<PromptExample>, TrainError> {
    let Sampled { data, model, rollout, seed, .. } = sampled;
    let mut encoder = Encoder::for_model(&model.path, tokenizer, data)?;
    let room = room(&model.path, *rollout.max_new_tokens)?;
    encoder.length.tokens_max = encoder.length.tokens_max.min(room.prompt);
    Dataset::load(data, &encoder, Seeds::new(*seed))
}

/// Completes each prompt once, from a stream of random numbers, and looks at the completions from all sides; KL is that of the
/// first model to the second.
pub(crate) fn complete<D: Device>(
    sampled: &Sampled<'_>,
    policy: &Model<D>,
    reference: &Model<D>,
    tokenizer: Option<&Tokenizer>,
    prompts: &[Arc<PromptExample>],
    stream: &str,
    sources: &mut dyn RewardSource,
) -> Result<HeldOutCompletions, TrainError> {
    let sampling = sampling(sampled.rollout);
    let forward = ForwardOptions {
        temperature: *sampled.rollout.temperature,
        microbatch_tokens: sampled.microbatch_tokens,
        logits_bytes: 0,
    };
    let sample = SampleOptions {
        sampling: &sampling,
        engine: EngineOptions::default(),
        completions: 1,
        seeds: Seeds::new(sampled.seed),
        stream,
        index: 0,
        version: 0,
        ranks: &Ranks::default(),
    };
    let held_out = HeldOut { prompts, sample: &sample, forward };
    complete_held_out(policy, reference, tokenizer, sources, held_out)
}

fn evaluation(
    before: &HeldOutCompletions,
    after: &HeldOutCompletions,
    ppo: &PpoConfig,
    config: &EvaluationConfig,
) -> Option<Evaluation> {
    let lengths = |of: &HeldOutCompletions| -> Vec<f64> {
        of.rollouts.iter().map(|rollout| rollout.completion.ids.len() as f64).collect()
    };
    let ended = |of: &HeldOutCompletions| -> Vec<f64> {
        of.rollouts.iter().map(|rollout| f64::from(u8::from(rollout.ended()))).collect()
    };
    let mut quantities = Vec::new();
    // One source with weight 1 is the sum itself.
    if before.by_source.iter().all(|(_, own)| *own != before.scores) {
        quantities.extend(comparison("score, as optimized", &before.scores, &after.scores));
    }
    for ((label, before), (_, after)) in before.by_source.iter().zip(&after.by_source) {
        quantities.extend(comparison(&format!("score: {label}"), before, after));
    }
    quantities.extend(comparison("length, tokens", &lengths(before), &lengths(after)));
    quantities.extend(shares("share ended", &ended(before), &ended(after)));
    let judge = |of: &HeldOutCompletions| -> (Vec<f64>, String) {
        let label = config.win_by.as_ref();
        let own = label.and_then(|label| of.by_source.iter().find(|(name, _)| name == label));
        own.map_or_else(
            || (of.scores.clone(), "the optimized score".to_owned()),
            |(name, scores)| (scores.clone(), name.clone()),
        )
    };
    let ((before_scores, _), (after_scores, win_rate_by)) = (judge(before), judge(after));
    Some(Evaluation {
        prompts: before.rollouts.len(),
        before: "SFT".to_owned(),
        after: "PPO".to_owned(),
        quantities,
        win_rate: win_rate(&before_scores, &after_scores),
        win_rate_by,
        kl_nats: normal_mean(&after.kl_nats)?,
        kl_limit_nats: ppo.ppo.learning.kl_limit_nats.map(|limit| *limit),
        examples: side_by_side(before, after, config.examples),
    })
}

/// Means of both and of the difference, prompt by prompt.
fn comparison(quantity: &str, before: &[f64], after: &[f64]) -> Option<PolicyComparison> {
    let differences: Vec<f64> =
        after.iter().zip(before).map(|(after, before)| after - before).collect();
    Some(PolicyComparison {
        quantity: quantity.to_owned(),
        before: normal_mean(before)?,
        after: normal_mean(after)?,
        difference: normal_mean(&differences)?,
    })
}

/// The same of what either holds or not: an interval that a share of 0 or 1 has as well.
fn shares(quantity: &str, before: &[f64], after: &[f64]) -> Option<PolicyComparison> {
    let share = |of: &[f64]| wilson(of.iter().sum(), of.len());
    let means = comparison(quantity, before, after)?;
    Some(PolicyComparison { before: share(before)?, after: share(after)?, ..means })
}

fn win_rate(before: &[f64], after: &[f64]) -> Option<Estimate> {
    let mut outcomes = Outcomes::default();
    for (before, after) in before.iter().zip(after) {
        match after.total_cmp(before) {
            std::cmp::Ordering::Greater => outcomes.wins += 1,
            std::cmp::Ordering::Equal => outcomes.ties += 1,
            std::cmp::Ordering::Less => outcomes.losses += 1,
        }
    }
    outcomes.win_rate()
}

fn side_by_side(
    before: &HeldOutCompletions,
    after: &HeldOutCompletions,
    count: usize,
) -> Vec<SideBySide> {
    let scores = |of: &HeldOutCompletions, index: usize| -> Vec<Figure> {
        of.by_source.iter().map(|(name, own)| Figure::new(name.clone(), own[index])).collect()
    };
    let one = |index: usize| SideBySide {
        prompt: before.rollouts[index].prompt.text.clone(),
        before: before.rollouts[index].text.clone(),
        after: after.rollouts[index].text.clone(),
        scores_before: scores(before, index),
        scores_after: scores(after, index),
    };
    (0..count.min(before.rollouts.len())).map(one).collect()
}
