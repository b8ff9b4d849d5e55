//! What preference optimization writes to `metrics.jsonl`.

use hearken_objective::Mean;
use hearken_objective::dpo::unpaired::RewardShift;
use hearken_run::metrics::Timing;
use hearken_run::run::Update;
use hearken_stats::Estimate;
use serde::Serialize;

use super::batch::StepResult;
use super::loss::{Losses, TreeLoss, log_odds_ratio};
use super::objective::Objective;
use crate::records::RecordStep;

/// One optimizer step. Fields that mean nothing to the loss, or that the batch says nothing of, are
/// left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct DpoStep {
    /// The optimizer step, from 1.
    pub step: u64,
    /// Passes over the training records, with the fraction of the current one; of a stream, whole passes.
    pub epoch: f64,
    /// Mean loss of the batch, likelihood included, before the update. Nats for losses that are
    /// logarithms.
    pub loss: f64,
    /// Norm of the gradient over all trained parameters, before clipping.
    pub grad_norm: f64,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// The figures of the batch.
    #[serde(flatten)]
    pub figures: DpoFigures,
    /// Mean entropy of the distributions that predict the completions. Nats.
    pub entropy: Option<f64>,
    /// Share of the tokens of chosen (desirable) completions that are the most probable ones.
    pub mean_token_accuracy: Option<f64>,
    /// BCO's δ, the running mean of rewards; after this step's rewards were seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reward_shift: Option<f64>,
    /// Tokens that went through the model forward and backward; what a pair shares counts once.
    pub tokens: usize,
    /// `seconds` and `tokens_per_s`.
    #[serde(flatten)]
    pub timing: Timing,
}

impl DpoStep {
    pub(super) fn new(step: &RecordStep<StepResult>, objective: &Objective) -> Self {
        let RecordStep { sums: found, update, epoch } = step;
        let Update { step, loss, grad_norm, learning_rate, tokens, timing } = *update;
        Self {
            step,
            epoch: *epoch,
            loss,
            grad_norm,
            learning_rate,
            figures: DpoFigures::new(&found.losses, found.nll_loss(objective)),
            entropy: found.entropy(objective),
            mean_token_accuracy: found.token_accuracy(),
            reward_shift: found.shift.map(RewardShift::delta),
            tokens,
            timing,
        }
    }
}

/// Means over the records of a batch. A reward is β·(Σ log π − Σ log π_ref) of a completion; without
/// a reference, β times what is in `logps/…`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct DpoFigures {
    /// Mean reward of chosen, or desirable, completions.
    #[serde(rename = "rewards/chosen", skip_serializing_if = "Option::is_none")]
    pub chosen_reward: Option<f64>,
    /// Mean reward of rejected, or undesirable, completions.
    #[serde(rename = "rewards/rejected", skip_serializing_if = "Option::is_none")]
    pub rejected_reward: Option<f64>,
    /// Share of pairs whose chosen completion has the higher reward; equal ones count as wrong.
    #[serde(rename = "rewards/accuracies", skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// The first of these means minus the second.
    #[serde(rename = "rewards/margins", skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// Mean of Σ log π over chosen completions; of means over tokens for losses without reference
    /// that read those.
    #[serde(rename = "logps/chosen", skip_serializing_if = "Option::is_none")]
    pub chosen_logprob: Option<f64>,
    /// The same of rejected completions.
    #[serde(rename = "logps/rejected", skip_serializing_if = "Option::is_none")]
    pub rejected_logprob: Option<f64>,
    /// KTO's reference point: max(0, mean log-ratio of mismatched completions). Nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl: Option<f64>,
    /// The likelihood term before its weight. Nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nll_loss: Option<f64>,
    /// ORPO: mean of ln σ of the difference of log-odds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_odds_ratio: Option<f64>,
    /// ORPO: mean of the log-odds of chosen minus those of rejected completions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_odds_chosen: Option<f64>,
}

impl DpoFigures {
    pub(super) fn new(losses: &Losses, nll_loss: Option<f64>) -> Self {
        let trees = &losses.trees;
        let side = |of: fn(&TreeLoss) -> [Option<f64>; 2], side: usize| {
            trees.iter().filter_map(|tree| of(tree)[side]).collect::<Mean>().value()
        };
        let rewards = |side_index| side(|tree| tree.rewards, side_index);
        let logprobs = |side_index| side(|tree| tree.logprobs, side_index);
        let right = |tree: &TreeLoss| match tree.rewards {
            [Some(chosen), Some(rejected)] => Some(f64::from(u8::from(rejected < chosen))),
            _ => None,
        };
        let (chosen, rejected) = (rewards(0), rewards(1));
        let odds: Mean = trees.iter().filter_map(|tree| tree.log_odds).collect();
        Self {
            chosen_reward: chosen,
            rejected_reward: rejected,
            accuracy: trees.iter().filter_map(right).collect::<Mean>().value(),
            margin: chosen.zip(rejected).map(|(chosen, rejected)| chosen - rejected),
            chosen_logprob: logprobs(0),
            rejected_logprob: logprobs(1),
            kl: losses.kl,
            nll_loss,
            log_odds_ratio: log_odds_ratio(trees).value(),
            log_odds_chosen: odds.value(),
        }
    }
}

/// An evaluation on held-out records. Intervals are 95 %; n counts records.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct DpoEvaluation {
    /// Mean loss, likelihood included. A loss that couples a batch takes all records as one.
    pub eval_loss: Estimate,
    /// Mean reward of chosen, or desirable, completions.
    #[serde(rename = "eval_rewards/chosen", skip_serializing_if = "Option::is_none")]
    pub chosen_reward: Option<Estimate>,
    /// Mean reward of rejected, or undesirable, completions.
    #[serde(rename = "eval_rewards/rejected", skip_serializing_if = "Option::is_none")]
    pub rejected_reward: Option<Estimate>,
    /// Share of pairs whose chosen completion has the higher reward; equal ones count half. Wilson's
    /// interval.
    #[serde(rename = "eval_rewards/accuracies", skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<Estimate>,
    /// Mean difference of the rewards of a pair.
    #[serde(rename = "eval_rewards/margins", skip_serializing_if = "Option::is_none")]
    pub margin: Option<Estimate>,
    /// As in training.
    #[serde(rename = "eval_logps/chosen", skip_serializing_if = "Option::is_none")]
    pub chosen_logprob: Option<Estimate>,
    /// As in training.
    #[serde(rename = "eval_logps/rejected", skip_serializing_if = "Option::is_none")]
    pub rejected_logprob: Option<Estimate>,
    /// The distance from the reference on fresh completions.
    #[serde(flatten)]
    pub kl: Option<PolicyKl>,
}

/// How far the policy has moved, on completions that it samples. Intervals are 95 %; n counts
/// completions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PolicyKl {
    /// KL(π ‖ π_ref) of a completion: Σ (log π − log π_ref) over its tokens, sampled from the policy
    /// at temperature 1. Estimator k1: unbiased, and may be negative. Nats.
    pub eval_kl: Estimate,
    /// Tokens of a completion.
    pub eval_length: Estimate,
    /// Share of its n-grams of four tokens that stand in it before.
    pub eval_repeated: Estimate,
}
