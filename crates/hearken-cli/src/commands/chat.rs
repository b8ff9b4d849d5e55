//! `hearken chat`.

use std::io::{BufRead as _, IsTerminal as _};
use std::ops::ControlFlow;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use hearken_data::{Message, Role, StopReason};
use hearken_generate::{Engine, EngineOptions, Event, Request, Sampling, completion_text};
use hearken_model::Tokenizer;
use hearken_model::chat::{STOP, encode_messages};
use hearken_model::tokenizer::{Bos, TextStream};
use hearken_tensor::Cpu;
use hearken_train::seeds::Seeds;

use super::model_arguments::ModelArguments;
use super::sampling_arguments::{SamplingArguments, from_one};
use crate::output;

/// Talk to a model
///
/// Every line is a message in the built-in chat format, and the completion appears as it is sampled.
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

    /// The most tokens of a completion
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = from_one)]
    max_new_tokens: usize,

    #[command(flatten)]
    sampling: SamplingArguments,
}

const EXAMPLES: &str = "\
Examples:
  hearken chat --model runs/rlhf/ppo/final --temperature 0.7
  echo 'Once upon a time' | hearken chat --model models/gpt2 --plain --max-new-tokens 40";

impl Chat {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let (model, tokenizer) = self.model.load()?;
        let dir = self.model.model.display();
        let tokenizer = tokenizer.with_context(|| format!("{dir}: has no tokenizer.json"))?;
        let mut sampling = self.sampling.sampling(self.max_new_tokens);
        if !self.plain {
            sampling.stop.push(STOP.to_owned());
        }
        let system = self.system.map(|text| Message::new(Role::System, text));
        // What was said before stays in the cache: of a message only what is new runs.
        let engine = Engine::new(&model, Some(&tokenizer), EngineOptions::default())?;
        let mut conversation = Conversation {
            engine,
            positions: model.config().max_positions,
            tokenizer: &tokenizer,
            sampling,
            is_plain: self.plain,
            seeds: Seeds::new(self.sampling.seed),
            replies: 0,
            messages: system.iter().cloned().collect(),
        };
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
                "/reset" => conversation.messages = system.iter().cloned().collect(),
                command if command.starts_with('/') && !command.contains(' ') => {
                    output::say(&format!("there is no {command}; there are /reset and /quit"));
                }
                _ => conversation.reply(&line)?,
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

struct Conversation<'a> {
    engine: Engine<'a, Cpu>,
    /// What the model has room for.
    positions: usize,
    tokenizer: &'a Tokenizer,
    sampling: Sampling,
    is_plain: bool,
    seeds: Seeds,
    replies: u64,
    messages: Vec<Message>,
}

impl Conversation<'_> {
    /// Samples and prints what follows a line.
    fn reply(&mut self, line: &str) -> Result<()> {
        let prompt_ids = if self.is_plain {
            self.tokenizer.encode(line, Bos::AsConfigured)?
        } else {
            self.messages.push(Message::new(Role::User, line));
            self.prompt()?
        };
        let seed = self.seeds.derive("chat", self.replies, 0);
        self.replies += 1;
        let mut printer = Printer::new(self.tokenizer, &self.sampling.stop, !self.is_plain);
        let mut printed = Ok(());
        let request = Request { prompt_ids, samples: 1, seed };
        self.engine.submit(request, &self.sampling)?;
        let ended = self.engine.finish(&mut |event| {
            printed = printer.take(&event);
            if printed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        // A reader that has gone away matters more than that sampling stopped for it.
        printed?;
        let ended = ended?;
        printer.finish()?;
        if let Some(ended) = ended.first().filter(|_| !self.is_plain) {
            let text = completion_text(self.tokenizer, &ended.completion, &self.sampling.stop);
            self.messages.push(Message::new(Role::Assistant, text.trim()));
        }
        Ok(())
    }

    /// The conversation as tokens; its oldest turns are forgotten where it grows too long.
    fn prompt(&mut self) -> Result<Vec<u32>> {
        let positions = self.positions;
        let room = positions.saturating_sub(self.sampling.max_new_tokens);
        loop {
            let ids = encode_messages(self.tokenizer, &self.messages, true)?.ids;
            if ids.len() <= room {
                return Ok(ids);
            }
            let first = self.messages.iter().position(|message| message.role != Role::System);
            let first = first.unwrap_or(0);
            if self.messages.len() <= first + 1 {
                let found = ids.len();
                bail!(
                    "the message has {found} tokens, expected at most {room}: the model's \
                     {positions} positions less --max-new-tokens"
                );
            }
            self.messages.remove(first);
            output::say("(the oldest turn no longer fits and is forgotten)");
        }
    }
}

/// Prints a completion as it is sampled, and nothing of what ends it.
struct Printer<'a> {
    stream: Option<TextStream<'a>>,
    stop: &'a [String],
    /// Text that may turn out to be the beginning of a stop sequence.
    held: String,
    /// The format's space before an answer is not part of it.
    is_start: bool,
}

impl<'a> Printer<'a> {
    fn new(tokenizer: &'a Tokenizer, stop: &'a [String], is_chat: bool) -> Self {
        Self { stream: Some(tokenizer.stream()), stop, held: String::new(), is_start: is_chat }
    }

    fn take(&mut self, event: &Event<'_>) -> std::io::Result<()> {
        let (Some(&id), Some(stream)) = (event.ids.last(), &mut self.stream) else { return Ok(()) };
        if event.stop_reason == Some(StopReason::EndOfText) {
            return Ok(());
        }
        if let Some(piece) = stream.push(id) {
            self.held.push_str(&piece);
        }
        if let Some(end) = self.stop.iter().filter_map(|stop| self.held.find(stop)).min() {
            self.held.truncate(end);
            self.stream = None;
            return Ok(());
        }
        let ready = self.held.len() - held_back(&self.held, self.stop);
        self.print(ready)
    }

    fn finish(mut self) -> std::io::Result<()> {
        if let Some(rest) = self.stream.take().and_then(TextStream::finish) {
            self.held.push_str(&rest);
        }
        self.print(self.held.len())?;
        output::print("\n")
    }

    /// Prints the first `len` bytes of what is held.
    fn print(&mut self, len: usize) -> std::io::Result<()> {
        let ready: String = self.held.drain(..len).collect();
        let shown = if self.is_start { ready.trim_start() } else { &ready };
        self.is_start &= shown.is_empty();
        output::print(shown)
    }
}

/// Bytes at the end of `text` that could be the beginning of a stop sequence.
pub(crate) fn held_back(text: &str, stop: &[String]) -> usize {
    let starts = text.char_indices().map(|(start, _)| start);
    let mut starts =
        starts.filter(|&start| stop.iter().any(|stop| stop.starts_with(&text[start..])));
    starts.next().map_or(0, |start| text.len() - start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_stop_sequence_is_held_back() {
        let stop = ["\n\nHuman:".to_owned(), "END".to_owned()];
        assert_eq!(held_back("Hello.", &stop), 0);
        assert_eq!(held_back("Hello.\n", &stop), 1);
        assert_eq!(held_back("Hello.\n\nHum", &stop), 5);
        assert_eq!(held_back("THE EN", &stop), 2);
        assert_eq!(held_back("", &stop), 0);
    }
}
