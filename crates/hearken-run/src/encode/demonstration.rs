//! Demonstrations as tokens with a loss mask.

use hearken_data::{Content, Demonstration, DemonstrationContent, Source};
use hearken_model::Tokenizer;
use serde_json::Map;

use super::encoder::Encoder;
use super::example::{Encoded, Example};
use super::length::KeptSide;
use crate::error::EncodeError;

/// A sequence and which of its tokens are trained on.
#[derive(Clone, Debug, PartialEq)]
pub struct DemonstrationExample {
    /// The tokens.
    pub ids: Vec<u32>,
    /// True where the token is trained on; as long as `ids`. The first token has nothing before it
    /// that could predict it, and never counts.
    pub supervised: Vec<bool>,
    /// Where the record comes from.
    pub source: Source,
}

impl DemonstrationExample {
    /// The tokens that are predicted and count, by their index in `ids`.
    pub fn targets(&self) -> impl Iterator<Item = usize> {
        (1..self.ids.len()).filter(|&index| self.supervised[index])
    }

    /// How many tokens count.
    pub fn target_count(&self) -> usize {
        self.targets().count()
    }

    /// The tokens before the first that counts: what a completion is sampled from.
    pub fn prompt(&self) -> &[u32] {
        let first = self.targets().next().unwrap_or(self.ids.len());
        &self.ids[..first]
    }
}

impl Example for DemonstrationExample {
    type Record = Demonstration;

    fn encode(record: &Demonstration, encoder: &Encoder<'_>) -> Result<Encoded<Self>, EncodeError> {
        let at = &record.source;
        let (ids, mut supervised) = tokens(record, encoder)?;
        let mut ids = encoder.check(ids, "the record", at)?;
        let kept = encoder.length.keep(ids.len(), at)?;
        match &kept {
            KeptSide::Nothing => return Ok(Encoded::Dropped),
            KeptSide::Part(range) => {
                ids = ids[range.clone()].to_vec();
                supervised = supervised[range.clone()].to_vec();
            }
            KeptSide::Whole => {}
        }
        let example = Self { ids, supervised, source: at.clone() };
        let whole = kept == KeptSide::Whole;
        if example.target_count() == 0 {
            if !whole {
                return Ok(Encoded::Dropped);
            }
            let found = example.ids.len();
            return Err(EncodeError::NothingSupervised { at: at.clone(), found });
        }
        Ok(if whole { Encoded::Whole(example) } else { Encoded::Truncated(example) })
    }

    fn rows(&self) -> usize {
        self.ids.len()
    }
}

/// The tokens of a demonstration and its loss mask.
fn tokens(
    record: &Demonstration,
    encoder: &Encoder<'_>,
) -> Result<(Vec<u32>, Vec<bool>), EncodeError> {
    let Demonstration { content, extra: columns, source: at } = record;
    match content {
        DemonstrationContent::Ids { input_ids, loss_mask } => {
            Ok((input_ids.clone(), loss_mask.clone()))
        }
        DemonstrationContent::Text(text) => {
            let mut ids = encoder.text(text, at)?;
            encoder.end(&mut ids);
            let supervised = vec![true; ids.len()];
            Ok((ids, supervised))
        }
        DemonstrationContent::Messages(messages) => {
            let chat = encoder.conversation(messages, columns, at)?;
            Ok((chat.ids, chat.supervised))
        }
        DemonstrationContent::Completion { prompt, completion } => {
            let (ids, prompt_len) = match (prompt, completion) {
                (Content::Messages(prompt), Content::Messages(completion)) => {
                    let chat = if encoder.completion_only {
                        encoder.completion(prompt, completion, columns, at)?.0
                    } else {
                        let messages = [prompt.as_slice(), completion].concat();
                        encoder.conversation(&messages, columns, at)?
                    };
                    return Ok((chat.ids, chat.supervised));
                }
                _ => joined(prompt, completion, encoder, at)?,
            };
            let first = if encoder.completion_only { prompt_len } else { 0 };
            let supervised = (0..ids.len()).map(|index| first <= index).collect();
            Ok((ids, supervised))
        }
    }
}

/// Prompt and completion as one sequence, and the length of the prompt. Text gets an end token;
/// ids stay as they are.
pub(super) fn joined(
    prompt: &Content,
    completion: &Content,
    encoder: &Encoder<'_>,
    at: &Source,
) -> Result<(Vec<u32>, usize), EncodeError> {
    let mut ids = encoder.prompt(prompt, &Map::new(), at)?;
    let prompt_len = ids.len();
    match completion {
        Content::Text(text) => {
            ids.extend(encoder.continuation(text, at)?);
            if ids.len() == prompt_len {
                // A prompt that ends in an end token is no completion that does.
                ids.extend(encoder.tokenizer.and_then(Tokenizer::eos_for_training));
            } else {
                encoder.end(&mut ids);
            }
        }
        Content::Ids(completion) => ids.extend(completion),
        Content::Messages(_) => unreachable!("a prompt of messages has a completion of messages"),
    }
    Ok((ids, prompt_len))
}
