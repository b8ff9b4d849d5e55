//! `POST /v1/chat/completions`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use hearken_data::{Completion, Message, Role};
use hearken_generate::TokenReport;
use hearken_model::chat::{Conversation, encode_prompt};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::answer::{Ask, Progressed, Prompt};
use crate::constraint::ResponseFormat;
use crate::error::ApiError;
use crate::request::{
    ChatRequest, CheckedRequest, NamedTool, ToolChoice, ToolWord, asker, at_least_one, likeliest,
    parse,
};
use crate::shapes::{ChatLogprobs, ChatToken, ChunkUsage, Finish, TokenIds, Usage};
use crate::state::{Answering, AppState, now_s};
use crate::stream::{self, Choices, Chunks};
use crate::tools::{self, ToolCall, ToolFilter};
use crate::{constraint, ids};

/// An answer.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ChatCompletion {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
    /// The version of the weights.
    system_fingerprint: String,
    choices: Vec<ChatChoice>,
    usage: Usage,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_token_ids: Option<Vec<u32>>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ChatChoice {
    index: usize,
    message: Answer,
    logprobs: Option<ChatLogprobs>,
    #[serde(rename = "finish_reason")]
    stop_reason: Option<Finish>,
    #[serde(flatten)]
    ids: TokenIds,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Answer {
    role: &'static str,
    content: Option<String>,
    refusal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<Vec<ToolCall>>,
}

/// A piece of an answer.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ChatChunk {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
    system_fingerprint: String,
    choices: Vec<ChunkChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<ChunkUsage>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ChunkChoice {
    index: usize,
    delta: Delta,
    logprobs: Option<ChatLogprobs>,
    #[serde(rename = "finish_reason")]
    stop_reason: Option<Finish>,
    #[serde(flatten)]
    ids: TokenIds,
}

#[derive(Debug, Default, Serialize, JsonSchema)]
struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<Vec<ToolCall>>,
}

/// A choice while it comes.
#[derive(Debug, Default)]
struct Growing {
    text: String,
    filter: Option<ToolFilter>,
    logprobs: ChatLogprobs,
}

/// Makes answers, whole or in chunks.
#[derive(Debug)]
struct ChatWriter {
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
    let request: ChatRequest = parse(&headers, &body)?;
    let (ask, shared) = asked(&state, &request)?;
    let places = state.enter(ask.completions())?;
    let calls = may_call(&request) && {
        let templates = ask.weights.tokenizer.chat_templates();
        templates.and_then(|templates| templates.text()).is_some_and(tools::are_written)
    };
    let growing = || Growing { filter: calls.then(ToolFilter::default), ..Growing::default() };
    let choices = (0..ask.completions()).map(|_| growing()).collect();
    let (created, reports) = (now_s(), request.logprobs == Some(true));
    let streams = shared.streams;
    let mut writer = ChatWriter { ask, created, reports, shared, choices, sampled: 0 };
    let told = writer.ask.clone().start(&state, places);
    if streams {
        return Ok(stream::response(told, writer));
    }
    let choices = stream::whole(told, &mut writer).await?;
    let answer = ChatCompletion {
        id: writer.ask.id.clone(),
        object: "chat.completion",
        created,
        model: writer.ask.model.clone(),
        system_fingerprint: writer.ask.weights.version.clone(),
        choices,
        usage: writer.usage(),
        prompt_token_ids: writer.prompt_token_ids(),
    };
    Ok(Json(answer).into_response())
}

fn may_call(request: &ChatRequest) -> bool {
    request.tools.as_ref().is_some_and(|tools| !tools.is_empty())
        && request.tool_choice != Some(ToolChoice::Any(ToolWord::None))
}

/// The tools of which one must be called; `None` where none must.
fn called(request: &ChatRequest) -> Result<Option<Vec<&Map<String, Value>>>, ApiError> {
    let name = match &request.tool_choice {
        None | Some(ToolChoice::Any(ToolWord::None | ToolWord::Auto)) => return Ok(None),
        Some(ToolChoice::Any(ToolWord::Required)) => None,
        Some(ToolChoice::One(NamedTool::Function { function })) => Some(&function.name),
    };
    let is_free = matches!(request.response_format, None | Some(ResponseFormat::Text {}));
    if !is_free || request.structured_outputs.is_some() {
        let message =
            "`tool_choice`: a call beside another form of the answer; expected one of them";
        return Err(ApiError::param("tool_choice", message));
    }
    let tools = request.tools.iter().flatten();
    let is_meant = |tool: &&Map<String, Value>| {
        name.is_none_or(|name| tools::function(tool).get("name") == Some(&json!(name)))
    };
    let tools: Vec<_> = tools.filter(is_meant).collect();
    if tools.is_empty() {
        let message = match name {
            Some(name) => format!("`tool_choice` is {name:?}; expected one of `tools`"),
            None => "`tool_choice` is \"required\"; expected `tools`".to_owned(),
        };
        return Err(ApiError::param("tool_choice", message));
    }
    Ok(Some(tools))
}

/// What is asked of the engine.
pub(crate) fn asked(
    state: &AppState,
    request: &ChatRequest,
) -> Result<(Ask, CheckedRequest), ApiError> {
    let shared = request.shared()?;
    let is_kept = state.keeps(request.store)?;
    let reported = match (request.logprobs, request.top_logprobs) {
        (Some(true), count) => Some(likeliest("top_logprobs", count.unwrap_or(0))?),
        (_, Some(count)) if 0 < count => {
            let message = "`top_logprobs` needs `logprobs`: true";
            return Err(ApiError::param("top_logprobs", message));
        }
        _ => None,
    };
    let served = state.find(request.model.as_deref())?;
    let Answering { weights, shadow } = served.answering(&conversation(&request.messages));
    let ids = prompt_ids(&weights, request)?;
    let mut sampling = shared.sampling.clone();
    sampling.stop.extend(weights.chat_stops());
    let mut wishes = shared.wishes.clone();
    wishes.likeliest = reported;
    wishes.guide = match called(request)? {
        Some(called) => Some(tools::guide(&weights, &called)?),
        None => constraint::guide(
            &weights,
            request.response_format.as_ref(),
            request.structured_outputs.as_ref(),
        )?,
    };
    let mut ask = Ask {
        id: ids::new("chatcmpl"),
        model: served.name.clone(),
        weights,
        prompts: vec![Prompt { ids, given: json!(request.messages) }],
        samples: shared.samples,
        sampling,
        wishes,
        seed: shared.seed,
        trims: true,
        is_kept,
        by: asker(request.user.as_deref()),
        shadow,
        is_shadow: false,
    };
    let at_least_one = |name, max: Option<u32>| max.map(|max| at_least_one(name, max)).transpose();
    let max = at_least_one("max_tokens", request.max_tokens)?;
    let max = at_least_one("max_completion_tokens", request.max_completion_tokens)?.or(max);
    ask.limit(max, "messages")?;
    Ok((ask, shared))
}

/// What all turns of a conversation have in common: how it begins, up to the first words of the user.
fn conversation(messages: &[Message]) -> String {
    let first = messages.iter().position(|message| message.role == Role::User);
    json!(messages[..first.map_or(messages.len(), |at| at + 1)]).to_string()
}

/// The conversation as tokens, by the model's template.
pub(crate) fn prompt_ids(
    weights: &crate::weights::Weights,
    request: &ChatRequest,
) -> Result<Vec<u32>, ApiError> {
    if request.messages.is_empty() {
        return Err(ApiError::param("messages", "`messages` is empty; expected one at least"));
    }
    let templates = weights.tokenizer.chat_templates();
    let mut columns = Map::new();
    if may_call(request) {
        if !templates.is_some_and(|templates| templates.reads("tools")) {
            let message = "`tools`: the chat template of the model knows none";
            return Err(ApiError::param("tools", message));
        }
        columns.insert("tools".into(), json!(request.tools));
    }
    if let Some(kwargs) = &request.chat_template_kwargs {
        columns.insert("chat_template_kwargs".into(), Value::Object(kwargs.clone()));
    }
    let messages: Vec<Message> = request.messages.iter().map(as_templates_read).collect();
    let conversation = Conversation { messages: &messages, columns: &columns };
    encode_prompt(&weights.tokenizer, conversation)
        .map_err(|error| ApiError::param("messages", format!("`messages`: {error}")))
}

/// A message as templates read it: texts in parts together, arguments of calls as objects, where OpenAI has
/// texts.
fn as_templates_read(message: &Message) -> Message {
    if !message.has_more() {
        return message.clone();
    }
    let mut json = message.to_json();
    if json.get("content").is_some_and(Value::is_array) {
        json["content"] = json!(message.content);
    }
    let calls = json.get_mut("tool_calls").and_then(Value::as_array_mut);
    for call in calls.into_iter().flatten() {
        let arguments = call.pointer_mut("/function/arguments");
        if let Some(arguments) = arguments
            && let Some(Ok(parsed)) = arguments.as_str().map(serde_json::from_str::<Value>)
        {
            *arguments = parsed;
        }
    }
    serde_json::from_value(json).unwrap_or_else(|_| message.clone())
}

impl ChatWriter {
    /// Takes a token; gives the text that can be shown.
    fn token(&mut self, choice: usize, id: u32, report: Option<TokenReport>, text: &str) -> String {
        self.sampled += 1;
        let growing = &mut self.choices[choice];
        if let Some(report) = report {
            growing.logprobs.content.push(ChatToken::new(&self.ask.weights, id, &report));
        }
        let shown = match &mut growing.filter {
            Some(filter) => filter.push(text),
            None => text.to_owned(),
        };
        growing.text.push_str(&shown);
        shown
    }

    /// What is left of a choice: text, calls, and why it ended.
    fn rest(&mut self, choice: usize, completion: &Completion) -> (String, Vec<ToolCall>, Finish) {
        let id = format!("{}-{choice}", self.ask.id);
        let filter = self.choices[choice].filter.as_mut();
        let (text, calls) = filter.map_or((String::new(), Vec::new()), |filter| filter.finish(&id));
        let finish = Finish::from(completion.stop_reason);
        let finish = match finish {
            Finish::Stop if !calls.is_empty() => Finish::ToolCalls,
            finish => finish,
        };
        (text, calls, finish)
    }

    fn usage(&self) -> Usage {
        Usage::new(self.ask.prompt_tokens(), self.sampled)
    }

    fn prompt_token_ids(&self) -> Option<Vec<u32>> {
        self.shared.return_token_ids.then(|| self.ask.prompts[0].ids.clone())
    }

    fn chunk(&self, choices: Vec<ChunkChoice>, usage: ChunkUsage) -> ChatChunk {
        ChatChunk {
            id: self.ask.id.clone(),
            object: "chat.completion.chunk",
            created: self.created,
            model: self.ask.model.clone(),
            system_fingerprint: self.ask.weights.version.clone(),
            choices,
            usage: self.shared.include_usage.then_some(usage),
        }
    }

    fn logprobs(&mut self, choice: usize) -> Option<ChatLogprobs> {
        let taken = std::mem::take(&mut self.choices[choice].logprobs);
        Some(taken).filter(|of| self.reports && !of.content.is_empty())
    }
}

impl Choices for ChatWriter {
    type Choice = ChatChoice;

    fn take(&mut self, choice: usize, id: u32, text: &str, report: Option<TokenReport>) {
        self.token(choice, id, report, text);
    }

    fn ended(&mut self, index: usize, completion: Completion) -> ChatChoice {
        let (rest, tool_calls, finish) = self.rest(index, &completion);
        let growing = &mut self.choices[index];
        let mut text = std::mem::take(&mut growing.text) + &rest;
        if !tool_calls.is_empty() {
            text.truncate(text.trim_end().len());
        }
        let content = Some(text).filter(|text| tool_calls.is_empty() || !text.is_empty());
        let logprobs = self.reports.then(|| std::mem::take(&mut growing.logprobs));
        let tool_calls = Some(tool_calls).filter(|calls| !calls.is_empty());
        ChatChoice {
            index,
            message: Answer { role: "assistant", content, refusal: None, tool_calls },
            logprobs,
            stop_reason: Some(finish),
            ids: TokenIds::of(completion, self.shared.return_token_ids),
        }
    }
}

impl Chunks for ChatWriter {
    fn choices(&self) -> usize {
        self.choices.len()
    }

    fn begin(&mut self) -> Vec<Bytes> {
        let choice = |index| ChunkChoice {
            index,
            delta: Delta {
                role: Some("assistant"),
                content: Some(String::new()),
                ..Delta::default()
            },
            logprobs: None,
            stop_reason: None,
            ids: TokenIds::default(),
        };
        let choices = 0..self.choices.len();
        choices
            .map(|index| stream::event(&self.chunk(vec![choice(index)], ChunkUsage::Later(()))))
            .collect()
    }

    fn part(&mut self, told: Progressed) -> Vec<Bytes> {
        let choice = match told {
            Progressed::Token { choice, id, text, report } => {
                let shown = self.token(choice, id, report, &text);
                let logprobs = self.logprobs(choice);
                if shown.is_empty() && logprobs.is_none() {
                    return Vec::new();
                }
                let delta = Delta { content: Some(shown), ..Delta::default() };
                let (stop_reason, ids) = (None, TokenIds::default());
                ChunkChoice { index: choice, delta, logprobs, stop_reason, ids }
            }
            Progressed::Ended { choice, completion } => {
                let (rest, tool_calls, finish) = self.rest(choice, &completion);
                let content = Some(rest).filter(|rest| !rest.is_empty());
                let tool_calls = Some(tool_calls).filter(|calls| !calls.is_empty());
                ChunkChoice {
                    index: choice,
                    delta: Delta { role: None, content, tool_calls },
                    logprobs: self.logprobs(choice),
                    stop_reason: Some(finish),
                    ids: TokenIds::of(completion, self.shared.return_token_ids),
                }
            }
            Progressed::Failed(error) => return self.failed(&error),
        };
        vec![stream::event(&self.chunk(vec![choice], ChunkUsage::Later(())))]
    }

    fn end(&mut self) -> Vec<Bytes> {
        let mut last = Vec::new();
        if self.shared.include_usage {
            last.push(stream::event(&self.chunk(Vec::new(), ChunkUsage::Counts(self.usage()))));
        }
        last.push(stream::DONE);
        last
    }
}
