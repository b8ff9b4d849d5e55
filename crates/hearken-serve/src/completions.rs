//! `POST /v1/completions`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use hearken_data::Completion;
use hearken_generate::TokenReport;
use hearken_model::Tokenizer;
use hearken_model::tokenizer::Bos;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use crate::answer::{Ask, Progressed, Prompt};
use crate::error::ApiError;
use crate::request::{
    CheckedRequest, CompletionRequest, Prompts, asker, at_least_one, likeliest, parse,
};
use crate::shapes::{ChunkUsage, CompletionLogprobs, Finish, TokenIds, Usage};
use crate::state::{Answering, AppState, now_s};
use crate::stream::{self, Choices, Chunks};
use crate::{constraint, ids};

/// The most tokens of a completion where the request does not say.
const TOKENS_MAX: usize = 16;

/// Completions, whole or a piece of one.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TextCompletion {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
    /// The version of the weights.
    system_fingerprint: String,
    choices: Vec<TextChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<ChunkUsage>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct TextChoice {
    index: usize,
    text: String,
    logprobs: Option<CompletionLogprobs>,
    #[serde(rename = "finish_reason")]
    stop_reason: Option<Finish>,
    #[serde(flatten)]
    ids: TokenIds,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_token_ids: Option<Vec<u32>>,
}

/// A choice while it comes.
#[derive(Debug, Default)]
struct Growing {
    text: String,
    logprobs: CompletionLogprobs,
    /// Where the next token begins.
    offset: usize,
}

/// Makes answers, whole or in chunks.
#[derive(Debug)]
struct CompletionWriter {
    ask: Ask,
    created: u64,
    reports: bool,
    shared: CheckedRequest,
    choices: Vec<Growing>,
    sampled: usize,
}

pub(crate) async fn post(
    State(state): State<AppState>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let request: CompletionRequest = parse(&headers, &body)?;
    let (ask, shared) = asked(&state, &request)?;
    let places = state.enter(ask.completions())?;
    let choices = (0..ask.completions()).map(|_| Growing::default()).collect();
    let (created, reports) = (now_s(), request.logprobs.is_some());
    let streams = shared.streams;
    let mut writer = CompletionWriter { ask, created, reports, shared, choices, sampled: 0 };
    let told = writer.ask.clone().start(&state, places);
    if streams {
        return Ok(stream::response(told, writer));
    }
    let choices = stream::whole(told, &mut writer).await?;
    let mut answer = writer.answer(choices);
    answer.usage = Some(ChunkUsage::Counts(writer.usage()));
    Ok(Json(answer).into_response())
}

/// What is asked of the engine.
fn asked(state: &AppState, request: &CompletionRequest) -> Result<(Ask, CheckedRequest), ApiError> {
    let shared = request.shared()?;
    let reported = request.logprobs.map(|count| likeliest("logprobs", count)).transpose()?;
    let served = state.find(request.model.as_deref())?;
    let Answering { weights, shadow } = served.answering(&format!("{:?}", request.prompt));
    let mut wishes = shared.wishes.clone();
    wishes.likeliest = reported;
    wishes.guide = constraint::guide(
        &weights,
        request.response_format.as_ref(),
        request.structured_outputs.as_ref(),
    )?;
    let mut ask = Ask {
        id: ids::new("cmpl"),
        model: served.name.clone(),
        prompts: prompts(&weights.tokenizer, &request.prompt)?,
        weights,
        samples: shared.samples,
        sampling: shared.sampling.clone(),
        wishes,
        seed: shared.seed,
        trims: false,
        is_kept: state.keeps(request.store)?,
        by: asker(request.user.as_deref()),
        shadow,
        is_shadow: false,
    };
    let max = request.max_tokens.map(|max| at_least_one("max_tokens", max)).transpose()?;
    ask.limit(Some(max.unwrap_or(TOKENS_MAX)), "prompt")?;
    Ok((ask, shared))
}

fn prompts(tokenizer: &Tokenizer, prompts: &Prompts) -> Result<Vec<Prompt>, ApiError> {
    let text = |text: &String| {
        let ids = tokenizer.encode(text, Bos::AsConfigured);
        let ids = ids.map_err(|error| ApiError::param("prompt", format!("`prompt`: {error}")))?;
        Ok(Prompt { ids, given: json!(text) })
    };
    let given = |ids: &Vec<u32>| Prompt { ids: ids.clone(), given: serde_json::Value::Null };
    let found: Vec<Prompt> = match prompts {
        Prompts::Text(one) => vec![text(one)?],
        Prompts::Texts(texts) => texts.iter().map(text).collect::<Result<_, ApiError>>()?,
        Prompts::Ids(ids) => vec![given(ids)],
        Prompts::IdsMany(many) => many.iter().map(given).collect(),
    };
    match found.is_empty() {
        true => Err(ApiError::param("prompt", "`prompt` is empty; expected one at least")),
        false => Ok(found),
    }
}

impl CompletionWriter {
    fn token(&mut self, choice: usize, id: u32, report: Option<TokenReport>) {
        self.sampled += 1;
        let growing = &mut self.choices[choice];
        if let Some(report) = report {
            let weights = &self.ask.weights;
            growing.offset = growing.logprobs.push(weights, id, &report, growing.offset);
        }
    }

    fn logprobs(&mut self, choice: usize) -> Option<CompletionLogprobs> {
        self.reports.then(|| self.choices[choice].logprobs.take())
    }

    fn last(&mut self, index: usize, text: String, completion: Completion) -> TextChoice {
        let returns = self.shared.return_token_ids;
        let prompt = || self.ask.prompts[index / self.ask.samples].ids.clone();
        let prompt_token_ids = returns.then(prompt);
        TextChoice {
            index,
            text,
            logprobs: self.logprobs(index),
            stop_reason: Some(Finish::from(completion.stop_reason)),
            ids: TokenIds::of(completion, returns),
            prompt_token_ids,
        }
    }

    fn answer(&self, choices: Vec<TextChoice>) -> TextCompletion {
        TextCompletion {
            id: self.ask.id.clone(),
            object: "text_completion",
            created: self.created,
            model: self.ask.model.clone(),
            system_fingerprint: self.ask.weights.version.clone(),
            choices,
            usage: self.shared.include_usage.then_some(ChunkUsage::Later(())),
        }
    }

    fn usage(&self) -> Usage {
        Usage::new(self.ask.prompt_tokens(), self.sampled)
    }
}

impl Choices for CompletionWriter {
    type Choice = TextChoice;

    fn take(&mut self, choice: usize, id: u32, text: &str, report: Option<TokenReport>) {
        self.token(choice, id, report);
        self.choices[choice].text.push_str(text);
    }

    fn ended(&mut self, choice: usize, completion: Completion) -> TextChoice {
        let text = std::mem::take(&mut self.choices[choice].text);
        self.last(choice, text, completion)
    }
}

impl Chunks for CompletionWriter {
    fn choices(&self) -> usize {
        self.choices.len()
    }

    fn begin(&mut self) -> Vec<Bytes> {
        Vec::new()
    }

    fn part(&mut self, told: Progressed) -> Vec<Bytes> {
        let choice = match told {
            Progressed::Token { choice, id, text, report } => {
                let has_news = report.is_some() || !text.is_empty();
                self.token(choice, id, report);
                if !has_news {
                    return Vec::new();
                }
                TextChoice {
                    index: choice,
                    text,
                    logprobs: self.logprobs(choice),
                    stop_reason: None,
                    ids: TokenIds::default(),
                    prompt_token_ids: None,
                }
            }
            Progressed::Ended { choice, completion } => {
                self.last(choice, String::new(), completion)
            }
            Progressed::Failed(error) => return self.failed(&error),
        };
        vec![stream::event(&self.answer(vec![choice]))]
    }

    fn end(&mut self) -> Vec<Bytes> {
        let mut last = Vec::new();
        if self.shared.include_usage {
            let mut answer = self.answer(Vec::new());
            answer.usage = Some(ChunkUsage::Counts(self.usage()));
            last.push(stream::event(&answer));
        }
        last.push(stream::DONE);
        last
    }
}
