//! Prompts that a policy is asked to complete.

use hearken_data::{Content, Prompt, Role, Source};
use serde_json::{Map, Value};

use super::encoder::Encoder;
use super::example::{Encoded, Example};
use super::length::Kept;
use crate::error::EncodeError;

/// A prompt as tokens, as text, and with what else its record says.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptExample {
    /// The tokens; at least one.
    pub ids: Vec<u32>,
    /// The text that reward sources see: of messages the last of the user, of ids what they decode
    /// to.
    pub text: String,
    /// Further columns of the record.
    pub fields: Map<String, Value>,
    /// Where the record comes from.
    pub source: Source,
}

impl Example for PromptExample {
    type Record = Prompt;

    fn encode(record: &Prompt, encoder: &Encoder<'_>) -> Result<Encoded<Self>, EncodeError> {
        let at = &record.source;
        let mut ids = encoder.prompt(&record.prompt, at)?;
        let kept = encoder.length.keep(ids.len(), at)?;
        match &kept {
            Kept::Nothing => return Ok(Encoded::Dropped),
            Kept::Part(range) => ids = ids[range.clone()].to_vec(),
            Kept::Whole => {}
        }
        let text = match &record.prompt {
            Content::Text(text) => text.clone(),
            Content::Ids(ids) => {
                encoder.tokenizer.map_or_else(String::new, |tokenizer| tokenizer.decode(ids))
            }
            Content::Messages(messages) => {
                let asked = messages.iter().rfind(|message| message.role == Role::User);
                asked.map_or_else(String::new, |message| message.content.clone())
            }
        };
        let example = Self { ids, text, fields: record.extra.clone(), source: at.clone() };
        let whole = kept == Kept::Whole;
        Ok(if whole { Encoded::Whole(example) } else { Encoded::Truncated(example) })
    }

    fn rows(&self) -> usize {
        self.ids.len()
    }
}
