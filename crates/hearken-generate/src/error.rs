//! Why sampling fails.

use hearken_model::AdapterError;

/// Why an engine on a thread of its own has not taken an adapter.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// It does not fit the engine's model.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// The thread has ended.
    #[error("{}", GenerateError::Gone)]
    Gone,
}

/// Why completions could not be sampled.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GenerateError {
    /// An option is out of its range.
    #[error("{option} is {found}; expected {expected}")]
    Option {
        /// The option.
        option: &'static str,
        /// Its value.
        found: f64,
        /// What it may be.
        expected: &'static str,
    },
    /// A bias is for a token that the model does not know, or is no number.
    #[error("the bias of token {id}: expected a number for an id below {vocab}")]
    Bias {
        /// The token.
        id: u32,
        /// The model's vocabulary.
        vocab: usize,
    },
    /// A stop sequence is the empty text.
    #[error("a stop sequence is empty; expected at least one character")]
    EmptyStop,
    /// Stop sequences are texts, and there is no tokenizer to make text of tokens.
    #[error("stop sequences need a tokenizer, and the model has none")]
    StopWithoutTokenizer,
    /// A request names an adapter that the engine does not have.
    #[error("the engine has no such adapter")]
    NoAdapter,
    /// The model has no language-model head.
    #[error("the model is a scorer; expected a language model")]
    NotALanguageModel,
    /// Two models do not know the same tokens.
    #[error(
        "the second model of a mixture has a vocabulary of {found}; expected {expected}, the first one's"
    )]
    Vocabularies {
        /// The second model's.
        found: usize,
        /// The first model's.
        expected: usize,
    },
    /// A prompt has no tokens.
    #[error("request {request}: the prompt is empty; expected at least one token")]
    EmptyPrompt {
        /// Index of the request.
        request: usize,
    },
    /// A prompt holds a token that the model does not know.
    #[error("request {request}: the prompt holds token {id}; expected ids below {vocab}")]
    UnknownToken {
        /// Index of the request.
        request: usize,
        /// The token.
        id: u32,
        /// The model's vocabulary.
        vocab: usize,
    },
    /// A prompt takes all positions of the model, or more.
    #[error(
        "request {request}: the prompt has {tokens} tokens, which leaves no room for a completion: the model has {positions} positions in all"
    )]
    PromptTooLong {
        /// Index of the request.
        request: usize,
        /// Its prompt's length.
        tokens: usize,
        /// The model's positions.
        positions: usize,
    },
    /// A prompt and the completion that is read have more tokens than the model has positions.
    #[error(
        "sequence {request}: prompt and completion have {tokens} tokens; the model has {positions} positions"
    )]
    TooLong {
        /// Index of the sequence.
        request: usize,
        /// Tokens of both.
        tokens: usize,
        /// The model's positions.
        positions: usize,
    },
    /// A single sequence would not fit into the cache.
    #[error(
        "request {request}: its {tokens} tokens need {needed} bytes of keys and values; cache_bytes is {found}"
    )]
    CacheTooSmall {
        /// Index of the request.
        request: usize,
        /// Prompt and longest completion.
        tokens: usize,
        /// The bytes they need.
        needed: usize,
        /// The bytes there may be.
        found: usize,
    },
    /// The device has no room for the cache.
    #[error("the cache of keys and values: {0}")]
    OutOfMemory(#[from] hearken_tensor::device::OutOfMemory),
    /// The model's logits are no distribution.
    #[error(
        "request {request}, sample {sample}: logit {id} of token {token} is {found}; the weights have diverged"
    )]
    Logits {
        /// Index of the request.
        request: usize,
        /// Index of the sample.
        sample: usize,
        /// Index of the token within the completion.
        token: usize,
        /// The first offending vocabulary entry.
        id: usize,
        /// What was found: NaN, ∞, or −∞ where all are.
        found: f32,
    },
    /// The thread that samples has ended.
    #[error("the model does not answer any more")]
    Gone,
    /// The observer asked to stop. What was sampled until then has been reported to it.
    #[error("sampling was stopped after {tokens} tokens")]
    Stopped {
        /// Tokens sampled by then, over all sequences.
        tokens: usize,
    },
}

impl GenerateError {
    /// The request that is to blame, if it is one.
    pub fn request(&self) -> Option<usize> {
        match *self {
            Self::EmptyPrompt { request }
            | Self::UnknownToken { request, .. }
            | Self::PromptTooLong { request, .. }
            | Self::TooLong { request, .. }
            | Self::CacheTooSmall { request, .. }
            | Self::Logits { request, .. } => Some(request),
            Self::Option { .. }
            | Self::Bias { .. }
            | Self::EmptyStop
            | Self::StopWithoutTokenizer
            | Self::NoAdapter
            | Self::NotALanguageModel
            | Self::Vocabularies { .. }
            | Self::OutOfMemory(_)
            | Self::Gone
            | Self::Stopped { .. } => None,
        }
    }
}
