//! What is asked for, and what is reported on the way.

use std::ops::ControlFlow;

use hearken_data::{Completion, StopReason};

use crate::error::GenerateError;
use crate::wishes::TokenReport;

/// A prompt to complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SamplingRequest {
    /// The prompt, used as it is; at least one token.
    pub prompt_ids: Vec<u32>,
    /// How many completions are wanted.
    pub samples: usize,
    /// Seed of the request's random numbers; each sample has a stream of its own under it.
    pub seed: u64,
}

/// A token has been sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenSampled<'a> {
    /// The request's number: its index where all are known beforehand.
    pub request: usize,
    /// Index of the sample within the request.
    pub sample: usize,
    /// All tokens of the completion so far; the last one is new.
    pub ids: &'a [u32],
    /// The new token's log-probability in nats, as recorded in the completion.
    pub logprob: f64,
    /// Why the completion ends, if this is its last token.
    pub stop_reason: Option<StopReason>,
    /// The token under the model itself, where the request wants that.
    pub report: Option<&'a TokenReport>,
}

/// An observer that sees nothing.
pub fn unobserved() -> impl FnMut(TokenSampled<'_>) -> ControlFlow<()> {
    |_| ControlFlow::Continue(())
}

/// A completion has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct CompletionEnded {
    /// The request's number.
    pub request: usize,
    /// Index of the sample within the request.
    pub sample: usize,
    /// What was sampled.
    pub completion: Completion,
}

/// What an engine has done, and how full its cache is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Tokens of all prompts that have entered.
    pub prompt_tokens: usize,
    /// Those of them that have run. The others were found in the cache.
    pub prefill_tokens: usize,
    /// Tokens sampled.
    pub sampled_tokens: usize,
    /// Pages of the cache that belong to prompts and sequences.
    pub pages_in_use: usize,
    /// Pages that belong to none and hold what a later prompt may begin with.
    pub pages_kept: usize,
    /// How many times a sequence gave its pages away and waited to be run again.
    pub preempted: usize,
}

/// How much memory and work the engine takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// The most bytes of keys and values. Less is taken where the requests cannot fill it.
    pub cache_bytes: usize,
    /// The most sequences that decode at the same time.
    pub batch_rows_max: usize,
    /// The most prompt tokens that run in one step beside the decoding sequences: a long prompt
    /// delays these by no more than that.
    pub prefill_tokens_per_step: usize,
    /// Positions per page of the cache. What prompts share is shared in whole pages.
    pub page_len: usize,
    /// Tokens of a completion for which a sequence gets pages when it enters. Further pages it takes
    /// as it grows; where there are none, the one that entered last gives way and is run again later.
    /// With `usize::MAX` every sequence enters with all it can need, and none ever gives way: right
    /// where completions are about as long as they may be, and few where they may be long.
    pub reserved_tokens: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 2 << 30,
            batch_rows_max: 128,
            prefill_tokens_per_step: 1024,
            page_len: 16,
            reserved_tokens: usize::MAX,
        }
    }
}

impl EngineOptions {
    pub(crate) fn validate(&self) -> Result<(), GenerateError> {
        let counts = [
            ("batch_rows_max", self.batch_rows_max),
            ("prefill_tokens_per_step", self.prefill_tokens_per_step),
            ("page_len", self.page_len),
            ("reserved_tokens", self.reserved_tokens),
        ];
        match counts.into_iter().find(|&(_, count)| count == 0) {
            None => Ok(()),
            Some((option, _)) => {
                Err(GenerateError::Option { option, found: 0.0, expected: "at least 1" })
            }
        }
    }
}
