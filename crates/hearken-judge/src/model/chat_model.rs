//! A language model behind an API.

use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant};

use hearken_data::Message;
use hearken_patience::Patience;

use super::{AnswerDraw, GoOn, LanguageModel, Reply, Usage, Weighed, estimated_tokens};
use crate::JudgeError;
use crate::chat::{Api, Ask, ChatAnswer, ChatClient, ChatError, ChatOptions};

/// Tokens that a server tells beside each: what servers of OpenAI's kind allow.
const TOP_LOGPROBS: u32 = 20;

/// A language model behind an API. `retries_max` and `first_pause` of its options hold for broken connections as well,
/// and `timeouts.total` for a question with all its repetitions.
#[derive(Debug)]
pub struct ChatModel {
    client: ChatClient,
}

impl ChatModel {
    /// A model. Nothing is sent.
    ///
    /// # Errors
    /// If the base URL or the key cannot be used.
    pub fn new(options: ChatOptions) -> Result<Self, JudgeError> {
        Ok(Self { client: ChatClient::new(options)? })
    }

    /// One question, asked again where the connection breaks or what comes is no answer.
    fn ask(
        &self,
        conversation: &[Message],
        ask: &Ask,
        go_on: &GoOn<'_>,
    ) -> Result<ChatAnswer, ChatError> {
        let ChatOptions { timeouts, retries_max, first_pause, .. } = self.client.options();
        let mut patience = Patience::new(*retries_max, *first_pause).within(timeouts.total);
        let (start, limit) = (patience.start(), timeouts.total);
        let mut watch = |_: &str| {
            if !go_on() || limit <= start.elapsed() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        loop {
            let error = match self.client.ask(conversation, ask, &mut watch) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if patience.left().is_zero() {
                return Err(self.late(error));
            }
            if !may_pass(&error) || !go_on() {
                return Err(error);
            }
            wait(patience.next_pause(None).ok_or(error)?, go_on);
        }
    }

    /// What is told of a question without an answer.
    fn failure(&self, error: ChatError) -> JudgeError {
        match &error {
            ChatError::Status { status: 400 | 413 | 422, message, .. } if is_too_long(message) => {
                let found = format!("more tokens than the server takes ({message})");
                JudgeError::TooLong { model: self.client.options().model.clone(), found }
            }
            _ => error.into(),
        }
    }

    /// What is told of a question whose time is over.
    fn late(&self, error: ChatError) -> ChatError {
        match error {
            ChatError::Cancelled { received } => ChatError::Slow {
                url: self.client.url.clone(),
                stage: "no whole answer",
                limit: self.client.options().timeouts.total,
                received,
            },
            other => other,
        }
    }
}

impl LanguageModel for ChatModel {
    fn name(&self) -> &str {
        &self.client.options().model
    }

    fn identity(&self) -> String {
        let ChatOptions { api, model, temperature, max_tokens, .. } = self.client.options();
        let url = crate::chat::shown(&self.client.url);
        format!("{api:?} {url} {model} {temperature:?} {max_tokens:?}")
    }

    fn reply(
        &self,
        conversation: &[Message],
        draw: &AnswerDraw,
        go_on: &GoOn<'_>,
    ) -> Result<Reply, JudgeError> {
        let AnswerDraw { max_tokens, temperature, .. } = *draw;
        let ask = Ask { max_tokens, temperature, whole: true, ..Ask::default() };
        match self.ask(conversation, &ask, go_on) {
            Ok(answer) => {
                let usage = usage(conversation, Some(&answer));
                Ok(Reply { text: answer.text, usage })
            }
            // The model refuses to say anything.
            Err(ChatError::Empty { .. }) => {
                Ok(Reply { text: String::new(), usage: usage(conversation, None) })
            }
            Err(error) => Err(self.failure(error)),
        }
    }

    fn weigh(
        &self,
        conversation: &[Message],
        choices: &[String],
        go_on: &GoOn<'_>,
    ) -> Result<Weighed, JudgeError> {
        const NONE: Weighed = Weighed {
            probabilities: None,
            usage: Usage { prompt_tokens: 0, completion_tokens: 0, estimated: false },
        };
        if self.client.options().api == Api::Anthropic {
            return Ok(NONE);
        }
        let ask = Ask {
            max_tokens: Some(1),
            temperature: Some(0.0),
            top_logprobs: Some(TOP_LOGPROBS),
            whole: true,
            ..Ask::default()
        };
        match self.ask(conversation, &ask, go_on) {
            Ok(answer) => Ok(Weighed {
                probabilities: probabilities(&answer, choices),
                usage: usage(conversation, Some(&answer)),
            }),
            // It says nothing to this question, which is no word on what it tells of others.
            Err(ChatError::Empty { .. }) => Ok(Weighed {
                probabilities: Some(vec![0.0; choices.len()]),
                usage: usage(conversation, None),
            }),
            Err(error) if refuses_logprobs(&error) => Ok(NONE),
            Err(error) => Err(self.failure(error)),
        }
    }
}

/// The probability of each choice as the first token, blanks around it aside; `None` where the server tells none.
fn probabilities(answer: &ChatAnswer, choices: &[String]) -> Option<Vec<f64>> {
    let first = answer.tokens.first().filter(|first| !first.is_empty())?;
    let of = |choice: &String| {
        let own = first.iter().filter(|(token, _)| token.trim() == choice);
        own.map(|(_, logprob)| logprob.min(0.0).exp()).sum::<f64>().min(1.0)
    };
    Some(choices.iter().map(of).collect())
}

/// Whether a server refuses a question for the log-probabilities that it asks for, as models that think do.
fn refuses_logprobs(error: &ChatError) -> bool {
    let (ChatError::Status { status: 400 | 403 | 404 | 422 | 501, message, .. }
    | ChatError::UnknownModel { message, .. }
    | ChatError::Unauthorized { status: 403, message, .. }) = error
    else {
        return false;
    };
    let message = message.to_ascii_lowercase();
    message.contains("logprob") || message.contains("log prob")
}

/// Whether a server refuses a question for its length, in the words of OpenAI's API, Anthropic's, vLLM, llama.cpp and this
/// project's own.
fn is_too_long(message: &str) -> bool {
    const SAID: [&str; 6] = [
        "context length",
        "context_length",
        "context size",
        "prompt is too long",
        "prompt too long",
        "no room for a completion",
    ];
    let message = message.to_ascii_lowercase();
    SAID.iter().any(|words| message.contains(words))
}

fn usage(conversation: &[Message], answer: Option<&ChatAnswer>) -> Usage {
    let prompt = answer.and_then(|answer| answer.prompt_tokens);
    let completion = answer.and_then(|answer| answer.completion_tokens);
    let texts = conversation.iter().map(|message| estimated_tokens(&message.content));
    Usage {
        prompt_tokens: prompt.unwrap_or_else(|| texts.sum()),
        completion_tokens: completion
            .unwrap_or_else(|| answer.map_or(0, |answer| estimated_tokens(&answer.text))),
        estimated: prompt.is_none() || completion.is_none(),
    }
}

/// Whether the same question may have an answer a moment later. An error status that may pass has been
/// tried again by the client.
fn may_pass(error: &ChatError) -> bool {
    matches!(
        error,
        ChatError::Unreachable { .. }
            | ChatError::Slow { .. }
            | ChatError::Truncated { .. }
            | ChatError::Reported { .. }
    )
}

fn wait(pause: Duration, go_on: &GoOn<'_>) {
    const STEP: Duration = Duration::from_millis(100);
    let start = Instant::now();
    while start.elapsed() < pause && go_on() {
        thread::sleep(STEP.min(pause));
    }
}
