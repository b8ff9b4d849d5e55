//! `[judge]`: who compares two completions.

use std::time::Duration;

use hearken_judge::CommandOptions;
use hearken_judge::chat::{Api, ChatOptions, Timeouts};
use hearken_judge::pairwise::{ChatJudgeOptions, Orders, Rules, Template, Unreadable};
use serde::Deserialize;

use super::error::ConfigError;
use super::layers::Layers;

/// `[judge]`.
#[derive(Clone, Debug, PartialEq)]
pub enum JudgeConfig {
    /// A language model behind an API.
    Chat {
        /// The model, without its key.
        options: Box<ChatJudgeOptions>,
        /// The environment variable that has the key.
        key_env: Option<String>,
    },
    /// A program.
    Command {
        /// The program.
        options: CommandOptions,
        /// In which order completions are shown, and what becomes of answers without a winner.
        rules: Rules,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Openai,
    Anthropic,
    Command,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawUnreadable {
    Tie,
    Drop,
    Error,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    kind: Option<Kind>,
    base_url: Option<String>,
    model: Option<String>,
    key_env: Option<String>,
    temperature: Option<f64>,
    max_tokens: u32,
    system: String,
    question: String,
    program: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    both_orders: bool,
    on_unreadable: RawUnreadable,
    timeout_s: f64,
    retries: usize,
    parallel: usize,
}

impl JudgeConfig {
    /// Reads `[judge]`; `None` where it names no kind.
    ///
    /// # Errors
    /// Names the key that is unknown, missing, out of range, or does not belong to the kind.
    pub fn read(layers: &Layers) -> Result<Option<Self>, ConfigError> {
        let raw: Raw = layers.section("judge")?;
        let given = |key: &'static str, given: bool| given.then_some(key);
        let of_chat = given("base_url", raw.base_url.is_some())
            .or(given("model", raw.model.is_some()))
            .or(given("key_env", raw.key_env.is_some()))
            .or(given("temperature", raw.temperature.is_some()));
        let of_command =
            given("program", raw.program.is_some()).or(given("args", !raw.args.is_empty()));
        let Some(kind) = raw.kind else {
            if of_chat.or(of_command).is_none() {
                return Ok(None);
            }
            return Err(layers.missing("judge.kind", "\"openai\", \"anthropic\" or \"command\""));
        };
        let (stray, name) = match kind {
            Kind::Command => (of_chat, "command"),
            Kind::Openai => (of_command, "openai"),
            Kind::Anthropic => (of_command, "anthropic"),
        };
        if let Some(key) = stray {
            let expected = format!("no such key for kind = \"{name}\"");
            return Err(layers.unexpected(&format!("judge.{key}"), "a value", &expected));
        }
        raw.check(layers)?;
        match kind {
            Kind::Command => raw.command(layers).map(Some),
            Kind::Openai => raw.chat(layers, Api::OpenAi).map(Some),
            Kind::Anthropic => raw.chat(layers, Api::Anthropic).map(Some),
        }
    }
}

impl Raw {
    fn check(&self, layers: &Layers) -> Result<(), ConfigError> {
        const SECONDS_MAX: f64 = 1e6;
        let seconds = self.timeout_s;
        let holds = 0.0 < seconds && seconds <= SECONDS_MAX;
        layers.check("judge.timeout_s", seconds, holds, "seconds above 0")?;
        let parallel = self.parallel;
        let holds = (1..=1024).contains(&parallel);
        layers.check("judge.parallel", parallel, holds, "an integer from 1 to 1024")?;
        layers.check(
            "judge.max_tokens",
            self.max_tokens,
            0 < self.max_tokens,
            "an integer from 1",
        )?;
        let temperature = self.temperature.unwrap_or(0.0);
        let holds = temperature.is_finite() && 0.0 <= temperature;
        layers.check("judge.temperature", temperature, holds, "a number from 0")
    }

    fn rules(&self) -> Rules {
        Rules {
            orders: if self.both_orders { Orders::Both } else { Orders::Alternating },
            unreadable: match self.on_unreadable {
                RawUnreadable::Tie => Unreadable::Tie,
                RawUnreadable::Drop => Unreadable::Drop,
                RawUnreadable::Error => Unreadable::Fail,
            },
        }
    }

    fn command(self, layers: &Layers) -> Result<JudgeConfig, ConfigError> {
        let (rules, deadline) = (self.rules(), Duration::from_secs_f64(self.timeout_s));
        let program =
            self.program.ok_or_else(|| layers.missing("judge.program", "a program to start"))?;
        let options = CommandOptions { program, args: self.args, deadline };
        Ok(JudgeConfig::Command { options, rules })
    }

    fn chat(self, layers: &Layers, api: Api) -> Result<JudgeConfig, ConfigError> {
        let rules = self.rules();
        let question = Template::new(self.question.as_str()).map_err(|error| {
            let (found, expected) = error.parts();
            layers.unexpected("judge.question", &found, &expected)
        })?;
        let missing = |key: &str, expected: &str| layers.missing(key, expected);
        let url = self.base_url.ok_or_else(|| missing("judge.base_url", "the URL of an API"))?;
        let model = self.model.ok_or_else(|| missing("judge.model", "the name of a model"))?;
        let limit = Duration::from_secs_f64(self.timeout_s);
        let chat = ChatOptions {
            temperature: self.temperature,
            max_tokens: Some(self.max_tokens),
            timeouts: Timeouts {
                connect: Timeouts::default().connect.min(limit),
                first_text: limit,
                between_texts: limit,
                total: limit,
            },
            retries_max: self.retries,
            ..ChatOptions::new(api, url, model)
        };
        let (system, parallel) = (self.system, self.parallel);
        let options = Box::new(ChatJudgeOptions { chat, system, question, parallel, rules });
        Ok(JudgeConfig::Chat { options, key_env: self.key_env })
    }
}
