//! A checkpoint that answers on the live page.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use hearken_collect::parts::Answerer;
use hearken_data::{HubSnapshot, Message};
use hearken_generate::{
    EngineHandle, EngineOptions, Sampling, SamplingRequest, TextPieces, Update, completion_text,
};
use hearken_model::chat::{BUILT_IN_FORMAT, Conversation, STOP, encode_prompt};
use hearken_model::{LoadOptions, Masters, Model, Tokenizer};
use hearken_run::seeds::Seeds;
use hearken_run::trained_model::load_tokenizer;
use serde_json::Map;

use crate::{device, output};

/// Tokens for which an answer has room from the start; most answers are much shorter than they may be.
const RESERVED_TOKENS: usize = 64;

/// A checkpoint with its tokenizer. One thread samples all answers, several at a time; a conversation
/// that goes on finds its earlier turns in the cache.
pub(super) struct LocalModel {
    name: String,
    positions: usize,
    tokenizer: Arc<Tokenizer>,
    sampling: Sampling,
    seeds: Seeds,
    answers: AtomicU64,
    engine: EngineHandle,
}

impl LocalModel {
    /// Reads the checkpoint in `dir`. Each answer is sampled with a seed of its own, derived from `seed`.
    pub(super) fn load(dir: &Path, temperature: f64, seed: u64, tokens: usize) -> Result<Self> {
        let (model, _) = Model::load(
            device::open(),
            dir,
            &LoadOptions { masters: Masters::Drop, ..LoadOptions::language_model() },
        )?;
        let tokenizer = load_tokenizer(dir)?;
        let tokenizer =
            tokenizer.with_context(|| format!("{}: has no tokenizer.json", dir.display()))?;
        if tokenizer.chat_templates().is_none() {
            output::say(&format!("{}: {BUILT_IN_FORMAT}", dir.display()));
        }
        let sampling = Sampling {
            temperature,
            top_p: 1.0,
            top_k: None,
            min_p: 0.0,
            max_new_tokens: tokens,
            stop: tokenizer.chat_templates().map_or(vec![STOP.to_owned()], |_| Vec::new()),
            ignore_eos: false,
        };
        let shown = HubSnapshot::of_path(dir)
            .map_or_else(|| dir.display().to_string(), |found| found.to_string());
        let name = format!("{shown}@{temperature}");
        let (positions, tokenizer) = (model.config().max_positions, Arc::new(tokenizer));
        let options =
            EngineOptions { reserved_tokens: RESERVED_TOKENS, ..EngineOptions::default() };
        let engine = EngineHandle::start(model, Some(Arc::clone(&tokenizer)), options)?;
        let (seeds, answers) = (Seeds::new(seed), AtomicU64::new(0));
        Ok(Self { name, positions, tokenizer, sampling, seeds, answers, engine })
    }

    /// The tokens of a conversation; an answer to it ends where the model's positions do.
    fn prompt(&self, conversation: &[Message]) -> Result<Vec<u32>, String> {
        let conversation = Conversation { messages: conversation, columns: &Map::new() };
        let encoded = encode_prompt(&self.tokenizer, conversation);
        let ids = encoded.map_err(|error| error.to_string())?;
        let (found, positions) = (ids.len(), self.positions);
        if positions <= found {
            return Err(format!(
                "the conversation has {found} tokens, which leaves no room for an answer: the model \
                 takes {positions} in all; start a new one"
            ));
        }
        Ok(ids)
    }
}

impl Answerer for LocalModel {
    fn model(&self) -> &str {
        &self.name
    }

    fn answer(
        &self,
        conversation: &[Message],
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<String, String> {
        let prompt_ids = self.prompt(conversation)?;
        let seed = self.seeds.derive("live", self.answers.fetch_add(1, Ordering::Relaxed), 0);
        let request = SamplingRequest { prompt_ids, samples: 1, seed };
        let stop = &self.sampling.stop;
        let mut pieces = TextPieces::of_answer(&self.tokenizer, stop);
        for update in self.engine.complete(request, self.sampling.clone()) {
            match update.map_err(|error| error.to_string())? {
                Update::Token { id, stop_reason, .. } => {
                    let text = pieces.push(id, stop_reason);
                    if !text.is_empty() && on_text(&text).is_break() {
                        // Without somebody to tell, the answer is not sampled any further.
                        return Err("the answer was broken off".to_owned());
                    }
                }
                Update::Ended { completion, .. } => {
                    let text = completion_text(&self.tokenizer, &completion, stop);
                    return Ok(text.trim().to_owned());
                }
            }
        }
        Err("no answer is asked for: it may have no token".to_owned())
    }
}
