//! What a request may hold, and what becomes of it.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::http::{HeaderMap, header};
use hearken_data::Message;
use hearken_data::feedback::served::pseudonym;
use hearken_generate::{Sampling, Wishes};
use rand::RngExt as _;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::constraint::ResponseFormat;
use crate::error::ApiError;

/// The most likeliest tokens that are reported.
pub(crate) const LIKELIEST_MAX: u32 = 20;
/// The most completions of one prompt.
pub(crate) const SAMPLES_MAX: u32 = 128;
/// The most texts that end a completion.
const STOPS_MAX: usize = 16;
/// The most tokens with a bias.
const BIASES_MAX: usize = 1024;

/// Parameters of OpenAI's that are known and not done here.
const UNSUPPORTED: [&str; 11] = [
    "audio",
    "best_of",
    "echo",
    "function_call",
    "functions",
    "modalities",
    "prediction",
    "reasoning_effort",
    "suffix",
    "verbosity",
    "web_search_options",
];

/// The body of a request.
///
/// # Errors
/// It is no JSON of this form; the parameter is named.
pub(crate) fn parse<T: DeserializeOwned>(headers: &HeaderMap, body: &Bytes) -> Result<T, ApiError> {
    let kind = headers.get(header::CONTENT_TYPE).map(|kind| kind.to_str().unwrap_or_default());
    let kind = kind.unwrap_or_default();
    // Pages of other sites can send other types without being asked whether they may.
    if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        return Err(ApiError::Type(kind.to_owned()));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let parsed = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        invalid(&path, &error.into_inner())
    })?;
    match deserializer.end() {
        Ok(()) => Ok(parsed),
        Err(error) => Err(invalid(".", &error)),
    }
}

fn invalid(path: &str, error: &serde_json::Error) -> ApiError {
    let message = error.to_string();
    let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`'));
    if let Some((name, _)) = unknown {
        let is_known = UNSUPPORTED.contains(&name);
        let (what, code) = match is_known {
            true => ("is not supported here", "unsupported_parameter"),
            false => ("is no parameter of this request", "unknown_parameter"),
        };
        return ApiError::Invalid {
            message: format!("`{name}` {what}"),
            param: Some(name.to_owned()),
            code: Some(code),
        };
    }
    let param = Some(path.to_owned()).filter(|path| path != "." && path != "?");
    let message = match &param {
        Some(param) => format!("`{param}`: {message}"),
        None => message,
    };
    ApiError::Invalid { message, param, code: None }
}

/// One text or several.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
pub(crate) enum Texts {
    One(#[schemars(length(min = 1))] String),
    Many(Vec<String>),
}

/// A prompt, or several.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected a text, a list of token ids, or a list of texts or of lists of token ids"
)]
pub(crate) enum Prompts {
    Text(String),
    Ids(Vec<u32>),
    Texts(Vec<String>),
    IdsMany(Vec<Vec<u32>>),
}

/// What a stream tells beside the answer.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StreamOptions {
    /// Send a last chunk with the counts of tokens.
    #[serde(default)]
    pub(crate) include_usage: bool,
    /// Accepted, and without effect: nothing is added to chunks.
    #[serde(default, rename = "include_obfuscation")]
    _include_obfuscation: bool,
}

/// Defines a request with the fields that both kinds of completions have.
macro_rules! completions_request {
    ($(#[$doc:meta])* $name:ident { $($own:tt)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $name {
            /// The name of a served model; the base where it is not given.
            pub(crate) model: Option<String>,
            $($own)*
            /// The temperature; 0 always takes the likeliest token. 1 where it is not given.
            #[schemars(range(min = 0.0, max = 2.0))]
            pub(crate) temperature: Option<f64>,
            /// Sample among the likeliest tokens that together have this probability.
            #[schemars(range(min = 0.0, max = 1.0))]
            pub(crate) top_p: Option<f64>,
            /// Sample among this many likeliest tokens.
            #[schemars(range(min = 1))]
            pub(crate) top_k: Option<u32>,
            /// Sample among tokens at least this fraction as likely as the likeliest.
            #[schemars(range(min = 0.0, max = 1.0))]
            pub(crate) min_p: Option<f64>,
            /// Completions of each prompt.
            #[schemars(range(min = 1, max = 128))]
            pub(crate) n: Option<u32>,
            /// The same seed gives the same completions.
            pub(crate) seed: Option<i64>,
            /// Texts at which a completion ends.
            pub(crate) stop: Option<Texts>,
            /// What is added to the logits of tokens, by their ids; from -100 to 100.
            pub(crate) logit_bias: Option<BTreeMap<String, f64>>,
            /// Taken from a token's logit for each time that the completion has it.
            #[schemars(range(min = -2.0, max = 2.0))]
            pub(crate) frequency_penalty: Option<f64>,
            /// Taken from the logit of a token that the completion has.
            #[schemars(range(min = -2.0, max = 2.0))]
            pub(crate) presence_penalty: Option<f64>,
            /// The most tokens of a completion.
            #[schemars(range(min = 1))]
            pub(crate) max_tokens: Option<u32>,
            /// Go on after an end token.
            pub(crate) ignore_eos: Option<bool>,
            /// Send the answer as it comes.
            pub(crate) stream: Option<bool>,
            /// What a stream tells beside the answer.
            pub(crate) stream_options: Option<StreamOptions>,
            /// What the answer has to be.
            pub(crate) response_format: Option<ResponseFormat>,
            /// One of these texts is the answer.
            pub(crate) structured_outputs: Option<crate::constraint::StructuredOutputs>,
            /// Tell the token ids of the prompt and of each completion, and the log-probabilities under
            /// which they were sampled.
            pub(crate) return_token_ids: Option<bool>,
            /// Write the answers down for training, or do not; where it is not given, the service's setting holds.
            pub(crate) store: Option<bool>,
            /// Who asks. Where answers are written down, so is a digest of it, by which `/admin/forget` finds them.
            pub(crate) user: Option<String>,
        }

        impl $name {
            /// How tokens are chosen.
            ///
            /// # Errors
            /// A number is out of its range.
            pub(crate) fn shared(&self) -> Result<CheckedRequest, ApiError> {
                let number = |name, given: Option<f64>, range: (f64, f64), otherwise| match given {
                    None => Ok(otherwise),
                    Some(found) if range.0 <= found && found <= range.1 => Ok(found),
                    Some(found) => Err(out_of_range(name, found, range)),
                };
                let sampling = Sampling {
                    temperature: number("temperature", self.temperature, (0.0, 2.0), 1.0)?,
                    top_p: number("top_p", self.top_p, (0.0, 1.0), 1.0)?,
                    top_k: self.top_k.map(|k| at_least_one("top_k", k)).transpose()?,
                    min_p: number("min_p", self.min_p, (0.0, 1.0), 0.0)?,
                    max_new_tokens: 0,
                    stop: stops(self.stop.as_ref())?,
                    ignore_eos: self.ignore_eos.unwrap_or(false),
                };
                let penalty = |name, given| number(name, given, (-2.0, 2.0), 0.0);
                let wishes = Wishes {
                    bias: biases(self.logit_bias.as_ref())?,
                    frequency_penalty: penalty("frequency_penalty", self.frequency_penalty)?,
                    presence_penalty: penalty("presence_penalty", self.presence_penalty)?,
                    ..Wishes::default()
                };
                let samples = at_least_one("n", self.n.unwrap_or(1))?;
                if samples > SAMPLES_MAX as usize {
                    return Err(out_of_range("n", samples as f64, (1.0, f64::from(SAMPLES_MAX))));
                }
                let streams = self.stream.unwrap_or(false);
                if self.stream_options.is_some() && !streams {
                    let message = "`stream_options` are only for `stream`: true";
                    return Err(ApiError::param("stream_options", message));
                }
                Ok(CheckedRequest {
                    sampling,
                    wishes,
                    samples,
                    // Every seed is one, whatever its sign.
                    seed: self.seed.map_or_else(|| rand::rng().random(), i64::cast_unsigned),
                    streams,
                    include_usage: self.stream_options.unwrap_or_default().include_usage,
                    return_token_ids: self.return_token_ids.unwrap_or(false),
                })
            }
        }
    };
}

/// What both kinds of completions have, checked.
#[derive(Debug)]
pub(crate) struct CheckedRequest {
    /// Without the most tokens.
    pub(crate) sampling: Sampling,
    /// Without a guide and reports.
    pub(crate) wishes: Wishes,
    pub(crate) samples: usize,
    pub(crate) seed: u64,
    pub(crate) streams: bool,
    pub(crate) include_usage: bool,
    pub(crate) return_token_ids: bool,
}

completions_request! {
    /// What `/v1/chat/completions` takes.
    ChatRequest {
        /// The conversation.
        #[schemars(length(min = 1))]
        pub(crate) messages: Vec<Message>,
        /// The most tokens of an answer; takes the place of `max_tokens`.
        #[schemars(range(min = 1))]
        pub(crate) max_completion_tokens: Option<u32>,
        /// Report the log-probability of every token.
        pub(crate) logprobs: Option<bool>,
        /// Report this many likeliest tokens in the place of each.
        #[schemars(range(min = 0, max = 20))]
        pub(crate) top_logprobs: Option<u32>,
        /// What the model may call, for its template.
        pub(crate) tools: Option<Vec<Map<String, Value>>>,
        /// "none", "auto", "required", or the one that must be called.
        pub(crate) tool_choice: Option<ToolChoice>,
        /// Further variables of the template.
        pub(crate) chat_template_kwargs: Option<Map<String, Value>>,
        /// Accepted, and without effect: a model calls as many tools as it writes.
        #[serde(rename = "parallel_tool_calls")]
        _parallel_tool_calls: Option<bool>,
        /// Accepted, and without effect.
        #[serde(rename = "metadata")]
        _metadata: Option<Map<String, Value>>,
        /// Accepted, and without effect.
        #[serde(rename = "service_tier")]
        _service_tier: Option<String>,
    }
}

completions_request! {
    /// What `/v1/completions` takes.
    CompletionRequest {
        /// What is completed: texts, or token ids that are used as they are.
        pub(crate) prompt: Prompts,
        /// Report the log-probability of every token, and this many likeliest tokens in its place.
        #[schemars(range(min = 0, max = 20))]
        pub(crate) logprobs: Option<u32>,
    }
}

/// Whether tools may be called, or must be.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum ToolChoice {
    /// Any of them, or none.
    Any(ToolWord),
    /// This one.
    One(NamedTool),
}

/// Whether tools are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ToolWord {
    None,
    Auto,
    Required,
}

/// The tool that must be called.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum NamedTool {
    Function { function: FunctionName },
}

/// The name of a function.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FunctionName {
    pub(crate) name: String,
}

/// How many likeliest tokens are reported.
pub(crate) fn likeliest(name: &str, count: u32) -> Result<usize, ApiError> {
    match count <= LIKELIEST_MAX {
        true => Ok(count as usize),
        false => Err(out_of_range(name, count.into(), (0.0, LIKELIEST_MAX.into()))),
    }
}

pub(crate) fn at_least_one(name: &str, count: u32) -> Result<usize, ApiError> {
    match count {
        0 => Err(ApiError::param(name, format!("`{name}` is 0; expected at least 1"))),
        count => Ok(count as usize),
    }
}

fn out_of_range(name: &str, found: f64, (low, high): (f64, f64)) -> ApiError {
    ApiError::param(name, format!("`{name}` is {found}; expected a number from {low} to {high}"))
}

fn stops(stop: Option<&Texts>) -> Result<Vec<String>, ApiError> {
    let stop = match stop {
        None => Vec::new(),
        Some(Texts::One(text)) => vec![text.clone()],
        Some(Texts::Many(texts)) => texts.clone(),
    };
    if STOPS_MAX < stop.len() {
        let message = format!("`stop` has {} texts; expected at most {STOPS_MAX}", stop.len());
        return Err(ApiError::param("stop", message));
    }
    if stop.iter().any(String::is_empty) {
        let message = "`stop` has an empty text; expected at least one character";
        return Err(ApiError::param("stop", message));
    }
    Ok(stop)
}

fn biases(given: Option<&BTreeMap<String, f64>>) -> Result<BTreeMap<u32, f32>, ApiError> {
    let Some(given) = given else { return Ok(BTreeMap::new()) };
    let wrong = |message: String| ApiError::param("logit_bias", message);
    if BIASES_MAX < given.len() {
        let found = given.len();
        return Err(wrong(format!(
            "`logit_bias` has {found} tokens; expected at most {BIASES_MAX}"
        )));
    }
    let bias = |(id, &added): (&String, &f64)| {
        let id = id.parse().map_err(|_| {
            wrong(format!("`logit_bias` has the key {id:?}; expected the id of a token"))
        })?;
        match (-100.0..=100.0).contains(&added) {
            true => Ok((id, added as f32)),
            false => Err(wrong(format!(
                "`logit_bias` of token {id} is {added}; expected a number from -100 to 100"
            ))),
        }
    };
    given.iter().map(bias).collect()
}

/// The pseudonym of whoever asks; none where a request names nobody.
pub(crate) fn asker(user: Option<&str>) -> Option<String> {
    user.filter(|user| !user.is_empty()).map(pseudonym)
}
