//! Text, messages and ids as tokens of one model.

use std::path::Path;

use hearken_config::DataConfig;
use hearken_data::{Content, Message, Source};
use hearken_model::ModelConfig;
use hearken_model::chat::{
    ChatTokens, Conversation, encode_completion, encode_conversation, encode_prompt,
};
use hearken_model::steps::{StepTokens, encode_steps, with_first_token};
use hearken_model::tokenizer::{Bos, SpecialText, Tokenizer, TokenizerError};
use serde_json::{Map, Value};

use super::length::LengthLimit;
use crate::error::{EncodeError, TrainError};

/// Makes tokens of what records hold.
#[derive(Clone, Copy, Debug)]
pub struct Encoder<'a> {
    /// The model's tokenizer; records of token ids do without.
    pub tokenizer: Option<&'a Tokenizer>,
    /// The size of the model's vocabulary.
    pub vocab: usize,
    /// How long an example may be.
    pub length: LengthLimit,
    /// Whether only completions are trained on, where prompt and completion are known.
    pub completion_only: bool,
    /// What stands behind each step of a solution.
    pub step_separator: &'a str,
}

impl<'a> Encoder<'a> {
    /// The encoder of the model in `dir` for the data that `config` describes.
    ///
    /// # Errors
    /// If the model's config.json is not usable.
    pub fn for_model(
        dir: &Path,
        tokenizer: Option<&'a Tokenizer>,
        config: &'a DataConfig,
    ) -> Result<Self, TrainError> {
        let model = ModelConfig::read(dir)?;
        let tokens_max = config.tokens_max.unwrap_or(model.max_positions);
        Ok(Self {
            tokenizer,
            vocab: model.vocab,
            length: LengthLimit { tokens_max, truncation: config.truncation },
            completion_only: config.completion_only,
            step_separator: &config.step_separator,
        })
    }

    /// The tokens of a prompt; of messages with the header that an answer follows, as the model's chat
    /// template or the built-in format has it. `columns` are the further ones of its record, which a
    /// template reads.
    ///
    /// # Errors
    /// If the tokenizer is missing or refuses, a token is unknown, or there is none.
    pub fn prompt(
        &self,
        prompt: &Content,
        columns: &Map<String, Value>,
        at: &Source,
    ) -> Result<Vec<u32>, EncodeError> {
        let ids = match prompt {
            Content::Text(text) => self.text(text, at)?,
            Content::Ids(ids) => ids.clone(),
            Content::Messages(messages) => {
                let conversation = Conversation { messages, columns };
                encode_prompt(self.tokenizer(at)?, conversation).map_err(refused(at))?
            }
        };
        self.check(ids, "the prompt", at)
    }

    /// Refuses no tokens, and tokens that the model does not have.
    pub(super) fn check(
        &self,
        ids: Vec<u32>,
        field: &'static str,
        at: &Source,
    ) -> Result<Vec<u32>, EncodeError> {
        if ids.is_empty() {
            return Err(EncodeError::NoTokens { at: at.clone(), field });
        }
        match ids.iter().find(|&&id| self.vocab <= id as usize) {
            None => Ok(ids),
            Some(&id) => Err(EncodeError::UnknownToken { at: at.clone(), id, vocab: self.vocab }),
        }
    }

    /// A text that begins a sequence.
    pub(super) fn text(&self, text: &str, at: &Source) -> Result<Vec<u32>, EncodeError> {
        self.tokenizer(at)?.encode(text, Bos::AsConfigured).map_err(refused(at))
    }

    /// A text that follows other tokens.
    pub(super) fn continuation(&self, text: &str, at: &Source) -> Result<Vec<u32>, EncodeError> {
        let encoded = self.tokenizer(at)?.encode_continuation(text, SpecialText::Parsed);
        encoded.map_err(refused(at))
    }

    /// Steps behind a prompt.
    pub(super) fn steps(
        &self,
        prompt: &Content,
        steps: &[String],
        columns: &Map<String, Value>,
        at: &Source,
    ) -> Result<StepTokens, EncodeError> {
        let mut ids = self.prompt(prompt, columns, at)?;
        let tokenizer = self.tokenizer(at)?;
        if let Content::Text(_) = prompt {
            ids = with_first_token(tokenizer, ids);
        }
        encode_steps(tokenizer, &ids, steps, self.step_separator).map_err(refused(at))
    }

    /// A whole conversation.
    pub(super) fn conversation(
        &self,
        messages: &[Message],
        columns: &Map<String, Value>,
        at: &Source,
    ) -> Result<ChatTokens, EncodeError> {
        let conversation = Conversation { messages, columns };
        encode_conversation(self.tokenizer(at)?, conversation).map_err(refused(at))
    }

    /// Messages and those that answer them, with how many tokens the first are.
    pub(super) fn completion(
        &self,
        prompt: &[Message],
        completion: &[Message],
        columns: &Map<String, Value>,
        at: &Source,
    ) -> Result<(ChatTokens, usize), EncodeError> {
        let messages = [prompt, completion].concat();
        let conversation = Conversation { messages: &messages, columns };
        encode_completion(self.tokenizer(at)?, conversation, prompt.len()).map_err(refused(at))
    }

    /// Appends the end token, where the tokenizer has one and the tokens do not end in one.
    pub(super) fn end(&self, ids: &mut Vec<u32>) {
        let Some(tokenizer) = self.tokenizer else { return };
        let ended = ids.last().is_some_and(|last| tokenizer.eos().contains(last));
        if !ended {
            ids.extend(tokenizer.eos_for_training());
        }
    }

    fn tokenizer(&self, at: &Source) -> Result<&Tokenizer, EncodeError> {
        self.tokenizer.ok_or_else(|| EncodeError::NoTokenizer { at: at.clone() })
    }
}

fn refused(at: &Source) -> impl FnOnce(TokenizerError) -> EncodeError {
    let at = at.clone();
    move |source| EncodeError::Tokenizer { at, source: Box::new(source) }
}
