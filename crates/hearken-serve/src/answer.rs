//! From prompts to pieces of completions: the engine asked, its updates passed on, the end of each noted.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hearken_data::feedback::served::{ServedCompletion, ServedLine};
use hearken_data::{Completion, StopReason};
use hearken_generate::{
    GenerateError, Sampling, SamplingRequest, TextPieces, Ticket, TokenReport, Update, Wishes,
    completion_text,
};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::error::ApiError;
use crate::log::now_ms;
use crate::state::AppState;
use crate::weights::Weights;

/// Pieces that may wait for a slow connection before its answer waits too.
const WAITING_MAX: usize = 256;

/// A prompt as tokens, and as it was given.
#[derive(Clone, Debug)]
pub(crate) struct Prompt {
    pub(crate) ids: Vec<u32>,
    pub(crate) given: Value,
}

/// Completions that are wanted; choice i is sample i mod `samples` of prompt i div `samples`.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) id: String,
    /// The name of the model.
    pub(crate) model: String,
    pub(crate) weights: Arc<Weights>,
    pub(crate) prompts: Vec<Prompt>,
    pub(crate) samples: usize,
    pub(crate) sampling: Sampling,
    pub(crate) wishes: Wishes,
    pub(crate) seed: u64,
    /// Whether white space before an answer is left out.
    pub(crate) trims: bool,
    /// Whether its completions are written down.
    pub(crate) is_kept: bool,
    /// Who asks, where the request says so: a pseudonym.
    pub(crate) by: Option<String>,
    /// Weights that answer beside its own, for the log alone.
    pub(crate) shadow: Option<Arc<Weights>>,
    /// Whether nobody sees the answers.
    pub(crate) is_shadow: bool,
}

/// What comes of an [`Ask`], in order.
#[derive(Debug)]
pub(crate) enum Progressed {
    /// A token was sampled.
    Token {
        choice: usize,
        id: u32,
        /// The text that is certain now.
        text: String,
        /// What is reported of it; nothing of an end token.
        report: Option<TokenReport>,
    },
    /// A completion has ended.
    Ended { choice: usize, completion: Completion },
    /// There will be nothing more.
    Failed(ApiError),
}

impl Ask {
    pub(crate) fn completions(&self) -> usize {
        self.prompts.len() * self.samples
    }

    pub(crate) fn prompt_tokens(&self) -> usize {
        self.prompts.iter().map(|prompt| prompt.ids.len()).sum()
    }

    /// Finds the most tokens of a completion, and checks that the prompts leave room for it.
    ///
    /// # Errors
    /// A prompt is empty, too long, or holds unknown tokens; or more is asked for than there is room.
    pub(crate) fn limit(&mut self, asked: Option<usize>, param: &str) -> Result<(), ApiError> {
        let Weights { positions, vocab, .. } = *self.weights;
        let mut longest = 0;
        for prompt in &self.prompts {
            let found = prompt.ids.len();
            if found == 0 {
                return Err(ApiError::param(
                    param,
                    "the prompt is empty; expected a token at least",
                ));
            }
            if let Some(id) = prompt.ids.iter().find(|&&id| vocab <= id as usize) {
                let message = format!("the prompt holds token {id}; expected ids below {vocab}");
                return Err(ApiError::param(param, message));
            }
            longest = longest.max(found);
        }
        let Some(left) = positions.checked_sub(longest).filter(|&left| 0 < left) else {
            return Err(ApiError::Invalid {
                message: format!(
                    "the prompt has {longest} tokens, which leaves no room for a completion: there \
                     are {positions} positions in all"
                ),
                param: Some(param.to_owned()),
                code: Some("context_length_exceeded"),
            });
        };
        if let Some((id, _)) = self.wishes.bias.iter().find(|(id, _)| vocab <= **id as usize) {
            let message = format!("`logit_bias` has token {id}; expected ids below {vocab}");
            return Err(ApiError::param("logit_bias", message));
        }
        // More than there is room for ends where the positions do, as `hearken generate` does.
        self.sampling.max_new_tokens = asked.unwrap_or(left).min(left.max(1));
        Ok(())
    }

    /// Asks the engine. Whoever drops the receiver cancels all of it; the places are free then, or at the
    /// end.
    pub(crate) fn start(
        self,
        state: &AppState,
        places: OwnedSemaphorePermit,
    ) -> mpsc::Receiver<Progressed> {
        let (tell, told) = mpsc::channel(WAITING_MAX);
        let state = state.clone();
        self.start_shadow(&state);
        tokio::spawn(async move {
            let _places = places;
            let started = Instant::now();
            let broken_off = run(&state, &self, &tell).await;
            for _ in 0..broken_off {
                state.metrics.ended(None);
            }
            state.metrics.answer(started.elapsed());
        });
        told
    }
}

impl Ask {
    /// Asks a shadow for the same where one is wanted, and there are places left: nobody waits for it.
    fn start_shadow(&self, state: &AppState) {
        let Some(weights) = self.shadow.clone().filter(|_| self.is_kept) else { return };
        let Ok(places) = state.enter(self.completions()) else {
            state.metrics.shadows_left_out.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let shadow = Self { weights, shadow: None, is_shadow: true, ..self.clone() };
        let state = state.clone();
        tokio::spawn(async move {
            let _places = places;
            let (tell, mut told) = mpsc::channel(WAITING_MAX);
            let heard = async { while told.recv().await.is_some() {} };
            let running = async {
                run(&state, &shadow, &tell).await;
                drop(tell);
            };
            tokio::join!(running, heard);
        });
    }
}

/// An update with the index of its prompt.
type Numbered = (usize, Result<Update, GenerateError>);

/// Passes on what the engine samples until all completions have ended; gives how many did not.
async fn run(state: &AppState, ask: &Ask, tell: &mpsc::Sender<Progressed>) -> usize {
    let (sender, mut updates) = mpsc::unbounded_channel::<Numbered>();
    let _tickets: Vec<Ticket> = submit(ask, &sender);
    drop(sender);
    state.metrics.prompt_tokens.fetch_add(ask.prompt_tokens() as u64, Ordering::Relaxed);
    let tokenizer = &*ask.weights.tokenizer;
    let stop = &ask.sampling.stop;
    let pieces = || match ask.trims {
        true => TextPieces::of_answer(tokenizer, stop),
        false => TextPieces::new(tokenizer, stop),
    };
    let mut pieces: Vec<_> = (0..ask.completions()).map(|_| pieces()).collect();
    let mut left = ask.completions();
    let started = Instant::now();
    let mut first = true;
    let late = tokio::time::sleep(state.options.timeout);
    tokio::pin!(late);
    while 0 < left {
        let update = tokio::select! {
            biased;
            () = tell.closed() => return left,
            () = &mut late => {
                let failed = ApiError::Timeout(state.options.timeout.as_secs());
                return fail(tell, failed, left).await;
            }
            () = state.cut() => return fail(tell, ApiError::Ending, left).await,
            update = updates.recv() => update,
        };
        let Some((prompt, update)) = update else {
            state.is_broken.store(true, Ordering::Relaxed);
            return fail(tell, ApiError::Internal(GenerateError::Gone.to_string()), left).await;
        };
        let told = match update {
            Ok(Update::Token { sample, id, stop_reason, report, .. }) => {
                if std::mem::take(&mut first) {
                    state.metrics.first_token(started.elapsed());
                }
                state.metrics.completion_tokens.fetch_add(1, Ordering::Relaxed);
                let choice = prompt * ask.samples + sample;
                let text = pieces[choice].push(id, stop_reason);
                let report = report.filter(|_| stop_reason != Some(StopReason::EndOfText));
                Progressed::Token { choice, id, text, report }
            }
            Ok(Update::Ended { sample, completion }) => {
                left -= 1;
                state.metrics.ended(Some(completion.stop_reason));
                note(state, ask, prompt, sample, &completion);
                Progressed::Ended { choice: prompt * ask.samples + sample, completion }
            }
            Err(error) => return fail(tell, refused(error), left).await,
        };
        if tell.send(told).await.is_err() {
            return left;
        }
    }
    0
}

fn submit(ask: &Ask, sender: &mpsc::UnboundedSender<Numbered>) -> Vec<Ticket> {
    let request = |(index, prompt): (usize, &Prompt)| {
        // Prompts of one request have seeds of their own; the first has the one that was given.
        let seed = ask.seed.wrapping_add(index as u64);
        let request =
            SamplingRequest { prompt_ids: prompt.ids.clone(), samples: ask.samples, seed };
        let sender = sender.clone();
        let sink = Box::new(move |update| match sender.send((index, update)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        });
        let sampling = ask.sampling.clone();
        let wishes = Wishes { adapter: ask.weights.adapter(), ..ask.wishes.clone() };
        ask.weights.engine.complete_into(request, sampling, wishes, sink)
    };
    ask.prompts.iter().enumerate().map(request).collect()
}

async fn fail(tell: &mpsc::Sender<Progressed>, error: ApiError, left: usize) -> usize {
    // Whoever has gone is not told; whoever reads nothing is not waited for long.
    let _ = tell.send_timeout(Progressed::Failed(error), Duration::from_secs(1)).await;
    left
}

/// What the engine refuses that was not refused before.
fn refused(error: GenerateError) -> ApiError {
    match error {
        GenerateError::Logits { .. }
        | GenerateError::Gone
        | GenerateError::OutOfMemory(_)
        | GenerateError::NotALanguageModel
        | GenerateError::Stopped { .. } => ApiError::Internal(error.to_string()),
        error => ApiError::Invalid { message: error.to_string(), param: None, code: None },
    }
}

/// Writes a completion down, where that is wanted.
fn note(state: &AppState, ask: &Ask, prompt: usize, sample: usize, completion: &Completion) {
    let Some(log) = state.log.as_ref().filter(|_| ask.is_kept) else { return };
    let Ask { id, model, weights, prompts, sampling, seed, .. } = ask;
    let text = completion_text(&weights.tokenizer, completion, &sampling.stop);
    let mut line = ServedCompletion {
        request_id: id.clone(),
        choice: prompt * ask.samples + sample,
        at: hearken_data::calendar::time(now_ms()),
        model: model.clone(),
        version: weights.version.clone(),
        prompt: prompts[prompt].given.clone(),
        completion: if ask.trims { text.trim_start().to_owned() } else { text },
        prompt_ids: prompts[prompt].ids.clone(),
        completion_ids: completion.ids.clone(),
        logprobs: completion.logprobs.clone(),
        stop_reason: completion.stop_reason,
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        min_p: sampling.min_p,
        seed: seed.wrapping_add(prompt as u64),
        shadow: ask.is_shadow,
        redacted: false,
        by: ask.by.clone(),
    };
    if line.prompt.is_null() {
        // The prompt came as token ids, and personal data are found in texts.
        let text = weights.tokenizer.decode_with_special(&line.prompt_ids);
        if log.redact_text(&text) != text {
            line.prompt = Value::String(text);
        }
    }
    log.redact(&mut line);
    if let Err(error) = log.write(&ServedLine::Completion(Box::new(line))) {
        state.metrics.lines_lost.fetch_add(1, Ordering::Relaxed);
        tracing::error!("a completion was not written down: {error}");
    }
}
