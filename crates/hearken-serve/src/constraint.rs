//! What an answer has to be, as requests say it.

use std::sync::Arc;

use hearken_generate::Guide;
use llguidance::api::TopLevelGrammar;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::weights::Weights;

/// What an answer has to be, as OpenAI says it.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum ResponseFormat {
    /// Any text.
    Text {},
    /// Any object of JSON.
    JsonObject {},
    /// JSON that fits a schema.
    JsonSchema {
        /// The schema with its name.
        json_schema: NamedSchema,
    },
}

/// A schema with its name.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NamedSchema {
    /// Accepted, and without effect.
    #[serde(rename = "name")]
    _name: Option<String>,
    /// Accepted, and without effect.
    #[serde(rename = "description")]
    _description: Option<String>,
    /// The schema.
    pub(crate) schema: Value,
    /// Accepted, and without effect: an answer always fits.
    #[serde(rename = "strict")]
    _strict: Option<bool>,
}

/// What an answer has to be, as vLLM says it; one of them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StructuredOutputs {
    /// One of these texts.
    #[schemars(length(min = 1))]
    pub(crate) choice: Option<Vec<String>>,
    /// A text that this regular expression fits as a whole.
    pub(crate) regex: Option<String>,
    /// JSON that fits this schema.
    pub(crate) json: Option<Value>,
}

/// What keeps an answer to what it has to be; nothing where it may be anything.
///
/// # Errors
/// More than one thing is asked for, or it cannot be kept to.
pub(crate) fn guide(
    weights: &Weights,
    format: Option<&ResponseFormat>,
    structured: Option<&StructuredOutputs>,
) -> Result<Option<Arc<dyn Guide>>, ApiError> {
    let (param, grammar) = match (format, structured) {
        (None | Some(ResponseFormat::Text {}), None) => return Ok(None),
        (Some(format), None) => ("response_format", of_format(format)),
        (None | Some(ResponseFormat::Text {}), Some(structured)) => {
            ("structured_outputs", of_structured(structured)?)
        }
        (Some(_), Some(_)) => {
            let message = "`structured_outputs` beside `response_format`; expected one of them";
            return Err(ApiError::param("structured_outputs", message));
        }
    };
    let wrong = |problem: String| ApiError::param(param, format!("`{param}`: {problem}"));
    let grammars = weights.grammars().map_err(wrong)?;
    grammars.guide(grammar).map(Some).map_err(wrong)
}

fn of_format(format: &ResponseFormat) -> TopLevelGrammar {
    match format {
        ResponseFormat::Text {} => TopLevelGrammar::from_regex("(?s:.*)"),
        ResponseFormat::JsonObject {} => {
            TopLevelGrammar::from_json_schema(json!({"type": "object"}))
        }
        ResponseFormat::JsonSchema { json_schema } => {
            TopLevelGrammar::from_json_schema(json_schema.schema.clone())
        }
    }
}

fn of_structured(structured: &StructuredOutputs) -> Result<TopLevelGrammar, ApiError> {
    match structured {
        StructuredOutputs { choice: Some(choices), regex: None, json: None } => {
            if choices.is_empty() || choices.iter().any(String::is_empty) {
                let message = "`choice` has no text, or an empty one; expected texts";
                return Err(ApiError::param("structured_outputs.choice", message));
            }
            let choices: Vec<String> = choices.iter().map(|choice| regex::escape(choice)).collect();
            Ok(TopLevelGrammar::from_regex(&choices.join("|")))
        }
        StructuredOutputs { choice: None, regex: Some(regex), json: None } => {
            Ok(TopLevelGrammar::from_regex(regex))
        }
        StructuredOutputs { choice: None, regex: None, json: Some(schema) } => {
            Ok(TopLevelGrammar::from_json_schema(schema.clone()))
        }
        _ => {
            let message = "expected one of `choice`, `regex` and `json`";
            Err(ApiError::param("structured_outputs", message))
        }
    }
}
