//! `hearken chat`.

use std::io::{BufRead as _, IsTerminal as _};
use std::ops::ControlFlow;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use hearken_data::{Message, Role, StopReason};
use hearken_generate::{
    Engine, EngineOptions, Sampling, SamplingRequest, TextPieces, completion_text,
};
use hearken_judge::chat::{Api, ChatClient, ChatOptions};
use hearken_model::Tokenizer;
use hearken_model::chat::{BUILT_IN_FORMAT, Conversation as Talk, STOP, encode_prompt};
use hearken_model::tokenizer::Bos;
use hearken_run::seeds::Seeds;
use hearken_tensor::AnyDevice;
use serde_json::Map;

use super::model_arguments::ModelArguments;
use super::sampling_arguments::{SamplingArguments, from_one};
use crate::api_key::key;
use crate::output;

/// Talk to a model
///
/// Every line is a message, which the model's chat template renders (the built-in format, where it has
/// none), and the completion appears as it is sampled.
/// With --plain a line is a prompt of its own, for models that only continue text. /reset forgets the
/// conversation, /quit ends the program. Works in pipes: only completions go to standard output.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Chat {
    #[command(flatten)]
    model: ModelArguments,

    /// Continue each line as plain text, without the chat format and without memory
    #[arg(long)]
    plain: bool,

    /// What stands above the conversation
    #[arg(long, value_name = "TEXT", conflicts_with = "plain")]
    system: Option<String>,

    /// The most tokens of a completion; fewer where the model has no positions left
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = from_one)]
    max_new_tokens: usize,

    #[command(flatten)]
    sampling: SamplingArguments,

    /// Talk to a model behind OpenAI's API, such as `hearken serve`: --model is its name there
    #[arg(
        long,
        value_name = "URL",
        conflicts_with_all = [
            "plain", "adapter", "dtype", "base", "template", "template_name", "variable", "top_p", "top_k",
            "min_p", "stop", "ignore_eos", "seed",
        ]
    )]
    url: Option<String>,

    /// With --url: the environment variable with the API's key
    #[arg(long, value_name = "VARIABLE", requires = "url")]
    key: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  hearken chat --model runs/quickstart/ppo/final --temperature 0.7
  echo 'Review of the toast:' | hearken chat --model runs/quickstart/base \\
      --plain --max-new-tokens 40
  # hearken chat --url http://127.0.0.1:8000 --model toast";

impl Chat {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let system = self.system.clone().map(|text| Message::new(Role::System, text));
        let system: Vec<Message> = system.into_iter().collect();
        if let Some(url) = &self.url {
            let mut options =
                ChatOptions::new(Api::OpenAi, url, self.model.model.display().to_string());
            options.temperature = Some(self.sampling.temperature);
            options.max_tokens = Some(u32::try_from(self.max_new_tokens).unwrap_or(u32::MAX));
            options.key = self.key.as_deref().map(key).transpose()?;
            let client = ChatClient::new(options)?;
            return talk(&mut Remote { client, messages: system.clone(), system });
        }
        let (model, tokenizer) = self.model.load()?;
        let dir = self.model.model.display();
        let tokenizer = tokenizer.with_context(|| format!("{dir}: has no tokenizer.json"))?;
        let mut sampling = self.sampling.sampling(self.max_new_tokens);
        if !self.plain && tokenizer.chat_templates().is_none() {
            output::say(&format!("{dir}: {BUILT_IN_FORMAT}"));
            sampling.stop.push(STOP.to_owned());
        }
        // What was said before stays in the cache: of a message only what is new runs.
        let engine = Engine::new(&model, Some(&tokenizer), EngineOptions::default())?;
        talk(&mut Conversation {
            engine,
            positions: model.config().max_positions,
            tokenizer: &tokenizer,
            sampling,
            is_plain: self.plain,
            seeds: Seeds::new(self.sampling.seed),
            replies: 0,
            messages: system.clone(),
            system,
        })
    }
}

/// Somebody who answers.
trait Answers {
    /// Prints what follows a line.
    fn reply(&mut self, line: &str) -> Result<()>;

    /// Forgets what was said.
    fn reset(&mut self);
}

/// Reads lines and has them answered.
fn talk(other: &mut dyn Answers) -> Result<ExitCode> {
    let is_terminal = std::io::stdin().is_terminal();
    if is_terminal {
        output::say("/reset forgets the conversation, /quit ends it");
    }
    let mut lines = std::io::stdin().lock().lines();
    loop {
        if is_terminal {
            output::print("> ")?;
        }
        let Some(line) = lines.next().transpose().context("standard input")? else { break };
        match line.trim() {
            "" => {}
            "/quit" => break,
            "/reset" => other.reset(),
            command if command.starts_with('/') && !command.contains(' ') => {
                output::say(&format!("there is no {command}; there are /reset and /quit"));
            }
            // In a pipe, somebody counts the answers; on a terminal, the conversation goes on.
            _ => match other.reply(&line) {
                Err(error) if is_terminal => output::say(&format!("error: {error:#}")),
                replied => replied?,
            },
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A model behind an API.
struct Remote {
    client: ChatClient,
    system: Vec<Message>,
    messages: Vec<Message>,
}

impl Answers for Remote {
    fn reply(&mut self, line: &str) -> Result<()> {
        self.messages.push(Message::new(Role::User, line));
        let mut printed = Ok(());
        let answered = self.client.answer(&self.messages, &mut |text| {
            printed = output::print(text);
            if printed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        // A reader that has gone away matters more than that the answer stopped for it.
        printed?;
        let answer = answered.inspect_err(|_| drop(self.messages.pop()))?;
        output::print("\n")?;
        self.messages.push(Message::new(Role::Assistant, answer.text.trim()));
        Ok(())
    }

    fn reset(&mut self) {
        self.messages.clone_from(&self.system);
    }
}

struct Conversation<'a> {
    engine: Engine<'a, AnyDevice>,
    /// What the model has room for.
    positions: usize,
    tokenizer: &'a Tokenizer,
    sampling: Sampling,
    is_plain: bool,
    seeds: Seeds,
    replies: u64,
    system: Vec<Message>,
    messages: Vec<Message>,
}

impl Answers for Conversation<'_> {
    fn reply(&mut self, line: &str) -> Result<()> {
        let prompt_ids = if self.is_plain {
            let ids = self.tokenizer.encode(line, Bos::AsConfigured)?;
            self.check_room(&ids)?;
            ids
        } else {
            self.messages.push(Message::new(Role::User, line));
            self.prompt().inspect_err(|_| drop(self.messages.pop()))?
        };
        let seed = self.seeds.derive("chat", self.replies, 0);
        self.replies += 1;
        let stop = &self.sampling.stop;
        let mut pieces = match self.is_plain {
            true => TextPieces::new(self.tokenizer, stop),
            false => TextPieces::of_answer(self.tokenizer, stop),
        };
        let mut printed = Ok(());
        let request = SamplingRequest { prompt_ids, samples: 1, seed };
        self.engine.submit(request, &self.sampling)?;
        let ended = self.engine.finish(&mut |event| {
            let id = event.ids.last().copied().expect("a token was sampled");
            printed = output::print(&pieces.push(id, event.stop_reason));
            if printed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        // A reader that has gone away matters more than that sampling stopped for it.
        printed?;
        let ended = ended?;
        output::print("\n")?;
        let Some(ended) = ended.first() else { return Ok(()) };
        if ended.completion.stop_reason == StopReason::Positions {
            output::say(&format!("(the model has {} positions in all)", self.positions));
        }
        if !self.is_plain {
            let text = completion_text(self.tokenizer, &ended.completion, stop);
            self.messages.push(Message::new(Role::Assistant, text.trim()));
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.messages.clone_from(&self.system);
    }
}

impl Conversation<'_> {
    fn check_room(&self, prompt: &[u32]) -> Result<()> {
        let (found, positions) = (prompt.len(), self.positions);
        if positions <= found {
            bail!(
                "the message has {found} tokens, which leaves no room for an answer: the model has \
                 {positions} positions in all"
            );
        }
        Ok(())
    }

    /// The conversation as tokens; its oldest turns are forgotten where it grows too long. An answer
    /// has the room that it may take, or half of the model's positions where that is less.
    fn prompt(&mut self) -> Result<Vec<u32>> {
        let answer = self.sampling.max_new_tokens.min(self.positions / 2);
        loop {
            let talk = Talk { messages: &self.messages, columns: &Map::new() };
            let ids = encode_prompt(self.tokenizer, talk)?;
            if ids.len() + answer <= self.positions {
                return Ok(ids);
            }
            let first = self.messages.iter().position(|message| message.role != Role::System);
            let first = first.unwrap_or(0);
            if self.messages.len() <= first + 1 {
                self.check_room(&ids)?;
                return Ok(ids);
            }
            self.messages.remove(first);
            output::say("(the oldest turn no longer fits and is forgotten)");
        }
    }
}
