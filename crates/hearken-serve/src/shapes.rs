//! Parts of answers that several have.

use std::collections::BTreeMap;

use hearken_data::{Completion, StopReason};
use hearken_generate::TokenReport;
use schemars::JsonSchema;
use serde::Serialize;

use crate::weights::Weights;

/// The counts of tokens of an answer that comes in pieces.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum ChunkUsage {
    /// They come with the last piece: null.
    Later(()),
    /// Of all pieces.
    Counts(Usage),
}

/// Counts of tokens.
#[expect(clippy::struct_field_names, reason = "the names that clients know")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Usage {
    pub(crate) prompt_tokens: usize,
    pub(crate) completion_tokens: usize,
    pub(crate) total_tokens: usize,
}

impl Usage {
    pub(crate) fn new(prompt_tokens: usize, completion_tokens: usize) -> Self {
        let total_tokens = prompt_tokens + completion_tokens;
        Self { prompt_tokens, completion_tokens, total_tokens }
    }
}

/// Why a completion ended, in OpenAI's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Finish {
    /// The model was done, or a text of `stop` came.
    Stop,
    /// The limit on tokens, or the end of the model's positions.
    Length,
    /// The model calls tools.
    ToolCalls,
}

impl From<StopReason> for Finish {
    fn from(reason: StopReason) -> Self {
        match reason {
            StopReason::EndOfText | StopReason::StopSequence => Self::Stop,
            StopReason::Length | StopReason::Positions => Self::Length,
        }
    }
}

/// A token with its log-probability in nats.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct TokenLogprob {
    token: String,
    logprob: f64,
    bytes: Vec<u8>,
}

/// A token of an answer, with the likeliest ones in its place.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct ChatToken {
    token: String,
    logprob: f64,
    bytes: Vec<u8>,
    top_logprobs: Vec<TokenLogprob>,
}

/// The log-probabilities of an answer.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub(crate) struct ChatLogprobs {
    pub(crate) content: Vec<ChatToken>,
}

impl ChatToken {
    pub(crate) fn new(weights: &Weights, id: u32, report: &TokenReport) -> Self {
        let (token, bytes) = weights.token(id);
        let likeliest = report.likeliest.iter().map(|&(id, logprob)| {
            let (token, bytes) = weights.token(id);
            TokenLogprob { token, logprob, bytes }
        });
        Self { token, logprob: report.logprob, bytes, top_logprobs: likeliest.collect() }
    }
}

/// The log-probabilities of a completion.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub(crate) struct CompletionLogprobs {
    tokens: Vec<String>,
    token_logprobs: Vec<f64>,
    /// For each token the likeliest ones in its place, by their texts.
    top_logprobs: Vec<BTreeMap<String, f64>>,
    /// Where each token begins, in characters of the completion.
    text_offset: Vec<usize>,
}

impl CompletionLogprobs {
    /// Appends a token that begins at `offset`; gives where it ends.
    pub(crate) fn push(
        &mut self,
        weights: &Weights,
        id: u32,
        report: &TokenReport,
        offset: usize,
    ) -> usize {
        let name = |id| {
            let (text, bytes) = weights.token(id);
            match text.contains(char::REPLACEMENT_CHARACTER) {
                true => format!("bytes:{}", bytes.escape_ascii()),
                false => text,
            }
        };
        let token = name(id);
        let end = offset + token.chars().count();
        self.tokens.push(token);
        self.token_logprobs.push(report.logprob);
        let likeliest = report.likeliest.iter().map(|&(id, logprob)| (name(id), logprob));
        self.top_logprobs.push(likeliest.collect());
        self.text_offset.push(offset);
        end
    }

    /// What has come since the last time.
    pub(crate) fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}

/// The tokens of a completion, where that is wanted.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub(crate) struct TokenIds {
    /// End tokens included.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_ids: Option<Vec<u32>>,
    /// Under the sampling temperature; at temperature 0 under 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    sampled_logprobs: Option<Vec<f64>>,
}

impl TokenIds {
    pub(crate) fn of(completion: Completion, is_wanted: bool) -> Self {
        let Completion { ids, logprobs, .. } = completion;
        match is_wanted {
            true => Self { token_ids: Some(ids), sampled_logprobs: Some(logprobs) },
            false => Self::default(),
        }
    }
}
