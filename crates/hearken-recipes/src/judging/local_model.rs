//! A language model in this process, to be asked.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use hearken_data::Message;
use hearken_generate::{EngineOptions, Request, Sampling, completion_text, generate_with};
use hearken_judge::JudgeError;
use hearken_judge::model::{Draw, GoOn, LanguageModel, Reply, Usage, Weighed};
use hearken_model::chat::{Conversation, STOP, encode_prompt};
use hearken_model::tokenizer::SpecialText;
use hearken_model::{Batch, Keep, LoadOptions, Masters, Model, Tokenizer};
use hearken_run::seeds::Seeds;
use hearken_run::trained_model::load_tokenizer;
use hearken_tensor::Device;
use hearken_tensor::device::{HeadOptions, Precision, Prediction};
use serde_json::Map;

/// Tokens of an answer that nobody limits.
const TOKENS_MAX: u32 = 1024;

/// A language model with its tokenizer. It answers one question after the other: a forward pass has the whole machine.
pub struct LocalModel<D: Device> {
    name: String,
    identity: String,
    tokenizer: Tokenizer,
    model: Mutex<Model<D>>,
    seeds: Seeds,
}

impl<D: Device> LocalModel<D> {
    /// Reads the model in `dir`; it is known as `name`.
    ///
    /// # Errors
    /// If the model or its tokenizer cannot be used, or it has none.
    pub fn load(
        device: D,
        dir: &Path,
        name: &str,
        (precision, masters): (Precision, Masters),
    ) -> Result<Self, JudgeError> {
        let failed =
            |reason: String| JudgeError::Model { model: dir.display().to_string(), reason };
        let options = LoadOptions { precision, masters, ..LoadOptions::language_model() };
        let (model, _) =
            Model::load(device, dir, &options).map_err(|error| failed(error.to_string()))?;
        let tokenizer = load_tokenizer(dir).map_err(|error| failed(error.to_string()))?;
        let tokenizer = tokenizer
            .ok_or_else(|| failed("found no tokenizer.json, expected one: a judge reads".into()))?;
        let identity = format!("local {} {precision:?} {masters:?}", dir.display());
        Ok(Self::of(model, tokenizer, name, identity))
    }

    /// A model that is there already; `identity` tells it from every other.
    pub fn of(
        model: Model<D>,
        tokenizer: Tokenizer,
        name: &str,
        identity: impl Into<String>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            identity: identity.into(),
            tokenizer,
            model: Mutex::new(model),
            seeds: Seeds::new(0),
        }
    }

    fn failed(&self, reason: &impl ToString) -> JudgeError {
        JudgeError::Model { model: self.name.clone(), reason: reason.to_string() }
    }

    fn prompt(&self, conversation: &[Message], positions: usize) -> Result<Vec<u32>, JudgeError> {
        let conversation = Conversation { messages: conversation, columns: &Map::new() };
        let ids =
            encode_prompt(&self.tokenizer, conversation).map_err(|error| self.failed(&error))?;
        if positions <= ids.len() {
            let found = ids.len();
            return Err(self.failed(&format!(
                "found a question of {found} tokens, expected fewer than the model's {positions} positions"
            )));
        }
        Ok(ids)
    }

    /// The ways to begin an answer with a choice: with and without a blank.
    fn beginnings(&self, choice: &str) -> Result<Vec<Vec<u32>>, JudgeError> {
        let mut found: Vec<Vec<u32>> = Vec::new();
        for text in [choice.to_owned(), format!(" {choice}")] {
            let ids = self.tokenizer.encode_continuation(&text, SpecialText::Literal);
            let ids = ids.map_err(|error| self.failed(&error))?;
            if !found.contains(&ids) {
                found.push(ids);
            }
        }
        Ok(found)
    }
}

impl<D: Device> LanguageModel for LocalModel<D> {
    fn name(&self) -> &str {
        &self.name
    }

    fn identity(&self) -> String {
        self.identity.clone()
    }

    fn reply(
        &self,
        conversation: &[Message],
        draw: &Draw,
        go_on: &GoOn<'_>,
    ) -> Result<Reply, JudgeError> {
        let model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        let positions = model.config().max_positions;
        let prompt_ids = self.prompt(conversation, positions)?;
        let prompt_tokens = prompt_ids.len() as u64;
        let tokens = draw.max_tokens.unwrap_or(TOKENS_MAX) as usize;
        let sampling = Sampling {
            temperature: draw.temperature.unwrap_or(0.0),
            top_p: 1.0,
            top_k: None,
            min_p: 0.0,
            max_new_tokens: tokens.min(positions - prompt_ids.len()),
            stop: self.tokenizer.chat_templates().map_or(vec![STOP.to_owned()], |_| Vec::new()),
            ignore_eos: false,
        };
        let seed = self.seeds.derive("judge", draw.number, 0);
        let request = Request { prompt_ids, samples: 1, seed };
        let watch = &mut |_: hearken_generate::Event<'_>| {
            if go_on() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let options = EngineOptions::default();
        let all =
            generate_with(&model, Some(&self.tokenizer), &[request], &sampling, &options, watch);
        let all = all.map_err(|error| self.failed(&error))?;
        let completion = &all[0][0];
        let text = completion_text(&self.tokenizer, completion, &sampling.stop);
        let completion_tokens = completion.ids.len() as u64;
        let usage = Usage { prompt_tokens, completion_tokens, estimated: false };
        Ok(Reply { text: text.trim().to_owned(), usage })
    }

    fn weigh(
        &self,
        conversation: &[Message],
        choices: &[String],
        _: &GoOn<'_>,
    ) -> Result<Weighed, JudgeError> {
        let model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        let prompt = self.prompt(conversation, model.config().max_positions)?;
        let mut batch = Batch::new();
        let root = batch.push(None, &prompt);
        let first_row = batch.last_row(root).expect("a conversation has tokens") as u32;
        let mut sequences: Vec<(usize, Vec<u32>)> = Vec::new();
        for (choice, text) in choices.iter().enumerate() {
            sequences.extend(self.beginnings(text)?.into_iter().map(|ids| (choice, ids)));
        }
        let mut predictions = Vec::new();
        for (_, ids) in &sequences {
            predictions.push(Prediction { row: first_row, token: ids[0] });
            if 1 < ids.len() {
                let segment = batch.push(Some(root), &ids[..ids.len() - 1]);
                let row = |index| batch.row(segment, index) as u32;
                predictions.extend(
                    ids[1..]
                        .iter()
                        .enumerate()
                        .map(|(at, &token)| Prediction { row: row(at), token }),
                );
            }
        }
        let pass = model.forward(&batch, Keep::Nothing);
        let logprobs = model.logprobs(&pass, &predictions, HeadOptions::default()).logprobs;
        let mut rest = logprobs.iter();
        let logprob = |(_, ids): &(usize, Vec<u32>)| {
            rest.by_ref().take(ids.len()).map(|one| f64::from(*one)).sum::<f64>().exp()
        };
        let each: Vec<f64> = sequences.iter().map(logprob).collect();
        let mut probabilities = vec![0.0; choices.len()];
        for (at, (choice, ids)) in sequences.iter().enumerate() {
            // "1" is the beginning of "10" as well, of which it is not the answer.
            let longer = |other: &(usize, Vec<u32>)| {
                ids.len() < other.1.len() && other.1.starts_with(ids) && other.0 != *choice
            };
            let beyond = sequences.iter().zip(&each).filter(|(other, _)| longer(other));
            let beyond: f64 = beyond.map(|(_, probability)| probability).sum();
            probabilities[*choice] += (each[at] - beyond).max(0.0);
        }
        let prompt_tokens = prompt.len() as u64;
        let usage = Usage { prompt_tokens, completion_tokens: 0, estimated: false };
        Ok(Weighed { probabilities: Some(probabilities), usage })
    }
}
