//! Prompts that somebody has completed as they should be.

use hearken_data::{Content, Demonstration, DemonstrationContent, Message, Role};

use super::demonstration::DemonstrationExample;
use super::encoder::Encoder;
use super::example::{Encoded, Example};
use super::prompt::PromptExample;
use crate::error::EncodeError;

/// A demonstration as a prompt, which may be empty, and its completion.
#[derive(Clone, Debug, PartialEq)]
pub struct AnsweredPrompt {
    /// What a policy is asked, with the record's further columns.
    pub prompt: PromptExample,
    /// How it was completed.
    pub completion: Vec<u32>,
}

impl Example for AnsweredPrompt {
    type Record = Demonstration;

    fn encode(record: &Demonstration, encoder: &Encoder<'_>) -> Result<Encoded<Self>, EncodeError> {
        let answered = |one: DemonstrationExample| {
            let ids = one.prompt().to_vec();
            let text = prompt_text(&record.content).unwrap_or_else(|| {
                encoder.tokenizer.map_or_else(String::new, |tokenizer| tokenizer.decode(&ids))
            });
            let completion = one.ids[ids.len()..].to_vec();
            let (fields, source) = (record.extra.clone(), one.source);
            Self { prompt: PromptExample { ids, text, fields, source }, completion }
        };
        Ok(match DemonstrationExample::encode(record, encoder)? {
            Encoded::Dropped => Encoded::Dropped,
            Encoded::Whole(one) => Encoded::Whole(answered(one)),
            Encoded::Truncated(one) => Encoded::Truncated(answered(one)),
        })
    }

    fn rows(&self) -> usize {
        self.prompt.ids.len() + self.completion.len()
    }
}

/// The text of a prompt as [`PromptExample`] has it; `None` where only tokens say where it ends.
fn prompt_text(content: &DemonstrationContent) -> Option<String> {
    let asked = |messages: &[Message]| {
        let asked = messages.iter().rfind(|message| message.role == Role::User);
        asked.map_or_else(String::new, |message| message.content.clone())
    };
    match content {
        DemonstrationContent::Completion { prompt: Content::Text(text), .. } => Some(text.clone()),
        DemonstrationContent::Completion { prompt: Content::Messages(messages), .. } => {
            Some(asked(messages))
        }
        DemonstrationContent::Messages(messages) => {
            let first = messages.iter().position(|message| message.role == Role::Assistant);
            Some(asked(&messages[..first.unwrap_or(messages.len())]))
        }
        DemonstrationContent::Completion { prompt: Content::Ids(_), .. }
        | DemonstrationContent::Text(_)
        | DemonstrationContent::Ids { .. } => None,
    }
}
