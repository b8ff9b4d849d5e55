//! What group-relative training writes to `metrics.jsonl`: one record per optimizer step, under the
//! names of TRL where it has one for the same quantity.

use std::collections::BTreeMap;

use hearken_objective::grpo::Algorithm;
use hearken_objective::grpo::shaping::SamplerCorrection;
use hearken_objective::kl::KlEstimator;
use hearken_objective::moments::Variance;
use hearken_objective::surrogate::metrics::RatioMetrics;
use hearken_objective::surrogate::{Clip, PolicyTerms, RatioLevel, Surrogate};
use hearken_objective::{Mean, Moments};
use hearken_reward_source::Measure;
use hearken_run::ranks::Joined;
use serde::{Deserialize, Serialize};

use super::GroupedRollouts;
use super::credit::Experience;
use super::grade::{Graded, groups, is_flat};
use crate::rollout::correction::corrected_share;
use crate::rollout::metrics::{LengthMetrics, RatioSummary, StepCost, StepMetrics};
use crate::rollout::train::RolloutStep;

/// What an iteration's rollouts say, before its first update; the same in all records of an
/// iteration.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct GrpoIteration {
    /// Score of a completion, penalties included, mean over everything that was sampled.
    pub reward: f64,
    /// Sample standard deviation of these scores; absent with fewer than two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reward_std: Option<f64>,
    /// Share of the groups whose scores are all equal: they teach nothing.
    pub frac_reward_zero_std: f64,
    /// Completions that were sampled in this iteration.
    pub sampled: usize,
    /// Of these, completions that are trained on.
    pub trained: usize,
    /// KL(π_old ‖ π_ref) of a completion: k1 summed over its tokens, mean over completions. Nats.
    #[serde(rename = "objective/kl")]
    pub kl_k1_nats: f64,
    /// The coefficient of the KL penalty in force; 0 without penalty.
    #[serde(rename = "kl/beta")]
    pub beta: f64,
    /// How long its completions are.
    #[serde(flatten)]
    pub lengths: LengthMetrics,
    /// Share of completions that were cut off by the length limit.
    #[serde(rename = "completions/clipped_ratio")]
    pub share_cut_off: f64,
    /// Mean number of tokens of the completions that ended by themselves; absent without any.
    #[serde(
        rename = "completions/mean_terminated_length",
        skip_serializing_if = "Option::is_none"
    )]
    pub ended_length_mean: Option<f64>,
    /// How sampler and trainer differ; absent in replay.
    #[serde(flatten)]
    pub sampler: Option<SamplerMetrics>,
    /// Optimizer steps that the policy has made since it wrote a completion, mean; absent where it writes them at once.
    #[serde(rename = "sampling/staleness", skip_serializing_if = "Option::is_none")]
    pub staleness: Option<f64>,
    /// Mean and sample standard deviation of each source, unweighted: `rewards/LABEL/mean`,
    /// `rewards/LABEL/std`.
    #[serde(flatten)]
    pub sources: BTreeMap<String, f64>,
}

/// How the probabilities that tokens were sampled with differ from those that the trainer computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct SamplerMetrics {
    /// Mean |log π as sampled − log π as recomputed| of a token.
    #[serde(rename = "sampling/sampling_logp_difference/mean")]
    pub difference_mean: f64,
    /// Largest difference.
    #[serde(rename = "sampling/sampling_logp_difference/max")]
    pub difference_max: f64,
    /// Least importance weight π_old/π_sampled of a token, before it is cut off.
    #[serde(rename = "sampling/importance_sampling_ratio/min")]
    pub weight_min: f64,
    /// Mean importance weight.
    #[serde(rename = "sampling/importance_sampling_ratio/mean")]
    pub weight_mean: f64,
    /// Largest importance weight.
    #[serde(rename = "sampling/importance_sampling_ratio/max")]
    pub weight_max: f64,
    /// Share of tokens whose weight is bounded or 0; absent without a correction.
    #[serde(rename = "sampling/corrected_share", skip_serializing_if = "Option::is_none")]
    pub corrected_share: Option<f64>,
}

/// One optimizer step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GrpoStep {
    /// Which step it is, and what the update did. The loss is aggregated, KL penalty included, minus `entropy_coef` ·
    /// entropy.
    #[serde(flatten)]
    pub step: StepMetrics,
    /// KL to the reference of the policy being updated, mean over tokens: the penalty's estimator
    /// where it is in the loss, else k3; before any ratio. Nats.
    pub kl: f64,
    /// Exact entropy of the distribution of the next token, mean over the completions' tokens. Nats.
    pub entropy: f64,
    /// k2 of KL(π_old ‖ π_θ), mean over what ratios cover. Nats.
    #[serde(rename = "policy/approxkl_avg")]
    pub approx_kl: f64,
    /// How far the policy is from the one that sampled.
    #[serde(flatten)]
    pub ratios: RatioSummary,
    /// What clipping did; absent for surrogates that do not clip.
    #[serde(flatten)]
    pub clipped: Option<ClipMetrics>,
    /// Share of tokens (or completions) with a positive advantage whose weight is capped; of CISPO.
    #[serde(rename = "cispo_clip_ratio", skip_serializing_if = "Option::is_none")]
    pub cispo_clipped: Option<f64>,
    /// What the iteration's rollouts say.
    #[serde(flatten)]
    pub iteration_metrics: GrpoIteration,
    /// How large it was, and how long it took.
    #[serde(flatten)]
    pub cost: StepCost,
}

impl GrpoStep {
    pub(super) fn new(
        step: &RolloutStep<'_, GroupedRollouts, GrpoStepSums>,
        surrogate: Surrogate,
    ) -> Self {
        let RolloutStep { sums, iteration, .. } = step;
        let mean = |mean: Mean| mean.value().unwrap_or(0.0);
        Self {
            step: StepMetrics::of(step),
            kl: mean(sums.kl),
            entropy: mean(sums.entropy),
            approx_kl: mean(sums.ratios.approx_kl_k2),
            ratios: RatioSummary::of(&sums.ratios),
            clipped: sums.clipped(surrogate),
            cispo_clipped: sums.cispo_clipped(surrogate),
            iteration_metrics: iteration.metrics.clone(),
            cost: StepCost::of(step, sums.completion_tokens),
        }
    }
}

/// Shares of what clipping stops, over what ratios cover: tokens or completions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ClipMetrics {
    /// Below the range, with a negative advantage.
    #[serde(rename = "clip_ratio/low_mean")]
    pub low_mean: f64,
    /// Above the range, with a positive advantage.
    #[serde(rename = "clip_ratio/high_mean")]
    pub high_mean: f64,
    /// Either.
    #[serde(rename = "clip_ratio/region_mean")]
    pub region_mean: f64,
    /// Least share below in a completion.
    #[serde(rename = "clip_ratio/low_min")]
    pub low_min: f64,
    /// Largest share above in a completion.
    #[serde(rename = "clip_ratio/high_max")]
    pub high_max: f64,
}

/// What ratios cover, and the range outside of which they count as clipped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clipping {
    level: RatioLevel,
    clip: Clip,
    correction: SamplerCorrection,
}

impl Clipping {
    pub(super) fn of(algorithm: &Algorithm) -> Self {
        let nowhere = Clip { low: f64::INFINITY, high: f64::INFINITY };
        let clip = match algorithm.surrogate {
            Surrogate::Clipped { clip } | Surrogate::DualClipped { clip, .. } => clip,
            Surrogate::Cispo { max, .. } => Clip { high: max - 1.0, ..nowhere },
            Surrogate::Gmpo { log_range } => {
                Clip { low: 1.0 - (-log_range).exp(), high: log_range.exp() - 1.0 }
            }
            Surrogate::Reinforce | Surrogate::Sapo { .. } | Surrogate::Vespo { .. } => nowhere,
        };
        let level = match algorithm.surrogate {
            Surrogate::Gmpo { .. } => RatioLevel::Token,
            Surrogate::Vespo { .. } => RatioLevel::CompletionSum,
            _ => algorithm.ratio,
        };
        Self { level, clip, correction: algorithm.correction }
    }

    fn metrics(self, terms: PolicyTerms<'_>) -> RatioMetrics {
        let of_completion = |scale: f64| {
            let sum = |logprobs: &[f64]| [scale * logprobs.iter().sum::<f64>()];
            let advantages = [terms.advantages.first().copied().unwrap_or(0.0)];
            RatioMetrics::of(
                PolicyTerms {
                    logprobs: &sum(terms.logprobs),
                    old_logprobs: &sum(terms.old_logprobs),
                    advantages: &advantages,
                },
                self.clip,
            )
        };
        match self.level {
            RatioLevel::Token => RatioMetrics::of(terms, self.clip),
            RatioLevel::CompletionMean => of_completion(1.0 / terms.logprobs.len() as f64),
            RatioLevel::CompletionSum => of_completion(1.0),
        }
    }
}

/// Sums over an optimizer step.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct GrpoStepSums {
    /// Σ weight·loss.
    pub(super) policy: f64,
    pub(super) entropy: Mean,
    pub(super) kl: Mean,
    pub(super) ratios: RatioMetrics,
    low_min: Option<f64>,
    high_max: Option<f64>,
    pub(super) completion_tokens: usize,
}

impl Joined for GrpoStepSums {
    fn join(self, other: Self) -> Self {
        Self {
            policy: self.policy + other.policy,
            entropy: self.entropy + other.entropy,
            kl: self.kl + other.kl,
            ratios: self.ratios.merge(other.ratios),
            low_min: self.low_min.into_iter().chain(other.low_min).reduce(f64::min),
            high_max: self.high_max.into_iter().chain(other.high_max).reduce(f64::max),
            completion_tokens: self.completion_tokens + other.completion_tokens,
        }
    }
}

impl GrpoStepSums {
    /// Takes note of a completion's ratios.
    pub(super) fn observe(&mut self, one: &Experience, logprobs: &[f64], clipping: Clipping) {
        let own = clipping.metrics(PolicyTerms {
            logprobs,
            old_logprobs: one.terms(logprobs).sampler().base(clipping.correction),
            advantages: &one.advantages,
        });
        let low = own.clipped_low.value();
        let high = own.clipped_high.value();
        self.low_min = self.low_min.into_iter().chain(low).reduce(f64::min);
        self.high_max = self.high_max.into_iter().chain(high).reduce(f64::max);
        self.ratios = self.ratios.merge(own);
    }

    pub(super) fn clipped(&self, surrogate: Surrogate) -> Option<ClipMetrics> {
        let clips = matches!(
            surrogate,
            Surrogate::Clipped { .. } | Surrogate::DualClipped { .. } | Surrogate::Gmpo { .. }
        );
        let mean = |mean: Mean| mean.value().unwrap_or(0.0);
        clips.then(|| ClipMetrics {
            low_mean: mean(self.ratios.clipped_low),
            high_mean: mean(self.ratios.clipped_high),
            region_mean: mean(self.ratios.clipped()),
            low_min: self.low_min.unwrap_or(0.0),
            high_max: self.high_max.unwrap_or(0.0),
        })
    }

    pub(super) fn cispo_clipped(&self, surrogate: Surrogate) -> Option<f64> {
        match surrogate {
            Surrogate::Cispo { .. } => self.ratios.clipped_high.value(),
            _ => None,
        }
    }
}

/// What was sampled, and what of it is trained on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gathered<'a> {
    pub(super) sampled: &'a [Graded],
    /// Everything that was credited.
    pub(super) experience: &'a [Experience],
    pub(super) trained: usize,
    pub(super) measures: &'a [Measure],
    pub(super) beta: f64,
    pub(super) correction: SamplerCorrection,
}

impl Gathered<'_> {
    pub(super) fn metrics(self) -> GrpoIteration {
        let Self { sampled, experience, .. } = self;
        let scores: Vec<f64> = sampled.iter().map(|one| one.score).collect();
        let scores = Moments::of(&scores);
        let mean = |values: &mut dyn Iterator<Item = f64>| values.collect::<Mean>().value();
        let ended = sampled.iter().filter(|one| one.rollout.ended());
        let ended: Mean = ended.map(|one| one.rollout.completion.ids.len() as f64).collect();
        let flat = groups(sampled).map(|group| f64::from(u8::from(is_flat(group))));
        let kl = experience.iter().map(|one| KlEstimator::K1.per_completion(one.reference()));
        GrpoIteration {
            reward: scores.mean,
            reward_std: scores.std(Variance::Sample),
            frac_reward_zero_std: mean(&mut flat.into_iter()).unwrap_or(0.0),
            sampled: sampled.len(),
            trained: self.trained,
            kl_k1_nats: mean(&mut kl.into_iter()).unwrap_or(0.0),
            beta: self.beta,
            lengths: LengthMetrics::of(sampled.iter().map(|one| &one.rollout)),
            share_cut_off: 1.0 - ended.count as f64 / sampled.len().max(1) as f64,
            ended_length_mean: ended.value(),
            sampler: sampler_metrics(experience, self.correction),
            staleness: None,
            sources: self.sources(),
        }
    }

    fn sources(self) -> BTreeMap<String, f64> {
        let mut sources = BTreeMap::new();
        if self.sampled.iter().any(|one| one.by_source.len() != self.measures.len()) {
            return sources;
        }
        for (index, Measure { name, .. }) in self.measures.iter().enumerate() {
            let own: Vec<f64> = self.sampled.iter().map(|one| one.by_source[index]).collect();
            let own = Moments::of(&own);
            sources.insert(format!("rewards/{name}/mean"), own.mean);
            if let Some(std) = own.std(Variance::Sample) {
                sources.insert(format!("rewards/{name}/std"), std);
            }
        }
        sources
    }
}

fn sampler_metrics(
    experience: &[Experience],
    correction: SamplerCorrection,
) -> Option<SamplerMetrics> {
    let log_ratios = || {
        let terms = experience.iter().filter_map(Experience::sampler);
        terms.flat_map(|t| t.old_logprobs.iter().zip(t.sampled_logprobs).map(|(a, b)| a - b))
    };
    let differences: Mean = log_ratios().map(f64::abs).collect();
    let weights: Mean = log_ratios().map(f64::exp).collect();
    Some(SamplerMetrics {
        difference_mean: differences.value()?,
        difference_max: log_ratios().map(f64::abs).reduce(f64::max)?,
        weight_min: log_ratios().map(f64::exp).reduce(f64::min)?,
        weight_mean: weights.value()?,
        weight_max: log_ratios().map(f64::exp).reduce(f64::max)?,
        corrected_share: corrected_share(
            correction,
            experience.iter().filter_map(Experience::sampler),
        ),
    })
}
