//! The client.

use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant};

use hearken_data::Message;
use hearken_patience::Patience;
use serde_json::Value;
use ureq::Agent;

use super::error::ChatError;
use super::options::{Ask, ChatOptions};
use super::protocol::{self, LimitName};
use super::stream::Stream;
use super::transfer::{ChatRequest, Head, send};
use crate::item::excerpt;

/// How often the caller is asked whether to go on while nothing comes.
pub(super) const ASK_EVERY: Duration = Duration::from_millis(200);

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The model was done.
    End,
    /// It reached the limit on tokens.
    Length,
    /// Another reason, in the server's words.
    Other(String),
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatAnswer {
    /// What the model wrote.
    pub text: String,
    /// The model, as the server names it.
    pub model: String,
    /// Why it ended.
    pub stop: Stop,
    /// Tokens of the conversation, if the server counts them.
    pub prompt_tokens: Option<u64>,
    /// Tokens of the answer, if the server counts them.
    pub completion_tokens: Option<u64>,
    /// For each token of the answer those that could have stood there, with their log-probabilities; empty unless
    /// [`Ask::top_logprobs`] asks for them and the server tells them.
    pub tokens: Vec<Vec<(String, f64)>>,
    /// From sending the request to the first text; repeated attempts included.
    pub first_text_after: Duration,
    /// From sending the request to the end.
    pub duration: Duration,
}

/// A client of one model. It may be used from several threads at once.
#[derive(Clone, Debug)]
pub struct ChatClient {
    pub(super) options: ChatOptions,
    /// Where the chat is.
    pub(crate) url: String,
    agent: Agent,
}

/// What one attempt came to, if it is no answer.
enum Attempt {
    /// The server may do better later.
    Again {
        error: ChatError,
        pause: Option<Duration>,
    },
    /// The limit on tokens has its other name here.
    OtherLimitName,
    Fail(ChatError),
}

impl From<ChatError> for Attempt {
    fn from(error: ChatError) -> Self {
        Attempt::Fail(error)
    }
}

impl ChatClient {
    /// A client. Nothing is sent.
    ///
    /// # Errors
    /// [`ChatError::BadRequest`] if the base URL is none, or neither http nor https, or if the key
    /// cannot stand in a header.
    pub fn new(options: ChatOptions) -> Result<Self, ChatError> {
        let url =
            protocol::url(&options.base_url, options.api, protocol::chat_resource(options.api));
        let bad = |reason: &str| {
            Err(ChatError::BadRequest { url: shown(&url), reason: reason.to_owned() })
        };
        match url.parse::<ureq::http::Uri>() {
            Ok(uri) if matches!(uri.scheme_str(), Some("http" | "https")) => {}
            Ok(_) => return bad("the URL begins with neither http:// nor https://"),
            Err(error) => return bad(&error.to_string()),
        }
        let in_header = |c: char| c.is_ascii_graphic();
        if options.key.as_ref().is_some_and(|key| !key.as_str().chars().all(in_header)) {
            return bad("the key holds a character that no header may hold");
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(options.timeouts.connect))
            .timeout_global(Some(options.timeouts.total));
        Ok(Self { agent: config.build().new_agent(), url, options })
    }

    /// What the client was made with.
    pub fn options(&self) -> &ChatOptions {
        &self.options
    }

    /// Asks for the next message of a conversation. `on_text` is given each piece of the answer as it
    /// comes, and an empty text a few times a second while none comes; it may break off at either.
    ///
    /// A request is repeated only as long as no text has come.
    ///
    /// # Errors
    /// Any [`ChatError`]; [`ChatError::Cancelled`] where `on_text` broke off.
    pub fn answer(
        &self,
        conversation: &[Message],
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<ChatAnswer, ChatError> {
        self.ask(conversation, &Ask::default(), on_text)
    }

    /// As [`ChatClient::answer`], with what `ask` says in place of the client's options.
    ///
    /// # Errors
    /// As [`ChatClient::answer`].
    pub fn ask(
        &self,
        conversation: &[Message],
        ask: &Ask,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<ChatAnswer, ChatError> {
        let ChatOptions { retries_max, first_pause, timeouts, .. } = &self.options;
        let mut patience = Patience::new(*retries_max, *first_pause).within(timeouts.total);
        let mut limit_name = LimitName::MaxTokens;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let body = protocol::request(&self.options, conversation, limit_name, ask);
            match self.attempt(&body, patience.start(), attempts, on_text) {
                Ok(answer) => return Ok(answer),
                Err(Attempt::Fail(error)) => return Err(error),
                Err(Attempt::OtherLimitName) if limit_name == LimitName::MaxTokens => {
                    limit_name = LimitName::MaxCompletionTokens;
                }
                Err(Attempt::OtherLimitName) => {
                    let message = "the limit on tokens is refused under both names".to_owned();
                    return Err(self.status(400, attempts, message));
                }
                Err(Attempt::Again { error, pause: asked }) => {
                    rest(patience.next_pause(asked).ok_or(error)?, on_text)?;
                }
            }
        }
    }

    fn attempt(
        &self,
        body: &Value,
        start: Instant,
        attempts: usize,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<ChatAnswer, Attempt> {
        let request = ChatRequest {
            url: self.url.clone(),
            headers: protocol::headers(&self.options),
            body: Some(body.to_string().into_bytes()),
        };
        let mut stream = Stream::new(self, send(&self.agent, request), start);
        let head = stream.head(on_text)?;
        if !(200..300).contains(&head.status) {
            let body = stream.rest_of_body(on_text)?;
            return Err(self.refusal(&head, &body, attempts));
        }
        if head.content_type.contains("event-stream") {
            stream.events(on_text)?;
        } else {
            let body = stream.rest_of_body(on_text)?;
            stream.whole(&body, on_text)?;
        }
        Ok(stream.answer()?)
    }

    /// What an error status means.
    fn refusal(&self, head: &Head, body: &[u8], attempts: usize) -> Attempt {
        let (status, message) = (head.status, self.message(body));
        let url = shown(&self.url);
        let about_model = message.to_ascii_lowercase().contains("model");
        match status {
            400 if message.contains("max_completion_tokens") => Attempt::OtherLimitName,
            401 | 403 => Attempt::Fail(ChatError::Unauthorized { url, status, message }),
            400 | 404 if about_model => {
                let model = self.options.model.clone();
                Attempt::Fail(ChatError::UnknownModel { url, model, message })
            }
            429 | 500..=504 | 529 => {
                let error = self.status(status, attempts, message);
                Attempt::Again { error, pause: head.retry_after }
            }
            _ => Attempt::Fail(self.status(status, attempts, message)),
        }
    }

    fn status(&self, status: u16, attempts: usize, message: String) -> ChatError {
        ChatError::Status { url: shown(&self.url), status, attempts, message }
    }

    /// What the body of an error says, without the key, which some servers repeat.
    fn message(&self, body: &[u8]) -> String {
        let told =
            serde_json::from_slice(body).ok().and_then(|body| protocol::error_message(&body));
        let text = told.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
        let text = if looks_like_a_page(text.as_bytes()) { "a web page".to_owned() } else { text };
        self.without_key(&excerpt(&self.without_key(&text)))
    }

    pub(super) fn without_key(&self, text: &str) -> String {
        match &self.options.key {
            Some(key) if !key.as_str().is_empty() => text.replace(key.as_str(), "[key]"),
            _ => text.to_owned(),
        }
    }

    pub(super) fn nonsense(&self, body: &[u8], expected: &'static str) -> ChatError {
        let found = if looks_like_a_page(body) {
            "a web page (is the base URL that of an API?)".to_owned()
        } else if body.is_empty() {
            "an empty response".to_owned()
        } else {
            format!("{:?}", excerpt(&self.without_key(&String::from_utf8_lossy(body))))
        };
        ChatError::Nonsense { url: shown(&self.url), found, expected }
    }

    pub(super) fn transport(&self, error: &ureq::Error, received: usize) -> ChatError {
        let url = shown(&self.url);
        if let ureq::Error::Timeout(stage) = error {
            let (stage, limit) = match stage {
                ureq::Timeout::Connect | ureq::Timeout::Resolve => {
                    ("no connection", self.options.timeouts.connect)
                }
                _ => ("no whole answer", self.options.timeouts.total),
            };
            return ChatError::Slow { url, stage, limit, received };
        }
        let refused = matches!(error, ureq::Error::Io(error)
            if error.kind() == std::io::ErrorKind::ConnectionRefused);
        let reason = match error {
            _ if refused => "nothing listens there (connection refused)".to_owned(),
            ureq::Error::HostNotFound => "there is no host of this name".to_owned(),
            other => self.without_key(&other.to_string()),
        };
        ChatError::Unreachable { url, reason }
    }
}

/// The URL as errors show it: without a name and a password before the host.
pub(crate) fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let host_end = rest.find('/').unwrap_or(rest.len());
    match rest[..host_end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

fn looks_like_a_page(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"<")
}

/// Waits, as long as the caller agrees.
fn rest(wait: Duration, on_text: &mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<(), ChatError> {
    let start = Instant::now();
    loop {
        let left = wait.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Ok(());
        }
        if on_text("").is_break() {
            return Err(ChatError::Cancelled { received: 0 });
        }
        thread::sleep(left.min(ASK_EVERY));
    }
}
