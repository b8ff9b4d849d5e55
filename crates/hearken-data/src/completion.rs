//! What a policy produced for one prompt.

use serde::{Deserialize, Serialize};

/// Why a completion ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The policy sampled its end-of-text token.
    EndOfText,
    /// The text ends in one of the caller's stop sequences.
    StopSequence,
    /// The limit on the number of tokens cut it off.
    Length,
    /// It was cut off where the model has no further positions, before that limit.
    Positions,
}

impl StopReason {
    /// Whether the policy ended the completion itself: by its end token or by a stop sequence.
    pub fn is_end(self) -> bool {
        match self {
            Self::EndOfText | Self::StopSequence => true,
            Self::Length | Self::Positions => false,
        }
    }
}

/// The tokens that a policy produced for one prompt.
///
/// ```
/// use hearken_data::{Completion, StopReason};
///
/// let completion =
///     Completion { ids: vec![7, 0], logprobs: vec![-0.5, -0.25], stop_reason: StopReason::EndOfText };
/// let line = serde_json::to_string(&completion)?;
/// assert_eq!(line, r#"{"ids":[7,0],"logprobs":[-0.5,-0.25],"stop_reason":"end_of_text"}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Completion {
    /// The sampled tokens, the end-of-text token included where it was sampled.
    pub ids: Vec<u32>,
    /// The log-probability of each token as recorded when it was sampled, under the sampling
    /// temperature (truncation by top-p is not accounted for). Nats; as many as `ids`.
    pub logprobs: Vec<f64>,
    /// Why the completion ends.
    pub stop_reason: StopReason,
}
