//! What online preference optimization writes to `metrics.jsonl`.

use std::collections::BTreeMap;

use hearken_objective::Mean;
use hearken_objective::dpo::unpaired::RewardShift;
use hearken_run::metrics::Timing;
use serde::Serialize;

use super::gather::Gathered;
use crate::dpo::batch::StepResult;
use crate::dpo::metrics::DpoFigures;
use crate::dpo::objective::{Objective, ObjectiveKind};
use crate::rollout::metrics::StepMetrics;
use crate::rollout::train::RolloutStep;

/// What an iteration's completions say, before its first update; the same in all records of an
/// iteration. Fields that the method does not have are left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct OnlineIteration {
    /// KL(π ‖ π_ref) of a completion: k1 summed over its tokens, mean over completions. Nats.
    #[serde(rename = "objective/kl")]
    pub kl_k1_nats: f64,
    /// −Σ log π of a completion's tokens, mean over completions: an estimate of the entropy of whole
    /// completions. Nats.
    #[serde(rename = "objective/entropy")]
    pub entropy_nats: f64,
    /// Exact entropy of the distribution of the next token, mean over the completions' tokens. Nats.
    #[serde(rename = "entropy/sampled")]
    pub entropy: f64,
    /// Score of a completion of the policy, mean; normalization and a missing end's penalty included.
    #[serde(rename = "objective/scores", skip_serializing_if = "Option::is_none")]
    pub scores: Option<f64>,
    /// Sample standard deviation of these scores.
    #[serde(rename = "objective/scores_std", skip_serializing_if = "Option::is_none")]
    pub scores_std: Option<f64>,
    /// Score of a completion of the opponent, mean: of the reference in XPO, of the mixture in
    /// Nash-MD.
    #[serde(rename = "objective/opponent_scores", skip_serializing_if = "Option::is_none")]
    pub opponent_scores: Option<f64>,
    /// Score of the chosen minus that of the rejected completion, mean over pairs; in Nash-MD that of
    /// the policy's minus the opponent's.
    #[serde(rename = "objective/scores_margin", skip_serializing_if = "Option::is_none")]
    pub scores_margin: Option<f64>,
    /// Score of a completion that was kept, mean.
    #[serde(rename = "objective/kept_scores", skip_serializing_if = "Option::is_none")]
    pub kept_scores: Option<f64>,
    /// Probability that the policy's completion is preferred to the opponent's, mean.
    #[serde(rename = "rewards/probabilities", skip_serializing_if = "Option::is_none")]
    pub win_probability: Option<f64>,
    /// Share of pairs with equal scores, or that a judge finds equal.
    #[serde(rename = "frac_ties", skip_serializing_if = "Option::is_none")]
    pub ties: Option<f64>,
    /// Share of the judge's answers that name no winner.
    #[serde(rename = "judge/unreadable", skip_serializing_if = "Option::is_none")]
    pub judge_unreadable: Option<f64>,
    /// Share of comparisons whose two orders have the same winner, of those with two readable answers;
    /// a judge without a taste for a position has 1.
    #[serde(rename = "judge/order_agreement", skip_serializing_if = "Option::is_none")]
    pub judge_agreement: Option<f64>,
    /// Share of comparisons that are dropped.
    #[serde(rename = "judge/dropped", skip_serializing_if = "Option::is_none")]
    pub judge_dropped: Option<f64>,
    /// Mean number of tokens of a completion, a sampled end token included.
    #[serde(rename = "completions/mean_length")]
    pub length_mean: f64,
    /// Share of a completion's 4-grams of tokens that stand in it before, mean.
    #[serde(rename = "completions/repeated_share")]
    pub repeated_share: f64,
    /// Share of completions that ended by themselves.
    #[serde(rename = "completions/share_ended")]
    pub share_ended: f64,
    /// Completions of the policy that were sampled.
    pub sampled: usize,
    /// Records that were made of them.
    pub trained: usize,
    /// Mean score of each source, unweighted: `scores/LABEL`.
    #[serde(flatten)]
    pub sources: BTreeMap<String, f64>,
}

/// One optimizer step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OnlineStep {
    /// Which step it is, and what the update did. The loss is the mean of the minibatch's records.
    #[serde(flatten)]
    pub step: StepMetrics,
    /// XPO: the loss of the pairs alone.
    #[serde(rename = "loss/dpo", skip_serializing_if = "Option::is_none")]
    pub pair_loss: Option<f64>,
    /// XPO: α·Σ log π of what the reference wrote, mean.
    #[serde(rename = "loss/xpo", skip_serializing_if = "Option::is_none")]
    pub exploration_loss: Option<f64>,
    /// Nash-MD: (P − ½ + `nash_nudge`)·Σ log π, mean.
    #[serde(rename = "loss/score", skip_serializing_if = "Option::is_none")]
    pub score_loss: Option<f64>,
    /// Nash-MD: Σ w·log π with the log-ratios w, mean, before its β.
    #[serde(rename = "loss/kl", skip_serializing_if = "Option::is_none")]
    pub kl_loss: Option<f64>,
    /// The figures of the records, as in offline training.
    #[serde(flatten)]
    pub figures: DpoFigures,
    /// Mean entropy of the distributions that predict what is trained on. Nats.
    pub entropy: Option<f64>,
    /// Share of the tokens of chosen completions that are the most probable ones.
    pub mean_token_accuracy: Option<f64>,
    /// BCO's δ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reward_shift: Option<f64>,
    /// What the iteration's completions say.
    #[serde(flatten)]
    pub iteration_metrics: OnlineIteration,
    /// Tokens that went through the policy forward and backward in this step.
    pub tokens: usize,
    /// `seconds` and `tokens_per_s`; the first step of an iteration includes its completions.
    #[serde(flatten)]
    pub timing: Timing,
}

impl OnlineStep {
    pub(super) fn new(step: &RolloutStep<'_, Gathered, StepResult>, objective: &Objective) -> Self {
        let RolloutStep { sums: found, update, iteration, .. } = step;
        let terms = Terms::of(&objective.kind, found);
        Self {
            step: StepMetrics::of(step),
            pair_loss: terms.pair,
            exploration_loss: terms.exploration,
            score_loss: terms.score,
            kl_loss: terms.kl,
            figures: DpoFigures::new(&found.losses, found.nll_loss(objective)),
            entropy: found.entropy(objective),
            mean_token_accuracy: found.token_accuracy(),
            reward_shift: found.shift.map(RewardShift::delta),
            iteration_metrics: iteration.metrics.clone(),
            tokens: update.tokens,
            timing: update.timing,
        }
    }
}

/// The terms of a loss that has two, means over records.
#[derive(Clone, Copy, Debug, Default)]
struct Terms {
    pair: Option<f64>,
    exploration: Option<f64>,
    score: Option<f64>,
    kl: Option<f64>,
}

impl Terms {
    fn of(kind: &ObjectiveKind, found: &StepResult) -> Self {
        let trees = &found.losses.trees;
        let second = trees.iter().filter_map(|tree| tree.second).collect::<Mean>().value();
        let losses = trees.iter().map(|tree| tree.loss).collect::<Mean>().value();
        match (kind, losses, second) {
            (ObjectiveKind::Nash(nash), Some(loss), Some(kl)) => {
                Self { score: Some(nash.beta * kl - loss), kl: Some(kl), ..Self::default() }
            }
            (ObjectiveKind::Paired(_), Some(loss), Some(term)) => {
                Self { pair: Some(loss - term), exploration: Some(term), ..Self::default() }
            }
            _ => Self::default(),
        }
    }
}
