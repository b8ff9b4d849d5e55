//! Language models behind APIs, as configurations name them.

use std::time::Duration;

use hearken_config::ApiJudge;
use hearken_judge::JudgeError;
use hearken_judge::chat::{Api, ApiKey, ChatOptions, Timeouts};
use hearken_judge::model::ChatModel;

/// How patient a client of an API is.
#[derive(Clone, Copy, Debug)]
pub struct Conduct {
    /// The time for an answer, repetitions included.
    pub limit: Duration,
    /// Repetitions of a question after an error that may pass.
    pub retries: usize,
}

/// Reads the key of an API and makes the client; nothing is sent.
///
/// # Errors
/// If the URL cannot be used, or the variable is not set.
pub fn open_api(api: &ApiJudge, kind: Api, conduct: Conduct) -> Result<ChatModel, JudgeError> {
    let Conduct { limit, retries } = conduct;
    ChatModel::new(ChatOptions {
        temperature: api.temperature.map(|temperature| *temperature),
        timeouts: Timeouts {
            connect: Timeouts::default().connect.min(limit),
            first_text: limit,
            between_texts: limit,
            total: limit,
        },
        retries_max: retries,
        key: api.key_env.as_deref().map(key).transpose()?,
        ..ChatOptions::new(kind, api.base_url.clone(), api.model.clone())
    })
}

fn key(variable: &str) -> Result<ApiKey, JudgeError> {
    std::env::var(variable).map(ApiKey::from).map_err(|_| JudgeError::Broken {
        judge: "`judge.key_env`".to_owned(),
        reason: format!(
            "found no environment variable {variable}, expected one that has the key of the API"
        ),
    })
}
