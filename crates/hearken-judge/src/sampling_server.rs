//! A server that samples completions for whoever has the weights, and is told where they lie: `hearken serve`, or another
//! [`ServerEngine`].
//!
//! Addresses and fields are those of the server's own description, `GET /openapi.json`.

mod engine;
mod sglang;
mod vllm;

use std::path::Path;
use std::thread;
use std::time::Duration;

use hearken_patience::{Patience, asked_pause};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use ureq::http::Response;
use ureq::{Agent, Body};

use crate::item::excerpt;

pub use engine::{Sampled, ServerEngine};

/// Repetitions where a server is busy.
const RETRIES_MAX: usize = 20;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const CONNECT: Duration = Duration::from_secs(10);

/// Why a server did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {reason}")]
pub struct SamplingServerError {
    /// What was asked.
    pub url: String,
    /// What came of it.
    pub reason: String,
    /// Whether another server, or the same one later, would say the same: the request is at fault.
    pub is_of_request: bool,
}

/// A prompt to complete. What each number means is said of `hearken generate`.
#[derive(Clone, Debug)]
pub struct SampleRequest<'a> {
    /// The prompt.
    pub prompt_ids: &'a [u32],
    /// Completions of it.
    pub samples: usize,
    /// Of the random numbers of all of them.
    pub seed: u64,
    /// Logits are divided by it.
    pub temperature: f64,
    /// What is kept of the distribution.
    pub top_p: f64,
    /// How many tokens are kept; `None` is all.
    pub top_k: Option<usize>,
    /// Below which share of the likeliest's probability tokens are dropped.
    pub min_p: f64,
    /// The most tokens of a completion.
    pub max_new_tokens: usize,
    /// Texts that end a completion.
    pub stop: &'a [String],
}

impl SampleRequest<'_> {
    /// A seed of one of the completions, for engines that take numbers of 63 bits.
    fn seed_of(&self, sample: usize) -> u64 {
        (self.seed >> 2) + sample as u64
    }
}

/// Weights that a server has read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedWeights {
    /// The program that read them.
    pub engine: ServerEngine,
    /// What it calls its model.
    pub model: String,
    /// What answers say which weights wrote them by, from then on: of [`ServerEngine::Hearken`] what the same
    /// weights have everywhere.
    pub version: String,
}

/// A completion, as the server tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct SampledCompletion {
    /// The tokens, an end token included.
    pub ids: Vec<u32>,
    /// The log-probability of each under the temperature, before anything was cut off, in nats.
    pub logprobs: Vec<f64>,
    /// Whether the policy ended it, and not a limit.
    pub is_ended: bool,
}

/// Completions of which the model is to say how likely their tokens are.
#[derive(Clone, Debug)]
pub struct LogprobsRequest<'a> {
    /// The name of the model; `None` is the server's first.
    pub model: Option<&'a str>,
    /// Prompts with their completions, as tokens.
    pub sequences: &'a [(&'a [u32], &'a [u32])],
    /// Logits are divided by it.
    pub temperature: f64,
    /// How many of the likeliest tokens are told beside each.
    pub likeliest: usize,
}

/// How likely a token is, and what is likelier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprobs {
    /// Its log-probability, in nats.
    pub logprob: f64,
    /// The likeliest tokens in its place with theirs, in order.
    pub likeliest: Vec<(u32, f64)>,
}

/// What a served model's tokens are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ServedTokens {
    /// How many there are.
    #[serde(rename = "vocab_size")]
    pub vocab: usize,
    /// A digest of the tokenizer: those that encode every text alike have the same.
    pub tokenizer: String,
}

/// A server of completions.
#[derive(Clone, Debug)]
pub struct SamplingServer {
    url: String,
    client: Agent,
    key: Option<String>,
    timeout: Duration,
}

#[derive(Deserialize)]
struct WeightsAnswer {
    version: String,
}

#[derive(Deserialize)]
struct CompletionsAnswer {
    system_fingerprint: String,
    choices: Vec<CompletionChoice>,
}

#[derive(Deserialize)]
struct CompletionChoice {
    index: usize,
    #[serde(rename = "finish_reason")]
    stop_reason: String,
    token_ids: Vec<u32>,
    sampled_logprobs: Vec<f64>,
}

#[derive(Deserialize)]
struct LogprobsAnswer {
    data: Vec<SequenceLogprobs>,
}

#[derive(Deserialize)]
struct SequenceLogprobs {
    logprobs: Vec<f64>,
    top_ids: Vec<Vec<u32>>,
    top_logprobs: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct ModelsAnswer {
    data: Vec<Value>,
}

impl SamplingServer {
    /// A client of the server at `url`; nothing is sent. `key` opens `/admin/weights`, and what else wants
    /// a key; `timeout` is the longest time for one answer, pauses included.
    ///
    /// # Errors
    /// If the URL is none, or neither http nor https.
    pub fn new(
        url: &str,
        key: Option<String>,
        timeout: Duration,
    ) -> Result<Self, SamplingServerError> {
        let bad = |reason: String| SamplingServerError {
            url: url.to_owned(),
            reason,
            is_of_request: true,
        };
        let uri: ureq::http::Uri =
            url.parse().map_err(|error: ureq::http::uri::InvalidUri| bad(error.to_string()))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(bad("it begins with neither http:// nor https://".to_owned()));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT.min(timeout)))
            .build();
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { url, client: config.new_agent(), key, timeout })
    }

    /// The address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// [`SamplingServer::load`] of `hearken serve`; gives the version.
    fn load_own(&self, directory: &Path, is_adapter: bool) -> Result<String, SamplingServerError> {
        let kind = if is_adapter { "adapter" } else { "path" };
        let body = json!({ kind: directory.display().to_string() });
        let answer: WeightsAnswer = self.post("/admin/weights", &body)?;
        Ok(answer.version)
    }

    /// [`SamplingServer::complete`] of `hearken serve`.
    fn complete_own(&self, request: &SampleRequest<'_>) -> Result<Sampled, SamplingServerError> {
        let mut body = json!({
            "prompt": request.prompt_ids,
            "n": request.samples,
            // All 64 bits; the API's numbers have a sign.
            "seed": request.seed.cast_signed(),
            "temperature": request.temperature,
            "top_p": request.top_p,
            "min_p": request.min_p,
            "max_tokens": request.max_new_tokens,
            "return_token_ids": true,
        });
        if let Some(k) = request.top_k {
            body["top_k"] = json!(k);
        }
        if !request.stop.is_empty() {
            body["stop"] = json!(request.stop);
        }
        let path = "/v1/completions";
        let answer: CompletionsAnswer = self.post(path, &body)?;
        let mut choices = answer.choices;
        choices.sort_by_key(|choice| choice.index);
        self.expect_count(path, choices.len(), request.samples)?;
        let completions = choices.into_iter().map(|choice| {
            let CompletionChoice { token_ids, sampled_logprobs, stop_reason, .. } = choice;
            self.completion(path, token_ids, sampled_logprobs, stop_reason == "stop")
        });
        let completions = completions.collect::<Result<_, _>>()?;
        Ok(Sampled { version: Some(answer.system_fingerprint), completions })
    }

    /// What the model says of the tokens of completions: one list for each, in order.
    ///
    /// # Errors
    /// If the server is not reached, refuses, or answers with something else.
    pub fn logprobs(
        &self,
        request: &LogprobsRequest<'_>,
    ) -> Result<Vec<Vec<TokenLogprobs>>, SamplingServerError> {
        let input = |(prompt_ids, completion_ids): &(&[u32], &[u32])| json!({ "prompt_ids": prompt_ids, "completion_ids": completion_ids });
        let mut body = json!({
            "input": request.sequences.iter().map(input).collect::<Vec<_>>(),
            "temperature": request.temperature,
            "top_logprobs": request.likeliest,
        });
        if let Some(model) = request.model {
            body["model"] = json!(model);
        }
        let path = "/v1/logprobs";
        let answer: LogprobsAnswer = self.post(path, &body)?;
        let (found, expected) = (answer.data.len(), request.sequences.len());
        if found != expected {
            let reason = format!("{found} lists of log-probabilities, expected {expected}");
            return Err(self.failure(path, reason, false));
        }
        let mut told = Vec::with_capacity(expected);
        for (said, (_, completion)) in answer.data.into_iter().zip(request.sequences) {
            let counts = [said.logprobs.len(), said.top_ids.len(), said.top_logprobs.len()];
            let lists = said.top_ids.iter().zip(&said.top_logprobs);
            if counts != [completion.len(); 3] || lists.clone().any(|(a, b)| a.len() != b.len()) {
                let reason = format!("{counts:?} log-probabilities of {} tokens", completion.len());
                return Err(self.failure(path, reason, false));
            }
            let likeliest = said.top_ids.into_iter().zip(said.top_logprobs);
            let tokens = said.logprobs.into_iter().zip(likeliest);
            let token = |(logprob, (ids, logprobs)): (f64, (Vec<u32>, Vec<f64>))| TokenLogprobs {
                logprob,
                likeliest: ids.into_iter().zip(logprobs).collect(),
            };
            told.push(tokens.map(token).collect());
        }
        Ok(told)
    }

    /// What the tokens of a model are; of the server's first where it is not named.
    ///
    /// # Errors
    /// If the server is not reached, has no such model, or answers with something else.
    pub fn tokens(&self, model: Option<&str>) -> Result<ServedTokens, SamplingServerError> {
        let path = "/v1/models";
        let ModelsAnswer { data } = self.get(path)?;
        let known = |one: &Value| one["id"].as_str().map(str::to_owned);
        let found =
            data.iter().find(|one| model.is_none_or(|name| one["id"].as_str() == Some(name)));
        let Some(found) = found else {
            let names: Vec<String> = data.iter().filter_map(known).collect();
            let reason = format!(
                "found no model {:?}, expected one of {}",
                model.unwrap_or_default(),
                names.join(", ")
            );
            return Err(self.failure(path, reason, true));
        };
        serde_json::from_value(found.clone()).map_err(|error| {
            let reason = format!("no model whose log-probabilities can be asked for: {error}");
            self.failure(path, reason, true)
        })
    }

    fn failure(&self, path: &str, reason: String, is_of_request: bool) -> SamplingServerError {
        SamplingServerError { url: format!("{}{path}", self.url), reason, is_of_request }
    }

    /// Posts a request.
    fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<T, SamplingServerError> {
        let text = self.tell(path, body)?;
        self.read(path, &text)
    }

    /// Posts a request, and gives the text of the answer.
    fn tell(&self, path: &str, body: &Value) -> Result<String, SamplingServerError> {
        self.ask(path, |url, key, left| {
            let mut post = self.client.post(url);
            if let Some(key) = key {
                post = post.header("authorization", key);
            }
            post.config().timeout_global(Some(left)).build().send_json(body)
        })
    }

    /// Asks for what is at an address.
    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, SamplingServerError> {
        let text = self.ask(path, |url, key, left| {
            let mut get = self.client.get(url);
            if let Some(key) = key {
                get = get.header("authorization", key);
            }
            get.config().timeout_global(Some(left)).build().call()
        })?;
        self.read(path, &text)
    }

    /// What the text of an answer says.
    fn read<T: DeserializeOwned>(&self, path: &str, text: &str) -> Result<T, SamplingServerError> {
        serde_json::from_str(text).map_err(|error| {
            let reason = format!("not the answer of a server that samples: {error}: ");
            self.failure(path, reason + &excerpt(text), false)
        })
    }

    /// Sends a request, again after a pause where the server is busy; `send` is given the address, the key and the
    /// time that is left.
    fn ask(
        &self,
        path: &str,
        send: impl Fn(String, Option<String>, Duration) -> Result<Response<Body>, ureq::Error>,
    ) -> Result<String, SamplingServerError> {
        let mut patience = Patience::new(RETRIES_MAX, FIRST_PAUSE).within(self.timeout);
        loop {
            let key = self.key.as_ref().map(|key| format!("Bearer {key}"));
            let sent = send(format!("{}{path}", self.url), key, patience.left());
            let gone = |error: ureq::Error| self.failure(path, error.to_string(), false);
            let mut response = sent.map_err(gone)?;
            let status = response.status();
            let asked = asked_pause(response.headers());
            let limit = response.body_mut().with_config().limit(u64::MAX);
            let text = limit.read_to_string().map_err(gone)?;
            if status.is_success() {
                return Ok(text);
            }
            let reason = format!("status {}: {}", status.as_u16(), said(&text));
            if status.as_u16() == 429
                && let Some(pause) = patience.next_pause(asked)
            {
                thread::sleep(pause);
                continue;
            }
            let is_of_request = status.is_client_error() && ![408, 429].contains(&status.as_u16());
            return Err(self.failure(path, reason, is_of_request));
        }
    }
}

/// What an error of OpenAI's shape says, or how the text begins.
fn said(text: &str) -> String {
    let value: Option<Value> = serde_json::from_str(text).ok();
    let message = value.as_ref().and_then(|value| value["error"]["message"].as_str());
    message.map_or_else(|| excerpt(text), str::to_owned)
}
