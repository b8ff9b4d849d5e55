//! A checkpoint that answers on the live page.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use hearken_collect::parts::Answerer;
use hearken_data::{Message, StopReason};
use hearken_generate::{Event, Request, Sampling, completion_text, generate};
use hearken_model::chat::{STOP, encode_messages};
use hearken_model::tokenizer::TextStream;
use hearken_model::{LoadOptions, Model, Tokenizer};
use hearken_tensor::Cpu;
use hearken_train::seeds::Seeds;
use hearken_train::trained_model::load_tokenizer;

use crate::commands::chat::held_back;

/// A checkpoint with its tokenizer.
pub(super) struct LocalModel {
    name: String,
    model: Model<Cpu>,
    tokenizer: Tokenizer,
    sampling: Sampling,
    seeds: Seeds,
    answers: AtomicU64,
}

impl LocalModel {
    /// Reads the checkpoint in `dir`. Each answer is sampled with a seed of its own, derived from `seed`.
    pub(super) fn load(dir: &Path, (temperature, seed): (f64, u64), tokens: usize) -> Result<Self> {
        let (model, _) = Model::load(Cpu::new(), dir, &LoadOptions::language_model())?;
        let tokenizer = load_tokenizer(dir)?;
        let tokenizer =
            tokenizer.with_context(|| format!("{}: has no tokenizer.json", dir.display()))?;
        let sampling = Sampling {
            temperature,
            top_p: 1.0,
            top_k: None,
            min_p: 0.0,
            max_new_tokens: tokens,
            stop: vec![STOP.to_owned()],
            ignore_eos: false,
        };
        let name = format!("{}@{temperature}", dir.display());
        let seeds = Seeds::new(seed);
        Ok(Self { name, model, tokenizer, sampling, seeds, answers: AtomicU64::new(0) })
    }

    /// The tokens of a conversation, and how an answer to it is sampled: as far as the model's
    /// positions reach.
    fn prompt(&self, conversation: &[Message]) -> Result<(Vec<u32>, Sampling), String> {
        let encoded = encode_messages(&self.tokenizer, conversation, true);
        let ids = encoded.map_err(|error| error.to_string())?.ids;
        let positions = self.model.config().max_positions;
        let room = positions.saturating_sub(ids.len());
        if room == 0 {
            let found = ids.len();
            return Err(format!(
                "the conversation has {found} tokens, which leaves no room for an answer: the model \
                 takes {positions} in all; start a new one"
            ));
        }
        let max_new_tokens = self.sampling.max_new_tokens.min(room);
        Ok((ids, Sampling { max_new_tokens, ..self.sampling.clone() }))
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
        let (prompt_ids, sampling) = self.prompt(conversation)?;
        let seed = self.seeds.derive("live", self.answers.fetch_add(1, Ordering::Relaxed), 0);
        let request = Request { prompt_ids, samples: 1, seed };
        let mut pieces = Pieces::new(self.tokenizer.stream(), &self.sampling.stop);
        let completions =
            generate(&self.model, Some(&self.tokenizer), &[request], &sampling, &mut |event| {
                pieces.take(&event, on_text)
            });
        let completions = completions.map_err(|error| error.to_string())?;
        let completion = completions.iter().flatten().next().ok_or("the model said nothing")?;
        let text = completion_text(&self.tokenizer, completion, &self.sampling.stop);
        Ok(text.trim().to_owned())
    }
}

/// The text of a completion piece by piece, without what ends it.
struct Pieces<'a> {
    stream: TextStream<'a>,
    stop: &'a [String],
    held: String,
    is_start: bool,
}

impl<'a> Pieces<'a> {
    fn new(stream: TextStream<'a>, stop: &'a [String]) -> Self {
        Self { stream, stop, held: String::new(), is_start: true }
    }

    fn take(
        &mut self,
        event: &Event<'_>,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let Some(&id) = event.ids.last() else { return ControlFlow::Continue(()) };
        if event.stop_reason == Some(StopReason::EndOfText) {
            return ControlFlow::Continue(());
        }
        if let Some(piece) = self.stream.push(id) {
            self.held.push_str(&piece);
        }
        let end = self.stop.iter().filter_map(|stop| self.held.find(stop)).min();
        let ready = end.unwrap_or_else(|| self.held.len() - held_back(&self.held, self.stop));
        let ready: String = self.held.drain(..ready).collect();
        let shown = if self.is_start { ready.trim_start() } else { &ready };
        if shown.is_empty() {
            return ControlFlow::Continue(());
        }
        self.is_start = false;
        on_text(shown)
    }
}
