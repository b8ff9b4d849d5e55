//! From prompts to scored rollouts.
//!
//! ```text
//! prompts ─► sample ─► Rollout, BatchScores ─► score ─► ScoredRollout
//! file ────► replay ─────────▲
//! ```
//!
//! A stage consumes one type and returns the next; `feed` says what an iteration starts from, `session`
//! what is there between two, `train` what happens then. Not here: rewards, advantages, updates.

mod sample;

pub(crate) mod ahead;

pub(crate) mod correction;

mod replay;

mod score;

mod completion_batch;

mod held_out;

pub(crate) mod guard;

pub mod metrics;

pub mod feed;

pub mod settings;

pub(crate) mod source;

mod served;

pub mod session;

pub mod train;

use std::sync::Arc;

use hearken_data::Completion;
use hearken_objective::reward::MissingEnd;
use hearken_reward_source::RolloutView;
use hearken_run::encode::PromptExample;

pub use completion_batch::{
    BatchReading, CompletionBatch, ForwardOptions, Heads, Sequence, completion_microbatches, read,
    read_together,
};
pub use guard::Signs;
pub use held_out::{HeldOut, HeldOutCompletions, HeldOutEvaluation, complete_held_out};
pub use replay::{RecordedIteration, ReplayLimits, read_replay};
pub use sample::{SampleOptions, sample, sample_scored};
pub use score::{Scoring, ScoringSummary, score};

/// One prompt with one completion, and how it was sampled.
#[derive(Clone, Debug)]
pub struct Rollout {
    /// What was asked.
    pub prompt: Arc<PromptExample>,
    /// Which completions of the iteration answer the same prompt.
    pub group: u64,
    /// What was sampled.
    pub completion: Completion,
    /// The completion as text, without an end token; empty where the policy has no tokenizer.
    pub text: String,
    /// Where it comes from.
    pub origin: RolloutOrigin,
}

/// Where a rollout comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolloutOrigin {
    /// The policy, or what it is compared with, wrote it here.
    Sampled {
        /// Optimizer steps that the policy had made.
        version: u64,
    },
    /// It is read from a file. Penalties are in its score already.
    Recorded,
}

/// A rollout with its score and the reference's opinion of it.
#[derive(Clone, Debug)]
pub struct ScoredRollout {
    /// The rollout.
    pub rollout: Rollout,
    /// The score, penalties for a missing end included.
    pub score: f64,
    /// What single tokens earned, as part of the score; empty where it is of the whole.
    pub token_scores: Vec<f64>,
    /// log π_ref of each token of the completion, in nats, at the sampling temperature.
    pub ref_logprobs: Vec<f64>,
}

impl Rollout {
    /// The tokens.
    pub fn sequence(&self) -> Sequence<'_> {
        Sequence { prompt: &self.prompt.ids, completion: &self.completion.ids }
    }

    /// The tree that it belongs to, whose rollouts share a prompt, and its own tokens: what work is shared out by.
    pub fn in_tree(&self) -> (u64, usize) {
        (self.group, self.sequence().tokens())
    }

    /// What a reward source sees.
    pub fn view(&self) -> RolloutView<'_> {
        RolloutView {
            prompt: &self.prompt.text,
            messages: self.prompt.messages.as_deref(),
            completion: &self.text,
            prompt_ids: &self.prompt.ids,
            completion_ids: &self.completion.ids,
            ended: self.ended(),
            fields: &self.prompt.fields,
        }
    }

    /// A score of the completion, less what a missing end costs it.
    pub(crate) fn score_with_end(&self, score: f64, missing_end: MissingEnd) -> f64 {
        let is_whole = self.ended() || self.origin == RolloutOrigin::Recorded;
        if is_whole { score } else { missing_end.score(score) }
    }

    /// Whether the policy ended the completion itself: by its end token or by a stop sequence.
    pub fn ended(&self) -> bool {
        self.completion.stop_reason.is_end()
    }
}
