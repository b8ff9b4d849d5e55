//! Where scores come from.
//!
//! | source | what it is |
//! |---|---|
//! | [`RewardModel`] | a checkpoint with a score head |
//! | [`Heuristic`] | a function of the text that needs no model |
//! | [`VerifierSource`] | a right answer that the prompt's record has |
//! | [`CodeSource`] | tests that the completion's program passes in a sandbox |
//! | [`CommandSource`] | a program that reads and writes JSON lines |
//! | [`HttpSource`] | a server that takes JSON batches |
//! | [`Closure`] | a Rust function |
//! | [`WeightedSum`] | several of these |
//!
//! Not here: penalties and normalizations that depend on how a rollout ended or on other rollouts.

mod error;

mod heuristic;

pub(crate) mod gold;

mod service;

mod closure;

mod code;
mod reward_model;
mod verifier;

mod weighted_sum;

use serde_json::{Map, Value};

pub use closure::Closure;
pub use code::{CodeSource, Limits, Sandbox};
pub use error::RewardError;
pub use gold::{GoldParts, gold, gold_parts};
pub use heuristic::{Heuristic, length_diversity};
pub use reward_model::{RewardModel, RewardModelOptions};
pub use service::{CommandSource, HttpSource};
pub use verifier::{
    Verifier, VerifierSource, final_number, last_boxed, same_latex, same_number,
    share_of_right_steps,
};
pub use weighted_sum::{Scores, WeightedSum};

/// What a source sees of a rollout.
#[derive(Clone, Copy, Debug)]
pub struct RolloutView<'a> {
    /// The prompt as text.
    pub prompt: &'a str,
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

/// One score per completion, whatever its origin.
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
    fn score(&mut self, rollouts: &[RolloutView<'_>]) -> Result<Vec<f64>, RewardError>;
}

/// The scores of a source, one finite number per rollout.
///
/// # Errors
/// The source's own, or that it gave too few or too many scores, or one that is not finite.
pub fn finite_scores(
    source: &mut dyn RewardSource,
    rollouts: &[RolloutView<'_>],
) -> Result<Vec<f64>, RewardError> {
    let scores = source.score(rollouts)?;
    let name = source.name();
    if scores.len() != rollouts.len() {
        return Err(RewardError::Count {
            name: name.to_owned(),
            found: scores.len(),
            expected: rollouts.len(),
        });
    }
    match scores.iter().position(|score| !score.is_finite()) {
        Some(index) => Err(RewardError::not_finite(name, scores[index], &rollouts[index])),
        None => Ok(scores),
    }
}
