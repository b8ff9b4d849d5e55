//! vLLM: completions by OpenAI's API with `return_token_ids`, weights by `reload_weights` of its workers, which
//! `POST /collective_rpc` reaches where the server was started with `VLLM_SERVER_DEV_MODE=1`
//! (<https://docs.vllm.ai/en/latest/serving/openai_compatible_server/>, `vllm/v1/worker/gpu_model_runner.py`). Its own
//! transfer of weights goes from GPU to GPU.
//!
//! Log-probabilities are those before the temperature (`--logprobs-mode raw_logprobs`, the default): they are Hearken's where the
//! temperature is 1. Answers do not say which weights wrote them.

use std::path::Path;

use serde::Deserialize;
use serde_json::json;

use super::{SampleRequest, Sampled, SampledCompletion, SamplingServer, SamplingServerError};

const LOAD: &str = "/collective_rpc";
/// What was computed under other weights is forgotten, and where something runs it begins anew.
const FORGET: &str = "/reset_prefix_cache?reset_running_requests=true";
const COMPLETE: &str = "/v1/completions";

#[derive(Deserialize)]
struct Completions {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    index: usize,
    #[serde(rename = "finish_reason")]
    stop_reason: String,
    token_ids: Vec<u32>,
    logprobs: Logprobs,
}

#[derive(Deserialize)]
struct Logprobs {
    token_logprobs: Vec<f64>,
}

pub(super) fn load(
    server: &SamplingServer,
    directory: &Path,
) -> Result<String, SamplingServerError> {
    let version = directory.display().to_string();
    let body = json!({ "method": "reload_weights", "kwargs": { "weights_path": version } });
    server.tell(LOAD, &body).map_err(|error| match error.reason.starts_with("status 404") {
        true => {
            let hint = "vLLM takes new weights where it is started with VLLM_SERVER_DEV_MODE=1";
            SamplingServerError { reason: format!("{}; {hint}", error.reason), ..error }
        }
        false => error,
    })?;
    server.tell(FORGET, &json!({}))?;
    Ok(version)
}

pub(super) fn complete(
    server: &SamplingServer,
    model: &str,
    request: &SampleRequest<'_>,
) -> Result<Sampled, SamplingServerError> {
    let temperature = request.temperature;
    if (temperature - 1.0).abs() > f64::EPSILON {
        let reason = format!(
            "found a temperature of {temperature}, expected 1: vLLM tells log-probabilities without the temperature"
        );
        return Err(server.failure(COMPLETE, reason, true));
    }
    let mut body = json!({
        "model": model,
        "prompt": request.prompt_ids,
        "n": request.samples,
        "seed": request.seed_of(0),
        "temperature": temperature,
        "top_p": request.top_p,
        "top_k": request.top_k.unwrap_or(0),
        "min_p": request.min_p,
        "max_tokens": request.max_new_tokens,
        "logprobs": 1,
        "return_token_ids": true,
    });
    if !request.stop.is_empty() {
        body["stop"] = json!(request.stop);
    }
    let Completions { mut choices } = server.post(COMPLETE, &body)?;
    choices.sort_by_key(|choice| choice.index);
    server.expect_count(COMPLETE, choices.len(), request.samples)?;
    let completion = |choice: Choice| -> Result<SampledCompletion, SamplingServerError> {
        let Choice { stop_reason, token_ids, logprobs, .. } = choice;
        if !["stop", "length"].contains(&stop_reason.as_str()) {
            let reason = format!(
                "found a completion that ended by {stop_reason:?}, expected \"stop\" or \"length\""
            );
            return Err(server.failure(COMPLETE, reason, false));
        }
        server.completion(COMPLETE, token_ids, logprobs.token_logprobs, stop_reason == "stop")
    };
    let completions = choices.into_iter().map(completion).collect::<Result<_, _>>()?;
    Ok(Sampled { version: None, completions })
}
