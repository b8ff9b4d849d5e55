//! Prompts that a policy is asked to complete.

use hearken_data::{Content, Message, Prompt, Source};
use serde_json::{Map, Value};

use super::encoder::Encoder;
use super::example::{Encoded, Example};
use super::length::KeptSide;
use crate::error::EncodeError;

/// A prompt as tokens, as text, and with what else its record says.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptExample {
    /// The tokens; at least one.
    pub ids: Vec<u32>,
    /// The text that reward sources see: of text what the record has, of ids and of messages what the
    /// tokens decode to. Where the prompt was cut, what is left of it.
    pub text: String,
    /// The messages, where the record has such and none of their tokens were cut.
    pub messages: Option<Vec<Message>>,
    /// Further columns of the record.
    pub fields: Map<String, Value>,
    /// Where the record comes from.
    pub source: Source,
}

impl PromptExample {
    /// The prompt of these tokens; `content` is what they were made of, if none of it was cut.
    pub(super) fn new(
        ids: Vec<u32>,
        content: Option<&Content>,
        encoder: &Encoder<'_>,
        fields: Map<String, Value>,
        source: Source,
    ) -> Self {
        let decoded = || encoder.tokenizer.map_or_else(String::new, |of| of.decode(&ids));
        let (text, messages) = match content {
            Some(Content::Text(text)) => (text.clone(), None),
            Some(Content::Messages(messages)) => (decoded(), Some(messages.clone())),
            Some(Content::Ids(_)) | None => (decoded(), None),
        };
        Self { ids, text, messages, fields, source }
    }
}

impl Example for PromptExample {
    type Record = Prompt;

    fn encode(record: &Prompt, encoder: &Encoder<'_>) -> Result<Encoded<Self>, EncodeError> {
        let at = &record.source;
        let mut ids = encoder.prompt(&record.prompt, &record.extra, at)?;
        let kept = encoder.length.keep(ids.len(), at)?;
        match &kept {
            KeptSide::Nothing => return Ok(Encoded::Dropped),
            KeptSide::Part(range) => ids = ids[range.clone()].to_vec(),
            KeptSide::Whole => {}
        }
        let whole = kept == KeptSide::Whole;
        let content = Some(&record.prompt).filter(|_| whole);
        let example = Self::new(ids, content, encoder, record.extra.clone(), at.clone());
        Ok(if whole { Encoded::Whole(example) } else { Encoded::Truncated(example) })
    }

    fn rows(&self) -> usize {
        self.ids.len()
    }
}
