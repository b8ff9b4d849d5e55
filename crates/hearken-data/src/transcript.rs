//! Transcripts as HH-RLHF writes them: a whole conversation in one text, each turn behind
//! `"\n\nHuman:"` or `"\n\nAssistant:"`.
//!
//! A stray `Human:` inside a turn, without the blank line before it, is text.

use serde::{Deserialize, Serialize};

use crate::content::{Message, Role};

pub(crate) const HUMAN: &str = "\n\nHuman:";
pub(crate) const ASSISTANT: &str = "\n\nAssistant:";

/// What a pair of transcripts becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TranscriptForm {
    /// Text as it stands: the prompt ends with the last `"\n\nAssistant:"`, the completion is what
    /// follows, its leading space included.
    #[default]
    Text,
    /// Messages of user and assistant, without the one space that follows a colon, for models with
    /// a chat template.
    Messages,
}

pub(crate) fn is_transcript(text: &str) -> bool {
    text.starts_with(HUMAN)
}

/// The turns of a prompt; the last `"\n\nAssistant:"`, which opens the completion, is none.
pub(crate) fn prompt_turns(prompt: &str) -> Vec<Message> {
    let told = prompt.strip_suffix(ASSISTANT).expect("a prompt is split after its last turn");
    turns(told).expect("a prompt starts with a turn")
}

/// The turns of a transcript in the manner of HH-RLHF, without the one space behind each colon.
/// `None` where it does not start with a turn.
pub(crate) fn turns(transcript: &str) -> Option<Vec<Message>> {
    let mut rest = transcript;
    let mut turns = Vec::new();
    while !rest.is_empty() {
        let (role, text) = match (rest.strip_prefix(HUMAN), rest.strip_prefix(ASSISTANT)) {
            (Some(text), _) => (Role::User, text),
            (_, Some(text)) => (Role::Assistant, text),
            _ => return None,
        };
        let ends = [HUMAN, ASSISTANT].into_iter().filter_map(|marker| text.find(marker));
        let end = ends.min().unwrap_or(text.len());
        let said = &text[..end];
        turns.push(turn(role, said));
        rest = &text[end..];
    }
    Some(turns)
}

/// One turn, without the space behind its colon.
pub(crate) fn turn(role: Role, text: &str) -> Message {
    Message::new(role, text.strip_prefix(' ').unwrap_or(text))
}
