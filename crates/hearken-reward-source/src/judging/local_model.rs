//! A language model in this process, to be asked.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use hearken_data::Message;
use hearken_generate::{
    EngineOptions, Sampling, SamplingRequest, TokenSampled, completion_text, generate_with,
};
use hearken_judge::JudgeError;
use hearken_judge::model::{AnswerDraw, GoOn, LanguageModel, Reply, Usage, Weighed};
use hearken_model::chat::{Conversation, STOP, encode_prompt};
use hearken_model::config::model_dir;
use hearken_model::microbatch::microbatches;
use hearken_model::tokenizer::SpecialText;
use hearken_model::{Batch, Keep, LoadOptions, Masters, Model, Tokenizer};
use hearken_tensor::Device;
use hearken_tensor::device::{HeadOptions, Precision, Prediction};
use serde_json::Map;

/// Tokens of an answer that nobody limits.
const TOKENS_MAX: u32 = 1024;
/// Rows of a forward pass that weighs choices.
const ROWS_TOGETHER: usize = 4096;
/// How long whoever has the model waits for others that are about to ask: less than a question takes.
const GATHERING: Duration = Duration::from_millis(1);

/// A language model with its tokenizer. Questions that several threads ask at the same time are answered together.
pub struct LocalModel<D: Device> {
    name: String,
    identity: String,
    tokenizer: Tokenizer,
    positions: usize,
    model: Mutex<Model<D>>,
    waiting: Mutex<Vec<TokenQuestion>>,
}

/// A question in tokens that nobody answers yet, and where its answer goes.
enum TokenQuestion {
    Reply {
        request: SamplingRequest,
        sampling: Sampling,
        answer: AnswerSender<Reply>,
    },
    /// Answered by the probability of each beginning.
    Weigh {
        prompt_ids: Vec<u32>,
        beginnings: Arc<[Beginning]>,
        answer: AnswerSender<Vec<f64>>,
    },
}

type AnswerSender<T> = Sender<Result<T, JudgeError>>;

/// Replies that are sampled alike.
struct ReplyGroup<'a> {
    sampling: &'a Sampling,
    requests: Vec<SamplingRequest>,
    answers: Vec<&'a AnswerSender<Reply>>,
}

/// A way to begin an answer with a choice.
struct Beginning {
    choice: usize,
    ids: Vec<u32>,
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
        precision: Precision,
        masters: Masters,
    ) -> Result<Self, JudgeError> {
        let failed =
            |reason: String| JudgeError::Model { model: dir.display().to_string(), reason };
        let options = LoadOptions { precision, masters, ..LoadOptions::language_model() };
        let (model, _) =
            Model::load(device, dir, &options).map_err(|error| failed(error.to_string()))?;
        // An adapter that brings no tokenizer reads with that of its base.
        let is_there = |dir: &Path| dir.join("tokenizer.json").exists();
        if !is_there(dir) && !model_dir(dir).is_ok_and(|base| is_there(&base)) {
            return Err(failed("found no tokenizer.json, expected one: a judge reads".into()));
        }
        let tokenizer = Tokenizer::load(dir).map_err(|error| failed(error.to_string()))?;
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
            positions: model.config().max_positions,
            model: Mutex::new(model),
            waiting: Mutex::default(),
        }
    }

    fn failed(&self, reason: &impl ToString) -> JudgeError {
        JudgeError::Model { model: self.name.clone(), reason: reason.to_string() }
    }

    fn too_long(&self, tokens: usize) -> JudgeError {
        let found = format!("{tokens} tokens, with {} positions", self.positions);
        JudgeError::TooLong { model: self.name.clone(), found }
    }

    fn prompt(&self, conversation: &[Message]) -> Result<Vec<u32>, JudgeError> {
        let conversation = Conversation { messages: conversation, columns: &Map::new() };
        let ids =
            encode_prompt(&self.tokenizer, conversation).map_err(|error| self.failed(&error))?;
        if self.positions <= ids.len() {
            return Err(self.too_long(ids.len()));
        }
        Ok(ids)
    }

    /// The ways to begin an answer with each choice: with and without a blank.
    fn beginnings(&self, choices: &[String]) -> Result<Vec<Beginning>, JudgeError> {
        let mut found: Vec<Beginning> = Vec::new();
        for (choice, text) in choices.iter().enumerate() {
            let first = found.len();
            for text in [text.clone(), format!(" {text}")] {
                let ids = self.tokenizer.encode_continuation(&text, SpecialText::Literal);
                let ids = ids.map_err(|error| self.failed(&error))?;
                if found[first..].iter().all(|one| one.ids != ids) {
                    found.push(Beginning { choice, ids });
                }
            }
        }
        Ok(found)
    }

    /// The answer to a question, and to those that others ask meanwhile: whoever has the model answers all that wait.
    fn ask<T>(
        &self,
        question: impl FnOnce(AnswerSender<T>) -> TokenQuestion,
        go_on: &GoOn<'_>,
    ) -> Result<T, JudgeError> {
        let (answer, answered) = channel();
        let waiting = || self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting().push(question(answer));
        let model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(answer) = answered.try_recv() {
            return answer;
        }
        thread::sleep(GATHERING);
        let all = std::mem::take(&mut *waiting());
        self.answer(&model, &all, go_on);
        drop(model);
        answered.recv().expect("every question is answered")
    }

    /// Answers all of them. Nobody waits any more where a thread has panicked.
    fn answer(&self, model: &Model<D>, all: &[TokenQuestion], go_on: &GoOn<'_>) {
        let mut weighed = Vec::new();
        let mut replies: Vec<ReplyGroup<'_>> = Vec::new();
        for one in all {
            match one {
                TokenQuestion::Weigh { prompt_ids, beginnings, answer } => {
                    weighed.push((prompt_ids.as_slice(), &beginnings[..], answer));
                }
                TokenQuestion::Reply { request, sampling, answer } => {
                    let at = replies.iter().position(|group| group.sampling == sampling);
                    let at = at.unwrap_or_else(|| {
                        let (requests, answers) = (Vec::new(), Vec::new());
                        replies.push(ReplyGroup { sampling, requests, answers });
                        replies.len() - 1
                    });
                    replies[at].requests.push(request.clone());
                    replies[at].answers.push(answer);
                }
            }
        }
        let rows =
            |beginnings: &[Beginning]| beginnings.iter().map(|one| one.ids.len()).sum::<usize>();
        let rows: Vec<usize> =
            weighed.iter().map(|(prompt, own, _)| prompt.len() + rows(own)).collect();
        for group in microbatches(&rows, ROWS_TOGETHER) {
            let group = &weighed[group];
            let questions: Vec<_> = group.iter().map(|&(ids, own, _)| (ids, own)).collect();
            for ((.., answer), found) in group.iter().zip(probabilities(model, &questions)) {
                drop(answer.send(Ok(found)));
            }
        }
        for ReplyGroup { sampling, requests, answers } in replies {
            match self.replies(model, &requests, sampling, go_on) {
                Ok(found) => {
                    for (answer, reply) in answers.into_iter().zip(found) {
                        drop(answer.send(Ok(reply)));
                    }
                }
                Err(reason) => {
                    for answer in answers {
                        drop(answer.send(Err(self.failed(&reason))));
                    }
                }
            }
        }
    }

    fn replies(
        &self,
        model: &Model<D>,
        requests: &[SamplingRequest],
        sampling: &Sampling,
        go_on: &GoOn<'_>,
    ) -> Result<Vec<Reply>, String> {
        let watch = &mut |_: TokenSampled<'_>| {
            if go_on() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let options = EngineOptions::default();
        let all = generate_with(model, Some(&self.tokenizer), requests, sampling, &options, watch);
        let all = all.map_err(|error| error.to_string())?;
        let reply = |(request, completions): (&SamplingRequest, Vec<hearken_data::Completion>)| {
            let text = completion_text(&self.tokenizer, &completions[0], &sampling.stop);
            let usage = Usage {
                prompt_tokens: request.prompt_ids.len() as u64,
                completion_tokens: completions[0].ids.len() as u64,
                estimated: false,
            };
            Reply { text: text.trim().to_owned(), usage }
        };
        Ok(requests.iter().zip(all).map(reply).collect())
    }
}

/// The seed of an answer. It depends on what is asked: with one seed for all questions, the answers to all of them would come of the
/// same random numbers, and be improbable together. Fowler, Noll and Vo, FNV-1a, over tokens.
fn seed(prompt_ids: &[u32], number: u64) -> u64 {
    let words = prompt_ids.iter().map(|&id| u64::from(id)).chain([number]);
    words
        .fold(0xcbf2_9ce4_8422_2325, |hash, word| (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The probability of every beginning behind its prompt, of several questions in one pass.
fn probabilities<D: Device>(
    model: &Model<D>,
    questions: &[(&[u32], &[Beginning])],
) -> Vec<Vec<f64>> {
    let mut batch = Batch::new();
    let mut predictions = Vec::new();
    for (prompt_ids, beginnings) in questions {
        let root = batch.push(None, prompt_ids);
        let first_row = batch.last_row(root).expect("a conversation has tokens") as u32;
        for Beginning { ids, .. } in *beginnings {
            predictions.push(Prediction { row: first_row, token: ids[0] });
            if 1 < ids.len() {
                let segment = batch.push(Some(root), &ids[..ids.len() - 1]);
                let of_rest = ids[1..].iter().enumerate();
                predictions.extend(
                    of_rest.map(|(at, &token)| Prediction {
                        row: batch.row(segment, at) as u32,
                        token,
                    }),
                );
            }
        }
    }
    let pass = model.forward(&batch, Keep::Nothing);
    let logprobs = model.logprobs(&pass, &predictions, HeadOptions::default()).logprobs;
    let mut rest = logprobs.iter();
    let mut probability = |one: &Beginning| {
        rest.by_ref().take(one.ids.len()).map(|one| f64::from(*one)).sum::<f64>().exp()
    };
    questions.iter().map(|(_, own)| own.iter().map(&mut probability).collect()).collect()
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
        draw: &AnswerDraw,
        go_on: &GoOn<'_>,
    ) -> Result<Reply, JudgeError> {
        let prompt_ids = self.prompt(conversation)?;
        let tokens = draw.max_tokens.unwrap_or(TOKENS_MAX) as usize;
        let sampling = Sampling {
            temperature: draw.temperature.unwrap_or(0.0),
            top_p: 1.0,
            top_k: None,
            min_p: 0.0,
            max_new_tokens: tokens,
            stop: self.tokenizer.chat_templates().map_or(vec![STOP.to_owned()], |_| Vec::new()),
            ignore_eos: false,
        };
        let seed = seed(&prompt_ids, draw.number);
        let request = SamplingRequest { prompt_ids, samples: 1, seed };
        self.ask(|answer| TokenQuestion::Reply { request, sampling, answer }, go_on)
    }

    fn weigh(
        &self,
        conversation: &[Message],
        choices: &[String],
        go_on: &GoOn<'_>,
    ) -> Result<Weighed, JudgeError> {
        let prompt_ids = self.prompt(conversation)?;
        let prompt_tokens = prompt_ids.len() as u64;
        let sequences: Arc<[Beginning]> = self.beginnings(choices)?.into();
        let longest = sequences.iter().map(|one| one.ids.len()).max().unwrap_or_default();
        if self.positions < prompt_ids.len() + longest {
            return Err(self.too_long(prompt_ids.len()));
        }
        let beginnings = Arc::clone(&sequences);
        let question = |answer| TokenQuestion::Weigh { prompt_ids, beginnings, answer };
        let each = self.ask(question, go_on)?;
        let mut probabilities = vec![0.0; choices.len()];
        for (at, Beginning { choice, ids }) in sequences.iter().enumerate() {
            // "1" is the beginning of "10" as well, of which it is not the answer.
            let longer = |other: &Beginning| {
                ids.len() < other.ids.len() && other.ids.starts_with(ids) && other.choice != *choice
            };
            let beyond = sequences.iter().zip(&each).filter(|(other, _)| longer(other));
            let beyond: f64 = beyond.map(|(_, probability)| probability).sum();
            probabilities[*choice] += (each[at] - beyond).max(0.0);
        }
        let usage = Usage { prompt_tokens, completion_tokens: 0, estimated: false };
        Ok(Weighed { probabilities: Some(probabilities), usage })
    }
}
