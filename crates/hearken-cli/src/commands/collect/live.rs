//! Who answers prompts on the live page.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser, ValueEnum};
use hearken_collect::parts::Answerer;
use hearken_data::Message;
use hearken_hub::ModelPart;
use hearken_judge::chat::{Api, ChatClient, ChatOptions};
use hearken_model::config::is_adapter;

use super::local_model::LocalModel;
use crate::api_key::key;
use crate::commands::sampling_arguments::from_zero;
use crate::hub;

/// The protocol of a server.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Protocol {
    /// Chat completions, as OpenAI, Ollama, llama.cpp and vLLM have them
    Openai,
    /// Messages, as Anthropic has them
    Anthropic,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Live answers")]
pub(super) struct Live {
    /// Answers prompts on the page "Live": the name of a model at --url-a, else a checkpoint's folder
    #[arg(long, value_name = "MODEL")]
    model_a: Option<String>,

    /// The second model; without it the first one answers twice
    #[arg(long, value_name = "MODEL", requires = "model_a")]
    model_b: Option<String>,

    /// Where the first model's API is, e.g. http://127.0.0.1:11434/v1
    #[arg(long, value_name = "URL", requires = "model_a")]
    url_a: Option<String>,

    /// Where the second model's API is; that of the first where not given
    #[arg(long, value_name = "URL", requires = "model_b")]
    url_b: Option<String>,

    /// What the first API speaks
    #[arg(long, value_enum, default_value = "openai", value_name = "API")]
    api_a: Protocol,

    /// What the second API speaks; the same as the first where not given
    #[arg(long, value_enum, value_name = "API")]
    api_b: Option<Protocol>,

    /// The environment variable with the first API's key
    #[arg(long, value_name = "VARIABLE")]
    key_a: Option<String>,

    /// The environment variable with the second API's key; that of the first where not given
    #[arg(long, value_name = "VARIABLE")]
    key_b: Option<String>,

    /// Temperature of the first model; an API's own, or 1 for a checkpoint, where not given
    #[arg(long, value_name = "T", value_parser = from_zero)]
    temperature_a: Option<f64>,

    /// Temperature of the second model
    #[arg(long, value_name = "T", value_parser = from_zero)]
    temperature_b: Option<f64>,

    /// The most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 1024)]
    answer_tokens: u32,
}

/// The arguments of a project among several.
#[derive(Parser)]
#[command(name = "--live", no_binary_name = true, disable_help_flag = true)]
struct OfProject {
    #[command(flatten)]
    live: Live,
}

impl Live {
    /// Those that `given`, each `PROJECT:KEY=VALUE`, says of a project.
    pub(super) fn of_project(given: &[String], project: &str) -> Result<Self> {
        let mut words = Vec::new();
        for one in given {
            let (name, argument) = split(one)?;
            if name == project {
                words.push(format!("--{argument}"));
            }
        }
        let parsed = OfProject::try_parse_from(words);
        // What clap says ends with how to use a command that is none.
        let parsed = parsed.map_err(|error| {
            let text = error.to_string();
            let said = text.split("\n\n").next().unwrap_or_default();
            let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
            anyhow::anyhow!("{}", said.trim_start_matches("error: "))
        });
        parsed.map(|parsed| parsed.live).with_context(|| format!("--live {project}"))
    }

    /// The project that one of them is about.
    pub(super) fn project_of(given: &str) -> Result<&str> {
        split(given).map(|(project, _)| project)
    }
}

/// Project, and key with value.
fn split(given: &str) -> Result<(&str, &str)> {
    let fits = given.split_once(':').filter(|(_, argument)| argument.contains('='));
    fits.with_context(|| {
        format!(
            "--live: found {given:?}, expected PROJECT:KEY=VALUE, such as chat:model-a=llama3.2"
        )
    })
}

/// One of the two.
struct LiveModel<'a> {
    model: &'a str,
    url: Option<&'a str>,
    protocol: Protocol,
    key: Option<&'a str>,
    temperature: Option<f64>,
    seed: u64,
}

impl Live {
    /// Who answers: nobody, one, or two.
    pub(super) fn answerers(&self) -> Result<Vec<Box<dyn Answerer>>> {
        let Some(model) = self.model_a.as_deref() else { return Ok(Vec::new()) };
        let first = LiveModel {
            model,
            url: self.url_a.as_deref(),
            protocol: self.api_a,
            key: self.key_a.as_deref(),
            temperature: self.temperature_a,
            seed: 0,
        };
        let second = LiveModel {
            model: self.model_b.as_deref().unwrap_or(model),
            url: self.url_b.as_deref().or(first.url),
            protocol: self.api_b.unwrap_or(self.api_a),
            key: self.key_b.as_deref().or(first.key),
            temperature: self.temperature_b.or(self.temperature_a),
            seed: 1,
        };
        let is_same = self.model_b.is_none() && first.temperature == second.temperature;
        let mut answerers = vec![self.answerer(&first)?];
        if !is_same {
            answerers.push(self.answerer(&second)?);
        }
        Ok(answerers)
    }

    fn answerer(&self, asked: &LiveModel<'_>) -> Result<Box<dyn Answerer>> {
        let Some(url) = asked.url else {
            let dir = &hub::model(Path::new(asked.model), ModelPart::Whole)?;
            if !dir.join("config.json").exists() && !is_adapter(dir) {
                let name = asked.model;
                bail!(
                    "{name:?} is no checkpoint's folder; a model of an API needs --url-a or --url-b"
                );
            }
            let (temperature, tokens) = (asked.temperature.unwrap_or(1.0), self.answer_tokens);
            let model = LocalModel::load(dir, temperature, asked.seed, tokens as usize)?;
            return Ok(Box::new(model));
        };
        let api = match asked.protocol {
            Protocol::Openai => Api::OpenAi,
            Protocol::Anthropic => Api::Anthropic,
        };
        let mut options = ChatOptions::new(api, url, asked.model);
        options.key = asked.key.map(key).transpose()?;
        options.temperature = asked.temperature;
        options.max_tokens = Some(self.answer_tokens);
        let name = match asked.temperature {
            Some(temperature) => format!("{}@{temperature}", asked.model),
            None => asked.model.to_owned(),
        };
        Ok(Box::new(Remote { name, client: ChatClient::new(options)? }))
    }
}

/// A model behind an API, named with the temperature it was asked to answer at: one model at two
/// temperatures is two in a leaderboard.
struct Remote {
    name: String,
    client: ChatClient,
}

impl Answerer for Remote {
    fn model(&self) -> &str {
        &self.name
    }

    fn answer(
        &self,
        conversation: &[Message],
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<String, String> {
        Answerer::answer(&self.client, conversation, on_text)
    }
}
