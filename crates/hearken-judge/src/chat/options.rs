//! Which model is asked, and how patient the client is.

use std::fmt;
use std::time::Duration;

/// The protocol of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// Chat completions as OpenAI has them.
    OpenAi,
    /// Messages as Anthropic has them.
    Anthropic,
}

/// A secret: it is sent to the server and shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// The key as text, for the header of a request.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for ApiKey {
    fn from(key: String) -> Self {
        Self(key.trim().to_owned())
    }
}

impl From<&str> for ApiKey {
    fn from(key: &str) -> Self {
        Self(key.trim().to_owned())
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// How long each stage of a request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the connection stands.
    pub connect: Duration,
    /// From sending the request to the first text. A server that has to load the model takes long.
    pub first_text: Duration,
    /// From one text to the next.
    pub between_texts: Duration,
    /// For the whole answer, repeated attempts and pauses included.
    pub total: Duration,
}

impl Default for Timeouts {
    /// 10 s to connect, 2 minutes to the first text, 30 s between texts, 10 minutes in all.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_text: Duration::from_secs(120),
            between_texts: Duration::from_secs(30),
            total: Duration::from_secs(600),
        }
    }
}

/// What one request asks for, where it is something else than the client's options say.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ask {
    /// The most tokens of the answer.
    pub max_tokens: Option<u32>,
    /// The sampling temperature.
    pub temperature: Option<f64>,
    /// How many tokens stand beside each token of the answer, with their log-probabilities; servers of OpenAI's kind
    /// allow 20. `None` asks for none.
    pub top_logprobs: Option<u32>,
    /// The seed of sampling, for servers that have one.
    pub seed: Option<u64>,
    /// Whether the answer may come in one piece, with counts of its tokens.
    pub whole: bool,
}

/// Which model is asked, and how patient the client is.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatOptions {
    /// The protocol.
    pub api: Api,
    /// Where the server is: `http://localhost:8000`, `https://api.openai.com/v1`, …. Without a path,
    /// `/v1` is meant.
    pub base_url: String,
    /// The name of the model, as the server knows it.
    pub model: String,
    /// The key, if the server wants one.
    pub key: Option<ApiKey>,
    /// The sampling temperature; the server's own where there is none.
    pub temperature: Option<f64>,
    /// The most tokens of an answer; the server's own limit where there is none (Anthropic, which
    /// asks for one, is told 4096).
    pub max_tokens: Option<u32>,
    /// How long each stage may take.
    pub timeouts: Timeouts,
    /// How often a request is repeated after status 429, 529, or one from 500 to 504, before any text
    /// has come.
    pub retries_max: usize,
    /// The pause before the first repetition; each further one is twice as long, and up to a half
    /// longer by chance. A server's `Retry-After` lengthens it.
    pub first_pause: Duration,
    /// The most bytes that are read of a response.
    pub response_bytes_max: usize,
}

impl ChatOptions {
    /// No key, the server's own temperature and limit, five repetitions, at most 16 MiB.
    pub fn new(api: Api, base_url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            api,
            base_url: base_url.into(),
            model: model.into(),
            key: None,
            temperature: None,
            max_tokens: None,
            timeouts: Timeouts::default(),
            retries_max: 5,
            first_pause: Duration::from_millis(500),
            response_bytes_max: 16 << 20,
        }
    }
}
