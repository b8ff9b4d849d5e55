//! Scores from a server that takes JSON batches.

use std::thread;
use std::time::Duration;

use hearken_patience::{Patience, asked_pause};
use serde::Serialize;
use serde_json::Value;
use ureq::Agent;

use crate::item::{excerpt, finite_score};
use crate::{Item, JudgeError};

/// Which server scores, and how patient the client is.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpOptions {
    /// Where batches are posted.
    pub url: String,
    /// The longest time for one request, repeated attempts and pauses included.
    pub deadline: Duration,
    /// The most items in one request.
    pub items_max: usize,
    /// How often a request is repeated after status 429, a status of 500 or above, or a broken
    /// connection.
    pub retries_max: usize,
    /// The pause before the first repetition; each further pause is twice as long, and up to a half
    /// more at random. A server's `Retry-After` lengthens it.
    pub first_pause: Duration,
}

impl HttpOptions {
    /// 64 items a request, a minute for each, five repetitions, the first after half a second.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            deadline: Duration::from_secs(60),
            items_max: 64,
            retries_max: 5,
            first_pause: Duration::from_millis(500),
        }
    }
}

/// A server that is sent `{"items": [{"prompt": …, "completion": …}, …]}` (each item with its further
/// fields) and answers `{"scores": [NUMBER, …]}`, one per item and in order.
#[derive(Debug)]
pub struct HttpScorer {
    options: HttpOptions,
    agent: Agent,
}

#[derive(Serialize)]
struct PostRequest<'a> {
    items: &'a [Item<'a>],
}

/// What one attempt came to.
enum Attempt {
    Body(String),
    Repeat { error: JudgeError, pause: Option<Duration> },
    Fail(JudgeError),
}

impl HttpScorer {
    /// A client of the server. Nothing is sent.
    ///
    /// # Errors
    /// [`JudgeError::BadUrl`] if the URL is none, or neither http nor https.
    ///
    /// # Panics
    /// If `items_max` is 0.
    pub fn new(options: HttpOptions) -> Result<Self, JudgeError> {
        assert!(0 < options.items_max, "items_max: at least one item a request");
        let bad = |reason: String| JudgeError::BadUrl { url: options.url.clone(), reason };
        let uri: ureq::http::Uri = options
            .url
            .parse()
            .map_err(|error: ureq::http::uri::InvalidUri| bad(error.to_string()))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(bad("it begins with neither http:// nor https://".to_owned()));
        }
        let config = Agent::config_builder().http_status_as_error(false).build();
        Ok(Self { agent: config.new_agent(), options })
    }

    /// One score per item, in order.
    ///
    /// # Errors
    /// If a request fails for good, is late, or the answer is not one finite number per item.
    pub fn score(&mut self, items: &[Item<'_>]) -> Result<Vec<f64>, JudgeError> {
        let mut scores = Vec::with_capacity(items.len());
        for batch in items.chunks(self.options.items_max) {
            let body = self.post(batch)?;
            scores.extend(self.parse(&body, batch.len())?);
        }
        Ok(scores)
    }

    fn post(&self, items: &[Item<'_>]) -> Result<String, JudgeError> {
        let HttpOptions { deadline, retries_max, first_pause, .. } = self.options;
        let mut patience = Patience::new(retries_max, first_pause).within(deadline);
        let mut attempts = 0;
        loop {
            let left = patience.left();
            if left.is_zero() {
                return Err(self.late(attempts));
            }
            attempts += 1;
            match self.attempt(items, left, attempts) {
                Attempt::Body(body) => return Ok(body),
                Attempt::Fail(error) => return Err(error),
                Attempt::Repeat { error, pause: asked } => {
                    thread::sleep(patience.next_pause(asked).ok_or(error)?);
                }
            }
        }
    }

    fn attempt(&self, items: &[Item<'_>], left: Duration, attempts: usize) -> Attempt {
        let url = &self.options.url;
        let request = self
            .agent
            .post(url)
            .config()
            .timeout_global(Some(left))
            .build()
            .send_json(PostRequest { items });
        let transport = |error: ureq::Error| match error {
            ureq::Error::Timeout(_) => Attempt::Fail(self.late(attempts)),
            error => Attempt::Repeat {
                error: JudgeError::Transport {
                    url: url.clone(),
                    attempts,
                    reason: error.to_string(),
                },
                pause: None,
            },
        };
        let mut response = match request {
            Ok(response) => response,
            Err(error) => return transport(error),
        };
        let status = response.status();
        let asked = asked_pause(response.headers());
        let body = match response.body_mut().read_to_string() {
            Ok(body) => body,
            Err(error) => return transport(error),
        };
        if status.is_success() {
            return Attempt::Body(body);
        }
        let error = JudgeError::Status {
            url: url.clone(),
            status: status.as_u16(),
            attempts,
            body: excerpt(&body),
        };
        if status.as_u16() == 429 || status.is_server_error() {
            Attempt::Repeat { error, pause: asked }
        } else {
            Attempt::Fail(error)
        }
    }

    fn late(&self, attempts: usize) -> JudgeError {
        JudgeError::HttpDeadline {
            url: self.options.url.clone(),
            seconds: self.options.deadline.as_secs_f64(),
            attempts,
        }
    }

    fn parse(&self, body: &str, expected: usize) -> Result<Vec<f64>, JudgeError> {
        let bad = |reason: String| JudgeError::BadBody {
            url: self.options.url.clone(),
            reason,
            body: excerpt(body),
        };
        let value: Value =
            serde_json::from_str(body).map_err(|error| bad(format!("not JSON ({error})")))?;
        let scores = value
            .get("scores")
            .and_then(Value::as_array)
            .ok_or_else(|| bad("no list \"scores\"".to_owned()))?;
        if scores.len() != expected {
            return Err(JudgeError::Count {
                url: self.options.url.clone(),
                found: scores.len(),
                expected,
            });
        }
        scores
            .iter()
            .enumerate()
            .map(|(i, score)| {
                finite_score(Some(score))
                    .map_err(|reason| bad(format!("score {}: {reason}", i + 1)))
            })
            .collect()
    }
}
