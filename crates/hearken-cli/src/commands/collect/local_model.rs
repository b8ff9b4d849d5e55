//! A checkpoint that answers on the live page.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use anyhow::{Context as _, Result};
use hearken_collect::parts::Answerer;
use hearken_data::{Completion, Message, StopReason};
use hearken_generate::{Engine, EngineOptions, GenerateError, Request, Sampling, completion_text};
use hearken_model::chat::{STOP, encode_messages};
use hearken_model::tokenizer::TextStream;
use hearken_model::{LoadOptions, Masters, Model, Tokenizer};
use hearken_tensor::Cpu;
use hearken_train::seeds::Seeds;
use hearken_train::trained_model::load_tokenizer;

use crate::commands::chat::held_back;
use crate::device;

/// A checkpoint with its tokenizer. One thread samples all answers, several at a time; a conversation
/// that goes on finds its earlier turns in the cache.
pub(super) struct LocalModel {
    name: String,
    positions: usize,
    tokenizer: Arc<Tokenizer>,
    sampling: Sampling,
    seeds: Seeds,
    answers: AtomicU64,
    asked: Sender<Asked>,
}

/// A conversation to answer.
struct Asked {
    prompt_ids: Vec<u32>,
    sampling: Sampling,
    seed: u64,
    said: Sender<Said>,
}

/// What the sampling thread tells of an answer.
enum Said {
    /// A token, and why it is the last one, if it is.
    Token(u32, Option<StopReason>),
    All(Completion),
    Failed(String),
}

impl LocalModel {
    /// Reads the checkpoint in `dir`. Each answer is sampled with a seed of its own, derived from `seed`.
    pub(super) fn load(dir: &Path, (temperature, seed): (f64, u64), tokens: usize) -> Result<Self> {
        let (model, _) = Model::load(
            device::open(),
            dir,
            &LoadOptions { masters: Masters::Drop, ..LoadOptions::language_model() },
        )?;
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
        let (asked, jobs) = channel();
        let (positions, tokenizer) = (model.config().max_positions, Arc::new(tokenizer));
        let own = Arc::clone(&tokenizer);
        // It ends when nobody can ask any more.
        thread::spawn(move || {
            let mut sampler = Sampler { jobs, said: BTreeMap::new() };
            sampler.run(&model, &own)
        });
        let (seeds, answers) = (Seeds::new(seed), AtomicU64::new(0));
        Ok(Self { name, positions, tokenizer, sampling, seeds, answers, asked })
    }

    /// The tokens of a conversation, and how an answer to it is sampled: as far as the model's
    /// positions reach.
    fn prompt(&self, conversation: &[Message]) -> Result<(Vec<u32>, Sampling), String> {
        let encoded = encode_messages(&self.tokenizer, conversation, true);
        let ids = encoded.map_err(|error| error.to_string())?.ids;
        let positions = self.positions;
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
        let (said, answer) = channel();
        self.asked.send(Asked { prompt_ids, sampling, seed, said }).map_err(|_| GONE)?;
        let mut pieces = Pieces::new(self.tokenizer.stream(), &self.sampling.stop);
        loop {
            match answer.recv().map_err(|_| GONE)? {
                Said::Token(id, stop_reason) => {
                    if pieces.take(id, stop_reason, on_text).is_break() {
                        // Without somebody to tell, the answer is not sampled any further.
                        return Err("the answer was broken off".to_owned());
                    }
                }
                Said::All(completion) => {
                    let stop = &self.sampling.stop;
                    let text = completion_text(&self.tokenizer, &completion, stop);
                    return Ok(text.trim().to_owned());
                }
                Said::Failed(reason) => return Err(reason),
            }
        }
    }
}

/// What an annotator reads where the sampling thread has ended.
const GONE: &str = "the model does not answer any more";

/// The thread that samples.
struct Sampler {
    jobs: Receiver<Asked>,
    /// Who is told of each request.
    said: BTreeMap<usize, Sender<Said>>,
}

impl Sampler {
    fn run(&mut self, model: &Model<Cpu>, tokenizer: &Tokenizer) -> Result<(), GenerateError> {
        let mut engine = Engine::new(model, Some(tokenizer), EngineOptions::default())?;
        loop {
            if engine.is_idle() {
                let Ok(asked) = self.jobs.recv() else { return Ok(()) };
                self.submit(&mut engine, asked);
            }
            while let Ok(asked) = self.jobs.try_recv() {
                self.submit(&mut engine, asked);
            }
            self.step(&mut engine);
        }
    }

    fn submit(&mut self, engine: &mut Engine<'_, Cpu>, asked: Asked) {
        let Asked { prompt_ids, sampling, seed, said } = asked;
        match engine.submit(Request { prompt_ids, samples: 1, seed }, &sampling) {
            Ok(request) => {
                self.said.insert(request, said);
            }
            // Who has gone is not told.
            Err(error) => drop(said.send(Said::Failed(error.to_string()))),
        }
    }

    fn step(&mut self, engine: &mut Engine<'_, Cpu>) {
        let (said, mut gone) = (&self.said, Vec::new());
        let ended = engine.step(&mut |event| {
            let token = event.ids.last().map(|&id| Said::Token(id, event.stop_reason));
            let told = said.get(&event.request).zip(token);
            if told.is_some_and(|(said, token)| said.send(token).is_ok()) {
                return ControlFlow::Continue(());
            }
            gone.push(event.request);
            ControlFlow::Break(())
        });
        for request in gone {
            self.said.remove(&request);
        }
        match ended {
            Ok(ended) => {
                for ended in ended {
                    if let Some(said) = self.said.remove(&ended.request) {
                        drop(said.send(Said::All(ended.completion)));
                    }
                }
            }
            Err(error) => {
                // The weights are to blame: no answer goes on.
                for (request, said) in std::mem::take(&mut self.said) {
                    engine.cancel(request);
                    drop(said.send(Said::Failed(error.to_string())));
                }
            }
        }
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
        id: u32,
        stop_reason: Option<StopReason>,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if stop_reason == Some(StopReason::EndOfText) {
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
