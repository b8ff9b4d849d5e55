//! Where scores come from.
//!
//! | source | what it is |
//! |---|---|
//! | [`RewardModel`] | a checkpoint with a score head |
//! | [`Ensemble`] | several of these, whose scores become one |
//! | [`Bounded`] | another source, whose scores flatten above those of the reference |
//! | [`Distance`] | how far completions are from a baseline's, as a reward model sees them |
//! | [`ProcessReward`] | a checkpoint that scores the steps of a completion |
//! | [`Heuristic`] | a function of the text that needs no model |
//! | [`VerifierSource`] | a right answer that the prompt's record has |
//! | [`CodeSource`] | tests that the completion's program passes in a sandbox |
//! | [`CommandSource`] | a program that reads and writes JSON lines |
//! | [`HttpSource`] | a server that takes JSON batches |
//! | [`JudgeSource`](judging::JudgeSource) | language models that rate |
//! | [`Closure`] | a Rust function |
//! | [`WeightedSum`] | several of these |
//!
//! Not here: penalties and normalizations that depend on how a rollout ended or on other rollouts.
#![deny(missing_docs)]
// `expect` states invariants; what a caller can violate has its `# Panics`.
#![allow(clippy::missing_panics_doc)]

pub mod scorers;

pub mod judging;

pub mod api;

pub mod process_file;

pub mod score_normalization;

mod error;

mod heuristic;

mod length_diversity;

pub mod gold;

mod service;

mod step_scorer;
mod step_split;

mod closure;

mod bounded;
mod code;
mod distance;
mod ensemble;

mod process_reward;
mod reward_model;
mod verifier;

mod score;

mod weighted_sum;

use hearken_data::Message;
use serde_json::{Map, Value};

pub use bounded::Bounded;
pub use closure::Closure;
pub use code::{CodeSource, Sandbox, SandboxLimits};
pub use distance::Distance;
pub use ensemble::Ensemble;
pub use error::RewardError;
pub use gold::{GoldParts, gold, gold_parts};
pub use hearken_objective::process::StepAggregation;
pub use heuristic::Heuristic;
pub use length_diversity::length_diversity;
pub use process_reward::{ProcessReward, ProcessRewardOptions};
pub use reward_model::{RewardModel, RewardModelOptions};
pub use score::{Score, StepScore};
pub use service::{CommandSource, HttpSource};
pub use step_scorer::StepScorer;
pub use step_split::StepSplit;
pub use verifier::{
    VerifierSource, answer_of, final_number, groups_of, last_boxed, same_answer,
    share_of_right_steps, step_is_right, verify,
};
pub use weighted_sum::{BatchScores, WeightedSum, sum_of};

/// What a source sees of a rollout.
#[derive(Clone, Copy, Debug)]
pub struct RolloutView<'a> {
    /// The whole prompt as text, as the policy read it: of a conversation as it was rendered.
    pub prompt: &'a str,
    /// The messages of the conversation, where the prompt is one and the policy read all of it.
    pub messages: Option<&'a [Message]>,
    /// The completion as text, without an end token.
    pub completion: &'a str,
    /// The prompt as the policy read it.
    pub prompt_ids: &'a [u32],
    /// The completion as the policy sampled it, a sampled end token included.
    pub completion_ids: &'a [u32],
    /// Whether the policy ended the completion itself.
    pub ended: bool,
    /// Further columns of the prompt's record.
    pub fields: &'a Map<String, Value>,
}

/// When a source is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As completions end, a portion at a time, while others are being sampled.
    Meanwhile,
    /// When all are there, at once: what a source needs the device for, or all completions together.
    Afterwards,
}

/// A measurement that a source makes of every completion, and what it counts for.
#[derive(Clone, Debug, PartialEq)]
pub struct Measure {
    /// Names it in metrics.
    pub name: String,
    /// What its scores are multiplied by in the sum; with 0 it is only measured.
    pub weight: f64,
    /// When it is made.
    pub pace: Pace,
}

impl Measure {
    /// A score named `name`, and beside it something else that counts for nothing.
    pub(crate) fn beside(name: &str, other: &str, pace: Pace) -> Vec<Self> {
        let measure = |name: &str, weight| Self { name: name.to_owned(), weight, pace };
        vec![measure(name, 1.0), measure(other, 0.0)]
    }
}

/// One score per completion, whatever its origin; or one per token or step of it.
pub trait RewardSource: Send {
    /// Names the source in metrics and errors.
    fn name(&self) -> &str;

    /// When the source is asked for the scores of completions that are sampled.
    fn pace(&self) -> Pace {
        Pace::Meanwhile
    }

    /// One score per rollout, in order. Callers go through [`finite_scores`].
    ///
    /// # Errors
    /// If there are no scores to be had.
    fn score(&mut self, rollouts: &[RolloutView<'_>]) -> Result<Vec<Score>, RewardError>;

    /// What the source measures, in order: its own scores, unless it is a sum of others.
    fn measures(&self) -> Vec<Measure> {
        vec![Measure { name: self.name().to_owned(), weight: 1.0, pace: self.pace() }]
    }

    /// The scores of each of [`RewardSource::measures`] that has this pace, in order.
    ///
    /// # Errors
    /// Of the first that fails or gives anything but one finite score per rollout.
    fn measured(
        &mut self,
        pace: Pace,
        rollouts: &[RolloutView<'_>],
    ) -> Result<Vec<Vec<Score>>, RewardError> {
        match self.pace() == pace {
            true => Ok(vec![finite_scores(self, rollouts)?]),
            false => Ok(Vec::new()),
        }
    }
}

/// The scores of a source, one finite number per rollout.
///
/// # Errors
/// The source's own, or that it gave too few or too many scores, one that is not finite, or one of a
/// token that the completion does not have.
pub fn finite_scores<S: RewardSource + ?Sized>(
    source: &mut S,
    rollouts: &[RolloutView<'_>],
) -> Result<Vec<Score>, RewardError> {
    if rollouts.is_empty() {
        return Ok(Vec::new());
    }
    let scores = source.score(rollouts)?;
    let name = source.name();
    if scores.len() != rollouts.len() {
        return Err(RewardError::Count {
            name: name.to_owned(),
            found: scores.len(),
            expected: rollouts.len(),
        });
    }
    for (score, rollout) in scores.iter().zip(rollouts) {
        if let Some(number) = score.numbers().into_iter().find(|number| !number.is_finite()) {
            return Err(RewardError::not_finite(name, number, rollout));
        }
        if !score.fits(rollout.completion_ids.len()) {
            return Err(RewardError::misplaced(name, rollout));
        }
    }
    Ok(scores)
}
