//! Prompts that somebody has completed as they should be.

use hearken_data::{Content, Demonstration, DemonstrationContent, Role};

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
        let answered = |one: DemonstrationExample, whole: bool| {
            let ids = one.prompt().to_vec();
            let completion = one.ids[ids.len()..].to_vec();
            let content = asked(&record.content).filter(|_| whole);
            let fields = record.extra.clone();
            let prompt = PromptExample::new(ids, content.as_ref(), encoder, fields, one.source);
            Self { prompt, completion }
        };
        Ok(match DemonstrationExample::encode(record, encoder)? {
            Encoded::Dropped => Encoded::Dropped,
            Encoded::Whole(one) => Encoded::Whole(answered(one, true)),
            Encoded::Truncated(one) => Encoded::Truncated(answered(one, false)),
        })
    }

    fn rows(&self) -> usize {
        self.prompt.ids.len() + self.completion.len()
    }
}

/// What was asked; `None` where only tokens say where that ends.
fn asked(content: &DemonstrationContent) -> Option<Content> {
    match content {
        DemonstrationContent::Completion { prompt: Content::Ids(_), .. }
        | DemonstrationContent::Text(_)
        | DemonstrationContent::Ids { .. } => None,
        DemonstrationContent::Completion { prompt, .. } => Some(prompt.clone()),
        DemonstrationContent::Messages(messages) => {
            let first = messages.iter().position(|message| message.role == Role::Assistant);
            Some(Content::Messages(messages[..first.unwrap_or(messages.len())].to_vec()))
        }
    }
}
