//! `POST /v1/logprobs`: how likely a model finds completions that somebody else wrote.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use hearken_generate::{GenerateError, Read, Reading, TokenReport};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::error::ApiError;
use crate::request::parse;
use crate::shapes::Usage;
use crate::state::AppState;

/// The most completions of one request.
const INPUTS_MAX: usize = 256;
/// The most likeliest tokens that are told of each place.
const LIKELIEST_MAX: usize = 1024;

/// What is read.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogprobsRequest {
    /// The name of a served model; the base where it is not given.
    model: Option<String>,
    /// Prompts with their completions.
    #[schemars(length(min = 1, max = 256))]
    input: Vec<Tokens>,
    /// Logits are divided by it.
    #[serde(default = "one")]
    temperature: f64,
    /// How many of the likeliest tokens are told in the place of each.
    #[serde(default)]
    #[schemars(range(max = 1024))]
    top_logprobs: usize,
}

fn one() -> f64 {
    1.0
}

/// A prompt with its completion, as tokens.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Tokens {
    #[schemars(length(min = 1))]
    prompt_ids: Vec<u32>,
    completion_ids: Vec<u32>,
}

/// What was found.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct LogprobsList {
    object: &'static str,
    model: String,
    /// The version of the weights.
    version: String,
    data: Vec<LogprobsBody>,
    usage: Usage,
}

/// How likely the tokens of a completion are.
#[derive(Debug, Serialize, JsonSchema)]
struct LogprobsBody {
    index: usize,
    object: &'static str,
    /// The log-probability of each token, in nats.
    logprobs: Vec<f64>,
    /// The likeliest tokens in the place of each, in order.
    top_ids: Vec<Vec<u32>>,
    /// Their log-probabilities.
    top_logprobs: Vec<Vec<f64>>,
}

impl LogprobsBody {
    fn new((index, reports): (usize, Vec<TokenReport>)) -> Self {
        let logprobs = reports.iter().map(|report| report.logprob).collect();
        let likeliest = reports.into_iter().map(|report| report.likeliest.into_iter().unzip());
        let (top_ids, top_logprobs) = likeliest.unzip();
        Self { index, object: "logprobs", logprobs, top_ids, top_logprobs }
    }
}

/// `POST /v1/logprobs`.
pub(crate) async fn post(
    State(state): State<AppState>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<LogprobsList>, ApiError> {
    let LogprobsRequest { model, input, temperature, top_logprobs } = parse(&headers, &body)?;
    let served = state.find(model.as_deref())?;
    let weights = served.weights();
    if input.is_empty() || INPUTS_MAX < input.len() {
        let message =
            format!("`input` has {} completions; expected 1 to {INPUTS_MAX}", input.len());
        return Err(ApiError::param("input", message));
    }
    let most = LIKELIEST_MAX.min(weights.vocab);
    if most < top_logprobs {
        let message = format!("`top_logprobs` is {top_logprobs}; expected at most {most}");
        return Err(ApiError::param("top_logprobs", message));
    }
    let count = |one: &Tokens| [one.prompt_ids.len(), one.completion_ids.len()];
    let counts =
        input.iter().map(count).fold([0, 0], |sum, one| [sum[0] + one[0], sum[1] + one[1]]);
    let sequences = input.into_iter().map(|one| (one.prompt_ids, one.completion_ids)).collect();
    let _place = state.enter(1)?;
    let (tell, told) = oneshot::channel::<Result<Read, GenerateError>>();
    let adapter = weights.adapter();
    let reading = Reading { sequences, temperature, likeliest: top_logprobs, adapter };
    // Whoever has gone is not told.
    weights.engine.read_into(reading, Box::new(move |read| drop(tell.send(read))));
    let read = tokio::select! {
        told = told => told.map_err(|_| ApiError::Internal(GenerateError::Gone.to_string()))?,
        () = tokio::time::sleep(state.options.timeout) => {
            return Err(ApiError::Timeout(state.options.timeout.as_secs()));
        }
        () = state.cut() => return Err(ApiError::Ending),
    };
    let data = read.map_err(refused)?.into_iter().enumerate().map(LogprobsBody::new).collect();
    let usage = Usage::new(counts[0], counts[1]);
    let (model, version) = (served.name.clone(), weights.version.clone());
    Ok(Json(LogprobsList { object: "list", model, version, data, usage }))
}

/// What the engine refuses.
fn refused(error: GenerateError) -> ApiError {
    let message = error.to_string();
    match error {
        GenerateError::Option { option, .. } => ApiError::param(option, message),
        error @ (GenerateError::EmptyPrompt { .. }
        | GenerateError::UnknownToken { .. }
        | GenerateError::TooLong { .. }) => match error.request() {
            Some(index) => ApiError::param(&format!("input[{index}]"), message),
            None => ApiError::param("input", message),
        },
        _ => ApiError::Internal(message),
    }
}
