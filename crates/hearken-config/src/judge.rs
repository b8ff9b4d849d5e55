//! `[judge]`: who compares two completions. What opens a judge is in `dpo/online`.

use hearken_judge::pairwise::Template;
use schemars::JsonSchema;
use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer};

use super::number::{NonNegative, Parallel, Seconds, Tokens};
use super::secret::variable;

/// `[judge]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
pub struct JudgeConfig {
    /// Who is asked; nobody without a kind.
    #[serde(rename = "*")]
    #[schemars(flatten)]
    pub who: Option<Judges>,
    /// The most tokens of an answer.
    pub max_tokens: Tokens,
    /// What the model is told before every question; nothing where it is empty.
    pub system: String,
    /// What is asked, with places for {prompt}, {a} and {b}.
    #[serde(deserialize_with = "template")]
    #[schemars(with = "String")]
    pub question: Template,
    /// Whether every pair is asked about in both orders; else every other one the other way round.
    pub both_orders: bool,
    /// What becomes of an answer without a winner.
    pub on_unreadable: UnreadableAnswer,
    /// Seconds for an API's answer, repetitions included, or for a program's batch.
    pub timeout_s: Seconds,
    /// Repetitions of a question after an error that may pass.
    pub retries: usize,
    /// Questions to an API at a time.
    pub parallel: Parallel,
}

/// Who compares.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[schemars(tag = "kind")]
pub enum Judges {
    /// A language model behind an API of OpenAI's kind.
    Openai(ApiJudge),
    /// A language model behind Anthropic's API.
    Anthropic(ApiJudge),
    /// A program.
    Command {
        /// A program to start.
        program: String,
        /// Its arguments; no shell is involved.
        #[serde(default)]
        args: Vec<String>,
    },
}

/// A language model behind an API.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiJudge {
    /// The URL of an API; without a path, /v1 is meant.
    pub base_url: String,
    /// The name of a model.
    pub model: String,
    /// The environment variable that has the key, if one is needed.
    #[serde(default, deserialize_with = "variable")]
    pub key_env: Option<String>,
    /// Temperature of the answers; without it the API's own.
    pub temperature: Option<NonNegative>,
}

/// What becomes of an answer that names no winner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnreadableAnswer {
    /// It counts as a tie.
    Tie,
    /// Nothing is learned from the comparison.
    Drop,
    /// The run ends.
    Error,
}

fn template<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Template, D::Error> {
    Template::new(String::deserialize(deserializer)?).map_err(|error| {
        let (found, expected) = error.parts();
        D::Error::invalid_value(Unexpected::Other(&found), &expected.as_str())
    })
}
