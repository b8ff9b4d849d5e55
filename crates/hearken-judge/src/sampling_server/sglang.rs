//! SGLang, by the addresses of its own: `POST /update_weights_from_disk` and `POST /generate`
//! (<https://docs.sglang.io/basic_usage/native_api.html>, `sampling_params.html`).
//!
//! Log-probabilities are those under the temperature, before top-k, top-p and min-p, as Hearken's, unless the server was started
//! with `SGLANG_RETURN_ORIGINAL_LOGPROB`.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{SampleRequest, Sampled, SampledCompletion, SamplingServer, SamplingServerError};

const LOAD: &str = "/update_weights_from_disk";
const GENERATE: &str = "/generate";

#[derive(Deserialize)]
struct Loaded {
    success: bool,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Generated {
    meta_info: MetaInfo,
}

#[derive(Deserialize)]
struct MetaInfo {
    #[serde(rename = "finish_reason")]
    stop_reason: EndedBy,
    /// Log-probability, token, and text or nothing, of each token.
    output_token_logprobs: Vec<(f64, u32, Value)>,
    /// Of servers that keep count.
    #[serde(default)]
    weight_version: Option<String>,
}

#[derive(Deserialize)]
struct EndedBy {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    message: String,
}

/// Has the server read a model; the version is the folder, since nobody else gives it one.
pub(super) fn load(
    server: &SamplingServer,
    directory: &Path,
) -> Result<String, SamplingServerError> {
    let version = directory.display().to_string();
    let body = json!({
        "model_path": version,
        "weight_version": version,
        // Those of a run that was killed: nobody waits for them, and the cache is emptied only without any.
        "abort_all_requests": true,
        "flush_cache": true,
    });
    let loaded: Loaded = server.post(LOAD, &body)?;
    match loaded.success {
        true => Ok(version),
        false => Err(server.failure(LOAD, loaded.message, true)),
    }
}

/// Each completion is a prompt of its own with its own seed: one seed for several would write the same several times.
pub(super) fn complete(
    server: &SamplingServer,
    request: &SampleRequest<'_>,
) -> Result<Sampled, SamplingServerError> {
    let params = |sample: usize| {
        let mut params = json!({
            "max_new_tokens": request.max_new_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "top_k": request.top_k.map_or(-1, |k| i64::try_from(k).unwrap_or(i64::MAX)),
            "min_p": request.min_p,
            "sampling_seed": request.seed_of(sample),
        });
        if !request.stop.is_empty() {
            params["stop"] = json!(request.stop);
        }
        params
    };
    let body = json!({
        "input_ids": vec![request.prompt_ids; request.samples],
        "sampling_params": (0..request.samples).map(params).collect::<Vec<_>>(),
        "return_logprob": true,
    });
    let answers: Vec<Generated> = server.post(GENERATE, &body)?;
    server.expect_count(GENERATE, answers.len(), request.samples)?;
    let version = answers.first().and_then(|one| one.meta_info.weight_version.clone());
    if answers.iter().any(|one| one.meta_info.weight_version != version) {
        let reason = "found completions of several versions of the weights, expected one";
        return Err(server.failure(GENERATE, reason.to_owned(), false));
    }
    let completion = |one: Generated| -> Result<SampledCompletion, SamplingServerError> {
        let MetaInfo { stop_reason: EndedBy { kind, message }, output_token_logprobs, .. } =
            one.meta_info;
        if !["stop", "length"].contains(&kind.as_str()) {
            let reason = format!(
                "found a completion that ended by {kind:?} {message}, expected \"stop\" or \"length\""
            );
            return Err(server.failure(GENERATE, reason, false));
        }
        let (ids, logprobs) =
            output_token_logprobs.into_iter().map(|(logprob, id, _)| (id, logprob)).unzip();
        server.completion(GENERATE, ids, logprobs, kind == "stop")
    };
    let completions = answers.into_iter().map(completion).collect::<Result<_, _>>()?;
    Ok(Sampled { version, completions })
}
