//! From scored rollouts to experience: rewards, advantages, returns.

use hearken_config::KlPlacement;
use hearken_objective::{
    Mean,
    advantage::{
        gae::{explained_variance, gae, returns},
        whiten::whiten,
    },
    grpo::shaping::{SamplerCorrection, SamplerTerms},
    kl::{KlEstimator, ReferenceTerms},
    moments::Variance,
    reward::{KlPenalty, spread_score, with_kl_penalty},
};

use super::config::PpoConfig;
use super::metrics::PpoIteration;
use crate::rollout::correction::corrected_share;
use crate::rollout::metrics::LengthMetrics;
use crate::rollout::{BatchReading, ScoredRollout, ScoringSummary};

/// A scored rollout with everything that an update reads.
#[derive(Clone, Debug)]
pub(crate) struct Experience {
    pub(super) scored: ScoredRollout,
    /// log π_old, by the training forward pass.
    pub(super) old_logprobs: Vec<f64>,
    /// V_old(s_t).
    pub(super) old_values: Vec<f64>,
    /// Â_t, whitened over the iteration if so configured.
    pub(super) advantages: Vec<f64>,
    /// R_t, from advantages that were not whitened.
    pub(super) returns: Vec<f64>,
}

impl Experience {
    pub(super) fn terms(&self) -> ReferenceTerms<'_> {
        ReferenceTerms { logprobs: &self.old_logprobs, ref_logprobs: &self.scored.ref_logprobs }
    }

    /// What the sampler saw against what the trainer sees; `None` in replay.
    fn sampler(&self) -> Option<SamplerTerms<'_>> {
        let sampled_logprobs = &self.scored.rollout.completion.logprobs;
        let (old_logprobs, is_known) = (&self.old_logprobs, !sampled_logprobs.is_empty());
        is_known.then_some(SamplerTerms { old_logprobs, sampled_logprobs })
    }

    /// What ratios start from.
    pub(super) fn ratio_base(&self, correction: SamplerCorrection) -> &[f64] {
        self.sampler().map_or(&self.old_logprobs, |terms| terms.base(correction))
    }

    pub(super) fn tokens(&self) -> usize {
        self.old_logprobs.len()
    }
}

/// Credits every token of an iteration. `reading` is the policy's and the critic's before the first
/// update, `beta` the coefficient in force.
pub(super) fn credit(
    scored: Vec<ScoredRollout>,
    reading: BatchReading,
    beta: f64,
    config: &PpoConfig,
) -> Vec<Experience> {
    let in_reward = config.kl.placement == KlPlacement::Reward;
    let penalty =
        KlPenalty { beta: if in_reward { beta } else { 0.0 }, estimator: config.kl.estimator };
    let mut experience = Vec::with_capacity(scored.len());
    for ((scored, old_logprobs), old_values) in
        scored.into_iter().zip(reading.logprobs).zip(reading.values)
    {
        let terms = ReferenceTerms { logprobs: &old_logprobs, ref_logprobs: &scored.ref_logprobs };
        let mut rewards = with_kl_penalty(scored.score, terms, penalty);
        spread_score(&mut rewards, &scored.token_scores);
        // A completion that was cut off counts as ended: its score is that of the whole.
        let advantages = gae(&rewards, &old_values, 0.0, config.ppo.gae());
        let returns = returns(&advantages, &old_values);
        experience.push(Experience { scored, old_logprobs, old_values, advantages, returns });
    }
    if config.ppo.whiten_advantages {
        let mut rows: Vec<Vec<f64>> =
            experience.iter_mut().map(|one| std::mem::take(&mut one.advantages)).collect();
        whiten(&mut rows, Variance::Sample);
        for (one, advantages) in experience.iter_mut().zip(rows) {
            one.advantages = advantages;
        }
    }
    correct(&mut experience, config.correction);
    experience
}

/// Multiplies advantages by the weights of a correction: the clipped loss of a token is as many times as large.
fn correct(experience: &mut [Experience], correction: SamplerCorrection) {
    if matches!(correction, SamplerCorrection::None | SamplerCorrection::Ratio) {
        return;
    }
    for one in experience {
        let Some(terms) = one.sampler() else { continue };
        let weights = correction.weights(terms);
        one.advantages.iter_mut().zip(weights).for_each(|(advantage, weight)| *advantage *= weight);
    }
}

/// Means over the completions, or tokens, of an iteration.
pub(super) fn iteration_metrics(
    experience: &[Experience],
    summary: &ScoringSummary,
    entropy: Mean,
    beta: f64,
    config: &PpoConfig,
) -> PpoIteration {
    let mean = |of: &dyn Fn(&Experience) -> f64| -> f64 {
        experience.iter().map(of).collect::<Mean>().value().unwrap_or(0.0)
    };
    let summed =
        |estimator: KlEstimator| move |one: &Experience| estimator.per_completion(one.terms());
    let in_reward = config.kl.placement == KlPlacement::Reward;
    let non_score_reward = if in_reward { -beta * mean(&summed(config.kl.estimator)) } else { 0.0 };
    let scores = mean(&|one| one.scored.score);
    let values: Vec<f64> = experience.iter().flat_map(|one| one.old_values.clone()).collect();
    let targets: Vec<f64> = experience.iter().flat_map(|one| one.returns.clone()).collect();
    let sources = summary
        .by_source
        .iter()
        .filter_map(|(label, own)| Some((format!("scores/{label}"), own.value()?)));
    PpoIteration {
        kl_k1_nats: mean(&summed(KlEstimator::K1)),
        entropy_nats: mean(&|one| -one.old_logprobs.iter().sum::<f64>()),
        non_score_reward,
        rlhf_reward: scores + non_score_reward,
        scores,
        scores_std: summary.scores.std(Variance::Sample),
        entropy: entropy.value().unwrap_or(0.0),
        beta,
        explained_variance: explained_variance(&targets, &values),
        lengths: LengthMetrics::of(experience.iter().map(|one| &one.scored.rollout)),
        share_ended: mean(&|one| f64::from(u8::from(one.scored.rollout.ended()))),
        sampled_difference_max: sampled_difference_max(experience),
        corrected_share: corrected_share(
            config.correction,
            experience.iter().filter_map(Experience::sampler),
        ),
        staleness: None,
        sources: sources.collect(),
    }
}

/// Sampler and trainer should agree on the probability of every token.
fn sampled_difference_max(experience: &[Experience]) -> Option<f64> {
    let differences = experience.iter().filter_map(Experience::sampler).flat_map(|terms| {
        let sampled = terms.sampled_logprobs.iter();
        sampled.zip(terms.old_logprobs).map(|(sampled, old)| (sampled - old).abs())
    });
    differences.reduce(f64::max)
}
