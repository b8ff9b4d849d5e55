//! The description of the API, made of its types.

use axum::Json;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::admin::{CandidateRequest, ForgetBody, ForgetRequest, WeightsBody, WeightsRequest};
use crate::candidate::CandidateReport;
use crate::chat::{ChatChunk, ChatCompletion};
use crate::completions::TextCompletion;
use crate::error::ErrorBody;
use crate::feedback::{FeedbackBody, FeedbackRequest};
use crate::logprobs::{LogprobsList, LogprobsRequest};
use crate::messages::{MessageBody, MessagesRequest};
use crate::models::{
    DetokenizeRequest, Detokenized, Health, ModelBody, ModelList, TokenizeRequest, Tokenized,
};
use crate::request::{ChatRequest, CompletionRequest};
use crate::scoring::{ScoreList, ScoreRequest};

/// `GET /openapi.json`.
pub(crate) async fn get() -> Json<Value> {
    Json(description())
}

/// The whole description.
fn description() -> Value {
    let settings = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    let mut all = paths(&mut generator);
    if let (Value::Object(all), Value::Object(more)) = (&mut all, admin_paths(&mut generator)) {
        all.extend(more);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Hearken",
            "version": "1",
            "description": "Models behind OpenAI's API. Where the service has keys, every request \
                carries one: `Authorization: Bearer …`.",
        },
        "paths": all,
        "components": {
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer"},
                "admin": {"type": "http", "scheme": "bearer"},
            },
            "schemas": generator.take_definitions(true),
        },
    })
}

fn of<T: JsonSchema>(types: &mut SchemaGenerator) -> Value {
    types.subschema_for::<T>().to_value()
}

fn paths(types: &mut SchemaGenerator) -> Value {
    of::<ErrorBody>(types);
    let stream = of::<ChatChunk>(types);
    json!({
        "/v1/chat/completions": {"post": Operation::new("chat", "Answers of a conversation")
            .body(&of::<ChatRequest>(types))
            .answer(&of::<ChatCompletion>(types))
            .or_stream(&format!("Chunks, each behind `data: `, then `data: [DONE]`: {stream}"))
            .fails(&[429, 500, 504])},
        "/v1/completions": {"post": Operation::new("complete", "Completions of prompts")
            .body(&of::<CompletionRequest>(types))
            .answer(&of::<TextCompletion>(types))
            .or_stream("Pieces in the same form, each behind `data: `, then `data: [DONE]`")
            .fails(&[429, 500, 504])},
        "/v1/messages": {"post": Operation::new("message", "An answer, as Anthropic has it")
            .body(&of::<MessagesRequest>(types))
            .answer(&of::<MessageBody>(types))
            .or_stream("Events as Anthropic has them")
            .fails_in(&[400, 404, 408, 413, 415, 429, 500, 504], &json!({"type": "object"}))},
        "/v1/score": {"post": Operation::new("score", "What the reward model says of answers")
            .body(&of::<ScoreRequest>(types))
            .answer(&of::<ScoreList>(types))
            .fails(&[429, 500])},
        "/v1/logprobs": {"post": Operation::new("read", "How likely the model finds completions")
            .body(&of::<LogprobsRequest>(types))
            .answer(&of::<LogprobsList>(types))
            .fails(&[429, 500, 504])},
        "/v1/feedback": {"post": Operation::new("say", "What a user says of an answer")
            .body(&of::<FeedbackRequest>(types))
            .answer(&of::<FeedbackBody>(types))
            .fails(&[404, 500])},
        "/v1/models": {"get": Operation::new("models", "What is served")
            .answer(&of::<ModelList>(types))},
        "/v1/models/{model}": {"get": Operation::new("model", "One model")
            .set("parameters", json!([{
                "name": "model", "in": "path", "required": true,
                "schema": {"type": "string", "minLength": 1},
            }]))
            .answer(&of::<ModelBody>(types))
            .fails(&[400, 404])},
        "/tokenize": {"post": Operation::new("tokenize", "The tokens of a text or a conversation")
            .body(&of::<TokenizeRequest>(types))
            .answer(&of::<Tokenized>(types))},
        "/detokenize": {"post": Operation::new("detokenize", "The text of tokens")
            .body(&of::<DetokenizeRequest>(types))
            .answer(&of::<Detokenized>(types))},
        "/health": {"get": Operation::new("health", "How the service is")
            .set("security", json!([]))
            .answer(&of::<Health>(types))},
        "/metrics": {"get": Operation::new("metrics", "Counts, as Prometheus reads them")
            .answer_in("text/plain", &json!({"type": "string"}))
            .fails(&[500])},
        "/openapi.json": {"get": Operation::new("describe", "This description")
            .set("security", json!([]))
            .answer(&json!({"type": "object"}))},
    })
}

/// The paths of whoever has the admin key.
fn admin_paths(types: &mut SchemaGenerator) -> Value {
    let admin = |id, what| Operation::new(id, what).set("security", json!([{"admin": []}]));
    let of_model =
        json!([{"name": "model", "in": "query", "required": false, "schema": {"type": "string"}}]);
    json!({
        "/admin/weights": {"post": Operation::new("swap", "Other weights under a name")
            .set("security", json!([{"admin": []}]))
            .body(&of::<WeightsRequest>(types))
            .answer(&of::<WeightsBody>(types))
            .fails(&[409])},
        "/admin/forget": {"post": admin("forget", "Remove what is stored of somebody, or of a request")
            .body(&of::<ForgetRequest>(types))
            .answer(&of::<ForgetBody>(types))
            .fails(&[500])},
        "/admin/candidate": {
            "post": admin("try", "Other weights for a share of the conversations")
                .body(&of::<CandidateRequest>(types))
                .answer(&of::<CandidateReport>(types))
                .fails(&[404, 409]),
            "get": admin("candidate", "How they fare, or how the last ones ended")
                .set("parameters", of_model.clone())
                .answer(&of::<CandidateReport>(types))
                .fails(&[400, 404]),
            "delete": admin("withdraw", "Take them away")
                .set("parameters", of_model)
                .answer(&of::<CandidateReport>(types))
                .fails(&[400, 404]),
        },
    })
}

/// An operation of a path, while it is described.
#[derive(Clone, serde::Serialize)]
#[serde(transparent)]
struct Operation(Map<String, Value>);

impl Operation {
    /// With the failures that every operation has.
    fn new(name: &str, summary: &str) -> Self {
        let mut fields = Map::new();
        fields.insert("operationId".into(), json!(name));
        fields.insert("summary".into(), json!(summary));
        fields.insert("security".into(), json!([{}, {"key": []}]));
        fields.insert("responses".into(), json!({}));
        Self(fields).fails(&[401, 403, 503])
    }

    fn set(mut self, name: &str, value: Value) -> Self {
        self.0.insert(name.to_owned(), value);
        self
    }

    /// A body of JSON, with the failures that reading one has.
    fn body(self, schema: &Value) -> Self {
        let content = json!({"application/json": {"schema": schema}});
        self.set("requestBody", json!({"required": true, "content": content}))
            .fails(&[400, 404, 408, 413, 415])
    }

    fn answer(self, schema: &Value) -> Self {
        self.answer_in("application/json", schema)
    }

    fn answer_in(mut self, kind: &str, schema: &Value) -> Self {
        let content = json!({kind: {"schema": schema}});
        self.0["responses"]["200"] = json!({"description": "It is done", "content": content});
        self
    }

    /// Says that the answer may be a stream of events.
    fn or_stream(mut self, what: &str) -> Self {
        self.0["responses"]["200"]["content"]["text/event-stream"] = json!({"schema": {
            "type": "object", "description": what, "required": ["data"],
            "properties": {"data": {"type": "string"}, "event": {"type": "string"}},
        }});
        self
    }

    fn fails(self, statuses: &[u16]) -> Self {
        self.fails_in(statuses, &json!({"$ref": "#/components/schemas/Error"}))
    }

    fn fails_in(mut self, statuses: &[u16], schema: &Value) -> Self {
        for status in statuses {
            self.0["responses"][status.to_string()] = json!({
                "description": failure(*status),
                "content": {"application/json": {"schema": schema}},
            });
        }
        self
    }
}

fn failure(status: u16) -> &'static str {
    match status {
        400 => "A parameter is wrong",
        401 => "No key, or an unknown one",
        403 => "A page of another site asks",
        404 => "There is no such model",
        408 => "The body did not come in time",
        409 => "Others are on their way",
        413 => "The body is too large",
        415 => "The body is no JSON by its type",
        429 => "As much is asked for as may be",
        500 => "A bug, or weights that have diverged",
        503 => "The service is ending",
        504 => "It took too long",
        other => unreachable!("no operation fails with {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every reference leads to a schema, and every schema is referred to.
    #[test]
    fn references_and_schemas_fit() {
        let description = description();
        let text = description.to_string().replace("\\\"", "\"");
        let schemas = description["components"]["schemas"].as_object().unwrap();
        for name in schemas.keys() {
            assert!(text.contains(&format!("\"#/components/schemas/{name}\"")), "{name}");
        }
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
    }
}
