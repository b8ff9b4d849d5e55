//! Transcripts as HH-RLHF writes them: a whole conversation in one text, each turn behind
//! `"\n\nHuman:"` or `"\n\nAssistant:"`.
//!
//! A stray `Human:` inside a turn, without the blank line before it, is text.

use serde::{Deserialize, Serialize};

use crate::bad_record::FieldError;
use crate::content::{Content, Message, Role};
use crate::preference::Pair;
use crate::row::{Row, unexpected};

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

/// Splits two transcripts at their last `"\n\nAssistant:"`.
pub(crate) fn split_pair(row: &Row<'_>, chosen: &str, rejected: &str) -> Result<Pair, FieldError> {
    let (prompt, chosen) = split(row, "chosen", chosen)?;
    let (rejected_prompt, rejected) = split(row, "rejected", rejected)?;
    if prompt != rejected_prompt {
        let shared = prompt.bytes().zip(rejected_prompt.bytes()).take_while(|(l, r)| l == r);
        return Err(FieldError::DifferentPrompts {
            chosen: row.name("chosen"),
            rejected: row.name("rejected"),
            difference: format!(
                "up to the last turn of the assistant, the transcripts are equal for only {} bytes",
                shared.count()
            ),
        });
    }
    for (field, completion) in [("chosen", chosen), ("rejected", rejected)] {
        if completion.trim().is_empty() {
            let expected = "text after the last \"\\n\\nAssistant:\"";
            return Err(FieldError::Empty { field: row.name(field), expected });
        }
    }
    Ok(match row.options().transcripts {
        TranscriptForm::Text => Pair {
            prompt: Some(Content::Text(prompt.into())),
            chosen: Content::Text(chosen.into()),
            rejected: Content::Text(rejected.into()),
        },
        TranscriptForm::Messages => Pair {
            prompt: Some(Content::Messages(messages(prompt))),
            chosen: Content::Messages(vec![turn(Role::Assistant, chosen)]),
            rejected: Content::Messages(vec![turn(Role::Assistant, rejected)]),
        },
    })
}

/// The prompt, up to and including the last `"\n\nAssistant:"`, and the completion.
fn split<'t>(row: &Row<'_>, field: &str, text: &'t str) -> Result<(&'t str, &'t str), FieldError> {
    let error = |found: &str| {
        let expected = "a transcript that starts with \"\\n\\nHuman:\" and ends with a turn of \
                        the assistant";
        Err(unexpected(row.name(field), found.into(), expected.into()))
    };
    if !is_transcript(text) {
        return error("text that does not start with \"\\n\\nHuman:\"");
    }
    let Some(last) = text.rfind(ASSISTANT) else {
        return error("no \"\\n\\nAssistant:\" in it");
    };
    let (prompt, completion) = text.split_at(last + ASSISTANT.len());
    if completion.contains(HUMAN) {
        return error("a transcript that ends with a turn of the human");
    }
    Ok((prompt, completion))
}

/// The turns of a prompt; the last `"\n\nAssistant:"`, which opens the completion, is none.
fn messages(prompt: &str) -> Vec<Message> {
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

fn turn(role: Role, text: &str) -> Message {
    Message::new(role, text.strip_prefix(' ').unwrap_or(text))
}
